//! `evernear policy check | publish | renew`.

use std::path::PathBuf;

use anyhow::{Context, Error};
use api::CheckedLink;
use clap::{Args, Subcommand};
use format::{Moment, PolicyName};
use serde::Serialize;
use tokio::task::spawn_blocking;
use twin::{POLICY_SECONDS, PolicySource};

use super::Options;
use crate::{
    failures::{Failed, Failures},
    moment,
    output::count,
    owner_access::{ClusterAccess, KeyAccess, open_twin},
    policy_check,
};

const FILE_HELP: &str = "\
A policy file is a list of links, asked in order; the first that does not allow decides:
  [[link]]
  use = \"geo\"                    ready-made: geo, ttl, pages, places, signed, nft-immutable
  receive-deny = [\"KP\"]          everything else is its configuration
  [[link]]
  component = \"mine.wasm\"        your own, beside this file";

/// Check, publish and renew policies.
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
        /// When it ends, and what it governs with it: 2027-01-31, 2027-01-31T12:00:00Z, +30d or never [default: +400d]
        #[arg(long, value_name = "WHEN", value_parser = moment::to_come_or_never(LATER))]
        expires: Option<u64>,
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Sign policies again as they are, so that they end later
    #[command(after_help = "\
Examples:
  evernear policy renew                       all that the objects in the index name
  evernear policy renew europe-only --expires +30d

A policy has an end, so that nobody can keep an edge with an old version for ever. Past it, nothing under the policy is served until it is
renewed or published again. Once a month from a timer is often enough.")]
    Renew {
        /// The policies' names [default: those of all objects in the index]
        names: Vec<PolicyName>,
        /// When they end: 2027-01-31, 2027-01-31T12:00:00Z, +30d or never [default: +400d]
        #[arg(long, value_name = "WHEN", value_parser = moment::to_come_or_never(LATER))]
        expires: Option<u64>,
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
}

const LATER: &str = "name a time to come";

#[derive(Serialize)]
struct Checked {
    links: Vec<CheckedLink>,
}

#[derive(Serialize)]
struct Published {
    name: String,
    owner: String,
    sequence: u64,
    /// Seconds since 1970; zero: it does not end.
    expires: u64,
    nodes: usize,
    links: Vec<CheckedLink>,
}

/// The answer to a renewal.
#[derive(Serialize)]
struct Renewals {
    renewed: Vec<Renewed>,
    /// What stays as it was, and why.
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Renewed {
    name: PolicyName,
    sequence: u64,
    /// Seconds since 1970; zero: it does not end.
    expires: u64,
    nodes: usize,
}

impl Policy {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            PolicyCommand::Check { file } => {
                let (_, links) = read(file).await?;
                let checked = Checked { links };
                options.answer(&checked, || policy_check::text(&checked.links))
            }
            PolicyCommand::Renew { names, expires, keys, cluster } => {
                let (_, twin) = open_twin(&options.state()?, &keys, &cluster).await?;
                let expires = expires.unwrap_or_else(|| moment::now().saturating_add(POLICY_SECONDS));
                let names = if names.is_empty() { twin.policies_in_use().await } else { names.into_iter().collect() };
                let (asked, mut renewed, mut failed) = (names.len(), Vec::new(), Vec::new());
                for name in names {
                    match twin.renew_policy(&name, expires).await {
                        Ok(twin::Published { manifest, nodes }) => {
                            renewed.push(Renewed { name, sequence: manifest.sequence, expires, nodes });
                        }
                        // One that cannot be renewed lets no other end.
                        Err(error) => failed.push((name.to_string(), Error::from(error))),
                    }
                }
                if asked == 1
                    && let Some((name, error)) = failed.pop()
                {
                    return Err(error.context(format!("{name} is not renewed")));
                }
                let failures = Failures::of(failed);
                let answer = Renewals { renewed, failed: failures.failed.clone() };
                let line = |it: &Renewed| format!("{} {} on {}\n", it.name, ends(it.expires), count(it.nodes, "node"));
                options.answer(&answer, || answer.renewed.iter().map(line).collect())?;
                failures.end(options)
            }
            PolicyCommand::Publish { name, file, expires, keys, cluster } => {
                let (source, links) = read(file).await?;
                let (_, twin) = open_twin(&options.state()?, &keys, &cluster).await?;
                let expires = expires.unwrap_or_else(|| moment::now().saturating_add(POLICY_SECONDS));
                let published = twin.publish_until(&name, &source, expires).await?;
                let owner = published.manifest.owner.to_string();
                let sequence = published.manifest.sequence;
                let nodes = published.nodes;
                let answer = Published { name: name.to_string(), owner, sequence, expires, nodes, links };
                let text = || {
                    let (nodes, links) = (count(answer.nodes, "node"), policy_check::text(&answer.links));
                    format!("{name} version {sequence} on {nodes}, {}\n{links}", ends(expires))
                };
                options.answer(&answer, text)
            }
        }
    }
}

fn ends(expires: u64) -> String {
    if expires == 0 { "does not end".to_owned() } else { format!("ends at {}", Moment(expires)) }
}

async fn read(file: PathBuf) -> anyhow::Result<(PolicySource, Vec<CheckedLink>)> {
    let judge = move || {
        let source = PolicySource::read(&file).with_context(|| format!("{} is refused", file.display()))?;
        let links = api::check_policy(&source, &policy_check::compiler()?)?;
        Ok((source, links))
    };
    spawn_blocking(judge).await.context("the check was cut short")?
}
