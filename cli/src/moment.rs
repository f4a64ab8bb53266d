//! Moments as people write them on a command line: a date, an RFC 3339 time, or so many days, hours or minutes from
//! now.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use format::Moment;
use time::{
    Date, OffsetDateTime,
    format_description::well_known::{Iso8601, Rfc3339},
};

/// Reads a moment as seconds since 1970. For clap: the error is shown beside the option.
pub(crate) fn parse(text: &str) -> anyhow::Result<u64> {
    parse_at(text, now())
}

/// Returns a parser that accepts only moments in the future. Its error says what else to do. For clap: the error is
/// shown beside the option, before anything was done.
pub(crate) fn to_come(or_else: &'static str) -> impl Fn(&str) -> anyhow::Result<u64> + Clone + Send + Sync {
    move |text| to_come_at(text, now(), or_else)
}

/// Returns a reader of such moments and of `never`, which is zero.
pub(crate) fn to_come_or_never(or_else: &'static str) -> impl Fn(&str) -> anyhow::Result<u64> + Clone + Send + Sync {
    move |text| if text == "never" { Ok(0) } else { to_come_at(text, now(), or_else) }
}

fn to_come_at(text: &str, now: u64, or_else: &str) -> anyhow::Result<u64> {
    let moment = parse_at(text, now)?;
    ensure!(moment > now, "that is {}, and it is {} now; {or_else}", Moment(moment), Moment(now));
    Ok(moment)
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

/// Formats seconds since 1970 for people. Zero means no bound and becomes a dash.
pub(crate) fn show(seconds: u64) -> String {
    if seconds == 0 { "-".to_owned() } else { Moment(seconds).to_string() }
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

    #[test]
    fn what_is_past_is_told_with_the_time_as_read_and_now() {
        let read = |text| to_come_at(text, 86_400, "name a later one");
        assert_eq!(read("1970-01-02T00:00:01Z").unwrap(), 86_401);
        assert_eq!(read("+1m").unwrap(), 86_460);
        for past in ["1970-01-01", "1970-01-02", "+0d"] {
            let error = read(past).unwrap_err().to_string();
            assert!(error.ends_with("and it is 1970-01-02T00:00:00Z now; name a later one"), "{error}");
        }
        assert!(read("1970-01-01").unwrap_err().to_string().starts_with("that is 1970-01-01T00:00:00Z,"));
    }
}
