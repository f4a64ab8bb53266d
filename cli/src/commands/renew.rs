//! `evernear renew`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use format::{Cap, Locator, Moment, PolicyName, Profile};
use serde::Serialize;
use twin::{Renewal, Sooner};

use super::Options;
use crate::{
    consent::Consent,
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
  evernear renew LABEL --expires +365d --yes     also one that had no end, or a later one
  evernear ls --json | jq -r '.[] | select(.expires > 0).label' | xargs evernear renew --expires +365d

A stored folder is renewed with all in it. What is not named stays as it was: the policy, each of the two times, the cap of each
level. What would end sooner than it does now, or had no end, is asked about first: what has ended never comes back. A cap of 255 limits nothing. Shards that lie otherwise than new caps say are moved by the nodes' repair, not by this command.
A profile may have less parity than the object was stored with, but not none, and later as much again: nodes drop and make it by themselves.
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
    consent: Consent,
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
        let (keep_until, expires) = (self.times.keep_until(), self.times.expires());
        let (caps, profile, sooner) = (self.at_most, self.profile, Sooner::default());
        let mut renewal = Renewal { policy: self.policy, keep_until, expires, caps, profile, sooner };
        if renewal == Renewal::default() {
            let what = "nothing to change: name --policy, --keep-until, --expires, --at-most or --profile";
            return Err(Usage(what.to_owned()).into());
        }
        let targets = Targets::parse(&self.target)?;
        let (_, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let named = targets.whole(&twin).await?;
        let locators: BTreeSet<_> = named.keys().copied().collect();
        let ends = match self.consent.is_given() {
            true => BTreeMap::new(),
            false => twin.ends_sooner(&locators, &renewal).await,
        };
        if !ends.is_empty() {
            self.consent.to(&shorten(&ends, expires.unwrap_or_default()), options)?;
        }
        if self.consent.is_given() || !ends.is_empty() {
            renewal.sooner = Sooner::Allowed;
        }
        let (progress, bar) = progress_bar::of_leases(options.json);
        let renewed = twin.renew_all(&locators, &renewal, &progress).await;
        bar.finish_and_clear();
        let (told, failed) = renewed?;
        let failed = Failures::of_leases(failed, &named, locators.len(), told.len())?;
        let missed_nodes: BTreeSet<_> = told.values().flat_map(|told| &told.missed).map(ToString::to_string).collect();
        let answer = Answer { renewed: told.len(), missed_nodes, failed: failed.failed.clone() };
        options.answer(&answer, || {
            format!("renewed {}\n{}", count(answer.renewed, "object"), missed(&answer.missed_nodes))
        })?;
        failed.end(options)
    }
}

/// Says which objects are about to get an end, or an earlier one. `ends` has when they end now.
fn shorten(ends: &BTreeMap<Locator, Option<u64>>, end: u64) -> String {
    let (objects, endless) = (count(ends.len(), "object"), ends.values().filter(|end| end.is_none()).count());
    let now = match ends.values().flatten().max().map(|last| Moment(*last)) {
        None => "without an end now".to_owned(),
        Some(last) if endless == 0 => format!("now {last} at the latest"),
        Some(last) => format!("{endless} without an end now, the others {last} at the latest"),
    };
    format!("end {objects} at {} ({now}) for ever", Moment(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_sooner_is_counted() {
        let says = |ends: &[Option<u64>]| {
            shorten(&(0..).zip(ends).map(|(number, end)| (Locator([number; 32]), *end)).collect(), 86_400)
        };
        let at = "at 1970-01-02T00:00:00Z";
        assert_eq!(says(&[None]), format!("end 1 object {at} (without an end now) for ever"));
        assert_eq!(
            says(&[Some(172_800), Some(90_000)]),
            format!("end 2 objects {at} (now 1970-01-03T00:00:00Z at the latest) for ever")
        );
        assert_eq!(
            says(&[None, Some(172_800), None]),
            format!(
                "end 3 objects {at} (2 without an end now, the others 1970-01-03T00:00:00Z at the latest) for ever"
            )
        );
    }
}
