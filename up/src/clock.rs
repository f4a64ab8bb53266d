//! Whether this machine's clock is to be believed. One without a battery says 1970 until a time server is heard of; a
//! certificate that is issued then is refused by everybody who knows the time. Pure.

use std::time::Duration;

use format::Moment;

/// Nothing of this program ran before: 2026-01-01, in seconds since 1970.
const FIRST: u64 = 1_767_225_600;
/// A clock may go back so far: new certificates are valid from two days before their issue.
const BACK_MAX: Duration = Duration::from_secs(24 * 3600);

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
