//! Deterministic CBOR (RFC 8949 section 4.2.1) with integer keys: strict when reading, canonical when writing.
//!
//! Reading first checks the whole item: shortest heads, definite lengths, ascending keys, bounded depth, UTF-8. So a
//! byte string has exactly one meaning, and a meaning exactly one byte string. Keys that this version does not know are
//! kept and written back unchanged.

use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::limits::CBOR_DEPTH_MAX;

/// The longest head of an item (RFC 8949 section 3).
pub(crate) const HEAD_BYTES_MAX: usize = 9;
pub(crate) const INFALLIBLE: &str = "a vector takes every write";
/// The result of writing an item to memory.
pub(crate) type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

/// Why bytes are not the deterministic CBOR that was expected. The writer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The item is longer than its bound.
    #[error("{found} bytes where at most {max} are allowed")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The item ends early.
    #[error("cut short at byte {at}")]
    Cut {
        /// The offset at which bytes are missing.
        at: usize,
    },
    /// Bytes follow the item.
    #[error("bytes follow the item at byte {at}")]
    Trailing {
        /// The offset of the first surplus byte.
        at: usize,
    },
    /// The item may be valid CBOR, but it is not the deterministic spelling.
    #[error("not deterministic CBOR at byte {at}")]
    Spelling {
        /// The offset of the offending head.
        at: usize,
    },
    /// Items nest deeper than [`CBOR_DEPTH_MAX`].
    #[error("nested deeper than {CBOR_DEPTH_MAX}")]
    Depth,
    /// A required key is absent.
    #[error("key {key} is missing")]
    Missing {
        /// The integer key.
        key: u64,
    },
    /// A known key has a value of the wrong type or out of range.
    #[error("key {key} is not {expected}")]
    Value {
        /// The integer key.
        key: u64,
        /// The expected value.
        expected: &'static str,
    },
    /// The item has the wrong type.
    #[error("expected {expected}")]
    Shape {
        /// The expected type.
        expected: &'static str,
    },
}

/// Map entries that this version does not know: keys and raw items, in ascending order of the keys.
///
/// They are one piece, as they were encoded: an entry has two bytes at least, and many small pieces of memory would
/// cost a reader thirty times that for as long as it holds what they are part of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unknown(Box<[u8]>);

impl Unknown {
    /// Returns the entries.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut decoder = Decoder::new(&self.0);
        std::iter::from_fn(move || {
            let key = decoder.u64().ok()?;
            let start = decoder.position();
            decoder.skip().ok()?;
            Some((key, self.0.get(start..decoder.position())?))
        })
    }

    /// Returns how many bytes the entries take.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Returns the first key; none where all is known.
    #[must_use]
    pub fn first_key(&self) -> Option<u64> {
        self.iter().next().map(|(key, _)| key)
    }
}

impl<T: AsRef<[u8]>> FromIterator<(u64, T)> for Unknown {
    /// Keeps entries whose items are encoded and whose keys ascend.
    fn from_iter<I: IntoIterator<Item = (u64, T)>>(entries: I) -> Self {
        let mut bytes = Vec::new();
        for (key, item) in entries {
            Encoder::new(&mut bytes).u64(key).expect(INFALLIBLE);
            bytes.extend_from_slice(item.as_ref());
        }
        Self(bytes.into())
    }
}

/// A map with unsigned integer keys, its values still encoded.
#[derive(Debug)]
pub struct Fields<'b> {
    entries: Vec<(u64, &'b [u8])>,
}

impl<'b> Fields<'b> {
    /// Reads a whole map of at most `max` bytes and checks every item in it.
    ///
    /// # Errors
    /// [`CborError`] when the bytes are not one deterministic map with unsigned integer keys.
    pub fn read(bytes: &'b [u8], max: usize) -> Result<Self, CborError> {
        if bytes.len() > max {
            return Err(CborError::TooLong { found: bytes.len(), max });
        }
        check(bytes)?;
        let mut decoder = Decoder::new(bytes);
        let Ok(Some(count)) = decoder.map() else {
            return Err(CborError::Shape { expected: "a map" });
        };
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = decoder.u64().map_err(|_| CborError::Shape { expected: "unsigned integer keys" })?;
            let start = decoder.position();
            decoder.skip().map_err(|_| CborError::Cut { at: start })?;
            entries.push((key, &bytes[start..decoder.position()]));
        }
        Ok(Self { entries })
    }

    /// Takes the raw item under a key.
    pub fn take(&mut self, key: u64) -> Option<&'b [u8]> {
        let at = self.entries.iter().position(|(k, _)| *k == key)?;
        Some(self.entries.remove(at).1)
    }

    /// Returns whether a key is present and not yet taken.
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        self.entries.iter().any(|(k, _)| *k == key)
    }

    fn need(&mut self, key: u64) -> Result<&'b [u8], CborError> {
        self.take(key).ok_or(CborError::Missing { key })
    }

    /// Takes an unsigned integer that fits `T`.
    ///
    /// # Errors
    /// [`CborError`] if the key is missing or its value does not fit.
    pub fn uint<T: TryFrom<u64>>(&mut self, key: u64) -> Result<T, CborError> {
        let item = self.need(key)?;
        let value = Decoder::new(item).u64().ok().and_then(|value| T::try_from(value).ok());
        value.ok_or(CborError::Value { key, expected: "an unsigned integer in range" })
    }

    /// Takes a byte string.
    ///
    /// # Errors
    /// [`CborError`] if the key is missing or its value has another type.
    pub fn bytes(&mut self, key: u64) -> Result<&'b [u8], CborError> {
        let item = self.need(key)?;
        Decoder::new(item).bytes().map_err(|_| CborError::Value { key, expected: "a byte string" })
    }

    /// Takes a byte string of exactly 32 bytes.
    ///
    /// # Errors
    /// [`CborError`] if the key is missing or its value is not 32 bytes.
    pub fn array32(&mut self, key: u64) -> Result<[u8; 32], CborError> {
        self.bytes(key)?.try_into().map_err(|_| CborError::Value { key, expected: "32 bytes" })
    }

    /// Takes a text of at most `max` bytes.
    ///
    /// # Errors
    /// [`CborError`] if the key is missing, or its value has another type or is longer.
    pub fn text(&mut self, key: u64, max: usize) -> Result<&'b str, CborError> {
        let item = self.need(key)?;
        let text = Decoder::new(item).str().ok().filter(|text| text.len() <= max);
        text.ok_or(CborError::Value { key, expected: "a text in bounds" })
    }

    /// Takes a text of at most `max` bytes without control characters, which would do harm on a terminal or in a
    /// header.
    ///
    /// # Errors
    /// When the key is missing or its value is of another type, longer, or has a control character.
    pub fn line(&mut self, key: u64, max: usize) -> Result<&'b str, CborError> {
        let text = self.text(key, max)?;
        let wrong = CborError::Value { key, expected: "a text in bounds without control characters" };
        if text.contains(char::is_control) { Err(wrong) } else { Ok(text) }
    }

    /// Takes an array of at most `max` texts.
    ///
    /// # Errors
    /// [`CborError`] if the key is missing, or its value has another type or more entries.
    pub fn texts(&mut self, key: u64, max: usize) -> Result<Vec<&'b str>, CborError> {
        let item = self.need(key)?;
        let wrong = CborError::Value { key, expected: "an array of texts in bounds" };
        let mut decoder = Decoder::new(item);
        let count = decoder.array().ok().flatten().and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count <= max).ok_or_else(|| wrong.clone())?;
        (0..count).map(|_| decoder.str().map_err(|_| wrong.clone())).collect()
    }

    /// Takes the rest: the entries under keys that this version does not know.
    #[must_use]
    pub fn unknown(self) -> Unknown {
        self.entries.into_iter().collect()
    }
}

/// Builds a map with unsigned integer keys. Entries may be added in any order. Values are wiped after use, because some
/// are keys.
#[derive(Debug, Default)]
pub struct FieldsWriter {
    entries: Vec<(u64, Zeroizing<Vec<u8>>)>,
}

impl FieldsWriter {
    /// Adds an entry whose value `write` encodes.
    #[must_use]
    pub(crate) fn item(mut self, key: u64, write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Self {
        let mut value = Vec::new();
        write(&mut Encoder::new(&mut value)).expect(INFALLIBLE);
        self.entries.push((key, Zeroizing::new(value)));
        self
    }

    /// Adds an unsigned integer.
    #[must_use]
    pub fn uint(self, key: u64, value: impl Into<u64>) -> Self {
        let value = value.into();
        self.item(key, |to| to.u64(value).map(drop))
    }

    /// Adds a byte string.
    #[must_use]
    pub fn bytes(self, key: u64, value: &[u8]) -> Self {
        self.item(key, |to| to.bytes(value).map(drop))
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, key: u64, value: &str) -> Self {
        self.item(key, |to| to.str(value).map(drop))
    }

    /// Adds an array of texts.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, key: u64, values: &[T]) -> Self {
        self.item(key, |to| {
            to.array(values.len() as u64)?;
            values.iter().try_for_each(|value| to.str(value.as_ref()).map(drop))
        })
    }

    /// Adds entries unchanged, as they were read.
    #[must_use]
    pub fn unknown(mut self, entries: &Unknown) -> Self {
        self.entries.extend(entries.iter().map(|(key, item)| (key, Zeroizing::new(item.to_vec()))));
        self
    }

    /// Encodes the map, keys ascending.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entries.sort_by_key(|(key, _)| *key);
        let values: usize = self.entries.iter().map(|(_, value)| value.len() + HEAD_BYTES_MAX).sum();
        // It does not grow: a vector that grows leaves keys in the memory that it gives up.
        let mut out = Vec::with_capacity(values + HEAD_BYTES_MAX);
        let mut to = Encoder::new(&mut out);
        to.map(self.entries.len() as u64).expect(INFALLIBLE);
        for (key, value) in &self.entries {
            to.u64(*key).expect(INFALLIBLE);
            to.writer_mut().extend_from_slice(value);
        }
        out
    }
}

/// Checks that `bytes` are exactly one deterministic item of the types we use: integers, strings, arrays, maps, simple
/// values.
///
/// # Errors
/// [`CborError`] for the first violation.
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let end = check_item(bytes, 0, 0)?;
    if end == bytes.len() { Ok(()) } else { Err(CborError::Trailing { at: end }) }
}

/// Returns where the first item of `bytes` ends, whatever follows it.
///
/// # Errors
/// As [`check`].
pub fn end_of_first(bytes: &[u8]) -> Result<usize, CborError> {
    check_item(bytes, 0, 0)
}

fn check_item(bytes: &[u8], at: usize, depth: usize) -> Result<usize, CborError> {
    if depth > CBOR_DEPTH_MAX {
        return Err(CborError::Depth);
    }
    let (major, value, body) = head(bytes, at)?;
    match major {
        0 | 1 => Ok(body),
        2 | 3 => {
            let len = usize::try_from(value).map_err(|_| CborError::Cut { at })?;
            let end = body.checked_add(len).filter(|end| *end <= bytes.len()).ok_or(CborError::Cut { at })?;
            if major == 3 && std::str::from_utf8(&bytes[body..end]).is_err() {
                return Err(CborError::Spelling { at });
            }
            Ok(end)
        }
        4 => (0..value).try_fold(body, |at, _| check_item(bytes, at, depth + 1)),
        5 => check_map(bytes, value, body, depth + 1),
        7 if (20..=22).contains(&value) => Ok(body),
        _ => Err(CborError::Spelling { at }),
    }
}

fn check_map(bytes: &[u8], count: u64, body: usize, depth: usize) -> Result<usize, CborError> {
    let mut at = body;
    let mut previous: &[u8] = &[];
    for _ in 0..count {
        let end = check_item(bytes, at, depth)?;
        let key = &bytes[at..end];
        if key <= previous {
            return Err(CborError::Spelling { at });
        }
        previous = key;
        at = check_item(bytes, end, depth)?;
    }
    Ok(at)
}

/// Reads a head and returns its major type, its argument, and the offset of what follows. Only the shortest form is
/// accepted.
fn head(bytes: &[u8], at: usize) -> Result<(u8, u64, usize), CborError> {
    let first = *bytes.get(at).ok_or(CborError::Cut { at })?;
    let (major, short) = (first >> 5, first & 0x1f);
    let (width, least) = match short {
        0..=23 => return Ok((major, u64::from(short), at + 1)),
        24 => (1, 24),
        25 => (2, 1 << 8),
        26 => (4, 1 << 16),
        27 => (8, 1 << 32),
        _ => return Err(CborError::Spelling { at }),
    };
    let argument = bytes.get(at + 1..at + 1 + width).ok_or(CborError::Cut { at })?;
    let value = argument.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    if value < least || major == 7 {
        return Err(CborError::Spelling { at });
    }
    Ok((major, value, at + 1 + width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_of_the_same_value_are_refused() {
        for (bytes, what) in [
            (&[0x18, 0x17][..], "long head"),
            (&[0x19, 0x00, 0xff], "long head, two bytes"),
            (&[0x9f, 0xff], "indefinite array"),
            (&[0xa2, 0x01, 0x00, 0x00, 0x00], "keys descending"),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], "key twice"),
            (&[0xf9, 0x00, 0x00], "float"),
            (&[0xc0, 0x00], "tag"),
            (&[0x62, 0xff, 0xff], "not UTF-8"),
            (&[0x00, 0x00], "two items"),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a length of 2^64 - 1"),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a count of 2^64 - 1"),
            (&[], "nothing"),
        ] {
            assert!(check(bytes).is_err(), "{what}");
        }
        assert_eq!(check(&[0x81; 10_000]), Err(CborError::Depth));
    }

    #[test]
    fn what_is_unknown_is_held_in_as_many_bytes_as_it_came_in() {
        let entries = (256..9000).map(|key| (key, vec![0]));
        let bytes = FieldsWriter::default().unknown(&entries.collect()).finish();
        let unknown = Fields::read(&bytes, bytes.len()).unwrap().unknown();
        assert_eq!(unknown.0.len(), bytes.len() - 3, "all but the head of the map");
        assert_eq!((unknown.iter().count(), unknown.first_key()), (9000 - 256, Some(256)));
        assert_eq!((Unknown::default().iter().count(), Unknown::default().first_key()), (0, None));
    }

    #[test]
    fn unknown_keys_survive_a_round_trip() {
        let bytes =
            FieldsWriter::default().text(70, "later").uint(2, 5u8).bytes(1, b"x").texts(9, &["a", "b"]).finish();
        let mut fields = Fields::read(&bytes, 100).unwrap();
        assert_eq!(fields.uint::<u8>(2), Ok(5));
        assert_eq!(fields.bytes(1), Ok(&b"x"[..]));
        let unknown = fields.unknown();
        assert_eq!(unknown.iter().count(), 2);
        assert_eq!(FieldsWriter::default().uint(2, 5u8).bytes(1, b"x").unknown(&unknown).finish(), bytes);
        assert_eq!(Fields::read(&bytes, 3).unwrap_err(), CborError::TooLong { found: bytes.len(), max: 3 });
    }
}
