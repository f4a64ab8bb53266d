//! Statements about several things at once: one turn to a server and back for a whole group, however far it is.

use std::sync::OnceLock;

/// Most things in one statement: those of the largest group.
pub(super) const WIDE_MAX: usize = 64;
const SIZES: usize = WIDE_MAX.ilog2() as usize + 1;
const _: () = assert!(1 << (SIZES - 1) == WIDE_MAX);

/// One statement for each power of two, so that engines remember few. What is less than that is filled up by its caller
/// with what changes nothing.
#[derive(Debug)]
pub struct Wide {
    text: fn(usize) -> String,
    made: [OnceLock<String>; SIZES],
}

impl Wide {
    /// `text` writes the statement for so many things.
    pub(in crate::catalog) const fn new(text: fn(usize) -> String) -> Self {
        Self { text, made: [const { OnceLock::new() }; SIZES] }
    }

    /// Returns the statement for at least so many things, and for how many it is.
    pub(super) fn of(&'static self, count: usize) -> (&'static str, usize) {
        let width = count.clamp(1, WIDE_MAX).next_power_of_two();
        (self.made[width.ilog2() as usize].get_or_init(|| (self.text)(width)), width)
    }
}

/// Writes `of` for each of so many numbers, with commas.
pub(in crate::catalog) fn each(count: usize, of: impl Fn(usize) -> String) -> String {
    (0..count).map(of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    static NUMBERS: Wide = Wide::new(|count| each(count, |at| format!("${}", at + 1)));

    #[test]
    fn a_group_has_the_statement_of_the_next_power_of_two() {
        for (count, text, width) in [(0, "$1", 1), (1, "$1", 1), (2, "$1, $2", 2), (3, "$1, $2, $3, $4", 4)] {
            assert_eq!(NUMBERS.of(count), (text, width));
        }
        assert_eq!((NUMBERS.of(33).1, NUMBERS.of(64).1), (64, 64));
    }
}
