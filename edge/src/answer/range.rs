//! The Range field: which bytes of the object a request wants. Pure.

use std::ops::Range;

/// Ranges of one request; a field with more is ignored. PDF readers and video players ask for two or three.
const RANGES_MAX: usize = 8;
/// Ranges that are no farther apart become one: the head of another part would be longer than what lies between.
const GAP_BYTES_MAX: u64 = 80;

/// What of an object a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes: ranges that do not touch, none of them empty, at least one, in the order they were asked for.
    Ranges(Vec<Range<u64>>),
    /// Bytes that it does not have.
    Unsatisfiable,
}

/// Reads a Range field against an object of `length` bytes. What is not understood is ignored.
//= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
//# A server MAY ignore the Range header field.
//= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.1
//# An int-range is invalid if the last-pos value is present and less than the first-pos.
pub(crate) fn wanted(field: &str, length: u64) -> Wanted {
    //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
    //# A server that supports range requests MAY ignore a Range header field when the selected representation has no
    //# content
    // No Content-Range says which bytes of none these are, and the last byte of it is satisfiable by the standard.
    if length == 0 {
        return Wanted::Whole;
    }
    let Some((unit, set)) = field.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    //= https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1.2
    //# A recipient MUST parse and ignore a reasonable number of empty list elements
    let specs: Vec<&str> = set.split(',').map(str::trim).filter(|spec| !spec.is_empty()).collect();
    //= https://www.rfc-editor.org/rfc/rfc9110#section-17.15
    //# a server ought to ignore, coalesce, or reject egregious range requests
    if specs.is_empty() || specs.len() > RANGES_MAX {
        return Wanted::Whole;
    }
    let mut ranges = Vec::with_capacity(specs.len());
    for spec in specs {
        let Some(spec) = read(spec) else { return Wanted::Whole };
        let range = spec.within(length);
        if !range.is_empty() {
            join(&mut ranges, range);
        }
    }
    if ranges.is_empty() { Wanted::Unsatisfiable } else { Wanted::Ranges(ranges) }
}

/// Adds a range, and makes it one with those that it touches, where the first of them stood.
fn join(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let touches = |one: &Range<u64>, other: &Range<u64>| {
        one.start <= other.end.saturating_add(GAP_BYTES_MAX) && other.start <= one.end.saturating_add(GAP_BYTES_MAX)
    };
    let mut place = ranges.len();
    // One that grew may touch another.
    while let Some(at) = ranges.iter().position(|other| touches(other, &range)) {
        let other = ranges.remove(at);
        range = range.start.min(other.start)..range.end.max(other.end);
        place = place.min(at);
    }
    ranges.insert(place.min(ranges.len()), range);
}

enum Spec {
    From { first: u64, last: u64 },
    Last(u64),
}

impl Spec {
    /// The bytes of an object of `length` that are meant; empty when there are none.
    fn within(&self, length: u64) -> Range<u64> {
        match *self {
            Self::From { first, last } => first.min(length)..last.saturating_add(1).min(length),
            //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
            //# If the selected representation is shorter than the specified suffix-length, the entire representation is used.
            Self::Last(bytes) => length.saturating_sub(bytes)..length,
        }
    }
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

    fn one(range: Range<u64>) -> Wanted {
        Wanted::Ranges(std::iter::once(range).collect())
    }

    //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
    //= type=test
    //# Additional examples, assuming a representation of length 10000:
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
            assert_eq!(wanted(field, 10_000), one(range), "{field}");
        }
        assert_eq!(wanted("bytes=0-0,-1", 10_000), Wanted::Ranges(vec![0..1, 9999..10_000]));
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
        //= type=test
        //# bytes= 0-999, 4500-5499, -1000
        let three = Wanted::Ranges(vec![0..1000, 4500..5500, 9000..10_000]);
        assert_eq!(wanted("bytes= 0-999, 4500-5499, -1000", 10_000), three);
        // Legal specifications of the second 500 bytes, says the same section.
        for field in ["bytes=500-600,601-999", "bytes=500-700,601-999"] {
            assert_eq!(wanted(field, 10_000), one(500..1000), "{field}");
        }
    }

    #[test]
    fn parts_stand_as_asked_for_and_what_touches_is_one() {
        assert_eq!(
            wanted("bytes=9000-9009,0-9,5000-5009", 10_000),
            Wanted::Ranges(vec![9000..9010, 0..10, 5000..5010])
        );
        assert_eq!(wanted("bytes=0-9,5000-5009,90-99", 10_000), Wanted::Ranges(vec![0..100, 5000..5010]));
        assert_eq!(wanted("bytes=0-9,300-309,100-219", 10_000), Wanted::Ranges(vec![0..10, 100..310]));
        assert_eq!(wanted("bytes=0-9,200-209,5-205", 10_000), one(0..210));
        assert_eq!(wanted("bytes=0-9,,10000-,", 10_000), one(0..10), "what is not there is left out");
        assert_eq!(wanted("bytes=10000-,-0", 10_000), Wanted::Unsatisfiable);
        let many = |count: u64| (0..count).map(|at| format!("{0}-{0}", at * 1000)).collect::<Vec<_>>().join(",");
        assert!(matches!(wanted(&format!("bytes={}", many(8)), 10_000), Wanted::Ranges(ranges) if ranges.len() == 8));
        assert_eq!(wanted(&format!("bytes={}", many(9)), 10_000), Wanted::Whole);
    }

    #[test]
    fn what_is_not_there_is_unsatisfiable_and_nonsense_is_ignored() {
        for field in ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(wanted(field, 10_000), Wanted::Unsatisfiable, "{field}");
        }
        for field in ["bytes=0-", "bytes=-1", "bytes=0-0", "bytes=-0", "bytes=1-"] {
            assert_eq!(wanted(field, 0), Wanted::Whole, "{field}");
            assert_ne!(wanted(field, 1), Wanted::Whole, "{field}");
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
            "bytes=0-1,x",
            "bytes=,",
            "bytes=0 - 1",
        ] {
            assert_eq!(wanted(field, 10_000), Wanted::Whole, "{field}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_inside_the_object_and_apart(
            field in "bytes=[0-9]{0,4}-[0-9]{0,21}(,[0-9]{0,4}-[0-9]{0,4}){0,7}", length in 0u64..20_000,
        ) {
            if let Wanted::Ranges(mut ranges) = wanted(&field, length) {
                ranges.sort_by_key(|range| range.start);
                prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= length));
                prop_assert!(ranges.windows(2).all(|two| two[0].end + GAP_BYTES_MAX < two[1].start));
            }
        }

        #[test]
        fn any_text_is_survived(field in ".{0,40}", length: u64) {
            wanted(&field, length);
        }

        #[test]
        fn ranges_come_back(first in 0u64..1 << 40, bytes in 1u64..1 << 40) {
            let field = format!("bytes={first}-{}", first + bytes - 1);
            prop_assert_eq!(wanted(&field, 1 << 50), one(first..first + bytes));
        }
    }
}
