//! One name has one content for whoever reads it, also when its owner is the attacker.

use std::sync::Arc;

use client::{ReadError, RepairError, RepairPlan, repair};
use format::{BlockIndex, DecodeError, NodeName, RebuildError, Redundancy, StripeIndex};
use testing::{Encoded, equivocal};

use crate::cluster::{Cluster, lease, owner, reader};

const COLUMNS: usize = 6;

/// Stores an object with the strips of these columns from another content, and returns where they lie.
async fn stored(cluster: &Cluster, of_b: &[usize]) -> (Encoded, Vec<NodeName>) {
    let redundancy: Redundancy = "4+2".parse().unwrap();
    let encoded = equivocal(redundancy, owner().id(), |column| of_b.contains(&column));
    let envelope = lease(&encoded.sealed, &owner()).sign(&owner()).into();
    let receipt = encoded.upload(cluster.transport.clone(), cluster.topology.clone(), [4; 32], envelope).await.unwrap();
    (encoded, receipt.placement.into_iter().flatten().collect())
}

#[tokio::test]
async fn readers_of_an_object_that_is_no_codeword_get_the_same_bytes_or_an_error() {
    for of_b in [&[0][..], &[3], &[4], &[4, 5], &[1, 2]] {
        let expected = |column: usize| vec![if of_b.contains(&column) { b'b' } else { b'a' }; 64 * 1024];
        let (mut read, mut refused) = (0, 0);
        for gone in (0..COLUMNS).flat_map(|a| (a..COLUMNS).map(move |b| [a, b])) {
            let cluster = Cluster::new(COLUMNS);
            let (encoded, nodes) = stored(&cluster, of_b).await;
            gone.iter().for_each(|column| cluster.transport.remove(&nodes[*column]));
            let reader = reader(cluster.transport.clone(), cluster.topology.clone());
            let (object, record) = reader.object(&encoded.sealed.capability).await.unwrap();
            for wanted in [&[0][..], &[1], &[2], &[3], &[0, 1, 2, 3]] {
                match reader.blocks(&object, &record.placement, StripeIndex(0), wanted).await {
                    Ok(found) => {
                        read += 1;
                        for ((block, bytes), column) in found.blocks.iter().zip(wanted) {
                            assert_eq!(*block, BlockIndex(*column as u64));
                            assert!(*bytes == expected(*column), "{of_b:?} of another content, without {gone:?}");
                        }
                    }
                    Err(ReadError::Decode(DecodeError::Inconsistent { .. })) => refused += 1,
                    Err(error) => panic!("{of_b:?}, without {gone:?}: {error}"),
                }
            }
        }
        assert!(read > 0 && refused > 0, "{of_b:?}: {read} read, {refused} refused");
    }
}

#[tokio::test]
async fn nobody_repairs_what_is_no_codeword() {
    let cluster = Cluster::new(COLUMNS + 1);
    let (encoded, nodes) = stored(&cluster, &[2]).await;
    let free = cluster.topology.origins().into_iter().find(|node| !nodes.contains(&node.name)).unwrap().name;
    cluster.transport.remove(&nodes[2]);
    let sources = [0, 1, 3, 4, 5].map(|column| (column, nodes[column].clone())).to_vec();
    let public = encoded.sealed.public.clone();
    let plan = RepairPlan { public, sources, targets: vec![(2, free.clone())], bytes_per_second: None };
    let transport: Arc<dyn client::Transport> = cluster.transport.clone();
    let error = repair(&transport, plan).await.unwrap_err();
    assert!(matches!(error, RepairError::Rebuild(RebuildError::Inconsistent { .. })), "{error}");
    assert_eq!(cluster.transport.uploads(&free), 0, "the session is ended");
}
