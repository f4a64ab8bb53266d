//! Leases that end by themselves. The origins of a cluster share the work: whoever sweeps first does it for all.

use std::time::Duration;

use tokio::time::Instant;

use crate::{catalog::CatalogError, node::Node};

/// The work's name in the catalog.
const WORK: &str = "expiry";
/// How long a silent holder keeps others away; a step takes seconds at most.
const HOLD: Duration = Duration::from_secs(60);
/// Leases ended in one step.
const STEP: usize = 100;

/// Ends the leases that were due at the second `now`, as many as it can `until` then, unless another origin is at it.
/// The next sweep goes on. The feed tells edges and copies of each.
pub(crate) async fn end_leases(node: &Node, now: u64, until: Instant) -> Result<(), CatalogError> {
    let (catalog, name) = (&node.catalog, &node.config.name);
    if catalog.take_work(WORK, name, HOLD).await?.is_none() {
        return Ok(());
    }
    loop {
        let ended = catalog.expire(now, STEP).await?;
        if ended > 0 {
            node.feed.written();
            tracing::info!(ended, "leases ended by themselves");
        }
        let goes_on = ended == STEP as u64 && !node.stop.is_cancelled() && Instant::now() < until;
        let hold = if goes_on { HOLD } else { Duration::ZERO };
        if !catalog.keep_work(WORK, name, hold, &[]).await? || !goes_on {
            return Ok(());
        }
    }
}
