//! Stable names: what an owner's twin signs.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ReadError, TransportError};
use format::{Locator, NodeName, OwnerSecret, StableName};
use testing::{Call, Intercept, Intercepted};
use twin::{NameChange, NameChangeError, NameTerms, Target};

use crate::small_cluster::{SmallCluster, name as origin, options, quiet};

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
