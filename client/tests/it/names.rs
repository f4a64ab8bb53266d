//! What a reader takes for the pointer of a stable name.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Known, ReadError, TransportError, file_record};
use format::{Capability, Lease, NodeName, OpenError, OwnerSecret, Pointer, Record, StableName};
use testing::{Call, Intercept, Intercepted};

use crate::cluster::{Cluster, reader};

/// Nodes that give one record each, whatever they are asked for.
#[derive(Default)]
struct Say(Mutex<Vec<(&'static str, Bytes)>>);

#[async_trait]
impl Intercept for Say {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        let said = self.0.lock().unwrap();
        said.iter().find(|(name, _)| *name == node.as_str()).map_or(record, |(_, said)| Some(said.clone()))
    }
}

const NODES: [&str; 6] = ["o0", "o1", "o2", "o3", "o4", "o5"];

fn secret() -> OwnerSecret {
    OwnerSecret::from_bytes([1; 32])
}

fn name() -> StableName {
    StableName::derive(&secret(), "site").unwrap()
}

fn record(target: u8, version: u64) -> Record {
    let pointer = Pointer { target: Capability::from_bytes([target; 32]), fresh_until: u64::MAX, seconds: 60 };
    name().record(&secret().keys(), &pointer, version, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_counts_and_none_older_than_what_is_known() {
    let cluster = Cluster::new(6);
    file_record(&(cluster.transport.clone() as _), &record(1, 1), &cluster.topology).await.unwrap();
    let road = Arc::new(Intercepted::over(cluster.transport.clone(), Say::default()));
    let reader = reader(road.clone(), cluster.topology.clone());
    let read = async |known| {
        let read = reader.pointer(name().capability(), known).await;
        read.map(|(pointer, record)| (pointer.target.expose()[0], record.lease.version))
    };
    assert_eq!(read(None).await.unwrap(), (1, 1));
    // One node of six knows of a newer one.
    for node in NODES {
        *road.intercept().0.lock().unwrap() = vec![(node, record(2, 2).encode().into())];
        assert_eq!(read(None).await.unwrap(), (2, 2), "{node}");
    }
    let known = |version| Some(Known { owner: secret().keys().id(), version });
    assert_eq!(read(known(2)).await.unwrap(), (2, 2));
    let old = read(known(3)).await;
    assert!(matches!(old, Err(ReadError::Old { .. })), "{old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_erasure_counts_for_a_name_that_is_known() {
    let cluster = Cluster::new(6);
    let (held, thief) = (record(1, 1), OwnerSecret::from_bytes([2; 32]));
    let theirs = StableName::derive(&thief, "site").unwrap();
    let pointer = Pointer::open(name().capability(), &held, 1).unwrap();
    let theirs = theirs.record(&thief.keys(), &pointer, 9, None);
    let lease = Lease { locator: name().locator(), erased: true, ..theirs.lease.clone() }.sign(&thief.keys());
    let tombstone = Bytes::from(Record::new(theirs.public, None, lease.into(), Vec::new()).unwrap().encode());
    let say = Say(Mutex::new(NODES.map(|node| (node, tombstone.clone())).into()));
    let road = Arc::new(Intercepted::over(cluster.transport.clone(), say));
    let reader = reader(road.clone(), cluster.topology.clone());
    let known = Some(Known::of(&held));
    let read = reader.pointer(name().capability(), known).await;
    assert!(matches!(read, Err(ReadError::Old { .. })), "{read:?}");
    // Who knows nothing of the name has nothing to set against it, and one honest node is enough.
    let read = reader.pointer(name().capability(), None).await;
    assert!(matches!(read, Err(ReadError::Open(OpenError::Erased))), "{read:?}");
    road.intercept().0.lock().unwrap()[3].1 = held.encode().into();
    assert_eq!(reader.pointer(name().capability(), None).await.unwrap().0, pointer);
}
