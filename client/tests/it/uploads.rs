//! Uploads to clusters with faults: an upload is either acknowledged and durable, or an error.

use std::sync::Arc;

use client::{PlacementError, Topology, UploadError};
use format::{NodeName, Profile};
use testing::{Fault, FaultyTransport, MemoryTransport, noise};

use crate::cluster::{Cluster, nodes, read, reader, store};

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
