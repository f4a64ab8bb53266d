//! Scrub: every shard on this disk is hashed again within the operator's time, because disks forget without saying so.
//!
//! A pass walks the shards in the order of their names, in steps of a few MiB, spread over that time; after each step
//! it rests at least as long as the step took, and the longer the busier the node is, so that traffic goes first. Where
//! it is survives restarts. A shard that only lost its sidecars is mended; one that is damaged leaves the catalog, so
//! that repair brings it back, and goes into quarantine. `scrub/pace.rs` decides when the next step is.

mod pace;
mod pass;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::{
    pace::Pace,
    pass::{Pass, Position},
};
use crate::{
    catalog::{RepairCause, ShardRow},
    copies::RefreshError,
    node::{Lost, Node},
    repair,
    store::{Harm, HeldShard, StoreError},
};

/// Bytes hashed in one step: some milliseconds to some tenths of a second of one disk.
const STEP_BYTES: u64 = 8 << 20;
/// Pause after a failure, and longest time between two looks at the clock.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest time of work that a restart repeats.
const NOTED_EVERY: Duration = Duration::from_secs(30);

/// What a whole pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Bytes of strips that were hashed.
    pub bytes: u64,
    /// Damaged shards whose sidecars were written anew from their strips.
    pub mended: u64,
    /// Damaged shards that went into quarantine.
    pub quarantined: u64,
}

/// What became of a damaged shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Mended,
    Quarantined,
    /// It was removed or uploaded anew in the meantime.
    Gone,
}

/// Scrubs until the node stops.
pub(crate) async fn scrub_often(node: Arc<Node>) {
    let length = node.config.limits.scrub_pass();
    let Ok(mut pass) = resume(&node, length).await else { return };
    let (mut noted, mut rest) = (Instant::now(), Duration::ZERO);
    loop {
        let now = now();
        pass.position.set_clock(now, length);
        node.metrics.scrubbed_since.set(pass.position.all_since.unwrap_or(0));
        let pace = Pace {
            length,
            elapsed: Duration::from_secs(now.saturating_sub(pass.position.started)),
            scrubbed_bytes: pass.position.bytes,
            held_bytes: node.held_bytes(),
        };
        let until_start = Duration::from_secs(pass.position.started.saturating_sub(now));
        let wait = until_start.max(pace.wait()).max(rest).min(PAUSE);
        rest = Duration::ZERO;
        if !wait.is_zero() {
            tokio::select! {
                biased;
                () = node.stop.cancelled() => break,
                () = tokio::time::sleep(wait) => continue,
            }
        }
        if node.stop.is_cancelled() {
            break;
        }
        let began = Instant::now();
        rest = match step(&node, &mut pass, &mut Scrubbed::default()).await {
            Ok(ended) => {
                if ended {
                    pass = Pass::new(pass.position.next(now, length));
                }
                pace::rest(began.elapsed(), node.load())
            }
            Err(error) => {
                tracing::warn!(%error, "a step of the scrub failed");
                PAUSE
            }
        };
        if noted.elapsed() >= NOTED_EVERY {
            note(&node, &pass.position).await;
            noted = Instant::now();
        }
    }
    note(&node, &pass.position).await;
}

/// Runs a whole pass now, without rests; the one of [`scrub_often`] goes on by itself.
pub(crate) async fn scrub_now(node: &Arc<Node>) -> Result<Scrubbed, RefreshError> {
    let mut pass = Pass::new(Position::at(now()));
    let mut scrubbed = Scrubbed::default();
    while !step(node, &mut pass, &mut scrubbed).await? {}
    Ok(scrubbed)
}

/// Does one step and what it calls for. Returns whether the pass is at its end.
async fn step(node: &Arc<Node>, pass: &mut Pass, scrubbed: &mut Scrubbed) -> Result<bool, RefreshError> {
    let mut walking = pass.clone();
    let (walked, done) = node
        .off_reactor(move |store| {
            let done = walking.step(store, STEP_BYTES);
            (walking, done)
        })
        .await?;
    *pass = walked;
    let done = done?;
    node.metrics.scrubbed_bytes.inc_by(done.bytes);
    scrubbed.bytes += done.bytes;
    if let Some((held, harm)) = done.damaged {
        node.metrics.failed("shard");
        match settle(node, held, harm).await? {
            Settled::Mended => {
                node.metrics.scrub_mended.inc();
                scrubbed.mended += 1;
            }
            Settled::Quarantined => {
                node.metrics.scrub_quarantined.inc();
                scrubbed.quarantined += 1;
            }
            Settled::Gone => {}
        }
        pass.advance();
    }
    Ok(done.ended)
}

async fn settle(node: &Arc<Node>, held: HeldShard, harm: Harm) -> Result<Settled, RefreshError> {
    let (object, column) = (held.shard.object, held.shard.column);
    if harm.is_beside_strips() {
        match node.off_reactor(move |store| store.mend_shard(&object, column)).await? {
            Ok(true) => {
                tracing::warn!(%object, column, %harm, "a damaged shard was mended");
                return Ok(Settled::Mended);
            }
            Ok(false) => {}
            Err(StoreError::NoShard { .. }) => return Ok(Settled::Gone),
            Err(error) => return Err(error.into()),
        }
    }
    // The row first: when this breaks off, the shard is still here and the next pass finds it again.
    let row = ShardRow { node: node.config.name.clone(), object, column, bytes: held.bytes };
    repair::lost(node, &row, RepairCause::Scan).await?;
    match node.off_reactor(move |store| store.quarantine(&object, column, &harm)).await? {
        Ok(true) => {
            // A comparison of disk and catalog that saw it here may have filed the row anew.
            node.catalog.lose_shard(&row).await?;
            Ok(Settled::Quarantined)
        }
        Ok(false) => {
            node.catalog.place_shard(&row).await?;
            Ok(Settled::Gone)
        }
        Err(StoreError::NoShard { .. }) => Ok(Settled::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Goes on where the last run was. The first pass of a node begins at a time of its own, so that a cluster started at
/// once does not read all its disks at once.
async fn resume(node: &Arc<Node>, length: Duration) -> Result<Pass, Lost> {
    let noted = node.off_reactor(|store| store.scrub_note()).await?;
    let position = noted.and_then(|note| Position::decode(&note));
    Ok(Pass::new(position.unwrap_or_else(|| {
        Position::at(now().saturating_add(pace::jitter(node.config.name.as_str(), length).as_secs()))
    })))
}

/// Notes the position. One that is lost only makes work twice.
async fn note(node: &Arc<Node>, position: &Position) {
    let note = position.encode();
    match node.off_reactor(move |store| store.put_scrub_note(&note)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the position of the scrub cannot be noted"),
        Err(error) => tracing::warn!(%error, "the position of the scrub cannot be noted"),
    }
}

/// Returns seconds since 1970, by this machine.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
