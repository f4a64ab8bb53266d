//! `evernear origin run`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use super::signals::Signals;

/// Run an origin node.
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
}

impl Origin {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let OriginCommand::Run { config: path } = self.command;
        let mut signals = Signals::new()?;
        let config = origin::Config::read(&path).with_context(|| format!("the configuration {}", path.display()))?;
        let identity = config.identity().with_context(|| format!("the identity in {}", path.display()))?;
        let shutdown = CancellationToken::new();
        let running = origin::Origin::start(config, identity, shutdown.clone()).await?;
        let mut stopped = tokio::spawn(running.stopped());
        tokio::select! {
            ended = &mut stopped => return ended?.context("the origin ended by itself"),
            // A new configuration counts from the next start, whichever signal asks for it.
            _ = signals.next() => {}
        }
        shutdown.cancel();
        stopped.await?.context("the origin did not stop in order")
    }
}
