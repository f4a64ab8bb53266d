//! The shape that the zstd frame of a block has (RFC 8878), checked before an engine sees the frame: engines differ in
//! what they take, and one refuses what another reads.
//!
//! The header follows from the length of the block. Behind it are blocks of zstd and nothing else. What is inside the
//! entropy coded parts, the engine checks: the hash of the block says whether it is right.

use bytes::Bytes;

/// The first bytes of every frame (section 3.1.1).
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Frame header descriptor of one segment, with the length in 1, 2 or 4 bytes. All other bits, for a checksum, a
/// dictionary and what is reserved, are 0 (section 3.1.1.1.1).
const DESCRIPTORS: [u8; 3] = [0x20, 0x60, 0xa0];
/// Most bytes of one zstd block, compressed or not (section 3.1.1.2.4).
const STORED_BYTES_MAX: usize = 128 * 1024;
const BLOCK_BYTES_MAX: u64 = STORED_BYTES_MAX as u64;
/// Bytes of the header of a zstd block (section 3.1.1.2).
const BLOCK_HEADER_BYTES: usize = 3;
/// Most zstd blocks of a frame. zstd writes fewer; each costs a reader its tables, however little is in it.
const BLOCKS_MAX: usize = 64;
/// Fewest literals that come in four streams: each has one, but for the last (section 3.1.1.3.1.6).
const LITERALS_MIN: u64 = 6;

/// Returns whether `frame` is one frame of the allowed shape for a block of `length` bytes, with nothing behind it.
pub(super) fn is_allowed(frame: &[u8], length: usize) -> bool {
    let bytes_max = BLOCK_BYTES_MAX.min(length as u64);
    let Some(mut blocks) = header(length).and_then(|header| frame.strip_prefix(&header[..])) else { return false };
    for _ in 0..BLOCKS_MAX {
        match after_block(blocks, bytes_max) {
            Some((true, behind)) => return behind.is_empty(),
            Some((false, behind)) => blocks = behind,
            None => return false,
        }
    }
    false
}

/// Returns a frame of the allowed shape with a block as it is, in pieces that share the block: headers alone are made.
/// A block has at most 256 KiB.
pub(super) fn stored(block: &Bytes) -> Vec<Bytes> {
    let mut head = header(block.len()).expect("a block has at most 256 KiB");
    let count = block.len().div_ceil(STORED_BYTES_MAX).max(1);
    let mut pieces = Vec::with_capacity(2 * count);
    for number in 1..=count {
        let part = block.slice((number - 1) * STORED_BYTES_MAX..block.len().min(number * STORED_BYTES_MAX));
        // Section 3.1.1.2: whether it is the last, the kind, which is 0, and the size.
        let says = (part.len() as u64) << 3 | u64::from(number == count);
        head.extend_from_slice(&says.to_le_bytes()[..BLOCK_HEADER_BYTES]);
        pieces.extend([std::mem::take(&mut head).into(), part]);
    }
    pieces
}

/// Returns the length of [`stored`] for a block of `length` bytes.
pub(super) fn stored_bytes(length: usize) -> usize {
    header(length).map_or(0, |header| header.len())
        + length
        + BLOCK_HEADER_BYTES * length.div_ceil(STORED_BYTES_MAX).max(1)
}

/// Returns the header of a frame for a block of `length` bytes; none for more than four bytes can tell.
fn header(length: usize) -> Option<Vec<u8>> {
    let with = |descriptor: usize, length: &[u8]| [&MAGIC[..], &[DESCRIPTORS[descriptor]], length].concat();
    // Section 3.1.1.1.4: the length is written in as few bytes as it can be; two bytes start at 256.
    if let Ok(length) = u8::try_from(length) {
        return Some(with(0, &[length]));
    }
    if let Ok(length) = u16::try_from(length - 256) {
        return Some(with(1, &length.to_le_bytes()));
    }
    Some(with(2, &u32::try_from(length).ok()?.to_le_bytes()))
}

/// Returns whether the first block is the last one, and what is behind it.
fn after_block(blocks: &[u8], bytes_max: u64) -> Option<(bool, &[u8])> {
    let (header, rest) = uint(blocks, BLOCK_HEADER_BYTES)?;
    let (kind, size) = (header >> 1 & 3, header >> 3);
    let (body, behind) = rest.split_at_checked(if kind == 1 { 1 } else { usize::try_from(size).ok()? })?;
    // Section 3.1.1.2.2: raw, run of one byte, compressed, reserved.
    let is_allowed = size <= bytes_max && (kind < 2 || kind == 2 && is_compressed(body, bytes_max));
    is_allowed.then_some((header & 1 == 1, behind))
}

/// Looks at the headers of both sections of a compressed block.
fn is_compressed(body: &[u8], bytes_max: u64) -> bool {
    behind_literals(body, bytes_max).is_some_and(|sequences| match sequences {
        [0] => true,
        // Section 3.1.1.3.2.1: the number of sequences, then the modes, whose two last bits are reserved.
        [1..=127, modes, ..] | [128..=254, _, modes, ..] | [255, _, _, modes, ..] => modes & 3 == 0,
        _ => false,
    })
}

fn behind_literals(body: &[u8], bytes_max: u64) -> Option<&[u8]> {
    let (first, _) = uint(body, 1)?;
    let (kind, format) = (first & 3, first >> 2 & 3);
    // Section 3.1.1.3.1.1: for each format the bytes of the header, and the bits before and of the regenerated size.
    let (header_bytes, size_at, size_bits) = match (kind, format) {
        (0 | 1, 0 | 2) => (1, 3, 5),
        (0 | 1, 1) => (2, 4, 12),
        (0 | 1, _) => (3, 4, 20),
        (_, 0 | 1) => (3, 4, 10),
        (_, 2) => (4, 4, 14),
        _ => (5, 4, 18),
    };
    let (header, rest) = uint(body, header_bytes)?;
    let size = header >> size_at & ((1 << size_bits) - 1);
    let bytes = match kind {
        0 => size,
        1 => 1,
        _ => header >> (size_at + size_bits),
    };
    let is_allowed = size <= bytes_max && (kind < 2 || format == 0 || size >= LITERALS_MIN);
    rest.get(usize::try_from(bytes).ok()?..).filter(|_| is_allowed)
}

/// Reads a little-endian number of up to five bytes.
fn uint(bytes: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(count)?;
    Some((number.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest))
}
