//! Simulated distance: every call waits for the round trip of light in fibre between two places before it goes out. What is
//! read over it is counted, so that the demo can say what a read cost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ShardAsk, Topology, Transport, TransportError};
use format::{
    BlobId, Locator, NodeName, OwnerId, Place, PolicyName,
    wire::{ChangePage, LocatorPage, NodeEntry},
};

/// Light in fibre, there and back, with the detours of real cables: 100 km are 1.5 ms.
const PER_KILOMETRE: Duration = Duration::from_micros(15);

/// Whether distance takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// Calls are as fast as this machine.
    #[default]
    None,
    /// Calls take as long as they would in the world.
    Simulated,
}

/// A transport whose calls take as long as the distance says.
pub struct Links {
    inner: Arc<dyn Transport>,
    topology: Arc<Topology>,
    here: Place,
    distance: Distance,
    pulled: Mutex<BTreeMap<NodeName, u64>>,
}

impl Links {
    /// Puts the distance from `here` before every call of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, topology: Arc<Topology>, here: Place, distance: Distance) -> Self {
        Self { inner, topology, here, distance, pulled: Mutex::default() }
    }

    /// Takes the bytes of shards read since the last call, for each node.
    pub fn take_pulled(&self) -> BTreeMap<NodeName, u64> {
        std::mem::take(&mut self.pulled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn travel(&self, node: &NodeName) {
        if self.distance == Distance::None {
            return;
        }
        let kilometres = self.topology.node(node).map_or(0.0, |entry| self.here.kilometres_to(&entry.place));
        tokio::time::sleep(PER_KILOMETRE.mul_f64(kilometres)).await;
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Transport for Links {
            async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError> {
                self.travel(node).await;
                let body = self.inner.read_shard(node, ask).await?;
                let mut pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
                *pulled.entry(node.clone()).or_default() += body.len() as u64;
                Ok(body)
            }
            $(async fn $name(&self, node: &NodeName, $($arg: $type),*) -> Result<$out, TransportError> {
                self.travel(node).await;
                self.inner.$name(node, $($arg),*).await
            })*
        }
    };
}

forward! {
    record(locator: &Locator) -> Option<Bytes>;
    put_record(locator: &Locator, record: Bytes) -> ();
    put_lease(locator: &Locator, envelope: Bytes) -> ();
    locators(owner: &OwnerId, after: Option<&Locator>) -> LocatorPage;
    create_upload() -> String;
    append(upload: &str, first: u64, strips: &[Bytes]) -> ();
    commit(upload: &str, column: usize, public: Bytes) -> ();
    abort(upload: &str) -> ();
    policy(owner: &OwnerId, name: &PolicyName) -> Option<Bytes>;
    put_policy(owner: &OwnerId, name: &PolicyName, envelope: Bytes) -> ();
    blob(id: &BlobId) -> Option<Bytes>;
    put_blob(id: &BlobId, blob: Bytes) -> ();
    nodes() -> Vec<NodeEntry>;
    announce(entry: &NodeEntry) -> ();
    changes(since: u64, wait_seconds: u32) -> ChangePage;
}
