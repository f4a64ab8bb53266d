//! The list of uploads a page at a time, the newest first, as a program shows it that serves many: one pass over the
//! index, and no more entries copied than the page has.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use format::{Kind, Locator};

use super::{Batch, Entry, Index, Listed, Position, State};

/// Which uploads a page has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageAsk {
    /// The last line of the page before; none for the first page.
    pub after: Option<Spot>,
    /// At most so many lines.
    pub limit: usize,
    /// The path has this text in it, whatever the case of its letters. Empty: any.
    pub name: String,
}

/// The place of an upload in the list. The newest stands first; of those of one second, the least locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Seconds since 1970 when it was stored.
    pub created: u64,
    /// Its locator.
    pub locator: Locator,
}

/// A page of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its lines.
    pub lines: Vec<Listed>,
    /// Where the next page goes on; none when this is the last.
    pub next: Option<Spot>,
    /// How many uploads there are in all pages of the same name.
    pub count: usize,
}

impl Ord for Spot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.created, self.locator).cmp(&(self.created, other.locator))
    }
}

impl PartialOrd for Spot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Spot {
    fn of(locator: &Locator, entry: &Entry) -> Self {
        Self { created: entry.created, locator: *locator }
    }
}

impl Index {
    /// Returns a page of what was stored to its end: files and folders as `put` was asked for them, no stable names.
    #[must_use]
    pub fn page(&self, ask: &PageAsk) -> Page {
        let name = ask.name.to_lowercase();
        let is_it = |entry: &Entry| is_whole(entry) && (name.is_empty() || entry.path.to_lowercase().contains(&name));
        // The heap's greatest stands last in the list.
        let (mut nearest, mut count) = (BinaryHeap::with_capacity(ask.limit + 2), 0);
        for (locator, entry) in self.entries().filter(|(_, entry)| is_it(entry)) {
            count += 1;
            let spot = Spot::of(locator, entry);
            if ask.after.is_none_or(|after| spot > after) {
                nearest.push(spot);
                if nearest.len() > ask.limit + 1 {
                    nearest.pop();
                }
            }
        }
        let mut spots = nearest.into_sorted_vec();
        let has_more = spots.len() > ask.limit;
        spots.truncate(ask.limit);
        let next = spots.last().copied().filter(|_| has_more);
        Page { lines: self.lines(spots.iter().map(|spot| spot.locator)), next, count }
    }

    /// Returns an upload that was stored to its end, with the size of everything in it.
    #[must_use]
    pub fn whole(&self, locator: &Locator) -> Option<Listed> {
        self.entry(locator).filter(|entry| is_whole(entry))?;
        self.lines([*locator]).pop()
    }

    /// Returns the lines of tops.
    fn lines(&self, locators: impl IntoIterator<Item = Locator>) -> Vec<Listed> {
        let tops: Vec<(Locator, &Entry)> =
            locators.into_iter().filter_map(|locator| Some((locator, self.entry(&locator)?))).collect();
        let folders = tops.iter().filter(|(_, entry)| entry.kind == Kind::Directory);
        let folders: BTreeSet<Batch> = folders.map(|(_, entry)| entry.batch).collect();
        let mut sizes: BTreeMap<Batch, (usize, u64)> = BTreeMap::new();
        if !folders.is_empty() {
            for (_, entry) in self.entries().filter(|(_, entry)| folders.contains(&entry.batch)) {
                let bytes = if entry.kind == Kind::File { entry.length } else { 0 };
                let size = sizes.entry(entry.batch).or_default();
                *size = (size.0 + 1, size.1.saturating_add(bytes));
            }
        }
        let line = |(locator, entry): (Locator, &Entry)| {
            let (objects, bytes) = match entry.kind {
                Kind::File => (1, entry.length),
                Kind::Directory => sizes.get(&entry.batch).copied().unwrap_or_default(),
            };
            Listed {
                locator,
                entry: entry.clone(),
                path: entry.path.clone(),
                kind: entry.kind,
                objects,
                bytes,
                is_finished: true,
            }
        };
        tops.into_iter().map(line).collect()
    }
}

fn is_whole(entry: &Entry) -> bool {
    entry.position == Position::Top && entry.state == State::Stored && entry.name.is_none()
}

#[cfg(test)]
mod tests {
    use format::{Capability, OwnerSecret};

    use super::*;
    use crate::index::Tenure;

    fn entry(at: u8, created: u64, path: &str) -> Entry {
        Entry {
            capability: Capability::from_bytes([at; 32]),
            state: State::Stored,
            path: path.to_owned(),
            length: at.into(),
            mime: String::new(),
            kind: Kind::File,
            created,
            tags: [].into(),
            tenure: Tenure { version: 1, ..Tenure::default() },
            batch: Batch([at; 16]),
            position: Position::Top,
            hashes: None,
            name: None,
        }
    }

    fn index(entries: Vec<Entry>) -> (tempfile::TempDir, Index) {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path().join("index"), &OwnerSecret::from_bytes([1; 32])).unwrap();
        index.record_all(entries).unwrap();
        (folder, index)
    }

    #[test]
    fn pages_together_are_the_whole_list_the_newest_first_whatever_their_length() {
        let (_folder, index) = index((1..=30).map(|at| entry(at, u64::from(at / 4), "x")).collect());
        for limit in 1..=31 {
            let (mut ask, mut seen) = (PageAsk { limit, ..PageAsk::default() }, Vec::new());
            loop {
                let page = index.page(&ask);
                assert!(page.lines.len() <= limit && page.count == 30);
                seen.extend(page.lines.iter().map(|line| Spot { created: line.entry.created, locator: line.locator }));
                match page.next {
                    Some(next) => ask.after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen.len(), 30, "{limit}");
            assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0].created >= pair[1].created), "{limit}");
        }
    }

    #[test]
    fn a_name_is_found_whatever_its_case_and_what_did_not_end_is_no_line() {
        let open = Entry { state: State::Committing, ..entry(3, 3, "Film.mp4") };
        let folder = Entry { kind: Kind::Directory, batch: Batch([4; 16]), ..entry(4, 4, "FILMS") };
        let inner = Entry { position: Position::Inner, batch: Batch([4; 16]), ..entry(5, 4, "FILMS/a") };
        let (_folder, index) = index(vec![entry(1, 1, "film.mp4"), entry(2, 2, "cat.jpg"), open, folder, inner]);
        let page = index.page(&PageAsk { limit: 9, name: "iLm".into(), ..PageAsk::default() });
        let lines: Vec<_> = page.lines.iter().map(|it| (it.path.as_str(), it.objects, it.bytes)).collect();
        assert_eq!((lines, page.count), (vec![("FILMS", 2, 5), ("film.mp4", 1, 1)], 2));
        let whole = |at: u8| index.whole(&Capability::from_bytes([at; 32]).locator()).is_some();
        assert_eq!([1, 2, 3, 4, 5].map(whole), [true, true, false, true, false]);
    }
}
