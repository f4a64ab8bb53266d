//! `evernear node ls | drain`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use client::{HttpTransport, Topology, Transport};
use format::{
    NodeName,
    wire::{NodeEntry, Role},
};
use serde::Serialize;

use super::Options;
use crate::{
    moment,
    output::{bytes, table},
    owner_access::{ClusterAccess, connect_operator},
};

/// Between looks at a node that is being emptied.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
  evernear node drain --config origin.toml --undo

Run it where the node runs: it speaks with the node's own certificate. The node must be up; one that is gone for good
needs no drain, its shards are made again from others.")]
    Drain {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Fill it again instead
        #[arg(long, conflicts_with = "wait")]
        undo: bool,
        /// Wait until it holds nothing any more
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Serialize)]
struct Drained {
    node: NodeName,
    draining: bool,
    /// Bytes of shards still there; none when it was not waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_bytes: Option<u64>,
}

impl Node {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            NodeCommand::Ls { cluster } => {
                let nodes = connect_operator(&options.state()?, &cluster).await?.topology().snapshot();
                options.answer(&*nodes, || list(&nodes))
            }
            NodeCommand::Drain { config, undo, wait } => {
                let drained = drain(&config, !undo, wait).await?;
                options.answer(&drained, || text(&drained))
            }
        }
    }
}

fn list(nodes: &[NodeEntry]) -> String {
    let heading = ["node", "role", "zone", "region", "country", "used", "free", "state", "heard of"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in nodes {
        let role = match node.role {
            Role::Origin => "origin",
            Role::Edge => "edge",
            Role::Twin => "twin",
        };
        let used = bytes(node.capacity_bytes.saturating_sub(node.free_bytes));
        let origin = node.role == Role::Origin;
        rows.push(vec![
            node.name.to_string(),
            role.to_owned(),
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

async fn drain(path: &Path, draining: bool, wait: bool) -> anyhow::Result<Drained> {
    let config = origin::Config::read(path).with_context(|| format!("the configuration {}", path.display()))?;
    let identity = config.identity().with_context(|| format!("the identity in {}", path.display()))?;
    let (node, address) = (config.name.clone(), config.advertise.unwrap_or(config.listen));
    if address.port() == 0 {
        bail!("{} listens on a port the system chose; give it a fixed one to reach it", node);
    }
    let entry = NodeEntry {
        name: node.clone(),
        role: Role::Origin,
        address: Some(address),
        public: Vec::new(),
        place: config.place.clone(),
        capacity_bytes: 0,
        free_bytes: 0,
        load: 0,
        draining: false,
        seen: 0,
    };
    let transport = HttpTransport::new(&identity, Arc::new(Topology::new(vec![entry])))?;
    transport.drain(&node, draining).await.with_context(|| format!("{node} cannot be told; is it up?"))?;
    let mut left_bytes = None;
    while wait && left_bytes != Some(0) {
        tokio::time::sleep(LOOK_EVERY).await;
        let nodes = transport.nodes(&node).await?;
        let own = nodes.iter().find(|entry| entry.name == node).context("the node does not list itself")?;
        let left = own.capacity_bytes.saturating_sub(own.free_bytes);
        if left_bytes != Some(left) {
            tracing::info!(%node, left = bytes(left), "emptying");
        }
        left_bytes = Some(left);
    }
    Ok(Drained { node, draining, left_bytes })
}

fn text(drained: &Drained) -> String {
    let Drained { node, draining, left_bytes } = drained;
    match (draining, left_bytes) {
        (false, _) => format!("{node} takes shards again\n"),
        (true, Some(0)) => format!("{node} is empty and may be switched off\n"),
        (true, _) => format!("{node} is being emptied; `evernear node ls` shows what is left\n"),
    }
}
