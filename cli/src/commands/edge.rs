//! `evernear edge run`.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::{Args, Subcommand};
use client::{HttpTransport, Topology, tls::Identity};
use edge::{Config, Parts};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::signals;
use crate::policy_check;

/// Run an edge node.
#[derive(Debug, Args)]
pub(crate) struct Edge {
    #[command(subcommand)]
    command: EdgeCommand,
}

#[derive(Debug, Subcommand)]
enum EdgeCommand {
    /// Run until Ctrl-C or SIGTERM
    #[command(after_help = "edge/edge.sample.toml shows every key. EVERNEAR_LOG=debug says more.")]
    Run {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

impl Edge {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let EdgeCommand::Run { config: path } = self.command;
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the configuration {} cannot be read", path.display()))?;
        let config = Config::from_toml(&text).with_context(|| format!("the configuration {}", path.display()))?;
        let identity = identity(&config).with_context(|| format!("the identity in {}", path.display()))?;
        let topology = Arc::new(Topology::new(config.seed_nodes()));
        let transport = Arc::new(HttpTransport::new(&identity, topology.clone())?);
        let parts = Parts { transport, topology, engine: None, compiler: Some(policy_check::compiler()?) };
        let (stop, shutdown) = watch::channel(false);
        let running = edge::Edge::start(config, parts, shutdown).await?;
        let mut ended = tokio::spawn(running.join());
        tokio::select! {
            joined = &mut ended => {
                joined?;
                anyhow::bail!("the edge ended by itself")
            }
            signalled = signals::stop() => signalled?,
        }
        stop.send_replace(true);
        Ok(ended.await?)
    }
}

fn identity(config: &Config) -> anyhow::Result<Identity> {
    let files = config
        .tls
        .as_ref()
        .context("there is no [tls] with the files of `evernear cluster issue DIR NAME --role edge`")?;
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        text.with_context(|| format!("{} cannot be read", path.display()))
    };
    Ok(Identity::from_pem(&read(&files.authority)?, &read(&files.certificate)?, &read(&files.key)?)?)
}
