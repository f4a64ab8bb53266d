//! Keeps the copies of records on the own disk as the catalog says, by following the change feed: leases renewed and objects
//! erased through other nodes reach this disk within half a second of their commit. A copy that should be here and is not, on a
//! new or wiped disk or because the cluster has grown, is fetched from the catalog.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use format::{
    Locator, NodeName,
    limits::{CHANGES_WAIT_SECONDS_MAX, PAGE_ENTRIES_MAX},
    rendezvous,
    wire::{ChangeKind, ChangePage},
};
use tokio::time::sleep;

use crate::{
    catalog::CatalogError,
    node::{Lost, Node},
    store::StoreError,
    upkeep::pause,
};

/// Pause after a failure, so that a catalog that is down is not asked in a tight loop.
const PAUSE: Duration = Duration::from_secs(1);
/// Between pages of the walk that looks for missing copies, so that the catalog has time for others.
const PAGE_PAUSE: Duration = Duration::from_millis(100);

/// Why a copy could not be brought up to date; ours, and tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    /// The catalog does not answer.
    #[error("the catalog does not say what the record is now")]
    Catalog(#[from] CatalogError),
    /// The disk failed.
    #[error("the copy of the record cannot be written")]
    Store(#[from] StoreError),
    /// The node is stopping.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Replaces the copy of a record, if one is here, by what the catalog holds.
pub(crate) async fn refresh(node: &Node, locator: Locator) -> Result<(), RefreshError> {
    let held = match node.off_reactor(move |store| store.record(&locator)).await? {
        Ok(None) => return Ok(()),
        Ok(Some(record)) => Some(record.encode()),
        Err(StoreError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(record) = node.catalog.record(&locator).await? else { return Ok(()) };
    if held.is_none_or(|held| held != record.encode()) {
        node.off_reactor(move |store| store.put_record(&record)).await??;
    }
    Ok(())
}

/// Follows the feed until the node stops.
pub(crate) async fn follow(node: Arc<Node>) {
    // What an earlier run did not see is still in the feed; what the feed no longer has is found by looking at every copy.
    let mut since = node.store.feed_position().unwrap_or(0);
    let mut failing = false;
    while !node.stop.is_cancelled() {
        match step(&node, since).await {
            Ok(next) => {
                since = next;
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, since, "the change feed cannot be followed");
                }
                failing = true;
                tokio::select! {
                    biased;
                    () = node.stop.cancelled() => {}
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Applies one page and returns what to ask next. Cancel safe: a page applied twice changes nothing.
async fn step(node: &Arc<Node>, since: u64) -> Result<u64, RefreshError> {
    let wait = Duration::from_secs(CHANGES_WAIT_SECONDS_MAX.into());
    let ChangePage { changes, next, reset } = node.feed.page(since, wait, &node.stop).await?;
    let touched: Vec<Locator> = if reset {
        node.off_reactor(|store| store.records()).await??
    } else {
        let locators = changes.into_iter().filter_map(|change| match change.kind {
            ChangeKind::Record { locator } | ChangeKind::Erased { locator } => Some(locator),
            ChangeKind::Policy { .. } | ChangeKind::Node { .. } => None,
        });
        locators.collect()
    };
    for locator in touched {
        refresh(node, locator).await?;
    }
    if next != since {
        node.off_reactor(move |store| store.put_feed_position(next)).await??;
        node.metrics.feed_position.set(next);
    }
    Ok(next)
}

/// Looks for missing copies at boot, and again whenever origins came or went, until the node stops.
pub(crate) async fn complete_often(node: Arc<Node>) {
    let every = Duration::from_secs(node.config.limits.announce_seconds);
    let mut walked_among = BTreeSet::new();
    while pause(every, &node.stop).await {
        let names: BTreeSet<NodeName> = node.topology.origins().into_iter().map(|origin| origin.name).collect();
        if names == walked_among {
            continue;
        }
        match complete(&node, &names).await {
            Ok(()) => walked_among = names,
            Err(error) => tracing::warn!(%error, "copies of records that may be missing here cannot be looked for"),
        }
    }
}

/// Walks over all living records and fetches those whose copy belongs here. Of the copies beyond the nodes that readers ask,
/// which are there only where an owner's places exclude nearly all nodes, it knows nothing.
async fn complete(node: &Arc<Node>, origins: &BTreeSet<NodeName>) -> Result<(), RefreshError> {
    let (mut after, mut fetched) = (None, 0u64);
    loop {
        let page = node.catalog.locators(None, after.as_ref(), PAGE_ENTRIES_MAX).await?;
        after = page.last().copied();
        for locator in page {
            let order = rendezvous::order(locator.as_bytes(), origins);
            if order.into_iter().take(client::RECORD_NODES_MAX).any(|name| *name == node.config.name) {
                fetched += u64::from(fetch(node, locator).await?);
            }
        }
        if after.is_none() || !pause(PAGE_PAUSE, &node.stop).await {
            break;
        }
    }
    if fetched > 0 {
        tracing::info!(fetched, "copies of records were missing here");
    }
    Ok(())
}

/// Fetches a copy if it belongs here and is missing; returns whether it did.
async fn fetch(node: &Arc<Node>, locator: Locator) -> Result<bool, RefreshError> {
    if node.off_reactor(move |store| store.has_record(&locator)).await? {
        return Ok(false);
    }
    let Some(record) = node.catalog.record(&locator).await? else { return Ok(false) };
    let origins = node.topology.origins();
    if record.lease.erased || !client::record_homes(&record, &origins).contains(&&node.config.name) {
        return Ok(false);
    }
    node.off_reactor(move |store| store.put_record(&record)).await??;
    // What was erased before the copy was here, the feed has told already.
    refresh(node, locator).await?;
    Ok(true)
}
