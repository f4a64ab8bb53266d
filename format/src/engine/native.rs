//! AWS-LC for seals and signatures.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    signature::{ED25519, Ed25519KeyPair, KeyPair, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair, UnparsedPublicKey},
};

use crate::{
    SealError, Suite,
    limits::TAG_BYTES,
    owner::{ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES, ML_DSA_SIGNATURE_BYTES, SIGNATURE_BYTES},
};

/// A suite under a key.
pub(crate) struct Aead(LessSafeKey);

impl Aead {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        let algorithm = match suite {
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        };
        Self(LessSafeKey::new(UnboundKey::new(algorithm, key).expect("both suites take 32-byte keys")))
    }

    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text);
        let tag = tag.expect("a block is far below the length where AEADs refuse");
        tag.as_ref().try_into().expect("both suites have 16-byte tags")
    }

    /// Opens `cipher` into `text`, which has as many bytes.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        cipher: &[u8],
        tag: &[u8; TAG_BYTES],
        text: &mut [u8],
    ) -> Result<(), SealError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), cipher, tag, text).map_err(|_| SealError)
    }
}

/// Signing keys of both families.
pub(crate) struct Keys {
    ed25519: Ed25519KeyPair,
    ml_dsa: PqdsaKeyPair,
}

impl Keys {
    pub(crate) fn from_seeds(ed25519: &[u8; 32], ml_dsa: &[u8; 32]) -> Self {
        Self {
            ed25519: Ed25519KeyPair::from_seed_unchecked(ed25519).expect("every 32 bytes are an Ed25519 seed"),
            ml_dsa: PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, ml_dsa).expect("every 32 bytes are an ML-DSA seed"),
        }
    }

    /// Returns both public keys, Ed25519 first.
    pub(crate) fn public(&self) -> Vec<u8> {
        [self.ed25519.public_key().as_ref(), self.ml_dsa.public_key().as_ref()].concat()
    }

    /// Returns both signatures, Ed25519 first.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = self.ed25519.sign(message).as_ref().to_vec();
        signature.resize(SIGNATURE_BYTES, 0);
        let written = self.ml_dsa.sign(message, &mut signature[ED25519_SIGNATURE_BYTES..]);
        let written = written.expect("signing fails only when the system is out of memory");
        debug_assert_eq!(written, ML_DSA_SIGNATURE_BYTES);
        signature
    }
}

/// Returns whether both signatures are of these public keys, which have their lengths.
pub(crate) fn verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Some((ed25519, ml_dsa)) = signature.split_at_checked(ED25519_SIGNATURE_BYTES) else { return false };
    let (ed25519_key, ml_dsa_key) = public.split_at(ED25519_KEY_BYTES);
    UnparsedPublicKey::new(&ED25519, ed25519_key).verify(message, ed25519).is_ok()
        && UnparsedPublicKey::new(&ML_DSA_65, ml_dsa_key).verify(message, ml_dsa).is_ok()
}
