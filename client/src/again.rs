//! Calls that are made again (retry with exponential back-off): an interruption of the network, or a restart of a node,
//! ends neither an upload nor the change of a lease.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// Pauses before a call that failed is made again, doubled each time up to the last.
pub(crate) const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LAST: Duration = Duration::from_secs(8);
/// All pauses together: as long as a restart of a node may take. Then the call has failed.
pub const AGAIN_FOR: Duration = Duration::from_secs(50);

/// The pauses between the calls.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn begin() -> Self {
        Self(AGAIN_FIRST)
    }

    /// Waits for the next pause, but not past `end`.
    pub(crate) async fn next(&mut self, end: Instant) {
        sleep_until(end.min(Instant::now() + self.0)).await;
        self.0 = (self.0 * 2).min(AGAIN_LAST);
    }
}

/// Makes a call again while its failure may pass, with pauses that are `paused_max` together at most. Cancel safe where
/// the call is.
///
/// # Errors
/// The last failure.
pub async fn again<T, E, F: Future<Output = Result<T, E>>>(
    paused_max: Duration,
    is_passing: impl Fn(&E) -> bool,
    call: impl Fn() -> F,
) -> Result<T, E> {
    let (mut pause, mut paused) = (AGAIN_FIRST, Duration::ZERO);
    loop {
        match call().await {
            Err(error) if is_passing(&error) && paused + pause <= paused_max => {
                sleep(pause).await;
                paused += pause;
                pause = (pause * 2).min(AGAIN_LAST);
            }
            done => return done,
        }
    }
}
