//! A directory: the body of an object of kind directory. It maps names to capabilities, so one label opens a whole
//! tree.

use std::{collections::BTreeMap, ops::Bound};

use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::{
    Capability, Kind,
    cbor::{self, CborError, Fields, FieldsWriter, HEAD_BYTES_MAX, Unknown, Written},
    limits::{
        DIRECTORY_BYTES_MAX, DIRECTORY_ENTRIES_MAX, FOLDERS_BELOW_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX,
        PATH_SEGMENTS_MAX,
    },
};

mod key {
    pub(super) const CAPABILITY: u64 = 0;
    pub(super) const LENGTH: u64 = 1;
    pub(super) const MIME: u64 = 2;
    pub(super) const KIND: u64 = 3;
    pub(super) const BELOW: u64 = 4;
}

/// An entry takes at most so many bytes besides its name, its type, what is below it and what is unknown: the head of
/// the name and of the map, five keys with the heads of their values, a capability, two numbers.
const ENTRY_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX + 5 * (1 + HEAD_BYTES_MAX) + 32 + 2 * 8;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key that opens the object.
    pub capability: Capability,
    /// The plaintext bytes of the object; for a directory, the bytes of its body.
    pub length: u64,
    /// Media type.
    pub mime: String,
    /// File or directory.
    pub kind: Kind,
    /// Of a directory, directories below it, by their paths in it: a reader on the way to one of these may look all of
    /// them up at once. It finds the way itself, so what stands here wrongly costs it a look-up and nothing else.
    pub below: Below,
    /// Extensions this version does not know.
    pub unknown: Unknown,
}

/// Directories below one: paths, names with `/` between them, to what opens them.
pub type Below = BTreeMap<String, Capability>;

/// A map from names to the objects they open, ordered by the bytes of the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    entries: BTreeMap<String, Entry>,
    /// Of all entries.
    below: usize,
    /// That the entries take at most.
    bytes_max: usize,
}

/// Why something is not a directory, or not a name in one. The writer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Malformed or out of bounds.
    #[error("the directory is malformed")]
    Cbor(#[from] CborError),
    /// No path can contain this name.
    #[error(
        "{name:?} cannot be a name in a directory: 1 to {NAME_BYTES_MAX} bytes, no '/', not '.' or '..', no control characters"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The directory already has the most names it may have.
    #[error("a directory holds at most {DIRECTORY_ENTRIES_MAX} names; use sub-directories")]
    Full,
    /// The entries would take more bytes than a reader loads.
    #[error("the names of a directory take at most {} MiB with their types; use sub-directories", DIRECTORY_BYTES_MAX >> 20)]
    Long,
    /// The entries name more directories below than a directory may.
    #[error("a directory names at most {FOLDERS_BELOW_MAX} others below its own")]
    Below,
}

impl Directory {
    /// Adds a name.
    ///
    /// # Errors
    /// [`DirectoryError::Name`], [`DirectoryError::Full`], [`DirectoryError::Long`], and [`DirectoryError::Below`]
    /// beyond [`Self::room`].
    pub fn insert(&mut self, name: &str, entry: Entry) -> Result<(), DirectoryError> {
        let before = self.entries.get(name).map_or(0, |before| before.bytes_max(name));
        if HEAD_BYTES_MAX + self.bytes_max - before + entry.bytes_max(name) > DIRECTORY_BYTES_MAX {
            return Err(DirectoryError::Long);
        }
        self.place(name, entry)
    }

    fn place(&mut self, name: &str, entry: Entry) -> Result<(), DirectoryError> {
        Self::check_name(name)?;
        if self.entries.len() >= DIRECTORY_ENTRIES_MAX {
            return Err(DirectoryError::Full);
        }
        let before = self.entries.get(name).map_or(0, |entry| entry.below.len());
        let below = self.below - before + entry.below.len();
        if below > FOLDERS_BELOW_MAX {
            return Err(DirectoryError::Below);
        }
        self.below = below;
        self.bytes_max += entry.bytes_max(name);
        if let Some(before) = self.entries.insert(name.to_owned(), entry) {
            self.bytes_max -= before.bytes_max(name);
        }
        Ok(())
    }

    /// Returns how many more directories entries of this one may name below theirs.
    #[must_use]
    pub fn room(&self) -> usize {
        FOLDERS_BELOW_MAX - self.below
    }

    /// Checks that a directory can hold a name.
    ///
    /// # Errors
    /// [`DirectoryError::Name`].
    pub fn check_name(name: &str) -> Result<(), DirectoryError> {
        if is_name(name) { Ok(()) } else { Err(DirectoryError::Name { name: name.chars().take(300).collect() }) }
    }

    /// Returns the entry under a name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Returns all names in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Returns the names behind this one, in order.
    pub fn entries_behind(&self, name: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let behind = self.entries.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        behind.map(|(name, entry)| (name.as_str(), entry))
    }

    /// Returns at most `max` directories at and below this one as far as it knows them, the highest first. What names
    /// this directory has them as [`Entry::below`].
    #[must_use]
    pub fn folders(&self, max: usize) -> Below {
        let mut all = Vec::new();
        for (name, entry) in self.entries.iter().filter(|(_, entry)| entry.kind == Kind::Directory) {
            all.push((1, name.clone(), &entry.capability));
            for (path, capability) in &entry.below {
                all.push((segments(path) + 1, format!("{name}/{path}"), capability));
            }
        }
        all.retain(|(depth, ..)| *depth < PATH_SEGMENTS_MAX);
        all.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        all.into_iter().take(max).map(|(_, path, capability)| (path, capability.clone())).collect()
    }

    /// Encodes the directory. The bytes hold capabilities and are wiped after use.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut names: Vec<_> = self.entries.iter().map(|(name, entry)| (name, entry.encode())).collect();
        // Deterministic CBOR sorts text keys by length first, because the head precedes the letters.
        names.sort_by_key(|(name, _)| (name.len(), *name));
        let bytes: usize = names.iter().map(|(name, entry)| HEAD_BYTES_MAX + name.len() + entry.len()).sum();
        // Memory that a vector gives up as it grows is not wiped.
        let mut out = Zeroizing::new(Vec::with_capacity(HEAD_BYTES_MAX + bytes));
        let mut to = Encoder::new(&mut *out);
        let written: Written = to.map(names.len() as u64).map(drop);
        written.expect(cbor::INFALLIBLE);
        for (name, entry) in names {
            to.str(name).expect(cbor::INFALLIBLE);
            to.writer_mut().extend_from_slice(&entry);
        }
        out
    }

    /// Decodes a directory.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DirectoryError> {
        if bytes.len() > DIRECTORY_BYTES_MAX {
            return Err(CborError::TooLong { found: bytes.len(), max: DIRECTORY_BYTES_MAX }.into());
        }
        cbor::check(bytes)?;
        let shape = || CborError::Shape { expected: "a map of names" };
        let mut decoder = Decoder::new(bytes);
        let count = decoder.map().ok().flatten().ok_or_else(shape)?;
        let mut directory = Self::default();
        for _ in 0..count {
            let name = decoder.str().map_err(|_| shape())?;
            let start = decoder.position();
            decoder.skip().map_err(|_| shape())?;
            directory.place(name, read_entry(&bytes[start..decoder.position()])?)?;
        }
        Ok(directory)
    }
}

impl Entry {
    /// Returns how many bytes the entry takes at most, with its name.
    fn bytes_max(&self, name: &str) -> usize {
        let below: usize = self.below.keys().map(|path| path.len() + 32 + 2 * HEAD_BYTES_MAX).sum();
        ENTRY_BYTES_MAX + name.len() + self.mime.len() + below + self.unknown.bytes()
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let fields = FieldsWriter::default()
            .bytes(key::CAPABILITY, self.capability.expose())
            .uint(key::LENGTH, self.length)
            .text(key::MIME, &self.mime)
            .uint(key::KIND, u8::from(self.kind == Kind::Directory));
        let fields =
            if self.below.is_empty() { fields } else { fields.item(key::BELOW, |to| write_below(&self.below, to)) };
        Zeroizing::new(fields.unknown(&self.unknown).finish())
    }
}

fn write_below(below: &Below, to: &mut Encoder<&mut Vec<u8>>) -> Written {
    let mut paths: Vec<_> = below.iter().collect();
    paths.sort_by_key(|(path, _)| (path.len(), *path));
    // A vector that grows leaves keys in the memory that it gives up.
    let bytes: usize = paths.iter().map(|(path, _)| path.len() + 32 + 2 * HEAD_BYTES_MAX).sum();
    to.writer_mut().reserve_exact(bytes + HEAD_BYTES_MAX);
    to.map(paths.len() as u64)?;
    paths.into_iter().try_for_each(|(path, capability)| to.str(path)?.bytes(capability.expose()).map(drop))
}

fn read_below(item: &[u8]) -> Result<Below, CborError> {
    let wrong = || CborError::Value { key: key::BELOW, expected: "a map from paths to 32 bytes" };
    let mut decoder = Decoder::new(item);
    let count = decoder.map().ok().flatten().and_then(|count| usize::try_from(count).ok());
    // An empty one is spelled by its absence.
    let count = count.filter(|count| (1..=FOLDERS_BELOW_MAX).contains(count)).ok_or_else(wrong)?;
    let mut below = Below::new();
    for _ in 0..count {
        let path = decoder.str().ok().filter(|path| segments(path) < PATH_SEGMENTS_MAX && path.split('/').all(is_name));
        let capability = decoder.bytes().ok().and_then(|bytes| bytes.try_into().ok()).map(Capability::from_bytes);
        let (path, capability) = path.zip(capability).ok_or_else(wrong)?;
        below.insert(path.to_owned(), capability);
    }
    Ok(below)
}

fn segments(path: &str) -> usize {
    path.split('/').count()
}

fn read_entry(item: &[u8]) -> Result<Entry, CborError> {
    let mut fields = Fields::read(item, item.len())?;
    let kind = match fields.uint::<u8>(key::KIND)? {
        0 => Kind::File,
        1 => Kind::Directory,
        _ => return Err(CborError::Value { key: key::KIND, expected: "a kind this program knows" }),
    };
    let below = match (kind, fields.take(key::BELOW)) {
        (_, None) => Below::new(),
        (Kind::Directory, Some(item)) => read_below(item)?,
        (Kind::File, Some(_)) => return Err(CborError::Value { key: key::BELOW, expected: "absent from a file" }),
    };
    Ok(Entry {
        capability: Capability::from_bytes(fields.array32(key::CAPABILITY)?),
        length: fields.uint(key::LENGTH)?,
        mime: fields.line(key::MIME, MIME_BYTES_MAX)?.to_owned(),
        kind,
        below,
        unknown: fields.unknown(),
    })
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(byte: u8) -> Entry {
        Entry {
            capability: Capability::from_bytes([byte; 32]),
            length: 7,
            mime: "text/plain".into(),
            kind: Kind::File,
            below: Below::new(),
            unknown: Unknown::default(),
        }
    }

    fn folder(byte: u8, below: Below) -> Entry {
        Entry { kind: Kind::Directory, below, ..entry(byte) }
    }

    #[test]
    fn what_a_later_version_says_of_a_name_survives() {
        let mut directory = Directory::default();
        let later: Unknown = [(5, &[0x62, b'n', b'o'][..]), (70, &[0x81, 0x05])].into_iter().collect();
        directory.insert("a", Entry { unknown: later.clone(), ..entry(1) }).unwrap();
        directory.insert("b", entry(2)).unwrap();
        let bytes = directory.encode();
        let read = Directory::decode(&bytes).unwrap();
        assert_eq!(read.entry("a").map(|entry| &entry.unknown), Some(&later));
        assert_eq!(read.encode(), bytes);
    }

    #[test]
    fn names_of_every_length_survive() {
        let mut directory = Directory::default();
        for (byte, name) in ["b", "aa", "index.html", "é", r"a\b", r"..\..\b", &"x".repeat(255)].into_iter().enumerate()
        {
            directory.insert(name, entry(u8::try_from(byte).unwrap())).unwrap();
        }
        assert_eq!(Directory::decode(&directory.encode()), Ok(directory));
        assert_eq!(Directory::decode(&Directory::default().encode()), Ok(Directory::default()));
    }

    #[test]
    fn the_bytes_are_written_into_memory_that_is_wiped_as_a_whole() {
        let mut directory = Directory::default();
        (0..300).for_each(|number| directory.insert(&format!("{number}"), entry(3)).unwrap());
        let bytes: usize = directory.entries().map(|(name, entry)| 9 + name.len() + entry.encode().len()).sum();
        // A vector that had grown would have left what it held before elsewhere, and twice the room.
        assert_eq!(directory.encode().capacity(), 9 + bytes);
    }

    #[test]
    fn what_no_reader_would_load_is_refused() {
        let (mut directory, long) = (Directory::default(), Entry { mime: "x".repeat(255), ..entry(1) });
        let name = |number: usize| format!("{number:0>255}");
        let held = (0..DIRECTORY_ENTRIES_MAX).find(|number| directory.insert(&name(*number), long.clone()).is_err());
        assert_eq!(directory.insert(&name(held.unwrap()), long.clone()), Err(DirectoryError::Long));
        assert_eq!(directory.insert(&name(0), long), Ok(()), "another in its place takes no more");
        assert!(directory.bytes_max > DIRECTORY_BYTES_MAX - 1_000);
        assert_eq!(Directory::decode(&directory.encode()), Ok(directory));

        let below: Below = [("a".repeat(200), Capability::from_bytes([2; 32]))].into();
        let unknown: Unknown = [(5, &[0x62, b'n', b'o'][..])].into_iter().collect();
        let mut odd = Directory::default();
        for name in ["a", "b", "a"] {
            let unknown = unknown.clone();
            odd.insert(name, Entry { unknown, length: u64::MAX, ..folder(2, below.clone()) }).unwrap();
        }
        let bytes = odd.encode();
        assert!((bytes.len()..bytes.len() + 200).contains(&(odd.bytes_max + HEAD_BYTES_MAX)), "{}", odd.bytes_max);
        assert_eq!(Directory::decode(&bytes), Ok(odd));
    }

    #[test]
    fn names_that_would_escape_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\0", "a\n", &"x".repeat(256)] {
            assert!(Directory::default().insert(name, entry(1)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_directory_knows_the_highest_below_it() {
        let mut lowest = Directory::default();
        lowest.insert("c", folder(3, Below::new())).unwrap();
        lowest.insert("file", entry(9)).unwrap();
        let mut middle = Directory::default();
        middle.insert("b", folder(2, lowest.folders(9))).unwrap();
        let mut top = Directory::default();
        top.insert("a", folder(1, middle.folders(9))).unwrap();
        top.insert("z", folder(4, Below::new())).unwrap();
        let read = Directory::decode(&top.encode()).unwrap();
        assert_eq!(read, top);
        assert_eq!(read.entry("a").unwrap().below.keys().collect::<Vec<_>>(), ["b", "b/c"]);
        let byte = |(path, capability): (String, Capability)| (path, capability.expose()[0]);
        let all = [("a", 1), ("a/b", 2), ("a/b/c", 3), ("z", 4)].map(|(path, byte)| (path.to_owned(), byte));
        assert_eq!(read.folders(9).into_iter().map(byte).collect::<Vec<_>>(), all);
        assert_eq!(read.folders(3).into_keys().collect::<Vec<_>>(), ["a", "a/b", "z"]);
        assert_eq!(read.folders(0), Below::new());
    }

    #[test]
    fn what_lies_below_is_bounded_and_spelled_in_one_way() {
        let below = |count: usize| (0..count).map(|n| (format!("{n}"), Capability::from_bytes([7; 32]))).collect();
        let decoded = |entry: Entry| {
            let mut directory = Directory::default();
            directory.insert("a", entry).unwrap();
            Directory::decode(&directory.encode()).map(|read| read == directory)
        };
        assert_eq!(decoded(folder(1, below(FOLDERS_BELOW_MAX))), Ok(true));
        let mut full = Directory::default();
        full.insert("a", folder(1, below(FOLDERS_BELOW_MAX - 1))).unwrap();
        assert_eq!((full.room(), full.insert("b", folder(2, below(2)))), (1, Err(DirectoryError::Below)));
        full.insert("b", folder(2, below(1))).unwrap();
        // What takes the place of another takes its room.
        full.insert("a", folder(1, below(1))).unwrap();
        assert_eq!(full.room(), FOLDERS_BELOW_MAX - 2);
        assert!(decoded(Entry { below: below(1), ..entry(1) }).is_err(), "a file has nothing below");
        let at = |path: &str| Below::from([(path.to_owned(), Capability::from_bytes([7; 32]))]);
        for wrong in ["", "/", "a/", "/a", "a//b", "..", "a/../b", "a\n"] {
            assert!(decoded(folder(1, at(wrong))).is_err(), "{wrong:?}");
        }
        let deep = |segments: usize| vec!["a"; segments].join("/");
        assert_eq!(decoded(folder(1, at(&deep(PATH_SEGMENTS_MAX - 1)))), Ok(true));
        assert!(decoded(folder(1, at(&deep(PATH_SEGMENTS_MAX)))).is_err());
        let empty: Unknown = [(key::BELOW, [0xa0])].into_iter().collect();
        assert!(decoded(Entry { unknown: empty, ..folder(1, Below::new()) }).is_err(), "an empty map is left out");
    }
}
