//! Keeps the copies of records on the own disk as the catalog says, by following the change feed: leases renewed and objects
//! erased through other nodes reach this disk within half a second of their commit.

use std::{sync::Arc, time::Duration};

use format::{
    Locator,
    limits::CHANGES_WAIT_SECONDS_MAX,
    wire::{ChangeKind, ChangePage},
};
use tokio::time::sleep;

use crate::{
    catalog::CatalogError,
    node::{Lost, Node},
    store::StoreError,
};

/// Pause after a failure, so that a catalog that is down is not asked in a tight loop.
const PAUSE: Duration = Duration::from_secs(1);

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
