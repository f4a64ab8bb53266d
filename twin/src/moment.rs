//! Moments as people write them: a date, an RFC 3339 time, or so many days, hours or minutes from now. Pure.

use time::{
    Date, OffsetDateTime,
    format_description::well_known::{Iso8601, Rfc3339},
};

/// A text that is no moment; its writer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// It is neither date, time nor span.
    #[error("use 2027-01-31, 2027-01-31T12:00:00Z or +30d")]
    Form,
    /// A span without a number or a unit.
    #[error("use +30d, +12h or +45m")]
    Span,
    /// Too far ahead for the calendar.
    #[error("that is too far in the future")]
    Far,
    /// Before the count of seconds begins.
    #[error("that is before 1970")]
    Early,
}

/// Reads a moment as seconds since 1970. Spans count from `now`.
///
/// # Errors
/// [`MomentError`].
pub fn moment(text: &str, now: u64) -> Result<u64, MomentError> {
    if let Some(span) = text.strip_prefix('+') {
        return now.checked_add(seconds(span)?).ok_or(MomentError::Far);
    }
    let moment = match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(moment) => moment,
        Err(_) => Date::parse(text, &Iso8601::DATE).map_err(|_| MomentError::Form)?.midnight().assume_utc(),
    };
    u64::try_from(moment.unix_timestamp()).map_err(|_| MomentError::Early)
}

fn seconds(span: &str) -> Result<u64, MomentError> {
    let unit = match span.chars().last() {
        Some('d') => 86_400,
        Some('h') => 3_600,
        Some('m') => 60,
        _ => return Err(MomentError::Span),
    };
    let count: u64 = span[..span.len() - 1].parse().map_err(|_| MomentError::Span)?;
    count.checked_mul(unit).ok_or(MomentError::Far)
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
            assert_eq!(moment(text, 100).unwrap(), seconds, "{text}");
        }
        for bad in
            ["", "tomorrow", "+", "+d", "+3", "+3w", "+-3d", "1969-12-31", "+99999999999999999999d", "2027-02-30", "+é"]
        {
            assert!(moment(bad, 100).is_err(), "{bad}");
        }
        assert_eq!(moment("+213503982334602d", u64::MAX - 5), Err(MomentError::Far));
    }
}
