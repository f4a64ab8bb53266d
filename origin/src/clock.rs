//! The catalog's clock as one node sees it. Times in the catalog are compared with each other all over the cluster, so
//! a clock that is set by hours, or a catalog that was away for long, makes everybody look silent and every end look
//! past. Until that has settled no node is judged down and nothing is destroyed. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A clock this far from where the time since the last look would put it was set. Above what the slowest answer takes.
const STEP: Duration = Duration::from_secs(30);
/// Announcements after which all nodes that live have said so by the clock as it is now.
const ROUNDS: u32 = 3;

/// What is remembered of the catalog's clock.
#[derive(Debug)]
pub(crate) struct CatalogClock {
    /// What it said when it was looked at last, seconds since 1970.
    last: Option<(u64, Instant)>,
    /// When it was last found set to another time.
    set: Option<Instant>,
    /// When it was heard again after it had been silent.
    back: Option<Instant>,
    /// How long it takes until all nodes that live were heard.
    round: Duration,
}

impl CatalogClock {
    /// Makes a clock that was never looked at; nodes announce themselves every `announce`.
    pub(crate) fn new(announce: Duration) -> Self {
        Self { last: None, set: None, back: None, round: announce.saturating_mul(ROUNDS) }
    }

    /// Notes what the catalog's clock says, seconds since 1970. True when it was set since the last look.
    pub(crate) fn look(&mut self, says: u64, now: Instant) -> bool {
        let Some((said, then)) = self.last.replace((says, now)) else { return false };
        let passed = now.saturating_duration_since(then);
        if passed > self.round.max(STEP) {
            self.back = Some(now);
        }
        let was_set = said.saturating_add(passed.as_secs()).abs_diff(says) > STEP.as_secs();
        if was_set {
            self.set = Some(now);
        }
        was_set
    }

    /// Whether silence means something: all nodes that live had the time to announce themselves by the clock as it is.
    pub(crate) fn may_judge(&self, now: Instant) -> bool {
        let settled = |since: Option<Instant>| since.is_none_or(|since| now.duration_since(since) >= self.round);
        settled(self.set) && settled(self.back)
    }

    /// Whether what is past its end may be destroyed: the clock was not set within `grace`.
    pub(crate) fn may_destroy(&self, now: Instant, grace: Duration) -> bool {
        self.set.is_none_or(|set| now.duration_since(set) >= grace.max(self.round))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const GRACE: Duration = Duration::from_secs(3600);

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_runs_is_believed_and_one_that_jumps_is_not() {
        let start = Instant::now();
        for jump in [1_000_000 + DAY, 1_000_000 - DAY, 1_000_041, 1_000_041 - 62] {
            let mut clock = CatalogClock::new(Duration::from_secs(10));
            assert!(!clock.look(1_000_000, start));
            assert!(clock.may_judge(start) && clock.may_destroy(start, GRACE), "a start is believed");
            assert!(clock.look(jump, at(start, 10)), "{jump}");
            assert!(!clock.may_judge(at(start, 39)) && clock.may_judge(at(start, 40)));
            assert!(!clock.may_destroy(at(start, 3609), GRACE) && clock.may_destroy(at(start, 3610), GRACE));
            // It goes on from there without another word.
            assert!(!clock.look(jump + 10, at(start, 20)));
        }
        let mut clock = CatalogClock::new(Duration::from_secs(10));
        for (says, after) in [(1_000_000, 0), (1_000_040, 10), (1_000_020, 20)] {
            assert!(!clock.look(says, at(start, after)), "a slow answer is no jump");
        }
    }

    #[test]
    fn after_a_silence_of_the_catalog_nodes_have_time_to_speak_and_nothing_else_waits() {
        let start = Instant::now();
        let mut clock = CatalogClock::new(Duration::from_secs(10));
        clock.look(1_000_000, start);
        assert!(!clock.look(1_001_000, at(start, 1000)), "it ran while it was silent");
        assert!(!clock.may_judge(at(start, 1029)) && clock.may_judge(at(start, 1030)));
        assert!(clock.may_destroy(at(start, 1000), GRACE));
    }
}
