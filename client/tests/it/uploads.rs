//! Uploads to clusters with faults: an upload is either acknowledged and durable, or an error.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use client::{PlacementError, Receipt, Topology, Transport, TransportError, UploadError, Uploader};
use format::{NodeName, Profile};
use testing::{Call, Fault, FaultyTransport, Intercept, Intercepted, MemoryTransport, noise};
use tokio::time::Instant;

use crate::cluster::{Cluster, encode, nodes, owner, place, read, reader, store, store_at};

async fn store_with_down(count: usize, down: usize, profile: Profile) -> Result<usize, UploadError> {
    let nodes = nodes(count);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let names: Vec<NodeName> = nodes.iter().take(down).map(|node| node.name.clone()).collect();
    let fault = move |node: &NodeName| if names.contains(node) { Fault::Down } else { Fault::None };
    let faulty = Arc::new(FaultyTransport::new(memory.clone(), fault));
    let bytes = noise(1_200_000);
    let (sealed, receipt) = store(faulty, topology.clone(), &bytes, profile).await?;
    assert!(read(&reader(memory, topology), &sealed).await.unwrap() == bytes);
    Ok(receipt.durable)
}

#[tokio::test]
async fn acknowledged_at_the_quorum_and_refused_below_it() {
    let five = "4+2".parse().unwrap();
    assert_eq!(store_with_down(6, 0, five).await.unwrap(), 6);
    assert_eq!(store_with_down(6, 1, five).await.unwrap(), 5);
    let lost = store_with_down(6, 2, five).await.unwrap_err();
    let UploadError::Lost { source, failed } = &lost else { panic!("{lost}") };
    assert_eq!((source.left, source.quorum, failed.len()), (4, 5, 2));
    // Whoever reads it knows which nodes to look at.
    for node in nodes(6).iter().take(2) {
        assert!(lost.to_string().contains(&format!("node {} cannot be reached", node.name)), "{lost}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_too_small_says_so() {
    let placement = store_with_down(5, 0, "4+2".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(placement, UploadError::Placement(PlacementError::TooFew { need: 6, have: 5, .. })),
        "{placement}"
    );
}

#[tokio::test]
async fn inline_objects_lie_on_several_nodes() {
    let cluster = Cluster::new(6);
    let (sealed, receipt) = cluster.store(b"small").await;
    assert_eq!((receipt.durable, receipt.records), (0, 4));
    assert_eq!(read(&cluster.reader(), &sealed).await.unwrap(), b"small");
}

#[tokio::test]
async fn nodes_hold_no_window_of_the_plaintext() {
    let cluster = Cluster::new(6);
    let bytes = noise(400_000);
    let (_, _) = cluster.store(&bytes).await;
    let windows: HashSet<&[u8]> = bytes.windows(32).collect();
    let mut searched = 0;
    for strip in nodes(6).iter().flat_map(|node| cluster.transport.stored(&node.name)) {
        searched += strip.len();
        assert!(strip.windows(32).all(|window| !windows.contains(window)));
    }
    assert!(searched > bytes.len());
}

/// Two of eight nodes are down. Whatever is drawn, no upload fails, and all that is stored has all its copies.
#[tokio::test]
async fn nodes_that_are_down_cost_no_upload_where_others_can_take_over() {
    let nodes = nodes(8);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let down: Vec<NodeName> = nodes[..2].iter().map(|node| node.name.clone()).collect();
    let fault = move |node: &NodeName| if down.contains(node) { Fault::Down } else { Fault::None };
    let faulty: Arc<dyn Transport> = Arc::new(FaultyTransport::new(memory.clone(), fault));
    for number in 0..20 {
        for length in [10, 100_000, 3_000_000] {
            let bytes = noise(length + usize::from(number));
            let (sealed, receipt) =
                store_at(faulty.clone(), topology.clone(), &bytes, four(), [number; 32]).await.unwrap();
            let columns = if receipt.spread.is_some() { 6 } else { 0 };
            assert!(receipt.durable == columns && receipt.records >= 4, "{length}: {receipt:?}");
            assert!(read(&reader(memory.clone(), topology.clone()), &sealed).await.unwrap() == bytes);
        }
    }
}

/// Stores over 4+2 on nodes of which those in `silent` say nothing and are down. Returns the nodes of the columns.
async fn store_beside(zones: &[usize], silent: &[usize], seed: u8) -> (Vec<usize>, Receipt) {
    let mut nodes = nodes(zones.len());
    for (index, node) in nodes.iter_mut().enumerate() {
        node.place = place(zones[index]);
        node.seen = if silent.contains(&index) { 0 } else { 1_000 };
    }
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let down: Vec<NodeName> = silent.iter().map(|index| nodes[*index].name.clone()).collect();
    let fault = move |node: &NodeName| if down.contains(node) { Fault::Down } else { Fault::None };
    let faulty = Arc::new(FaultyTransport::new(memory, fault));
    let topology = Arc::new(Topology::new(nodes.clone()));
    let (_, receipt) = store_at(faulty, topology, &noise(1_000_000), four(), [seed; 32]).await.unwrap();
    let index = |name: &NodeName| nodes.iter().position(|node| node.name == *name).unwrap();
    (receipt.spread.as_ref().unwrap().nodes.iter().map(index).collect(), receipt)
}

/// A node that says nothing is passed over as long as the columns lie no closer together for it.
#[tokio::test]
async fn nodes_that_are_silent_loosen_no_cap_of_zones() {
    for seed in 0..20 {
        // Zones 0 and 1 have two nodes, the others one.
        let zones = [0, 1, 2, 3, 4, 5, 0, 1];
        let (columns, receipt) = store_beside(&zones, &[0, 5], seed).await;
        assert_eq!((receipt.spread.unwrap().per_zone, receipt.durable), (1, 5));
        assert!(!columns.contains(&0), "the zone has another node");
        assert!(columns.contains(&5), "it is the only one of its zone, and may be back");
    }
}

/// Where the cap of zones would leave less than a quorum, the columns move together.
#[tokio::test]
async fn a_zone_that_is_away_stops_no_upload() {
    for seed in 0..20 {
        let (columns, receipt) = store_beside(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], &[0, 3, 6, 9], seed).await;
        assert_eq!((receipt.spread.unwrap().per_zone, receipt.durable), (3, 6), "{columns:?}");
    }
}

/// Counts the uploads that are begun, and loses the first append to each node.
#[derive(Default)]
struct Losing {
    begun: AtomicUsize,
    appended: Mutex<HashSet<NodeName>>,
}

#[async_trait]
impl Intercept for Losing {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        self.begun.fetch_add(usize::from(call == Call::CreateUpload), Ordering::Relaxed);
        match call == Call::Append && self.appended.lock().unwrap().insert(node.clone()) {
            true => Err(TransportError::TimedOut { node: node.clone() }),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn an_append_that_is_lost_once_costs_no_column_where_there_is_no_other_node() {
    let nodes = nodes(6);
    let losing = Arc::new(Intercepted::over(Arc::new(MemoryTransport::new(&nodes)), Losing::default()));
    let (_, receipt) = store(losing, Arc::new(Topology::new(nodes)), &noise(1_000_000), four()).await.unwrap();
    assert_eq!(receipt.durable, 6);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_given_up_asks_no_other_node() {
    let nodes = nodes(20);
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let counted = Arc::new(Intercepted::over(memory, Losing::default()));
    counted.intercept().appended.lock().unwrap().extend(nodes.iter().map(|node| node.name.clone()));
    let mut uploader = Uploader::begin(counted.clone(), Arc::new(Topology::new(nodes)), [4; 32], vec![], vec![]);
    uploader.send(encode(&noise(100_000), four(), &owner()).stripes[0].clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(uploader);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(counted.intercept().begun.load(Ordering::Relaxed), 6);
}

/// Over a slow uplink all nodes take their time, and none is given up for it; one that is slower than all others is.
#[tokio::test(start_paused = true)]
async fn a_slow_uplink_is_waited_for_and_a_straggler_is_not() {
    let late = |slow: usize, seconds: [u64; 2]| async move {
        let nodes = nodes(6);
        let topology = Arc::new(Topology::new(nodes.clone()));
        let memory = Arc::new(MemoryTransport::new(&nodes));
        let slow: Vec<NodeName> = nodes[..slow].iter().map(|node| node.name.clone()).collect();
        let fault = move |node: &NodeName| Fault::Late(Duration::from_secs(seconds[usize::from(slow.contains(node))]));
        let faulty = Arc::new(FaultyTransport::new(memory, fault));
        let began = Instant::now();
        (store(faulty, topology, &noise(10_000_000), four()).await, began.elapsed().as_secs())
    };
    assert_eq!(late(0, [30, 0]).await.0.unwrap().1.durable, 6);
    let (stored, seconds) = late(1, [1, 1_000]).await;
    assert_eq!(stored.unwrap().1.durable, 5);
    assert!(seconds < 100, "the others waited {seconds} s for it");
    assert!(matches!(late(6, [0, 1_000]).await.0, Err(UploadError::Lost { .. })));
}

fn four() -> Profile {
    Profile::Custom("4+2".parse().unwrap())
}
