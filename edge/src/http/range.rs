//! The Range field: which bytes of the object a request wants. Pure.
//!
//! One range is served; several are answered with the whole object, as RFC 9110 section 14.2 permits.

use std::ops::Range;

/// What of an object a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Unsatisfiable,
}

/// Reads a Range field against an object of `length` bytes. What is not understood is ignored.
//= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
//# A server MAY ignore the Range header field.
//= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
//# An int-range is invalid if the last-pos value is present and less than first-pos.
pub(crate) fn wanted(field: &str, length: u64) -> Wanted {
    let Some((unit, set)) = field.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    match read(set.trim()) {
        None => Wanted::Whole,
        Some(Spec::From { first, .. }) if first >= length => Wanted::Unsatisfiable,
        Some(Spec::From { first, last }) => Wanted::Part(first..last.saturating_add(1).min(length)),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
        //# If the selected representation is shorter than the specified suffix-length, the entire representation is used.
        Some(Spec::Last(0)) => Wanted::Unsatisfiable,
        Some(Spec::Last(_)) if length == 0 => Wanted::Unsatisfiable,
        Some(Spec::Last(bytes)) => Wanted::Part(length.saturating_sub(bytes)..length),
    }
}

enum Spec {
    From { first: u64, last: u64 },
    Last(u64),
}

fn read(spec: &str) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) => (first <= last).then_some(Spec::From { first, last }),
        (Some(first), None) if last.is_empty() => Some(Spec::From { first, last: u64::MAX }),
        (None, Some(bytes)) if first.is_empty() => Some(Spec::Last(bytes)),
        _ => None,
    }
}

/// Digits only, as the grammar says: no sign, no space. More than fit are as good as the most.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
    //= type=test
    //# Assuming a representation of length 10000 bytes
    #[test]
    fn the_examples_of_the_standard() {
        for (field, range) in [
            ("bytes=0-499", 0..500),
            ("bytes=500-999", 500..1000),
            ("bytes=-500", 9500..10000),
            ("bytes=9500-", 9500..10000),
            ("bytes=0-0", 0..1),
            ("bytes=0-1", 0..2),
            ("Bytes=9999-20000", 9999..10000),
            ("bytes=-20000", 0..10000),
            ("bytes=0-99999999999999999999999", 0..10000),
        ] {
            assert_eq!(wanted(field, 10_000), Wanted::Part(range), "{field}");
        }
    }

    #[test]
    fn what_is_not_there_is_unsatisfiable_and_nonsense_is_ignored() {
        for field in ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(wanted(field, 10_000), Wanted::Unsatisfiable, "{field}");
        }
        for field in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(wanted(field, 0), Wanted::Unsatisfiable, "{field}");
        }
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=+1-2",
            "bytes=a-b",
            "lines=0-1",
            "bytes=0-1,4-5",
            "bytes=0 - 1",
        ] {
            assert_eq!(wanted(field, 10_000), Wanted::Whole, "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_inside_the_object_and_not_empty(field in "bytes=[0-9]{0,21}-[0-9]{0,21}", length: u64) {
            if let Wanted::Part(range) = wanted(&field, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }

        #[test]
        fn any_text_is_survived(field in ".{0,40}", length: u64) {
            wanted(&field, length);
        }

        #[test]
        fn ranges_come_back(first in 0u64..1 << 40, bytes in 1u64..1 << 40) {
            let field = format!("bytes={first}-{}", first + bytes - 1);
            prop_assert_eq!(wanted(&field, 1 << 50), Wanted::Part(first..first + bytes));
        }
    }
}
