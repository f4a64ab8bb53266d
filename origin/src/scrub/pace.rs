//! When the scrub may go on: pure arithmetic over bytes and times.

use std::time::Duration;

/// A busy node rests so many times as long as a step took; an idle one as long as it took.
const REST_MAX: u32 = 10;
/// The part of a pass over which the first passes of many nodes are spread.
const JITTER_PART: u32 = 16;

/// How far a pass is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time a pass shall take.
    pub(super) length: Duration,
    /// Time since it began.
    pub(super) elapsed: Duration,
    /// Bytes hashed since.
    pub(super) scrubbed_bytes: u64,
    /// Bytes of all shards.
    pub(super) held_bytes: u64,
}

impl Pace {
    /// Returns how long the next step can wait so that the pass, spread evenly, ends in time; zero when it is behind.
    pub(super) fn wait(&self) -> Duration {
        // What came since may be more than was held: then the pass is at its end.
        let held = self.held_bytes.max(self.scrubbed_bytes).max(1);
        let due = self.length.as_nanos() * u128::from(self.scrubbed_bytes) / u128::from(held);
        let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
        due.saturating_sub(self.elapsed)
    }
}

/// Returns how long to rest after a step that took so long, on a node whose load is 0 to 100: from half of the time up
/// to ten elevenths of it belong to others, also when the pass is behind.
pub(super) fn rest(took: Duration, load: u8) -> Duration {
    took + took * (REST_MAX - 1) * u32::from(load.min(100)) / 100
}

/// Returns the delay of a node's first pass, by its name.
pub(super) fn jitter(name: &str, length: Duration) -> Duration {
    let hash = blake3::hash(name.as_bytes());
    let part = u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]);
    length / JITTER_PART * u32::from(part) / (u32::from(u16::MAX) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn wait(elapsed: Duration, scrubbed_bytes: u64, held_bytes: u64) -> Duration {
        Pace { length: 10 * DAY, elapsed, scrubbed_bytes, held_bytes }.wait()
    }

    #[test]
    fn a_pass_is_spread_evenly_over_its_days() {
        assert_eq!(wait(Duration::ZERO, 0, 1000), Duration::ZERO);
        assert_eq!(wait(Duration::ZERO, 100, 1000), DAY);
        assert_eq!(wait(DAY, 100, 1000), Duration::ZERO);
        assert_eq!(wait(DAY / 2, 100, 1000), DAY / 2);
        // Behind: at once. Ahead, with all done: to the end.
        assert_eq!(wait(9 * DAY, 100, 1000), Duration::ZERO);
        assert_eq!(wait(DAY, 1000, 1000), 9 * DAY);
        // Much was removed, nothing is held, all there can be is held.
        assert_eq!(wait(DAY, 1000, 10), 9 * DAY);
        assert_eq!(wait(DAY, 0, 0), Duration::ZERO);
        assert_eq!(wait(DAY, u64::MAX, u64::MAX), 9 * DAY);
    }

    #[test]
    fn steps_at_this_pace_hash_all_within_the_pass() {
        // A disk that needs a tenth of a second for each step, 50,000 of them in 10 days: the pass takes its days and
        // no more.
        let (held, step, took) = (50_000u64, 1u64, Duration::from_millis(100));
        let (mut elapsed, mut scrubbed) = (Duration::ZERO, 0);
        while scrubbed < held {
            elapsed += wait(elapsed, scrubbed, held).max(rest(took, 0));
            elapsed += took;
            scrubbed += step;
        }
        assert!(elapsed > 9 * DAY && elapsed <= 10 * DAY, "{elapsed:?}");
    }

    #[test]
    fn the_busier_the_longer_the_rest() {
        let took = Duration::from_millis(20);
        assert_eq!([0, 50, 100, 255].map(|load| rest(took, load).as_millis()), [20, 110, 200, 200]);
    }

    #[test]
    fn first_passes_begin_at_different_times_within_a_part_of_the_pass() {
        let mut delays: Vec<_> = (0..50).map(|n| jitter(&format!("o{n}"), 10 * DAY)).collect();
        assert!(delays.iter().all(|delay| *delay < 10 * DAY / JITTER_PART));
        delays.sort_unstable();
        delays.dedup();
        assert_eq!(delays.len(), 50);
    }
}
