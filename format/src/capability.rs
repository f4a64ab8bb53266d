//! The capability: 32 bytes that find, open and authenticate one object. It is a key, so it is wiped and never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Locator, ObjectId};

const CAPABILITY: &str = "evernear 2026 v1 capability";
const NAME: &str = "evernear 2026 v1 name";
const POINTER_KEY: &str = "evernear 2026 v1 pointer";
const MANIFEST_KEY: &str = "evernear 2026 v1 manifest";
const LOCATOR: &str = "evernear 2026 v1 locator";

/// The read key and integrity commitment of one object, derived from its plain sealed manifest M.
///
/// Equality is constant time; `Debug` shows nothing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Capability([u8; 32]);

impl Capability {
    /// Takes the 32 bytes that a label or a directory entry carries.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives the capability of the manifest M from its encoded bytes: `derive_key("evernear 2026 v1 capability", M)`.
    #[must_use]
    pub fn of_manifest(manifest: &[u8]) -> Self {
        Self(blake3::derive_key(CAPABILITY, manifest))
    }

    /// Derives the capability of a stable name: `derive_key("evernear 2026 v1 name", seed ‖ oid)`. The object id
    /// commits to the owner, so nobody else's pointer is ever this name's.
    #[must_use]
    pub(crate) fn of_name(seed: &[u8; 32], object: &ObjectId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(NAME);
        hasher.update(seed).update(&object.0);
        Self(*hasher.finalize().as_bytes())
    }

    /// Derives the locator under which nodes file the record.
    #[must_use]
    pub fn locator(&self) -> Locator {
        Locator(blake3::derive_key(LOCATOR, &self.0))
    }

    /// Derives the key that seals the manifest.
    pub(crate) fn manifest_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(MANIFEST_KEY, &self.0))
    }

    /// Derives the key of a name's pointers, each of which is sealed under a salt of its own.
    pub(crate) fn pointer_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(POINTER_KEY, &self.0))
    }

    /// Returns the bytes. They are a key: never log or store them in the clear.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Capability {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Capability {}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capability(..)")
    }
}
