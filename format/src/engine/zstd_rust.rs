//! zstd in Rust, for `portable`. It inflates and does not compress: what is encoded with it is stored as it is.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Compresses nothing: no compressor in Rust is worth its size here.
pub(crate) fn compress(_: &[u8], _: &mut [u8]) -> Option<usize> {
    None
}

/// Inflates a frame of the allowed shape into exactly `out`. Returns whether it did.
pub(crate) fn decompress(frame: &[u8], out: &mut [u8]) -> bool {
    inflate(frame, out).is_some()
}

fn inflate(mut frame: &[u8], out: &mut [u8]) -> Option<()> {
    let mut decoder = FrameDecoder::new();
    decoder.init(&mut frame).ok()?;
    while !decoder.is_finished() {
        // The window holds all of `out`. What lies beyond it can be collected, and is never more than one block.
        if decoder.can_collect() > 0 {
            return None;
        }
        decoder.decode_blocks(&mut frame, BlockDecodingStrategy::UptoBlocks(1)).ok()?;
    }
    if decoder.can_collect() != out.len() {
        return None;
    }
    std::io::Read::read_exact(&mut decoder, out).ok()
}
