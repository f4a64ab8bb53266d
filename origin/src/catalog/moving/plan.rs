//! What a move does next, decided from what stands in both databases.
//!
//! Keeps true: a catalog's id stands in one database at most, and that one has all of it. The source is held alone from
//! before it is read until it says that it is gone, so a copy that waits to be used is as its source said last.

use super::{Mark, MoveError, Way};
use crate::catalog::CatalogId;

/// What is in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No table.
    Blank,
    /// Tables, and no catalog that this program knows.
    Foreign,
    /// A catalog in which nothing is filed.
    Empty,
    /// A catalog that origins may use.
    Here(CatalogId),
    /// One that they may not: it is elsewhere, or not whole yet.
    Moved(Mark),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Copy all, over what is there.
    Copy(CatalogId),
    /// The copy is whole and its source is gone: let it be used.
    Finish(CatalogId),
    /// It was done before.
    Nothing(CatalogId),
}

impl Step {
    pub(super) fn id(self) -> CatalogId {
        match self {
            Self::Copy(id) | Self::Finish(id) | Self::Nothing(id) => id,
        }
    }
}

/// Says of a source, before the target is touched, which catalog it has or had.
pub(super) fn leaving(source: &Standing, from: &str) -> Result<CatalogId, MoveError> {
    match source {
        Standing::Here(id) | Standing::Moved(Mark { id, way: Way::To, .. }) => Ok(*id),
        Standing::Moved(Mark { way: Way::From, place, .. }) => {
            Err(MoveError::Unfinished { place: from.to_owned(), from: place.clone() })
        }
        Standing::Blank | Standing::Foreign | Standing::Empty => Err(MoveError::NoCatalog { place: from.to_owned() }),
    }
}

/// Decides the next step. What another catalog has is never touched; what the same one left behind, or a move of it
/// that was cut short, is.
pub(super) fn next(source: &Standing, target: &Standing, from: &str, to: &str) -> Result<Step, MoveError> {
    let id = leaving(source, from)?;
    let taken = || MoveError::Taken { place: to.to_owned() };
    match (source, target) {
        (Standing::Moved(gone), Standing::Moved(come)) if come.way == Way::From && gone.number == come.number => {
            Ok(Step::Finish(id))
        }
        (Standing::Moved(_), Standing::Here(held)) if *held == id => Ok(Step::Nothing(id)),
        (Standing::Moved(gone), _) => Err(MoveError::Gone { place: from.to_owned(), to: gone.place.clone() }),
        (_, Standing::Blank | Standing::Empty) => Ok(Step::Copy(id)),
        (_, Standing::Moved(mark)) if mark.id == id => Ok(Step::Copy(id)),
        (_, Standing::Foreign | Standing::Here(_) | Standing::Moved(_)) => Err(taken()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CatalogId = CatalogId([1; 16]);
    const TWO: CatalogId = CatalogId([2; 16]);

    fn mark(id: CatalogId, number: u8, way: Way) -> Standing {
        Standing::Moved(Mark { id, number: [number; 16], way, place: "elsewhere".to_owned() })
    }

    fn decided(source: &Standing, target: &Standing) -> String {
        match next(source, target, "a", "b") {
            Ok(step) => format!("{step:?}").chars().take_while(|c| c.is_alphabetic()).collect(),
            Err(error) => format!("{error:?}").chars().take_while(|c| c.is_alphabetic()).collect(),
        }
    }

    #[test]
    fn each_pair_of_databases_has_one_next_step() {
        use Standing::{Blank, Empty, Foreign, Here};
        let (to, from) = (Way::To, Way::From);
        for (source, target, step) in [
            (Here(ONE), Blank, "Copy"),
            (Here(ONE), Empty, "Copy"),
            (Here(ONE), Foreign, "Taken"),
            (Here(ONE), Here(TWO), "Taken"),
            // A copy made by other means: nobody can say which of the two is right.
            (Here(ONE), Here(ONE), "Taken"),
            // It went from there once, and comes back.
            (Here(ONE), mark(ONE, 1, to), "Copy"),
            (Here(ONE), mark(ONE, 1, from), "Copy"),
            (Here(ONE), mark(TWO, 1, to), "Taken"),
            (Here(ONE), mark(TWO, 1, from), "Taken"),
            (mark(ONE, 1, to), mark(ONE, 1, from), "Finish"),
            // Of an earlier move, after which the source was written to.
            (mark(ONE, 2, to), mark(ONE, 1, from), "Gone"),
            (mark(ONE, 1, to), Here(ONE), "Nothing"),
            (mark(ONE, 1, to), Here(TWO), "Gone"),
            (mark(ONE, 1, to), Blank, "Gone"),
            (mark(ONE, 1, to), mark(ONE, 1, to), "Gone"),
            (mark(ONE, 1, from), Blank, "Unfinished"),
            (Blank, Blank, "NoCatalog"),
            (Empty, Blank, "NoCatalog"),
            (Foreign, Blank, "NoCatalog"),
        ] {
            assert_eq!(decided(&source, &target), step, "{source:?} to {target:?}");
        }
    }
}
