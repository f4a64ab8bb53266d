//! The one place that turns the system's clock into the seconds that leases and policies speak of.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns seconds since 1970; zero for a clock set before.
pub(crate) fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
