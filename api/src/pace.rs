//! How far somebody lags behind the least pace that is asked of them, who sends a body or takes an answer. What went
//! fast before counts nothing, so nobody buys time for a trickle. Pure.

use std::time::Duration;

/// How far anybody may lag behind: a way that stalls for a moment costs nothing.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// What somebody lags behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace(Duration);

impl Pace {
    /// Counts a time that was waited, and bytes that came of it, where so many bytes a second are the least.
    pub(crate) fn count(&mut self, waited: Duration, bytes: u64, least: u64) {
        let due = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / least.max(1));
        self.0 = self.0.saturating_add(waited).saturating_sub(due);
    }

    /// Returns how much longer it may wait without a byte, where the pace asked for is `strain` times the least.
    pub(crate) fn left(&self, strain: u32) -> Duration {
        (GRACE / strain.max(1)).saturating_sub(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_keeps_the_pace_goes_on_and_a_trickle_after_much_is_none() {
        let (mut steady, mut trickle) = (Pace::default(), Pace::default());
        let second = Duration::from_secs(1);
        trickle.count(second, 1 << 30, 1000);
        for _ in 0..100 {
            steady.count(second, 1000, 1000);
            trickle.count(second, 1, 1000);
        }
        assert_eq!((steady.left(1), trickle.left(1)), (GRACE, Duration::ZERO));
        let mut late = Pace::default();
        late.count(20 * second, 0, 1000);
        assert_eq!((late.left(1), late.left(4)), (40 * second, Duration::ZERO));
        late.count(Duration::ZERO, 20_000, 1000);
        assert_eq!(late.left(4), 15 * second);
    }
}
