//! Block compression: one zstd frame for each block, kept only if it saves at least 10 %. A frame is inflated only to
//! the length known beforehand, so a decompression bomb has no effect. This is the only file that may name zstd.

use std::cell::RefCell;

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::{MAGICNUMBER, find_frame_compressed_size},
};

/// Level 3: 0.6 GB/s on text; on random bytes it gives up early, at 9 GB/s (own measurement, `bench/results`).
const LEVEL: i32 = 3;

/// Whether blocks may be compressed. Compression leaks something about the content through its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Compress each block that this makes at least 10 % smaller.
    #[default]
    Auto,
    /// Compress no block.
    Off,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses `block` into the front of `out` and returns the length, or `None` if that saves less than 10 %.
pub(crate) fn compress(block: &[u8], out: &mut [u8]) -> Option<usize> {
    let worthwhile = block.len() - block.len().div_ceil(10);
    let out = out.get_mut(..worthwhile)?;
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress_to_buffer(block, out).ok()
    })
}

/// Inflates one frame into exactly `out`. Returns whether `frame` is one sound frame of that length, with nothing
/// behind it. It never writes past the end of `out`.
#[must_use]
pub(crate) fn decompress(frame: &[u8], out: &mut [u8]) -> bool {
    // zstd itself also takes several frames, and skippable ones, which would give a block many spellings.
    if !frame.starts_with(&MAGICNUMBER.to_le_bytes()) || find_frame_compressed_size(frame) != Ok(frame.len()) {
        return false;
    }
    let expected = out.len();
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => match Decompressor::new() {
                Ok(new) => slot.insert(new),
                Err(_) => return false,
            },
        };
        decompressor.decompress_to_buffer(frame, out).is_ok_and(|written| written == expected)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
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
        let bomb = vec![0; 1 << 20];
        let mut out = vec![0; 1 << 20];
        let len = compress(&bomb, &mut out).expect("zeros gain");
        let frame = out[..len].to_vec();
        for expected in [0, 1, 1000, (1 << 20) - 1, (1 << 20) + 1] {
            assert!(!decompress(&frame, &mut vec![0; expected]), "{expected}");
        }
        assert!(!decompress(&frame[..len - 1], &mut vec![0; 1 << 20]));
        assert!(decompress(&frame, &mut vec![0; 1 << 20]));
        assert!(!decompress(b"not a frame", &mut [0; 4]));
    }

    #[test]
    fn a_block_has_one_spelling() {
        let half = b"to be or not to be ".repeat(100);
        let mut out = vec![0; half.len()];
        let len = compress(&half, &mut out).expect("text gains");
        let frame = &out[..len];
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0any";
        let empty = zstd::bulk::compress(b"", LEVEL).unwrap();
        for wrong in [
            [frame, frame].concat(),
            [frame, &skippable[..]].concat(),
            [&skippable[..], frame].concat(),
            [frame, &empty].concat(),
            [frame, b"\0"].concat(),
        ] {
            for length in [half.len(), 2 * half.len()] {
                assert!(!decompress(&wrong, &mut vec![0; length]));
            }
        }
    }
}
