//! A strip: the bytes of one block, or of one parity, inside a stripe. Layout: `codec u8 ‖ zero u8*3 ‖ sealed_len u32 ‖
//! sealed ‖ zeros`.

use std::cell::RefCell;

use crate::{
    compress::{self, Compression},
    hazmat::Sealer,
    limits::{BLOCK_BYTES, STRIP_HEADER_BYTES, TAG_BYTES},
    object::DecodeError,
    seal::{BlockPosition, Suite},
};

const CODEC_AT: usize = 0;
const SEALED_LEN_AT: usize = 4;
const _: () = assert!(SEALED_LEN_AT + size_of::<u32>() == STRIP_HEADER_BYTES);

/// How a block is stored in its strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Stored,
    Zstd,
}

impl Codec {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
        }
    }
}

/// Writes the bytes of `block` that will be sealed into a strip buffer, after the space for the header. Clears the
/// buffer first.
pub(crate) fn fill(block: &[u8], compression: Compression, strip: &mut Vec<u8>) -> Codec {
    thread_local! {
        /// Where a thread tries to compress. It stays in the cache of its core, and no strip is written twice.
        static TRIED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    strip.clear();
    strip.extend_from_slice(&[0; STRIP_HEADER_BYTES]);
    let is_compressed = compression == Compression::Auto
        && TRIED.with_borrow_mut(|tried| {
            tried.resize(block.len(), 0);
            let length = compress::compress(block, tried);
            length.inspect(|length| strip.extend_from_slice(&tried[..*length])).is_some()
        });
    if is_compressed {
        return Codec::Zstd;
    }
    strip.extend_from_slice(block);
    Codec::Stored
}

/// Turns a block into its strip, without padding.
pub(crate) fn seal(
    block: &[u8],
    compression: Compression,
    position: BlockPosition,
    suite: Suite,
    sealer: &Sealer,
) -> Vec<u8> {
    let mut strip = Vec::with_capacity(STRIP_HEADER_BYTES + BLOCK_BYTES + TAG_BYTES);
    let codec = fill(block, compression, &mut strip);
    let aad = position.aad(suite, codec.byte());
    let tag = sealer.seal(position.nonce(), &aad, &mut strip[STRIP_HEADER_BYTES..]);
    strip.extend_from_slice(&tag);
    let sealed_len = u32::try_from(strip.len() - STRIP_HEADER_BYTES).expect("a sealed block is far below 4 GiB");
    strip[CODEC_AT] = codec.byte();
    strip[SEALED_LEN_AT..STRIP_HEADER_BYTES].copy_from_slice(&sealed_len.to_le_bytes());
    strip
}

/// Opens a strip with a verified hash into exactly `length` plaintext bytes.
pub(crate) fn open(
    strip: &[u8],
    length: usize,
    position: BlockPosition,
    suite: Suite,
    sealer: &Sealer,
) -> Result<Vec<u8>, DecodeError> {
    let block = position.index;
    let (header, rest) = strip.split_at_checked(STRIP_HEADER_BYTES).ok_or(DecodeError::Header { block })?;
    let codec = match header[CODEC_AT..SEALED_LEN_AT] {
        [0, 0, 0, 0] => Codec::Stored,
        [1, 0, 0, 0] => Codec::Zstd,
        _ => return Err(DecodeError::Header { block }),
    };
    let sealed_len = u32::from_le_bytes(header[SEALED_LEN_AT..].try_into().expect("the header ends with four bytes"));
    let sealed =
        usize::try_from(sealed_len).ok().and_then(|len| rest.get(..len)).ok_or(DecodeError::Header { block })?;
    let text_len = sealed.len().checked_sub(TAG_BYTES).ok_or(DecodeError::Header { block })?;
    let fits = if codec == Codec::Stored { text_len == length } else { text_len < length };
    if !fits {
        return Err(DecodeError::Length { block, expected: length });
    }
    let mut text = vec![0; text_len];
    sealer
        .open(position.nonce(), &position.aad(suite, codec.byte()), sealed, &mut text)
        .map_err(|source| DecodeError::Seal { block, source })?;
    if codec == Codec::Stored {
        return Ok(text);
    }
    let mut plain = vec![0; length];
    if compress::decompress(&text, &mut plain) { Ok(plain) } else { Err(DecodeError::Frame { block }) }
}
