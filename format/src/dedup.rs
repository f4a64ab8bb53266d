//! De-duplication: the key of an object derived from its own sealed-to-be bytes, so that equal uploads of one owner
//! give equal shards.
//!
//! The key commits to exactly what enters the AEAD, never to the plaintext: another zstd version would compress
//! otherwise and would then reuse a keystream on other bytes.

use rayon::prelude::*;

use crate::{
    DataKey, EncodeError, EncoderOptions,
    encode::{PlainStripe, Splitter},
    limits::STRIP_HEADER_BYTES,
    strip,
};

/// Hashes an object's compressed blocks on a first pass over its bytes.
pub struct Fingerprint {
    options: EncoderOptions,
    splitter: Splitter,
    hasher: blake3::Hasher,
    shape: [u8; 3],
}

impl Fingerprint {
    /// Starts with the options that the encoder will have.
    #[must_use]
    pub fn new(options: EncoderOptions) -> Self {
        Self {
            options,
            splitter: Splitter::new(options.profile),
            hasher: blake3::Hasher::new(),
            shape: [options.suite.id(), 0, 0],
        }
    }

    /// Takes the next bytes of the object. CPU work: keep it off a reactor.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`].
    pub fn write(&mut self, mut input: &[u8]) -> Result<(), EncodeError> {
        while let Some(plain) = self.splitter.write(&mut input)? {
            self.absorb(&plain);
        }
        Ok(())
    }

    /// Derives the key: `keyed_hash(dedup key, suite ‖ k ‖ m ‖ BLAKE3 of the blocks)`.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`].
    pub fn finish(mut self, dedup_key: &[u8; 32]) -> Result<DataKey, EncodeError> {
        while let Some(plain) = self.splitter.drain()? {
            self.absorb(&plain);
        }
        // An inline object has no blocks; its bytes stand for them.
        self.hasher.update(&self.splitter.rest());
        let mut keyed = blake3::Hasher::new_keyed(dedup_key);
        keyed.update(&self.shape).update(self.hasher.finalize().as_bytes());
        Ok(DataKey(*keyed.finalize().as_bytes()))
    }

    fn absorb(&mut self, plain: &PlainStripe) {
        let byte = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        self.shape = [self.options.suite.id(), byte(plain.redundancy.data()), byte(plain.redundancy.parity())];
        let fill = |(_, block): &(_, &[u8])| {
            let mut bytes = Vec::new();
            let codec = strip::fill(block, self.options.compression, &mut bytes);
            (codec, bytes)
        };
        let filled: Vec<_> = plain.blocks().par_iter().map(fill).collect();
        for (codec, bytes) in filled {
            let body = &bytes[STRIP_HEADER_BYTES..];
            self.hasher.update(&[codec.byte()]).update(&(body.len() as u64).to_le_bytes()).update(body);
        }
    }
}
