//! One pack: a log of entries, and once it is full the table of its entries beside it.
//!
//! ```text
//! packs/<number>-<salt>.log     entries, back to back
//! packs/<number>-<salt>.index   the heads of all entries, and a hash of them; can be made again from the log
//! ```
//!
//! The salt is random and keys the marks of the entries. It is in the name, so that no flip inside the file can make
//! all of it unreadable.

use std::{fmt, fs::File, io, ops::Range, os::unix::fs::FileExt, str::FromStr};

use client::{Bug, planted};
use data_encoding::HEXLOWER;

use super::{
    ShardId,
    entry::{ALIGN_BYTES, Body, End, Kind, MARK_BYTES, Mark, PACKED_BYTES_MAX, START_AT, Span},
    is_of_the_sector,
};

/// Bytes read at once when a log is searched: neighbours of small entries come with it.
const WINDOW_BYTES: usize = 256 * 1024;
/// What a disk reads, or fails to read, as one.
const SECTOR_BYTES: usize = 4096;
/// Bytes of the hash that ends an index file.
const HASH_BYTES: usize = 32;

/// The name of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackName {
    /// Later packs have higher numbers.
    pub(super) number: u32,
    pub(super) salt: [u8; 16],
}

impl PackName {
    /// Returns what keys the marks of its entries.
    pub(super) fn key(&self) -> [u8; 32] {
        blake3::derive_key("evernear 2026 v1 origin pack", self.to_string().as_bytes())
    }

    pub(super) fn log(&self) -> String {
        format!("{self}.log")
    }

    pub(super) fn index(&self) -> String {
        format!("{self}.index")
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{}", self.number, HEXLOWER.encode(&self.salt))
    }
}

/// Not the name of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoPack;

impl FromStr for PackName {
    type Err = NoPack;

    fn from_str(text: &str) -> Result<Self, NoPack> {
        let (number, salt) = text.split_once('-').ok_or(NoPack)?;
        let salt = HEXLOWER.decode(salt.as_bytes()).ok().and_then(|salt| salt.try_into().ok()).ok_or(NoPack)?;
        let name = Self { number: number.parse().map_err(|_| NoPack)?, salt };
        if name.to_string() == text { Ok(name) } else { Err(NoPack) }
    }
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Contents {
    /// Its entries in order.
    pub(super) marks: Vec<Mark>,
    /// Bytes up to the end of the last entry, or of the last damage before it.
    pub(super) end: u64,
    /// Where bytes are neither an entry nor a torn end: something was lost there.
    pub(super) damage: Vec<Range<u64>>,
    /// Entries after the end whose marks can be read, but which are not whole.
    pub(super) torn: Vec<(Range<u64>, ShardId)>,
}

/// A part of a log: an entry, or bytes that are none.
enum Part {
    Entry { mark: Mark, is_whole: bool },
    Gap(Range<u64>),
}

/// Reads what a log holds. Of a log that was still written to, what may have been written after its last fsync is
/// hashed: bytes at the end that do not verify were torn by a crash, and are not counted in.
///
/// # Errors
/// What the system says.
pub(super) fn read_log(file: &File, key: &[u8; 32], sealed: bool) -> io::Result<Contents> {
    let length = file.metadata()?.len();
    let mut parts = search(file, key, length)?;
    let durable =
        parts.iter().filter_map(|part| if let Part::Entry { mark, .. } = part { Some(mark.durable) } else { None });
    let durable = if sealed { length } else { durable.max().map_or(0, u64::from) };
    for part in &mut parts {
        if let Part::Entry { mark, is_whole } = part
            && mark.span.end() > durable
            && !planted(Bug::TornEnd)
        {
            *is_whole = entry_is_whole(file, mark)?;
        }
    }
    let is_torn = |part: &Part| match part {
        Part::Entry { mark, is_whole } => !is_whole && mark.span.end() > durable,
        Part::Gap(gap) => gap.start >= durable,
    };
    let mut contents = Contents::default();
    while let Some(part) = parts.pop_if(|part| is_torn(part)) {
        if let Part::Entry { mark, .. } = part {
            contents.torn.push((mark.span.start.into()..mark.span.end(), mark.shard));
        }
    }
    for part in parts {
        match part {
            // A damaged body under a good mark stays: the scrub finds it and knows what to repair.
            Part::Entry { mark, .. } => {
                contents.end = mark.span.end();
                contents.marks.push(mark);
            }
            Part::Gap(gap) => {
                contents.end = gap.end.next_multiple_of(ALIGN_BYTES as u64);
                contents.damage.push(gap);
            }
        }
    }
    Ok(contents)
}

/// Walks from entry to entry; after bytes that are none, searches the next mark.
fn search(file: &File, key: &[u8; 32], length: u64) -> io::Result<Vec<Part>> {
    let mut window = Window { file, start: 0, bytes: Vec::new() };
    let mut parts = Vec::new();
    let (mut at, mut gap) = (0, None);
    // Where the search for a mark stands; ahead of `at` in damaged parts only.
    let mut probe = 0;
    while probe < length {
        let found = Mark::decode(window.at(probe, MARK_BYTES)?, key, probe);
        // A tail tells of an entry whose head is damaged. One that reaches back into what was read already is a
        // left-over.
        match found.filter(|(mark, _)| u64::from(mark.span.start) >= at && mark.span.end() <= length) {
            Some((mark, _)) => {
                if u64::from(mark.span.start) > at {
                    parts.push(Part::Gap(at..mark.span.start.into()));
                }
                at = mark.span.end();
                probe = at;
                gap = None;
                parts.push(Part::Entry { mark, is_whole: true });
            }
            None => {
                probe += ALIGN_BYTES as u64;
                gap = Some(at..length);
            }
        }
    }
    parts.extend(gap.map(Part::Gap));
    Ok(parts)
}

fn entry_is_whole(file: &File, mark: &Mark) -> io::Result<bool> {
    let Some(bytes) = read_body(file, &mark.span)? else { return Ok(false) };
    let body = Body::of(&mark.span, &bytes);
    Ok(body.is_some_and(|body| mark.kind == Kind::Tombstone || body.is_whole(&mark.shard)))
}

/// Reads what lies between head and tail; none when the disk cannot, or when it is larger than any body.
///
/// # Errors
/// What the system says of itself, not of these bytes.
pub(super) fn read_body(file: &File, span: &Span) -> io::Result<Option<Vec<u8>>> {
    let body = usize::try_from(span.entry_bytes()).unwrap_or(usize::MAX) - 2 * MARK_BYTES;
    if body > PACKED_BYTES_MAX.next_multiple_of(ALIGN_BYTES) {
        return Ok(None);
    }
    let mut bytes = vec![0; body];
    match file.read_exact_at(&mut bytes, span.public_at()) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if is_of_the_sector(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether head and tail around a body can be read.
///
/// # Errors
/// What the system says of itself, not of these bytes.
pub(super) fn has_marks(file: &File, key: &[u8; 32], span: &Span) -> io::Result<bool> {
    for (end, at) in [(End::Head, u64::from(span.start)), (End::Tail, span.end() - MARK_BYTES as u64)] {
        let mut bytes = [0; MARK_BYTES];
        match file.read_exact_at(&mut bytes, at) {
            Ok(()) => {}
            Err(error) if is_of_the_sector(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        if Mark::decode(&bytes, key, at).is_none_or(|(mark, found)| (mark.span, found) != (*span, end)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Encodes the index of a log: its heads, and a hash over them and its length.
pub(super) fn encode_index(marks: &[Mark], key: &[u8; 32], end: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = marks.iter().flat_map(|mark| mark.encode(key, End::Head)).collect();
    let hash = index_hash(key, &bytes, end);
    bytes.extend_from_slice(&hash);
    bytes
}

/// Reads an index back; none when it is not the one of this log.
pub(super) fn decode_index(bytes: &[u8], key: &[u8; 32], end: u64) -> Option<Vec<Mark>> {
    let (heads, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
    if index_hash(key, heads, end) != hash || !heads.len().is_multiple_of(MARK_BYTES) {
        return None;
    }
    let mark = |head: &[u8]| {
        let start = u32::from_le_bytes(head[START_AT..][..4].try_into().expect("four bytes"));
        Mark::decode(head, key, start.into()).map(|(mark, _)| mark)
    };
    heads.chunks_exact(MARK_BYTES).map(mark).collect()
}

fn index_hash(key: &[u8; 32], heads: &[u8], end: u64) -> [u8; HASH_BYTES] {
    *blake3::Hasher::new_keyed(key).update(&end.to_le_bytes()).update(heads).finalize().as_bytes()
}

/// A moving part of a file in memory.
struct Window<'f> {
    file: &'f File,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Returns `count` bytes from `at` on, or fewer at the end of the file.
    fn at(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if !held.contains(&at) || at + count as u64 > held.end {
            // After a jump over a large entry only the mark is wanted.
            let wanted = if held.end == at || held.contains(&at) { WINDOW_BYTES } else { SECTOR_BYTES };
            self.bytes.resize(wanted, 0);
            self.start = at;
            let read = read_up_to(self.file, &mut self.bytes, at)?;
            self.bytes.truncate(read);
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(&self.bytes[from..(from + count).min(self.bytes.len())])
    }
}

/// Reads up to the end of the file. Where the disk cannot read there are zeros, which are no mark.
fn read_up_to(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < to.len() {
        let from = at + read as u64;
        match file.read_at(&mut to[read..], from) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_of_the_sector(&error) => {
                let sector = SECTOR_BYTES - usize::try_from(from % SECTOR_BYTES as u64).unwrap_or(0);
                let end = (read + sector).min(to.len());
                to[read..end].fill(0);
                read = end;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use format::ObjectId;

    use super::*;
    use crate::store::{index::Index, packs::PACK_BYTES_MAX};

    const NAME: PackName = PackName { number: 7, salt: [3; 16] };

    #[test]
    fn names_have_one_spelling() {
        let text = NAME.to_string();
        assert_eq!(text, "00000007-03030303030303030303030303030303");
        assert_eq!(text.parse(), Ok(NAME));
        for bad in ["7-03030303030303030303030303030303", "00000007", "00000007-0303", "0000000x-03", ""] {
            assert_eq!(bad.parse::<PackName>(), Err(NoPack), "{bad}");
        }
    }

    #[test]
    fn a_million_entries_are_indexed() {
        let key = NAME.key();
        let mark = |number: u32| Mark {
            kind: Kind::Shard,
            shard: ShardId { object: ObjectId(*blake3::hash(&number.to_le_bytes()).as_bytes()), column: 0 },
            written: 0,
            durable: 0,
            span: Span { start: number * 480, public_bytes: 184, list_bytes: 32, cells_bytes: 67 },
        };
        let marks: Vec<Mark> = (0..1_000_000).map(mark).collect();
        let bytes = encode_index(&marks, &key, 480_000_000);
        let start = Instant::now();
        let read = decode_index(&bytes, &key, 480_000_000).unwrap();
        let mut index = Index::default();
        index.add(NAME);
        read.iter().for_each(|mark| index.apply(NAME.number, mark));
        let took = start.elapsed();
        assert!(read == marks && marks.last().unwrap().span.end() < PACK_BYTES_MAX.into());
        assert_eq!(index.page(None, 2_000_000).len(), 1_000_000);
        println!("10^6 entries indexed in {took:?}");
    }
}
