//! Whether this machine's clock is to be believed. One without a battery says 1970 until a time server is heard of; a
//! certificate that is issued then is refused by everybody who knows the time. Pure.

use std::time::Duration;

use format::Moment;

/// Nothing of this program ran before: 2026-01-01, in seconds since 1970.
const FIRST: u64 = 1_767_225_600;
/// A clock may go back so far: new certificates are valid from two days before their issue.
const BACK_MAX: Duration = Duration::from_secs(24 * 3600);

/// A clock that went on so long without a jump, while this program ran, is believed.
const STANDS: Duration = Duration::from_secs(24 * 3600);
/// Within that it may be corrected by so much.
const JUMP_MAX: Duration = Duration::from_secs(3600);

/// How long the clock has gone on without a jump, as one run sees it. A clock that was wrong for an hour must not be
/// what every later time is compared with: the right one would be taken for one that went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    /// What the clock said when it began to be watched, or after its last jump, in seconds since 1970.
    said: u64,
    /// For how long the program ran then.
    ran: Duration,
}

impl Witness {
    /// Begins to watch a clock that says this, in seconds since 1970.
    pub(crate) fn begin(now: u64) -> Self {
        Self { said: now, ran: Duration::ZERO }
    }

    /// Looks at the clock when the program ran for so long, which another clock measures. Returns the time when it is
    /// believed.
    pub(crate) fn look(&mut self, now: u64, ran: Duration) -> Option<u64> {
        let stood = ran.saturating_sub(self.ran);
        if now.abs_diff(self.said.saturating_add(stood.as_secs())) > JUMP_MAX.as_secs() {
            *self = Self { said: now, ran };
            return None;
        }
        (stood >= STANDS).then_some(now)
    }
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
        let ran = Duration::from_secs;
        let mut witness = Witness::begin(FIRST);
        assert_eq!(witness.look(FIRST + hour, ran(hour)), None, "not yet");
        assert_eq!(witness.look(FIRST + day - 60, ran(day)), Some(FIRST + day - 60), "time servers correct clocks");
        let wrong = FIRST + 1000 * day;
        assert_eq!(witness.look(wrong, ran(day + 60)), None);
        assert_eq!(witness.look(wrong + hour, ran(day + 60 + hour)), None);
        let right = FIRST + day + 2 * hour;
        assert_eq!(witness.look(right, ran(day + 2 * hour)), None, "back again");
        assert_eq!(witness.look(right + day, ran(2 * day + 2 * hour)), Some(right + day));
        let mut wrong_all_along = Witness::begin(wrong);
        assert_eq!(wrong_all_along.look(wrong + day, ran(day)), Some(wrong + day), "nobody knows better");
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
