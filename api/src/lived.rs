//! Time as it counts for what waits in the spool: seconds that a twin on this state folder saw pass. A clock that jumps
//! ahead by days ends no upload that was acknowledged, and one that was ahead for an hour keeps none for a year. Pure.
//!
//! While a twin runs, the time counts that another clock of the machine measures, which nobody sets. That one stands
//! still while the machine sleeps, and no twin sees what passes between two runs. So where the clock of the day is
//! further than it should be, that counts as an absence too, but for a day at most each time: nobody can tell an
//! absence from a clock that was set. What waits is kept for longer than was told rather than for less.

use std::time::Duration;

use tokio::time::Instant;

/// Longest absence that counts whole, in seconds.
const ABSENCE_MAX: u64 = 86_400;

/// What outlives a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lived {
    /// Seconds that were seen to pass.
    pub(crate) seconds: u64,
    /// The latest that the clock of the day said, or would say by now if it had not been set back: seconds since 1970.
    pub(crate) latest: u64,
}

/// The time that one run sees pass.
#[derive(Debug)]
pub(crate) struct Living {
    lived: Lived,
    then: Instant,
}

impl Living {
    /// Goes on where an earlier run left off. For the first run nothing has passed: it begins with what the clock says.
    pub(crate) fn begin(earlier: Option<Lived>, says: u64, now: Instant) -> Self {
        Self { lived: earlier.unwrap_or(Lived { seconds: 0, latest: says }), then: now }
    }

    /// Counts what passed until now, when the clock of the day says so many seconds since 1970.
    pub(crate) fn look(&mut self, says: u64, now: Instant) -> Lived {
        let passed = now.saturating_duration_since(self.then).as_secs();
        // What is left of a second counts at a later look.
        self.then += Duration::from_secs(passed);
        let expected = self.lived.latest.saturating_add(passed);
        let absence = says.saturating_sub(expected).min(ABSENCE_MAX);
        self.lived = Lived {
            seconds: self.lived.seconds.saturating_add(passed).saturating_add(absence),
            latest: expected.max(says),
        };
        self.lived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const START: u64 = 1_800_000_000;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_jumps_ahead_costs_a_day_at_most_and_once() {
        let start = Instant::now();
        let mut living = Living::begin(None, START, start);
        assert_eq!(living.look(START, start).seconds, 0);
        assert_eq!(living.look(START + 60, after(start, 60)).seconds, 60);
        assert_eq!(living.look(START + 8 * DAY, after(start, 120)).seconds, 120 + DAY);
        assert_eq!(living.look(START + 8 * DAY + 60, after(start, 180)).seconds, 180 + DAY);
        // Back again, and again ahead: it was there before.
        assert_eq!(living.look(START + 240, after(start, 240)).seconds, 240 + DAY);
        assert_eq!(living.look(START + 8 * DAY + 180, after(start, 300)).seconds, 300 + DAY);
    }

    #[test]
    fn time_passes_at_its_own_pace_under_a_clock_that_goes_back_or_was_never_set() {
        let start = Instant::now();
        let mut living = Living::begin(None, START, start);
        for (says, seconds) in [(START - 30 * DAY, 10), (0, 20), (u64::MAX, 30 + DAY), (START, 40 + DAY)] {
            let passed = seconds % DAY;
            assert_eq!(living.look(says, after(start, passed)).seconds, seconds);
        }
    }

    #[test]
    fn no_part_of_a_second_is_lost_however_often_one_looks() {
        let start = Instant::now();
        let mut living = Living::begin(None, START, start);
        for tenth in 1..=100 {
            living.look(START, start + Duration::from_millis(100 * tenth));
        }
        assert_eq!(living.look(START, after(start, 10)).seconds, 10);
    }

    #[test]
    fn an_absence_counts_for_a_day_at_most() {
        let now = Instant::now();
        let earlier = Lived { seconds: 1000, latest: START };
        for (away, counts) in [(0, 0), (3600, 3600), (DAY, DAY), (30 * DAY, DAY)] {
            let mut living = Living::begin(Some(earlier), START + away, now);
            assert_eq!(living.look(START + away, now).seconds, 1000 + counts);
        }
        let mut living = Living::begin(Some(earlier), START - DAY, now);
        assert_eq!(living.look(START - DAY, after(now, 5)).seconds, 1005);
    }
}
