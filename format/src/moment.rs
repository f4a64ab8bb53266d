//! Times for people. Errors, logs and screens show seconds since 1970 as a date.

use std::fmt;

const DAY_SECONDS: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// Seconds since 1970, written as an RFC 3339 time in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The algorithm is civil_from_days in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". A year
        // that begins in March has its leap day at its end, so every month begins at the same day number in every year.
        let days = self.0 / DAY_SECONDS + DAYS_BEFORE_1970;
        let of_era = days % ERA_DAYS;
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = days / ERA_DAYS * 400 + year_of_era + u64::from(month <= 2);
        let second = self.0 % DAY_SECONDS;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(to, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (86_399, "1970-01-01T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_801_396_800, "2027-01-31T12:00:00Z"),
            (1_835_395_200, "2028-02-29T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment(seconds).to_string(), text);
        }
        assert!(Moment(u64::MAX).to_string().starts_with("584554051223-"), "it has no bound");
    }
}
