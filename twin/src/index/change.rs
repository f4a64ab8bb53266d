//! A change of the index, made of what it has by then. Between the look at an entry and the write of its successor
//! other programs write too, and nodes tell what other machines signed: the newest lease counts. Pure.

use format::Locator;

use super::{Entry, State};

/// A change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The upload is there, or is there from now on.
    Put(Entry),
    /// The upload has this lease from now on, if it is still there.
    Lease(Entry),
}

impl From<Entry> for Change {
    fn from(entry: Entry) -> Self {
        Self::Put(entry)
    }
}

impl Change {
    /// Returns which upload is changed.
    pub(super) fn locator(&self) -> Locator {
        let (Self::Put(entry) | Self::Lease(entry)) = self;
        entry.capability.locator()
    }

    /// Returns the entry that follows `held`, none when that stays: it has a newer lease, or was removed.
    pub(super) fn over(self, held: Option<&Entry>) -> Option<Entry> {
        let is_newer = |entry: &Entry| held.is_none_or(|held| held.tenure.version <= entry.tenure.version);
        match self {
            Self::Put(entry) => Some(entry).filter(is_newer),
            // Whoever renews may have seen it before it was stored.
            Self::Lease(entry) => held.filter(|_| is_newer(&entry)).map(|held| Entry {
                state: if held.state == State::Stored { State::Stored } else { entry.state },
                ..entry
            }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use format::{Capability, Kind};

    use super::*;
    use crate::index::{Batch, Position, Tenure};

    pub(in crate::index) fn entry(version: u64, state: State) -> Entry {
        Entry {
            capability: Capability::from_bytes([1; 32]),
            state,
            path: "a".into(),
            length: 1,
            mime: String::new(),
            kind: Kind::File,
            created: 1,
            tags: [].into(),
            tenure: Tenure { version, ..Tenure::default() },
            batch: Batch([1; 16]),
            position: Position::Top,
            hashes: None,
            name: None,
        }
    }

    #[test]
    fn the_newest_lease_counts_and_what_was_removed_stays_so() {
        use State::{Committing, Stored};
        for (held, version, state, put, lease) in [
            (None, 1, Stored, Some(Stored), None),
            (Some((2, Stored)), 1, Stored, None, None),
            (Some((2, Committing)), 2, Stored, Some(Stored), Some(Stored)),
            (Some((2, Stored)), 3, Committing, Some(Committing), Some(Stored)),
            (Some((2, Committing)), 3, Committing, Some(Committing), Some(Committing)),
        ] {
            let held = held.map(|(version, state)| entry(version, state));
            let over = |change: fn(Entry) -> Change| change(entry(version, state)).over(held.as_ref());
            assert_eq!(over(Change::Put), put.map(|state| entry(version, state)), "{held:?}");
            assert_eq!(over(Change::Lease), lease.map(|state| entry(version, state)), "{held:?}");
        }
    }
}
