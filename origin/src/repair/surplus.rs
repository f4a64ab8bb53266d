//! What a node holds and need not: columns that were moved or made again elsewhere while it was to be emptied, down, in
//! the wrong place or too full, and parity that a renewed lease no longer wants. Each node removes its own, after it
//! has read a proven strip of the same column from the node that keeps it; of parity that is too much, a strip of every
//! other column.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::{ShardAsk, verify_slice};
use format::{NodeName, PublicManifest};
use tokio::time::Instant;

use super::{diagnose, standings};
use crate::{
    catalog::{OBJECTS_MAX, ShardRow},
    copies::RefreshError,
    node::Node,
    upkeep::pause,
};

/// Between looks while the node is to be emptied: its operator waits for it.
const DRAIN_LOOK: Duration = Duration::from_secs(2);

/// Removes surplus until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let often = Duration::from_secs(node.config.limits.scan_seconds);
    let mut swept = Instant::now();
    while pause(often.min(DRAIN_LOOK), &node.stop).await {
        if !node.is_draining() && swept.elapsed() < often {
            continue;
        }
        swept = Instant::now();
        if let Err(error) = sweep(&node).await {
            tracing::warn!(%error, "what is surplus here cannot be removed");
        }
    }
}

async fn sweep(node: &Arc<Node>) -> Result<(), RefreshError> {
    let me = &node.config.name;
    let mut after = None;
    loop {
        let page = node.catalog.objects_on(me, after.as_ref(), OBJECTS_MAX).await?;
        let mut standings = standings(node).await?;
        for row in &page.objects {
            let doubled = |column: usize| row.shards.iter().filter(|(held, _)| *held == column).count() > 1;
            let unwanted = |column: usize| column >= row.public.columns();
            // Nobody reads a shard without a strip, so nobody needs to have it before it goes.
            let empty = |column: usize| !unwanted(column) && row.public.column_strips(column) == 0;
            let is_mine = |(column, at): &&(usize, NodeName)| {
                at == me && (doubled(*column) || unwanted(*column) || empty(*column))
            };
            let mine: Vec<usize> = row.shards.iter().filter(is_mine).map(|(column, _)| *column).collect();
            if mine.is_empty() {
                continue;
            }
            let found = diagnose(row, &mut standings);
            for column in mine {
                if empty(column) {
                    remove(node, &row.public, column).await?;
                    continue;
                }
                // Until all that is wanted lies well, what is not wanted may still be needed.
                let keepers: Vec<&(usize, NodeName)> = if unwanted(column) {
                    found.kept.iter().filter(|_| found.is_well()).collect()
                } else {
                    found.kept.iter().filter(|(kept, keeper)| *kept == column && keeper != me).collect()
                };
                if !keepers.is_empty() && all_hold(node, &keepers, &row.public).await {
                    remove(node, &row.public, column).await?;
                }
            }
        }
        after = page.next;
        if after.is_none() || node.stop.is_cancelled() {
            return Ok(());
        }
    }
}

/// Whether every node proves its column, asked one after the other.
async fn all_hold(node: &Node, keepers: &[&(usize, NodeName)], public: &PublicManifest) -> bool {
    for (column, keeper) in keepers {
        if !holds(node, keeper, public, *column).await {
            return false;
        }
    }
    true
}

/// Whether a node proves the last strip of a column: its disk has the list and the whole length.
async fn holds(node: &Node, keeper: &NodeName, public: &PublicManifest, column: usize) -> bool {
    let Some(first) = public.column_strips(column).checked_sub(1) else { return true };
    let ask = ShardAsk { object: public.id(), column, first, count: 1 };
    let read = node.transport.read_shard(keeper, ask).await;
    read.is_ok_and(|body| verify_slice(public, ask, body).is_some())
}

async fn remove(node: &Arc<Node>, public: &PublicManifest, column: usize) -> Result<(), RefreshError> {
    let (object, bytes) = (public.id(), public.shard_bytes(column));
    // The row first: a shard without a row is found at the next boot, a row without its shard would send readers in
    // vain.
    let row = ShardRow { node: node.config.name.clone(), object, column, bytes };
    node.catalog.lose_shard(&row).await?;
    match node.off_reactor(move |store| store.remove_shard(&object, column, SystemTime::now())).await? {
        // The others do not wait for it. The next comparison of disk and catalog files its row anew.
        Err(error) if error.is_of_one_file() => {
            tracing::warn!(%object, column, %error, "a shard that another node keeps cannot be removed");
            return Ok(());
        }
        done => done?,
    };
    // A comparison of disk and catalog that saw it here may have filed the row anew.
    node.catalog.lose_shard(&row).await?;
    tracing::info!(%object, column, "removed a shard that another node keeps");
    Ok(())
}
