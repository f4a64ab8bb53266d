//! Small real objects: stored as a twin would, so that what nodes refuse is refused for the right reason.

use std::sync::Arc;

use bytes::Bytes;
use client::{ReadError, Reader, Receipt, Topology, Transport, UploadError, Uploader};
use format::{
    Attributes, Capability, Cell, Compression, EncoderOptions, Lease, NodeName, ObjectId, OwnerKeys, OwnerSecret,
    Profile, Record, Sealed, StripeIndex, Suite, wire::frame_cells,
};

use crate::{Encoded, attributes};

impl Encoded {
    /// Stores the object under a signed lease, as a twin does.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn upload(
        &self,
        transport: Arc<dyn Transport>,
        topology: Arc<Topology>,
        seed: [u8; 32],
        lease: Bytes,
    ) -> Result<Receipt, UploadError> {
        let mut uploader = Uploader::begin(transport, topology, seed, vec![], vec![]);
        for stripe in &self.stripes {
            uploader.send(stripe.clone()).await?;
        }
        uploader.commit(&self.sealed, lease).await
    }
}

/// An object, its owner, and its cells by column.
pub struct Sample {
    /// The owner.
    pub owner: OwnerKeys,
    /// Both manifests and the capability.
    pub sealed: Sealed,
    /// For each column its cells in order.
    pub columns: Vec<Vec<Cell>>,
}

impl Sample {
    /// Makes an object of so many bytes that differ with `seed`, in profile small-cluster.
    #[must_use]
    pub fn new(seed: u8, length: usize) -> Self {
        Self::of(seed, [seed; 32], &crate::noise_of(seed.into(), length))
    }

    /// Makes an object of given bytes; owner and key differ with `seed`.
    #[must_use]
    pub fn of(seed: u8, random: [u8; 32], bytes: &[u8]) -> Self {
        let owner = OwnerSecret::from_bytes([seed; 32]).keys();
        let options = EncoderOptions {
            profile: Profile::SmallCluster,
            suite: Suite::ChaCha20Poly1305,
            compression: Compression::Auto,
            owner: owner.id(),
        };
        let attributes = Attributes { name: "sample".into(), created: 1, ..attributes() };
        let Encoded { sealed, stripes } = Encoded::of(&[bytes], options, [seed; 32], attributes, random);
        let mut columns = vec![Vec::new(); sealed.public.columns()];
        for stripe in stripes {
            columns.iter_mut().zip(stripe.into_cells()).for_each(|(column, cell)| column.push(cell));
        }
        Self { owner, sealed, columns }
    }

    /// Returns the bytes of a whole shard: its cells back to back.
    #[must_use]
    pub fn shard(&self, column: usize) -> Vec<u8> {
        frame_cells(&self.columns[column]).concat()
    }

    /// Returns where a cell begins in its shard.
    #[must_use]
    pub fn cell_start(&self, column: usize, cell: usize) -> u64 {
        self.columns[column][..cell].iter().map(|cell| cell.size() as u64).sum()
    }

    /// Returns the object's name among shards.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.sealed.public.id()
    }

    /// Returns a living lease.
    #[must_use]
    pub fn lease(&self, version: u64) -> Lease {
        Lease { version, ..Lease::new(&self.sealed, Profile::SmallCluster) }
    }

    /// Returns a lease that erases.
    #[must_use]
    pub fn erasure(&self, version: u64) -> Lease {
        Lease { erased: true, ..self.lease(version) }
    }

    /// Returns the signed text of a lease.
    #[must_use]
    pub fn sign(&self, lease: &Lease) -> Bytes {
        lease.sign(&self.owner).into()
    }

    /// Returns the record under a lease, all its shards on `node`.
    #[must_use]
    pub fn record(&self, lease: &Lease, node: &NodeName) -> Record {
        let placement = vec![Some(node.clone()); self.sealed.public.columns()];
        Record::new(self.sealed.public.clone(), Some(self.sealed.sealed.clone()), self.sign(lease), placement).unwrap()
    }
}

/// Reads a whole object, stripe by stripe.
///
/// # Errors
/// [`ReadError`].
pub async fn read(reader: &Reader, capability: &Capability) -> Result<Vec<u8>, ReadError> {
    let (object, record) = reader.object(capability).await?;
    if let Some(inline) = object.inline() {
        return Ok(inline.to_vec());
    }
    let geometry = object.geometry().unwrap();
    let mut bytes = Vec::new();
    for stripe in (0..geometry.stripes()).map(StripeIndex) {
        let columns: Vec<usize> = (0..geometry.columns(stripe)).collect();
        let read = reader.blocks(&object, &record.placement, stripe, &columns).await?;
        read.blocks.iter().for_each(|(_, block)| bytes.extend_from_slice(block));
    }
    Ok(bytes)
}
