//! Sealing: suites 1 and 2, and what a block is bound to.
//!
//! A (key, nonce) pair is used once, because the key is fresh for each object and the nonce is the block's index. The
//! suite, the codec, the index and the last-block flag are authenticated. So a block cannot be moved, cut off or read
//! as another.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{geometry::BlockIndex, wire::FORMAT_VERSION};

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
    use crate::hazmat::Sealer;

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
}
