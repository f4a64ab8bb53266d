//! Readers among nodes that make up their answers: what the name commits to, or an error.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Reader, TransportError};
use format::{Capability, Lease, NodeName, OwnerSecret, Pointer, Profile, StableName};
use testing::{Call, Encoded, Intercept, Intercepted, Mutator, mutations, noise};

use crate::cluster::{Cluster, encode, owner, reader};

/// Draws whether a node lies this time.
type Who = dyn Fn(&mut Mutator, &NodeName) -> bool + Send + Sync;

/// Nodes that change what they answer.
struct Liars {
    mutator: Mutex<Mutator>,
    who: Box<Who>,
}

#[async_trait]
impl Intercept for Liars {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn shard(&self, node: &NodeName, (): (), body: Bytes) -> Bytes {
        self.answer(node, body)
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        record.map(|record| self.answer(node, record))
    }
}

impl Liars {
    fn answer(&self, node: &NodeName, honest: Bytes) -> Bytes {
        let mut mutator = self.mutator.lock().unwrap();
        if (self.who)(&mut mutator, node) { mutator.mutate(&honest) } else { honest }
    }
}

struct World {
    cluster: Cluster,
    sharded: Encoded,
    inline: Encoded,
    bytes: Vec<u8>,
    name: StableName,
}

const TEXT: &[u8] = b"a letter";

impl World {
    /// Six nodes with an object over 4+2, an inline one and a name.
    async fn new() -> Self {
        let (cluster, keys, bytes) = (Cluster::new(6), owner(), noise(700_000));
        let profile: Profile = "4+2".parse().unwrap();
        let [sharded, inline] = [&bytes[..], TEXT].map(|bytes| encode(bytes, profile, &keys));
        for encoded in [&sharded, &inline] {
            let lease = Lease::new(&encoded.sealed, profile).sign(&keys);
            let (transport, topology) = (cluster.transport.clone(), cluster.topology.clone());
            encoded.upload(transport, topology, [4; 32], lease.into()).await.unwrap();
        }
        let secret = OwnerSecret::from_bytes([1; 32]);
        let name = StableName::derive(&secret, "site").unwrap();
        let pointer = Pointer { target: inline.sealed.capability.clone(), fresh_until: u64::MAX, seconds: 60 };
        let record = name.record(&keys, &pointer, 1, None);
        client::file_record(&(cluster.transport.clone() as _), &record, &cluster.topology).await.unwrap();
        Self { cluster, sharded, inline, bytes, name }
    }

    fn mutator(&self, seed: u64) -> Mutator {
        let of = |mutator: Mutator, encoded: &Encoded| {
            mutator.knowing(encoded.sealed.sealed.clone()).knowing(encoded.sealed.public.encoded().clone())
        };
        [&self.sharded, &self.inline].into_iter().fold(Mutator::new(seed), of)
    }

    /// Reads all three until so many answers were made up; `judge` gets what was read and what is right. Each round has
    /// a reader that knows no node yet.
    async fn read(
        &self,
        seed: u64,
        count: u64,
        who: impl Fn(&mut Mutator, &NodeName) -> bool + Send + Sync + 'static,
        judge: impl Fn(Result<Vec<u8>, String>, &[u8]),
    ) {
        let liars = Liars { mutator: Mutex::new(self.mutator(seed)), who: Box::new(who) };
        let road = Arc::new(Intercepted::over(self.cluster.transport.clone(), liars));
        while road.intercept().mutator.lock().unwrap().made() < count {
            let reader = reader(road.clone(), self.cluster.topology.clone());
            let read = async |reader: &Reader, capability: &Capability| {
                testing::read(reader, capability).await.map_err(|error| error.to_string())
            };
            judge(read(&reader, &self.sharded.sealed.capability).await, &self.bytes);
            judge(read(&reader, &self.inline.sealed.capability).await, TEXT);
            let pointer = reader.pointer(self.name.capability(), None).await.map_err(|error| error.to_string());
            judge(pointer.map(|(pointer, _)| pointer.target.expose().to_vec()), self.inline.sealed.capability.expose());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_two_of_six_nodes_make_up_costs_no_read() {
    let world = World::new().await;
    for (seed, liars) in [(1, ["o0", "o1"]), (2, ["o2", "o5"]), (3, ["o3", "o4"])] {
        let is_liar = move |_: &mut Mutator, node: &NodeName| liars.contains(&node.as_str());
        world
            .read(seed, mutations(600) / 3, is_liar, |read, right| {
                assert!(read.as_deref() == Ok(right), "seed {seed}: {:?}", read.err());
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_nodes_make_up_is_no_byte_of_an_answer() {
    let world = World::new().await;
    let half = |mutator: &mut Mutator, _: &NodeName| mutator.below(2) == 0;
    world
        .read(4, mutations(600), half, |read, right| {
            assert!(read.is_err() || read.as_deref() == Ok(right), "wrong bytes");
        })
        .await;
}
