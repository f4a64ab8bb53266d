//! What nodes hold of an upload that goes on. The journal and the index of this machine do not know what another
//! machine of the same owner erased meanwhile, so nodes are asked before anything is told as stored that was not sent.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use client::{ReadError, Receipt};
use format::{Kind, Label, Locator, OpenError};
use futures::StreamExt;

use super::{PutError, PutOptions, Stored, object::Noting};
use crate::{
    index::{Batch, Entry, Index, IndexError, Position, State, Tenure},
    leases::{LeaseChangeError, Patience, Shown, Sooner},
    twin::Twin,
    unfinished::{SourceLock, Stamp},
};

/// Objects that nodes are asked for concurrently. An answer costs a fraction of what storing a small file does.
const OBJECTS_AT_ONCE: usize = 64;

/// What nodes say of an object.
enum Held {
    /// It is there, under this version of its lease.
    Whole(Box<Receipt>, u64),
    /// Its owner ended it, or its lease did.
    Ended,
    /// They have never heard of it, or forgot it.
    Unknown,
}

/// Returns what notes the object of a source in its lock, as the source is now.
pub(super) fn noting(lock: &Arc<SourceLock>, stamp: Stamp) -> Noting {
    let lock = lock.clone();
    Arc::new(move |locator, version| lock.note(stamp, &locator, version))
}

impl Twin {
    /// Forgets what of an upload that goes on nodes do not hold any more. It is stored anew then, under other secrets:
    /// what is erased stays so. Returns whether there was any.
    pub(super) async fn forget_gone(&self, batch: Batch) -> Result<bool, PutError> {
        let gone = self.gone_of(batch).await?;
        if gone.is_empty() {
            return Ok(false);
        }
        tracing::warn!(objects = gone.len(), "nodes hold a part of an unfinished upload no longer; it is stored anew");
        self.forget(gone).await?;
        Ok(true)
    }

    /// Returns what of an upload nodes do not hold any more: it was erased by another machine of this owner, or ended.
    async fn gone_of(&self, batch: Batch) -> Result<BTreeSet<Locator>, PutError> {
        let patience = &Patience::begin();
        let mut of_it = self.members(batch).await;
        // What did not end beside a top that did is left over, and no part of it.
        let is_topped = of_it.iter().any(|(_, entry)| entry.position == Position::Top && entry.state == State::Stored);
        of_it.retain(|(_, entry)| !is_topped || entry.state != State::Committing);
        let look = |(locator, entry): (Locator, Entry)| async move {
            Ok::<_, PutError>(match (self.held(&locator, patience).await?, entry.state) {
                (Held::Ended, State::Stored | State::Committing) | (Held::Unknown, State::Stored) => Some(locator),
                (Held::Whole(receipt, _), State::Committing) => {
                    self.as_stored(entry, &receipt).await?;
                    None
                }
                // One that came no further than its commit may go on. One that is ending stays listed until it has.
                (Held::Unknown, State::Committing) | (Held::Whole(..), _) | (_, State::Ending) => None,
            })
        };
        let mut looks = futures::stream::iter(of_it.into_iter().map(look)).buffer_unordered(OBJECTS_AT_ONCE);
        let mut gone = BTreeSet::new();
        while let Some(looked) = looks.next().await {
            gone.extend(looked?);
        }
        Ok(gone)
    }

    /// Asks nodes for an object of this owner. A majority of them has heard of an erasure that was acknowledged.
    async fn held(&self, locator: &Locator, patience: &Patience) -> Result<Held, PutError> {
        let (origins, majority, given) = (self.network.topology.origins(), self.majority(), AtomicUsize::new(0));
        let is_enough = |own: &[&format::Record]| given.fetch_max(own.len(), Relaxed).max(own.len()) >= majority;
        let shown = match self.shown(locator, patience, is_enough).await {
            Ok(shown) => shown,
            Err(LeaseChangeError::Unknown | LeaseChangeError::NotOurs) => return Ok(Held::Unknown),
            Err(error) => return Err(PutError::Unasked(error)),
        };
        let now = self.now();
        // When a lease has ended nodes decide, which destroy the manifest then.
        if shown.is_over(|retention| retention.has_ended(now) && shown.record.sealed.is_none()) {
            return Ok(Held::Ended);
        }
        let Shown { record, .. } = shown;
        // Neither the silence of nodes nor a manifest that they hold back says that the object is gone.
        if record.lease.erased || record.sealed.is_none() {
            let withheld = match record.is_stripped(now) {
                true => ReadError::Open(OpenError::Withheld),
                false => ReadError::Unavailable { locator: *locator, source: None },
            };
            return Err(PutError::Unasked(LeaseChangeError::Read(withheld)));
        }
        let receipt = Receipt::of(&record, given.into_inner(), &origins);
        Ok(Held::Whole(Box::new(receipt), record.lease.version))
    }

    /// Returns an object that this machine stored, and that nodes hold under the lease it was stored with.
    pub(super) async fn stored_before(
        &self,
        locator: Locator,
        patience: &Patience,
    ) -> Result<Option<(Entry, Receipt)>, PutError> {
        let known = self.with_index(move |index| index.entry(&locator).cloned()).await;
        let Some(entry) = known.filter(|entry| entry.state != State::Ending) else { return Ok(None) };
        match self.held(&locator, patience).await? {
            Held::Whole(receipt, version) if version == entry.tenure.version => {
                Ok(self.as_stored(entry, &receipt).await?.map(|entry| (entry, *receipt)))
            }
            // Its owner renewed it since, perhaps at another machine.
            Held::Whole(..) | Held::Ended | Held::Unknown => Ok(None),
        }
    }

    /// Returns the entry of an object that nodes hold. One that came to its commit is stored once most nodes have its
    /// record, and the index says so from then on.
    async fn as_stored(&self, entry: Entry, receipt: &Receipt) -> Result<Option<Entry>, PutError> {
        if entry.state == State::Stored {
            return Ok(Some(entry));
        }
        if receipt.records < self.majority() {
            return Ok(None);
        }
        let entry = Entry { state: State::Stored, ..entry };
        self.record(entry.clone()).await?;
        Ok(Some(entry))
    }

    /// Returns what an earlier `put` stored of a source under this name and did not come to tell, with the times that
    /// are asked for now. None when the source or its name is another now, nodes do not hold all of it, its owner
    /// renewed it since, or it cannot have these times: perhaps somebody was told of it, so none of it ends sooner.
    pub(super) async fn untold(
        &self,
        lock: &Arc<SourceLock>,
        (stamp, name): (Stamp, &str),
        options: &PutOptions,
    ) -> Result<Option<Stored>, PutError> {
        let Some(locator) = lock.noted() else { return Ok(None) };
        let asked = &options.tenure;
        let find = move |index: &mut Index| {
            // Whoever noted it may have written it after this program read the index.
            index.refresh()?;
            Ok::<_, IndexError>(index.entry(&locator).map(|entry| (entry.state, entry.tenure.version)))
        };
        let noted = self.with_index(find).await?.filter(|(_, version)| lock.is_of(stamp, &locator, *version));
        let Some((state, _)) = noted else { return Ok(None) };
        let found = match state {
            // What was never acknowledged is stored anew, unless nodes say at once that they have it.
            State::Committing => match self.stored_before(locator, &Patience::none()).await {
                Err(PutError::Unasked(_)) => None,
                found => found?,
            },
            _ => self.stored_before(locator, &Patience::begin()).await?,
        };
        let Some((entry, receipt)) = found else { return Ok(None) };
        let (batch, held) = (entry.batch, entry.tenure);
        // What its owner changed since is not what is asked for.
        let is_other =
            entry.path != name || held != Tenure { version: held.version, retention: held.retention, ..asked.clone() };
        let has_ended = held.retention.has_ended(self.now());
        if is_other || has_ended || entry.position != Position::Top || !self.gone_of(batch).await?.is_empty() {
            return Ok(None);
        }
        let mut members = self.members(batch).await;
        let is_ending = members.iter().any(|(_, it)| it.state == State::Ending);
        let all = members.len();
        members.retain(|(_, it)| it.state == State::Stored);
        let stored: BTreeSet<_> = members.iter().map(|(locator, _)| *locator).collect();
        if is_ending || !self.prolongs(stored, asked.retention, Sooner::Refused).await? {
            return Ok(None);
        }
        // The upload came to its end, and its journal did not.
        self.end_journal(batch).await;
        let renewed = self.with_index(move |index| index.entry(&locator).cloned()).await;
        if let Some(renewed) = &renewed {
            lock.note(stamp, &locator, renewed.tenure.version);
        }
        let (objects, left_over) = (members.len(), all - members.len());
        let files = members.iter().filter(|(_, it)| it.kind == Kind::File);
        let bytes = files.fold(0, |bytes: u64, (_, it)| bytes.saturating_add(it.length));
        Ok(renewed.map(|entry| {
            let (label, skipped, bad) = (Label::open(entry.capability.clone()), Vec::new(), Vec::new());
            Stored { label, entry, receipt, objects, bytes, skipped, bad, left_over }
        }))
    }

    /// Returns what of an upload is in the index.
    async fn members(&self, batch: Batch) -> Vec<(Locator, Entry)> {
        let of_it = move |index: &mut Index| {
            let of_it = index.entries().filter(|(_, entry)| entry.batch == batch);
            of_it.map(|(locator, entry)| (*locator, entry.clone())).collect()
        };
        self.with_index(of_it).await
    }
}
