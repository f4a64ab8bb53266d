//! Bringing a signed lease to the nodes of its record, and finding that record. What an interruption of the network or
//! a restart of a node fails is done again; what a node refuses is told as what it is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use client::{AGAIN_FOR, ReadError, Transport, TransportError, again, tell_all};
use format::{Lease, Locator, NodeName, Record, Retention};
use futures::{StreamExt, stream};
use tokio::{task::spawn_blocking, time::Instant};

use super::{LeaseChangeError, Told};
use crate::{
    index::{Entry, State},
    twin::Twin,
};

/// Nodes that are asked at once for a record that most do not have.
const NODES_AT_ONCE: usize = 16;

/// How much longer one command makes calls again: each answer begins this anew. Where nothing answers any more, the
/// last of many objects does not wait as long as the first.
pub(crate) struct Patience {
    reads: Mutex<Instant>,
    tells: Mutex<Instant>,
}

impl Patience {
    pub(crate) fn begin() -> Self {
        let until = || Mutex::new(Instant::now() + AGAIN_FOR);
        Self { reads: until(), tells: until() }
    }

    /// Makes no call again.
    pub(crate) fn none() -> Self {
        let over = || Mutex::new(Instant::now());
        Self { reads: over(), tells: over() }
    }
}

fn left(until: &Mutex<Instant>) -> Duration {
    until.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(Instant::now())
}

fn answered(until: &Mutex<Instant>) {
    *until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + AGAIN_FOR;
}

/// What nodes show of this owner's object.
pub(crate) struct Shown {
    /// The record with the highest lease; an erasing one before all others.
    pub(crate) record: Record,
    /// Whether most of the nodes that should have it said what they have. Else these may all be behind.
    by_most: bool,
    /// The lease erases, and a node has a later one that does not.
    lives_on: bool,
}

impl Shown {
    /// Returns whether the object is over by a word that proves it: the owner signed its erasure, or `has_ended` its
    /// lease by what most nodes say. A lease that fewer show may have been renewed at the others.
    pub(crate) fn is_over(&self, has_ended: impl FnOnce(Retention) -> bool) -> bool {
        match self.record.lease.erased {
            true => !self.lives_on,
            false => self.by_most && has_ended(self.record.lease.retention),
        }
    }

    /// Returns whether what most nodes say, or the owner's erasure, is in it.
    pub(crate) fn is_sure(&self) -> bool {
        self.by_most || self.record.lease.erased && !self.lives_on
    }
}

/// A lease on its way, as each of its nodes gets it.
struct Message {
    lease: Lease,
    envelope: Bytes,
    /// The record with this lease, for nodes that have none. It has what could be had of it.
    record: Record,
    /// Leases of this owner that nodes hold which refused this one.
    held: Mutex<Vec<Lease>>,
}

impl Twin {
    /// Reads the record with the highest lease of this owner that a majority of the nodes asked shows. One of them has
    /// every lease that was acknowledged; a single node may hold an old one, or a stranger's. Where too few answer,
    /// what these show is returned: nothing may be given up by that.
    pub(super) async fn own_record(&self, locator: &Locator, patience: &Patience) -> Result<Record, LeaseChangeError> {
        Ok(self.shown(locator, patience, |own| own.len() >= self.majority()).await?.record)
    }

    /// The same with another sense of what is enough.
    pub(crate) async fn own_record_of(
        &self,
        locator: &Locator,
        patience: &Patience,
        is_enough: impl Fn(&[&Record]) -> bool,
    ) -> Result<Record, LeaseChangeError> {
        Ok(self.shown(locator, patience, is_enough).await?.record)
    }

    /// Returns how many of the nodes that keep a record have it when an upload is acknowledged.
    pub(crate) fn majority(&self) -> usize {
        self.network.topology.origins().len().min(client::RECORD_NODES_MAX) / 2 + 1
    }

    /// Reads the record with the highest lease of this owner among those that nodes give until they are enough, and
    /// tells what may be made of it.
    pub(crate) async fn shown(
        &self,
        locator: &Locator,
        patience: &Patience,
        is_enough: impl Fn(&[&Record]) -> bool,
    ) -> Result<Shown, LeaseChangeError> {
        let owner = self.owner();
        let is_enough =
            |found: &[Record]| is_enough(&found.iter().filter(|it| it.public.owner() == owner).collect::<Vec<_>>());
        let is_passing = |error: &ReadError| match error {
            ReadError::Unavailable { source, .. } => source.as_ref().is_none_or(TransportError::is_passing),
            _ => false,
        };
        let read = || self.network.reader.records(locator, &is_enough);
        let found = again(left(&patience.reads), is_passing, read).await.map_err(|error| match error {
            ReadError::NotFound { .. } => LeaseChangeError::Unknown,
            error => LeaseChangeError::Read(error),
        })?;
        answered(&patience.reads);
        let by_most = found.by_most;
        let Some(record) = self.newest_own(&found.records) else {
            // A stranger's record is one node's word, and the others may have this owner's.
            let unsure = ReadError::Unavailable { locator: *locator, source: None };
            return Err(if by_most { LeaseChangeError::NotOurs } else { LeaseChangeError::Read(unsure) });
        };
        // A name moves, and a lease of where it stood before would be refused.
        if record.public.is_name() {
            let record = self.network.reader.newest_record(locator, &owner).await.map_err(LeaseChangeError::Read)?;
            return Ok(Shown { record, by_most, lives_on: false });
        }
        let mut own = found.records.iter().filter(|it| it.public.owner() == owner);
        let lives_on = record.lease.erased && own.any(|it| it.lease.outlives(&record.lease));
        Ok(Shown { record: record.clone(), by_most, lives_on })
    }

    fn newest_own<'a>(&self, found: &'a [Record]) -> Option<&'a Record> {
        let own = found.iter().filter(|record| record.public.owner() == self.owner());
        // Of one version, a record that withholds its manifest comes last.
        own.max_by_key(|record| (record.lease.erased, record.lease.version, record.sealed.is_some()))
    }

    /// Looks for the record of an upload that most nodes do not know: their catalog may have been restored from a
    /// backup of before, while nodes with its shards, or that were away, still have it and may serve it. So all origins
    /// are asked. Returns it with the nodes that have it, and `None` when none has; also when nothing in the index says
    /// that any should.
    ///
    /// # Errors
    /// [`LeaseChangeError::Unsure`] when none has it of those that answer.
    pub(super) async fn left_over(
        &self,
        locator: &Locator,
        entry: Option<&Entry>,
        patience: &Patience,
    ) -> Result<Option<(Record, BTreeSet<NodeName>)>, LeaseChangeError> {
        let is_filed = |entry: &&Entry| {
            let is_name = entry.name.as_ref().is_some_and(|name| !name.moves.is_empty());
            let was_acknowledged = entry.state != State::Committing || is_name;
            was_acknowledged && !entry.tenure.retention.has_ended(self.now())
        };
        if entry.filter(is_filed).is_none() {
            return Ok(None);
        }
        let transport = &self.network.transport;
        let ask = |node: NodeName| async move {
            let read =
                again(left(&patience.reads), TransportError::is_passing, || transport.record(&node, locator)).await;
            (node, read)
        };
        let origins = self.network.topology.origins().into_iter().map(|node| ask(node.name));
        let mut answers = stream::iter(origins).buffer_unordered(NODES_AT_ONCE);
        let (mut found, mut holders) = (Vec::new(), BTreeSet::new());
        let (mut silent, mut source) = (BTreeSet::new(), None);
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok(record) => {
                    let record = record.and_then(|bytes| Record::decode(&bytes).ok());
                    if let Some(record) = record.filter(|record| record.locator() == *locator) {
                        found.push(record);
                        holders.insert(node);
                    }
                }
                Err(error) => {
                    silent.insert(node);
                    source = Some(error);
                }
            }
        }
        match (self.newest_own(&found), source) {
            (None, Some(source)) => Err(LeaseChangeError::Unsure { silent, source }),
            (found, _) => Ok(found.map(|record| (record.clone(), holders))),
        }
    }

    /// Signs a lease and sends it to the nodes of its record, and to others that have it.
    pub(super) async fn tell(
        &self,
        record: &Record,
        lease: Lease,
        also: &BTreeSet<NodeName>,
        patience: &Patience,
    ) -> Result<Told, LeaseChangeError> {
        let signed = self.sign(lease).await;
        self.tell_signed(record, signed, also, patience).await
    }

    /// Signs a lease. Returns it with its envelope, which needs no verifying here.
    async fn sign(&self, lease: Lease) -> (Lease, Bytes) {
        let keys = self.keys.clone();
        let sign = move || {
            let envelope = Bytes::from(lease.sign(&keys));
            (lease, envelope)
        };
        spawn_blocking(sign).await.expect("signing does not panic")
    }

    /// Signs the erasing lease of an inline object and sends it to the homes of its record, which was not read.
    pub(super) async fn tell_unread(&self, lease: Lease, patience: &Patience) -> Unread {
        let (lease, envelope) = self.sign(lease).await;
        let homes = client::inline_homes(&lease, &self.network.topology.origins()).into_iter().cloned().collect();
        let (transport, locator) = (self.network.transport.clone(), lease.locator);
        let call = |node: NodeName| {
            let (transport, envelope) = (transport.clone(), envelope.clone());
            async move { transport.put_lease(&node, &locator, envelope).await }
        };
        let told = tell_all(homes, &self.network.topology, left(&patience.tells), call).await;
        if !told.nodes.is_empty() {
            answered(&patience.tells);
        }
        let refused = told.failed.values().filter(|error| matches!(error, TransportError::Refused { .. })).count();
        if refused > 0 {
            return Unread::Refused { may_be_told: refused < told.asked.len() };
        }
        warn_of(&told);
        Unread::Told(if told.is_enough() {
            Ok(of_enough(told))
        } else {
            let (taken, asked) = (told.nodes.len(), told.asked.len());
            Err(LeaseChangeError::TooFew { told: taken, asked, source: told.failed.into_values().next() })
        })
    }

    /// Sends a lease to all nodes that hold the record: those with shards, and the first in the locator's order. A node
    /// that has none gets it.
    pub(crate) async fn tell_signed(
        &self,
        record: &Record,
        (lease, envelope): (Lease, Bytes),
        also: &BTreeSet<NodeName>,
        patience: &Patience,
    ) -> Result<Told, LeaseChangeError> {
        let mut nodes = client::record_holders(record, &self.network.topology.origins());
        nodes.extend(also.iter().cloned());
        let Record { public, sealed, placement, .. } = record.clone();
        let record = Record::of_verified(public, sealed, (lease.clone(), envelope.clone()), placement)
            .expect("a lease that follows that of a record is of the same object");
        let message = Message { lease, envelope, record, held: Mutex::default() };
        let (transport, message) = (self.network.transport.clone(), Arc::new(message));
        let call = |node: NodeName| {
            let (transport, message) = (transport.clone(), message.clone());
            async move { message.send(&*transport, &node).await }
        };
        let told = tell_all(nodes, &self.network.topology, left(&patience.tells), call).await;
        warn_of(&told);
        if !told.nodes.is_empty() {
            answered(&patience.tells);
        }
        let held = message.held.lock().unwrap_or_else(PoisonError::into_inner);
        // However many took it: where a later lease lives on, an erasure has ended nothing, and readers go by the
        // newest that any node has.
        let lives_on = held.iter().any(|held| held.outlives(&message.lease));
        if told.is_enough() && !lives_on {
            return Ok(of_enough(told));
        }
        let passing = told.failed.values().filter(|error| error.is_passing()).count();
        let is_refused = lives_on || told.nodes.len() + passing < told.need;
        if is_refused && let Some(error) = refusal(&message.lease, &held, self.now()) {
            return Err(error);
        }
        let source = told.failed.into_values().min_by_key(|error| error.is_passing() == is_refused);
        Err(LeaseChangeError::TooFew { told: told.nodes.len(), asked: told.asked.len(), source })
    }
}

/// What became of an erasing lease that was sent without a look at the record.
pub(super) enum Unread {
    /// No node refused it.
    Told(Result<Told, LeaseChangeError>),
    /// Some node did, and the record says why; others may have taken it.
    Refused { may_be_told: bool },
}

fn warn_of(told: &client::Told) {
    for (node, error) in &told.failed {
        tracing::warn!(%node, %error, "a node did not take a new lease");
    }
}

fn of_enough(told: client::Told) -> Told {
    let missed = told.asked.difference(&told.nodes).cloned().collect();
    Told { nodes: told.nodes, missed }
}

impl Message {
    /// Sends the lease to one node. A refusal counts as success when the node already holds this very lease, because
    /// nodes that share a catalog get it from each other, or another erasure by this owner.
    async fn send(&self, transport: &dyn Transport, node: &NodeName) -> Result<(), TransportError> {
        let locator = self.record.locator();
        match transport.put_lease(node, &locator, self.envelope.clone()).await {
            Err(TransportError::Refused { status: 404, .. }) if !self.record.is_stripped(0) => {
                transport.put_record(node, &locator, Bytes::from(self.record.encode())).await
            }
            Err(refused @ TransportError::Refused { .. }) => {
                let held = transport.record(node, &locator).await?.and_then(|bytes| Record::decode(&bytes).ok());
                let Some(held) = held.filter(|held| held.lease.owner == self.lease.owner) else { return Err(refused) };
                if held.lease_envelope == self.envelope || (held.lease.erased && self.lease.erased) {
                    return Ok(());
                }
                self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held.lease);
                Err(refused)
            }
            sent => sent,
        }
    }
}

/// Says why nodes that hold these leases of the same owner refuse another at `now`, seconds since 1970; `None` when the
/// leases do not tell. Pure.
fn refusal(asked: &Lease, held: &[Lease], now: u64) -> Option<LeaseChangeError> {
    if held.iter().any(|held| held.erased) {
        return Some(LeaseChangeError::Erased);
    }
    let until = held.iter().map(|held| held.retention.keep_until).max().unwrap_or(0);
    if until > now && asked.erased {
        return Some(LeaseChangeError::Kept { until });
    }
    if until > now && asked.retention.keep_until < until {
        return Some(LeaseChangeError::Shortened { until });
    }
    let version = held.iter().map(|held| held.version).max().filter(|version| *version >= asked.version)?;
    Some(LeaseChangeError::Overtaken { version })
}

#[cfg(test)]
mod tests {
    use format::OwnerSecret;

    use super::*;

    #[test]
    fn what_nodes_hold_says_why_they_refuse() {
        let of = |version, keep_until, erased| Lease {
            retention: Retention { keep_until, expires: 0 },
            erased,
            ..testing::lease(Locator([1; 32]), OwnerSecret::from_bytes([1; 32]).keys().id(), version)
        };
        let says = |asked: &Lease, held: &[Lease]| refusal(asked, held, 100).map(|error| error.to_string());
        let (erasure, renewal) = (of(3, 0, true), of(3, 150, false));
        let text = |error: LeaseChangeError| Some(error.to_string());
        for (held, ends, renews) in [
            (vec![], None, None),
            (vec![of(2, 0, false)], None, None),
            (vec![of(2, 100, false)], None, None),
            (vec![of(2, 120, false)], text(LeaseChangeError::Kept { until: 120 }), None),
            (
                vec![of(2, 120, false), of(2, 200, false)],
                text(LeaseChangeError::Kept { until: 200 }),
                text(LeaseChangeError::Shortened { until: 200 }),
            ),
            (
                vec![of(3, 0, false)],
                text(LeaseChangeError::Overtaken { version: 3 }),
                text(LeaseChangeError::Overtaken { version: 3 }),
            ),
            (vec![of(2, 0, false), of(9, 0, true)], text(LeaseChangeError::Erased), text(LeaseChangeError::Erased)),
        ] {
            assert_eq!((says(&erasure, &held), says(&renewal, &held)), (ends, renews), "{held:?}");
        }
    }
}
