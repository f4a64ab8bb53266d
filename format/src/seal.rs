//! Sealing: suites 1 and 2, and what a block is bound to.
//!
//! A (key, nonce) pair is used once, because the key is fresh for each object and the nonce is the block's index. The
//! suite, the codec, the index and the last-block flag are authenticated. So a block cannot be moved, cut off or read
//! as another.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{geometry::BlockIndex, hazmat::Sealer, limits::TAG_BYTES, wire::FORMAT_VERSION};

const SALT: &str = "evernear 2026 v1 salt";
/// Bytes of the salt of what is sealed alone.
pub(crate) const SALT_BYTES: usize = 32;

/// The AEAD of an object. Its number is stored in both manifests and is part of the authenticated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Suite 1, RFC 8439: constant time on every CPU.
    ChaCha20Poly1305,
    /// Suite 2, NIST SP 800-38D: about twice as fast where the CPU has AES instructions (`bench/results/codec.md`).
    Aes256Gcm,
}

impl Suite {
    /// Both suites.
    pub const ALL: [Self; 2] = [Self::ChaCha20Poly1305, Self::Aes256Gcm];

    /// Returns the number of the suite.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    /// Returns the suite of a number, if this version knows it.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    /// Returns the faster suite on this machine: 2 if the CPU has AES instructions, else 1 (bench `seal`).
    #[must_use]
    pub fn auto() -> Self {
        #[cfg(target_arch = "x86_64")]
        let aes = std::arch::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let aes = false;
        if aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }
}

/// Seals a text under a key of its own, in suite 1 with nonce zero: `salt ‖ ciphertext ‖ tag`. The salt makes the key
/// and derives from the text, so another text has another key, and no caller can give a salt twice.
pub(crate) fn seal_alone(key: &[u8; 32], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let salt = blake3::keyed_hash(&Zeroizing::new(blake3::derive_key(SALT, key)), text);
    let mut sealed = [&salt.as_bytes()[..], text].concat();
    let tag = alone(key, salt.as_bytes()).seal([0; 12], aad, &mut sealed[SALT_BYTES..]);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what [`seal_alone`] sealed.
pub(crate) fn open_alone(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (salt, sealed) = sealed.split_first_chunk().ok_or(SealError)?;
    let mut text = Zeroizing::new(vec![0; sealed.len().checked_sub(TAG_BYTES).ok_or(SealError)?]);
    alone(key, salt).open([0; 12], aad, sealed, &mut text)?;
    Ok(text)
}

fn alone(key: &[u8; 32], salt: &[u8; SALT_BYTES]) -> Sealer {
    Sealer::new(Suite::ChaCha20Poly1305, &Zeroizing::new(*blake3::keyed_hash(key, salt).as_bytes()))
}

/// The key of one object (DK). Wiped on drop, never printed. It never leaves this crate but sealed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct DataKey(pub(crate) [u8; 32]);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// Sealed bytes do not open: the bytes, their position or the key differ from what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seal does not open: wrong key, wrong position or changed bytes")]
pub struct SealError;

/// The position of a block in its object, authenticated with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockPosition {
    /// The index, which is also the nonce.
    pub(crate) index: BlockIndex,
    /// Whether it is the last block of its object.
    pub(crate) last: bool,
}

impl BlockPosition {
    pub(crate) fn nonce(self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.index.0.to_le_bytes());
        nonce
    }

    /// version ‖ suite ‖ codec ‖ index ‖ last-flag.
    pub(crate) fn aad(self, suite: Suite, codec: u8) -> [u8; 12] {
        let mut aad = [0; 12];
        aad[0] = FORMAT_VERSION;
        aad[1] = suite.id();
        aad[2] = codec;
        aad[3..11].copy_from_slice(&self.index.0.to_le_bytes());
        aad[11] = u8::from(self.last);
        aad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_opens_only_at_its_own_position() {
        for suite in Suite::ALL {
            let sealer = Sealer::new(suite, &[9; 32]);
            let position = BlockPosition { index: BlockIndex(5), last: false };
            let mut sealed = b"block".to_vec();
            let tag = sealer.seal(position.nonce(), &position.aad(suite, 0), &mut sealed);
            sealed.extend(tag);
            let open =
                |p: BlockPosition, suite, codec| sealer.open(p.nonce(), &p.aad(suite, codec), &sealed, &mut [0; 5]);
            assert_eq!(open(position, suite, 0), Ok(()));
            assert_eq!(open(BlockPosition { last: true, ..position }, suite, 0), Err(SealError));
            assert_eq!(open(BlockPosition { index: BlockIndex(6), ..position }, suite, 0), Err(SealError));
            assert_eq!(open(position, suite, 1), Err(SealError));
            assert_eq!(sealer.open([0; 12], b"", &sealed[..10], &mut []), Err(SealError));
        }
    }

    #[test]
    fn what_is_sealed_alone_has_a_salt_of_its_own() {
        let texts = (0..64).map(|bit| (1u64 << bit).to_le_bytes());
        let sealed: Vec<Vec<u8>> = texts.clone().map(|text| seal_alone(&[1; 32], b"aad", &text)).collect();
        let salts: std::collections::BTreeSet<_> = sealed.iter().map(|sealed| &sealed[..SALT_BYTES]).collect();
        assert_eq!(salts.len(), 64, "one bit of the text makes another salt");
        for (text, sealed) in texts.zip(&sealed) {
            assert_eq!(*seal_alone(&[1; 32], b"aad", &text), sealed[..], "a text is sealed one way");
            assert_ne!(seal_alone(&[2; 32], b"aad", &text)[..SALT_BYTES], sealed[..SALT_BYTES], "a key has its salts");
            assert_eq!(open_alone(&[1; 32], b"aad", sealed).unwrap()[..], text);
            for (key, aad, sealed) in [(2, &b"aad"[..], &sealed[..]), (1, b"", sealed), (1, b"aad", &sealed[..47])] {
                assert_eq!(open_alone(&[key; 32], aad, sealed), Err(SealError));
            }
        }
    }
}
