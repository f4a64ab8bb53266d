//! Small real objects: encoded as a twin would, so that what origins refuse is refused for the right reason.

use bytes::Bytes;
use format::{
    Attributes, Compression, DataKey, Encoder, EncoderOptions, Kind, Lease, NodeName, ObjectId, OwnerKeys, OwnerSecret,
    PolicyName, Profile, Record, Retention, Sealed, Suite,
};

pub(crate) struct Sample {
    pub(crate) owner: OwnerKeys,
    pub(crate) sealed: Sealed,
    /// For each column its strips in order.
    pub(crate) columns: Vec<Vec<Bytes>>,
}

impl Sample {
    /// An object of `length` bytes that differ with `seed`, in profile small-cluster.
    pub(crate) fn new(seed: u8, length: usize) -> Self {
        let bytes: Vec<u8> =
            (0..length).map(|i| blake3::hash(&(i / 32).to_le_bytes()).as_bytes()[i % 32] ^ seed).collect();
        Self::of(seed, [seed; 32], &bytes)
    }

    pub(crate) fn of(seed: u8, random: [u8; 32], bytes: &[u8]) -> Self {
        let owner = OwnerSecret::from_bytes([seed; 32]).keys();
        let options = EncoderOptions {
            profile: Profile::SmallCluster,
            suite: Suite::ChaCha20Poly1305,
            compression: Compression::Auto,
            owner: owner.id(),
        };
        let mut encoder = Encoder::new(options, DataKey::fresh([seed; 32]));
        let mut stripes = Vec::new();
        let mut input = bytes;
        while let Some(stripe) = encoder.write(&mut input).unwrap() {
            stripes.push(stripe);
        }
        let mut ending = encoder.end();
        while let Some(stripe) = ending.stripe().unwrap() {
            stripes.push(stripe);
        }
        let attributes = Attributes {
            mime: "application/octet-stream".into(),
            name: "sample".into(),
            created: 1,
            kind: Kind::File,
            tags: std::collections::BTreeMap::default(),
        };
        let sealed = ending.seal(attributes, random).unwrap();
        let strips_of = |column: usize| stripes.iter().filter_map(|stripe| stripe.strips[column].clone()).collect();
        let columns = (0..sealed.public.columns()).map(strips_of).collect();
        Self { owner, sealed, columns }
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.sealed.public.id()
    }

    pub(crate) fn lease(&self, version: u64) -> Lease {
        Lease {
            locator: self.sealed.locator,
            owner: self.owner.id(),
            version,
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

    pub(crate) fn erasure(&self, version: u64) -> Lease {
        Lease { erased: true, ..self.lease(version) }
    }

    /// The signed text of a lease.
    pub(crate) fn sign(&self, lease: &Lease) -> Bytes {
        lease.sign(&self.owner).into()
    }

    /// The record under a lease, all its shards on `node`.
    pub(crate) fn record(&self, lease: &Lease, node: &NodeName) -> Record {
        let placement = vec![Some(node.clone()); self.sealed.public.columns()];
        Record::new(self.sealed.public.clone(), Some(self.sealed.sealed.clone()), self.sign(lease), placement).unwrap()
    }
}
