//! A few nodes in memory, an owner, and objects stored on the nodes.

use std::{collections::BTreeMap, sync::Arc};

use client::{MemoryTransport, Reader, ReaderOptions, Receipt, Topology, Transport, UploadError, Uploader};
use format::{
    Attributes, Compression, DataKey, Encoder, EncoderOptions, Kind, Lease, NodeName, OwnerKeys, OwnerSecret, Place,
    PolicyName, Profile, PublicManifest, Retention, Sealed, StripeIndex, Suite,
    wire::{NodeEntry, Role},
};

pub(crate) fn place(zone: usize) -> Place {
    let degrees = f64::from(u8::try_from(zone % 80).unwrap());
    Place {
        country: "BE".parse().unwrap(),
        region: "eu".into(),
        zone: format!("z{zone}"),
        operator: String::new(),
        datacentre: String::new(),
        latitude: degrees,
        longitude: degrees,
    }
}

pub(crate) fn nodes(count: usize) -> Vec<NodeEntry> {
    let node = |i: usize| NodeEntry {
        name: format!("o{i}").parse().unwrap(),
        role: Role::Origin,
        address: None,
        public: vec![],
        place: place(i),
        capacity_bytes: 1 << 40,
        free_bytes: 1 << 40,
        load: 0,
        draining: false,
        seen: 0,
    };
    (0..count).map(node).collect()
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn owner() -> OwnerKeys {
    OwnerSecret::from_bytes([1; 32]).keys()
}

pub(crate) fn lease(sealed: &Sealed, keys: &OwnerKeys) -> Lease {
    Lease {
        locator: sealed.locator,
        owner: keys.id(),
        version: 1,
        profile: Profile::SmallCluster,
        wanted: vec![],
        refused: vec![],
        retention: Retention::default(),
        policy: PolicyName::default(),
        erased: false,
        caps: vec![],
        unknown: vec![],
    }
}

/// Stores bytes through the real encoder and uploader.
pub(crate) async fn store(
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    bytes: &[u8],
    profile: Profile,
) -> Result<(Sealed, Receipt), UploadError> {
    let keys = owner();
    let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Off, owner: keys.id() };
    let mut encoder = Encoder::new(options, DataKey::fresh([3; 32]));
    let mut uploader = Uploader::begin(transport, topology, [4; 32], vec![], vec![]);
    let mut input = bytes;
    while let Some(stripe) = encoder.write(&mut input).unwrap() {
        uploader.send(stripe).await?;
    }
    let mut ending = encoder.end();
    while let Some(stripe) = ending.stripe().unwrap() {
        uploader.send(stripe).await?;
    }
    let sealed = ending.seal(attributes(), [5; 32]).unwrap();
    let receipt = uploader.commit(&sealed, lease(&sealed, &keys).sign(&keys).into()).await?;
    Ok((sealed, receipt))
}

fn attributes() -> Attributes {
    Attributes { mime: "a/b".into(), name: String::new(), created: 0, kind: Kind::File, tags: BTreeMap::new() }
}

/// Returns the public manifest of an owner's inline objects.
pub(crate) fn inline_public(keys: &OwnerKeys) -> PublicManifest {
    let profile = Profile::SmallCluster;
    let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Off, owner: keys.id() };
    Encoder::new(options, DataKey::fresh([3; 32])).end().seal(attributes(), [5; 32]).unwrap().public
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

/// Reads a whole object, stripe by stripe.
pub(crate) async fn read(reader: &Reader, sealed: &Sealed) -> Result<Vec<u8>, client::ReadError> {
    let (object, record) = reader.object(&sealed.capability).await?;
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

pub(crate) fn holders(receipt: &Receipt) -> Vec<NodeName> {
    receipt.placement.iter().flatten().cloned().collect()
}
