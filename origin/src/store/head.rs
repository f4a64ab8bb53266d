//! The beginning of an object in an object store: what says how the rest of it is to be read. Pure; `docs/format.md`
//! section 16 draws it.

use format::limits::{PUBLIC_MANIFEST_BYTES_MAX, STRIPES_MAX};

use super::{ShardId, cells::ENTRY_BYTES};

/// Bytes of a head.
pub(super) const HEAD_BYTES: usize = 48;

const MAGIC: &[u8; 4] = b"EVNO";
const VERSION: u8 = 1;

const VERSION_AT: usize = MAGIC.len();
const WRITTEN_AT: usize = 8;
const CELLS_AT: usize = WRITTEN_AT + 8;
const LIST_AT: usize = CELLS_AT + 8;
const PUBLIC_AT: usize = LIST_AT + 4;
const CHECK_AT: usize = HEAD_BYTES - 16;

const _: () = assert!(VERSION_AT < WRITTEN_AT && PUBLIC_AT + 4 <= CHECK_AT);

/// How an object is to be read: this head, P, list and cells lie in it in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// When the last cell was appended, in nanoseconds since 1970.
    pub(super) written: u64,
    pub(super) public_bytes: u32,
    pub(super) list_bytes: u32,
    pub(super) cells_bytes: u64,
}

impl Head {
    pub(super) fn list_at(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.public_bytes)
    }

    pub(super) fn cells_at(&self) -> u64 {
        self.list_at() + u64::from(self.list_bytes)
    }

    /// Returns the bytes of the whole object.
    pub(super) fn object_bytes(&self) -> u64 {
        self.cells_at().saturating_add(self.cells_bytes)
    }

    pub(super) fn encode(&self, shard: &ShardId) -> [u8; HEAD_BYTES] {
        let mut to = [0; HEAD_BYTES];
        let mut put = |at: usize, bytes: &[u8]| to[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(VERSION_AT, &[VERSION]);
        put(WRITTEN_AT, &self.written.to_le_bytes());
        put(CELLS_AT, &self.cells_bytes.to_le_bytes());
        put(LIST_AT, &self.list_bytes.to_le_bytes());
        put(PUBLIC_AT, &self.public_bytes.to_le_bytes());
        let check = check(shard, &to[..CHECK_AT]);
        to[CHECK_AT..].copy_from_slice(&check);
        to
    }

    /// Reads the head of an object of so many bytes; none when it is not that of this shard, whole.
    pub(super) fn decode(bytes: &[u8], shard: &ShardId, object_bytes: u64) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.get(..HEAD_BYTES)?.try_into().ok()?;
        let is_ours = bytes.starts_with(MAGIC) && bytes[VERSION_AT] == VERSION;
        if !is_ours || bytes[CHECK_AT..] != check(shard, &bytes[..CHECK_AT]) {
            return None;
        }
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let head = Self {
            written: u64_at(WRITTEN_AT),
            public_bytes: u32_at(PUBLIC_AT),
            list_bytes: u32_at(LIST_AT),
            cells_bytes: u64_at(CELLS_AT),
        };
        let is_bounded = u64::from(head.list_bytes) <= STRIPES_MAX * ENTRY_BYTES as u64
            && u64::from(head.public_bytes) <= PUBLIC_MANIFEST_BYTES_MAX as u64;
        (is_bounded && head.object_bytes() == object_bytes).then_some(head)
    }
}

/// Keyed by the name, so that an object under another's name is none.
fn check(shard: &ShardId, bytes: &[u8]) -> [u8; HEAD_BYTES - CHECK_AT] {
    let name = format!("{}.{}", shard.object, shard.column);
    let key = blake3::derive_key("evernear 2026 v1 origin object", name.as_bytes());
    let hash = blake3::keyed_hash(&key, bytes);
    hash.as_bytes()[..HEAD_BYTES - CHECK_AT].try_into().expect("a hash is longer")
}

#[cfg(test)]
mod tests {
    use format::ObjectId;

    use super::*;

    #[test]
    fn a_head_counts_for_its_shard_and_its_length_alone() {
        let shard = ShardId { object: ObjectId([7; 32]), column: 255 };
        let head = Head { written: 1_795_000_000_000_000_000, public_bytes: 88, list_bytes: 80, cells_bytes: 5 << 32 };
        let (bytes, length) = (head.encode(&shard), head.object_bytes());
        assert_eq!(length, 48 + 88 + 80 + (5 << 32));
        assert_eq!(Head::decode(&bytes, &shard, length), Some(head));
        assert_eq!(Head::decode(&bytes, &ShardId { column: 254, ..shard }, length), None);
        assert_eq!(Head::decode(&bytes, &shard, length - 1), None);
        assert_eq!(Head::decode(&bytes[..47], &shard, length), None);
        for bit in 0..HEAD_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad, &shard, length), None, "{bit}");
        }
        let large = Head { list_bytes: u32::MAX, ..head };
        assert_eq!(Head::decode(&large.encode(&shard), &shard, large.object_bytes()), None);
    }
}
