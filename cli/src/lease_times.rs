//! The two times of a lease, as `put` and `renew` take them.

use clap::Args;
use format::{Moment, Retention};

use crate::{fault::Usage, moment};

/// How long an object stays.
#[derive(Debug, Args)]
pub(crate) struct LeaseTimes {
    /// Refuse to erase before: 2027-01-31, 2027-01-31T12:00:00Z, +30d
    #[arg(long, value_name = "TIME", value_parser = moment::to_come("name a time to come, or leave the option out"))]
    keep_until: Option<u64>,
    /// The lease ends at: 2027-01-31, 2027-01-31T12:00:00Z, +30d
    #[arg(long, value_name = "TIME", value_parser = moment::to_come("name a time to come; to end an object now: evernear rm LABEL"))]
    expires: Option<u64>,
}

impl LeaseTimes {
    /// Returns both times, if one was named at least.
    pub(crate) fn retention(&self) -> Result<Option<Retention>, Usage> {
        match (self.keep_until, self.expires) {
            (None, None) => Ok(None),
            (Some(keep_until), Some(expires)) if keep_until > expires => Err(Usage(format!(
                "--keep-until ({}) is later than --expires ({}): name an end that is not before",
                Moment(keep_until),
                Moment(expires)
            ))),
            (keep_until, expires) => {
                Ok(Some(Retention { keep_until: keep_until.unwrap_or(0), expires: expires.unwrap_or(0) }))
            }
        }
    }
}
