//! Suggests the word that was probably meant by a misspelt one.

/// Returns the candidate with the fewest typing errors from `word`, at most one error for every three letters.
///
/// A typing error is a letter too many, too few or wrong, or two swapped letters (edit distance). Costs the letters of
/// the word times the letters of all candidates.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips = candidates.into_iter().map(|candidate| (slips(word.as_bytes(), candidate.as_bytes()), candidate));
    slips.min().filter(|(slips, _)| slips * 3 <= word.len()).map(|(_, candidate)| candidate)
}

/// Counts typing errors between two words (optimal string alignment), row by row of the usual table.
fn slips(one: &[u8], other: &[u8]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for at in 0..one.len() {
        let mut row = vec![at + 1];
        for to in 0..other.len() {
            let changed = last[to] + usize::from(one[at] != other[to]);
            let mut least = changed.min(last[to + 1] + 1).min(row[to] + 1);
            if at > 0 && to > 0 && one[at] == other[to - 1] && one[at - 1] == other[to] {
                least = least.min(before_last[to - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_away() {
        let keys = ["receive-allow", "receive-deny", "hold-allow", "ttl", "ttl-video", "status"];
        assert_eq!(nearest("recieve-allow", keys), Some("receive-allow"));
        assert_eq!(nearest("ttl-vidoe", keys), Some("ttl-video"));
        assert_eq!(nearest("tll", keys), Some("ttl"));
        assert_eq!(nearest("deny", keys), None);
        assert_eq!((nearest("", keys), nearest("ttl", [])), (None, None));
    }

    #[test]
    fn counts_each_slip_once() {
        for (one, other, count) in [
            ("", "", 0),
            ("ab", "ab", 0),
            ("ab", "ba", 1),
            ("ab", "abc", 1),
            ("abc", "bc", 1),
            ("abc", "axc", 1),
            ("ab", "", 2),
        ] {
            assert_eq!(slips(one.as_bytes(), other.as_bytes()), count, "{one} {other}");
        }
    }
}
