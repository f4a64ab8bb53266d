//! One entry of a pack, byte by byte; `docs/format.md` section 16 draws it. Pure.
//!
//! Head and tail say the same, so damage of one of them loses nothing. Both are keyed by the name of the pack and bound
//! to their place in it: whoever uploads strips cannot put an entry inside them that counts when a damaged pack is
//! searched.

use bytes::Bytes;
use format::{
    Cell, ObjectId, PublicManifest,
    limits::{COLUMNS_MAX, PUBLIC_MANIFEST_BYTES_MAX, ROW_BYTES_MAX, STRIP_BYTES_MAX},
};

use super::{
    ShardId,
    cells::{CellList, ENTRY_BYTES},
};

/// Largest body of an entry, P and list included: one full strip with the row of 256 columns. A larger shard is a file
/// of its own, because copying it when a pack is compacted costs more than the file does.
pub(super) const PACKED_BYTES_MAX: usize = STRIP_BYTES_MAX + ROW_BYTES_MAX + ENTRY_BYTES + PUBLIC_MANIFEST_BYTES_MAX;
/// Bytes of a head or a tail.
pub(super) const MARK_BYTES: usize = 96;
/// Entries start at multiples of this, so that a search of a damaged pack need not try every byte.
pub(super) const ALIGN_BYTES: usize = 32;

const MAGIC: &[u8; 4] = b"EVNP";
const VERSION: u8 = 1;

const VERSION_AT: usize = MAGIC.len();
const KIND_AT: usize = VERSION_AT + 1;
const COLUMN_AT: usize = KIND_AT + 1;
const OBJECT_AT: usize = COLUMN_AT + 2;
const WRITTEN_AT: usize = OBJECT_AT + 32;
pub(super) const START_AT: usize = WRITTEN_AT + 8;
const DURABLE_AT: usize = START_AT + 4;
const PUBLIC_AT: usize = DURABLE_AT + 4;
const LIST_AT: usize = PUBLIC_AT + 4;
const CELLS_AT: usize = LIST_AT + 4;
const END_AT: usize = CELLS_AT + 4;
const CHECK_AT: usize = MARK_BYTES - 16;

const _: () = assert!(END_AT < CHECK_AT);
const _: () = assert!(MARK_BYTES.is_multiple_of(ALIGN_BYTES));

/// What an entry says of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Here it is.
    Shard,
    /// It was removed; nothing follows.
    Tombstone,
}

/// Which end of an entry a mark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Head,
    Tail,
}

/// Where an entry lies in its pack, and its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) public_bytes: u32,
    pub(super) list_bytes: u32,
    pub(super) cells_bytes: u32,
}

impl Span {
    /// Returns the bytes of the whole entry.
    pub(super) fn entry_bytes(&self) -> u64 {
        entry_bytes(u64::from(self.public_bytes) + u64::from(self.list_bytes) + u64::from(self.cells_bytes))
    }

    /// Returns where the entry ends in its pack.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.start) + self.entry_bytes()
    }

    pub(super) fn public_at(&self) -> u64 {
        u64::from(self.start) + MARK_BYTES as u64
    }

    pub(super) fn list_at(&self) -> u64 {
        self.public_at() + u64::from(self.public_bytes)
    }

    pub(super) fn cells_at(&self) -> u64 {
        self.list_at() + u64::from(self.list_bytes)
    }
}

/// What head and tail of an entry say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) kind: Kind,
    pub(super) shard: ShardId,
    /// When the last cell was appended, in nanoseconds since 1970.
    pub(super) written: u64,
    /// How much of the pack was durable when the entry was written.
    pub(super) durable: u32,
    pub(super) span: Span,
}

impl Mark {
    pub(super) fn encode(&self, key: &[u8; 32], end: End) -> [u8; MARK_BYTES] {
        let mut to = [0; MARK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| to[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(VERSION_AT, &[VERSION, u8::from(self.kind == Kind::Tombstone)]);
        put(COLUMN_AT, &u16::try_from(self.shard.column).unwrap_or(u16::MAX).to_le_bytes());
        put(OBJECT_AT, &self.shard.object.0);
        put(WRITTEN_AT, &self.written.to_le_bytes());
        put(START_AT, &self.span.start.to_le_bytes());
        put(DURABLE_AT, &self.durable.to_le_bytes());
        put(PUBLIC_AT, &self.span.public_bytes.to_le_bytes());
        put(LIST_AT, &self.span.list_bytes.to_le_bytes());
        put(CELLS_AT, &self.span.cells_bytes.to_le_bytes());
        put(END_AT, &[u8::from(end == End::Tail)]);
        let check = blake3::keyed_hash(key, &to[..CHECK_AT]);
        to[CHECK_AT..].copy_from_slice(&check.as_bytes()[..MARK_BYTES - CHECK_AT]);
        to
    }

    /// Reads a mark that lies at `at` in its pack; none when there is no whole one.
    pub(super) fn decode(bytes: &[u8], key: &[u8; 32], at: u64) -> Option<(Self, End)> {
        let bytes: &[u8; MARK_BYTES] = bytes.get(..MARK_BYTES)?.try_into().ok()?;
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let check = blake3::keyed_hash(key, &bytes[..CHECK_AT]);
        if check.as_bytes()[..MARK_BYTES - CHECK_AT] != bytes[CHECK_AT..] || bytes[VERSION_AT] != VERSION {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let column = u16::from_le_bytes([bytes[COLUMN_AT], bytes[COLUMN_AT + 1]]);
        let mark = Self {
            kind: if bytes[KIND_AT] == 0 { Kind::Shard } else { Kind::Tombstone },
            shard: ShardId {
                object: ObjectId(bytes[OBJECT_AT..WRITTEN_AT].try_into().expect("32 bytes")),
                column: column.into(),
            },
            written: u64::from_le_bytes(bytes[WRITTEN_AT..START_AT].try_into().expect("eight bytes")),
            durable: u32_at(DURABLE_AT),
            span: Span {
                start: u32_at(START_AT),
                public_bytes: u32_at(PUBLIC_AT),
                list_bytes: u32_at(LIST_AT),
                cells_bytes: u32_at(CELLS_AT),
            },
        };
        let end = if bytes[END_AT] == 0 { End::Head } else { End::Tail };
        let place = match end {
            End::Head => u64::from(mark.span.start),
            End::Tail => mark.span.end() - MARK_BYTES as u64,
        };
        (place == at && mark.shard.column < COLUMNS_MAX).then_some((mark, end))
    }
}

/// Returns the bytes of an entry around a body of so many: head, body padded with zeros, tail.
fn entry_bytes(body_bytes: u64) -> u64 {
    body_bytes.next_multiple_of(ALIGN_BYTES as u64) + 2 * MARK_BYTES as u64
}

/// What lies between head and tail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'b> {
    pub(super) public: &'b [u8],
    pub(super) list: &'b [u8],
    pub(super) cells: &'b [u8],
}

impl<'b> Body<'b> {
    pub(super) const NONE: Self = Self { public: &[], list: &[], cells: &[] };

    /// Finds the parts in the bytes that follow a head.
    pub(super) fn of(span: &Span, bytes: &'b [u8]) -> Option<Self> {
        let [public, list, cells] =
            [span.public_bytes, span.list_bytes, span.cells_bytes].map(|bytes| usize::try_from(bytes).ok());
        let (public, rest) = bytes.split_at_checked(public?)?;
        let (list, rest) = rest.split_at_checked(list?)?;
        Some(Self { public, list, cells: rest.get(..cells?)? })
    }

    /// Returns its place in an entry that starts at `start`; none when a pack cannot hold it.
    pub(super) fn span(&self, start: u64) -> Option<Span> {
        let [public_bytes, list_bytes, cells_bytes] =
            [self.public, self.list, self.cells].map(|part| u32::try_from(part.len()).ok());
        let span = Span {
            start: u32::try_from(start).ok()?,
            public_bytes: public_bytes?,
            list_bytes: list_bytes?,
            cells_bytes: cells_bytes?,
        };
        u32::try_from(span.end()).is_ok().then_some(span)
    }

    /// Returns the bytes of the entry around it.
    pub(super) fn entry_bytes(&self) -> u64 {
        entry_bytes((self.public.len() + self.list.len() + self.cells.len()) as u64)
    }

    /// Encodes the whole entry.
    pub(super) fn encode(&self, mark: &Mark, key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = mark.encode(key, End::Head).to_vec();
        for part in [self.public, self.list, self.cells] {
            bytes.extend_from_slice(part);
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGN_BYTES), 0);
        bytes.extend_from_slice(&mark.encode(key, End::Tail));
        bytes
    }

    /// Returns whether this is the shard, whole: P hashes to the object, the rows to the root in P, the strips to their
    /// rows, and the list says where they are.
    pub(super) fn is_whole(&self, shard: &ShardId) -> bool {
        let Ok(public) = PublicManifest::decode(Bytes::copy_from_slice(self.public)) else { return false };
        let (column, columns) = (shard.column, public.row_columns());
        if public.id() != shard.object || column >= columns || self.cells.len() as u64 != public.shard_bytes(column) {
            return false;
        }
        let mut cells = Bytes::copy_from_slice(self.cells);
        let mut list = CellList::default();
        while !cells.is_empty() {
            match Cell::take(&mut cells, columns, column) {
                Ok(cell) if cell.is_intact(column) => list.push(&cell),
                _ => return false,
            }
        }
        public.root() == Some(&list.rows().root()) && list.encode() == self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        kind: Kind::Shard,
        shard: ShardId { object: ObjectId([7; 32]), column: 255 },
        written: 1_795_000_000_000_000_000,
        durable: 96,
        span: Span { start: 320, public_bytes: 184, list_bytes: 32, cells_bytes: 67 },
    };

    #[test]
    fn a_mark_counts_at_its_place_in_its_pack_alone() {
        let key = [9; 32];
        // 283 bytes of body take 288.
        assert_eq!((MARK.span.entry_bytes(), MARK.span.end(), MARK.span.cells_at()), (480, 800, 632));
        for (end, at) in [(End::Head, 320), (End::Tail, 704)] {
            for kind in [Kind::Shard, Kind::Tombstone] {
                let mark = Mark { kind, ..MARK };
                let bytes = mark.encode(&key, end);
                assert_eq!(Mark::decode(&bytes, &key, at), Some((mark, end)));
                assert_eq!(Mark::decode(&bytes, &[8; 32], at), None);
                assert_eq!(Mark::decode(&bytes, &key, at + 32), None);
                assert_eq!(Mark::decode(&bytes[..95], &key, at), None);
                for bit in 0..MARK_BYTES * 8 {
                    let mut bad = bytes;
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(Mark::decode(&bad, &key, at), None, "{bit}");
                }
            }
        }
    }
}
