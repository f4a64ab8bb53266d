//! Filing of a record: which nodes hold it, and how it gets there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use format::{Domain, Lease, NodeName, Record, rendezvous, wire::NodeEntry};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep};

use super::{
    STRAGGLERS, UploadError, by,
    lane::{AGAIN_FIRST, AGAIN_FOR, AGAIN_LAST},
};
use crate::{Topology, Transport, TransportError, reader::RECORD_NODES_MAX, topology::silent};

/// Copies of the record of an inline object. The record contains the object's bytes, so there are as many copies as the
/// smallest sharded objects have shards.
const INLINE_COPIES: usize = 4;

/// Returns the origins that hold a record besides those with shards: the first m + 1 in the locator's rendezvous order,
/// so that the record survives the same losses as the shards. The record of an inline object contains the object's
/// bytes, so the owner's places apply to it as to shards.
#[must_use]
pub fn record_homes<'a>(record: &Record, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let copies = record.public.redundancy().map_or(INLINE_COPIES, |redundancy| redundancy.parity() + 1);
    let mut homes = record_order(record, origins);
    homes.truncate(copies);
    homes
}

/// Returns all origins that may hold a record, in the locator's rendezvous order.
fn record_order<'a>(record: &Record, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let is_sharded = record.public.redundancy().is_some();
    let Lease { wanted, refused, .. } = &record.lease;
    let allowed = origins.iter().filter(|node| is_sharded || Domain::allow(wanted, refused, &node.place));
    rendezvous::order(record.locator().as_bytes(), allowed.map(|node| &node.name))
}

/// Returns all origins that hold a record: its homes and the nodes with shards.
#[must_use]
pub fn record_holders(record: &Record, origins: &[NodeEntry]) -> BTreeSet<NodeName> {
    record_homes(record, origins).into_iter().chain(record.placement.iter().flatten()).cloned().collect()
}

/// Files a record at its holders. A home that does not take it is made up for by the next of the locator's order, as
/// far as readers ask; one that is probably gone comes last. Where these are too few, those that may take it later are
/// asked again for `AGAIN_FOR`: the network is away, or nodes restart. Once more than half have it, the others have
/// `STRAGGLERS` to join. Returns how many took it.
///
/// # Errors
/// [`UploadError::Record`] when half of them or more did not.
pub async fn file_record(
    transport: &Arc<dyn Transport>,
    record: &Record,
    topology: &Topology,
) -> Result<usize, UploadError> {
    let origins = topology.origins();
    let (silent, homes) = (silent(&origins), record_homes(record, &origins).len());
    // Readers ask no further than this.
    let order = record_order(record, &origins).into_iter().take(RECORD_NODES_MAX.max(homes)).cloned();
    let (up, gone): (Vec<_>, Vec<_>) = order.partition(|node| !silent.contains(node));
    let mut order = up.into_iter().chain(gone);
    let mut asked: BTreeSet<NodeName> = order.by_ref().take(homes).collect();
    asked.extend(record.placement.iter().flatten().cloned());
    let need = asked.len() / 2 + 1;

    let (locator, bytes) = (record.locator(), Bytes::from(record.encode()));
    // Tasks, so that a straggler continues after the acknowledgement.
    let put = |node: NodeName| {
        let (transport, bytes) = (transport.clone(), bytes.clone());
        tokio::spawn(async move {
            let filed = transport.put_record(&node, &locator, bytes).await;
            (node, filed)
        })
    };
    let mut puts: FuturesUnordered<_> = asked.iter().cloned().map(put).collect();
    let (mut stored, mut failed, mut until) = (0, BTreeMap::new(), None);
    let (mut pause, again_until) = (AGAIN_FIRST, Instant::now() + AGAIN_FOR);
    while let Ok(filed) = by(until, puts.next()).await {
        match filed {
            None => {
                let passing =
                    failed.extract_if(.., |_, error: &mut TransportError| error.is_retryable() && !error.is_full());
                let again: Vec<NodeName> = match stored < need && Instant::now() < again_until {
                    true => passing.map(|(node, _)| node).collect(),
                    false => break,
                };
                if again.is_empty() {
                    break;
                }
                sleep(pause).await;
                pause = (pause * 2).min(AGAIN_LAST);
                puts.extend(again.into_iter().map(put));
            }
            Some(Ok((_, Ok(())))) => stored += 1,
            Some(Ok((node, Err(error)))) => {
                failed.insert(node, error);
                if let Some(next) = order.by_ref().find(|node| asked.insert(node.clone())) {
                    puts.push(put(next));
                }
            }
            Some(Err(_)) => {}
        }
        if stored >= need && until.is_none() {
            until = Some(Instant::now() + STRAGGLERS);
        }
    }
    let (asked, failed) = (asked.len(), failed.into_values().collect());
    if stored < need { Err(UploadError::Record { stored, asked, need, failed }) } else { Ok(stored) }
}
