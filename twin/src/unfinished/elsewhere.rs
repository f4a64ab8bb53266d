//! What did not end, and whose it is. The index learns from nodes what other machines of this owner store
//! ([`Twin::recover`]), and the journal of a folder is at the machine that stores it. What is seen here of such a
//! folder looks like one that was cut short, and may grow this very moment.
//!
//! What is another machine's is told by two signs: no journal here speaks of it, and all of it is known as stored. Here
//! an upload that lost its journal is marked as left over (`Twin::leave`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use format::Locator;
use futures::StreamExt;

use super::{UnfinishedError, blocking};
use crate::{
    index::{Batch, Entry, Index, Position, Scope, State},
    leases::Patience,
    twin::{Twin, now},
};

/// A folder of which nothing was stored for longer than this is nobody's work any more, if nodes agree: they keep what
/// is on its way for a day.
const YOUNG_SECONDS: u64 = 86_400;
/// Records read concurrently.
const OBJECTS_AT_ONCE: usize = 64;

/// What did not end and no program on this machine works on, by what stands for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// What can be ended.
    pub locators: BTreeSet<Locator>,
    /// Folders that another machine of this owner may be storing just now.
    pub elsewhere: Vec<Elsewhere>,
}

/// A folder that another machine of this owner may be storing just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The `put` that stores it.
    pub batch: Batch,
    /// Stands for all of it.
    pub locator: Locator,
    /// Where it is in the list: the name of a folder that did not end is not known.
    pub path: String,
    /// Objects of it that are known here.
    pub objects: usize,
    /// When the newest of them was stored by that machine's clock, seconds since 1970.
    pub newest: u64,
}

impl Twin {
    /// Returns what did not end and no program on this machine works on. What another machine of this owner may be
    /// storing is told apart: it is younger than a day by either machine's clock, or nodes hold more of it than this
    /// index knows.
    ///
    /// # Errors
    /// [`UnfinishedError::Io`].
    pub async fn unfinished(&self) -> Result<LeftBehind, UnfinishedError> {
        let journals = self.journals.clone();
        let (busy, ours) = blocking(move || Ok((journals.busy()?, journals.batches()?))).await?;
        let ours = ours.into_iter().collect();
        let (locators, others) = self.with_index(move |index| left_behind(index, &busy, &ours)).await;
        let mut left = LeftBehind { locators, elsewhere: Vec::new() };
        let is_young = |it: &Elsewhere| it.newest.saturating_add(YOUNG_SECONDS) > now();
        let (young, old): (Vec<_>, Vec<_>) = others.into_iter().partition(is_young);
        left.elsewhere.extend(young);
        if !old.is_empty() {
            let growing = self.growing(old.iter().map(|it| it.batch).collect()).await;
            let (growing, ended): (Vec<_>, Vec<_>) = old.into_iter().partition(|it| growing.contains(&it.batch));
            left.elsewhere.extend(growing);
            left.locators.extend(ended.iter().map(|it| it.locator));
        }
        Ok(left)
    }

    /// Returns those of these uploads of which nodes hold more than the index knows; all where no node tells.
    async fn growing(&self, batches: BTreeSet<Batch>) -> BTreeSet<Batch> {
        let mut locators = match self.owned().await {
            Ok((locators, _)) => locators,
            Err(error) => {
                tracing::warn!(%error, "nobody tells whether another machine goes on with a folder");
                return batches;
            }
        };
        let known = self.list().await;
        locators.retain(|locator| !known.contains_key(locator));
        let (unread, patience) = (AtomicUsize::new(0), &Patience::begin());
        let look = |locator: Locator| {
            let unread = &unread;
            async move {
                let Ok(record) = self.own_record_of(&locator, patience, |own| !own.is_empty()).await else {
                    unread.fetch_add(1, Relaxed);
                    return None;
                };
                let note = record.lease.note.as_ref().and_then(|note| note.open(&self.note_key, &locator));
                note.map(|note| Batch(note.batch))
            }
        };
        let looks = futures::stream::iter(locators.into_iter().map(look)).buffer_unordered(OBJECTS_AT_ONCE);
        let found: BTreeSet<Batch> = looks.filter_map(std::future::ready).collect().await;
        match unread.into_inner() {
            0 => &batches & &found,
            // One of them may be of any.
            _ => batches,
        }
    }
}

/// Returns what did not end and can be ended, and the folders that no journal here speaks of.
fn left_behind(index: &Index, busy: &BTreeSet<Batch>, ours: &BTreeSet<Batch>) -> (BTreeSet<Locator>, Vec<Elsewhere>) {
    // What a program works on goes on.
    let listed = index.list(Scope::Unfinished).into_iter().filter(|listed| !busy.contains(&listed.entry.batch));
    let mut signs: BTreeMap<Batch, Signs> = BTreeMap::new();
    index.entries().for_each(|(_, entry)| signs.entry(entry.batch).or_default().see(entry));
    let (mut locators, mut others) = (BTreeSet::new(), Vec::new());
    for listed in listed {
        let batch = listed.entry.batch;
        let Signs { is_begun_here, newest } = signs[&batch];
        if is_begun_here || ours.contains(&batch) {
            locators.insert(listed.locator);
        } else {
            let (locator, path, objects) = (listed.locator, listed.path, listed.objects);
            others.push(Elsewhere { batch, locator, path, objects, newest });
        }
    }
    (locators, others)
}

/// What the entries of one upload say.
#[derive(Clone, Copy, Default)]
struct Signs {
    /// Only this machine knows a top that did not end, something that was not stored, and a removal that was cut short.
    is_begun_here: bool,
    newest: u64,
}

impl Signs {
    fn see(&mut self, entry: &Entry) {
        self.is_begun_here |= entry.position == Position::Top || entry.state != State::Stored;
        self.newest = self.newest.max(entry.created);
    }
}
