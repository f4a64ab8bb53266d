//! The two times of a lease, as `put` and `renew` take them.

use clap::Args;
use format::Moment;

use crate::{fault::Usage, moment};

/// How long an object stays.
#[derive(Debug, Args)]
pub(crate) struct LeaseTimes {
    /// Refuse to erase before: 2027-01-31, 2027-01-31T12:00:00Z, +30d
    #[arg(long, value_name = "TIME", value_parser = written(moment::to_come("name a time to come, or leave the option out")))]
    keep_until: Option<Written>,
    /// The lease ends at: 2027-01-31, 2027-01-31T12:00:00Z, +30d, or never
    #[arg(long, value_name = "TIME", value_parser = written(moment::to_come_or_never("name a time to come; to end an object now: evernear rm LABEL")))]
    expires: Option<Written>,
}

/// A time, and how it was written.
#[derive(Debug, Clone)]
struct Written {
    at: u64,
    words: String,
}

/// Keeps the words of what a parser reads.
fn written(
    parse: impl Fn(&str) -> anyhow::Result<u64> + Clone + Send + Sync,
) -> impl Fn(&str) -> anyhow::Result<Written> + Clone + Send + Sync {
    move |text| Ok(Written { at: parse(text)?, words: text.to_owned() })
}

impl LeaseTimes {
    /// Refuses times that contradict each other.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        match (self.keep_until(), self.expires()) {
            (Some(keep_until), Some(expires)) if expires != 0 && keep_until > expires => Err(Usage(format!(
                "--keep-until ({}) is later than --expires ({}): name an end that is not before",
                Moment(keep_until),
                Moment(expires)
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the second until which erasing is refused, if it is named.
    pub(crate) fn keep_until(&self) -> Option<u64> {
        self.keep_until.as_ref().map(|it| it.at)
    }

    /// Returns the second at which the lease ends, if it is named; zero for never.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.expires.as_ref().map(|it| it.at)
    }

    /// Returns both as they were written: the same words at another time mean another second.
    pub(crate) fn words(&self) -> String {
        [&self.keep_until, &self.expires].map(|it| it.as_ref().map_or("-", |it| &it.words)).join(" ")
    }
}
