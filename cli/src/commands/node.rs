//! `evernear node ls | drain | invite | invitations`.

mod drain;
mod invite;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use format::{
    NodeName,
    wire::{NodeEntry, Role},
};

pub(crate) use self::drain::DrainError;
use super::Options;
use crate::{
    moment,
    output::{bytes, table},
    owner_access::{ClusterAccess, connect_operator},
};

/// See the nodes of a cluster, empty one, or invite another machine.
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
    /// Print what another machine types to join a network of `evernear up`
    #[command(after_help = "\
Examples:
  evernear node invite --role edge
  evernear node invite attic --role edge --expires +1d
  evernear node invite --role origin

Run it on the machine of `evernear up --nodes IP`. One machine joins by it, once. Nothing but a hash of it is kept. An origin needs a catalog that
it reaches, PostgreSQL; an edge needs none.")]
    Invite {
        /// The node's name: a-z, 0-9 and inner hyphens, at most 32 [default: its role and a number]
        name: Option<NodeName>,
        /// What it is to be
        #[arg(long)]
        role: NewRole,
        /// It ends at: +1h, +2d, 2027-01-31T12:00:00Z; a week from now at most
        #[arg(long, value_name = "TIME", value_parser = moment::to_come("name a time to come"), default_value = "+1h")]
        expires: u64,
    },
    /// List invitations and who joined by them, or take one back
    #[command(after_help = "\
Examples:
  evernear node invitations
  evernear node invitations --revoke attic

A node that has joined stays: `evernear cluster revoke` refuses its certificate, with ~/.evernear/network/keys as the folder of the authority.")]
    Invitations {
        /// Take back the invitation for this node
        #[arg(long, value_name = "NAME")]
        revoke: Option<NodeName>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NewRole {
    /// Stores shards
    Origin,
    /// Answers viewers
    Edge,
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
            NodeCommand::Invite { name, role, expires } => {
                let role = match role {
                    NewRole::Origin => Role::Origin,
                    NewRole::Edge => Role::Edge,
                };
                invite::invite(name.as_ref(), role, expires, options)
            }
            NodeCommand::Invitations { revoke: None } => invite::list(options),
            NodeCommand::Invitations { revoke: Some(name) } => invite::revoke(&name, options),
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
