//! Why an object cannot be placed. The message tells which cap or place to change, and by how much.

use std::collections::{BTreeMap, BTreeSet};

use format::{Cap, Domain, Redundancy};

/// Why an object cannot be placed. A retry helps only after nodes, places or caps have changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The cluster, or the part of it that the owner allows, has too few nodes.
    #[error(
        "{redundancy} needs {}, {} short: {have} of {known} known ones {}{}; {}",
        origins(*need, redundancy.columns()), need - have, fitting(wanted, refused), unfit(*full, *leaving), remedy(*full)
    )]
    TooFew {
        /// The redundancy.
        redundancy: Redundancy,
        /// Origins needed, besides those that already hold columns.
        need: usize,
        /// Origins that may take a column.
        have: usize,
        /// All known origins.
        known: usize,
        /// Origins in allowed places with no space left above their reserve.
        full: usize,
        /// Origins in allowed places that take no new columns, because they are down or being emptied.
        leaving: usize,
        /// Places wanted.
        wanted: Vec<Domain>,
        /// Places refused.
        refused: Vec<Domain>,
    },
    /// The caps leave too little room.
    #[error(
        "{redundancy} needs {}, {} short: caps leave room for {room}: {}; raise a cap or allow more places",
        origins(*need, redundancy.columns()), need - room, reached(binding)
    )]
    Capped {
        /// The redundancy.
        redundancy: Redundancy,
        /// Origins needed, besides those that already hold columns.
        need: usize,
        /// The largest number of columns that the caps allow.
        room: usize,
        /// The binding caps, each with the places that are full under it.
        binding: BTreeMap<Cap, BTreeSet<String>>,
    },
    /// The caps are for levels whose places cross in three ways. No placement was found, though one may exist.
    #[error(
        "no placement of {redundancy} was found under caps for places that cross in three ways; drop one of {}",
        list(caps)
    )]
    Tangled {
        /// The redundancy.
        redundancy: Redundancy,
        /// The caps.
        caps: Vec<Cap>,
    },
}

impl PlacementError {
    /// Returns the names of the binding caps, each with the places that are full under it. Empty if no cap binds.
    #[must_use]
    pub fn full_places(&self) -> String {
        if let Self::Capped { binding, .. } = self { reached(binding) } else { String::new() }
    }
}

/// Maximum number of places named in a message; the rest are counted.
const NAMED_MAX: usize = 4;

pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) -> String {
    let items = items.into_iter();
    let more = items.len().saturating_sub(NAMED_MAX);
    let named = items.take(NAMED_MAX).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Formats the number of origins needed. A new object needs one for each column; a repair needs one for each lost
/// column.
fn origins(need: usize, columns: usize) -> String {
    let more = if need < columns { "more " } else { "" };
    format!("{need} {more}origin{}", if need == 1 { "" } else { "s" })
}

fn unfit(full: usize, leaving: usize) -> String {
    let counted = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let parts: Vec<String> =
        [counted(full, "have no space left"), counted(leaving, "take nothing new")].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn remedy(full: usize) -> &'static str {
    if full > 0 {
        "free space on their disks, use a smaller profile or allow more places"
    } else {
        "use a smaller profile or allow more places"
    }
}

fn fitting(wanted: &[Domain], refused: &[Domain]) -> String {
    match (wanted, refused) {
        ([], []) => "can be used".to_owned(),
        (wanted, []) => format!("lie in the wanted places ({})", list(wanted)),
        ([], refused) => format!("lie outside the refused places ({})", list(refused)),
        (wanted, refused) => format!("fit the wanted ({}) and refused places ({})", list(wanted), list(refused)),
    }
}

fn reached(binding: &BTreeMap<Cap, BTreeSet<String>>) -> String {
    let name = |name: &String| if name.is_empty() { "unknown ones".to_owned() } else { name.clone() };
    let caps =
        binding.iter().map(|(cap, names)| format!("{cap} for {}", list(names.iter().map(name).collect::<Vec<_>>())));
    caps.collect::<Vec<_>>().join("; ")
}
