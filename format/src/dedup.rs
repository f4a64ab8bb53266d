//! De-duplication (convergent encryption within one owner): the key of an object is derived from the bytes that will be
//! sealed, so equal uploads of one owner give equal shards.
//!
//! The key commits to exactly the bytes that enter the AEAD, never to the plaintext. Otherwise another zstd version,
//! which compresses differently, would reuse a keystream on different bytes. For the same reason the key comes in an
//! encoder that takes these bytes and no others.

use rayon::prelude::*;

use crate::{
    EncodeError, Encoder, EncoderOptions,
    encode::{PlainStripe, Splitter},
    limits::STRIP_HEADER_BYTES,
    seal::DataKey,
    strip,
};

/// Hashes an object's compressed blocks in a first pass over its bytes, and its bytes up to the end of each stripe.
pub struct Fingerprint {
    options: EncoderOptions,
    splitter: Splitter,
    hasher: blake3::Hasher,
    plain: blake3::Hasher,
    ends: Vec<blake3::Hash>,
    shape: [u8; 3],
}

impl Fingerprint {
    /// Starts a fingerprint, for an encoder with these options.
    #[must_use]
    pub fn new(options: EncoderOptions) -> Self {
        Self {
            options,
            splitter: Splitter::new(options.profile),
            hasher: blake3::Hasher::new(),
            plain: blake3::Hasher::new(),
            ends: Vec::new(),
            shape: [options.suite.id(), 0, 0],
        }
    }

    /// Takes the next bytes of the object. This is CPU work: keep it off the async reactor.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`].
    pub fn write(&mut self, mut input: &[u8]) -> Result<(), EncodeError> {
        while let Some(plain) = self.splitter.write(&mut input)? {
            self.absorb(plain);
        }
        Ok(())
    }

    /// Derives the key: `keyed_hash(dedup key, suite ‖ k ‖ m ‖ BLAKE3 of the blocks)`. Returns the encoder that has it,
    /// and that ends with [`EncodeError::Changed`] before it hands out a stripe of other bytes.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`].
    pub fn finish(mut self, dedup_key: &[u8; 32]) -> Result<Encoder, EncodeError> {
        while let Some(plain) = self.splitter.drain()? {
            self.absorb(plain);
        }
        // An inline object has no blocks, so its plaintext is hashed instead.
        if self.ends.is_empty() {
            let rest = self.splitter.rest();
            self.hasher.update(&rest);
            self.ends.push(blake3::hash(&rest));
        }
        let mut keyed = blake3::Hasher::new_keyed(dedup_key);
        keyed.update(&self.shape).update(self.hasher.finalize().as_bytes());
        Ok(Encoder::new(self.options, DataKey(*keyed.finalize().as_bytes()), Some(self.ends)))
    }

    fn absorb(&mut self, plain: PlainStripe) {
        self.ends.push(self.plain.update(&plain.bytes).finalize());
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
        self.splitter.reuse(plain);
    }
}
