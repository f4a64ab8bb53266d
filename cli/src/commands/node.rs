//! `evernear node ls | drain`.

mod drain;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use format::wire::{NodeEntry, Role};

pub(crate) use self::drain::DrainError;
use super::Options;
use crate::{
    moment,
    output::{bytes, table},
    owner_access::{ClusterAccess, connect_operator},
};

/// See the nodes of a cluster, or empty one.
#[derive(Debug, Args)]
pub(crate) struct Node {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// List all nodes: where they are, how full, when they were last heard of
    #[command(after_help = "\
Examples:
  evernear node ls
  evernear node ls --json | jq .")]
    Ls {
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Empty an origin: it takes no new shards, and those it has move to others
    #[command(after_help = "\
Examples:
  evernear node drain --config origin.toml --wait      returns when the node may be switched off
  evernear node drain --config origin.toml --wait --timeout 3600
  evernear node drain --config origin.toml --undo

It says what can go to other origins and what cannot, and why. With --wait it shows what is left on standard error, and
fails as soon as nothing of that can go: nodes, places or caps must change then before the node may be switched off.

Run it where the node runs: it speaks with the node's own certificate. The node must be up; one that is gone for good
needs no drain, its shards are made again from others.")]
    Drain {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Undo a drain: the node takes shards again
        #[arg(long, conflicts_with = "wait")]
        undo: bool,
        /// Wait until it holds nothing; fail if what is left cannot move
        #[arg(long)]
        wait: bool,
        /// Fail if it is not empty after this many seconds; the drain continues
        #[arg(long, value_name = "SECONDS", requires = "wait")]
        timeout: Option<u64>,
    },
}

impl Node {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            NodeCommand::Ls { cluster } => {
                let nodes = connect_operator(&options.state()?, &cluster).await?.topology().snapshot();
                options.answer(&*nodes, || list(&nodes))
            }
            NodeCommand::Drain { config, undo, wait, timeout } => {
                let order = match (undo, wait) {
                    (true, _) => drain::Order::Undo,
                    (false, true) => drain::Order::EmptyAndWait(timeout.map(Duration::from_secs)),
                    (false, false) => drain::Order::Empty,
                };
                let drained = drain::run(&config, order, options).await?;
                options.answer(&drained, || drained.text())
            }
        }
    }
}

fn list(nodes: &[NodeEntry]) -> String {
    let heading = ["node", "role", "zone", "region", "country", "used", "free", "state", "heard of"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in nodes {
        let used = bytes(node.capacity_bytes.saturating_sub(node.free_bytes));
        let origin = node.role == Role::Origin;
        rows.push(vec![
            node.name.to_string(),
            node.role.as_str().to_owned(),
            node.place.zone.clone(),
            node.place.region.clone(),
            node.place.country.to_string(),
            if origin { used } else { "-".to_owned() },
            if origin { bytes(node.free_bytes) } else { "-".to_owned() },
            if node.draining { "draining" } else { "active" }.to_owned(),
            moment::show(node.seen),
        ]);
    }
    table(&rows)
}
