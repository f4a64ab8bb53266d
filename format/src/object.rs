//! The reader's side of an object. It opens an object from a capability and a record, then turns verified strips into
//! blocks.
//!
//! A read checks in this order: strip hash in list, list under root, BLAKE3(P) = oid, AEAD tag, length. After a whole
//! file it also checks BLAKE3 of the plaintext. Nothing is trusted but the capability.

use crate::{
    BlockIndex, BlockPosition, Capability, Erasure, ErasureError, Geometry, Kind, Locator, PublicManifest, Record,
    ReedSolomon, SealError, SealedManifest, StripHash, cbor::CborError, geometry::StripeIndex, seal::Sealer, sealed,
    strip,
};

/// Why a record does not open. Except for `Erased`, the node sent a wrong record: ask another node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The owner erased the object.
    #[error("the object was erased by its owner")]
    Erased,
    /// The record is filed under another locator.
    #[error("the record belongs to another locator")]
    Locator,
    /// The sealed manifest does not open.
    #[error("the sealed manifest does not open")]
    Seal(#[from] SealError),
    /// The sealed manifest opens but is malformed.
    #[error("the sealed manifest is malformed")]
    Manifest(#[from] CborError),
    /// The sealed manifest does not derive this capability.
    #[error("the sealed manifest is not the one the name commits to")]
    Capability,
    /// The sealed manifest names another public manifest, or the two contradict each other.
    #[error("the two manifests do not belong to each other")]
    Mismatch,
}

/// Why strips do not give a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The strip's header is malformed although its hash is right. The writer is at fault.
    #[error("block {} has a malformed strip header", block.0)]
    Header {
        /// The block.
        block: BlockIndex,
    },
    /// The block does not open although its hash is right. The writer is at fault.
    #[error("block {} does not open", block.0)]
    Seal {
        /// The block.
        block: BlockIndex,
        /// The cause.
        source: SealError,
    },
    /// The length of the block is not the one in the layout. The writer is at fault.
    #[error("block {} is not {expected} bytes long", block.0)]
    Length {
        /// The block.
        block: BlockIndex,
        /// Bytes expected.
        expected: usize,
    },
    /// The object has no such block or stripe. The caller is at fault.
    #[error("the object has no block {}", block.0)]
    OutOfRange {
        /// The block.
        block: BlockIndex,
    },
    /// The erasure code cannot recover the stripe.
    #[error("the stripe cannot be recovered")]
    Erasure(#[from] ErasureError),
}

/// An opened object.
pub struct Object {
    locator: Locator,
    public: PublicManifest,
    manifest: SealedManifest,
    /// The layout, sealer and erasure code; `None` for an inline object.
    sharded: Option<Sharded>,
}

struct Sharded {
    geometry: Geometry,
    sealer: Box<dyn Sealer>,
    code: ReedSolomon,
}

impl Object {
    /// Opens a record. Costs a few microseconds.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(capability: &Capability, record: &Record) -> Result<Self, OpenError> {
        let sealed = record.sealed.as_ref().ok_or(OpenError::Erased)?;
        Self::from_manifests(capability, &record.locator(), record.public.clone(), sealed)
    }

    /// Opens the two manifests filed under `locator`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn from_manifests(
        capability: &Capability,
        locator: &Locator,
        public: PublicManifest,
        sealed: &[u8],
    ) -> Result<Self, OpenError> {
        if *locator != capability.locator() {
            return Err(OpenError::Locator);
        }
        let encoded = sealed::open(sealed, capability, &public.id())?;
        if Capability::of_manifest(&encoded) != *capability {
            return Err(OpenError::Capability);
        }
        let manifest = SealedManifest::decode(&encoded)?;
        if manifest.object != public.id() || manifest.suite != public.suite() {
            return Err(OpenError::Mismatch);
        }
        let sharded = match (&manifest.inline, public.redundancy()) {
            (Some(inline), None) if inline.len() as u64 == manifest.length => None,
            (None, Some(redundancy)) => {
                let geometry = Geometry::new(redundancy, manifest.length).ok_or(OpenError::Mismatch)?;
                if geometry.stripes() != public.stripes() || geometry.tail_columns() != public.tail_columns() {
                    return Err(OpenError::Mismatch);
                }
                let sealer = manifest.suite.sealer(&manifest.data_key.0);
                Some(Sharded { geometry, sealer, code: ReedSolomon::new(redundancy) })
            }
            _ => return Err(OpenError::Mismatch),
        };
        Ok(Self { locator: *locator, public, manifest, sharded })
    }

    /// Returns the locator, which is the key in caches and logs.
    #[must_use]
    pub fn locator(&self) -> Locator {
        self.locator
    }

    /// Returns the public manifest.
    #[must_use]
    pub fn public(&self) -> &PublicManifest {
        &self.public
    }

    /// Returns the sealed manifest, opened.
    #[must_use]
    pub fn manifest(&self) -> &SealedManifest {
        &self.manifest
    }

    /// Returns the plaintext length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.manifest.length
    }

    /// Returns whether the object is a file or a directory.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.manifest.kind
    }

    /// Returns the whole plaintext of an inline object, else `None`.
    #[must_use]
    pub fn inline(&self) -> Option<&[u8]> {
        self.manifest.inline.as_deref()
    }

    /// Returns the layout of an object with shards, else `None`.
    #[must_use]
    pub fn geometry(&self) -> Option<Geometry> {
        self.sharded.as_ref().map(|sharded| sharded.geometry)
    }

    /// Turns a data strip into its block. The caller has verified the strip's hash. Costs up to 0.3 ms of CPU.
    ///
    /// # Errors
    /// [`DecodeError`]. After a verified hash, any error but `OutOfRange` means that the writer was broken or hostile.
    pub fn decode(&self, block: BlockIndex, strip: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let sharded = self.sharded.as_ref().ok_or(DecodeError::OutOfRange { block })?;
        let geometry = sharded.geometry;
        if block.0 >= geometry.blocks() {
            return Err(DecodeError::OutOfRange { block });
        }
        let position = BlockPosition { index: block, last: geometry.is_last(block) };
        strip::open(strip, geometry.block_bytes(block), position, self.manifest.suite, &*sharded.sealer)
    }

    /// Recovers the data strips of a stripe from any k verified strips.
    ///
    /// `strips` has one place for each column. Columns that the tail leaves empty may be `None`. On return, all data
    /// strips are present. Costs at worst k * m passes over a strip.
    ///
    /// # Errors
    /// [`DecodeError::Erasure`] if there are fewer than k' strips or if lengths differ from the stripe's;
    /// [`DecodeError::OutOfRange`] if there is no such stripe.
    pub fn recover(&self, stripe: StripeIndex, strips: &mut [Option<Vec<u8>>]) -> Result<(), DecodeError> {
        let block = BlockIndex(stripe.0);
        let sharded = self.sharded.as_ref().ok_or(DecodeError::OutOfRange { block })?;
        recover(&self.public, &sharded.code, stripe, strips)
    }
}

/// Recovers a stripe with the public manifest alone. A repairer has no key and needs none.
pub(crate) fn recover(
    public: &PublicManifest,
    code: &ReedSolomon,
    stripe: StripeIndex,
    strips: &mut [Option<Vec<u8>>],
) -> Result<(), DecodeError> {
    let out = DecodeError::OutOfRange { block: BlockIndex(stripe.0) };
    let strip_bytes = public.strip_bytes(stripe).ok_or_else(|| out.clone())?;
    let redundancy = public.redundancy().ok_or(out)?;
    let shape = ErasureError::Shape { columns: redundancy.columns() };
    if strips.len() != redundancy.columns() || strips.iter().flatten().any(|strip| strip.len() != strip_bytes) {
        return Err(shape.into());
    }
    if stripe.0 + 1 == public.stripes() {
        for strip in &mut strips[public.tail_columns()..redundancy.data()] {
            *strip = Some(vec![0; strip_bytes]);
        }
    }
    code.recover_data(strips)?;
    Ok(())
}

/// Returns whether a strip has the hash in its list.
#[must_use]
pub fn verify_strip(strip: &[u8], hash: &StripHash) -> bool {
    StripHash::of(strip) == *hash
}
