//! Engines in Rust alone, for readers where no C is compiled: wasm32.
//!
//! They read all that the native ones write, at half the speed in suite 1 (`bench/results/codec.md`). ML-DSA signatures
//! are the deterministic ones.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{AeadInOut, inout::InOutBuf},
};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use ml_dsa::MlDsa65;

use crate::{
    SealError, Suite,
    limits::TAG_BYTES,
    owner::{ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES},
};

/// A suite under a key.
pub(crate) enum Aead {
    ChaCha20Poly1305(ChaCha20Poly1305),
    Aes256Gcm(Box<Aes256Gcm>),
}

impl Aead {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        match suite {
            Suite::ChaCha20Poly1305 => Self::ChaCha20Poly1305(ChaCha20Poly1305::new(key.into())),
            Suite::Aes256Gcm => Self::Aes256Gcm(Box::new(Aes256Gcm::new(key.into()))),
        }
    }

    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = match self {
            Self::ChaCha20Poly1305(aead) => aead.encrypt_inout_detached(&nonce.into(), aad, text.into()),
            Self::Aes256Gcm(aead) => aead.encrypt_inout_detached(&nonce.into(), aad, text.into()),
        };
        tag.expect("a block is far below the length where AEADs refuse").into()
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
        let text = InOutBuf::new(cipher, text).map_err(|_| SealError)?;
        let opened = match self {
            Self::ChaCha20Poly1305(aead) => aead.decrypt_inout_detached(&nonce.into(), aad, text, tag.into()),
            Self::Aes256Gcm(aead) => aead.decrypt_inout_detached(&nonce.into(), aad, text, tag.into()),
        };
        opened.map_err(|_| SealError)
    }
}

/// Signing keys of both families.
pub(crate) struct Keys {
    ed25519: SigningKey,
    ml_dsa: ml_dsa::SigningKey<MlDsa65>,
}

impl Keys {
    pub(crate) fn from_seeds(ed25519: &[u8; 32], ml_dsa: &[u8; 32]) -> Self {
        Self { ed25519: SigningKey::from_bytes(ed25519), ml_dsa: ml_dsa::SigningKey::from_seed(ml_dsa.into()) }
    }

    /// Returns both public keys, Ed25519 first.
    pub(crate) fn public(&self) -> Vec<u8> {
        let ml_dsa: &ml_dsa::VerifyingKey<MlDsa65> = self.ml_dsa.as_ref();
        [&self.ed25519.verifying_key().as_bytes()[..], &ml_dsa.encode()].concat()
    }

    /// Returns both signatures, Ed25519 first.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let ml_dsa: ml_dsa::Signature<MlDsa65> = self.ml_dsa.sign(message);
        [&self.ed25519.sign(message).to_bytes()[..], &ml_dsa.encode()].concat()
    }
}

/// Returns whether both signatures are of these public keys, which have their lengths.
pub(crate) fn verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let verify = || {
        let (ed25519_key, ml_dsa_key) = public.split_first_chunk::<ED25519_KEY_BYTES>()?;
        let (ed25519, ml_dsa) = signature.split_first_chunk::<ED25519_SIGNATURE_BYTES>()?;
        let ml_dsa_key = ml_dsa::VerifyingKey::<MlDsa65>::decode(ml_dsa_key.try_into().ok()?);
        let ml_dsa = ml_dsa::Signature::<MlDsa65>::try_from(ml_dsa).ok()?;
        VerifyingKey::from_bytes(ed25519_key).ok()?.verify(message, &Signature::from_bytes(ed25519)).ok()?;
        ml_dsa_key.verify(message, &ml_dsa).ok()
    };
    verify().is_some()
}
