//! What a renewal changes, and the times and caps of the lease that comes of it. Pure.

use format::{Cap, PolicyName, Profile, Retention};

use super::LeaseChangeError;
use crate::retention::RetentionError;

/// What a renewal changes. `None`, or an empty list, leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewal {
    /// The policy.
    pub policy: Option<PolicyName>,
    /// Seconds since 1970 until which the object is kept.
    pub keep_until: Option<u64>,
    /// Seconds since 1970 at which the lease ends; zero: it does not end by itself.
    pub expires: Option<u64>,
    /// How many shards may lie in one place; a level that is not named keeps its cap.
    pub caps: Vec<Cap>,
    /// Redundancy: exactly the object's data columns, and at most the parity columns that its name commits to.
    pub profile: Option<Profile>,
    /// Whether an object may end sooner than it would.
    pub sooner: Sooner,
}

/// Whether a renewal may end an object sooner than its lease does, or at all. What has ended cannot come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sooner {
    /// It is an error.
    #[default]
    Refused,
    /// The owner agreed to it.
    Allowed,
}

impl Renewal {
    pub(super) fn named_times(&self) -> Retention {
        Retention { keep_until: self.keep_until.unwrap_or(0), expires: self.expires.unwrap_or(0) }
    }

    /// Returns the times of the new lease of an object whose lease has the times `held`. Refuses a renewal at `now`,
    /// seconds since 1970, that shortens how long the object is to be kept, which nodes would refuse too, and one that
    /// ends it sooner unless that is allowed.
    pub(super) fn retention_over(&self, held: Retention, now: u64) -> Result<Retention, LeaseChangeError> {
        let until = held.keep_until;
        if until > now && self.keep_until.is_some_and(|asked| asked < until) {
            return Err(LeaseChangeError::Shortened { until });
        }
        if self.keep_until.is_none() && self.expires.is_none() {
            return Ok(held);
        }
        let (keep_until, expires) = (self.keep_until.unwrap_or(until), self.expires.unwrap_or(held.expires));
        if expires != 0 && keep_until > expires {
            return Err(RetentionError::KeptLonger { keep_until, expires }.into());
        }
        let asked = Retention { keep_until, expires };
        match (asked.end(), held.end()) {
            (Some(end), held) if self.sooner == Sooner::Refused && held.is_none_or(|held| end < held) => {
                Err(LeaseChangeError::Sooner { held, end })
            }
            _ => Ok(asked),
        }
    }

    pub(super) fn caps_over(&self, held: &[Cap]) -> Vec<Cap> {
        let stay = held.iter().filter(|cap| self.caps.iter().all(|named| named.level != cap.level));
        stay.chain(&self.caps).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_comes_sooner_is_refused_until_it_is_allowed() {
        let times = |keep_until, expires| Retention { keep_until, expires };
        for (held, keep_until, expires, sooner) in [
            (times(0, 0), None, Some(0), None),
            (times(0, 0), None, Some(300), Some((None, 300))),
            (times(0, 300), None, Some(300), None),
            (times(0, 300), None, Some(301), None),
            (times(0, 300), None, Some(0), None),
            (times(0, 300), None, Some(299), Some((Some(300), 299))),
            (times(0, 300), Some(200), None, None),
            // A promise outlives the expiry, and is the end then.
            (times(300, 200), None, Some(300), None),
            (times(300, 200), Some(400), Some(400), None),
            (times(300, 0), Some(400), Some(400), Some((None, 400))),
        ] {
            let renewal = Renewal { keep_until, expires, ..Renewal::default() };
            let told = match renewal.retention_over(held, 100) {
                Err(LeaseChangeError::Sooner { held, end }) => Some((held, end)),
                other => other.map(|_| None).unwrap(),
            };
            assert_eq!(told, sooner, "{held:?} {renewal:?}");
            assert!(Renewal { sooner: Sooner::Allowed, ..renewal }.retention_over(held, 100).is_ok());
        }
    }
}
