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
    refusals, repair, retention,
    run::know_catalog,
    store::StoreError,
};

/// Dead shards that the catalog names at once.
const DEAD_MAX: usize = 256;
/// A node without a word for so long does not come back, as far as dead shards go: what is noted of them is looked at
/// in each sweep of every node. One that does come back finds them on its disk.
const GONE: Duration = Duration::from_secs(30 * 24 * 3600);
/// After a time without the catalog that is longer than this, what it notes of this node's shards is compared with the
/// disk: it may have forgotten some of them.
const AWAY: Duration = Duration::from_secs(24 * 3600);
/// Dead objects of which a sweep looks for shards on nodes that are gone.
const GONE_MAX: usize = 1_000;
/// How long a sweep removes dead shards; the next one goes on at once. So a large erasure takes as long as its shards
/// do, and keeps no other step of a sweep, and no look at the clock, from its turn for longer than this.
const REMOVING: Duration = Duration::from_secs(20);
/// After so many dead shards in a row that could not be removed, the next sweep goes on in its time: the disk is
/// read-only, or the key of a bucket may not remove.
const FAILED_MAX: usize = 16;

/// How far the removal of dead shards came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Removal {
    /// The last one that it looked at; none: it came to the end.
    after: Option<(ObjectId, usize)>,
    /// Those of the last run that could not be removed.
    failed: usize,
    /// Of these, the last ones in a row.
    failed_in_row: usize,
}

impl Removal {
    /// Begins a run, where the one before ended.
    fn next(self) -> Self {
        Self { after: self.after, ..Self::default() }
    }

    /// Counts a shard, whose removal failed or not.
    fn count(&mut self, shard: &ShardRow, failed: bool) {
        self.after = Some((shard.object, shard.column));
        self.failed += usize::from(failed);
        self.failed_in_row = if failed { self.failed_in_row + 1 } else { 0 };
    }

    fn gave_up(&self) -> bool {
        self.failed_in_row >= FAILED_MAX
    }

    /// Returns whether the next run is due at once.
    fn goes_on(&self) -> bool {
        self.after.is_some() && !self.gave_up()
    }
}

/// How far walks came that take several sweeps.
#[derive(Debug, Default)]
struct Came {
    removal: Removal,
    /// The dead object that was looked at last for nodes that are gone.
    gone: Option<ObjectId>,
}

/// Announces the node until it stops.
pub(crate) async fn announce_often(node: Arc<Node>) {
    let every = Duration::from_secs(node.config.limits.announce_seconds);
    let (mut news, mut heard) = (0, (Instant::now(), SystemTime::now()));
    while pause(every, &node.stop).await {
        let announced = announce(&node).await;
        if announced.is_ok() && was_away(&mut heard, (Instant::now(), SystemTime::now())) {
            tracing::info!("the catalog is there again after more than a day: the disk is compared with it");
            node.tasks.spawn(repair::compare(node.clone()));
        }
        match announced {
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
            Err(RefreshError::Strange(error)) => tracing::error!(%error, "only reads are served until then"),
            Err(error) => tracing::warn!(%error, "the node cannot be announced"),
        }
    }
}

/// Notes that the catalog answers `now`, and returns whether it had not for long since it was `heard` of, by either
/// clock: one stands still while the machine sleeps, the other may be set.
fn was_away(heard: &mut (Instant, SystemTime), now: (Instant, SystemTime)) -> bool {
    let before = std::mem::replace(heard, now);
    let by_the_wall = now.1.duration_since(before.1).unwrap_or_default();
    now.0.saturating_duration_since(before.0).max(by_the_wall) > AWAY
}

/// Announces the node once to the catalog that knows its disk, and reads who else there is. Returns whether that was
/// news to the catalog.
pub(crate) async fn announce(node: &Arc<Node>) -> Result<Applied, RefreshError> {
    know_catalog(node).await?;
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
    let mut came = Came::default();
    while pause(if came.removal.goes_on() { Duration::ZERO } else { every }, &node.stop).await {
        sweep(&node, &mut came).await;
    }
}

/// Takes each step, whatever became of those before it: a disk or a catalog that fails one must not keep the node from
/// the others for as long as it fails.
async fn sweep(node: &Arc<Node>, came: &mut Came) {
    let log = |step: &'static str, done: Result<(), RefreshError>| {
        if let Err(error) = done {
            tracing::warn!(step, %error, "a step of a sweep failed; the next sweep takes it again");
        }
    };
    log("idle uploads", end_uploads(node).await);
    log("counts of shards", node.catalog.fold().await.map_err(Into::into));
    // After a failure the removal of dead shards begins anew, in its time.
    let removal = std::mem::take(&mut came.removal).next();
    let trusted = trusted_now(node).await;
    if let Ok(Some(now)) = trusted {
        let ended = retention::end_leases(node, now, Instant::now() + REMOVING).await;
        log("leases that ended", ended.map_err(Into::into));
        let before = now.saturating_sub(node.config.limits.erase_grace_seconds);
        let removed = remove_dead_shards(node, before, removal).await;
        log("dead shards", removed.map(|removal| came.removal = removal));
        let silent = now.saturating_sub(GONE.as_secs());
        log("shards of nodes that are gone", abandon(node, before, silent, &mut came.gone).await);
        log("silent edges", forget_edges(node, silent).await);
    }
    log("the catalog's clock", trusted.map(drop));
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

/// Returns the second since 1970 by which leases end and what is dead is removed, if the clock can be trusted with it:
/// what is destroyed does not come back when it is put right again. A clock that is set later in the sweep counts in
/// none of its steps.
async fn trusted_now(node: &Arc<Node>) -> Result<Option<u64>, RefreshError> {
    let now = node.catalog_now().await?;
    node.note_clock().await;
    Ok(Some(now).filter(|_| node.knows_catalog() && node.clock().may_destroy(Instant::now())))
}

/// Forgets dead shards of nodes that are gone, from where the sweep before came to.
async fn abandon(node: &Arc<Node>, before: u64, silent: u64, came: &mut Option<ObjectId>) -> Result<(), RefreshError> {
    let abandoned = node.catalog.abandon_shards(before, silent, came.as_ref(), GONE_MAX).await?;
    *came = abandoned.after;
    if abandoned.shards > 0 {
        tracing::info!(abandoned = abandoned.shards, "shards of erased objects on nodes that are gone are forgotten");
    }
    Ok(())
}

async fn forget_edges(node: &Arc<Node>, silent: u64) -> Result<(), RefreshError> {
    let edges = node.catalog.forget_edges(silent).await?;
    if edges > 0 {
        tracing::info!(edges, "edges that were silent for 30 days are off the list of nodes");
    }
    Ok(())
}

/// Removes dead shards from where the run before came to, until its time is over. One that cannot be removed keeps none
/// of the others: the walk passes it, and the next one finds it again.
async fn remove_dead_shards(node: &Arc<Node>, before: u64, mut removal: Removal) -> Result<Removal, RefreshError> {
    let until = Instant::now() + REMOVING;
    let mut last = None;
    'run: loop {
        let dead = node.catalog.dead_shards(&node.config.name, before, removal.after, DEAD_MAX).await?;
        let is_last = dead.len() < DEAD_MAX;
        for shard in dead {
            let done = remove_dead_shard(node, before, &shard).await?;
            removal.count(&shard, done.is_err());
            last = done.err().or(last);
            if removal.gave_up() || node.stop.is_cancelled() || Instant::now() >= until {
                break 'run;
            }
        }
        if is_last {
            removal.after = None;
            break;
        }
    }
    if let Some(error) = last {
        tracing::error!(shards = removal.failed, %error, "shards of erased objects cannot be removed; the last error");
    }
    Ok(removal)
}

/// Removes a dead shard from the disk, then from the catalog.
async fn remove_dead_shard(
    node: &Arc<Node>,
    before: u64,
    shard: &ShardRow,
) -> Result<Result<(), StoreError>, RefreshError> {
    let (object, column) = (shard.object, shard.column);
    let grace = Duration::from_secs(node.config.limits.erase_grace_seconds);
    // Also the machine's clock may be set in between.
    let trusted = SystemTime::UNIX_EPOCH + Duration::from_secs(before);
    let written_before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH).min(trusted);
    match node.off_reactor(move |store| store.remove_shard(&object, column, written_before)).await? {
        Ok(true) => {
            // The row last: one whose shard is gone already is found and removed again.
            node.catalog.forget_shard(shard, before).await?;
            tracing::info!(%object, column, "removed a shard of an erased object");
        }
        Ok(false) => {}
        Err(error) => return Ok(Err(error)),
    }
    Ok(Ok(()))
}

/// Waits; false when the node stops.
pub(crate) async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_away_when_it_was_not_heard_of_for_more_than_a_day() {
        let start = (Instant::now(), SystemTime::now());
        let after = |seconds: u64| Duration::from_secs(24 * 3600 + seconds);
        for (runs, wall, away) in [
            (after(0), after(0), false),
            (after(1), after(1), true),
            (Duration::from_secs(60), after(0), false),
            (Duration::from_secs(60), after(1), true),
            (after(1), Duration::ZERO, true),
        ] {
            let (mut heard, now) = (start, (start.0 + runs, start.1 + wall));
            assert_eq!((was_away(&mut heard, now), heard), (away, now), "{runs:?} {wall:?}");
        }
        let (mut heard, set_back) = (start, (start.0, start.1 - after(1)));
        assert!(!was_away(&mut heard, set_back));
    }

    #[test]
    fn a_removal_rests_after_failures_in_a_row_and_then_goes_on_behind_them() {
        let shard = |column| ShardRow { node: "o1".parse().unwrap(), object: ObjectId([1; 32]), column, bytes: 1 };
        let mut removal = Removal::default();
        assert!(!removal.goes_on());
        for column in 0..FAILED_MAX - 1 {
            removal.count(&shard(column), true);
        }
        removal.count(&shard(20), false);
        assert!(removal.goes_on(), "one was removed");
        for column in 21..21 + FAILED_MAX {
            assert!(!removal.gave_up());
            removal.count(&shard(column), true);
        }
        assert!(removal.gave_up() && !removal.goes_on());
        let (failed, after) = (2 * FAILED_MAX - 1, Some((ObjectId([1; 32]), 20 + FAILED_MAX)));
        assert_eq!((removal.failed, removal.after), (failed, after));
        assert_eq!(removal.next(), Removal { after, ..Removal::default() });
    }
}
