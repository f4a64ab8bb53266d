//! A range of bytes as people write it: `100-199`, `100-` or `-100`, both ends included, as in RFC 9110 section 14.1.2.

use std::{ops::Range, str::FromStr};

/// Part of an object, before its length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From a first byte to a last one, included.
    Between {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// From a first byte to the end.
    From {
        /// First byte.
        first: u64,
    },
    /// The last so many bytes.
    Last {
        /// How many.
        bytes: u64,
    },
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a range: use FIRST-LAST, FIRST- or -COUNT, counted in bytes from 0")]
pub struct ByteRangeError {
    /// What was given, cut at 60 characters.
    pub found: String,
}

impl ByteRange {
    /// Returns the bytes that the range selects from an object of `length` bytes, or `None` when it selects none.
    #[must_use]
    pub fn of(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Between { first, last } => first..last.saturating_add(1).min(length),
            Self::From { first } => first..length,
            Self::Last { bytes } => length.saturating_sub(bytes)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

impl FromStr for ByteRange {
    type Err = ByteRangeError;

    fn from_str(text: &str) -> Result<Self, ByteRangeError> {
        let wrong = || ByteRangeError { found: text.chars().take(60).collect() };
        let number = |text: &str| {
            if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().map_err(|_| wrong()) } else { Err(wrong()) }
        };
        match text.split_once('-').ok_or_else(wrong)? {
            ("", bytes) => Ok(Self::Last { bytes: number(bytes)? }),
            (first, "") => Ok(Self::From { first: number(first)? }),
            (first, last) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok(Self::Between { first, last }),
                _ => Err(wrong()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_http_means_them() {
        let of = |text: &str, length| text.parse::<ByteRange>().unwrap().of(length);
        assert_eq!(of("0-0", 10), Some(0..1));
        assert_eq!(of("5-99", 10), Some(5..10));
        assert_eq!(of("9-", 10), Some(9..10));
        assert_eq!(of("-3", 10), Some(7..10));
        assert_eq!(of("-30", 10), Some(0..10));
        assert_eq!(of("0-18446744073709551615", 10), Some(0..10));
        for (text, length) in [("10-", 10), ("-0", 10), ("0-0", 0), ("10-20", 10)] {
            assert_eq!(of(text, length), None, "{text}");
        }
        for bad in ["", "-", "5", "5-4", "a-b", "+1-2", "1-2-3", "18446744073709551616-"] {
            assert!(bad.parse::<ByteRange>().is_err(), "{bad}");
        }
    }
}
