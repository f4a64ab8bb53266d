//! The record: what nodes keep of an object. Both manifests, the lease, and where its shards were last known to lie.

use bytes::Bytes;

use crate::{
    Capability, Lease, LeaseError, Locator, NodeName, PublicManifest,
    cbor::{CborError, Fields, FieldsWriter, Unknown},
    limits::{COLUMNS_MAX, LEASE_BYTES_MAX, RECORD_BYTES_MAX, SEALED_MANIFEST_BYTES_MAX},
};

/// Keys of the CBOR map; `docs/format.md` section 6.
mod key {
    pub(super) const PUBLIC: u64 = 0;
    pub(super) const SEALED: u64 = 1;
    pub(super) const LEASE: u64 = 2;
    pub(super) const PLACEMENT: u64 = 3;
}

/// A record whose lease verified and belongs to its manifest.
///
/// The placement is a hint, signed by nobody: wherever a shard comes from, its root must match.
#[derive(Debug, Clone)]
pub struct Record {
    /// The public manifest.
    pub public: PublicManifest,
    /// The sealed manifest; none once the object is erased.
    pub sealed: Option<Bytes>,
    /// The verified lease.
    pub lease: Lease,
    /// The lease's signed envelope.
    pub lease_envelope: Bytes,
    /// For each column the node that holds it, if one does.
    pub placement: Vec<Option<NodeName>>,
    /// Extensions this version does not know, signed by nobody; none once the object is erased.
    pub unknown: Unknown,
}

/// Why bytes are not a record. The fault is of whoever sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Malformed or out of bounds.
    #[error("the record is malformed")]
    Cbor(#[from] CborError),
    /// The lease does not verify.
    #[error("the record's lease does not count")]
    Lease(#[from] LeaseError),
    /// The lease is signed by another owner than the manifest names.
    #[error("the record's lease is not by the owner of its object")]
    Owner,
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
    /// Puts a record together and checks that its parts belong to each other.
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
        if lease.owner != public.owner() {
            return Err(RecordError::Owner);
        }
        if placement.len() != public.columns() {
            return Err(RecordError::Placement { found: placement.len(), expected: public.columns() });
        }
        // An erased object has no sealed manifest, whatever a node still sends.
        let sealed = sealed.filter(|_| !lease.erased);
        Ok(Self { public, sealed, lease, lease_envelope, placement, unknown: Unknown::new() })
    }

    /// Returns the locator the record is filed under.
    #[must_use]
    pub fn locator(&self) -> Locator {
        self.lease.locator
    }

    /// Returns whether the sealed manifest is missing although nothing that the owner signed takes it away by `now`
    /// (seconds since 1970): neither an erasure nor the end of the lease. Then somebody left it out, and the object
    /// cannot be opened.
    #[must_use]
    pub fn is_stripped(&self, now: u64) -> bool {
        self.sealed.is_none() && !self.lease.erased && !self.lease.retention.has_ended(now)
    }

    /// Returns what becomes of a node's own intact copy when another copy of the record comes, at `now` (seconds since
    /// 1970).
    ///
    /// Nobody signs that a sealed manifest belongs to a lease, but a locator has one public and one sealed manifest for
    /// ever. So the own ones stay, whatever comes: only the lease follows the owner's newer one, and the sealed
    /// manifest goes when the owner signed that it is to go. The own placement stays too; who knows better sets it.
    #[must_use]
    pub fn followed_by(&self, other: &Self, now: u64) -> Self {
        let mut kept = self.clone();
        if other.public.id() != self.public.id() {
            return kept;
        }
        // Of two words of one version an erasure counts: what is erased stays erased.
        let is_newer = match (self.lease.erased, other.lease.erased) {
            (false, true) => other.lease.version >= self.lease.version,
            (true, false) => false,
            _ => other.lease.version > self.lease.version,
        };
        if is_newer {
            kept.lease = other.lease.clone();
            kept.lease_envelope = other.lease_envelope.clone();
        }
        let is_same = kept.lease_envelope == other.lease_envelope;
        let ended = is_same && other.sealed.is_none() && kept.lease.retention.has_ended(now);
        if kept.lease.erased || ended {
            kept.sealed = None;
            kept.unknown.clear();
        } else if kept.sealed.is_none() {
            kept.sealed = other.sealed.clone();
        }
        kept
    }

    /// Returns whether `capability` finds this record.
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
            })
            .unknown(&self.unknown);
        if let Some(sealed) = &self.sealed {
            to = to.bytes(key::SEALED, sealed);
        }
        to.finish()
    }

    /// Decodes a record and verifies its lease. Costs about 0.1 ms, nearly all of it the signatures.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
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
        let mut record = Self::new(public, sealed, lease, placement)?;
        // Nobody can tell what an extension holds, so it does not outlive the object.
        if !record.lease.erased {
            record.unknown = fields.unknown();
        }
        Ok(record)
    }
}

fn bounded(bytes: &[u8], max: usize) -> Result<&[u8], CborError> {
    if bytes.len() > max { Err(CborError::TooLong { found: bytes.len(), max }) } else { Ok(bytes) }
}
