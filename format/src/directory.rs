//! A directory: the body of an object of kind directory. It maps names to capabilities, so one label opens a whole
//! tree.

use std::collections::BTreeMap;

use minicbor::Decoder;
use zeroize::Zeroizing;

use crate::{
    Capability, Kind,
    cbor::{self, CborError, Fields, FieldsWriter, HEAD_BYTES_MAX, Unknown, Written},
    limits::{DIRECTORY_BYTES_MAX, DIRECTORY_ENTRIES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX},
};

mod key {
    pub(super) const CAPABILITY: u64 = 0;
    pub(super) const LENGTH: u64 = 1;
    pub(super) const MIME: u64 = 2;
    pub(super) const KIND: u64 = 3;
}

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
    /// Extensions this version does not know.
    pub unknown: Unknown,
}

/// A map from names to the objects they open, ordered by the bytes of the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    entries: BTreeMap<String, Entry>,
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
}

impl Directory {
    /// Adds a name.
    ///
    /// # Errors
    /// [`DirectoryError::Name`] and [`DirectoryError::Full`].
    pub fn insert(&mut self, name: &str, entry: Entry) -> Result<(), DirectoryError> {
        Self::check_name(name)?;
        if self.entries.len() >= DIRECTORY_ENTRIES_MAX {
            return Err(DirectoryError::Full);
        }
        self.entries.insert(name.to_owned(), entry);
        Ok(())
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

    /// Encodes the directory. The bytes hold capabilities and are wiped after use.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut names: Vec<_> = self.entries.iter().map(|(name, entry)| (name, entry.encode())).collect();
        // Deterministic CBOR sorts text keys by length first, because the head precedes the letters.
        names.sort_by_key(|(name, _)| (name.len(), *name));
        let bytes: usize = names.iter().map(|(name, entry)| HEAD_BYTES_MAX + name.len() + entry.len()).sum();
        // Memory that a vector gives up as it grows is not wiped.
        let mut out = Zeroizing::new(Vec::with_capacity(HEAD_BYTES_MAX + bytes));
        let mut to = minicbor::Encoder::new(&mut *out);
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
            directory.insert(name, read_entry(&bytes[start..decoder.position()])?)?;
        }
        Ok(directory)
    }
}

impl Entry {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let fields = FieldsWriter::default()
            .bytes(key::CAPABILITY, self.capability.expose())
            .uint(key::LENGTH, self.length)
            .text(key::MIME, &self.mime)
            .uint(key::KIND, u8::from(self.kind == Kind::Directory))
            .unknown(&self.unknown);
        Zeroizing::new(fields.finish())
    }
}

fn read_entry(item: &[u8]) -> Result<Entry, CborError> {
    let mut fields = Fields::read(item, item.len())?;
    Ok(Entry {
        capability: Capability::from_bytes(fields.array32(key::CAPABILITY)?),
        length: fields.uint(key::LENGTH)?,
        mime: fields.line(key::MIME, MIME_BYTES_MAX)?.to_owned(),
        kind: match fields.uint::<u8>(key::KIND)? {
            0 => Kind::File,
            1 => Kind::Directory,
            _ => return Err(CborError::Value { key: key::KIND, expected: "a kind this program knows" }),
        },
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
            unknown: Unknown::default(),
        }
    }

    #[test]
    fn what_a_later_version_says_of_a_name_survives() {
        let mut directory = Directory::default();
        let later: Unknown = [(4, &[0x62, b'n', b'o'][..]), (70, &[0x81, 0x05])].into_iter().collect();
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
        for (byte, name) in ["b", "aa", "index.html", "é", &"x".repeat(255)].into_iter().enumerate() {
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
    fn names_that_would_escape_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\0", "a\n", &"x".repeat(256)] {
            assert!(Directory::default().insert(name, entry(1)).is_err(), "{name:?}");
        }
    }
}
