//! Stable names: what an owner's twin signs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ReadError, TransportError};
use format::{Label, Locator, NodeName, OwnerSecret, StableName};
use testing::{Call, Intercept, Intercepted};
use twin::{Entry, Index, NameChange, NameChangeError, NameTerms, State, Target, Twin};

use crate::{
    directory::FewRecords,
    recover::machine,
    small_cluster::{SmallCluster, name as origin, options, quiet},
};

/// Nodes that give an old record in place of a name's, or none, when they are told so.
#[derive(Clone, Default)]
struct Behind(Arc<Mutex<Option<Option<Bytes>>>>);

#[async_trait]
impl Intercept for Behind {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn record(&self, _: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        let old = self.0.lock().unwrap().clone();
        let is_name = |record: &Bytes| format::Record::decode(record).is_ok_and(|record| record.public.is_name());
        if record.as_ref().is_some_and(is_name) { old.unwrap_or(record) } else { record }
    }
}

/// As after the cluster was restored from a backup that is older than the owner's index.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_goes_on_from_what_the_index_knows_where_nodes_have_less() {
    let behind = Behind::default();
    let cluster = SmallCluster::over(|memory| Arc::new(Intercepted::over(memory, behind.clone())));
    let twin = cluster.twin(1);
    let put =
        async |text: &str| twin.put(&cluster.file("page", text.as_bytes()), &options(), &quiet()).await.unwrap().label;
    let point = async |change| twin.point("site", &change, NameTerms::default()).await;
    let (first, second, third) = (put("first").await, put("second").await, put("third").await);
    let terms = NameTerms { seconds: Some(5), ..NameTerms::default() };
    let made = twin.point("site", &NameChange::New(first), NameTerms::default()).await.unwrap();
    assert_eq!((made.is_new, made.behind), (true, None));
    let locator: Locator = made.label.capability().locator();
    let old = client::Transport::record(&*cluster.memory, &origin(0), &locator).await.unwrap();
    twin.point("site", &NameChange::Set(second.clone()), terms).await.unwrap();
    let stands_for = async || {
        *behind.0.lock().unwrap() = None;
        cluster.network.stands_for(&made.label).await.unwrap()
    };
    for (given, had, version) in [(old.clone(), 1, 3), (None, 0, 4)] {
        *behind.0.lock().unwrap() = Some(given);
        let there = point(NameChange::New(third.clone())).await;
        assert!(matches!(there, Err(NameChangeError::Exists { .. })), "{there:?}");
        let renewed = point(NameChange::Renew).await.unwrap();
        assert_eq!((renewed.behind, renewed.entry.tenure.version, renewed.is_new), (Some(had), version, false));
        assert_eq!((stands_for().await, renewed.state.seconds), (second.capability().clone(), 5));
    }
    *behind.0.lock().unwrap() = Some(old.clone());
    let moved = point(NameChange::Move(third.clone())).await.unwrap();
    assert_eq!((moved.behind, moved.entry.tenure.version), (Some(1), 5));
    assert_eq!(stands_for().await, *third.capability());
    assert_eq!(point(NameChange::Renew).await.unwrap().behind, None);
    // Neither the nodes nor the index say what to renew it for.
    twin.remove(&third.capability().locator()).await.unwrap();
    *behind.0.lock().unwrap() = Some(old);
    let refused = point(NameChange::Renew).await;
    assert!(matches!(refused, Err(NameChangeError::Read(ReadError::Old { .. }))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_however_it_is_written_and_one_that_ends_is_told_before_anything_is_stored() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let stored = twin.put(&cluster.file("page", b"first"), &options(), &quiet()).await.unwrap();
    // The accents by themselves make it longer than a name may be.
    let (apart, composed) = ("e\u{301}".repeat(127), "\u{e9}".repeat(127));
    twin.check_name(&apart).await.unwrap();
    let made = twin.point(&apart, &NameChange::Set(stored.label.clone()), NameTerms::default()).await.unwrap();
    assert_eq!(made.entry.path, composed);
    let moved = twin.point(&composed, &NameChange::Set(stored.label), NameTerms::default()).await.unwrap();
    assert_eq!((moved.label, moved.is_new), (made.label, false));

    // A removal of it that was cut short.
    let path = cluster.folder.path().join("owner-1/index");
    let ending = Entry { state: State::Ending, ..moved.entry };
    Index::open(path, &OwnerSecret::from_bytes([1; 32])).unwrap().record(ending).unwrap();
    let refused = cluster.twin(1).check_name(&apart).await;
    assert!(matches!(refused, Err(NameChangeError::Ending { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_no_node_took_is_none() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let stored = twin.put(&cluster.file("page", b"first"), &options(), &quiet()).await.unwrap();
    let site = StableName::derive(&OwnerSecret::from_bytes([1; 32]), "site").unwrap();
    let absent = twin.point("site", &NameChange::Renew, NameTerms::default()).await;
    assert!(matches!(absent, Err(NameChangeError::Unknown { .. })), "{absent:?}");
    twin.point("site", &NameChange::New(stored.label.clone()), NameTerms::default()).await.unwrap();
    let chain = twin.point("other", &NameChange::New(site.label()), NameTerms::default()).await;
    assert!(matches!(chain, Err(NameChangeError::Chain)), "{chain:?}");
    // What it stands for goes, and it is renewed all the same.
    twin.remove(&stored.entry.capability.locator()).await.unwrap();
    assert_eq!(twin.point("site", &NameChange::Renew, NameTerms::default()).await.unwrap().entry.tenure.version, 2);
    // A name is ended where it stands now.
    let target: Target = site.label().to_string().parse().unwrap();
    twin.remove(&twin.whole(&target).await.unwrap()).await.unwrap();
    let ended = twin.point("site", &NameChange::Set(stored.label), NameTerms::default()).await;
    assert!(matches!(ended, Err(NameChangeError::Ended { .. })), "{ended:?}");
    assert!(twin.names().await.is_empty());
}

/// A cluster whose nodes take so many records more. The nodes in memory share what one of them took.
fn few() -> (SmallCluster, Arc<Intercepted<FewRecords>>) {
    let mut few = None;
    let cluster = SmallCluster::over(|memory| {
        let over = Arc::new(Intercepted::over(memory, FewRecords(AtomicUsize::new(usize::MAX))));
        few.insert(over).clone()
    });
    (cluster, few.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_too_few_nodes_took_leaves_the_index_as_it_was() {
    let (cluster, few) = few();
    let twin = cluster.twin(1);
    let put =
        async |text: &str| twin.put(&cluster.file("page", text.as_bytes()), &options(), &quiet()).await.unwrap().label;
    let (first, second) = (put("first").await, put("the second").await);
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1000 * 86_400;
    let terms = NameTerms { fresh_until: Some(until), seconds: Some(5) };
    twin.point("site", &NameChange::New(first), terms).await.unwrap();
    let before = twin.names().await;
    let other = NameTerms { fresh_until: Some(until + 1), seconds: Some(6) };
    for taken in [0, 1] {
        for change in [NameChange::Renew, NameChange::Set(second.clone()), NameChange::Move(second.clone())] {
            few.intercept().0.store(taken, Relaxed);
            let failed = twin.point("site", &change, other).await;
            assert!(matches!(failed, Err(NameChangeError::File(_))), "{failed:?}");
            let [(entry, state)] = &twin.names().await[..] else { panic!("one name") };
            assert_eq!((state, entry.length, entry.batch), (&before[0].1, 5, before[0].0.batch));
        }
    }
    few.intercept().0.store(usize::MAX, Relaxed);
    twin.point("site", &NameChange::Set(second), other).await.unwrap();
    assert_eq!((twin.names().await[0].0.length, twin.names().await[0].1.fresh_until), (10, until + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_not_asked_for_is_never_an_earlier_one() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let label = twin.put(&cluster.file("page", b"x"), &options(), &quiet()).await.unwrap().label;
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1000 * 86_400;
    let end = async |change, fresh_until| {
        let terms = NameTerms { fresh_until, ..NameTerms::default() };
        twin.point("site", &change, terms).await.unwrap().state.fresh_until
    };
    let set = || NameChange::Set(label.clone());
    assert!(end(set(), None).await < until);
    assert_eq!(end(NameChange::Renew, Some(until)).await, until);
    for change in [set(), NameChange::Move(label.clone()), NameChange::Renew] {
        assert_eq!(end(change, None).await, until);
    }
    assert_eq!(end(set(), Some(until - 1)).await, until - 1, "as the owner says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_too_few_nodes_took_is_made_by_the_same_call_again() {
    for taken in [0, 1] {
        let (cluster, few) = few();
        let twin = cluster.twin(1);
        let put = async |text: &str| {
            twin.put(&cluster.file("page", text.as_bytes()), &options(), &quiet()).await.unwrap().label
        };
        let (first, second) = (put("first").await, put("the second").await);
        let make = async |twin: &Twin, label: &Label| {
            twin.point("site", &NameChange::New(label.clone()), NameTerms::default()).await
        };
        for label in [&first, &second] {
            few.intercept().0.store(taken, Relaxed);
            let failed = make(&twin, label).await;
            assert!(matches!(failed, Err(NameChangeError::File(_))), "{failed:?}");
            assert!(twin.names().await.is_empty());
        }
        few.intercept().0.store(usize::MAX, Relaxed);
        if taken == 1 {
            // For another machine it is a name, or about to be one.
            let exists = make(&machine(&cluster, "other"), &second).await;
            assert!(matches!(exists, Err(NameChangeError::Exists { .. })), "{exists:?}");
        }
        let made = make(&twin, &second).await.unwrap();
        assert!(made.is_new);
        assert_eq!(cluster.network.stands_for(&made.label).await.unwrap(), *second.capability());
        let exists = make(&twin, &first).await;
        assert!(matches!(exists, Err(NameChangeError::Exists { .. })), "{exists:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_machine_made_meanwhile_is_there() {
    let (cluster, few) = few();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let label = one.put(&cluster.file("page", b"x"), &options(), &quiet()).await.unwrap().label;
    let make = async |twin: &Twin| twin.point("site", &NameChange::New(label.clone()), NameTerms::default()).await;
    few.intercept().0.store(0, Relaxed);
    make(&one).await.unwrap_err();
    few.intercept().0.store(usize::MAX, Relaxed);
    make(&two).await.unwrap();
    let exists = make(&one).await;
    assert!(matches!(exists, Err(NameChangeError::Exists { .. })), "{exists:?}");
}
