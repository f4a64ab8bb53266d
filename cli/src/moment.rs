//! Moments as people write them on a command line: a date, an RFC 3339 time, or so many days, hours or minutes from now.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use time::{
    Date, OffsetDateTime,
    format_description::well_known::{Iso8601, Rfc3339},
};

/// Reads a moment as seconds since 1970. For clap: the error is shown beside the option.
pub(crate) fn parse(text: &str) -> anyhow::Result<u64> {
    parse_at(text, now())
}

fn parse_at(text: &str, now: u64) -> anyhow::Result<u64> {
    if let Some(span) = text.strip_prefix('+') {
        return now.checked_add(seconds(span)?).context("that is too far in the future");
    }
    let moment = match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(moment) => moment,
        Err(_) => match Date::parse(text, &Iso8601::DATE) {
            Ok(date) => date.midnight().assume_utc(),
            Err(_) => bail!("use 2027-01-31, 2027-01-31T12:00:00Z or +30d"),
        },
    };
    u64::try_from(moment.unix_timestamp()).context("that is before 1970")
}

fn seconds(span: &str) -> anyhow::Result<u64> {
    let unit = match span.chars().last() {
        Some('d') => 86_400,
        Some('h') => 3_600,
        Some('m') => 60,
        _ => bail!("use +30d, +12h or +45m"),
    };
    let count: u64 = span[..span.len() - 1].parse().context("use +30d, +12h or +45m")?;
    count.checked_mul(unit).context("that is too far in the future")
}

/// Writes seconds since 1970 for people; zero, which means no bound, as a dash.
pub(crate) fn show(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    let moment = moment.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

/// Returns seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_spans() {
        for (text, seconds) in [
            ("1970-01-02", 86_400),
            ("1970-01-01T01:00:00+01:00", 0),
            ("2027-01-31T12:00:00Z", 1_801_396_800),
            ("+30d", 100 + 30 * 86_400),
            ("+1h", 3_700),
        ] {
            assert_eq!(parse_at(text, 100).unwrap(), seconds, "{text}");
        }
        for bad in
            ["", "tomorrow", "+", "+d", "+3", "+3w", "+-3d", "1969-12-31", "+99999999999999999999d", "2027-02-30", "+é"]
        {
            assert!(parse_at(bad, 100).is_err(), "{bad}");
        }
        assert_eq!((show(0), show(86_400)), ("-".into(), "1970-01-02T00:00:00Z".into()));
    }
}
