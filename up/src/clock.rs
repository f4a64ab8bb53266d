//! Whether this machine's clock is to be believed. One without a battery says 1970 until a time server is heard of; a
//! certificate that is issued then is refused by everybody who knows the time. Pure but for [`now`] and [`passed`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use format::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Nothing of this program ran before: 2026-01-01, in seconds since 1970.
const FIRST: u64 = 1_767_225_600;
/// A clock may go back so far: new certificates are valid from two days before their issue.
const BACK_MAX: Duration = Duration::from_secs(24 * 3600);

/// A clock that went on so long without a jump, while this program ran, is believed.
const STANDS: Duration = Duration::from_secs(24 * 3600);
/// Within that it may be corrected by so much.
const JUMP_MAX: Duration = Duration::from_secs(3600);

/// How long the clock has gone on without a jump, as one run sees it. A clock that was wrong for an hour must not be
/// what every later time is compared with: the right one would be taken for one that went back. So nothing is carried
/// over from run to run: a machine that never runs for a day keeps the time that it was first believed to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    /// What the clock said when it began to be watched, or after its last jump, in seconds since 1970.
    said: u64,
    /// What [`passed`] said then.
    at: Duration,
}

/// What a look at the clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was set since the last look.
    Jumped,
    /// It goes on, and not for long enough yet to be believed.
    GoesOn,
    /// It is believed; in seconds since 1970.
    Believed(u64),
}

impl Witness {
    /// Begins to watch a clock that says this, in seconds since 1970, at a time that [`passed`] says.
    pub(crate) fn begin(now: u64, passed: Duration) -> Self {
        Self { said: now, at: passed }
    }

    /// Looks at the clock.
    pub(crate) fn look(&mut self, now: u64, passed: Duration) -> Seen {
        let stood = passed.saturating_sub(self.at);
        if now.abs_diff(self.said.saturating_add(stood.as_secs())) > JUMP_MAX.as_secs() {
            *self = Self::begin(now, passed);
            return Seen::Jumped;
        }
        if stood >= STANDS { Seen::Believed(now) } else { Seen::GoesOn }
    }
}

/// Returns the time since the machine began, its sleep included, which nobody sets. A clock that stands still in sleep
/// would show each morning as a jump.
pub(crate) fn passed() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Returns the time, in seconds since 1970.
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

/// Returns a time in seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The clock cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// It is before all of this.
    #[error("the clock of this machine says {}; set it (`timedatectl` shows it)", Moment(*now))]
    Unset {
        /// Seconds since 1970.
        now: u64,
    },
    /// It was later before.
    #[error(
        "this network ran at {}, and the clock of this machine says {}; set it (`timedatectl` shows it). If it is right, and was wrong then, \
         remove the line `seen` from network/up.toml", Moment(*seen), Moment(*now)
    )]
    Back {
        /// Seconds since 1970.
        now: u64,
        /// The latest time that a run before had.
        seen: u64,
    },
}

/// Compares the time with the latest that a run before had, zero for none. Both in seconds since 1970.
///
/// # Errors
/// [`ClockFault`].
pub(crate) fn check(now: u64, seen: u64) -> Result<(), ClockFault> {
    match () {
        () if now < FIRST => Err(ClockFault::Unset { now }),
        () if now.saturating_add(BACK_MAX.as_secs()) < seen => Err(ClockFault::Back { now, seen }),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_is_believed_again_after_a_day_without_a_jump() {
        let (hour, day) = (3600, 24 * 3600);
        // The machine began to run before.
        let passed = |ran: u64| Duration::from_secs(1_000_000 + ran);
        let mut witness = Witness::begin(FIRST, passed(0));
        assert_eq!(witness.look(FIRST + hour, passed(hour)), Seen::GoesOn, "not yet");
        let corrected = FIRST + day - 60;
        assert_eq!(witness.look(corrected, passed(day)), Seen::Believed(corrected), "time servers correct clocks");
        let wrong = FIRST + 1000 * day;
        assert_eq!(witness.look(wrong, passed(day + 60)), Seen::Jumped);
        assert_eq!(witness.look(wrong + hour, passed(day + 60 + hour)), Seen::GoesOn);
        let right = FIRST + day + 2 * hour;
        assert_eq!(witness.look(right, passed(day + 2 * hour)), Seen::Jumped, "back again");
        assert_eq!(witness.look(right + day, passed(2 * day + 2 * hour)), Seen::Believed(right + day));
        let mut wrong_all_along = Witness::begin(wrong, passed(0));
        assert_eq!(wrong_all_along.look(wrong + day, passed(day)), Seen::Believed(wrong + day), "nobody knows better");
    }

    #[test]
    fn time_passes_in_sleep_too() {
        // Of a machine that never slept both say the same; of one that did, this one says more.
        let ran = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
        assert!(passed() >= ran && passed() > Duration::ZERO);
    }

    #[test]
    fn a_clock_that_was_later_before_or_was_never_set_is_not_believed() {
        let day = BACK_MAX.as_secs();
        assert_eq!(check(FIRST - 1, 0), Err(ClockFault::Unset { now: FIRST - 1 }));
        assert_eq!(check(FIRST, 0), Ok(()));
        assert_eq!(check(FIRST, FIRST + day), Ok(()), "time servers correct clocks");
        let back = check(FIRST, FIRST + day + 1).unwrap_err();
        let said = back.to_string();
        assert!(said.contains("2026-01-02T00:00:01Z") && said.contains("2026-01-01T00:00:00Z"), "{said}");
        assert_eq!(check(u64::MAX, u64::MAX), Ok(()));
    }
}
