//! Repair: what is lost is made again elsewhere, what lies wrong moves, and nobody leads.
//!
//! ```text
//! scan (one origin at a time, a cursor in the catalog) -> Diagnosis -> repair queue
//! balance (when nodes are filled unequally)            -> repair queue, after everything else
//! tickets (readers' words, each verified here first)   -> lose the shard -> repair queue
//! scrub, boot (a node's own disk)                      -> lose the shard -> repair queue
//! repair queue -> workers of every origin, the least margin first -> client::repair -> new node, record, feed
//! surplus (each node for its own disk): what moved is removed here once it is proven elsewhere
//! ```
//!
//! A repairer sees ciphertext and roots. What it makes is checked against the root by the node that takes it, so a
//! repairer that lies wastes time and nothing else.

mod balance;
mod census;
mod diagnosis;
mod outlook;
#[cfg(test)]
mod sample;
mod scan;
mod standing;
mod surplus;
mod tickets;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use format::{
    Locator, NodeName, ObjectId, Record,
    wire::{ColumnHealth, ColumnState, DrainPage, NodeEntry, ObjectHealth},
};

use self::{diagnosis::Diagnosis, standing::Standings};
use crate::{
    api::causes,
    catalog::{CatalogError, OBJECTS_MAX, ObjectRow, RepairAsk, RepairCause, Revival, ShardRow},
    copies::RefreshError,
    node::Node,
    reconcile::reconcile,
    run::know_catalog,
    upkeep::pause,
};

/// How long a taken piece of work is held without a word: what a killed repairer delays its work.
const HOLD: Duration = Duration::from_secs(30);
/// Between words that the work goes on.
const KEEP_EVERY: Duration = Duration::from_secs(10);
const _: () = assert!(KEEP_EVERY.as_secs() * 2 < HOLD.as_secs());

/// Pause before disk and catalog are compared again, when the catalog was not there.
const RECONCILE_AGAIN: Duration = Duration::from_secs(5);

/// Compares the own disk with the catalog, then starts all tasks of repair.
pub(crate) fn spawn(node: &Arc<Node>) {
    node.tasks.spawn(compare(node.clone()));
    node.tasks.spawn(scan::run(node.clone()));
    node.tasks.spawn(tickets::run(node.clone()));
    node.tasks.spawn(surplus::run(node.clone()));
    for _ in 0..node.config.limits.repairs_max {
        node.tasks.spawn(worker::run(node.clone()));
    }
}

/// Compares the own disk with the catalog, once that is there and is the one that knows the disk.
pub(crate) async fn compare(node: Arc<Node>) {
    while let Err(error) = compare_once(&node).await {
        tracing::warn!(error = causes(&error), "disk and catalog cannot be compared");
        if !pause(RECONCILE_AGAIN, &node.stop).await {
            return;
        }
    }
    node.reconciled.store(true, Ordering::Relaxed);
}

async fn compare_once(node: &Arc<Node>) -> Result<(), RefreshError> {
    know_catalog(node).await?;
    reconcile(node).await
}

/// Returns how all nodes stand now.
async fn standings(node: &Node) -> Result<Standings, CatalogError> {
    standings_if(node, |_| {}).await
}

/// Returns how all nodes would stand now if what `change` says were so.
async fn standings_if(node: &Node, change: impl Fn(&mut NodeEntry)) -> Result<Standings, CatalogError> {
    let limits = &node.config.limits;
    // The nodes before the clock: who announces itself in between is not older than it is.
    let (mut nodes, now) = (node.catalog.nodes().await?, node.catalog_now().await?);
    nodes.iter_mut().for_each(change);
    let grace = if may_judge(node) { Duration::from_secs(limits.down_seconds) } else { Duration::MAX };
    Ok(Standings::judge(nodes, now, grace, Duration::from_secs(limits.announce_seconds)))
}

/// Whether the catalog's clock says who is down. Nothing is repaired, and no repair ends, on a view in which nobody can
/// be.
fn may_judge(node: &Node) -> bool {
    node.clock().may_judge(tokio::time::Instant::now())
}

/// Judges an object.
fn diagnose(row: &ObjectRow, standings: &mut Standings) -> Diagnosis {
    let caps = row.public.redundancy().map(|redundancy| standings.caps(redundancy, &row.lease));
    Diagnosis::of(row, standings, &caps.unwrap_or_default())
}

/// Asks for the repair of an object whose diagnosis says so, or at once when `cause` is given and anything is wrong
/// with it.
async fn queue(
    node: &Node,
    row: &ObjectRow,
    standings: &mut Standings,
    cause: Option<RepairCause>,
) -> Result<bool, CatalogError> {
    let found = diagnose(row, standings);
    let Some(cause) = cause.filter(|_| !found.is_well()).or(found.act) else { return Ok(false) };
    ask(node, row, &found, cause).await?;
    Ok(true)
}

/// Asks for the repair of an object.
async fn ask(node: &Node, row: &ObjectRow, found: &Diagnosis, cause: RepairCause) -> Result<(), CatalogError> {
    let bytes = found.bytes(&row.public);
    let only_lost = if found.displaced.is_empty() { found.lost.clone() } else { vec![] };
    let ask = RepairAsk { object: row.id(), margin: found.margin, bytes, cause, target: None, only_lost };
    node.catalog.queue_repair(&ask).await?;
    Ok(())
}

/// Notes that a shard is not, or no longer, where the catalog says, and asks for its repair.
pub(crate) async fn lost(node: &Node, shard: &ShardRow, cause: RepairCause) -> Result<(), CatalogError> {
    tracing::warn!(object = %shard.object, column = shard.column, at = %shard.node, %cause, "a shard is lost");
    node.catalog.lose_shard(shard).await?;
    let object: ObjectId = shard.object;
    if let Some(row) = node.catalog.object(&object).await? {
        queue(node, &row, &mut standings(node).await?, Some(cause)).await?;
    }
    node.repair_wanted.notify_one();
    Ok(())
}

/// Asks for the repair of an object whose lease changed, when its shards lie where the lease does not want them. What
/// was given up under the lease before, or rests, is tried by the new one; after the repairs of others, so that an
/// owner who signs lease after lease keeps nobody waiting.
pub(crate) async fn look_at(node: &Node, locator: &Locator) -> Result<(), CatalogError> {
    let Some(record) = node.catalog.record(locator).await? else { return Ok(()) };
    // What lies inside its record has no shards, and nothing that could be repaired or moved.
    if record.public.redundancy().is_none() {
        return Ok(());
    }
    let Some(row) = node.catalog.object(&record.public.id()).await? else { return Ok(()) };
    let revived = node.catalog.revive_repairs(Revival::Lease(&row.id())).await? > 0;
    if queue(node, &row, &mut standings(node).await?, None).await? || revived {
        node.repair_wanted.notify_one();
    }
    Ok(())
}

/// Says of a page of the objects that have shards on a node what becomes of these when it is emptied.
pub(crate) async fn outlook(node: &Node, name: &NodeName, after: Option<&ObjectId>) -> Result<DrainPage, CatalogError> {
    let page = node.catalog.objects_on(name, after, OBJECTS_MAX).await?;
    let held = node.catalog.shard_totals(name).await?;
    let mut standings = standings_if(node, |entry| entry.draining |= entry.name == *name).await?;
    let mut given_up = BTreeMap::new();
    for row in &page.objects {
        if let Some(dead) = node.catalog.dead_repair(&row.id()).await? {
            given_up.insert(dead.object, dead.error);
        }
    }
    Ok(DrainPage { held_bytes: held.bytes, ..outlook::of(name, &page, &given_up, &mut standings) })
}

/// Returns how an object is.
pub(crate) async fn health(node: &Node, record: &Record) -> Result<ObjectHealth, CatalogError> {
    let object = record.public.id();
    let row = node.catalog.object(&object).await?;
    let public = row.as_ref().map_or(&record.public, |row| &row.public);
    let redundancy = public.redundancy().map(|redundancy| redundancy.to_string());
    let Some(row) = &row else {
        return Ok(ObjectHealth { object, redundancy, margin: 0, columns: Vec::new(), repair: None });
    };
    let found = diagnose(row, &mut standings(node).await?);
    let is_in = |list: &[(usize, NodeName)], column| list.iter().any(|(held, _)| *held == column);
    let columns = (0..public.columns()).map(|column| ColumnHealth {
        state: if public.column_strips(column) == 0 {
            ColumnState::Empty
        } else if is_in(&found.kept, column) {
            ColumnState::Healthy
        } else if is_in(&found.displaced, column) {
            ColumnState::Displaced
        } else {
            ColumnState::Lost
        },
        nodes: row.shards.iter().filter(|(held, _)| *held == column).map(|(_, at)| at.clone()).collect(),
        bytes: public.shard_bytes(column),
    });
    let repair = found.act.map(|cause| cause.to_string());
    Ok(ObjectHealth { object, redundancy, margin: found.margin, columns: columns.collect(), repair })
}
