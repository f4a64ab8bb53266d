//! Publishing: each version names the one before it, and its blobs arrive before its manifest.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use client::Transport;
use format::{BlobId, PolicyManifest, PolicyName};
use twin::{POLICY_SECONDS, PolicySource, PublishError};

use crate::small_cluster::{ORIGINS, SmallCluster, name};

#[tokio::test(flavor = "multi_thread")]
async fn versions_follow_each_other_and_blobs_are_there() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let policy = "europe".parse().unwrap();
    let mut parent = None;
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut sequences = vec![begun - 1];
    for number in 1..4 {
        let text = format!("[[link]]\nuse = \"geo\"\nttl = {number}\n[[link]]\nuse = \"ttl\"\n");
        let source = PolicySource::parse(&text, Path::new("")).unwrap();
        let published = twin.publish(&policy, &source).await.unwrap();
        assert_eq!(published.manifest.parent, parent);
        // The number is the clock in seconds, or the last number plus one within the same second.
        assert!(sequences.iter().all(|before| *before < published.manifest.sequence), "{sequences:?}");
        sequences.push(published.manifest.sequence);
        assert_eq!(published.nodes, ORIGINS);
        let envelope = cluster.memory.policy(&name(7), &twin.owner(), &policy).await.unwrap().unwrap();
        assert_eq!(PolicyManifest::open(&envelope).unwrap(), published.manifest);
        parent = Some(BlobId::of(&envelope));
        for link in &published.manifest.links {
            for blob in [link.component, link.config] {
                assert!(cluster.memory.blob(&name(0), &blob).await.unwrap().is_some());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_nothing_is_published() {
    let cluster = SmallCluster::start();
    (0..ORIGINS).for_each(|origin| cluster.memory.remove(&name(origin)));
    let source = PolicySource::parse("[[link]]\nuse = \"geo\"\n", Path::new("")).unwrap();
    let failed = cluster.twin(1).publish(&"europe".parse().unwrap(), &source).await;
    assert!(matches!(failed, Err(PublishError::NoNode { source: Some(_) })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_edges_have_built_in_is_not_published() {
    let cluster = SmallCluster::start();
    let source = PolicySource::parse("[[link]]\nuse = \"geo\"\n", Path::new("")).unwrap();
    let refused = cluster.twin(1).publish(&PolicyName::DEFAULT.parse().unwrap(), &source).await.unwrap_err();
    assert!(matches!(refused, PublishError::BuiltIn { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_policy_ends_and_is_renewed_with_the_same_rules() {
    let cluster = SmallCluster::start();
    let (twin, name): (_, PolicyName) = (cluster.twin(1), "europe".parse().unwrap());
    let missing = twin.renew_policy(&name, 0).await.unwrap_err();
    assert!(matches!(missing, PublishError::NoPolicy { .. }), "{missing}");
    let source = PolicySource::parse("[[link]]\nuse = \"geo\"\n", Path::new("")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = twin.publish(&name, &source).await.unwrap().manifest;
    assert!((now + POLICY_SECONDS..now + POLICY_SECONDS + 60).contains(&first.expires), "{}", first.expires);
    let stranger = cluster.twin(2).renew_policy(&name, 0).await;
    assert!(matches!(stranger, Err(PublishError::NoPolicy { .. })));
    for expires in [now + 9, 0] {
        let renewed = twin.renew_policy(&name, expires).await.unwrap();
        assert!(renewed.nodes == ORIGINS && renewed.manifest.sequence > first.sequence, "{renewed:?}");
        assert_eq!((renewed.manifest.expires, &renewed.manifest.links), (expires, &first.links));
    }
}
