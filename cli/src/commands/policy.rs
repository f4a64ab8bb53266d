//! `evernear policy check | publish`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use format::PolicyName;
use serde::Serialize;
use tokio::task::spawn_blocking;
use twin::PolicySource;

use super::Options;
use crate::{
    output::count,
    owner_access::{ClusterAccess, KeyAccess, open_twin},
    policy_check::{self, CheckedLink},
};

const FILE_HELP: &str = "\
A policy file is a list of links, asked in order; the first that does not allow decides:
  [[link]]
  use = \"geo\"                    ready-made: geo, ttl, pages, places, signed, nft-immutable
  receive-deny = [\"KP\"]          everything else is its configuration
  [[link]]
  component = \"mine.wasm\"        your own, beside this file";

/// Check and publish policies.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Check a policy as an edge will, without publishing it
    #[command(after_help = format!("Examples:\n  evernear policy check places.toml\n\n{FILE_HELP}"))]
    Check {
        /// The policy file
        file: PathBuf,
    },
    /// Check a policy, sign it and send it to the cluster as the next version of a name
    #[command(after_help = format!("Examples:\n  evernear policy publish europe-only places.toml\n\n{FILE_HELP}"))]
    Publish {
        /// The policy's name, as given to `put --policy`
        name: PolicyName,
        /// The policy file
        file: PathBuf,
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
}

#[derive(Serialize)]
struct Checked {
    links: Vec<CheckedLink>,
}

#[derive(Serialize)]
struct Published {
    name: String,
    owner: String,
    sequence: u64,
    nodes: usize,
    links: Vec<CheckedLink>,
}

impl Policy {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            PolicyCommand::Check { file } => {
                let (_, links) = read(file).await?;
                let checked = Checked { links };
                options.answer(&checked, || policy_check::text(&checked.links))
            }
            PolicyCommand::Publish { name, file, keys, cluster } => {
                let (source, links) = read(file).await?;
                let (_, twin) = open_twin(&options.state()?, &keys, &cluster).await?;
                let published = twin.publish(&name, &source).await?;
                let owner = published.manifest.owner.to_string();
                let sequence = published.manifest.sequence;
                let answer = Published { name: name.to_string(), owner, sequence, nodes: published.nodes, links };
                let text = || {
                    let (nodes, links) = (count(answer.nodes, "node"), policy_check::text(&answer.links));
                    format!("{name} version {sequence} on {nodes}\n{links}")
                };
                options.answer(&answer, text)
            }
        }
    }
}

async fn read(file: PathBuf) -> anyhow::Result<(PolicySource, Vec<CheckedLink>)> {
    let judge = move || {
        let source = PolicySource::read(&file).with_context(|| format!("{} is refused", file.display()))?;
        let links = policy_check::check(&source)?;
        Ok((source, links))
    };
    spawn_blocking(judge).await.context("the check was cut short")?
}
