//! Moments on a command line ([`twin::moment`]), and which of them an option takes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use format::Moment;

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
    Ok(twin::moment(text, now)?)
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
    fn a_bound_is_shown_as_a_date_and_none_as_a_dash() {
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
