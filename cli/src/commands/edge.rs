//! `evernear edge run | check-config | deny | link-key`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use client::{HttpTransport, IdentityError, Membership, Topology, tls::Identity};
use edge::{Checked, Config, Parts};
use format::{Label, Locator, OwnerId};
use http::Uri;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    Options,
    signals::{Signal, Signals},
};
use crate::{
    handover::{self, Handed},
    new_file,
    output::table,
    policy_check,
};

/// Run an edge node, check its configuration, keep objects from being served, make an owner's link key.
#[derive(Debug, Args)]
pub(crate) struct Edge {
    #[command(subcommand)]
    command: EdgeCommand,
}

#[derive(Debug, Subcommand)]
enum EdgeCommand {
    /// Run until Ctrl-C or SIGTERM
    #[command(after_help = "\
Examples:
  evernear edge run --config edge.toml

edge/edge.sample.toml shows every key. EVERNEAR_LOG=debug says more.

On SIGHUP it starts its program again with the configuration as it is then, hands over its ports, and ends once the successor answers: no
request is lost. When the successor does not start, it goes on as it is.")]
    Run {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check whether `run` would accept a configuration, without starting
    #[command(after_help = "\
Examples:
  evernear edge check-config --config edge.toml && systemctl restart evernear-edge

It reads all that the configuration names: certificates, keys, the place database. It ends with 0 only when all of it is good. An address
that is in use is told of and is no fault: the edge that runs has it.")]
    CheckConfig {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the rule that keeps an object from being served, for a denylist
    #[command(after_help = "\
Examples:
  evernear edge deny https://LABEL.cdn.example/ >> bad.deny

The rule is a hash: whoever reads the list learns neither the address nor the content. Edges whose configuration names the list take it up within
ten seconds. Of a directory, all that is reached through it goes as well.")]
    Deny {
        /// URLs of objects, as viewers use them
        #[arg(required = true)]
        url: Vec<Uri>,
    },
    /// Derive the key that an owner signs links with
    #[command(after_help = "\
Examples:
  evernear edge link-key --secret zone.secret OWNER -o link.key

OWNER is what `evernear owner show` prints. The same secret and owner always make the same key, so it need not be kept. Who has it can open
that owner's objects to anybody, as far as the owner's policy goes by signed links.")]
    LinkKey {
        /// The owner
        owner: OwnerId,
        /// The file of `links.secret` in the edges' configuration
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// The file to make
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// A rule of a denylist.
#[derive(Serialize)]
struct Rule {
    locator: Locator,
    rule: String,
}

impl Rule {
    fn of(url: &Uri) -> anyhow::Result<Self> {
        let label = url.host().and_then(|host| host.split('.').next()).unwrap_or("");
        let label: Label = label.parse().with_context(|| format!("{url} is no address of an object"))?;
        let locator = label.capability().locator();
        Ok(Self { rule: edge::denylist_rule(&locator), locator })
    }
}

/// The key of an owner's signed links.
#[derive(Serialize)]
struct Key {
    owner: OwnerId,
    path: PathBuf,
}

/// What a valid configuration would open.
#[derive(Debug, Serialize)]
struct Good<'a> {
    name: &'a str,
    zone: &'a str,
    dns: Option<SocketAddr>,
    http: SocketAddr,
    https: Option<SocketAddr>,
    http3: bool,
    admin: Option<SocketAddr>,
    origins: usize,
    /// Addresses in use by another process now, which is the edge itself if it runs.
    in_use: Vec<SocketAddr>,
    /// What is not well, and keeps no edge from starting.
    warnings: Vec<String>,
}

impl Edge {
    pub(crate) fn is_node(&self) -> bool {
        matches!(self.command, EdgeCommand::Run { .. })
    }

    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            EdgeCommand::Run { config } => run(&config, HangUp::Succeed, |_| Ok(())).await,
            EdgeCommand::CheckConfig { config } => check(&config, options),
            EdgeCommand::Deny { url } => {
                let rules: Vec<Rule> = url.iter().map(Rule::of).collect::<anyhow::Result<_>>()?;
                options.answer(&rules, || rules.iter().map(|rule| format!("{}\n", rule.rule)).collect())
            }
            EdgeCommand::LinkKey { owner, secret, output } => {
                let key = edge::link_key(&secret, &owner)
                    .with_context(|| format!("the zone's secret {} cannot be used", secret.display()))?;
                new_file::private(&output, &format!("{}\n", *key.to_hex()))?;
                let key = Key { owner, path: output };
                options.answer(&key, || format!("{} signs links to objects of {}\n", key.path.display(), key.owner))
            }
        }
    }
}

/// What SIGHUP means.
pub(super) enum HangUp {
    /// A successor takes over.
    Succeed,
    /// The terminal is gone.
    Stop,
}

/// Runs an edge until it is told to stop. `answers` hears where it answers HTTP, once it does.
pub(super) async fn run(
    path: &Path,
    hang_up: HangUp,
    answers: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut handed = Handed::take();
    let (config, identity, _) = read(path)?;
    if let Err(error) = edge::Edge::check_names(&config) {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "browsers will not take the certificate for viewers");
    }
    let topology = Arc::new(Topology::new(config.seed_nodes()));
    let list = config.state_dir.as_ref().map(|folder| folder.join("refused.crl"));
    let membership = Membership::new(&identity, list.as_deref()).map_err(IdentityError::from)?;
    let transport = Arc::new(HttpTransport::of(membership.clone(), topology.clone()));
    let sockets = std::mem::take(&mut handed.sockets);
    let compiler = Some(policy_check::compiler()?);
    let parts = Parts { transport, membership: Some(membership), topology, engine: None, compiler, sockets };
    let (stop, shutdown) = watch::channel(false);
    let mut running = edge::Edge::start(config, parts, shutdown).await?;
    let (sockets, http) = (std::mem::take(&mut running.sockets), running.http);
    let mut ended = tokio::spawn(running.join());
    handed.ready()?;
    drop(handed);
    answers(http)?;
    loop {
        tokio::select! {
            joined = &mut ended => {
                joined?;
                anyhow::bail!("the edge ended by itself")
            }
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload if matches!(hang_up, HangUp::Stop) => break,
                Signal::Reload => match handover::succeed(&sockets).await {
                    Ok(successor) => {
                        tracing::info!(successor, "a successor answers");
                        break;
                    }
                    Err(error) => {
                        let error: &dyn std::error::Error = error.as_ref();
                        tracing::error!(error, "there is no successor; this edge goes on as it is");
                    }
                },
            },
        }
    }
    // These copies would keep the listen queues open, and nobody would accept the connections in them.
    drop(sockets);
    stop.send_replace(true);
    Ok(ended.await?)
}

fn check(path: &Path, options: &Options) -> anyhow::Result<()> {
    let (config, _, in_use) = read(path)?;
    let names = edge::Edge::check_names(&config).err().map(anyhow::Error::from);
    let https = config.https.as_ref();
    let good = Good {
        name: config.name.as_str(),
        zone: config.zone.as_str(),
        dns: config.dns.listen,
        http: config.http.listen,
        https: https.map(|https| https.listen),
        http3: https.is_some_and(|https| https.http3),
        admin: config.admin,
        origins: config.seeds.len(),
        in_use,
        warnings: names.iter().map(|error| format!("{error:#}")).collect(),
    };
    options.answer(&good, || {
        let door = |name: &str, address: Option<SocketAddr>| {
            let in_use = address.is_some_and(|address| good.in_use.contains(&address));
            let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            vec![name.to_owned(), address, if in_use { "in use now" } else { "" }.to_owned()]
        };
        let doors = [
            door("dns", good.dns),
            door("http", Some(good.http)),
            door("https", good.https),
            door("http3", good.https.filter(|_| good.http3)),
            door("admin", good.admin),
        ];
        let warnings: String = good.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
        format!("{} is good: edge {} of {}\n{}{warnings}", path.display(), good.name, good.zone, table(&doors))
    })
}

/// Reads a configuration, checks all of it, and returns it with its identity and the addresses that are in use. Both
/// `run` and `check-config` begin with this.
fn read(path: &Path) -> anyhow::Result<(Config, Identity, Vec<SocketAddr>)> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration {} cannot be read", path.display()))?;
    let named = || format!("the configuration {} cannot be used", path.display());
    let config = Config::from_toml(&text).with_context(named)?;
    let Checked { identity, in_use } = edge::Edge::check(&config).with_context(named)?;
    let identity = identity
        .context("there is no [tls] with the files of `evernear cluster issue DIR NAME --role edge`")
        .with_context(named)?;
    Ok((config, identity, in_use))
}
