//! Waits for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Nothing on one machine takes longer, however loaded it is.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until a condition holds, 20 seconds at most, and returns how long that took.
///
/// # Panics
/// When it does not come about.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) -> Duration {
    until_within(DEADLINE, what, holds).await
}

/// The same with another deadline.
///
/// # Panics
/// When it does not come about.
pub async fn until_within(deadline: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < deadline, "{what} did not come about within {deadline:?}");
        tokio::time::sleep(PAUSE).await;
    }
    start.elapsed()
}
