//! Every bound of the format and the wire, with its unit, its reason, and the relations that must hold.
//!
//! Bounds that an operator may choose live in the configuration. These here are fixed: two programs with different
//! values could not read each other's objects.

pub use crate::row::ROW_BYTES_MAX;

/// Plaintext bytes of a full block: the unit of compression, sealing, verification, transfer and caching.
///
/// Four blocks are 1 MiB: one raw leaf of IPFS `unixfs-v1-2025` and one Syncthing block. So all protocols share one
/// cache entry.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Bytes of the header before the sealed block in a strip.
pub const STRIP_HEADER_BYTES: usize = 8;
/// Bytes of an AEAD tag, the same for both suites.
pub const TAG_BYTES: usize = 16;
/// Largest strip: a stored full block with header and tag.
pub const STRIP_BYTES_MAX: usize = STRIP_HEADER_BYTES + BLOCK_BYTES + TAG_BYTES;
/// Plaintext bytes for each data column of a tail stripe. A longer tail fills another column.
pub const TAIL_COLUMN_BYTES: usize = 64 * 1024;
/// Tail blocks are rounded up to a multiple of this many bytes, so that SIMD lanes and cache lines stay whole.
pub const TAIL_ROUND_BYTES: usize = 64;
/// Plaintext of up to this many bytes lies inline in the sealed manifest: one round trip, no shards.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;
/// Maximum number of columns of an object: GF(2^8) has 256 elements.
pub const COLUMNS_MAX: usize = 256;
/// Stripes of an object: 1 TiB with 4 data columns, 4 TiB with 16; a list of its rows has 32 MiB.
pub const STRIPES_MAX: u64 = 1 << 20;
/// Encoded public manifest: ten fields, of which two are hashes, take 106 bytes at most.
pub const PUBLIC_MANIFEST_BYTES_MAX: usize = 128;
/// Encoded sealed manifest, tag included: inline bytes plus names, tags and extensions.
pub const SEALED_MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Maximum bytes of an encoded lease with owner keys and both signatures (ML-DSA-65: 1,952 B key, 3,309 B signature).
pub const LEASE_BYTES_MAX: usize = 16 * 1024;
/// Maximum bytes of an encoded placement: one node name for each column.
pub const PLACEMENT_BYTES_MAX: usize = COLUMNS_MAX * (NODE_NAME_BYTES_MAX + 2) + 3;
/// Maximum bytes of an encoded record: both manifests, lease and placement, and their CBOR heads.
pub const RECORD_BYTES_MAX: usize =
    PUBLIC_MANIFEST_BYTES_MAX + SEALED_MANIFEST_BYTES_MAX + LEASE_BYTES_MAX + PLACEMENT_BYTES_MAX + 64;
/// Maximum nesting of CBOR items. Our deepest type needs four levels; extensions may need a few more.
pub const CBOR_DEPTH_MAX: usize = 8;
/// Maximum bytes of a file name or of one name in a directory, in UTF-8 (as on ext4 and XFS).
pub const NAME_BYTES_MAX: usize = 255;
/// Maximum bytes of the pointer of a stable name, before it is sealed: two keys, three numbers.
pub const POINTER_BYTES_MAX: usize = 128;
/// The same, sealed: with its salt before it and its tag behind it.
pub const SEALED_POINTER_BYTES_MAX: usize = 32 + POINTER_BYTES_MAX + TAG_BYTES;
/// Maximum seconds for which an owner lets answers under a stable name be kept. A name that must not change for longer
/// is no stable name but an object's own.
pub const POINTER_SECONDS_MAX: u32 = 86_400;
/// Maximum bytes of a MIME type with its parameters. RFC 6838 section 4.2 bounds type and subtype to 127 characters
/// each.
pub const MIME_BYTES_MAX: usize = 255;
/// Maximum number of tags of an object. Policies read them.
pub const TAGS_MAX: usize = 64;
/// Bytes of one tag.
pub const TAG_NAME_BYTES_MAX: usize = 64;
/// Maximum number of entries of one directory; larger trees use sub-directories. One entry takes about 100 B, so a body
/// stays near 16 MiB.
pub const DIRECTORY_ENTRIES_MAX: usize = 131_072;
/// Maximum bytes of an encoded directory: a reader loads at most this many to walk one path segment.
pub const DIRECTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Maximum number of directories that a directory names below one of its own. They take some 12 KiB, so that the body
/// of a small directory still lies inside its record.
pub const FOLDERS_BELOW_MAX: usize = 256;
/// Maximum number of segments of a path inside a directory object.
pub const PATH_SEGMENTS_MAX: usize = 64;
/// Maximum bytes of a node name. It becomes one DNS label in a certificate, so it is short.
pub const NODE_NAME_BYTES_MAX: usize = 32;
/// Maximum bytes of the list of refused node certificates: some 6,000 of them, in a cluster of at most some thousand
/// nodes.
pub const REFUSED_BYTES_MAX: usize = 256 * 1024;
/// Maximum bytes of a zone, region, operator or datacentre name.
pub const DOMAIN_NAME_BYTES_MAX: usize = 64;
/// Maximum number of wanted places of one lease, and of refused ones.
pub const LEASE_PLACES_MAX: usize = 64;
/// Maximum bytes of a policy name: it fits in one DNS label, so a host name can contain it.
pub const POLICY_NAME_BYTES_MAX: usize = 63;
/// Links of one policy chain.
pub const POLICY_LINKS_MAX: usize = 8;
/// Maximum bytes of a policy component. The large ones are allow-listed JavaScript engines.
pub const POLICY_COMPONENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Maximum bytes of the configuration of one policy link, as TOML text.
pub const POLICY_CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Maximum bytes of a signed policy manifest.
pub const POLICY_MANIFEST_BYTES_MAX: usize = 16 * 1024;
/// Maximum number of objects in one purge order. A larger tree takes several orders.
pub const PURGE_OBJECTS_MAX: usize = 256;
/// Maximum bytes of a purge order with owner keys and both signatures.
pub const PURGE_BYTES_MAX: usize = 32 * PURGE_OBJECTS_MAX + 16 * 1024;
/// Maximum difference, in seconds, between a node's clock and the time at which an order was signed.
pub const PURGE_SKEW_SECONDS_MAX: u64 = 300;
/// Maximum bytes of one sealed note that edges share. A certificate chain with its key takes about 6 KiB.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Maximum bytes of a note as JSON, which carries the sealed bytes in base64.
pub const NOTE_BODY_BYTES_MAX: usize = NOTE_BYTES_MAX.div_ceil(3) * 4 + 64;
/// Cells of one append or one shard read: 17 MiB at most. That is a few round trips on a fast link and bounds memory.
pub const CELLS_MAX: usize = 64;
/// The same, as the API counts stripes.
pub const SHARD_READ_STRIPS_MAX: u64 = CELLS_MAX as u64;
/// Body of one append or one shard read: the proof with its length, and the strips with their rows.
pub const SHARD_BODY_BYTES_MAX: usize = shard_body_bytes_max(CELLS_MAX);
/// Proof of one shard read: the 1 KiB chunks that hold the asked hashes, and two paths of at most 32 parents.
pub const PROOF_BYTES_MAX: usize = 4 * 1024 + 64 * 32 + 64;
/// Maximum number of entries on one page of the change feed or a list of locators.
pub const PAGE_ENTRIES_MAX: usize = 1_000;
/// Nodes of a cluster that the wire has room for, edges among them: an answer of [`NODES_BYTES_MAX`].
pub const NODES_MAX: usize = 10_000;
/// Maximum bytes of the list of all nodes, which has no pages: who plans by it wants all of one moment. An entry takes
/// 350 bytes, and less than 1 KiB with names of the longest and a dozen addresses.
pub const NODES_BYTES_MAX: usize = NODES_MAX * 1024;
/// Maximum seconds that a change feed request waits for news (long polling) before it answers with an empty page.
pub const CHANGES_WAIT_SECONDS_MAX: u32 = 30;
/// The slowest uplink of an owner, in bytes in a second: 0.5 Mbit/s.
pub const UPLINK_BYTES_PER_SECOND_MIN: u64 = 62_500;
/// Maximum number of calls with a body that one caller makes concurrently, to all nodes together: the columns of four
/// large files, or of 16 small ones. More calls wait for their turn, and their deadlines begin with it.
pub const BODIES_AT_ONCE_MAX: usize = 128;
/// The slowest way on which the body of a call comes through, in bytes in a second: the slowest uplink shared by all
/// calls that go concurrently, of which a tenth is headers and acknowledgements. Both sides give a body a second for so
/// many bytes.
pub const BODY_BYTES_PER_SECOND_MIN: u64 = UPLINK_BYTES_PER_SECOND_MIN * 9 / 10 / BODIES_AT_ONCE_MAX as u64;
/// A node keeps the place of an upload session for so many seconds after the last cells, also when others need it.
/// After that, sessions whose caller's connection ended give way first.
pub const UPLOAD_KEPT_SECONDS: u64 = 30;
/// The slowest disk, or object store, that a node may have, in bytes in a second: a commit has a second for so many
/// bytes of its shard.
pub const SYNC_BYTES_PER_SECOND_MIN: u64 = 4 << 20;
/// Longest time between two announcements of an origin, in seconds. An origin may announce itself more often.
pub const ORIGIN_ANNOUNCE_SECONDS_MAX: u64 = 10;
/// Time between two announcements of an edge, or of a twin that announces itself, in seconds.
pub const EDGE_ANNOUNCE_SECONDS: u64 = 5;
/// A node that missed so many announcements is silent, see [`Role::silent_seconds`](crate::wire::Role::silent_seconds).
pub const ANNOUNCEMENTS_MISSED: u64 = 4;

/// Returns the most bytes that the answer to a read of so many strips has; a node answers no read of more than
/// [`SHARD_READ_STRIPS_MAX`].
#[must_use]
pub const fn shard_body_bytes_max(strips: usize) -> usize {
    let strips = if strips < CELLS_MAX { strips } else { CELLS_MAX };
    strips * (STRIP_BYTES_MAX + ROW_BYTES_MAX) + PROOF_BYTES_MAX + 4
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(TAIL_COLUMN_BYTES));
const _: () = assert!(TAIL_COLUMN_BYTES.is_multiple_of(TAIL_ROUND_BYTES));
const _: () = assert!(INLINE_BYTES_MAX + 8 * 1024 <= SEALED_MANIFEST_BYTES_MAX);
const _: () = assert!(SHARD_READ_STRIPS_MAX * 32 <= 2 * 1024);
// Rounding up the tail's blocks never empties the last block: at most 64 * 255 bytes of rounding, less than one column.
const _: () = assert!(TAIL_ROUND_BYTES * (COLUMNS_MAX - 1) < TAIL_COLUMN_BYTES);
