//! A program that runs for long goes on with removals that were cut short.

use std::{collections::BTreeSet, time::Duration};

use client::TransportError;
use format::{Locator, NodeName, OwnerSecret};
use testing::Call;
use tokio::time::Instant;
use twin::{Batch, Entry, Index, LeaseChangeError, Position, State};

use crate::{
    directory::site,
    recover::machine,
    small_cluster::{name, options, quiet},
    telling::{Way, silent},
};

fn full(node: &NodeName) -> TransportError {
    TransportError::Failed { node: node.clone(), status: 507, reason: "the disk is full".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_full_disks_cut_short_is_gone_on_with_until_it_is_done() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = machine(&cluster, "one");
    let folder = twin.put(&site(&cluster), &options(), &quiet()).await.unwrap();
    let file = twin.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let stays = twin.put(&cluster.file("b", b"y"), &options(), &quiet()).await.unwrap();
    let [folder, file, stays] = [folder, file, stays].map(|it| it.entry.capability.locator());
    assert!(twin.ending().await.unwrap().is_empty());
    way.fail(|node, call| (call == Call::PutLease && *node != name(1)).then(|| full(node)));
    let (_, failed) = twin.remove_all(&[folder, file].into(), &quiet()).await.unwrap();
    assert_eq!(failed.len(), 2);

    // Another process of the same owner.
    let twin = machine(&cluster, "one");
    let ending = twin.ending().await.unwrap();
    assert_eq!(ending.keys().copied().collect::<BTreeSet<_>>(), [folder, file].into());
    let all: usize = ending.values().map(|family| family.len()).sum();
    assert_eq!(all + 1, twin.list().await.len(), "the folder stands for all in it");
    let began = Instant::now();
    let (removed, failed) = twin.end_again(ending.clone()).await.unwrap();
    assert!(removed.ended.is_empty() && failed.len() == 2, "{removed:?}");
    assert!(failed.values().all(|error| matches!(error, LeaseChangeError::TooFew { .. })), "{failed:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "no call is made again: {:?}", began.elapsed());
    assert_eq!(twin.ending().await.unwrap(), ending, "they stay listed as ending");
    way.mend();
    let (removed, failed) = twin.end_again(ending).await.unwrap();
    assert_eq!((removed.ended.len(), failed.len()), (all, 0));
    assert!(twin.ending().await.unwrap().is_empty());
    assert_eq!(twin.list().await.into_keys().collect::<Vec<_>>(), [stays]);
}

#[tokio::test(start_paused = true)]
async fn tries_before_nodes_that_are_away_write_nothing_to_the_index() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = machine(&cluster, "one");
    let stored = twin.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    way.fail(|node, call| (call == Call::PutLease).then(|| silent(node)));
    twin.remove(&stored.entry.capability.locator()).await.unwrap_err();
    let length = || std::fs::metadata(cluster.folder.path().join("one/index")).unwrap().len();
    let before = length();
    for call in [Call::PutLease, Call::Record] {
        way.fail(move |node, it| (it == call).then(|| silent(node)));
        let (_, failed) = twin.end_again(twin.ending().await.unwrap()).await.unwrap();
        assert_eq!(failed.len(), 1);
    }
    assert_eq!(length(), before);
}

/// A `put` may go on with the other files of a folder that did not end, and a stored folder is not what an attempt left
/// beside it.
#[test]
fn only_the_top_of_a_folder_takes_all_of_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let secret = OwnerSecret::from_bytes([7; 32]);
    let mut index = Index::open(folder.path().join("index"), &secret).unwrap();
    let entry = |number: u8, batch: u8, position, state| Entry {
        capability: format::Capability::from_bytes([number; 32]),
        batch: Batch([batch; 16]),
        position,
        state,
        ..crate::index::entry(9)
    };
    use Position::{Inner, Top};
    use State::{Committing, Ending, Stored};
    let entries = [
        entry(1, 1, Top, Ending),
        entry(2, 1, Inner, Stored),
        entry(3, 2, Inner, Ending),
        entry(4, 2, Inner, Stored),
        entry(5, 3, Top, Stored),
        entry(6, 3, Top, Ending),
        entry(7, 3, Inner, Ending),
        entry(8, 3, Inner, Stored),
        entry(9, 4, Top, Committing),
    ];
    index.record_all(entries).unwrap();
    let locator = |number: u8| format::Capability::from_bytes([number; 32]).locator();
    let ending: BTreeSet<(Locator, Vec<Locator>)> =
        index.ending().into_iter().map(|(top, family)| (top, family.into_keys().collect())).collect();
    let sorted = |numbers: &[u8]| {
        let mut all: Vec<_> = numbers.iter().map(|it| locator(*it)).collect();
        all.sort();
        all
    };
    let alone = |number: u8| (locator(number), vec![locator(number)]);
    assert_eq!(ending, [(locator(1), sorted(&[1, 2])), alone(3), alone(6), alone(7)].into());
}
