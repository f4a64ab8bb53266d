//! The two times of a lease, as `put` and `renew` take them.

use clap::Args;
use format::Moment;

use crate::{fault::Usage, moment};

/// How long an object stays.
#[derive(Debug, Args)]
pub(crate) struct LeaseTimes {
    /// Refuse to erase before: 2027-01-31, 2027-01-31T12:00:00Z, +30d
    #[arg(long, value_name = "TIME", value_parser = moment::to_come("name a time to come, or leave the option out"))]
    pub(crate) keep_until: Option<u64>,
    /// The lease ends at: 2027-01-31, 2027-01-31T12:00:00Z, +30d, or never
    #[arg(long, value_name = "TIME", value_parser = moment::to_come_or_never("name a time to come; to end an object now: evernear rm LABEL"))]
    pub(crate) expires: Option<u64>,
}

impl LeaseTimes {
    /// Refuses times that contradict each other.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        match (self.keep_until, self.expires) {
            (Some(keep_until), Some(expires)) if expires != 0 && keep_until > expires => Err(Usage(format!(
                "--keep-until ({}) is later than --expires ({}): name an end that is not before",
                Moment(keep_until),
                Moment(expires)
            ))),
            _ => Ok(()),
        }
    }
}
