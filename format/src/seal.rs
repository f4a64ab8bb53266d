//! Sealing: suites 1 and 2 behind one trait, with two engines for suite 1.
//!
//! A (key, nonce) pair is used once, because the key is fresh for each object and the nonce is the block's index. The
//! suite, the codec, the index and the last-block flag are authenticated. So a block cannot be moved, cut off or read
//! as another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::AeadInOut};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{geometry::BlockIndex, limits::TAG_BYTES, wire::FORMAT_VERSION};

/// The AEAD of an object. Its number is stored in both manifests and is part of the authenticated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Suite 1, RFC 8439: constant time on every CPU.
    ChaCha20Poly1305,
    /// Suite 2, NIST SP 800-38D: several times faster where the CPU has AES instructions.
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

    /// Makes the sealer of this suite on its fastest engine, which is AWS-LC for both (bench `seal` has the ratio).
    #[must_use]
    pub fn sealer(self, key: &[u8; 32]) -> Box<dyn Sealer> {
        Engine::AwsLc.sealer(self, key).expect("AWS-LC has both suites")
    }
}

/// An implementation of the suites. All engines of one suite give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// AWS-LC: both suites; assembly for x86-64 and aarch64.
    AwsLc,
    /// The pure-Rust `chacha20poly1305`: suite 1.
    RustCrypto,
}

impl Engine {
    /// Makes a sealer, or returns `None` if the engine lacks the suite.
    #[must_use]
    pub fn sealer(self, suite: Suite, key: &[u8; 32]) -> Option<Box<dyn Sealer>> {
        match (self, suite) {
            (Self::AwsLc, Suite::ChaCha20Poly1305) => Some(Box::new(AwsLcSealer::new(&CHACHA20_POLY1305, key))),
            (Self::AwsLc, Suite::Aes256Gcm) => Some(Box::new(AwsLcSealer::new(&AES_256_GCM, key))),
            (Self::RustCrypto, Suite::ChaCha20Poly1305) => {
                Some(Box::new(RustCryptoSealer(ChaCha20Poly1305::new(key.into()))))
            }
            (Self::RustCrypto, Suite::Aes256Gcm) => None,
        }
    }
}

/// The key of one object (DK). Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey(pub(crate) [u8; 32]);

impl DataKey {
    /// Takes 32 fresh random bytes. The caller must never use them for another object.
    #[must_use]
    pub fn fresh(random: [u8; 32]) -> Self {
        Self(random)
    }
}

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
pub struct BlockPosition {
    /// The index, which is also the nonce.
    pub index: BlockIndex,
    /// Whether it is the last block of its object.
    pub last: bool,
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

/// Seals and opens under one key.
pub trait Sealer: Send + Sync {
    /// Encrypts `text` in place and returns the tag. The caller must never repeat a nonce.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES];

    /// Decrypts `sealed` (ciphertext ‖ tag) into `text`, which is `TAG_BYTES` shorter.
    ///
    /// # Errors
    /// [`SealError`] if anything differs. The content of `text` is then useless.
    fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], text: &mut [u8]) -> Result<(), SealError>;
}

struct AwsLcSealer(LessSafeKey);

impl AwsLcSealer {
    fn new(algorithm: &'static Algorithm, key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(algorithm, key).expect("both suites take 32-byte keys")))
    }
}

impl Sealer for AwsLcSealer {
    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text);
        let tag = tag.expect("a block is far below the length where AEADs refuse");
        tag.as_ref().try_into().expect("both suites have 16-byte tags")
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], text: &mut [u8]) -> Result<(), SealError> {
        let (cipher, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(SealError)?;
        if cipher.len() != text.len() {
            return Err(SealError);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), cipher, tag, text).map_err(|_| SealError)
    }
}

struct RustCryptoSealer(ChaCha20Poly1305);

impl Sealer for RustCryptoSealer {
    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self.0.encrypt_inout_detached(&nonce.into(), aad, text.into());
        tag.expect("a block is far below the length where AEADs refuse").into()
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], text: &mut [u8]) -> Result<(), SealError> {
        let (cipher, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(SealError)?;
        if cipher.len() != text.len() {
            return Err(SealError);
        }
        text.copy_from_slice(cipher);
        self.0.decrypt_inout_detached(&nonce.into(), aad, text.into(), tag.into()).map_err(|_| SealError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439 section 2.8.2.
    #[test]
    fn suite_1_is_rfc_8439() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce = [0x07, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        for engine in [Engine::AwsLc, Engine::RustCrypto] {
            let mut sealed = text.to_vec();
            let tag = engine.sealer(Suite::ChaCha20Poly1305, &key).unwrap().seal(nonce, &aad, &mut sealed);
            assert_eq!(data_encoding::HEXLOWER.encode(&tag), "1ae10b594f09e26a7e902ecbd0600691");
            assert_eq!(&sealed[..4], [0xd3, 0x1a, 0x8d, 0x34]);
        }
    }

    #[test]
    fn engines_of_suite_1_give_the_same_bytes_and_open_each_other() {
        let key = [3; 32];
        let position = BlockPosition { index: BlockIndex(77), last: true };
        let aad = position.aad(Suite::ChaCha20Poly1305, 1);
        let [aws, rust] = [Engine::AwsLc, Engine::RustCrypto].map(|e| e.sealer(Suite::ChaCha20Poly1305, &key).unwrap());
        for len in [0, 1, 15, 16, 17, 63, 64, 65, 4096, 100_003] {
            let text: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let (mut a, mut b) = (text.clone(), text.clone());
            let tag = aws.seal(position.nonce(), &aad, &mut a);
            assert_eq!(tag, rust.seal(position.nonce(), &aad, &mut b));
            assert_eq!(a, b);
            a.extend(tag);
            for engine in [&aws, &rust] {
                let mut out = vec![0; len];
                assert_eq!(engine.open(position.nonce(), &aad, &a, &mut out), Ok(()));
                assert_eq!(out, text);
            }
        }
    }

    #[test]
    fn a_block_opens_only_at_its_own_position() {
        for suite in Suite::ALL {
            let sealer = suite.sealer(&[9; 32]);
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
