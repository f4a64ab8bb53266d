//! `evernear origin run | check-config`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use origin::{Checked, Config};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Options, signals::Signals};

/// Run an origin node, check its configuration.
#[derive(Debug, Args)]
pub(crate) struct Origin {
    #[command(subcommand)]
    command: OriginCommand,
}

#[derive(Debug, Subcommand)]
enum OriginCommand {
    /// Run until Ctrl-C or SIGTERM
    #[command(after_help = "\
Examples:
  evernear origin run --config origin.toml

origin/origin.sample.toml shows every key. EVERNEAR_LOG=debug says more.")]
    Run {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check whether `run` would accept a configuration, without starting
    #[command(after_help = "\
Examples:
  evernear origin check-config --config origin.toml && systemctl restart evernear-origin

It reads all that the configuration names: certificates, keys, folders. It asks no other machine, neither the catalog's server nor an object
store. An address that is in use is told of and is no fault: the origin that runs has it.")]
    CheckConfig {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// A configuration that `run` accepts.
#[derive(Debug, Serialize)]
struct Good<'a> {
    name: &'a str,
    listen: SocketAddr,
    data_dir: &'a Path,
    /// Whether another process listens at the address now, which is the origin itself if it runs.
    in_use: bool,
}

impl Origin {
    pub(crate) fn is_node(&self) -> bool {
        matches!(self.command, OriginCommand::Run { .. })
    }

    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            OriginCommand::Run { config } => run(&config, |_| Ok(())).await,
            OriginCommand::CheckConfig { config } => check(&config, options),
        }
    }
}

/// Runs an origin until it is told to stop. `answers` hears where it answers other nodes, once it does.
pub(super) async fn run(path: &Path, answers: impl FnOnce(SocketAddr) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (config, checked) = read(path)?;
    let shutdown = CancellationToken::new();
    let running = origin::Origin::start(config, checked.identity, shutdown.clone()).await?;
    let address = running.local_addr;
    let mut stopped = tokio::spawn(running.stopped());
    answers(address)?;
    tokio::select! {
        ended = &mut stopped => return ended?.context("the origin ended by itself"),
        // Every signal ends the node, SIGHUP too: a new configuration takes effect at the next start.
        _ = signals.next() => {}
    }
    shutdown.cancel();
    stopped.await?.context("the origin did not stop in order")
}

fn check(path: &Path, options: &Options) -> anyhow::Result<()> {
    let (config, Checked { in_use, .. }) = read(path)?;
    let good = Good { name: config.name.as_str(), listen: config.listen, data_dir: &config.data_dir, in_use };
    options.answer(&good, || {
        let in_use = if in_use { ", which is in use now" } else { "" };
        format!("{} is good: origin {} on {}{in_use}\n", path.display(), good.name, good.listen)
    })
}

/// Reads a configuration and checks all of it. Both `run` and `check-config` begin with this.
fn read(path: &Path) -> anyhow::Result<(Config, Checked)> {
    let named = || format!("the configuration {} cannot be used", path.display());
    let config = Config::read(path).with_context(named)?;
    let checked = origin::Origin::check(&config).with_context(named)?;
    Ok((config, checked))
}
