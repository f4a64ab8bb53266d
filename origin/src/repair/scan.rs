//! The scan: walks over all objects and asks for the repair of those that need it. One origin at a time does it for all; its
//! cursor is in the catalog, so that the next holder goes on where the last one stopped. When a node goes down or is to be
//! emptied, its objects are looked at first.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use format::{NodeName, ObjectId};
use tokio::time::Instant;

use super::{HOLD, may_judge, queue, standing::Standing, standings};
use crate::{
    catalog::{CatalogError, OBJECTS_MAX, ObjectPage},
    node::Node,
    upkeep::pause,
};

const WORK: &str = "scan";
/// Between pages, so that the catalog has time for others: 256 objects in this time are 10^7 in an hour and a half.
const PAGE_PAUSE: Duration = Duration::from_millis(100);
/// Between looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the holder of the scan remembers between its steps.
#[derive(Default)]
struct Walk {
    /// How nodes stood when they were last looked at.
    known: BTreeMap<NodeName, Standing>,
    cursor: Option<ObjectId>,
    /// When the next full walk begins; one is under way when none.
    rest_until: Option<Instant>,
}

/// Scans until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut walk = None;
    while pause(LOOK_EVERY, &node.stop).await {
        match step(&node, walk.take()).await {
            Ok(next) => walk = next,
            Err(error) => tracing::warn!(%error, "the scan for lost shards cannot go on"),
        }
    }
}

/// Takes or keeps the scan, looks at the nodes and walks for a while. Returns what to remember; none when another has it.
async fn step(node: &Arc<Node>, walk: Option<Walk>) -> Result<Option<Walk>, CatalogError> {
    let name = &node.config.name;
    if !may_judge(node) {
        return Ok(walk);
    }
    let Some(cursor) = node.catalog.take_work(WORK, name, HOLD).await? else { return Ok(None) };
    let mut walk = walk.unwrap_or_else(|| Walk { cursor: read_cursor(&cursor), ..Walk::default() });
    look_at_nodes(node, &mut walk).await?;
    if walk.rest_until.is_some_and(|until| Instant::now() < until) {
        return Ok(Some(walk));
    }
    walk.rest_until = None;
    let started = Instant::now();
    while started.elapsed() < LOOK_EVERY {
        let page = node.catalog.objects(walk.cursor.as_ref(), OBJECTS_MAX).await?;
        walk.cursor = page.next;
        look_at(node, page).await?;
        let cursor = walk.cursor.map_or_else(Vec::new, |object| object.0.to_vec());
        if !node.catalog.keep_work(WORK, name, HOLD, &cursor).await? {
            return Ok(None);
        }
        if walk.cursor.is_none() {
            node.metrics.scans.inc();
            walk.rest_until = Some(Instant::now() + Duration::from_secs(node.config.limits.scan_seconds));
            break;
        }
        if !pause(PAGE_PAUSE, &node.stop).await {
            break;
        }
    }
    Ok(Some(walk))
}

fn read_cursor(cursor: &Bytes) -> Option<ObjectId> {
    <[u8; 32]>::try_from(&cursor[..]).ok().map(ObjectId)
}

/// Looks at the objects of nodes that stand worse than before; a node that came back gives given-up repairs another try.
async fn look_at_nodes(node: &Arc<Node>, walk: &mut Walk) -> Result<(), CatalogError> {
    let now = standings(node).await?;
    let changed: Vec<(NodeName, Standing)> = now
        .names()
        .filter(|(name, standing)| walk.known.get(*name) != Some(standing))
        .map(|(name, standing)| (name.clone(), standing))
        .collect();
    for (name, standing) in changed {
        let before = walk.known.get(&name).copied();
        match standing {
            Standing::Up if before.is_some() => {
                tracing::info!(node = %name, "a node is back");
                node.catalog.revive_repairs().await?;
            }
            Standing::Up => {}
            Standing::Down | Standing::Draining => {
                tracing::warn!(node = %name, ?standing, "looking for the shards of a node");
                let mut after = None;
                loop {
                    let page = node.catalog.objects_on(&name, after.as_ref(), OBJECTS_MAX).await?;
                    after = page.next;
                    look_at(node, page).await?;
                    if after.is_none() || !pause(PAGE_PAUSE, &node.stop).await {
                        break;
                    }
                    node.catalog.take_work(WORK, &node.config.name, HOLD).await?;
                }
            }
        }
        walk.known.insert(name, standing);
    }
    Ok(())
}

async fn look_at(node: &Arc<Node>, page: ObjectPage) -> Result<(), CatalogError> {
    if page.objects.is_empty() {
        return Ok(());
    }
    let mut now = standings(node).await?;
    let mut queued = false;
    for row in &page.objects {
        queued |= queue(node, row, &mut now, None).await?;
    }
    if queued {
        node.repair_wanted.notify_one();
    }
    Ok(())
}
