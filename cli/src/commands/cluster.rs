//! `evernear cluster init | issue`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use client::tls::Authority;
use format::{NodeName, wire::Role};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Options;
use crate::new_file;

const AUTHORITY_CERTIFICATE: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority.key";

/// Make a cluster's authority and its nodes' certificates.
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
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Cluster {
    pub(crate) fn run(self, options: &Options) -> anyhow::Result<()> {
        let files = match self.command {
            ClusterCommand::Init { dir } => init(&dir)?,
            ClusterCommand::Issue { dir, name, role } => issue(&dir, &name, role)?,
        };
        options.answer(&files, || {
            format!("certificate  {}\nkey          {}\n", files.certificate.display(), files.key.display())
        })
    }
}

fn init(dir: &Path) -> anyhow::Result<Files> {
    std::fs::create_dir_all(dir).with_context(|| format!("the folder {} cannot be made", dir.display()))?;
    let authority = Authority::create()?;
    write(dir.join(AUTHORITY_CERTIFICATE), authority.certificate_pem(), dir.join(AUTHORITY_KEY), &authority.key_pem())
}

fn issue(dir: &Path, name: &NodeName, role: RoleName) -> anyhow::Result<Files> {
    let read = |file: &str| {
        let path = dir.join(file);
        let text = std::fs::read_to_string(&path).map(Zeroizing::new);
        text.with_context(|| {
            format!("{} cannot be read; `evernear cluster init {}` makes it", path.display(), dir.display())
        })
    };
    let authority = Authority::from_pem(&read(AUTHORITY_CERTIFICATE)?, &read(AUTHORITY_KEY)?)
        .with_context(|| format!("the authority in {} cannot be used", dir.display()))?;
    let role = match role {
        RoleName::Origin => Role::Origin,
        RoleName::Edge => Role::Edge,
        RoleName::Twin => Role::Twin,
    };
    let issued = authority.issue(name, role)?;
    write(dir.join(format!("{name}.pem")), &issued.certificate, dir.join(format!("{name}.key")), &issued.key)
}

/// Writes the key first. If the second write fails, a key without a certificate is useless, but a certificate without
/// its key would look finished.
fn write(certificate: PathBuf, certificate_pem: &str, key: PathBuf, key_pem: &str) -> anyhow::Result<Files> {
    new_file::private(&key, key_pem)?;
    new_file::public(&certificate, certificate_pem)?;
    Ok(Files { certificate, key })
}
