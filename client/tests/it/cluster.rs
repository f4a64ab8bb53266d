//! A few nodes in memory, an owner, and objects stored on the nodes.

use std::sync::Arc;

use client::{Reader, ReaderOptions, Receipt, Topology, Transport, UploadError};
use format::{
    Attributes, Compression, EncoderOptions, Lease, NodeName, OwnerKeys, OwnerSecret, Place, Profile, PublicManifest,
    Sealed, Suite, wire::NodeEntry,
};
use testing::{Encoded, MemoryTransport, attributes};

pub(crate) fn place(zone: usize) -> Place {
    let degrees = f64::from(u8::try_from(zone % 80).unwrap());
    Place { latitude: degrees, longitude: degrees, ..testing::place(&format!("z{zone}")) }
}

pub(crate) fn nodes(count: usize) -> Vec<NodeEntry> {
    (0..count).map(|i| testing::node(&format!("o{i}"), place(i))).collect()
}

pub(crate) fn owner() -> OwnerKeys {
    OwnerSecret::from_bytes([1; 32]).keys()
}

pub(crate) fn lease(sealed: &Sealed, keys: &OwnerKeys) -> Lease {
    Lease { owner: keys.id(), ..Lease::new(sealed, Profile::SmallCluster) }
}

pub(crate) fn encode(bytes: &[u8], profile: Profile, keys: &OwnerKeys) -> Encoded {
    let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Off, owner: keys.id() };
    Encoded::of(&[bytes], options, [3; 32], Attributes { mime: "a/b".into(), ..attributes() }, [5; 32])
}

/// Stores bytes through the real encoder and uploader.
pub(crate) async fn store(
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    bytes: &[u8],
    profile: Profile,
) -> Result<(Sealed, Receipt), UploadError> {
    store_at(transport, topology, bytes, profile, [4; 32]).await
}

/// The same with a seed that draws the nodes.
pub(crate) async fn store_at(
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    bytes: &[u8],
    profile: Profile,
    seed: [u8; 32],
) -> Result<(Sealed, Receipt), UploadError> {
    let keys = owner();
    let encoded = encode(bytes, profile, &keys);
    let lease = lease(&encoded.sealed, &keys).sign(&keys).into();
    let receipt = encoded.upload(transport, topology, seed, lease).await?;
    Ok((encoded.sealed, receipt))
}

/// Returns the public manifest of an owner's inline objects.
pub(crate) fn inline_public(keys: &OwnerKeys) -> PublicManifest {
    encode(b"", Profile::SmallCluster, keys).sealed.public
}

pub(crate) struct Cluster {
    pub(crate) transport: Arc<MemoryTransport>,
    pub(crate) topology: Arc<Topology>,
}

impl Cluster {
    pub(crate) fn new(count: usize) -> Self {
        let nodes = nodes(count);
        Self { transport: Arc::new(MemoryTransport::new(&nodes)), topology: Arc::new(Topology::new(nodes)) }
    }

    pub(crate) async fn store(&self, bytes: &[u8]) -> (Sealed, Receipt) {
        store(self.transport.clone(), self.topology.clone(), bytes, Profile::SmallCluster).await.unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        reader(self.transport.clone(), self.topology.clone())
    }
}

pub(crate) fn reader(transport: Arc<dyn Transport>, topology: Arc<Topology>) -> Reader {
    Reader::new(transport, topology, place(0), ReaderOptions::default())
}

/// Reads a whole object.
pub(crate) async fn read(reader: &Reader, sealed: &Sealed) -> Result<Vec<u8>, client::ReadError> {
    testing::read(reader, &sealed.capability).await
}

pub(crate) fn holders(receipt: &Receipt) -> Vec<NodeName> {
    receipt.placement.iter().flatten().cloned().collect()
}
