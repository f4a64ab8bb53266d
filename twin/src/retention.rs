//! Checks the times that an owner sets in a lease: they must lie in the future. Pure.

use format::{Moment, Retention};

use crate::clock::ClockError;

/// Why a lease with these times is not signed. The caller's fault; no node was told of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The lease would have ended already, and the object would be erased for ever.
    #[error("the lease would have ended at {}, and it is {} now", Moment(*end), Moment(*now))]
    Ended {
        /// Seconds since 1970.
        end: u64,
        /// Seconds since 1970, by the nodes' clocks.
        now: u64,
    },
    /// The time to keep the object until has passed already.
    #[error("the object would be kept until {}, and it is {} now", Moment(*keep_until), Moment(*now))]
    KeptBefore {
        /// Seconds since 1970.
        keep_until: u64,
        /// Seconds since 1970, by the nodes' clocks.
        now: u64,
    },
    /// The object would be kept for longer than its lease.
    #[error("the object would be kept until {} under a lease that ends at {}", Moment(*keep_until), Moment(*expires))]
    KeptLonger {
        /// Seconds since 1970.
        keep_until: u64,
        /// Seconds since 1970.
        expires: u64,
    },
    /// Nobody else's clock says what this machine's does.
    #[error("the lease would have wrong times")]
    Clock(#[from] ClockError),
}

/// Refuses a lease that has ended at `now`, seconds since 1970. Called again right before each signature, because an
/// upload takes time. A `keep_until` that has passed meanwhile does no harm.
pub(crate) fn check_end(retention: Retention, now: u64) -> Result<(), RetentionError> {
    match retention.end() {
        Some(end) if end <= now => Err(RetentionError::Ended { end, now }),
        _ => Ok(()),
    }
}

/// Seconds after the end of a lease from when on nobody needs what was noted of the object: nodes have ended it by
/// then, also where clocks differ by hours.
const OVER_SECONDS: u64 = 86_400;

/// Says whether a lease ended by itself so long before `now`, seconds since 1970, that what was noted of its object may
/// be forgotten.
pub(crate) fn is_long_over(retention: Retention, now: u64) -> bool {
    retention.has_ended(now.saturating_sub(OVER_SECONDS))
}

/// Refuses times of a new lease that have passed at `now`, seconds since 1970, or contradict each other.
pub(crate) fn check(retention: Retention, now: u64) -> Result<(), RetentionError> {
    let Retention { keep_until, expires } = retention;
    if expires != 0 && expires <= now {
        return Err(RetentionError::Ended { end: expires, now });
    }
    if keep_until != 0 && keep_until <= now {
        return Err(RetentionError::KeptBefore { keep_until, now });
    }
    if expires != 0 && keep_until > expires {
        return Err(RetentionError::KeptLonger { keep_until, expires });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_needed_for_another_day() {
        let is_over = |keep_until, expires, now| is_long_over(Retention { keep_until, expires }, now);
        for (expires, now, over) in
            [(1000, 1000, false), (1000, 87_399, false), (1000, 87_400, true), (0, u64::MAX, false), (1, 0, false)]
        {
            assert_eq!(is_over(0, expires, now), over, "{expires} {now}");
        }
        assert!(!is_over(2000, 1000, 87_400) && is_over(2000, 1000, 88_400), "it was kept for longer");
    }

    #[test]
    fn only_times_to_come_are_taken_and_the_promise_ends_first() {
        let check = |keep_until, expires| check(Retention { keep_until, expires }, 100);
        for (keep_until, expires) in [(0, 0), (101, 0), (0, 101), (101, 101), (200, 300), (u64::MAX, 0), (0, u64::MAX)]
        {
            assert_eq!(check(keep_until, expires), Ok(()), "{keep_until} {expires}");
        }
        for expires in [1, 99, 100] {
            assert_eq!(check(0, expires), Err(RetentionError::Ended { end: expires, now: 100 }));
        }
        for keep_until in [1, 99, 100] {
            assert_eq!(check(keep_until, 0), Err(RetentionError::KeptBefore { keep_until, now: 100 }));
        }
        let check_end = |keep_until, expires| check_end(Retention { keep_until, expires }, 100);
        for (keep_until, expires) in [(0, 0), (99, 0), (99, 101), (101, 100)] {
            assert_eq!(check_end(keep_until, expires), Ok(()), "{keep_until} {expires}");
        }
        assert_eq!(check_end(0, 100), Err(RetentionError::Ended { end: 100, now: 100 }));
        assert_eq!(check(301, 300), Err(RetentionError::KeptLonger { keep_until: 301, expires: 300 }));
        assert_eq!(
            RetentionError::Ended { end: 0, now: 86_400 }.to_string(),
            "the lease would have ended at 1970-01-01T00:00:00Z, and it is 1970-01-02T00:00:00Z now"
        );
    }
}
