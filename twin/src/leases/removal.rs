//! Ending leases: nodes destroy the sealed manifests, and the index forgets the names.
//!
//! ```text
//! index: "ending" -> nodes are told -> index: forgotten
//! ```
//!
//! Keeps true: the index never says that something is stored which this program began to erase, and it forgets nothing
//! that a node may still serve. A removal that was cut short is brought to its end by another one, or by the twin that
//! runs ([`Twin::end_again`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use format::{Lease, Locator, Record, cbor::Unknown};
use futures::{StreamExt, stream};
use tokio::task::spawn_blocking;

use super::{LeaseChangeError, OBJECTS_AT_ONCE, Patience, TRIES_MAX, Told, next_version, telling::Unread};
use crate::{
    index::{Batch, Entry, Family, Hashes, IndexError, Position, State, Tenure},
    progress::Progress,
    twin::Twin,
    unfinished::Journal,
};

/// How many leases are ended at a time by who does it beside other work.
const ENDED_AGAIN_AT_ONCE: usize = 4;

/// What was removed.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// Objects whose lease was ended, with the nodes that were told.
    pub ended: BTreeMap<Locator, Told>,
    /// Objects that no node had to be told of: they had expired, were erased before, or were never committed.
    pub unknown: BTreeSet<Locator>,
}

/// What tells which lease ends an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its record, which nodes are asked for.
    Record,
    /// The index, where that knows enough. Nodes refuse what it does not know, and then the record is read.
    Index,
}

/// An object whose lease was not ended.
struct Unended {
    error: LeaseChangeError,
    /// Whether some node may have the erasure all the same.
    may_be_told: bool,
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
    /// other; the objects of it whose lease was ended are forgotten, the rest stay listed: as ending, if nodes may have
    /// been told.
    ///
    /// # Errors
    /// [`IndexError`]: either nothing was begun, or the leases were ended and the index lists the objects as ending. A
    /// repeated call mends that.
    pub async fn remove_all(
        &self,
        locators: &BTreeSet<Locator>,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Removed, BTreeMap<Locator, LeaseChangeError>), IndexError> {
        let families = self.families(locators).await;
        self.end_families(families, &Patience::begin(), OBJECTS_AT_ONCE, progress).await
    }

    /// Returns the removals that were cut short, as any program of this owner's left them (`Index::ending`).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn ending(&self) -> Result<BTreeMap<Locator, Family>, IndexError> {
        self.with_index(|index| index.refresh().map(|()| index.ending())).await
    }

    /// Goes on with removals that were cut short, as [`Self::remove_all`] does, for a program that runs for long: a few
    /// at a time, and each call to a node is made once. What fails is for a later call.
    ///
    /// # Errors
    /// As [`Self::remove_all`].
    pub async fn end_again(
        &self,
        ending: BTreeMap<Locator, Family>,
    ) -> Result<(Removed, BTreeMap<Locator, LeaseChangeError>), IndexError> {
        let quiet: Arc<dyn Progress> = Arc::new(());
        self.end_families(ending, &Patience::none(), ENDED_AGAIN_AT_ONCE, &quiet).await
    }

    async fn end_families(
        &self,
        families: BTreeMap<Locator, Family>,
        patience: &Patience,
        objects_at_once: usize,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Removed, BTreeMap<Locator, LeaseChangeError>), IndexError> {
        let now = self.now();
        let (mut removed, mut failed, mut members) = (Removed::default(), BTreeMap::new(), Vec::new());
        let mut known = BTreeMap::new();
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
                known.extend(family.clone());
                members.extend(family.into_iter().map(|(member, entry)| (top, member, Some(entry))));
            }
        }
        self.list_as_ending(known.values().cloned().collect()).await?;
        progress.leases(members.len());
        let end = |(top, member, entry): (Locator, Locator, Option<Entry>), way: Way| async move {
            let ended = self.end_one(&member, entry.as_ref(), way, patience).await;
            progress.lease();
            (top, member, ended)
        };
        // The first record is read, also when the index would do. While no node answers, nothing else is begun, and
        // what no node was told of stays as it was.
        let mut members = members.into_iter();
        let first = match members.next() {
            Some(member) => Some(Box::pin(end(member, Way::Record)).await),
            None => None,
        };
        let is_away = matches!(&first, Some((_, _, Err(Unended { error: LeaseChangeError::Read(_), .. }))));
        let way = if is_away { Way::Record } else { Way::Index };
        let others = stream::iter(members.map(|member| end(member, way))).buffer_unordered(objects_at_once);
        let mut ends = std::pin::pin!(stream::iter(first).chain(others));
        let mut spared = Vec::new();
        while let Some((top, member, ended)) = ends.next().await {
            match ended {
                Ok(Some(told)) => drop(removed.ended.insert(member, told)),
                Ok(None) if known.contains_key(&member) => drop(removed.unknown.insert(member)),
                Ok(None) => drop(failed.insert(top, LeaseChangeError::Unknown)),
                Err(Unended { error, may_be_told }) => {
                    if !may_be_told {
                        spared.extend(known.get(&member).filter(|entry| entry.state != State::Ending).cloned());
                    }
                    failed.entry(top).or_insert(error);
                }
            }
        }
        // What no node was told of is as it was.
        if !spared.is_empty() {
            self.with_index(move |index| index.record_all(spared)).await?;
        }
        let gone: BTreeMap<_, _> =
            removed.ended.keys().chain(&removed.unknown).filter_map(|gone| known.get_key_value(gone)).collect();
        if !gone.is_empty() {
            let batches: BTreeSet<Batch> = gone.values().map(|entry| entry.batch).collect();
            self.forget(gone.into_keys().copied().collect()).await?;
            // Nor does a key stay in the journal of an upload that did not end.
            let ended = batches.iter().filter_map(|batch| held.get(batch)?.as_ref());
            ended.for_each(Journal::end);
        }
        Ok((removed, failed))
    }

    /// Writes down that uploads are about to be erased. Tops come first, because a top stands for all of its tree.
    async fn list_as_ending(&self, entries: Vec<Entry>) -> Result<(), IndexError> {
        let entries = entries.into_iter().filter(|entry| entry.state != State::Ending);
        let ending = entries.map(|entry| Entry { state: State::Ending, ..entry });
        let (tops, inner): (Vec<_>, Vec<_>) = ending.partition(|entry| entry.position == Position::Top);
        self.with_index(move |index| {
            [tops, inner].into_iter().filter(|part| !part.is_empty()).try_for_each(|part| index.record_all(part))
        })
        .await
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
        way: Way,
        patience: &Patience,
    ) -> Result<Option<Told>, Unended> {
        let mut may_be_told = false;
        if way == Way::Index
            && let Some(erasure) = entry.and_then(|entry| self.erasure(*locator, entry))
        {
            match self.tell_unread(erasure, patience).await {
                Unread::Told(told) => return told.map(Some).map_err(|error| Unended { error, may_be_told: true }),
                Unread::Refused { may_be_told: told } => may_be_told = told,
            }
        }
        let began = may_be_told || entry.is_some_and(|entry| entry.state == State::Ending);
        let (mut known, mut tries) = (entry.map_or(0, |entry| entry.tenure.version), 1);
        loop {
            match self.end_once(locator, entry, (known, began), patience).await {
                Err(LeaseChangeError::Overtaken { version }) if tries < TRIES_MAX => {
                    (known, tries) = (known.max(version), tries + 1);
                }
                Err(error) => {
                    may_be_told |= !error.leaves_nodes_untold();
                    return Err(Unended { error, may_be_told });
                }
                Ok(ended) => return Ok(ended),
            }
        }
    }

    /// Returns the lease that ends an object, as far as the index knows all that it names.
    fn erasure(&self, locator: Locator, entry: &Entry) -> Option<Lease> {
        let Hashes { object, manifest } = entry.hashes.filter(|_| entry.state == State::Stored)?;
        let Tenure { version, profile, policy, wanted, refused, caps, retention } = entry.tenure.clone();
        Some(Lease {
            locator,
            owner: self.owner(),
            object,
            manifest,
            version: version.saturating_add(1),
            profile,
            wanted,
            refused,
            retention,
            policy,
            erased: true,
            caps,
            note: None,
            unknown: Unknown::default(),
        })
    }

    /// Reads the record and ends its lease, once. `known` is the highest version of the lease that was heard of, and
    /// whether this owner's program began to end it before.
    async fn end_once(
        &self,
        locator: &Locator,
        entry: Option<&Entry>,
        (known, began): (u64, bool),
        patience: &Patience,
    ) -> Result<Option<Told>, LeaseChangeError> {
        // What an erasure says hangs on nothing but the number, so one record that is not older than the index will do.
        let is_enough = |own: &[&Record]| own.iter().any(|record| record.lease.version >= known);
        let (record, also) = match self.own_record_of(locator, patience, is_enough).await {
            Err(LeaseChangeError::Unknown) => match self.left_over(locator, entry, patience).await? {
                Some(found) => found,
                None => return Ok(None),
            },
            other => (other?, BTreeSet::new()),
        };
        let held = &record.lease;
        // An erasure below what was heard of has ended nothing where a later lease lives on.
        if held.erased && held.version >= known {
            // One node may be the only one that was told, by an attempt that ended there.
            let told = self.tell_signed(&record, record.signed(), &also, patience).await?;
            return Ok(Some(told).filter(|_| began));
        }
        if held.retention.keep_until > self.now() {
            return Err(LeaseChangeError::Kept { until: held.retention.keep_until });
        }
        let version = next_version(held, entry).max(known.saturating_add(1));
        let lease = Lease { version, erased: true, note: None, ..held.clone() };
        self.tell(&record, lease, &also, patience).await.map(Some)
    }
}

impl LeaseChangeError {
    /// Returns whether no node has the erasure that this ended.
    fn leaves_nodes_untold(&self) -> bool {
        !matches!(self, Self::TooFew { .. } | Self::Overtaken { .. } | Self::Index(_))
    }
}
