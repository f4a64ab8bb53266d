//! Block compression: the hash of the block and one zstd frame of it, kept only if that saves at least 10 %.
//!
//! A frame is inflated only to the length known beforehand, so a decompression bomb has no effect. Decoders of zstd
//! give different bytes for some frames that RFC 8878 calls faulty, even the same decoder on another processor. The
//! hash says which bytes count, so an object has one content whoever reads it.

mod frame;

use bytes::Bytes;

use crate::engine;

const HASH_BYTES: usize = 32;

/// Whether blocks may be compressed. Compression leaks something about the content through its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Compress each block that this makes at least 10 % smaller.
    #[default]
    Auto,
    /// Compress no block.
    Off,
}

/// Returns a zstd frame of a block that inflates to it with any decoder, as a stranger's may not: compressed where that
/// saves at least 10 %, else with the bytes as they are. Costs up to 1.1 ms of CPU.
#[must_use]
pub fn zstd_frame(block: &[u8]) -> Vec<u8> {
    let mut out = vec![0; block.len() - block.len().div_ceil(10)];
    match engine::compress(block, &mut out) {
        Some(length) => {
            out.truncate(length);
            out.shrink_to_fit();
            out
        }
        None => frame::stored(&Bytes::copy_from_slice(block)).concat(),
    }
}

/// Returns a zstd frame with a block of up to 256 KiB as it is, in pieces that share the block: a copy would stay in
/// memory for each reader that takes its time.
#[must_use]
pub fn zstd_stored(block: &Bytes) -> Vec<Bytes> {
    frame::stored(block)
}

/// Returns how long the frame is in which a block of so many bytes lies as it is.
#[must_use]
pub fn zstd_stored_bytes(length: usize) -> usize {
    frame::stored_bytes(length)
}

/// Writes the hash of `block` and its frame into the front of `out` and returns their length, or `None` if that saves
/// less than 10 %.
pub(crate) fn compress(block: &[u8], out: &mut [u8]) -> Option<usize> {
    let worthwhile = block.len() - block.len().div_ceil(10);
    let (hash, frame) = out.get_mut(..worthwhile)?.split_first_chunk_mut::<HASH_BYTES>()?;
    let length = engine::compress(block, frame)?;
    *hash = *blake3::hash(block).as_bytes();
    Some(HASH_BYTES + length)
}

/// Inflates what [`compress`] wrote into exactly `out`. Returns whether the frame has the allowed shape and inflates to
/// the bytes of the hash. It never writes past the end of `out`.
#[must_use]
pub(crate) fn decompress(text: &[u8], out: &mut [u8]) -> bool {
    inflate(text, out, engine::decompress)
}

fn inflate(text: &[u8], out: &mut [u8], engine: impl Fn(&[u8], &mut [u8]) -> bool) -> bool {
    text.split_first_chunk::<HASH_BYTES>().is_some_and(|(hash, frame)| {
        frame::is_allowed(frame, out.len()) && engine(frame, out) && blake3::hash(out) == *hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(text, 3).unwrap()
    }

    /// The hash of what a frame is to inflate to, and the frame.
    fn hashed(text: &[u8], frame: &[u8]) -> Vec<u8> {
        [blake3::hash(text).as_bytes(), frame].concat()
    }

    fn is_read(text: &[u8], frame: &[u8]) -> bool {
        let mut out = vec![0; text.len()];
        let is_read = decompress(&hashed(text, frame), &mut out);
        assert!(!is_read || out == text);
        is_read
    }

    #[test]
    #[cfg(feature = "native")]
    fn keeps_a_frame_only_when_it_gains_ten_percent() {
        let text = b"to be or not to be ".repeat(1000);
        let mut out = vec![0; text.len()];
        let len = compress(&text, &mut out).expect("text gains");
        let mut back = vec![0; text.len()];
        assert!(decompress(&out[..len], &mut back) && back == text);
        let mut random = vec![0; 4096];
        blake3::Hasher::new().finalize_xof().fill(&mut random);
        assert_eq!(compress(&random, &mut out), None);
        assert_eq!(compress(b"", &mut out), None);
    }

    #[test]
    fn a_frame_of_any_block_inflates_to_it() {
        for length in [0, 1, 255, 256, 65_791, 65_792, 131_072, 131_073, 262_143, 262_144] {
            let mut random = vec![0; length];
            blake3::Hasher::new().finalize_xof().fill(&mut random);
            let text: Vec<u8> = b"to be or not to be ".iter().copied().cycle().take(length).collect();
            for block in [&random, &text] {
                let frame = zstd_frame(block);
                assert!(is_read(block, &frame), "{length} bytes");
                assert!(
                    frame.len() <= length + 9 + 2 * 3 && frame.capacity() == frame.len(),
                    "{length}: {}",
                    frame.len()
                );
            }
            let packed = zstd_frame(&text).len();
            assert_eq!(packed < length / 10, cfg!(feature = "native") && length > 500, "{length} bytes: {packed}");
        }
        let concatenated = [zstd_frame(b"one "), zstd_frame(&[b'x'; 3000])].concat();
        assert_eq!(zstd::bulk::decompress(&concatenated, 4000).unwrap(), [&b"one "[..], &[b'x'; 3000]].concat());
    }

    #[test]
    fn never_inflates_past_the_expected_length() {
        let zeros = vec![0; 1 << 18];
        let frame = frame(&zeros);
        for expected in [0, 1, 1000, zeros.len() - 1, zeros.len() + 1] {
            assert!(!is_read(&vec![0; expected], &frame), "{expected}");
        }
        assert!(!is_read(&zeros, &frame[..frame.len() - 1]));
        assert!(is_read(&zeros, &frame));
        assert!(!is_read(&[0; 4], b"not a frame"));
    }

    /// Four bits that do not repeat.
    fn noise(at: usize) -> u8 {
        blake3::hash(&at.to_le_bytes()).as_bytes()[0] & 15
    }

    /// What zstd writes of a block has the allowed shape: no writer has to try twice.
    #[test]
    fn every_frame_that_zstd_writes_of_a_block_is_read() {
        for length in [1, 2, 63, 64, 255, 256, 257, 16_384, 65_791, 65_792, 131_072, 131_073, 262_143, 262_144] {
            for period in [1, 7, 300, 5000usize] {
                let text: Vec<u8> = (0..length).map(|at| u8::try_from(at % period * 31 % 251).unwrap()).collect();
                assert!(is_read(&text, &frame(&text)), "{length} bytes of period {period}");
            }
            // What changes each 4 KiB, zstd cuts into the most blocks.
            let text: Vec<u8> = (0..length).map(|at| u8::try_from(at >> 12 & 1).unwrap() * 97 + noise(at)).collect();
            assert!(is_read(&text, &frame(&text)), "{length} bytes that change");
        }
    }

    #[test]
    fn a_block_has_one_spelling() {
        let half = b"to be or not to be ".repeat(100);
        let (one, empty) = (&frame(&half)[..], &frame(b"")[..]);
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0any";
        for wrong in [
            [one, one].concat(),
            [one, &skippable[..]].concat(),
            [&skippable[..], one].concat(),
            [one, empty].concat(),
            [one, b"\0"].concat(),
        ] {
            assert!(!is_read(&half, &wrong) && !is_read(&half.repeat(2), &wrong));
        }
    }

    /// Section 3.1.1.1 of RFC 8878 has eight ways to write the header of a frame. One is read.
    #[test]
    fn a_frame_has_one_header() {
        let text = b"to be or not to be ".repeat(100);
        let good = frame(&text);
        // Magic, descriptor of one segment with two bytes of length, the length less 256.
        let (header, blocks) = good.split_at(7);
        assert_eq!(header[4..], [0x60, 0x6c, 0x06]);
        let read = |descriptor: &[u8]| is_read(&text, &[&header[..4], descriptor, blocks].concat());
        assert!(read(&[0x60, 0x6c, 0x06]));
        for (other, why) in [
            (&[0x68, 0x6c, 0x06][..], "the reserved bit"),
            (&[0x70, 0x6c, 0x06], "the unused bit"),
            (&[0x64, 0x6c, 0x06], "a checksum that is not there"),
            (&[0x61, 0, 0x6c, 0x06], "a dictionary of number 0"),
            (&[0x60, 0x6b, 0x06], "another length"),
            (&[0xa0, 0x6c, 0x07, 0, 0], "four bytes of length"),
            (&[0xe0, 0x6c, 0x07, 0, 0, 0, 0, 0, 0], "eight bytes of length"),
            (&[0x00, 0x08], "a window and no length"),
            (&[0x40, 0x08, 0x6c, 0x06], "a window and a length"),
            (&[0x40, 0x78, 0x6c, 0x06], "a window of 32 MiB"),
        ] {
            assert!(!read(other), "{why}");
        }
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor.include_checksum(true).unwrap();
        assert!(!is_read(&text, &compressor.compress(&text).unwrap()), "a checksum");
    }

    /// Builds zstd blocks by hand: is the last, kind, size, body.
    fn blocks(length: usize, blocks: &[(bool, u32, u32, &[u8])]) -> Vec<u8> {
        let mut out = frame(&vec![0; length]);
        // What zstd wrote, up to its own blocks.
        out.truncate(match length {
            0..256 => 6,
            256..65_792 => 7,
            _ => 9,
        });
        for (last, kind, size, body) in blocks {
            out.extend_from_slice(&(size << 3 | kind << 1 | u32::from(*last)).to_le_bytes()[..3]);
            out.extend_from_slice(body);
        }
        out
    }

    #[test]
    fn what_engines_take_differently_is_refused() {
        const RUN: u32 = 1;
        const COMPRESSED: u32 = 2;
        const MOST: usize = 128 << 10;
        let zeros =
            |length: usize, these: &[(bool, u32, u32, &[u8])]| is_read(&vec![0; length], &blocks(length, these));
        assert!(zeros(MOST, &[(true, RUN, 128 << 10, &[0])]));
        assert!(zeros(MOST + 1, &[(false, RUN, 128 << 10, &[0]), (true, RUN, 1, &[0])]));
        assert!(!zeros(MOST + 1, &[(true, RUN, (128 << 10) + 1, &[0])]), "a run of more than 128 KiB");
        assert!(!zeros(100, &[(false, RUN, 100, &[0])]), "no last block");
        let many = |count: usize| [vec![(false, 0, 0, &[][..]); count - 1], vec![(true, RUN, 100, &[0][..])]].concat();
        assert!(zeros(100, &many(64)));
        assert!(!zeros(100, &many(65)), "more than 64 blocks");
        assert!(!zeros(100, &[(true, 3, 100, &[0; 100])]), "a reserved kind");
        // Literals: 40 or 200,000 times one byte (section 3.1.1.3.1.1); no sequences, or one of the default tables.
        assert!(zeros(40, &[(true, COMPRESSED, 4, &[0x85, 0x02, 0, 0])]));
        assert!(!zeros(40, &[(true, COMPRESSED, 5, &[0x85, 0x02, 0, 0, 0])]), "bytes behind no sequences");
        assert!(!zeros(40, &[(true, COMPRESSED, 5, &[0x85, 0x02, 0, 128, 0])]), "no sequences, in two bytes");
        assert!(!zeros(200_000, &[(true, COMPRESSED, 5, &[0x0d, 0xd4, 0x30, 0, 0])]), "literals of more than 128 KiB");
        // Two headers and that of the literals, 25 of these, one sequence, its modes.
        let text = b"A block that compresses. ".repeat(40);
        let good = frame(&text);
        assert_eq!(good[36..38], [1, 0]);
        for bits in 0..4 {
            let mut bad = good.clone();
            bad[37] |= bits;
            assert_eq!(is_read(&text, &bad), bits == 0, "reserved bits {bits} of the modes");
        }
    }

    /// Its four streams of literals end where they should not: zstd in C reads it on processors with BMI2, in Rust too,
    /// and each reads other bytes.
    const AMBIGUOUS: &str = include_str!("../tests/golden/ambiguous.txt");

    #[test]
    fn a_frame_of_two_readings_gives_the_bytes_of_its_hash_or_none() {
        let frame = data_encoding::HEXLOWER.decode(AMBIGUOUS.trim().as_bytes()).unwrap();
        assert!(frame::is_allowed(&frame, 407), "headers do not tell");
        let mut readings = std::collections::BTreeSet::from([vec![0; 407]]);
        let mut out = vec![0; 407];
        if engine::decompress(&frame, &mut out) {
            readings.insert(out.clone());
        }
        #[cfg(not(feature = "native"))]
        if engine::zstd_c::decompress(&frame, &mut out) {
            readings.insert(out.clone());
        }
        #[cfg(not(feature = "native"))]
        assert!(readings.len() > 1, "no engine reads it");
        assert!(!is_read(&[0; 407], &frame));
        for reading in &readings {
            is_read(reading, &frame);
        }
    }

    /// Cuts, flips and stretches frames of zstd and reads them with both engines. They agree on all but one in some ten
    /// thousand, where one overlooks how a stream of literals ends; both give the bytes of the hash then or none.
    #[test]
    #[cfg(not(feature = "native"))]
    fn engines_agree_on_mutated_frames() {
        use engine::{zstd_c, zstd_rust};
        let mut random = blake3::Hasher::new().finalize_xof();
        let mut draw = |below: usize| {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            usize::try_from(u64::from_le_bytes(bytes) % below as u64).unwrap()
        };
        let (mut read, mut refused, mut differ) = (0, 0, 0);
        for _ in 0..300 {
            let (length, letters) = (1 + draw(3000), 2 + draw(60));
            let words: Vec<Vec<u8>> = (0..20)
                .map(|_| (0..=draw(9)).map(|_| u8::try_from(draw(letters).min(draw(letters))).unwrap()).collect())
                .collect();
            let mut text: Vec<u8> =
                std::iter::from_fn(|| Some(words[draw(20)].clone())).take(length).flatten().collect();
            text.truncate(length);
            let good = frame(&text);
            for round in 0..100 {
                let mut bad = good.clone();
                for _ in 0..(if round == 0 { 0 } else { 1 + draw(3) }) {
                    let at = 4 + draw(bad.len() - 4).min(draw(bad.len() - 4));
                    match draw(4) {
                        0 if bad.len() > 12 => drop(bad.remove(at)),
                        1 => bad.insert(at, u8::try_from(draw(256)).unwrap()),
                        _ => bad[at] ^= 1 << draw(8),
                    }
                }
                let bad = hashed(&text, &bad);
                let [mut c, mut rust] = [vec![0; text.len()], vec![0; text.len()]];
                let verdicts =
                    [inflate(&bad, &mut c, zstd_c::decompress), inflate(&bad, &mut rust, zstd_rust::decompress)];
                assert!(!verdicts[0] || c == text);
                assert!(!verdicts[1] || rust == text);
                assert!(round > 0 || verdicts == [true; 2], "zstd wrote {good:02x?}");
                *(match verdicts {
                    [true, true] => &mut read,
                    [false, false] => &mut refused,
                    _ => &mut differ,
                }) += 1;
            }
        }
        assert!(read >= 300 && refused >= 20_000 && differ <= 10, "{read} read, {refused} refused, {differ} differ");
    }
}
