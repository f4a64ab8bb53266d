//! The index as its owner looks at it: which entries belong together, how large a tree is, and what did not end.
//!
//! A `put` writes one batch: a file alone, or a folder as its top with everything in it. A folder is stored from the
//! leaves to the top, so a `put` that was cut short leaves a batch without a top. Such a batch is still one thing: any
//! of its members stands for all of it.

use std::collections::{BTreeMap, BTreeSet};

use format::{Kind, Locator};

use super::{Batch, Entry, Index, Position, State};

/// An upload with everything that belongs to it, by locators.
pub type Family = BTreeMap<Locator, Entry>;

/// Which uploads are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What `put` was asked to store.
    Tops,
    /// Everything inside stored folders too.
    All,
    /// What did not end.
    Unfinished,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Stands for all of it.
    pub locator: Locator,
    /// Its entry; that of one of its files if a folder did not end.
    pub entry: Entry,
    /// Its path: the name of a file or folder, then the path inside that folder.
    pub path: String,
    /// File or folder.
    pub kind: Kind,
    /// Objects: itself, and everything in it.
    pub objects: usize,
    /// Bytes of the file, or of all files in the folder.
    pub bytes: u64,
    /// Whether it was acknowledged as durable.
    pub is_finished: bool,
}

impl Index {
    /// Returns each upload with everything that belongs to it. The top of a folder, and any member of a folder that did
    /// not end, stand for all of the folder. An upload that the index does not know has an empty family. Cost: one pass
    /// over the index.
    #[must_use]
    pub fn families(&self, locators: &BTreeSet<Locator>) -> BTreeMap<Locator, Family> {
        let topped = self.topped();
        let tops = self.entries.values().filter(|it| it.position == Position::Top && it.state == State::Stored);
        let finished: BTreeSet<Batch> = tops.map(|entry| entry.batch).collect();
        let mut whole = BTreeMap::new();
        let mut families = BTreeMap::new();
        for locator in locators {
            match self.entries.get(locator) {
                // What an attempt left whose repetition came to its end is nobody's top.
                Some(entry) if entry.state != State::Stored && finished.contains(&entry.batch) => {
                    families.insert(*locator, Family::new());
                }
                Some(entry) if entry.position == Position::Top || !topped.contains(&entry.batch) => {
                    whole.entry(entry.batch).or_insert(*locator);
                }
                _ => drop(families.insert(*locator, Family::new())),
            }
        }
        families.extend(whole.values().map(|locator| (*locator, Family::new())));
        for (at, entry) in &self.entries {
            let family = families.get_mut(whole.get(&entry.batch).unwrap_or(at));
            if let Some(family) = family {
                family.insert(*at, entry.clone());
            }
        }
        // A member that was asked for beside its whole is no upload of its own.
        families.retain(|locator, family| !family.is_empty() || !self.entries.contains_key(locator));
        families
    }

    /// Returns what a removal began to end and did not come to its end with: a top with everything in it, for which it
    /// stands, and any other entry alone, because a `put` may go on with what else its batch has. Cost: two passes over
    /// the index.
    #[must_use]
    pub fn ending(&self) -> BTreeMap<Locator, Family> {
        let of_state = |state: State| self.entries.iter().filter(move |(_, entry)| entry.state == state);
        let tops = |state| of_state(state).filter(|(_, entry)| entry.position == Position::Top);
        let finished: BTreeSet<Batch> = tops(State::Stored).map(|(_, entry)| entry.batch).collect();
        // What an attempt left whose repetition came to its end is nobody's top.
        let ended = tops(State::Ending).filter(|(_, entry)| !finished.contains(&entry.batch));
        let ended: BTreeMap<Batch, Locator> = ended.map(|(locator, entry)| (entry.batch, *locator)).collect();
        let mut ending = BTreeMap::new();
        for (at, entry) in &self.entries {
            let whole = ended.get(&entry.batch);
            if whole.is_some() || entry.state == State::Ending {
                ending.entry(*whole.unwrap_or(at)).or_insert_with(Family::new).insert(*at, entry.clone());
            }
        }
        ending
    }

    /// Returns what lies under a path of the list: the folders of this name with everything in them, and what was
    /// stored from within.
    #[must_use]
    pub fn under(&self, folder: &str) -> BTreeSet<Locator> {
        let folder = folder.trim_end_matches('/');
        let inside = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let is_it = |entry: &Entry| entry.path == folder && entry.kind == Kind::Directory;
        // A stable name is called like a folder and does not lie in one.
        let objects = self.entries.iter().filter(|(_, entry)| entry.name.is_none());
        let under = objects.filter(|(_, entry)| is_it(entry) || inside(&entry.path));
        under.map(|(locator, _)| *locator).collect()
    }

    /// Lists uploads, the oldest first.
    #[must_use]
    pub fn list(&self, scope: Scope) -> Vec<Listed> {
        let topped = self.topped();
        let sizes = self.sizes();
        let is_ending = |entry: &Entry| entry.state == State::Ending;
        let tops = self.entries.values().filter(|entry| entry.position == Position::Top && is_ending(entry));
        let ending: BTreeSet<Batch> = tops.map(|entry| entry.batch).collect();
        let mut cut_short = BTreeSet::new();
        let mut listed = Vec::new();
        for (locator, entry) in &self.entries {
            // A name whose move was cut short is a name: ending it would end its label for good.
            let is_name = entry.name.is_some() && !is_ending(entry);
            let is_stored = entry.state == State::Stored || is_name;
            let has_top = topped.contains(&entry.batch);
            if !has_top && cut_short.insert(entry.batch) {
                let top = entry.path.split('/').next().unwrap_or_default();
                let size = sizes.get(&(entry.batch, top)).copied();
                listed.push(Listed::of(*locator, entry, top, Kind::Directory, size.unwrap_or_default(), false));
            }
            let is_wanted = match (scope, entry.position) {
                (Scope::Tops, Position::Top) | (Scope::All, _) => true,
                (Scope::Tops, Position::Inner) => false,
                // Files of a folder that did not end are told as that folder.
                (Scope::Unfinished, Position::Top) => !is_stored,
                (Scope::Unfinished, Position::Inner) => !is_stored && has_top && !ending.contains(&entry.batch),
            };
            if is_wanted {
                let size = sizes.get(&(entry.batch, entry.path.as_str())).copied();
                listed.push(Listed::of(*locator, entry, &entry.path, entry.kind, size.unwrap_or_default(), is_stored));
            }
        }
        listed.sort_by(|a, b| (a.entry.created, &a.path).cmp(&(b.entry.created, &b.path)));
        listed
    }

    /// Returns the batches that have a top.
    fn topped(&self) -> BTreeSet<Batch> {
        let tops = self.entries.values().filter(|entry| entry.position == Position::Top);
        tops.map(|entry| entry.batch).collect()
    }

    /// Returns the objects, and the bytes of files, at each path and below it.
    fn sizes(&self) -> BTreeMap<(Batch, &str), (usize, u64)> {
        let mut sizes = BTreeMap::new();
        for entry in self.entries.values() {
            let bytes = if entry.kind == Kind::File { entry.length } else { 0 };
            let above = entry.path.match_indices('/').map(|(at, _)| &entry.path[..at]);
            for path in above.chain([entry.path.as_str()]) {
                let size: &mut (usize, u64) = sizes.entry((entry.batch, path)).or_default();
                *size = (size.0 + 1, size.1.saturating_add(bytes));
            }
        }
        sizes
    }
}

impl Listed {
    fn of(
        locator: Locator,
        entry: &Entry,
        path: &str,
        kind: Kind,
        (objects, bytes): (usize, u64),
        is_finished: bool,
    ) -> Self {
        Self { locator, entry: entry.clone(), path: path.to_owned(), kind, objects, bytes, is_finished }
    }
}
