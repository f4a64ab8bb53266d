//! Filing of a record: which nodes hold it, and how it gets there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use format::{Domain, Lease, NodeName, Record, rendezvous, wire::NodeEntry};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{STRAGGLERS, UploadError, by};
use crate::{
    Topology, Transport, TransportError,
    again::{AGAIN_FOR, Pauses},
    reader::RECORD_NODES_MAX,
    topology::silent,
};

/// Copies of the record of an inline object. The record contains the object's bytes, so there are as many copies as the
/// smallest sharded objects have shards.
pub const INLINE_COPIES: usize = 4;

/// Returns the origins that hold a record besides those with shards: the first m + 1 in the locator's rendezvous order,
/// so that the record survives the same losses as the shards. The record of an inline object contains the object's
/// bytes, so the owner's places apply to it as to shards.
#[must_use]
pub fn record_homes<'a>(record: &Record, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let Some(redundancy) = record.public.redundancy() else { return inline_homes(&record.lease, origins) };
    let mut homes = record_order(record, origins);
    homes.truncate(redundancy.parity() + 1);
    homes
}

/// Returns the origins that hold the record of an inline object, which its lease alone tells.
#[must_use]
pub fn inline_homes<'a>(lease: &Lease, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let mut homes = inline_order(lease, origins);
    homes.truncate(INLINE_COPIES);
    homes
}

fn inline_order<'a>(lease: &Lease, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let Lease { wanted, refused, .. } = lease;
    let allowed = origins.iter().filter(|node| Domain::allow(wanted, refused, &node.place));
    rendezvous::order(lease.locator.as_bytes(), allowed.map(|node| &node.name))
}

/// Returns all origins that may hold a record, in the locator's rendezvous order.
fn record_order<'a>(record: &Record, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    if record.public.redundancy().is_none() {
        return inline_order(&record.lease, origins);
    }
    rendezvous::order(record.locator().as_bytes(), origins.iter().map(|node| &node.name))
}

/// Returns all origins that hold a record: its homes and the nodes with shards.
#[must_use]
pub fn record_holders(record: &Record, origins: &[NodeEntry]) -> BTreeSet<NodeName> {
    record_homes(record, origins).into_iter().chain(record.placement.iter().flatten()).cloned().collect()
}

/// Files a record at its holders. A home that does not take it is made up for by the next of the locator's order, as
/// far as readers ask; one that is probably gone comes last. Where these are too few, those that may take it later are
/// asked again for `AGAIN_FOR`: the network is away, or nodes restart. Once more than half have it, the others have
/// `STRAGGLERS` to join. Returns who took it, and who did not.
///
/// # Errors
/// [`UploadError::Record`] when half of them or more did not, [`UploadError::Outlived`] when one that refused it holds
/// a later lease: readers go by the newest that any node has, however many have another.
pub async fn file_record(
    transport: &Arc<dyn Transport>,
    record: &Record,
    topology: &Topology,
) -> Result<Told, UploadError> {
    let origins = topology.origins();
    let (silent, homes) = (silent(&origins), record_homes(record, &origins).len());
    // Readers ask further only where most of these fail.
    let order = record_order(record, &origins).into_iter().take(RECORD_NODES_MAX.max(homes)).cloned();
    let (up, gone): (Vec<_>, Vec<_>) = order.partition(|node| !silent.contains(node));
    let mut order = up.into_iter().chain(gone);
    let mut asked: BTreeSet<NodeName> = order.by_ref().take(homes).collect();
    asked.extend(record.placement.iter().flatten().cloned());
    let (locator, bytes) = (record.locator(), Bytes::from(record.encode()));
    let put = |node: NodeName| {
        let (transport, bytes) = (transport.clone(), bytes.clone());
        async move { transport.put_record(&node, &locator, bytes).await }
    };
    let told = tell(asked, order, AGAIN_FOR, |_| false, put).await;
    if !told.is_enough() {
        return Err(told.into());
    }
    for (node, _) in told.failed.iter().filter(|(_, error)| error.is_conflict()) {
        let held = transport.record(node, &locator).await.ok().flatten();
        let held = held.and_then(|bytes| Record::decode(&bytes).ok()).map(|held| held.lease);
        // Any other lease of this owner is at hand for whoever wants to deny the upload.
        let is_same = |held: &Lease| (held.owner, held.locator) == (record.lease.owner, locator);
        let later = held.filter(|held| is_same(held) && held.outlives(&record.lease));
        if let Some(lease) = later {
            return Err(UploadError::Outlived { node: node.clone(), lease: Box::new(lease) });
        }
    }
    Ok(told)
}

/// What became of a call to many nodes.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Nodes that took it.
    pub nodes: BTreeSet<NodeName>,
    /// All nodes that were asked.
    pub asked: BTreeSet<NodeName>,
    /// How each node failed that did.
    pub failed: BTreeMap<NodeName, TransportError>,
    /// How many have to take it: a majority (quorum), of which any other contains one.
    pub need: usize,
}

impl From<Told> for UploadError {
    fn from(told: Told) -> Self {
        let (stored, asked, need) = (told.nodes.len(), told.asked.len(), told.need);
        Self::Record { stored, asked, need, failed: told.failed.into_values().collect() }
    }
}

impl Told {
    /// Returns whether a majority took it.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.nodes.len() >= self.need
    }
}

/// Makes one call to each of several nodes, with the rules of [`file_record`] but for the homes: while fewer than a
/// majority took it, those that may take it later are asked again for `again_for`, and once it did, the others that are
/// heard of have `STRAGGLERS`. Calls that are under way then go on.
pub async fn tell_all<F>(
    nodes: BTreeSet<NodeName>,
    topology: &Topology,
    again_for: Duration,
    call: impl Fn(NodeName) -> F,
) -> Told
where
    F: Future<Output = Result<(), TransportError>> + Send + 'static,
{
    let gone = silent(&topology.origins());
    tell(nodes, std::iter::empty(), again_for, |node| !gone.contains(node), call).await
}

/// The loop of both. `spare` are the nodes that make up for one that failed; `is_worth` says who is asked again when a
/// majority has it already.
async fn tell<F>(
    mut asked: BTreeSet<NodeName>,
    mut spare: impl Iterator<Item = NodeName>,
    again_for: Duration,
    is_worth: impl Fn(&NodeName) -> bool,
    call: impl Fn(NodeName) -> F,
) -> Told
where
    F: Future<Output = Result<(), TransportError>> + Send + 'static,
{
    let need = asked.len() / 2 + 1;
    // Tasks, so that a straggler continues after the acknowledgement.
    let start = |node: NodeName| {
        let called = tokio::spawn(call(node.clone()));
        async move { (node, called.await) }
    };
    let mut calls: FuturesUnordered<_> = asked.iter().cloned().map(&start).collect();
    let (mut nodes, mut failed) = (BTreeSet::new(), BTreeMap::new());
    let (mut until, mut pauses, again_until) = (None, Pauses::begin(), Instant::now() + again_for);
    while let Ok(called) = by(until, calls.next()).await {
        match called {
            None => {
                let (is_most, end) = (nodes.len() >= need, until.unwrap_or(again_until));
                let may_pass =
                    |node: &NodeName, error: &mut TransportError| error.is_passing() && (!is_most || is_worth(node));
                if Instant::now() >= end {
                    break;
                }
                let again: Vec<NodeName> = failed.extract_if(.., may_pass).map(|(node, _)| node).collect();
                if again.is_empty() {
                    break;
                }
                pauses.next(end).await;
                calls.extend(again.into_iter().map(&start));
            }
            Some((node, Ok(Ok(())))) => drop(nodes.insert(node)),
            Some((node, Ok(Err(error)))) => {
                failed.insert(node, error);
                if let Some(next) = spare.by_ref().find(|node| asked.insert(node.clone())) {
                    calls.push(start(next));
                }
            }
            Some((_, Err(_))) => {}
        }
        if nodes.len() >= need && until.is_none() {
            until = Some(Instant::now() + STRAGGLERS);
        }
    }
    Told { nodes, asked, failed, need }
}
