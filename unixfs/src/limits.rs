//! The bounds of blocks, names and trees, with their units and reasons. Bounds of one call are arguments of it.

/// Most bytes of a block. Bitswap and every IPFS service refuse more; nft.storage's text names this number.
pub const BLOCK_BYTES_MAX: usize = 2 << 20;

/// Most bytes of the header of a CAR. One root needs 60; this many may be read so that a CAR of many roots is told that
/// these are too many.
pub const CAR_HEADER_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a CID: four numbers of at most 10 bytes, and a digest of [`DIGEST_BYTES_MAX`].
pub const CID_BYTES_MAX: usize = 4 * VARINT_BYTES_MAX + DIGEST_BYTES_MAX;

/// Most bytes of a digest, identity included.
pub const DIGEST_BYTES_MAX: usize = 64;

/// Most bytes of an unsigned varint: 64 bits, seven in a byte.
pub const VARINT_BYTES_MAX: usize = 10;

/// Most bytes of a chunk. With its wrapping, a leaf stays within [`BLOCK_BYTES_MAX`].
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Most children of a node of a file. A link takes at most 65 bytes, so the node stays within [`BLOCK_BYTES_MAX`].
pub const WIDTH_MAX: usize = 16 << 10;

/// Most bytes of a name in a directory. File systems take 255.
pub const NAME_BYTES_MAX: usize = 1024;

/// Most entries of a directory that is not sharded, where a profile counts entries.
pub const FLAT_ENTRIES_MAX: usize = 1500;

/// Most bytes of a directory that is not sharded, where a profile counts bytes.
pub const FLAT_BYTES_MAX: usize = 1 << 20;

/// Most directories around an entry of a tree.
pub const PATH_NAMES_MAX: usize = 256;

/// Slots of a node of a sharded directory: one byte of a name's hash.
pub const FANOUT: usize = 256;

/// Most levels of a sharded directory: a name's hash has 8 bytes.
pub const SHARD_LEVELS_MAX: usize = 8;

/// A link without its name: key and length, CID, name's key and length, size.
const LINK_BYTES: usize = 1 + 3 + (2 + 36) + (1 + 2) + (1 + VARINT_BYTES_MAX);

const _: () = assert!(CHUNK_BYTES_MAX + 64 <= BLOCK_BYTES_MAX);
const _: () = assert!(WIDTH_MAX * (LINK_BYTES + 1 + VARINT_BYTES_MAX) + 64 <= BLOCK_BYTES_MAX);
const _: () = assert!(FANOUT * (LINK_BYTES + 2 + NAME_BYTES_MAX) + 64 <= BLOCK_BYTES_MAX);
const _: () = assert!(FLAT_ENTRIES_MAX * (LINK_BYTES + NAME_BYTES_MAX) + 64 <= BLOCK_BYTES_MAX);
const _: () = assert!(FLAT_BYTES_MAX + 64 <= BLOCK_BYTES_MAX);
