//! Uploads to clusters with faults: an upload is either acknowledged and durable, or an error.

use std::sync::Arc;

use client::{PlacementError, Topology, Transport, UploadError};
use format::{NodeName, Profile};
use testing::{Fault, FaultyTransport, MemoryTransport, noise};

use crate::cluster::{Cluster, nodes, place, read, reader, store};

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
    let windows: std::collections::HashSet<&[u8]> = bytes.windows(32).collect();
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
        for length in [10 + number, 100_000 + number, 3_000_000 + number] {
            let bytes = noise(length);
            let four = Profile::Custom("4+2".parse().unwrap());
            let (sealed, receipt) = store(faulty.clone(), topology.clone(), &bytes, four).await.unwrap();
            let (columns, records) = if receipt.spread.is_some() { (6, 3) } else { (0, 4) };
            assert!(receipt.durable == columns && receipt.records >= records, "{length}: {receipt:?}");
            assert!(read(&reader(memory.clone(), topology.clone()), &sealed).await.unwrap() == bytes);
        }
    }
}

/// A node that says nothing is passed over as long as the columns lie no closer together for it.
#[tokio::test]
async fn nodes_that_are_silent_loosen_no_cap_of_zones() {
    let spread = async |silent: usize| {
        let mut nodes = nodes(8);
        for (index, node) in nodes.iter_mut().enumerate() {
            node.place = place(index % 6);
            node.seen = if index == silent { 0 } else { 1_000 };
        }
        let memory = Arc::new(MemoryTransport::new(&nodes));
        let four = Profile::Custom("4+2".parse().unwrap());
        let (_, receipt) =
            store(memory, Arc::new(Topology::new(nodes.clone())), &noise(1_000_000), four).await.unwrap();
        let spread = receipt.spread.unwrap();
        assert_eq!((spread.per_zone, receipt.durable), (1, 6));
        spread.nodes.contains(&nodes[silent].name)
    };
    assert!(!spread(0).await, "the zone has another node");
    assert!(spread(5).await, "it is the only one of its zone, and may be back");
}

/// Over a slow uplink all nodes take their time, and none is given up for it; one that is slower than all others is.
#[tokio::test(start_paused = true)]
async fn a_slow_uplink_is_waited_for_and_a_straggler_is_not() {
    let late = |slow: usize, seconds: [u64; 2]| async move {
        let nodes = nodes(6);
        let topology = Arc::new(Topology::new(nodes.clone()));
        let memory = Arc::new(MemoryTransport::new(&nodes));
        let slow: Vec<NodeName> = nodes[..slow].iter().map(|node| node.name.clone()).collect();
        let fault = move |node: &NodeName| {
            Fault::Late(std::time::Duration::from_secs(seconds[usize::from(slow.contains(node))]))
        };
        let faulty = Arc::new(FaultyTransport::new(memory, fault));
        store(faulty, topology, &noise(10_000_000), Profile::Custom("4+2".parse().unwrap())).await
    };
    assert_eq!(late(0, [30, 0]).await.unwrap().1.durable, 6);
    assert_eq!(late(1, [1, 1_000]).await.unwrap().1.durable, 5);
    assert!(matches!(late(6, [0, 1_000]).await, Err(UploadError::Lost { .. })));
}
