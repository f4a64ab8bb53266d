//! At boot a node compares what the catalog says of it with what lies on its disk: a shard that became durable just
//! before a crash gets its row, a row whose shard is gone (a folder deleted, a disk replaced) is taken back and its
//! object repaired.

use std::{collections::VecDeque, sync::Arc};

use format::ObjectId;

use crate::{
    catalog::{RepairCause, ShardRow},
    copies::RefreshError,
    node::Node,
    repair,
    store::{HeldShard, ShardId},
};

/// Shards compared at a time, of each side.
const PAGE: usize = 1000;

/// Walks both sides in the order of their names. Safe beside uploads and sweeps: what changes under it is looked at
/// once more before anything is taken back.
pub(crate) async fn reconcile(node: &Arc<Node>) -> Result<(), RefreshError> {
    let (mut placed, mut lost) = (0u64, 0u64);
    let (mut disk, mut rows) = (Side::default(), Side::default());
    while !node.stop.is_cancelled() {
        if disk.wants_more() {
            let after = disk.last.map(|(object, column)| ShardId { object, column });
            let page = node.off_reactor(move |store| store.shards(after.as_ref(), PAGE)).await??;
            disk.take(page, |held: &HeldShard| (held.shard.object, held.shard.column));
        }
        if rows.wants_more() {
            let page = node.catalog.shards_on(&node.config.name, rows.last, PAGE).await?;
            rows.take(page, |row: &ShardRow| (row.object, row.column));
        }
        let (held, row) = (disk.page.front(), rows.page.front());
        let first = match (held, row) {
            (None, None) => break,
            (Some((held, _)), Some((row, _))) => *held.min(row),
            (Some((one, _)), None) | (None, Some((one, _))) => *one,
        };
        let (object, column) = first;
        let held = disk.page.pop_front_if(|(name, _)| *name == first);
        let row = rows.page.pop_front_if(|(name, _)| *name == first);
        match (held, row) {
            (Some((_, shard)), None) => {
                let found = ShardRow { node: node.config.name.clone(), object, column, bytes: shard.bytes };
                node.catalog.place_shard(&found).await?;
                placed += 1;
                // It may have left since the page of the disk was read: for quarantine, or as surplus.
                if !node.off_reactor(move |store| store.has_shard(&object, column)).await?? {
                    repair::lost(node, &found, RepairCause::Scan).await?;
                }
            }
            // It may have come since the page of the disk was read.
            (None, Some((_, row))) if !node.off_reactor(move |store| store.has_shard(&object, column)).await?? => {
                repair::lost(node, &row, RepairCause::Scan).await?;
                lost += 1;
            }
            _ => {}
        }
    }
    if placed + lost > 0 {
        tracing::warn!(placed, lost, "disk and catalog differed");
    }
    Ok(())
}

/// One side of the comparison, a page at a time.
struct Side<T> {
    page: VecDeque<((ObjectId, usize), T)>,
    last: Option<(ObjectId, usize)>,
    ended: bool,
}

impl<T> Default for Side<T> {
    fn default() -> Self {
        Self { page: VecDeque::new(), last: None, ended: false }
    }
}

impl<T> Side<T> {
    fn wants_more(&self) -> bool {
        self.page.is_empty() && !self.ended
    }

    fn take(&mut self, page: Vec<T>, name: impl Fn(&T) -> (ObjectId, usize)) {
        self.ended = page.len() < PAGE;
        self.last = page.last().map(&name).or(self.last);
        self.page = page.into_iter().map(|it| (name(&it), it)).collect();
    }
}
