//! An owner's keys. One master secret gives the signing keys of two families and the keys of the owner's own data.
//!
//! Every signature is Ed25519 **and** ML-DSA-65 (FIPS 204), and both must verify. A break of only one of them forges
//! nothing.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    OwnerId,
    engine::{self, Keys},
};

const ED25519_SEED: &str = "evernear 2026 v1 owner ed25519";
const ML_DSA_SEED: &str = "evernear 2026 v1 owner ml-dsa-65";
const DEDUP_KEY: &str = "evernear 2026 v1 owner dedup";
const NOTE_KEY: &str = "evernear 2026 v1 owner note";
const INDEX_KEY: &str = "evernear 2026 v1 owner index";
const NAME_SEED: &str = "evernear 2026 v1 owner name";
/// The only suite of owner keys so far. It is part of the owner's id.
const SUITE: u8 = 1;

pub(crate) const ED25519_KEY_BYTES: usize = 32;
pub(crate) const ED25519_SIGNATURE_BYTES: usize = 64;
/// FIPS 204 table 2.
pub(crate) const ML_DSA_KEY_BYTES: usize = 1952;
pub(crate) const ML_DSA_SIGNATURE_BYTES: usize = 3309;
pub(crate) const SIGNATURE_BYTES: usize = ED25519_SIGNATURE_BYTES + ML_DSA_SIGNATURE_BYTES;
pub(crate) const PUBLIC_BYTES: usize = 1 + ED25519_KEY_BYTES + ML_DSA_KEY_BYTES;

/// The 32 bytes from which all keys of an owner derive. They are wiped on drop and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct OwnerSecret([u8; 32]);

impl OwnerSecret {
    /// Takes 32 random bytes, either fresh or from the owner's key file.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for the key file.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the signing keys. Costs about 0.2 ms.
    #[must_use]
    pub fn keys(&self) -> OwnerKeys {
        let ed25519_seed = Zeroizing::new(blake3::derive_key(ED25519_SEED, &self.0));
        let ml_dsa_seed = Zeroizing::new(blake3::derive_key(ML_DSA_SEED, &self.0));
        let keys = Keys::from_seeds(&ed25519_seed, &ml_dsa_seed);
        let public = OwnerPublic([&[SUITE][..], &keys.public()].concat());
        OwnerKeys { keys, public }
    }

    /// Derives the de-duplication key: equal uploads of this owner share shards.
    #[must_use]
    pub fn dedup_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(DEDUP_KEY, &self.0))
    }

    /// Derives the key of the notes in the owner's leases.
    #[must_use]
    pub fn note_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(NOTE_KEY, &self.0))
    }

    /// Derives the key of the owner's own encrypted index of uploads.
    #[must_use]
    pub fn index_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(INDEX_KEY, &self.0))
    }

    /// Derives the seed of the stable name that the owner calls `text`: the same on every machine of the owner.
    pub(crate) fn name_seed(&self, text: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(NAME_SEED);
        hasher.update(&self.0).update(text.as_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for OwnerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerSecret(..)")
    }
}

/// An owner's signing keys.
pub struct OwnerKeys {
    keys: Keys,
    public: OwnerPublic,
}

impl OwnerKeys {
    /// Returns the public keys.
    #[must_use]
    pub fn public(&self) -> &OwnerPublic {
        &self.public
    }

    /// Returns the owner's id.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.public.id()
    }

    /// Signs with both keys. Costs about 0.15 ms.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.keys.sign(message)
    }
}

impl fmt::Debug for OwnerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerKeys({})", self.id())
    }
}

/// An owner's public keys: suite u8 ‖ Ed25519 32 B ‖ ML-DSA-65 1,952 B.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnerPublic(Vec<u8>);

impl OwnerPublic {
    /// Takes the encoded form. Returns `None` if the suite or the length is unknown.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == PUBLIC_BYTES && bytes[0] == SUITE).then(|| Self(bytes.to_vec()))
    }

    /// Returns the encoded form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns BLAKE3 of the encoded form.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        OwnerId(*blake3::hash(&self.0).as_bytes())
    }

    /// Returns whether both signatures are this owner's. Costs about 0.1 ms.
    #[must_use]
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        engine::verify(&self.0[1..], message, signature)
    }
}

impl fmt::Debug for OwnerPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerPublic({})", self.id())
    }
}
