//! What nodes hold of an upload that goes on. The journal and the index of this machine do not know what another
//! machine of the same owner erased meanwhile, so nodes are asked before anything is told as stored that was not sent.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use client::Receipt;
use format::{Kind, Label, Locator};
use futures::StreamExt;

use super::{PutError, PutOptions, Stored, object::Noting};
use crate::{
    index::{Batch, Entry, Position, State},
    leases::{LeaseChangeError, Patience},
    twin::Twin,
    unfinished::{Ledger, Stamp},
};

/// Objects that nodes are asked for concurrently. An answer costs a fraction of what storing a small file does.
const OBJECTS_AT_ONCE: usize = 64;

/// What nodes say of an object.
enum Held {
    /// It is there.
    Whole(Box<Receipt>),
    /// Its owner ended it, or its lease did.
    Ended,
    /// They have never heard of it, or forgot it.
    Unknown,
}

/// Where a `put` of several paths notes what it stores of one of them.
#[derive(Clone)]
pub(super) struct LedgerLine {
    pub(super) ledger: Arc<Ledger>,
    pub(super) key: String,
}

impl LedgerLine {
    /// Returns what notes the object of the path, as the path is now.
    pub(super) fn noting(&self, stamp: Stamp) -> Noting {
        let it = self.clone();
        Arc::new(move |locator| it.ledger.note(&it.key, stamp, locator))
    }
}

/// Returns what a ledger calls a path that is stored with these options.
pub(super) fn ledger_key(path: &Path, options: &PutOptions) -> String {
    let bytes = [&options.fingerprint(), &options.asked(), path.as_os_str().as_encoded_bytes()].concat();
    data_encoding::HEXLOWER.encode(&blake3::derive_key("evernear 2026 v1 path in a put of several", &bytes))
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
        let of_it = self.with_index(move |index| {
            let of_it = index.entries().filter(|(_, entry)| entry.batch == batch);
            of_it.map(|(locator, entry)| (*locator, entry.clone())).collect::<Vec<_>>()
        });
        let look = |(locator, entry): (Locator, Entry)| async move {
            Ok::<_, PutError>(match (self.held(&locator, patience).await?, entry.state) {
                (Held::Ended, State::Stored | State::Committing) | (Held::Unknown, State::Stored) => Some(locator),
                (Held::Whole(receipt), State::Committing) => {
                    self.as_stored(entry, &receipt).await?;
                    None
                }
                // One that came no further than its commit may go on. One that is ending stays listed until it has.
                (Held::Unknown, State::Committing) | (Held::Whole(_), _) | (_, State::Ending) => None,
            })
        };
        let mut looks = futures::stream::iter(of_it.await.into_iter().map(look)).buffer_unordered(OBJECTS_AT_ONCE);
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
        let record = match self.own_record_of(locator, patience, is_enough).await {
            Ok(record) => record,
            Err(LeaseChangeError::Unknown | LeaseChangeError::NotOurs) => return Ok(Held::Unknown),
            Err(error) => return Err(PutError::Unasked(error)),
        };
        match record.lease.erased || record.sealed.is_none() {
            true => Ok(Held::Ended),
            false => Ok(Held::Whole(Box::new(Receipt::of(&record, given.into_inner(), &origins)))),
        }
    }

    /// Returns how many of the nodes that keep a record have it when an upload is acknowledged.
    fn majority(&self) -> usize {
        self.network.topology.origins().len().min(client::RECORD_NODES_MAX) / 2 + 1
    }

    /// Returns an object that this machine stored and that nodes hold.
    pub(super) async fn stored_before(&self, locator: Locator) -> Result<Option<(Entry, Receipt)>, PutError> {
        let known = self.with_index(move |index| index.entry(&locator).cloned()).await;
        let Some(entry) = known.filter(|entry| entry.state != State::Ending) else { return Ok(None) };
        match self.held(&locator, &Patience::begin()).await? {
            Held::Whole(receipt) => Ok(self.as_stored(entry, &receipt).await?.map(|entry| (entry, *receipt))),
            Held::Ended | Held::Unknown => Ok(None),
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

    /// Returns what an earlier `put` of several paths stored of this one and did not come to tell; none when the path
    /// is another now, or nodes do not hold all of it.
    pub(super) async fn untold(&self, line: &LedgerLine, stamp: Stamp) -> Result<Option<Stored>, PutError> {
        let Some(locator) = line.ledger.stored(&line.key, stamp) else { return Ok(None) };
        let Some((entry, receipt)) = self.stored_before(locator).await? else { return Ok(None) };
        let batch = entry.batch;
        let has_ended = entry.tenure.retention.has_ended(self.now());
        if has_ended || entry.position != Position::Top || !self.gone_of(batch).await?.is_empty() {
            return Ok(None);
        }
        // The upload came to its end, and its journal did not.
        self.end_journal(batch).await;
        let of_it = self.with_index(move |index| {
            let of_it = index.entries().filter(|(_, it)| it.batch == batch && it.state == State::Stored);
            let bytes = |it: &Entry| if it.kind == Kind::File { it.length } else { 0 };
            of_it.fold((0, 0u64), |(objects, sum), (_, it)| (objects + 1, sum.saturating_add(bytes(it))))
        });
        let ((objects, bytes), label) = (of_it.await, Label::open(entry.capability.clone()));
        Ok(Some(Stored { label, entry, receipt, objects, bytes, skipped: Vec::new(), bad: Vec::new(), left_over: 0 }))
    }
}
