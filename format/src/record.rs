//! The record: what nodes store about an object. It has both manifests, the lease, and the last known place of each
//! shard.

use bytes::Bytes;

use crate::{
    Capability, Lease, LeaseError, Locator, ManifestHash, NodeName, PublicManifest,
    cbor::{CborError, Fields, FieldsWriter},
    limits::{COLUMNS_MAX, LEASE_BYTES_MAX, RECORD_BYTES_MAX, SEALED_MANIFEST_BYTES_MAX, SEALED_POINTER_BYTES_MAX},
};

/// Keys of the CBOR map; `docs/format.md` section 6.
mod key {
    pub(super) const PUBLIC: u64 = 0;
    pub(super) const SEALED: u64 = 1;
    pub(super) const LEASE: u64 = 2;
    pub(super) const PLACEMENT: u64 = 3;
}

/// A record whose lease verified and names both of its manifests.
///
/// The placement is a hint that nobody signs: wherever a shard comes from, the object's root must prove it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The public manifest.
    pub public: PublicManifest,
    /// The sealed manifest; `None` once the object is erased.
    pub sealed: Option<Bytes>,
    /// The verified lease.
    pub lease: Lease,
    /// The lease's signed envelope.
    pub lease_envelope: Bytes,
    /// The node that holds each column, if one does.
    pub placement: Vec<Option<NodeName>>,
}

/// Why bytes are not a record. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Malformed or out of bounds.
    #[error("the record is malformed")]
    Cbor(#[from] CborError),
    /// The lease does not verify.
    #[error("the record's lease does not count")]
    Lease(#[from] LeaseError),
    /// The owner who signed the lease is not the one in the manifest.
    #[error("the record's lease is not by the owner of its object")]
    Owner,
    /// The lease is of another public manifest.
    #[error("the record's lease names another object than its public manifest is")]
    Object,
    /// The lease is of another sealed manifest.
    #[error("the record's lease names another sealed manifest than the record has")]
    Manifest,
    /// The sealed part of a stable name is longer than any pointer.
    #[error("a sealed pointer has at most {SEALED_POINTER_BYTES_MAX} bytes, not {found}")]
    Pointer {
        /// Bytes found.
        found: usize,
    },
    /// The placement names another number of columns than the manifest has.
    #[error("the record's placement has {found} columns, its manifest {expected}")]
    Placement {
        /// Columns of the placement.
        found: usize,
        /// Columns of the manifest.
        expected: usize,
    },
}

impl Record {
    /// Builds a record and checks that its parts belong together.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn new(
        public: PublicManifest,
        sealed: Option<Bytes>,
        lease_envelope: Bytes,
        placement: Vec<Option<NodeName>>,
    ) -> Result<Self, RecordError> {
        let lease = Lease::open(&lease_envelope)?;
        Self::of_verified(public, sealed, (lease, lease_envelope), placement)
    }

    /// Does the same with a lease that was verified in its envelope before.
    ///
    /// # Errors
    /// [`RecordError`], but never [`RecordError::Lease`].
    pub fn of_verified(
        public: PublicManifest,
        sealed: Option<Bytes>,
        (lease, lease_envelope): (Lease, Bytes),
        placement: Vec<Option<NodeName>>,
    ) -> Result<Self, RecordError> {
        if lease.owner != public.owner() {
            return Err(RecordError::Owner);
        }
        if lease.object != public.id() {
            return Err(RecordError::Object);
        }
        if placement.len() != public.columns() {
            return Err(RecordError::Placement { found: placement.len(), expected: public.columns() });
        }
        // An erased object has no sealed manifest, even if a node still sends one.
        let sealed = sealed.filter(|_| !lease.erased);
        if sealed.as_ref().is_some_and(|sealed| ManifestHash::of(sealed) != lease.manifest) {
            return Err(RecordError::Manifest);
        }
        if let Some(found) = sealed.as_ref().map(Bytes::len).filter(|_| public.is_name())
            && found > SEALED_POINTER_BYTES_MAX
        {
            return Err(RecordError::Pointer { found });
        }
        Ok(Self { public, sealed, lease, lease_envelope, placement })
    }

    /// Returns the locator the record is filed under.
    #[must_use]
    pub fn locator(&self) -> Locator {
        self.lease.locator
    }

    /// Returns the lease with its envelope.
    #[must_use]
    pub fn signed(&self) -> (Lease, Bytes) {
        (self.lease.clone(), self.lease_envelope.clone())
    }

    /// Returns whether the sealed manifest is missing without reason at `now` (seconds since 1970): the owner signed no
    /// erasure, and the lease has not ended. Then somebody left it out, and the object cannot be opened.
    #[must_use]
    pub fn is_stripped(&self, now: u64) -> bool {
        self.sealed.is_none() && !self.lease.erased && !self.lease.retention.has_ended(now)
    }

    /// Returns what becomes of a node's own copy when another copy of the record comes, at `now` (seconds since 1970).
    ///
    /// The owner's newer lease counts; of two of one version an erasure does, so what is erased stays erased. The
    /// manifests stay what they are: a lease that names others is of another object, and changes nothing. Only a stable
    /// name takes another sealed part, and only with a newer lease. The sealed manifest goes when the owner signed that
    /// it is to go, and comes back where it was missing. The own placement stays; who knows better sets it.
    #[must_use]
    pub fn followed_by(&self, other: &Self, now: u64) -> Self {
        let mut kept = self.clone();
        let moves = other.lease.manifest != self.lease.manifest;
        let is_of_it = (other.lease.owner, other.lease.object) == (self.lease.owner, self.lease.object);
        // A name that moved without saying where to would be lost; the copy that says so comes from another node.
        let is_lost = moves && other.sealed.is_none() && !other.lease.erased;
        if !is_of_it || (moves && !self.public.is_name()) || is_lost {
            return kept;
        }
        let is_newer = match (self.lease.erased, other.lease.erased) {
            (false, true) => other.lease.version >= self.lease.version,
            (true, false) => false,
            _ => other.lease.version > self.lease.version,
        };
        if is_newer {
            kept.lease = other.lease.clone();
            kept.lease_envelope = other.lease_envelope.clone();
            if moves {
                kept.sealed = other.sealed.clone();
            }
        }
        let is_same = kept.lease_envelope == other.lease_envelope;
        let ended = is_same && other.sealed.is_none() && kept.lease.retention.has_ended(now);
        if kept.lease.erased || ended {
            kept.sealed = None;
        } else if kept.sealed.is_none() && kept.lease.manifest == other.lease.manifest {
            kept.sealed = other.sealed.clone();
        }
        kept
    }

    /// Returns whether this record is the one that `capability` leads to.
    #[must_use]
    pub fn belongs_to(&self, capability: &Capability) -> bool {
        self.lease.locator == capability.locator()
    }

    /// Encodes the record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = FieldsWriter::default()
            .bytes(key::PUBLIC, self.public.encoded())
            .bytes(key::LEASE, &self.lease_envelope)
            .item(key::PLACEMENT, |to| {
                to.array(self.placement.len() as u64)?;
                self.placement.iter().try_for_each(|node| to.str(node.as_ref().map_or("", NodeName::as_str)).map(drop))
            });
        if let Some(sealed) = &self.sealed {
            to = to.bytes(key::SEALED, sealed);
        }
        to.finish()
    }

    /// Decodes a record and verifies its lease. Costs about 0.1 ms, nearly all of it the signatures, whatever the
    /// object's size.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        Self::decode_with(bytes, |envelope| Lease::open(envelope))
    }

    /// Does the same with another way to verify a lease in its envelope: that of who has verified this envelope before.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode_with(
        bytes: &Bytes,
        open: impl FnOnce(&Bytes) -> Result<Lease, LeaseError>,
    ) -> Result<Self, RecordError> {
        let mut fields = Fields::read(bytes, RECORD_BYTES_MAX)?;
        let public = PublicManifest::decode(bytes.slice_ref(fields.bytes(key::PUBLIC)?))?;
        let lease = bytes.slice_ref(bounded(fields.bytes(key::LEASE)?, LEASE_BYTES_MAX)?);
        let placement = fields
            .texts(key::PLACEMENT, COLUMNS_MAX)?
            .into_iter()
            .map(|name| if name.is_empty() { Ok(None) } else { name.parse().map(Some) })
            .collect::<Result<_, _>>()
            .map_err(|_| CborError::Value { key: key::PLACEMENT, expected: "node names" })?;
        let sealed = match fields.take(key::SEALED) {
            None => None,
            Some(item) => {
                let sealed = minicbor::Decoder::new(item).bytes();
                let sealed = sealed.map_err(|_| CborError::Value { key: key::SEALED, expected: "a byte string" })?;
                Some(bytes.slice_ref(bounded(sealed, SEALED_MANIFEST_BYTES_MAX)?))
            }
        };
        if let Some(key) = fields.unknown().first_key() {
            return Err(CborError::Value { key, expected: "in a record: nobody would have signed it" }.into());
        }
        Self::of_verified(public, sealed, (open(&lease)?, lease), placement)
    }
}

fn bounded(bytes: &[u8], max: usize) -> Result<&[u8], CborError> {
    if bytes.len() > max { Err(CborError::TooLong { found: bytes.len(), max }) } else { Ok(bytes) }
}
