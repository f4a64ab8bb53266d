//! Stable names: what an owner's twin signs.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ReadError, TransportError};
use format::{Label, Locator, NodeName, OwnerSecret, StableName};
use testing::{Call, Intercept, Intercepted};
use twin::{NameChange, NameChangeError, NameTerms, Target};

use crate::small_cluster::{SmallCluster, name as origin, options, quiet};

/// Nodes that give an old record in place of one, when they are told so.
#[derive(Clone, Default)]
struct Behind(Arc<Mutex<Option<Bytes>>>);

#[async_trait]
impl Intercept for Behind {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn record(&self, _: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        let old = self.0.lock().unwrap().clone();
        let is_name = |record: &Bytes| format::Record::decode(record).is_ok_and(|record| record.public.is_name());
        record.map(|record| old.filter(|_| is_name(&record)).unwrap_or(record))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_signs_nothing_older_than_what_the_index_knows() {
    let behind = Behind::default();
    let cluster = SmallCluster::over(|memory| Arc::new(Intercepted::over(memory, behind.clone())));
    let twin = cluster.twin(1);
    let put =
        async |text: &str| twin.put(&cluster.file("page", text.as_bytes()), &options(), &quiet()).await.unwrap().label;
    let set = async |label: Label| twin.point("site", &NameChange::Set(label), NameTerms::default()).await;
    let (first, second) = (put("first").await, put("second").await);
    let made = set(first).await.unwrap();
    let locator: Locator = made.label.capability().locator();
    let old = client::Transport::record(&*cluster.memory, &origin(0), &locator).await.unwrap();
    set(second.clone()).await.unwrap();
    *behind.0.lock().unwrap() = old;
    let renew = async || twin.point("site", &NameChange::Renew, NameTerms::default()).await;
    let refused = renew().await;
    assert!(matches!(refused, Err(NameChangeError::Read(ReadError::Old { .. }))), "{refused:?}");
    *behind.0.lock().unwrap() = None;
    let renewed = renew().await.unwrap();
    assert_eq!(
        (renewed.entry.tenure.version, cluster.network.stands_for(&made.label).await.unwrap()),
        (3, second.capability().clone())
    );
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
