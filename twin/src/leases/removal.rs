//! Ending leases: nodes destroy the sealed manifests, and the index forgets the names.

use std::collections::{BTreeMap, BTreeSet};

use format::{Lease, Locator};
use futures::StreamExt;

use super::{LeaseChangeError, Told, next_version};
use crate::{
    index::Entry,
    twin::{Twin, now},
};

/// How many leases of one tree are ended concurrently.
const OBJECTS_AT_ONCE: usize = 8;

/// What was removed.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// Objects whose lease was ended, with the nodes that were told.
    pub ended: BTreeMap<Locator, Told>,
    /// Objects that no node knew: they had expired, were erased before, or were never committed.
    pub unknown: BTreeSet<Locator>,
}

impl Twin {
    /// Ends the lease of an object, and of every object in it if it is a stored tree. Nodes destroy the sealed
    /// manifests, and the index forgets the names. After that no key to the bytes exists, wherever copies of shards may
    /// lie (crypto-shredding).
    ///
    /// # Errors
    /// [`LeaseChangeError`]; objects whose lease was ended are forgotten, the rest stay listed.
    pub async fn remove(&self, locator: &Locator) -> Result<Removed, LeaseChangeError> {
        let family = self.family(locator).await;
        let now = now();
        // Check all members before ending one, so that a tree is not erased only up to the first member that must stay.
        if let Some(until) = family.values().map(|entry| entry.tenure.retention.keep_until).find(|until| *until > now) {
            return Err(LeaseChangeError::Kept { until });
        }
        let of_it = family.keys().copied().chain([*locator]).collect::<BTreeSet<_>>();
        let end = |member: Locator| {
            let entry = family.get(&member);
            async move { (member, self.end_one(&member, entry, now).await) }
        };
        let mut ends = futures::stream::iter(of_it.into_iter().map(end)).buffer_unordered(OBJECTS_AT_ONCE);
        let mut removed = Removed::default();
        let mut failure = None;
        while let Some((member, ended)) = ends.next().await {
            match ended {
                Ok(Some(told)) => drop(removed.ended.insert(member, told)),
                Ok(None) => drop(removed.unknown.insert(member)),
                Err(error) => failure = Some(error),
            }
        }
        drop(ends);
        let gone: BTreeSet<_> =
            removed.ended.keys().chain(&removed.unknown).copied().filter(|gone| family.contains_key(gone)).collect();
        if !gone.is_empty() {
            self.forget(gone).await?;
        }
        match failure {
            Some(error) => Err(error),
            None if family.is_empty() && removed.ended.is_empty() => Err(LeaseChangeError::Unknown),
            None => Ok(removed),
        }
    }

    /// Ends one lease. Returns `None` when no node knows the object or it was erased before.
    async fn end_one(
        &self,
        locator: &Locator,
        entry: Option<&Entry>,
        now: u64,
    ) -> Result<Option<Told>, LeaseChangeError> {
        let record = match self.own_record(locator).await {
            Err(LeaseChangeError::Unknown) => return Ok(None),
            other => other?,
        };
        let held = &record.lease;
        if held.erased {
            return Ok(None);
        }
        if held.retention.keep_until > now {
            return Err(LeaseChangeError::Kept { until: held.retention.keep_until });
        }
        let lease = Lease { version: next_version(held, entry), erased: true, ..held.clone() };
        self.tell(&record, lease).await.map(Some)
    }
}
