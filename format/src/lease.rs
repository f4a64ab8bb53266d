//! The lease: the mutable part of a record. The object's owner signs it, and its version only grows.

use bytes::Bytes;

use crate::{
    Cap, Level, Locator, ManifestHash, ObjectId, OwnerId, OwnerKeys, PolicyName, Profile, PublicManifest, Sealed,
    SealedNote,
    cbor::{CborError, Fields, FieldsWriter, Unknown},
    limits::{LEASE_BYTES_MAX, LEASE_PLACES_MAX, POLICY_NAME_BYTES_MAX},
    note::{NAME_NOTE_BYTES, NOTE_BYTES},
    place::Domain,
    signed::{self, Signed, SignedError},
};

/// Keys of the CBOR map; `docs/format.md` section 7.
mod key {
    pub(super) const LOCATOR: u64 = 0;
    pub(super) const OWNER: u64 = 1;
    pub(super) const OBJECT: u64 = 2;
    pub(super) const MANIFEST: u64 = 3;
    pub(super) const VERSION: u64 = 4;
    pub(super) const PROFILE: u64 = 5;
    pub(super) const WANTED: u64 = 6;
    pub(super) const REFUSED: u64 = 7;
    pub(super) const KEEP_UNTIL: u64 = 8;
    pub(super) const EXPIRES: u64 = 9;
    pub(super) const POLICY: u64 = 10;
    pub(super) const ERASED: u64 = 11;
    pub(super) const CAPS: u64 = 12;
    pub(super) const NOTE: u64 = 13;
}

/// How long an object is kept, in seconds since 1970. Zero means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Erasure is refused before this second (retention lock).
    pub keep_until: u64,
    /// The lease expires at this second.
    pub expires: u64,
}

impl Retention {
    /// Returns the second at which a lease ends by itself, or `None` if it does not expire. An object that is to be
    /// kept until later than its expiry ends at that later second.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        (self.expires != 0).then(|| self.expires.max(self.keep_until))
    }

    /// Returns whether a lease has ended by itself at `now` (seconds since 1970).
    #[must_use]
    pub fn has_ended(&self, now: u64) -> bool {
        self.end().is_some_and(|end| end <= now)
    }
}

/// The owner's latest statement about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The object's locator.
    pub locator: Locator,
    /// The owner. It must be the one in the public manifest.
    pub owner: OwnerId,
    /// BLAKE3 of the public manifest.
    pub object: ObjectId,
    /// BLAKE3 of the sealed manifest. With the object's id it signs the whole record but the placement, which is a
    /// hint.
    pub manifest: ManifestHash,
    /// Grows with every change; a node keeps the highest it has seen.
    pub version: u64,
    /// The redundancy the owner wants.
    pub profile: Profile,
    /// Shards may lie only in these places. Empty: in any place.
    pub wanted: Vec<Domain>,
    /// Shards may lie in none of these places.
    pub refused: Vec<Domain>,
    /// How long the object stays.
    pub retention: Retention,
    /// The owner's policy for the object.
    pub policy: PolicyName,
    /// The object is erased: nodes destroy its sealed manifest and delete its shards.
    pub erased: bool,
    /// Limits on the columns in one place; at most one cap for each level.
    pub caps: Vec<Cap>,
    /// What only the owner can read: how to find the object again without the index. An erased object has none.
    pub note: Option<SealedNote>,
    /// Extensions this version does not know.
    pub unknown: Unknown,
}

/// Why a lease is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The envelope or a signature is wrong. The sender is at fault.
    #[error("the lease's envelope does not verify")]
    Signed(#[from] SignedError),
    /// The payload is malformed. The owner's software is at fault.
    #[error("the lease is malformed")]
    Cbor(#[from] CborError),
    /// The lease names one owner, but another signed it.
    #[error("the lease names owner {named} but {signed} signed it")]
    Owner {
        /// The owner named in the lease.
        named: OwnerId,
        /// The owner who signed.
        signed: OwnerId,
    },
}

impl Lease {
    /// Returns the first lease of an object: version 1, anywhere, for ever, under the policy `default`. Set what is to
    /// be otherwise before it is signed.
    #[must_use]
    pub fn new(sealed: &Sealed, profile: Profile) -> Self {
        Self { profile, ..Self::first(sealed.locator, &sealed.public, &sealed.sealed) }
    }

    /// Returns the first lease of what is filed under `locator`.
    pub(crate) fn first(locator: Locator, public: &PublicManifest, sealed: &[u8]) -> Self {
        Self {
            locator,
            owner: public.owner(),
            object: public.id(),
            manifest: ManifestHash::of(sealed),
            version: 1,
            profile: Profile::default(),
            wanted: Vec::new(),
            refused: Vec::new(),
            retention: Retention::default(),
            policy: PolicyName::default(),
            erased: false,
            caps: Vec::new(),
            note: None,
            unknown: Unknown::default(),
        }
    }

    /// Signs the lease and returns its envelope.
    #[must_use]
    pub fn sign(&self, keys: &OwnerKeys) -> Vec<u8> {
        Signed::seal(keys, signed::Domain::Lease, &self.encode())
    }

    /// Verifies an envelope and returns the lease in it.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn open(envelope: &[u8]) -> Result<Self, LeaseError> {
        Self::in_envelope(&Signed::open(envelope, signed::Domain::Lease, LEASE_BYTES_MAX)?)
    }

    /// Returns the lease in an envelope that was verified before it was written, but not since: a disk may have changed
    /// it. For who decides nothing by it but whether a verified lease may take its place.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn unverified(envelope: &[u8]) -> Result<Self, LeaseError> {
        Self::in_envelope(&Signed::unverified(envelope, LEASE_BYTES_MAX)?)
    }

    fn in_envelope(signed: &Signed) -> Result<Self, LeaseError> {
        let lease = Self::decode(&signed.payload)?;
        if lease.owner == signed.owner {
            Ok(lease)
        } else {
            Err(LeaseError::Owner { named: lease.owner, signed: signed.owner })
        }
    }

    /// Returns whether this lease stays in force when another of the same owner and object comes, because the owner
    /// signed it later, or ended the object by it.
    #[must_use]
    pub fn outlives(&self, other: &Self) -> bool {
        match (self.erased, other.erased) {
            (true, erased) => !erased,
            (false, true) => self.version > other.version,
            (false, false) => self.version > other.version || (self.version == other.version && self != other),
        }
    }

    /// Returns whether the object may be read at `now` (seconds since 1970).
    #[must_use]
    pub fn is_alive(&self, now: u64) -> bool {
        !self.erased && (self.retention.expires == 0 || now < self.retention.expires)
    }

    fn encode(&self) -> Vec<u8> {
        let texts = |domains: &[Domain]| domains.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut fields = FieldsWriter::default()
            .bytes(key::LOCATOR, &self.locator.0)
            .bytes(key::OWNER, &self.owner.0)
            .bytes(key::OBJECT, &self.object.0)
            .bytes(key::MANIFEST, &self.manifest.0)
            .uint(key::VERSION, self.version)
            .text(key::PROFILE, &self.profile.to_string())
            .texts(key::WANTED, &texts(&self.wanted))
            .texts(key::REFUSED, &texts(&self.refused))
            .uint(key::KEEP_UNTIL, self.retention.keep_until)
            .uint(key::EXPIRES, self.retention.expires)
            .text(key::POLICY, self.policy.as_str())
            .uint(key::ERASED, u8::from(self.erased))
            .unknown(&self.unknown);
        if !self.caps.is_empty() {
            fields = fields.texts(key::CAPS, &self.caps.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        if let Some(note) = &self.note {
            fields = fields.bytes(key::NOTE, &note.0);
        }
        fields.finish()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(payload, LEASE_BYTES_MAX)?;
        Ok(Self {
            locator: Locator(fields.array32(key::LOCATOR)?),
            owner: OwnerId(fields.array32(key::OWNER)?),
            object: ObjectId(fields.array32(key::OBJECT)?),
            manifest: ManifestHash(fields.array32(key::MANIFEST)?),
            version: fields.uint(key::VERSION)?,
            profile: parse(fields.text(key::PROFILE, 32)?, key::PROFILE, "a profile")?,
            wanted: read_domains(&mut fields, key::WANTED)?,
            refused: read_domains(&mut fields, key::REFUSED)?,
            retention: Retention { keep_until: fields.uint(key::KEEP_UNTIL)?, expires: fields.uint(key::EXPIRES)? },
            policy: parse(fields.text(key::POLICY, POLICY_NAME_BYTES_MAX)?, key::POLICY, "a policy name")?,
            erased: match fields.uint::<u8>(key::ERASED)? {
                0 => false,
                1 => true,
                _ => return Err(CborError::Value { key: key::ERASED, expected: "0 or 1" }),
            },
            caps: read_caps(&mut fields)?,
            note: read_note(&mut fields)?,
            unknown: fields.unknown(),
        })
    }
}

fn parse<T: std::str::FromStr>(text: &str, key: u64, expected: &'static str) -> Result<T, CborError> {
    text.parse().map_err(|_| CborError::Value { key, expected })
}

fn read_domains(fields: &mut Fields<'_>, key: u64) -> Result<Vec<Domain>, CborError> {
    let texts = fields.texts(key, LEASE_PLACES_MAX)?;
    texts.into_iter().map(|text| parse(text, key, "places")).collect()
}

fn read_caps(fields: &mut Fields<'_>) -> Result<Vec<Cap>, CborError> {
    if !fields.has(key::CAPS) {
        return Ok(Vec::new());
    }
    let texts = fields.texts(key::CAPS, Level::ALL.len())?;
    let caps: Vec<Cap> = texts.into_iter().map(|text| parse(text, key::CAPS, "caps")).collect::<Result<_, _>>()?;
    let is_one_each = |level: &Level| caps.iter().filter(|cap| cap.level == *level).count() <= 1;
    if caps.is_empty() || !Level::ALL.iter().all(is_one_each) {
        return Err(CborError::Value { key: key::CAPS, expected: "one cap or more, and one for each level at most" });
    }
    Ok(caps)
}

fn read_note(fields: &mut Fields<'_>) -> Result<Option<SealedNote>, CborError> {
    if !fields.has(key::NOTE) {
        return Ok(None);
    }
    let note = fields.bytes(key::NOTE)?;
    if ![NOTE_BYTES, NAME_NOTE_BYTES].contains(&note.len()) {
        return Err(CborError::Value { key: key::NOTE, expected: "97 bytes, or 353 of a name" });
    }
    Ok(Some(SealedNote(Bytes::copy_from_slice(note))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerSecret;

    #[test]
    fn a_lease_survives_its_envelope_and_only_its_owner_signs_it() {
        let keys = OwnerSecret::from_bytes([1; 32]).keys();
        let lease = Lease {
            locator: Locator([4; 32]),
            owner: keys.id(),
            object: ObjectId([5; 32]),
            manifest: ManifestHash([6; 32]),
            version: 9,
            profile: Profile::SmallCluster,
            wanted: vec!["country:BE".parse().unwrap(), "zone:bru1".parse().unwrap()],
            refused: vec![],
            retention: Retention { keep_until: 5, expires: 10 },
            policy: PolicyName::default(),
            erased: false,
            caps: vec!["zone=2".parse().unwrap(), "operator=4".parse().unwrap()],
            note: Some(SealedNote(vec![7; NOTE_BYTES].into())),
            unknown: [(99, [0x01])].into_iter().collect(),
        };
        assert_eq!(Lease::open(&lease.sign(&keys)), Ok(lease.clone()));
        let thief = OwnerSecret::from_bytes([2; 32]).keys();
        let named = LeaseError::Owner { named: keys.id(), signed: thief.id() };
        assert_eq!(Lease::open(&lease.sign(&thief)), Err(named));
        let twice = Lease { caps: vec![lease.caps[0]; 2], ..lease.clone() };
        assert!(matches!(
            Lease::open(&twice.sign(&keys)),
            Err(LeaseError::Cbor(CborError::Value { key: key::CAPS, .. }))
        ));
        let [with, without] = [&lease, &Lease { caps: vec![], ..lease.clone() }].map(|lease| lease.encode().len());
        assert_eq!(with - without, 1 + 1 + (1 + "zone=2".len()) + (1 + "operator=4".len()), "key, array, two texts");
        let [with, without] = [&lease, &Lease { note: None, ..lease.clone() }].map(|lease| lease.encode());
        assert_eq!(with.len() - without.len(), 1 + 2 + 97, "key, head, bytes");
        for wrong in [96, 98] {
            let bytes = FieldsWriter::default().bytes(key::NOTE, &vec![0; wrong]).finish();
            let read = read_note(&mut Fields::read(&bytes, 1000).unwrap());
            assert_eq!(read, Err(CborError::Value { key: key::NOTE, expected: "97 bytes, or 353 of a name" }));
        }
        assert!(lease.is_alive(9) && !lease.is_alive(10));
        assert!(!lease.retention.has_ended(9) && lease.retention.has_ended(10));
        let kept = Retention { keep_until: 20, expires: 10 };
        assert!(!kept.has_ended(19) && kept.has_ended(20), "a promise outlives the expiry");
        assert!(!Retention { keep_until: 20, expires: 0 }.has_ended(u64::MAX));
        assert!(!Lease { erased: true, ..lease }.is_alive(9));
    }
}
