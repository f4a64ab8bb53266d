//! A stable name: a label that never changes and stands for an object that may.
//!
//! The owner derives the name from the owner secret and a text of their own, so every machine of theirs finds the same
//! one. The label carries the name's capability, which commits to the owner and opens the pointer. The pointer lies in
//! the sealed part of a record like any other, under a lease whose version only grows.
//!
//! ```
//! use format::{Capability, OwnerSecret, Pointer, StableName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = OwnerSecret::from_bytes([7; 32]);
//! let site = StableName::derive(&secret, "my site")?;
//! let pointer = Pointer { target: Capability::from_bytes([9; 32]), fresh_until: 1_800_000_000, seconds: 60 };
//! let record = site.record(&secret.keys(), &pointer, 1, None);
//! assert_eq!(Pointer::open(site.capability(), &record, 1_790_000_000)?, pointer);
//! # Ok(())
//! # }
//! ```

use bytes::Bytes;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::{
    Capability, Label, Lease, Locator, OpenError, OwnerKeys, OwnerSecret, PublicManifest, Record, SealedNote,
    cbor::{CborError, Fields, FieldsWriter},
    limits::{NAME_BYTES_MAX, POINTER_BYTES_MAX, POINTER_SECONDS_MAX},
    seal, sealed,
    wire::FORMAT_VERSION,
};

/// Keys of the CBOR map; `docs/format.md` section 18.
mod key {
    pub(super) const VERSION: u64 = 0;
    pub(super) const SEED: u64 = 1;
    pub(super) const TARGET: u64 = 2;
    pub(super) const FRESH_UNTIL: u64 = 3;
    pub(super) const SECONDS: u64 = 4;
}

/// A name as its owner knows it.
#[derive(Debug, Clone)]
pub struct StableName {
    text: String,
    seed: Zeroizing<[u8; 32]>,
    capability: Capability,
    public: PublicManifest,
}

/// Why a text cannot be what an owner calls a name. The owner's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} cannot be a name: 1 to {NAME_BYTES_MAX} bytes without control characters")]
pub struct NameError {
    /// The text, cut at 80 characters.
    pub found: String,
}

/// What a name stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The object.
    pub target: Capability,
    /// Seconds since 1970 after which no edge serves this pointer any more: whoever withholds newer ones from an edge
    /// freezes the name until then, and no longer.
    pub fresh_until: u64,
    /// How many seconds DNS and browsers may keep an answer under the name.
    pub seconds: u32,
}

impl StableName {
    /// Derives the name that its owner calls `text`, in Unicode's normalization form C.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn derive(secret: &OwnerSecret, text: &str) -> Result<Self, NameError> {
        // One machine's keyboard composes an accent with its letter, another's does not.
        let text: String = text.nfc().collect();
        if !(1..=NAME_BYTES_MAX).contains(&text.len()) || text.contains(char::is_control) {
            return Err(NameError { found: text.chars().take(80).collect() });
        }
        let public = PublicManifest::of_name(secret.keys().id());
        let seed = secret.name_seed(&text);
        Ok(Self { text, capability: Capability::of_name(&seed, &public.id()), seed, public })
    }

    /// Returns what the owner calls it, in Unicode's normalization form C: 1 to [`NAME_BYTES_MAX`] bytes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the capability that the label carries.
    #[must_use]
    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// Returns the label.
    #[must_use]
    pub fn label(&self) -> Label {
        Label::name(self.capability.clone())
    }

    /// Returns the public manifest, the same for all names of the owner.
    #[must_use]
    pub fn public(&self) -> &PublicManifest {
        &self.public
    }

    /// Returns the locator under which nodes file the record.
    #[must_use]
    pub fn locator(&self) -> Locator {
        self.capability.locator()
    }

    /// Makes the record of a pointer, signed under a lease of `version` that carries `note`.
    ///
    /// # Panics
    /// When the keys are not the owner's, or the pointer lets answers be kept for longer than [`POINTER_SECONDS_MAX`].
    #[must_use]
    pub fn record(&self, keys: &OwnerKeys, pointer: &Pointer, version: u64, note: Option<SealedNote>) -> Record {
        assert!(pointer.seconds <= POINTER_SECONDS_MAX, "the caller bounds the seconds");
        let text = Zeroizing::new(self.encode(pointer));
        let aad = sealed::aad(&self.locator(), &self.public.id());
        let sealed = Bytes::from(seal::seal_alone(&self.capability.pointer_key(), &aad, &text));
        let lease = Lease { version, note, ..Lease::first(self.locator(), &self.public, &sealed) };
        Record::new(self.public.clone(), Some(sealed), lease.sign(keys).into(), Vec::new())
            .expect("the owner signs a lease of these manifests")
    }

    fn encode(&self, pointer: &Pointer) -> Vec<u8> {
        FieldsWriter::default()
            .uint(key::VERSION, FORMAT_VERSION)
            .bytes(key::SEED, &*self.seed)
            .bytes(key::TARGET, pointer.target.expose())
            .uint(key::FRESH_UNTIL, pointer.fresh_until)
            .uint(key::SECONDS, pointer.seconds)
            .finish()
    }
}

impl Pointer {
    /// Opens the pointer of the name that `capability` leads to, at `now` (seconds since 1970), which says whether its
    /// lease has ended. Whether the pointer is fresh is asked of [`Self::is_fresh`].
    ///
    /// # Errors
    /// [`OpenError`]; all but [`OpenError::Erased`] mean that the node sent a wrong record.
    pub fn open(capability: &Capability, record: &Record, now: u64) -> Result<Self, OpenError> {
        let missing = if record.is_stripped(now) { OpenError::Withheld } else { OpenError::Erased };
        let sealed = record.sealed.as_ref().ok_or(missing)?;
        Self::from_sealed(capability, &record.locator(), &record.public, sealed)
    }

    /// Opens the sealed pointer filed under `locator` beside a public manifest.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn from_sealed(
        capability: &Capability,
        locator: &Locator,
        public: &PublicManifest,
        sealed: &[u8],
    ) -> Result<Self, OpenError> {
        if *locator != capability.locator() {
            return Err(OpenError::Locator);
        }
        if !public.is_name() {
            return Err(OpenError::Mismatch);
        }
        let text = seal::open_alone(&capability.pointer_key(), &sealed::aad(locator, &public.id()), sealed)?;
        let (seed, pointer) = Self::decode(&text)?;
        // The public manifest names the owner who signed the lease.
        if Capability::of_name(&seed, &public.id()) != *capability {
            return Err(OpenError::Capability);
        }
        Ok(pointer)
    }

    /// Returns whether the pointer may be followed at `now` (seconds since 1970).
    #[must_use]
    pub fn is_fresh(&self, now: u64) -> bool {
        now < self.fresh_until
    }

    fn decode(text: &[u8]) -> Result<(Zeroizing<[u8; 32]>, Self), CborError> {
        let mut fields = Fields::read(text, POINTER_BYTES_MAX)?;
        if fields.uint::<u8>(key::VERSION)? != FORMAT_VERSION {
            return Err(CborError::Value { key: key::VERSION, expected: "a version this program knows" });
        }
        let seed = Zeroizing::new(fields.array32(key::SEED)?);
        let pointer = Self {
            target: Capability::from_bytes(fields.array32(key::TARGET)?),
            fresh_until: fields.uint(key::FRESH_UNTIL)?,
            seconds: fields.uint(key::SECONDS)?,
        };
        if pointer.seconds > POINTER_SECONDS_MAX {
            return Err(CborError::Value { key: key::SECONDS, expected: "a day at most" });
        }
        match fields.unknown().first_key() {
            Some(key) => Err(CborError::Value { key, expected: "in a pointer of this version" }),
            None => Ok((seed, pointer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeaseError, ObjectId, RecordError};

    const NOW: u64 = 1_790_000_000;

    fn secret() -> OwnerSecret {
        OwnerSecret::from_bytes([1; 32])
    }

    fn pointer(byte: u8) -> Pointer {
        Pointer { target: Capability::from_bytes([byte; 32]), fresh_until: NOW + 100, seconds: 60 }
    }

    fn record(name: &StableName, byte: u8, version: u64) -> Record {
        name.record(&secret().keys(), &pointer(byte), version, None)
    }

    #[test]
    fn a_name_is_the_same_on_every_machine_of_its_owner_and_nobody_elses() {
        let name = |secret: &OwnerSecret, text: &str| StableName::derive(secret, text).unwrap().label();
        assert_eq!(name(&secret(), "site"), name(&secret(), "site"));
        assert_ne!(name(&secret(), "site"), name(&secret(), "Site"));
        assert_ne!(name(&secret(), "site"), name(&OwnerSecret::from_bytes([2; 32]), "site"));
        assert_eq!(name(&secret(), "caf\u{e9}"), name(&secret(), "cafe\u{301}"));
        let longest = "\u{e9}".repeat(127) + "x";
        assert_eq!(StableName::derive(&secret(), &("e\u{301}".repeat(127) + "x")).unwrap().text(), longest);
        for bad in ["", "a\nb", &"x".repeat(256)] {
            assert!(StableName::derive(&secret(), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pointer_survives_its_record() {
        let name = StableName::derive(&secret(), "site").unwrap();
        let sent = Bytes::from(record(&name, 9, 4).encode());
        let record = Record::decode(&sent).unwrap();
        assert_eq!((record.lease.version, record.locator()), (4, name.locator()));
        let opened = Pointer::open(name.capability(), &record, NOW).unwrap();
        assert_eq!(opened, pointer(9));
        assert!(opened.is_fresh(NOW + 99) && !opened.is_fresh(NOW + 100));
        assert!(!sent.windows(32).any(|window| window == [9; 32]), "nodes do not see what a name stands for");
    }

    #[test]
    fn nobody_else_makes_a_pointer_for_a_name_whose_label_they_know() {
        let name = StableName::derive(&secret(), "site").unwrap();
        let thief = OwnerSecret::from_bytes([2; 32]);
        let stolen = StableName { public: PublicManifest::of_name(thief.keys().id()), ..name.clone() };
        let forged = stolen.record(&thief.keys(), &pointer(9), 99, None);
        assert_eq!(Pointer::open(name.capability(), &forged, NOW), Err(OpenError::Capability));
        let held = record(&name, 1, 1);
        assert_eq!(held.followed_by(&forged, NOW).encode(), held.encode());
        // Nor with the owner's own manifest and a signature of theirs.
        let lease = Lease::first(name.locator(), &held.public, held.sealed.as_ref().unwrap()).sign(&thief.keys());
        let wrong = Record::new(held.public.clone(), held.sealed.clone(), lease.into(), Vec::new());
        assert!(matches!(wrong, Err(RecordError::Lease(LeaseError::Owner { .. }))), "{wrong:?}");
    }

    #[test]
    fn only_a_newer_pointer_follows_and_an_erasure_ends_it() {
        let name = StableName::derive(&secret(), "site").unwrap();
        let [first, second] = [record(&name, 1, 1), record(&name, 2, 2)];
        let target = |record: &Record| Pointer::open(name.capability(), record, NOW).map(|it| it.target.expose()[0]);
        assert_eq!(target(&first.followed_by(&second, NOW)), Ok(2));
        assert_eq!(target(&second.followed_by(&first, NOW)), Ok(2));
        let other = record(&name, 3, 2);
        assert_eq!(target(&second.followed_by(&other, NOW)), Ok(2), "of one version the first stays");
        let stripped = Record { sealed: None, ..second.clone() };
        assert_eq!(
            target(&first.followed_by(&stripped, NOW)),
            Ok(1),
            "a node that withholds the pointer moves nothing"
        );
        let erased = Lease { version: 3, erased: true, ..second.lease.clone() }.sign(&secret().keys());
        let erased = Record::new(second.public.clone(), None, erased.into(), Vec::new()).unwrap();
        assert_eq!(target(&first.followed_by(&erased, NOW)), Err(OpenError::Erased));
        assert_eq!(target(&erased.followed_by(&record(&name, 4, 4), NOW)), Err(OpenError::Erased));
    }

    #[test]
    fn an_object_is_no_name_and_a_name_no_object() {
        let name = StableName::derive(&secret(), "site").unwrap();
        let record = record(&name, 1, 1);
        assert!(crate::Object::open(name.capability(), &record, NOW).is_err());
        let layered = FieldsWriter::default()
            .uint(0, 1u8)
            .uint(1, 1u8)
            .bytes(2, &secret().keys().id().0)
            .uint(3, 0u8)
            .uint(10, 2u8)
            .finish();
        assert!(PublicManifest::decode(layered.into()).is_err());
        assert!(PublicManifest::decode(record.public.encoded().clone()).unwrap().is_name());
    }

    #[test]
    fn every_flipped_bit_of_a_pointer_is_noticed() {
        let name = StableName::derive(&secret(), "site").unwrap();
        let record = record(&name, 1, 1);
        let sealed = record.sealed.clone().unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = Record { sealed: Some(bad.into()), ..record.clone() };
            assert!(Pointer::open(name.capability(), &bad, NOW).is_err(), "{bit}");
        }
        let id = ObjectId([3; 32]);
        assert_ne!(Capability::of_name(&[1; 32], &id), Capability::of_name(&[2; 32], &id));
    }
}
