//! The catalog's clock as one node sees it. Times in the catalog are compared with each other all over the cluster, so
//! a clock that is set by hours, or a catalog that was away for long, makes everybody look silent and every end look
//! past. Until that has settled no node is judged down and nothing is destroyed. A note on the disk carries this over
//! restarts. Pure.
//!
//! After a long absence a node cannot tell whether it was away or the clock was set, and waits for a grace of running.
//! A node that never runs for so long at a time would never end its wait, so a wait that an absence breaks goes on
//! after it, but for its last part, which is had in one run: the node has said by then, in its log, what it would
//! destroy by.

use std::time::Duration;

use tokio::time::Instant;

/// A clock this far from where the time since the last look would put it was set. Above what the slowest answer takes.
const STEP: Duration = Duration::from_secs(30);
/// A node that finds the clock so far ahead of its note cannot tell whether it was away for so long or the clock was
/// set meanwhile.
const AWAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// A clock that is further ahead was set: a node that is used is not away for so long.
const ABSENCE_MAX: Duration = Duration::from_secs(35 * 24 * 3600);
/// This part of a wait comes after the last absence.
const LAST_PART: u32 = 8;
/// Announcements after which all nodes that live have said so by the clock as it is now.
const ROUNDS: u32 = 3;

/// What is remembered of the catalog's clock.
#[derive(Debug)]
pub(crate) struct CatalogClock {
    /// What it said when it was looked at last, seconds since 1970.
    last: Option<(u64, Instant)>,
    /// What it said in the note of an earlier run, until it is looked at first.
    noted: Option<u64>,
    /// When it was last found set to another time.
    set: Option<Set>,
    /// When it was heard again after it had been silent.
    back: Option<Instant>,
    /// How long it takes until all nodes that live were heard.
    round: Duration,
    /// For how long nothing is destroyed after the clock was set.
    grace: Duration,
}

/// A clock that was found set.
#[derive(Debug, Clone, Copy)]
struct Set {
    since: Instant,
    /// How long that was known already when `since` was, in earlier runs. Time between runs does not count: no clock
    /// that could measure it is to be trusted.
    before: Duration,
}

impl Set {
    fn age(self, now: Instant) -> Duration {
        self.before.saturating_add(now.saturating_duration_since(self.since))
    }
}

impl CatalogClock {
    /// Makes a clock that was never looked at. Nodes announce themselves every `announce`; nothing is destroyed for
    /// `grace` after the clock was set.
    pub(crate) fn new(announce: Duration, grace: Duration) -> Self {
        let round = announce.saturating_mul(ROUNDS);
        Self { last: None, noted: None, set: None, back: None, round, grace: grace.max(round) }
    }

    /// Goes on where an earlier run left off, by its [`Self::note`]. What is no note is as good as none.
    pub(crate) fn resume(mut self, note: &str, now: Instant) -> Self {
        let mut numbers = note.split_whitespace().map(str::parse);
        self.noted = numbers.next().and_then(Result::ok);
        let set = |seconds| Set { since: now, before: Duration::from_secs(seconds) };
        self.set = numbers.next().and_then(Result::ok).map(set);
        self
    }

    /// Returns what a later run is to know: what the clock said last, seconds since 1970, and, if it was found set, for
    /// how many seconds that has been known. None before the first look.
    pub(crate) fn note(&self, now: Instant) -> Option<String> {
        let (said, _) = self.last?;
        Some(match self.set {
            Some(set) => format!("{said} {}", set.age(now).as_secs()),
            None => said.to_string(),
        })
    }

    /// Notes what the catalog's clock says, seconds since 1970. True when it was set since the last look.
    pub(crate) fn look(&mut self, says: u64, now: Instant) -> bool {
        let Some((said, then)) = self.last.replace((says, now)) else { return self.first_look(says, now) };
        let passed = now.saturating_duration_since(then);
        if passed > self.round.max(STEP) {
            self.back = Some(now);
        }
        let expected = said.saturating_add(passed.as_secs());
        let was_set = expected.abs_diff(says) > STEP.as_secs();
        if was_set {
            // A machine that slept finds the clock ahead, too: its own does not run meanwhile.
            self.break_wait(says >= expected && Duration::from_secs(says - expected) <= ABSENCE_MAX, now);
        }
        was_set
    }

    /// Compares with the note of an earlier run.
    fn first_look(&mut self, says: u64, now: Instant) -> bool {
        let Some(noted) = self.noted.take() else { return false };
        let is_behind = says.saturating_add(STEP.as_secs()) < noted;
        let ahead = Duration::from_secs(says.saturating_sub(noted));
        if !is_behind && ahead <= AWAY_MAX {
            return false;
        }
        self.break_wait(!is_behind && ahead <= ABSENCE_MAX, now);
        true
    }

    /// Begins a wait, or goes on with the one under way but for its last part where this may have been an absence.
    fn break_wait(&mut self, may_be_absence: bool, now: Instant) {
        let waited = self.set.map(|set| set.age(now)).filter(|waited| *waited < self.grace);
        let waited = waited.filter(|_| may_be_absence).unwrap_or_default();
        self.set = Some(Set { since: now, before: waited.min(self.grace - self.grace / LAST_PART) });
        // Whatever was waited before, nobody has been heard since the absence.
        self.back = Some(now);
    }

    /// Whether silence means something: all nodes that live had the time to announce themselves by the clock as it is.
    pub(crate) fn may_judge(&self, now: Instant) -> bool {
        let is_settled = |age: Option<Duration>| age.is_none_or(|age| age >= self.round);
        is_settled(self.set.map(|set| set.age(now))) && is_settled(self.back.map(|back| now.duration_since(back)))
    }

    /// Whether what is past its end may be destroyed: the clock was not set within the grace.
    pub(crate) fn may_destroy(&self, now: Instant) -> bool {
        self.set.is_none_or(|set| set.age(now) >= self.grace)
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
            let mut clock = CatalogClock::new(Duration::from_secs(10), GRACE);
            assert!(!clock.look(1_000_000, start));
            assert!(clock.may_judge(start) && clock.may_destroy(start), "a start is believed");
            assert!(clock.look(jump, at(start, 10)), "{jump}");
            assert!(!clock.may_judge(at(start, 39)) && clock.may_judge(at(start, 40)));
            assert!(!clock.may_destroy(at(start, 3609)) && clock.may_destroy(at(start, 3610)));
            // It goes on from there without another word.
            assert!(!clock.look(jump + 10, at(start, 20)));
        }
        let mut clock = CatalogClock::new(Duration::from_secs(10), GRACE);
        for (says, after) in [(1_000_000, 0), (1_000_040, 10), (1_000_020, 20)] {
            assert!(!clock.look(says, at(start, after)), "a slow answer is no jump");
        }
    }

    #[test]
    fn after_a_silence_of_the_catalog_nodes_have_time_to_speak_and_nothing_else_waits() {
        let start = Instant::now();
        let mut clock = CatalogClock::new(Duration::from_secs(10), GRACE);
        clock.look(1_000_000, start);
        assert!(!clock.look(1_001_000, at(start, 1000)), "it ran while it was silent");
        assert!(!clock.may_judge(at(start, 1029)) && clock.may_judge(at(start, 1030)));
        assert!(clock.may_destroy(at(start, 1000)));
    }
    #[test]
    fn a_restart_ends_no_wait_and_the_time_between_does_not_count() {
        let start = Instant::now();
        let clock = || CatalogClock::new(Duration::from_secs(10), GRACE);
        let mut first = clock();
        assert_eq!(first.note(start), None);
        first.look(1_000_000, start);
        assert_eq!(first.note(start).unwrap(), "1000000");
        first.look(1_000_000 + DAY, at(start, 10));
        let note = first.note(at(start, 1010)).unwrap();
        assert_eq!(note, "1086400 1000");
        // It was down for an hour.
        let mut second = clock().resume(&note, at(start, 4610));
        assert!(!second.look(1_086_400 + 4600, at(start, 4610)), "it runs on");
        assert!(!second.may_destroy(at(start, 4610)) && second.may_judge(at(start, 4610)));
        assert!(!second.may_destroy(at(start, 7209)) && second.may_destroy(at(start, 7210)));
        assert_eq!(second.note(at(start, 7210)).unwrap(), "1091000 3600");
    }

    #[test]
    fn a_wait_that_absences_break_ends_in_sum_and_its_last_part_in_one_run() {
        let start = Instant::now();
        let run = |note: &str, says: u64| {
            let mut clock = CatalogClock::new(Duration::from_secs(10), GRACE).resume(note, start);
            assert!(clock.look(says, start), "a day is long");
            assert!(!clock.may_judge(at(start, 29)) && clock.may_judge(at(start, 30)));
            clock
        };
        // Always up for 20 minutes, and away for two days.
        let (mut note, mut says) = ("1000000".to_owned(), 1_000_000 + 2 * DAY);
        for waited in [0, 1200] {
            let mut clock = run(&note, says);
            assert!(!clock.may_destroy(at(start, 1200)));
            clock.look(says + 1200, at(start, 1200));
            note = clock.note(at(start, 1200)).unwrap();
            assert_eq!(note, format!("{} {}", says + 1200, waited + 1200));
            says += 1200 + 2 * DAY;
        }
        let clock = run(&note, says);
        assert!(!clock.may_destroy(at(start, 1199)) && clock.may_destroy(at(start, 1200)));
        // What was waited before never spares the last part, and a wait that was over is no part of the next.
        let clock = run("1000000 3599", 1_000_000 + 2 * DAY);
        assert!(!clock.may_destroy(at(start, 449)) && clock.may_destroy(at(start, 450)));
        for (note, says) in [
            ("1000000 3600", 1_000_000 + 2 * DAY),
            ("1000000 3599", 1_000_000 + 35 * DAY + 1),
            ("1000000 3599", 1_000_000 - 31),
        ] {
            let clock = run(note, says);
            assert!(!clock.may_destroy(at(start, 3599)) && clock.may_destroy(at(start, 3600)), "{note} {says}");
        }
    }

    #[test]
    fn a_clock_that_was_set_while_the_node_was_down_is_noticed() {
        let start = Instant::now();
        let noted = 1_000_000;
        for (says, was_set) in
            [(noted - 31, true), (noted - 30, false), (noted + DAY, false), (noted + DAY + 1, true), (0, true)]
        {
            let mut clock = CatalogClock::new(Duration::from_secs(10), GRACE).resume("1000000", start);
            assert_eq!(clock.look(says, start), was_set, "{says}");
            assert_eq!(clock.may_destroy(start), !was_set, "{says}");
        }
        for no_note in ["", "x", "-1", "x 5"] {
            let mut clock = CatalogClock::new(Duration::from_secs(10), GRACE).resume(no_note, start);
            assert!(!clock.look(noted, start), "{no_note}");
        }
    }
}
