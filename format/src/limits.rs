//! Every bound of the format and the wire in one place, with its unit, its reason, and the relations that must hold.
//!
//! Bounds that an operator may choose live in configuration; these may not be chosen, because two programs that
//! disagree about one of them could not read each other's objects.

/// Plaintext bytes of a full block: the unit of compression, sealing, verification, transfer and caching.
///
/// Four blocks are 1 MiB, one raw leaf of IPFS `unixfs-v1-2025` and one Syncthing block, so that all doors share one
/// cache entry.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Bytes of the header before the sealed block in a strip.
pub const STRIP_HEADER_BYTES: usize = 8;
/// Bytes of an AEAD tag, the same for both suites.
pub const TAG_BYTES: usize = 16;
/// Largest strip: a stored full block with header and tag.
pub const STRIP_BYTES_MAX: usize = STRIP_HEADER_BYTES + BLOCK_BYTES + TAG_BYTES;
/// Plaintext bytes for each data column of a tail stripe, before columns are added.
pub const TAIL_COLUMN_BYTES: usize = 64 * 1024;
/// Tail blocks are rounded up to this many bytes, so that SIMD lanes and cache lines stay whole.
pub const TAIL_ROUND_BYTES: usize = 64;
/// Plaintext up to this size lies inline in the sealed manifest: one round trip, no shards.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;
/// Columns of an object: GF(2^8) has 256 elements.
pub const COLUMNS_MAX: usize = 256;
/// Stripes of an object: 1 TiB with 4 data columns, 4 TiB with 16; keeps the public manifest under its bound.
pub const STRIPES_MAX: u64 = 1 << 20;
/// Encoded public manifest. A run of strip lengths takes at most 10 bytes and there is at most one for each stripe.
pub const PUBLIC_MANIFEST_BYTES_MAX: usize = 11 * 1024 * 1024;
/// Encoded sealed manifest, tag included: inline bytes plus names, tags and extensions.
pub const SEALED_MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Encoded lease with owner keys and both signatures (ML-DSA-65: 1,952 B key, 3,309 B signature).
pub const LEASE_BYTES_MAX: usize = 16 * 1024;
/// Encoded placement: one node name for each column.
pub const PLACEMENT_BYTES_MAX: usize = COLUMNS_MAX * (NODE_NAME_BYTES_MAX + 2) + 3;
/// Encoded record: both manifests, lease and placement, and their CBOR heads.
pub const RECORD_BYTES_MAX: usize =
    PUBLIC_MANIFEST_BYTES_MAX + SEALED_MANIFEST_BYTES_MAX + LEASE_BYTES_MAX + PLACEMENT_BYTES_MAX + 64;
/// Nesting of CBOR items: the deepest type of ours needs four, extensions may need a few more.
pub const CBOR_DEPTH_MAX: usize = 8;
/// File name and each name in a directory, in bytes of UTF-8 (as on ext4 and XFS).
pub const NAME_BYTES_MAX: usize = 255;
/// MIME type with parameters; RFC 6838 section 4.2 bounds type and subtype by 127 characters each.
pub const MIME_BYTES_MAX: usize = 255;
/// Tags of an object and the bytes of one tag: what a policy may ask for.
pub const TAGS_MAX: usize = 64;
/// Bytes of one tag.
pub const TAG_NAME_BYTES_MAX: usize = 64;
/// Entries of one directory; larger trees use sub-directories. One entry takes about 100 B, so a body stays near 8 MiB.
pub const DIRECTORY_ENTRIES_MAX: usize = 65_536;
/// Encoded directory: the bound on what a reader loads to walk one path segment.
pub const DIRECTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Depth of a path inside a directory object.
pub const PATH_SEGMENTS_MAX: usize = 64;
/// Node names become one DNS label of a certificate's subject, hence short.
pub const NODE_NAME_BYTES_MAX: usize = 32;
/// Zone, region and operator names.
pub const DOMAIN_NAME_BYTES_MAX: usize = 64;
/// Wanted and refused places of one lease, each.
pub const LEASE_PLACES_MAX: usize = 64;
/// Policy names, one DNS label long so that they can be shown in one.
pub const POLICY_NAME_BYTES_MAX: usize = 63;
/// Links of one policy chain.
pub const POLICY_LINKS_MAX: usize = 8;
/// A policy component (allow-listed JavaScript engines are the large ones).
pub const POLICY_COMPONENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The configuration of one policy link, TOML text.
pub const POLICY_CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Signed policy manifest.
pub const POLICY_MANIFEST_BYTES_MAX: usize = 16 * 1024;
/// Objects in one order to purge: a tree of more takes several.
pub const PURGE_OBJECTS_MAX: usize = 256;
/// Such an order with owner keys and both signatures.
pub const PURGE_BYTES_MAX: usize = 32 * PURGE_OBJECTS_MAX + 16 * 1024;
/// How far a node's clock may be from the second in which an order was signed.
pub const PURGE_SKEW_SECONDS_MAX: u64 = 300;
/// What edges share in one note, sealed: a certificate chain with its key is some 6 KiB.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Such a note as JSON, its bytes in base64.
pub const NOTE_BODY_BYTES_MAX: usize = NOTE_BYTES_MAX.div_ceil(3) * 4 + 64;
/// Strips of one append or one shard read: 16 MiB, a few round trips' worth on a fast link and a bound on memory.
pub const SHARD_READ_STRIPS_MAX: u64 = 64;
/// Body of one append or one shard read: the strips with their length prefixes, and the proof.
pub const SHARD_BODY_BYTES_MAX: usize = 64 * (STRIP_BYTES_MAX + 4) + PROOF_BYTES_MAX + 16;
/// Proof of one shard read: the 1 KiB groups that hold the asked hashes, and two paths of at most 32 parents.
pub const PROOF_BYTES_MAX: usize = 4 * 1024 + 64 * 32 + 64;
/// Entries of one page of the change feed or of the node list.
pub const PAGE_ENTRIES_MAX: usize = 1_000;
/// Seconds a change feed request may wait for news before it answers with none.
pub const CHANGES_WAIT_SECONDS_MAX: u32 = 30;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(TAIL_COLUMN_BYTES));
const _: () = assert!(TAIL_COLUMN_BYTES.is_multiple_of(TAIL_ROUND_BYTES));
const _: () = assert!(INLINE_BYTES_MAX + 8 * 1024 <= SEALED_MANIFEST_BYTES_MAX);
const _: () = assert!(STRIPES_MAX * 10 + COLUMNS_MAX as u64 * 32 + 256 <= PUBLIC_MANIFEST_BYTES_MAX as u64);
const _: () = assert!(SHARD_READ_STRIPS_MAX * 32 <= 2 * 1024);
// Rounding the tail's blocks up never empties its last block: 64 * 255 bytes of rounding are less than one column.
const _: () = assert!(TAIL_ROUND_BYTES * (COLUMNS_MAX - 1) < TAIL_COLUMN_BYTES);
