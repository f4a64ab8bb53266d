//! `evernear cluster init | issue | renew | revoke | show`.

mod folder;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use client::{Serial, TransportError};
use format::{Moment, NodeName, wire::Role};
use serde::Serialize;

use self::folder::{Certificate, Files, Folder, now};
use super::Options;
use crate::{
    fault::Usage,
    output::{count, table},
    owner_access::{ClusterAccess, connect_operator},
};

const DAY_SECONDS: u64 = 24 * 3600;
/// How often a list is signed anew because another came first.
const TRIES: usize = 3;

/// Make a cluster's authority and its nodes' certificates, and take certificates back.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Make a new authority: authority.pem and authority.key
    #[command(after_help = "\
Examples:
  evernear cluster init keys

authority.key stays off the nodes: whoever has it joins the cluster under any name.")]
    Init {
        /// Folder for its files; created if it is absent
        dir: PathBuf,
    },
    /// Issue a node's certificate: NAME.pem and NAME.key
    #[command(after_help = "\
Examples:
  evernear cluster issue keys o1 --role origin
  evernear cluster issue keys e1 --role edge
  evernear cluster issue keys me --role twin

A node needs authority.pem and its own NAME.pem and NAME.key. Certificates are ML-DSA-65 and last two years.")]
    Issue {
        /// Folder of the authority
        dir: PathBuf,
        /// The node's name: a-z, 0-9 and inner hyphens, at most 32
        name: NodeName,
        /// What the node is
        #[arg(long)]
        role: RoleName,
    },
    /// Issue a new certificate and key in place of a node's, for two more years
    #[command(after_help = "\
Examples:
  evernear cluster renew keys o1

Copy NAME.pem and NAME.key over the files of the node's [tls]: it takes them up within ten seconds, without a restart. The certificate before
goes on until it ends. When its key was stolen, use `evernear cluster revoke`.")]
    Renew {
        /// Folder of the authority
        dir: PathBuf,
        /// The node's name
        name: NodeName,
    },
    /// Have the whole cluster refuse a node's certificates, for example when its key was stolen
    #[command(after_help = "\
Examples:
  evernear cluster revoke keys o3

Then `evernear cluster issue keys o3 --role origin` makes a new certificate for the same node, if it is yours again.

It signs a list of all that is refused, DIR/refused.crl, and brings it to every origin. Within two seconds all nodes refuse these certificates
and cut their open connections; they remember it over a restart. `evernear cluster revoke keys` without a name brings the list to origins that were
not reached. A certificate that was issued after an earlier one of the name was refused is refused with --reissued alone.")]
    Revoke {
        /// Folder of the authority
        dir: PathBuf,
        /// The nodes' names; none: only bring the list to the origins again
        names: Vec<NodeName>,
        /// Refuse certificates too that were issued after earlier ones of the name were refused
        #[arg(long)]
        reissued: bool,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// List the certificates that were issued: when they end, and which are refused
    #[command(after_help = "\
Examples:
  evernear cluster show keys")]
    Show {
        /// Folder of the authority
        dir: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Stores shards
    Origin,
    /// Answers viewers
    Edge,
    /// Acts for an owner
    Twin,
}

#[derive(Serialize)]
struct Made {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Serialize)]
struct Revoked {
    /// The number of the list.
    list: u64,
    /// How many certificates it refuses in all.
    refused: usize,
    /// Certificates that this command named.
    serials: Vec<String>,
    /// Origins that took the list.
    told: Vec<NodeName>,
    /// Origins that did not, and why.
    missed: Vec<(NodeName, String)>,
}

#[derive(Serialize)]
struct Shown {
    name: NodeName,
    role: &'static str,
    serial: String,
    /// Seconds since 1970.
    ends: u64,
    days_left: u64,
    /// `good`, `replaced`, `ended` or `refused`.
    state: &'static str,
}

impl Cluster {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            ClusterCommand::Init { dir } => made(options, Folder::create(&dir)?),
            ClusterCommand::Issue { dir, name, role } => {
                let role = match role {
                    RoleName::Origin => Role::Origin,
                    RoleName::Edge => Role::Edge,
                    RoleName::Twin => Role::Twin,
                };
                made(options, Folder::open(&dir)?.issue(&name, role)?)
            }
            ClusterCommand::Renew { dir, name } => made(options, Folder::open(&dir)?.renew(&name)?),
            ClusterCommand::Revoke { dir, names, reissued, cluster } => {
                revoke(options, &dir, &names, reissued, &cluster).await
            }
            ClusterCommand::Show { dir } => show(options, &dir),
        }
    }
}

fn made(options: &Options, Files { certificate, key }: Files) -> anyhow::Result<()> {
    let files = Made { certificate, key };
    options.answer(&files, || {
        format!("certificate  {}\nkey          {}\n", files.certificate.display(), files.key.display())
    })
}

async fn revoke(
    options: &Options,
    dir: &Path,
    names: &[NodeName],
    reissued: bool,
    access: &ClusterAccess,
) -> anyhow::Result<()> {
    let folder = Folder::open(dir)?;
    let certificates = folder.certificates()?;
    let of = |name: &NodeName| {
        let own = certificates.iter().filter(|it| it.leaf.name == *name);
        own.map(|it| it.leaf.serial.clone()).collect::<Vec<Serial>>()
    };
    if let Some(unknown) = names.iter().find(|name| of(name).is_empty()) {
        bail!("{} has no certificate of {unknown}; `evernear cluster show` lists them", dir.display());
    }
    let refused = folder.refused()?;
    let is_reissued = |name: &&NodeName| {
        let (before, good): (Vec<_>, Vec<_>) = of(name).into_iter().partition(|serial| refused.contains(serial));
        !before.is_empty() && !good.is_empty()
    };
    // Whoever gives the same command again means the stolen certificate, not the one that came for it.
    if let Some(name) = names.iter().find(is_reissued).filter(|_| !reissued) {
        let what = format!(
            "{name} got a new certificate after its last one was refused: --reissued refuses that one too; without a name \
             `evernear cluster revoke {}` brings the list to the origins again",
            dir.display()
        );
        return Err(Usage(what).into());
    }
    let serials: Vec<Serial> = names.iter().flat_map(of).collect();
    // First here, so that a cluster that cannot be reached now is told of it by the same command later.
    let mut list = folder.refuse(refused, &serials)?;
    names.iter().try_for_each(|name| folder.retire(name))?;
    let operator = connect_operator(&options.state()?, access).await.with_context(|| {
        format!("the list is signed ({}) and no node has it yet; run the same again", dir.join("refused.crl").display())
    })?;
    // Another copy of this folder may have signed a list meanwhile, and another of the same number right now.
    let mut answers = Vec::new();
    for _ in 0..TRIES {
        let held = operator.refused().await.into_iter().filter_map(|der| folder.authority.open_refused(der).ok());
        list = folder.settle(held.chain([list]).collect())?;
        answers = operator.refuse(list.der()).await?;
        if !answers.iter().any(|(_, answer)| matches!(answer, Err(TransportError::Refused { status: 409, .. }))) {
            break;
        }
    }
    let (told, missed): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.is_ok());
    let revoked = Revoked {
        list: list.number(),
        refused: list.serials().count(),
        serials: serials.iter().map(Serial::to_string).collect(),
        told: told.into_iter().map(|(name, _)| name).collect(),
        missed: missed.into_iter().filter_map(|(name, answer)| Some((name, answer.err()?.to_string()))).collect(),
    };
    if revoked.told.is_empty() {
        bail!("no origin took list {}: {:?}; run the same again when they answer", revoked.list, revoked.missed);
    }
    options.answer(&revoked, || {
        let all = revoked.told.len() + revoked.missed.len();
        let refused = count(revoked.serials.len() as u64, "certificate");
        let missed =
            revoked.missed.iter().map(|(name, why)| format!("not reached, other nodes tell it: {name} ({why})\n"));
        format!("refused {refused}; {} of {all} origins have list {}\n", revoked.told.len(), revoked.list)
            + &missed.collect::<String>()
    })
}

fn show(options: &Options, dir: &Path) -> anyhow::Result<()> {
    let folder = Folder::open(dir)?;
    let (list, now) = (folder.refused()?, now());
    let shown = |it: Certificate| Shown {
        state: match () {
            () if list.contains(&it.leaf.serial) => "refused",
            () if it.leaf.ends < now => "ended",
            () if !it.is_current => "replaced",
            () => "good",
        },
        days_left: it.leaf.ends.saturating_sub(now) / DAY_SECONDS,
        ends: it.leaf.ends,
        serial: it.leaf.serial.to_string(),
        role: it.leaf.role.as_str(),
        name: it.leaf.name,
    };
    let all: Vec<Shown> = folder.certificates()?.into_iter().map(shown).collect();
    options.answer(&all, || {
        let heading = ["NAME", "ROLE", "STATE", "ENDS", "DAYS LEFT", "SERIAL"].map(str::to_owned).to_vec();
        let row = |it: &Shown| {
            let ends = Moment(it.ends).to_string();
            vec![
                it.name.to_string(),
                it.role.to_owned(),
                it.state.to_owned(),
                ends,
                it.days_left.to_string(),
                it.serial.clone(),
            ]
        };
        table(&std::iter::once(heading).chain(all.iter().map(row)).collect::<Vec<_>>())
    })
}
