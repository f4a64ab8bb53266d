//! Nothing that the owner noted goes by the word of few nodes: by that of most, or by an erasure that the owner signed.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use client::Transport;
use format::{Lease, Locator, OwnerSecret, Record, Retention};
use testing::{Call, Intercepted, noise};
use twin::{Index, LeaseChangeError, PutError, PutOptions, Renewal, State, Tenure, Twin};

use crate::{
    recover::machine,
    small_cluster::{SmallCluster, name, options, quiet},
    telling::{Way, silent},
    unfinished::{BYTES, SMALL, World},
};

/// An hour, and a time after which what ended then is over for long.
const HOUR: u64 = 3600;
const THREE_DAYS: i64 = 3 * 86_400;

fn for_an_hour() -> PutOptions {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + HOUR;
    PutOptions { tenure: Tenure { retention: Retention { keep_until: 0, expires }, ..options().tenure }, ..options() }
}

/// Has all nodes but the first be silent when they are asked for records.
fn one_answers(way: &Way) {
    way.fail(|node, call| (call == Call::Record && *node != name(0)).then(|| silent(node)));
}

/// Returns what an owner's twin makes of an upload.
async fn over(twin: &Twin, locator: Locator) -> &'static str {
    let over = twin.over([locator].into()).await.unwrap();
    match (over.gone.contains(&locator), over.unlisted.contains(&locator), over.untold.contains_key(&locator)) {
        (true, false, false) => "gone",
        (false, true, false) => "unlisted",
        (false, false, true) => "untold",
        (false, false, false) => "lives",
        _ => "told twice",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_lease_at_one_node_ends_no_upload_whose_other_nodes_are_silent() {
    let way = Way::default();
    let cluster = way.cluster();
    let [twin, listing, other] = ["one", "two", "three"].map(|it| machine(&cluster, it));
    let stored = twin.put(&cluster.file("a", b"x"), &for_an_hour(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    listing.recover(&quiet()).await.unwrap();
    let old = cluster.memory.record(&name(0), &locator).await.unwrap();
    twin.renew(&locator, &Renewal { expires: Some(0), ..Renewal::default() }).await.unwrap();
    way.ahead.store(THREE_DAYS, Relaxed);

    one_answers(&way);
    way.show(move |node, record| if *node == name(0) { old.clone() } else { record });
    assert_eq!([over(&listing, locator).await, over(&other, locator).await], ["untold"; 2]);
    way.fail(|_, _| None);
    assert_eq!([over(&listing, locator).await, over(&other, locator).await], ["lives", "unlisted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_over_when_most_nodes_know_no_later_lease_or_one_shows_its_erasure() {
    let way = Way::default();
    let cluster = way.cluster();
    let (twin, other) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let ended = twin.put(&cluster.file("a", b"x"), &for_an_hour(), &quiet()).await.unwrap();
    let erased = twin.put(&cluster.file("b", b"y"), &options(), &quiet()).await.unwrap();
    let [ended, erased] = [ended, erased].map(|it| it.entry.capability.locator());
    twin.remove(&erased).await.unwrap();
    way.ahead.store(THREE_DAYS, Relaxed);
    one_answers(&way);
    assert_eq!([over(&other, ended).await, over(&other, erased).await], ["untold", "gone"]);
    way.mend();
    assert_eq!([over(&other, ended).await, over(&other, erased).await], ["gone"; 2]);
}

/// Another machine of the owner renewed it when this one had begun to erase it, and could tell one node.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_below_a_later_lease_that_lives_on_ends_no_upload() {
    let way = Way::default();
    let cluster = way.cluster();
    let (twin, other) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let stored = twin.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let record = cluster.memory.record(&name(0), &locator).await.unwrap();
    let record = Record::decode(&record.unwrap()).unwrap();
    let lease = Lease { version: 2, erased: true, note: None, ..record.lease.clone() };
    let envelope = lease.sign(&OwnerSecret::from_bytes([1; 32]).keys()).into();
    let erased = Record::of_verified(record.public, None, (lease, envelope), record.placement).unwrap().encode();
    for _ in 0..2 {
        twin.renew(&locator, &Renewal { expires: Some(0), ..Renewal::default() }).await.unwrap();
    }
    way.show(move |node, record| if *node == name(0) { Some(erased.clone().into()) } else { record });
    // The first may be asked too late to count, and then it is as if it were not there.
    assert_eq!(over(&other, locator).await, "unlisted");
}

/// What it tells is a stranger's record, or one whose manifest it holds back.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_lies_has_no_folder_that_goes_on_stored_anew() {
    let world = World::start();
    let folder = world.break_off_folder(&noise(BYTES), options()).await;
    let (way, secret) = (Way::default(), OwnerSecret::from_bytes([1; 32]));
    let twin = || {
        let index = world.cluster.folder.path().join("owner-1/index");
        let network = world.cluster.network_over(Intercepted::over(world.cluster.memory.clone(), way.clone()));
        Twin::new(&secret, Index::open(index, &secret).unwrap(), network)
    };
    let stored = async || -> BTreeSet<Locator> {
        let listed = twin().list().await.into_iter();
        listed.filter(|(_, entry)| entry.state == State::Stored).map(|(locator, _)| locator).collect()
    };
    let before = stored().await;
    assert_eq!(before.len(), SMALL);
    let elsewhere = SmallCluster::start();
    let other = elsewhere.twin(2).put(&elsewhere.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let other = elsewhere.memory.record(&name(0), &other.entry.capability.locator()).await.unwrap().unwrap();
    let other = Arc::new(Record::decode(&other).unwrap());
    one_answers(&way);
    for is_strangers in [true, false] {
        let other = other.clone();
        way.show(move |_, record| {
            let held = Record::decode(&record?).unwrap();
            let lie = if is_strangers {
                let lease = Lease { locator: held.locator(), ..other.lease.clone() };
                let envelope = lease.sign(&OwnerSecret::from_bytes([2; 32]).keys()).into();
                Record { lease, lease_envelope: envelope, ..Record::clone(&other) }
            } else {
                Record { sealed: None, ..held }
            };
            Some(lie.encode().into())
        });
        let failed = twin().put(&folder, &options(), &quiet()).await.unwrap_err();
        assert!(matches!(&failed, PutError::Unasked(LeaseChangeError::Read(_))), "{is_strangers}: {failed:?}");
        assert_eq!(stored().await, before, "{is_strangers}");
    }
    way.mend();
    twin().put(&folder, &options(), &quiet()).await.unwrap();
    assert!(stored().await.is_superset(&before), "what was stored stays");
}
