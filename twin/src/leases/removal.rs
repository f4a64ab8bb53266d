//! Ending leases: nodes destroy the sealed manifests, and the index forgets the names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use format::{Lease, Locator, Record};
use futures::StreamExt;
use tokio::task::spawn_blocking;

use super::{LeaseChangeError, OBJECTS_AT_ONCE, Told, next_version};
use crate::{
    index::{Batch, Entry, IndexError},
    progress::Progress,
    twin::{Twin, now},
    unfinished::Journal,
};

/// What was removed.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// Objects whose lease was ended, with the nodes that were told.
    pub ended: BTreeMap<Locator, Told>,
    /// Objects that no node knew: they had expired, were erased before, or were never committed.
    pub unknown: BTreeSet<Locator>,
}

impl Twin {
    /// Ends the lease of an object, and of everything that belongs to it, as [`Self::remove_all`] does.
    ///
    /// # Errors
    /// [`LeaseChangeError`]; objects whose lease was ended are forgotten, the rest stay listed.
    pub async fn remove(&self, locator: &Locator) -> Result<Removed, LeaseChangeError> {
        let quiet: Arc<dyn Progress> = Arc::new(());
        let (removed, failed) = self.remove_all(&[*locator].into(), &quiet).await?;
        failed.into_values().next().map_or(Ok(removed), Err)
    }

    /// Ends the leases of uploads and of everything that belongs to them, many at once. Nodes destroy the sealed
    /// manifests, and the index forgets the names. After that no key to the bytes exists, wherever copies of shards may
    /// lie (crypto-shredding).
    ///
    /// Returns what was removed, and why the others were not. An upload with an object that must stay is not begun, nor
    /// is one that a program works on: it would go on and leave a folder whose files are gone. One that fails stops no
    /// other; the objects of it whose lease was ended are forgotten, the rest stay listed.
    ///
    /// # Errors
    /// [`IndexError`]: the leases were ended, and the index still lists them. A repeated call mends that.
    pub async fn remove_all(
        &self,
        locators: &BTreeSet<Locator>,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Removed, BTreeMap<Locator, LeaseChangeError>), IndexError> {
        let now = now();
        let (mut removed, mut failed, mut members) = (Removed::default(), BTreeMap::new(), Vec::new());
        let (mut known, mut batches) = (BTreeSet::new(), BTreeSet::new());
        let families = self.families(locators).await;
        // Held to the end, so that no `put` goes on with them meanwhile.
        let held = self.hold(families.values().flat_map(BTreeMap::values).map(|entry| entry.batch).collect()).await;
        for (top, family) in families {
            if family.values().any(|entry| held.get(&entry.batch).is_some_and(Option::is_none)) {
                failed.insert(top, LeaseChangeError::Busy);
                continue;
            }
            // Look at all members before ending one, so that a tree is not erased only up to the first that must stay.
            let kept = family.values().map(|entry| entry.tenure.retention.keep_until).find(|until| *until > now);
            if let Some(until) = kept {
                failed.insert(top, LeaseChangeError::Kept { until });
            } else if family.is_empty() {
                members.push((top, top, None));
            } else {
                known.extend(family.keys().copied());
                batches.extend(family.values().map(|entry| entry.batch));
                members.extend(family.into_iter().map(|(member, entry)| (top, member, Some(entry))));
            }
        }
        progress.leases(members.len());
        let end = |(top, member, entry): (Locator, Locator, Option<Entry>)| async move {
            let ended = self.end_one(&member, entry.as_ref(), now).await;
            progress.lease();
            (top, member, ended)
        };
        let mut ends = futures::stream::iter(members.into_iter().map(end)).buffer_unordered(OBJECTS_AT_ONCE);
        while let Some((top, member, ended)) = ends.next().await {
            match ended {
                Ok(Some(told)) => drop(removed.ended.insert(member, told)),
                Ok(None) if known.contains(&member) => drop(removed.unknown.insert(member)),
                Ok(None) => drop(failed.insert(top, LeaseChangeError::Unknown)),
                Err(error) => drop(failed.insert(top, error)),
            }
        }
        drop(ends);
        let gone: BTreeSet<_> =
            removed.ended.keys().chain(&removed.unknown).copied().filter(|gone| known.contains(gone)).collect();
        if !gone.is_empty() {
            self.forget(gone).await?;
            // Nor does a key stay in the journal of an upload that did not end.
            let ended = batches.iter().filter_map(|batch| held.get(batch)?.as_ref());
            ended.for_each(Journal::end);
        }
        Ok((removed, failed))
    }

    /// Opens the journals that these uploads have (`Journals::hold`).
    async fn hold(&self, batches: BTreeSet<Batch>) -> BTreeMap<Batch, Option<Journal>> {
        let journals = self.journals.clone();
        let held = spawn_blocking(move || journals.hold(&batches)).await.expect("holding journals does not panic");
        held.unwrap_or_else(|error| {
            tracing::warn!(%error, "journals of uploads cannot be looked at");
            BTreeMap::new()
        })
    }

    /// Ends one lease. Returns `None` when no node knows the object, or when it was erased before and most of its nodes
    /// know that.
    async fn end_one(
        &self,
        locator: &Locator,
        entry: Option<&Entry>,
        now: u64,
    ) -> Result<Option<Told>, LeaseChangeError> {
        // What an erasure says hangs on nothing but the number, so one record that is not older than the index will do.
        let known = entry.map_or(0, |entry| entry.tenure.version);
        let is_enough = |own: &[&Record]| own.iter().any(|record| record.lease.version >= known);
        let record = match self.own_record_of(locator, is_enough).await {
            Err(LeaseChangeError::Unknown) => return Ok(None),
            other => other?,
        };
        let held = &record.lease;
        if held.erased {
            // One node may be the only one that was told, by an attempt that ended there.
            self.tell_signed(&record, record.lease_envelope.clone(), held.version).await?;
            return Ok(None);
        }
        if held.retention.keep_until > now {
            return Err(LeaseChangeError::Kept { until: held.retention.keep_until });
        }
        let lease = Lease { version: next_version(held, entry), erased: true, note: None, ..held.clone() };
        self.tell(&record, lease).await.map(Some)
    }
}
