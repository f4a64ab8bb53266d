//! What an origin does by the clock: it announces itself, drops idle uploads, ends leases that are past their expiry,
//! removes the shards of erased objects once their grace is over, and rewrites packs of which little is left.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use format::ObjectId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Applied, ShardRow},
    copies::RefreshError,
    node::Node,
    refusals, retention,
    store::StoreError,
};

/// Dead shards that the catalog names at once.
const DEAD_MAX: usize = 256;
/// How long a sweep removes dead shards; the next one goes on at once. So a large erasure takes as long as its shards
/// do, and keeps no other step of a sweep, and no look at the clock, from its turn for longer than this.
const REMOVING: Duration = Duration::from_secs(20);

/// Announces the node until it stops.
pub(crate) async fn announce_often(node: Arc<Node>) {
    let every = Duration::from_secs(node.config.limits.announce_seconds);
    let mut news = 0;
    while pause(every, &node.stop).await {
        match announce(&node).await {
            Ok(Applied::Unchanged) => news = 0,
            // Once: the catalog was restored, or the operator drains the node. Twice in a row: somebody says otherwise
            // in between.
            Ok(Applied::Stored) => {
                news += 1;
                if news > 1 {
                    tracing::error!(
                        node = %node.config.name, address = %node.address,
                        "another origin announces itself under this node's name; stop one, a name and its certificate are for one node"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "the node cannot be announced"),
        }
    }
}

/// Announces the node once, and reads who else there is. Returns whether that was news to the catalog.
pub(crate) async fn announce(node: &Arc<Node>) -> Result<Applied, RefreshError> {
    let asked = node.clone();
    let entry = node.off_reactor(move |_| asked.entry()).await??;
    let applied = node.catalog.announce(&entry).await?;
    node.catalog_now().await?;
    refusals::agree(node).await?;
    if let Some(membership) = &node.membership {
        node.metrics.certificate_ends.set(membership.ends());
    }
    node.topology.replace(node.catalog.nodes().await?);
    Ok(applied)
}

/// Sweeps until the node stops.
pub(crate) async fn sweep_often(node: Arc<Node>) {
    let every = Duration::from_secs(node.config.limits.sweep_seconds);
    let mut removed = None;
    while pause(if removed.is_some() { Duration::ZERO } else { every }, &node.stop).await {
        sweep(&node, &mut removed).await;
    }
}

/// Takes each step, whatever became of those before it: a disk or a catalog that fails one must not keep the node from
/// the others for as long as it fails. `removed` is how far the removal of dead shards came that has more to do.
async fn sweep(node: &Arc<Node>, removed: &mut Option<(ObjectId, usize)>) {
    let log = |step: &'static str, done: Result<(), RefreshError>| {
        if let Err(error) = done {
            tracing::warn!(step, %error, "a step of a sweep failed; the next sweep takes it again");
        }
    };
    log("idle uploads", end_uploads(node).await);
    log("what is to be destroyed", destroy(node, removed).await);
    // One pack at a time: it is up to 256 MiB of copying, and the next sweep is soon.
    let compacted = node.off_reactor(|store| store.compact()).await;
    log("a pack", compacted.map_err(Into::into).and_then(|pack| Ok(pack.map(drop)?)));
    log("old changes", node.catalog.purge().await.map(drop).map_err(Into::into));
    log("a count", node.recount().await.map_err(Into::into));
}

async fn end_uploads(node: &Arc<Node>) -> Result<(), RefreshError> {
    let (swept, idle) = (node.clone(), node.config.limits.upload_idle());
    let kept = node.off_reactor(move |store| {
        swept.uploads.sweep(idle, swept.resting_bytes_max()?, Instant::now());
        store.keep_ballast();
        Ok::<_, StoreError>(())
    });
    Ok(kept.await??)
}

/// Ends leases and removes dead shards, while the clock can be trusted: what is destroyed does not come back when it is
/// put right again.
async fn destroy(node: &Arc<Node>, removed: &mut Option<(ObjectId, usize)>) -> Result<(), RefreshError> {
    // After a failure the next sweep begins anew, in its time.
    let after = removed.take();
    let grace = Duration::from_secs(node.config.limits.erase_grace_seconds);
    node.catalog_now().await?;
    if node.clock().may_destroy(Instant::now(), grace) {
        retention::end_leases(node).await?;
        *removed = remove_dead_shards(node, grace, after).await?;
    }
    Ok(())
}

/// Removes dead shards from the one after `after` on, and returns how far it came when its time is over. One that
/// cannot be removed keeps none of the others: the walk passes it, and the next one finds it again.
async fn remove_dead_shards(
    node: &Arc<Node>,
    grace: Duration,
    mut after: Option<(ObjectId, usize)>,
) -> Result<Option<(ObjectId, usize)>, RefreshError> {
    let until = Instant::now() + REMOVING;
    loop {
        let dead = node.catalog.dead_shards(&node.config.name, grace, after, DEAD_MAX).await?;
        let is_last = dead.len() < DEAD_MAX;
        for shard in dead {
            after = Some((shard.object, shard.column));
            remove_dead_shard(node, grace, &shard).await?;
            if node.stop.is_cancelled() || Instant::now() >= until {
                return Ok(after);
            }
        }
        if is_last {
            return Ok(None);
        }
    }
}

async fn remove_dead_shard(node: &Arc<Node>, grace: Duration, shard: &ShardRow) -> Result<(), RefreshError> {
    let (object, column) = (shard.object, shard.column);
    let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    match node.off_reactor(move |store| store.remove_shard(&object, column, before)).await? {
        Ok(true) => {
            // The row last: one whose shard is gone already is found and removed again.
            node.catalog.forget_shard(shard, grace).await?;
            tracing::info!(%object, column, "removed a shard of an erased object");
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%object, column, %error, "a shard of an erased object cannot be removed"),
    }
    Ok(())
}

/// Waits; false when the node stops.
pub(crate) async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}
