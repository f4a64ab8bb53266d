//! Block compression: one zstd frame for each block, kept only if it saves at least 10 %. A frame is inflated only to
//! the length known beforehand, so a decompression bomb has no effect.

use crate::engine;

/// The first bytes of every frame (RFC 8878 section 3.1.1).
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// Whether blocks may be compressed. Compression leaks something about the content through its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Compress each block that this makes at least 10 % smaller.
    #[default]
    Auto,
    /// Compress no block.
    Off,
}

/// Compresses `block` into the front of `out` and returns the length, or `None` if that saves less than 10 %.
pub(crate) fn compress(block: &[u8], out: &mut [u8]) -> Option<usize> {
    let worthwhile = block.len() - block.len().div_ceil(10);
    engine::compress(block, out.get_mut(..worthwhile)?)
}

/// Inflates one frame into exactly `out`. Returns whether `frame` is one sound frame of that length, with nothing
/// behind it. It never writes past the end of `out`.
#[must_use]
pub(crate) fn decompress(frame: &[u8], out: &mut [u8]) -> bool {
    // Engines also take several frames, and skippable ones, which would give a block many spellings.
    frame.starts_with(&MAGIC) && engine::decompress(frame, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(text, 3).unwrap()
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
    fn never_inflates_past_the_expected_length() {
        let frame = frame(&vec![0; 1 << 20]);
        for expected in [0, 1, 1000, (1 << 20) - 1, (1 << 20) + 1] {
            assert!(!decompress(&frame, &mut vec![0; expected]), "{expected}");
        }
        assert!(!decompress(&frame[..frame.len() - 1], &mut vec![0; 1 << 20]));
        assert!(decompress(&frame, &mut vec![0; 1 << 20]));
        assert!(!decompress(b"not a frame", &mut [0; 4]));
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
            for length in [half.len(), 2 * half.len()] {
                assert!(!decompress(&wrong, &mut vec![0; length]));
            }
        }
    }

    /// What a decoder may overlook and zstd does not, so that engines refuse alike.
    #[test]
    fn a_frame_that_contradicts_itself_is_refused() {
        let text = b"to be or not to be ".repeat(100);
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor.include_checksum(true).unwrap();
        let good = compressor.compress(&text).unwrap();
        let mut out = vec![0; text.len()];
        assert!(decompress(&good, &mut out) && out == text);
        // RFC 8878 section 3.1.1: descriptor, two bytes of length less 256, blocks, checksum.
        assert_eq!(good[4], 0x64, "one segment, its length in two bytes, a checksum");
        let mut changed = |at: usize, bit: u8| {
            let mut bad = good.clone();
            bad[at] ^= bit;
            decompress(&bad, &mut out)
        };
        assert!(!changed(4, 0x08), "the reserved bit");
        assert!(!changed(5, 1) && !changed(6, 1), "the length");
        for at in good.len() - 4..good.len() {
            assert!(!changed(at, 1), "the checksum");
        }
    }
}
