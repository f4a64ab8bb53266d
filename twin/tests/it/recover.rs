//! The index is no single point of loss: the owner secret alone makes it again, and machines of one owner agree.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Transport, TransportError};
use format::{Label, Lease, NodeName, OwnerSecret, Retention};
use testing::{Call, Intercept, Intercepted, noise, until};
use twin::{
    Index, NameChange, NameTerms, Progress, PutOptions, RecoverError, Recovered, Renewal, Scope, Sooner, Tenure, Twin,
};

use crate::{
    directory::{FewRecords, site},
    small_cluster::{ORIGINS, SmallCluster, name, options, quiet, read_all, zone},
};

/// Another machine of the first owner: the same secret, an index of its own.
pub(crate) fn machine(cluster: &SmallCluster, name: &str) -> Twin {
    let secret = OwnerSecret::from_bytes([1; 32]);
    let index = Index::open(cluster.folder.path().join(name).join("index"), &secret).unwrap();
    Twin::new(&secret, index, cluster.network.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_again_from_the_owner_secret_alone() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let tenure = Tenure {
        refused: vec![zone(7)],
        caps: vec!["zone=2".parse().unwrap()],
        retention: Retention { keep_until: 0, expires: u64::MAX },
        ..options().tenure
    };
    let tagged = PutOptions { tenure, tags: [("premium".to_owned(), 3)].into(), ..options() };
    twin.put(&cluster.file("small", b"x"), &tagged, &quiet()).await.unwrap();
    let large = twin.put(&cluster.file("large.bin", &noise(3 << 20)), &options(), &quiet()).await.unwrap();
    let renewal = Renewal { expires: Some(u64::MAX - 1), sooner: Sooner::Allowed, ..Renewal::default() };
    twin.renew(&large.entry.capability.locator(), &renewal).await.unwrap();
    let named = PutOptions { name: Some("my site".into()), ..options() };
    twin.put(&site(&cluster), &named, &quiet()).await.unwrap();
    let gone = twin.put(&cluster.file("gone", b"y"), &options(), &quiet()).await.unwrap();
    let gone = gone.entry.capability.locator();
    twin.remove(&gone).await.unwrap();
    assert_eq!(cluster.network.reader().record(&gone).await.unwrap().lease.note, None, "nothing is left of its key");
    cluster.twin(2).put(&cluster.file("another's", b"z"), &options(), &quiet()).await.unwrap();
    let before = twin.list().await;
    assert_eq!(before.len(), 12);
    drop(twin);

    fs::remove_dir_all(cluster.folder.path().join("owner-1")).unwrap();
    let twin = cluster.twin(1);
    assert!(twin.list().await.is_empty());
    let recovered = twin.recover(&quiet()).await.unwrap();
    assert_eq!(recovered, Recovered { found: 12, added: 12, ..Recovered::default() });
    assert_eq!(twin.list().await, before);
    assert_eq!(cluster.twin(1).list().await, before, "durably");
    let found = cluster.network.find(&large.entry.capability, &[]).await.unwrap();
    assert_eq!(read_all(&cluster.network, &found).await.unwrap(), noise(3 << 20));
    let again = twin.recover(&quiet()).await.unwrap();
    assert_eq!(again, Recovered { found: 12, ..Recovered::default() });
    let strangers = cluster.twin(3).recover(&quiet()).await.unwrap();
    assert_eq!(strangers, Recovered::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_of_one_owner_come_to_the_same_list() {
    let cluster = SmallCluster::start();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let top = site(&cluster);
    let folder = one.put(&top, &options(), &quiet()).await.unwrap();
    let file = two.put(&cluster.file("file", &noise(300_000)), &options(), &quiet()).await.unwrap();
    assert_eq!(one.recover(&quiet()).await.unwrap().added, 1);
    assert_eq!(two.recover(&quiet()).await.unwrap().added, 10);
    let all = one.list().await;
    assert_eq!((two.list().await, all.len()), (all.clone(), 11));

    // What one renews and erases the other learns.
    let renewal = Renewal { expires: Some(u64::MAX), sooner: Sooner::Allowed, ..Renewal::default() };
    one.renew(&file.entry.capability.locator(), &renewal).await.unwrap();
    one.remove(&folder.entry.capability.locator()).await.unwrap();
    let learned = two.recover(&quiet()).await.unwrap();
    assert_eq!((learned.added, learned.updated, learned.forgotten), (0, 1, 10));
    let left = two.list().await;
    assert_eq!((one.list().await, left.len()), (left.clone(), 1));
    assert_eq!(left.values().next().unwrap().tenure.retention.expires, u64::MAX);
    // A folder that one stored, the other removes whole.
    let folder = one.put(&top, &options(), &quiet()).await.unwrap();
    two.recover(&quiet()).await.unwrap();
    assert_eq!(two.remove(&folder.entry.capability.locator()).await.unwrap().ended.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_did_not_end_is_found_and_is_still_one_thing() {
    let few = FewRecords(AtomicUsize::new(20 * 4));
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, few)));
    for file in 0..40 {
        cluster.file(&format!("many/f{file}"), b"small");
    }
    let twin = cluster.twin(1);
    twin.put(&cluster.folder.path().join("many"), &options(), &quiet()).await.unwrap_err();
    let other = machine(&cluster, "other");
    let recovered = other.recover(&quiet()).await.unwrap();
    assert!(recovered.added >= 15, "{recovered:?}");
    let secret = OwnerSecret::from_bytes([1; 32]);
    let list = Index::open(cluster.folder.path().join("other/index"), &secret).unwrap().list(Scope::Tops);
    assert_eq!((list.len(), list[0].path.as_str(), list[0].is_finished), (1, "unfinished", false), "{list:?}");
    assert_eq!(list[0].objects, recovered.added);
    let removed = other.remove(&list[0].locator).await.unwrap();
    assert_eq!(removed.ended.len(), recovered.added);
}

/// A machine whose clock is ahead takes leases for ended that the nodes keep. It is the nodes that end them.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_by_this_clock_alone_is_recovered() {
    let cluster = SmallCluster::start();
    let stored = machine(&cluster, "one").put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let lease = cluster.network.reader().record(&locator).await.unwrap().lease;
    let past = Lease { version: 2, retention: Retention { keep_until: 0, expires: 1 }, ..lease };
    let envelope = Bytes::from(past.sign(&OwnerSecret::from_bytes([1; 32]).keys()));
    for origin in 0..ORIGINS {
        // Those that have no record refuse.
        let _ = cluster.memory.put_lease(&name(origin), &locator, envelope.clone()).await;
    }
    let other = machine(&cluster, "other");
    assert_eq!(other.recover(&quiet()).await.unwrap().added, 1);
    assert_eq!(other.list().await[&locator].tenure.retention.expires, 1);
    let one = machine(&cluster, "one");
    assert_eq!(one.recover(&quiet()).await.unwrap().updated, 1);
    assert_eq!(one.list().await, other.list().await);
}

/// Origins of which so many do not list what they have.
struct Silent(usize, AtomicUsize);

#[async_trait]
impl Intercept for Silent {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::Locators && self.1.fetch_add(1, Relaxed) < self.0 {
            return Err(TransportError::TimedOut { node: node.clone() });
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_origin_that_lists_is_enough_and_none_is_an_error() {
    for silent in [ORIGINS - 1, ORIGINS] {
        let few = Silent(silent, AtomicUsize::new(0));
        let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, few)));
        let stored = machine(&cluster, "one").put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
        let other = machine(&cluster, "other");
        let recovered = other.recover(&quiet()).await;
        if silent == ORIGINS {
            assert!(matches!(recovered, Err(RecoverError::NoNode { source: Some(_) })), "{recovered:?}");
        } else {
            let recovered = recovered.unwrap();
            assert_eq!((recovered.added, recovered.silent.len()), (1, silent), "{recovered:?}");
            let listed: BTreeSet<_> = other.list().await.into_keys().collect();
            assert_eq!(listed, [stored.entry.capability.locator()].into());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_again_by_what_their_owner_calls_them() {
    let cluster = SmallCluster::start();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let put = async |text: &str| one.put(&cluster.file("page", text.as_bytes()), &options(), &quiet()).await.unwrap();
    let (first, second) = (put("first").await, put("second").await);
    let set = async |twin: &Twin, label: &Label| {
        twin.point("my site", &NameChange::Set(label.clone()), NameTerms::default()).await.unwrap()
    };
    let named = set(&one, &first.label).await;
    assert_eq!(two.recover(&quiet()).await.unwrap().added, 3);
    let [(entry, state)] = &two.names().await[..] else { panic!("one name") };
    assert_eq!((entry.path.as_str(), entry.label(), state), ("my site", named.label.clone(), &named.state));
    // The other machine moves it, and the first one hears of that.
    set(&two, &second.label).await;
    let recovered = one.recover(&quiet()).await.unwrap();
    assert_eq!((recovered.added, recovered.updated), (0, 1));
    let versions: Vec<u64> = one.names().await[0].1.moves.iter().map(|it| it.version).collect();
    assert_eq!(versions, [1, 2]);
    assert_eq!(one.recover(&quiet()).await.unwrap(), Recovered { found: 3, ..Recovered::default() });
    // What it stands for is gone, and the name is still the owner's.
    one.remove(&second.label.capability().locator()).await.unwrap();
    assert_eq!(machine(&cluster, "three").recover(&quiet()).await.unwrap().added, 2);
}

/// A node that gives an old record of one object.
#[derive(Clone, Default)]
struct Stale(Arc<Mutex<Option<(NodeName, Bytes)>>>);

#[async_trait]
impl Intercept for Stale {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        let stale = self.0.lock().unwrap().clone();
        stale.filter(|(liar, _)| liar == node).map_or(record, |(_, old)| Some(old))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_lease_is_recovered_whichever_node_gives_an_old_one() {
    let stale = Stale::default();
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, stale.clone())));
    let one = machine(&cluster, "one");
    let stored = one.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let old = cluster.memory.record(&name(0), &locator).await.unwrap().unwrap();
    one.renew(&locator, &Renewal { expires: Some(u64::MAX), sooner: Sooner::Allowed, ..Renewal::default() })
        .await
        .unwrap();
    for liar in 0..ORIGINS {
        *stale.0.lock().unwrap() = Some((name(liar), old.clone()));
        let other = machine(&cluster, &format!("other-{liar}"));
        assert_eq!(other.recover(&quiet()).await.unwrap().added, 1);
        assert_eq!(other.list().await, one.list().await, "{liar}");
    }
}

/// Origins that never answer again once so many objects were looked at.
#[derive(Clone, Default)]
struct Stalled {
    left: Arc<AtomicUsize>,
    is_stalled: Arc<AtomicBool>,
}

impl Progress for Stalled {
    fn lease(&self) {
        let _ = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
    }
}

#[async_trait]
impl Intercept for Stalled {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::Record && self.left.load(Relaxed) == 0 {
            self.is_stalled.store(true, Relaxed);
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_before_a_recovery_was_cut_short_is_kept_and_the_rest_is_found_again() {
    let stalled = Stalled::default();
    stalled.left.store(usize::MAX, Relaxed);
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, stalled.clone())));
    let one = machine(&cluster, "one");
    for file in 0..100 {
        one.put(&cluster.file(&format!("f{file}"), b"small"), &options(), &quiet()).await.unwrap();
        cluster.file(&format!("many/d{}/f{file}", file % 3), b"small");
    }
    one.put(&cluster.folder.path().join("many"), &options(), &quiet()).await.unwrap();
    let whole = one.list().await;
    let list = async || machine(&cluster, "other").list().await;

    // 64 objects are looked at at a time, and each 64 are written.
    stalled.left.store(140, Relaxed);
    let (other, progress) = (machine(&cluster, "other"), Arc::new(stalled.clone()));
    let recovery = tokio::spawn(async move { other.recover(&(progress as Arc<dyn Progress>)).await });
    until("the recovery stalls", async || stalled.is_stalled.load(Relaxed)).await;
    recovery.abort();
    assert!(recovery.await.unwrap_err().is_cancelled());
    let found = list().await;
    assert!(!found.is_empty() && found.len() < whole.len(), "{}", found.len());
    assert!(found.iter().all(|(locator, entry)| whole[locator] == *entry));
    stalled.left.store(usize::MAX, Relaxed);
    let recovered = machine(&cluster, "other").recover(&quiet()).await.unwrap();
    assert_eq!((recovered.added, recovered.updated), (whole.len() - found.len(), 0));
    assert_eq!(list().await, whole);
}
