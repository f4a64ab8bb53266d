//! zstd in C, for `native`.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// Level 3: 0.6 GB/s on text; on random bytes it gives up early, at 9 GB/s (own measurement, `bench/results`).
const LEVEL: i32 = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses `block` into the front of `out` and returns the length, or `None` if it does not fit.
pub(crate) fn compress(block: &[u8], out: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress_to_buffer(block, out).ok()
    })
}

/// Inflates a frame of the allowed shape into exactly `out`. Returns whether it did.
pub(crate) fn decompress(frame: &[u8], out: &mut [u8]) -> bool {
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
