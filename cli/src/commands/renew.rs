//! `evernear renew`.

use std::collections::BTreeSet;

use clap::Args;
use format::{Cap, PolicyName, Profile};
use serde::Serialize;
use twin::Renewal;

use super::Options;
use crate::{
    failures::{Failed, Failures},
    fault::Usage,
    lease_times::LeaseTimes,
    output::{count, missed},
    owner_access::{ClusterAccess, KeyAccess, open_twin},
    progress_bar,
    targets::Targets,
};

/// Change the policy, the times, the caps or the parity of an object.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear renew LABEL --policy europe-only
  evernear renew LABEL --expires +365d
  evernear renew LABEL --expires never --keep-until +30d
  evernear renew LABEL --at-most zone=2,operator=4
  evernear renew LABEL --profile 16+4
  evernear ls --json | jq -r '.[].label' | xargs evernear renew --expires +365d

A stored folder is renewed with all in it. What is not named stays as it was: the policy, each of the two times, the cap of each
level. A cap of 255 limits nothing. Shards that lie otherwise than new caps say are moved by the nodes' repair, not by this command.
A profile may have less parity than the object was stored with, and later as much again: nodes drop and make it by themselves.
Other data shards, or more parity than at first, need `get` and `put`: a new name.")]
pub(crate) struct Renew {
    /// Labels, or URLs whose host begins with one
    #[arg(required = true)]
    target: Vec<String>,
    /// The policy from now on
    #[arg(long)]
    policy: Option<PolicyName>,
    #[command(flatten)]
    times: LeaseTimes,
    /// How many shards may lie in one country, region, operator, datacentre or zone from now on
    #[arg(long, value_delimiter = ',', value_name = "LEVEL=NUMBER")]
    at_most: Vec<Cap>,
    /// Redundancy from now on: data+parity with the data shards the object has, or a profile
    #[arg(long)]
    profile: Option<Profile>,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Answer {
    renewed: usize,
    missed_nodes: BTreeSet<String>,
    /// What stays as it was, and why.
    failed: Vec<Failed>,
}

impl Renew {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        self.times.check()?;
        let LeaseTimes { keep_until, expires } = self.times;
        let renewal = Renewal { policy: self.policy, keep_until, expires, caps: self.at_most, profile: self.profile };
        if renewal == Renewal::default() {
            let what = "nothing to change: name --policy, --keep-until, --expires, --at-most or --profile";
            return Err(Usage(what.to_owned()).into());
        }
        let targets = Targets::parse(&self.target)?;
        let (_, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let named = targets.whole(&twin).await?;
        let locators: BTreeSet<_> = named.keys().copied().collect();
        let (progress, bar) = progress_bar::of_leases(options.json);
        let renewed = twin.renew_all(&locators, &renewal, &progress).await;
        bar.finish_and_clear();
        let (told, failed) = renewed?;
        let failed = Failures::of_leases(failed, &named, locators.len())?;
        let missed_nodes: BTreeSet<_> = told.values().flat_map(|told| &told.missed).map(ToString::to_string).collect();
        let answer = Answer { renewed: told.len(), missed_nodes, failed: failed.failed.clone() };
        options.answer(&answer, || {
            format!("renewed {}\n{}", count(answer.renewed, "object"), missed(&answer.missed_nodes))
        })?;
        failed.end(options)
    }
}
