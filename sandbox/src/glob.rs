//! Globs over paths, matched in time linear in the length of the path, whatever the pattern.
//!
//! `*` matches any sequence of bytes without `/`, `**` any sequence, and `?` one byte except `/`. Everything else
//! matches itself, in any spelling ([`canonical_glob`]); `%2A` is a literal star. Backtracking was rejected: the owner
//! chooses the glob and the viewer the path, so together they could choose how long the edge computes. Here the glob is
//! a non-deterministic automaton (NFA) whose set of reachable positions is one `u128`, and each byte of the path takes
//! a few instructions (Baeza-Yates and Gonnet, "A new approach to text searching", 1992, extended by the two stars).

use crate::path::canonical_glob;

/// Maximum number of tokens of a glob. A token is a byte, a `?` or a star, and takes one bit; the last bit is the final
/// position.
const TOKENS_MAX: u32 = 127;

/// A compiled glob. It takes about 4 KiB.
#[derive(Debug, Clone)]
pub struct Glob {
    /// For each byte: the positions whose token is a single byte that matches it.
    singles: Box<[u128; 256]>,
    /// The positions whose token is `*`, and those whose token is `**`.
    stars: u128,
    double_stars: u128,
    accept: u128,
}

/// A glob is too long. The owner is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "glob has more than {limit} letters (3 for each %XX), `?` and stars; shorten it or ask path-starts and path-ends"
)]
pub struct GlobError {
    /// Tokens allowed in a glob.
    pub limit: u32,
}

impl Glob {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`GlobError`] if it has more than 127 tokens.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let mut glob = Self { singles: Box::new([0; 256]), stars: 0, double_stars: 0, accept: 0 };
        let pattern = canonical_glob(pattern);
        let mut bytes = pattern.bytes().peekable();
        let mut position = 0;
        while let Some(byte) = bytes.next() {
            if position == TOKENS_MAX {
                return Err(GlobError { limit: TOKENS_MAX });
            }
            let bit = 1 << position;
            match byte {
                b'*' => {
                    let mut stars = 1;
                    while bytes.next_if_eq(&b'*').is_some() {
                        stars += 1;
                    }
                    if stars == 1 { glob.stars |= bit } else { glob.double_stars |= bit }
                }
                b'?' => {
                    glob.singles.iter_mut().for_each(|positions| *positions |= bit);
                    glob.singles[usize::from(b'/')] &= !bit;
                }
                byte => glob.singles[usize::from(byte)] |= bit,
            }
            position += 1;
        }
        glob.accept = 1 << position;
        Ok(glob)
    }

    /// Returns whether the whole of `path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut positions = self.past_stars(1);
        for byte in path.bytes() {
            let stay = if byte == b'/' { self.double_stars } else { self.stars | self.double_stars };
            let advanced = (positions & self.singles[usize::from(byte)]) << 1;
            positions = self.past_stars(advanced | (positions & stay));
            if positions == 0 {
                return false;
            }
        }
        positions & self.accept != 0
    }

    /// Adds the positions after stars, because a star also matches nothing. Two stars are never adjacent, so one pass
    /// suffices.
    fn past_stars(&self, positions: u128) -> u128 {
        positions | ((positions & (self.stars | self.double_stars)) << 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::new(pattern).expect("short enough").matches(path)
    }

    /// The definition, implemented literally. It is exponential, so it is only for short texts.
    fn defined(pattern: &[u8], path: &[u8]) -> bool {
        match pattern {
            [] => path.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=path.len()).any(|skip| defined(rest, &path[skip..])),
            [b'*', rest @ ..] => (0..=path.len())
                .take_while(|skip| !path[..*skip].contains(&b'/'))
                .any(|skip| defined(rest, &path[skip..])),
            [b'?', rest @ ..] => path.first().is_some_and(|byte| *byte != b'/') && defined(rest, &path[1..]),
            [byte, rest @ ..] => path.first() == Some(byte) && defined(rest, &path[1..]),
        }
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        assert!(matches("/img/*.png", "/img/a.png") && !matches("/img/*.png", "/img/b/a.png"));
        assert!(matches("/img/**.png", "/img/b/a.png") && matches("**", "") && matches("*", ""));
        assert!(matches("/größe/*", "/gr%C3%B6%C3%9Fe/a") && matches("/%70/%2a", "/p/%2A"));
        assert!(matches("/a?c", "/abc") && !matches("/a?c", "/a/c") && !matches("/a", "/ab") && !matches("/ab", "/a"));
    }

    #[test]
    fn takes_127_tokens_and_refuses_128() {
        let longest = "a".repeat(127);
        assert!(matches(&longest, &longest));
        assert_eq!(Glob::new(&"a".repeat(128)).err(), Some(GlobError { limit: 127 }));
    }

    #[test]
    fn takes_linear_time_where_backtracking_would_not() {
        let pattern = "*a".repeat(63);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(100_000))));
    }

    proptest! {
        #[test]
        fn equals_its_definition(pattern in "[ab/*?]{0,8}", path in "[ab/]{0,8}") {
            prop_assert_eq!(matches(&pattern, &path), defined(pattern.as_bytes(), path.as_bytes()));
        }
    }
}
