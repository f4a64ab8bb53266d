//! The reader's side of an object. It opens an object from a capability and a record, then turns verified strips into
//! blocks.
//!
//! Order of checks on a read: BLAKE3(P) = oid, M derives the capability, row under root, strip under row, AEAD tag,
//! length, and, when a whole file was read, BLAKE3 of the plaintext. A recovered strip is checked like one that was
//! read. Nothing is trusted but the capability.

use std::sync::OnceLock;

use crate::{
    BlockIndex, Capability, Erasure, ErasureError, Geometry, Kind, Locator, PublicManifest, Record, ReedSolomon, Row,
    SealError, SealedManifest, cbor::CborError, geometry::StripeIndex, hazmat::Sealer, seal::BlockPosition, sealed,
    strip,
};

/// Why a record does not open. All but [`Self::Erased`] mean that the node sent a wrong record: ask another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The owner erased the object or let its lease end.
    #[error("the object was erased by its owner, or its lease has ended")]
    Erased,
    /// The record lacks the sealed manifest although nothing that the owner signed takes it away.
    #[error("the node withholds the sealed manifest")]
    Withheld,
    /// The record is filed under another name.
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
    /// The block is compressed otherwise than docs/format.md section 3 allows, or does not inflate to the bytes of its
    /// hash. The writer is at fault.
    #[error("block {} is not compressed as the format allows", block.0)]
    Frame {
        /// The block.
        block: BlockIndex,
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
    /// The strips of the stripe are no codeword: one recovered from the others is not the one that was stored. The
    /// owner's fault, who would have given some readers other bytes than others.
    #[error("the strips of stripe {} contradict each other; whoever stored the object broke it", stripe.0)]
    Inconsistent {
        /// The stripe.
        stripe: StripeIndex,
    },
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
    sealer: Sealer,
    /// Made at the first use, see [`ReedSolomon::new`].
    code: OnceLock<ReedSolomon>,
}

impl Object {
    /// Opens a record at `now` (seconds since 1970), which says whether its lease has ended. Costs some microseconds,
    /// and some ten with inline bytes, whatever the object's size: the erasure code is prepared when a stripe has to be
    /// recovered for the first time.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(capability: &Capability, record: &Record, now: u64) -> Result<Self, OpenError> {
        let missing = if record.is_stripped(now) { OpenError::Withheld } else { OpenError::Erased };
        let sealed = record.sealed.as_ref().ok_or(missing)?;
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
        // What an object is stays, and a name may change: nothing is both.
        if manifest.object != public.id() || manifest.suite != public.suite() || public.is_name() {
            return Err(OpenError::Mismatch);
        }
        let sharded = match (&manifest.inline, public.redundancy()) {
            (Some(inline), None)
                if inline.len() as u64 == manifest.length && *blake3::hash(inline).as_bytes() == manifest.hash =>
            {
                None
            }
            (None, Some(redundancy)) => {
                let geometry = Geometry::new(redundancy, manifest.length).ok_or(OpenError::Mismatch)?;
                if geometry.stripes() != public.stripes() || geometry.tail_columns() != public.tail_columns() {
                    return Err(OpenError::Mismatch);
                }
                let sealer = Sealer::new(manifest.suite, &manifest.data_key.0);
                Some(Sharded { geometry, sealer, code: OnceLock::new() })
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

    /// Turns a data strip into its block. The caller has verified the strip's hash. Costs up to 0.4 ms of CPU.
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
        strip::open(strip, geometry.block_bytes(block), position, self.manifest.suite, &sharded.sealer)
    }

    /// Recovers the data strips of a stripe from any k that the stripe's row proves.
    ///
    /// `strips` has one place for each column; columns that the tail leaves empty may be absent. On return all data
    /// strips are there, and each is the one of the row. CPU work: k * m passes over a strip at worst, and a hash over
    /// each recovered one; the inversion of a k x k matrix whenever other columns are lost than before.
    ///
    /// # Errors
    /// [`DecodeError::Erasure`] with fewer than k' strips, or strips of another length than the row's;
    /// [`DecodeError::Inconsistent`] when the owner stored no codeword.
    pub fn recover(&self, stripe: StripeIndex, row: &Row, strips: &mut [Option<Vec<u8>>]) -> Result<(), DecodeError> {
        let out = DecodeError::OutOfRange { block: BlockIndex(stripe.0) };
        let sharded = self.sharded.as_ref().filter(|_| stripe.0 < self.public.stripes()).ok_or(out.clone())?;
        let redundancy = self.public.redundancy().ok_or(out)?;
        let strip_bytes = row.strip_bytes();
        if strips.len() != redundancy.columns() || strips.iter().flatten().any(|strip| strip.len() != strip_bytes) {
            return Err(ErasureError::Shape { columns: redundancy.columns() }.into());
        }
        if !self.public.fits(stripe, row) {
            return Err(DecodeError::Inconsistent { stripe });
        }
        let filled = sharded.geometry.columns(stripe);
        for strip in &mut strips[filled..redundancy.data()] {
            *strip = Some(vec![0; strip_bytes]);
        }
        let lost: Vec<usize> = (0..filled).filter(|column| strips[*column].is_none()).collect();
        sharded.code.get_or_init(|| ReedSolomon::new(redundancy)).recover_data(strips)?;
        if lost.into_iter().all(|column| row.proves(column, strips[column].as_deref())) {
            Ok(())
        } else {
            Err(DecodeError::Inconsistent { stripe })
        }
    }
}
