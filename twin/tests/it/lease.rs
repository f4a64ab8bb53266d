//! Leases: only the owner changes them, versions only grow, and an object stays as long as was promised.

use std::{
    io::{self, Read},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{PlacementError, ReadError, Transport, TransportError, UploadError};
use format::{Cap, NodeName, OpenError, OwnerSecret, Profile, Record, Redundancy, Retention};
use testing::{Call, Intercept, Intercepted, MemoryTransport, noise};
use twin::{
    GetError, Index, LeaseChangeError, PolicyNameError, PolicySource, PutError, PutOptions, Renewal, RetentionError,
    Sooner, Tenure, Twin,
};

use crate::small_cluster::{ORIGINS, SmallCluster, name, options, quiet};

pub(crate) async fn publish(twin: &Twin, policy: &str) {
    let source = PolicySource::parse("[[link]]\nuse = \"geo\"\n", Path::new("")).unwrap();
    twin.publish(&policy.parse().unwrap(), &source).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_object_is_gone_for_readers_and_from_the_index() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    for size in [10, 300_000] {
        let stored = twin.put(&cluster.file("a", &noise(size)), &options(), &quiet()).await.unwrap();
        let locator = stored.entry.capability.locator();
        let stranger = cluster.twin(2).remove(&locator).await;
        assert!(matches!(stranger, Err(LeaseChangeError::NotOurs)), "{stranger:?}");
        let removed = twin.remove(&locator).await.unwrap();
        assert!(removed.ended[&locator].missed.is_empty() && removed.ended[&locator].nodes.len() >= 3);
        let gone = cluster.network.find(&stored.entry.capability, &[]).await.err().unwrap();
        assert!(matches!(gone, GetError::Read(ReadError::Open(OpenError::Erased))), "{gone:?}");
        let again = twin.remove(&locator).await;
        assert!(matches!(again, Err(LeaseChangeError::Unknown)), "{again:?}");
        assert!(matches!(twin.renew(&locator, &Renewal::default()).await, Err(LeaseChangeError::Erased)));
    }
    assert!(twin.list().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_does_not_keep_an_owner_from_ending_a_lease() {
    let cluster = SmallCluster::start();
    let stored = cluster.twin(1).put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    std::fs::remove_file(cluster.folder.path().join("owner-1/index")).unwrap();
    let twin = cluster.twin(1);
    assert!(twin.list().await.is_empty());
    assert_eq!(twin.remove(&stored.entry.capability.locator()).await.unwrap().ended.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_cannot_be_ended_before_its_time() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let retention = Retention { keep_until: u64::MAX, expires: 0 };
    let tenure = Tenure { retention, ..options().tenure };
    let stored = twin.put(&cluster.file("a", b"x"), &PutOptions { tenure, ..options() }, &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let kept = twin.remove(&locator).await;
    assert!(matches!(kept, Err(LeaseChangeError::Kept { until: u64::MAX })), "{kept:?}");
    assert!(cluster.network.find(&stored.entry.capability, &[]).await.is_ok());
    assert_eq!(twin.list().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_reaches_nodes_and_index_with_a_higher_version() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let stored = twin.put(&cluster.file("a", &noise(300_000)), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    publish(&twin, "geo").await;
    let expires = Retention { keep_until: 0, expires: u64::MAX };
    for version in 2..4 {
        let policy = Some("geo".parse().unwrap());
        let renewal = Renewal { policy, expires: Some(u64::MAX), sooner: Sooner::Allowed, ..Renewal::default() };
        let renewed = twin.renew(&locator, &renewal).await.unwrap();
        assert!(renewed[&locator].missed.is_empty());
        let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
        assert_eq!((found.record.lease.version, found.record.lease.policy.as_str()), (version, "geo"));
        let tenure = twin.list().await[&locator].tenure.clone();
        assert_eq!((tenure.version, tenure.retention, tenure.profile), (version, expires, options().tenure.profile));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_bind_where_shards_lie_and_stand_in_the_lease() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", &noise(5 << 20));
    let caps = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cap>>();
    let under = |texts| PutOptions { tenure: Tenure { caps: caps(texts), ..options().tenure }, ..options() };

    let refused = twin.put(&path, &under(&["operator=1"]), &quiet()).await.unwrap_err();
    let PutError::Upload { source: UploadError::Placement(PlacementError::Capped { need: 6, room: 4, .. }), .. } =
        refused
    else {
        panic!("{refused:?}")
    };
    let twice = twin.put(&path, &under(&["zone=1", "zone=2"]), &quiet()).await.unwrap_err();
    assert!(matches!(twice, PutError::Bounds { .. }), "{twice:?}");
    assert!(twin.list().await.is_empty());

    let stored = twin.put(&path, &under(&["operator=2", "zone=1"]), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let lease = || async { cluster.network.find(&stored.entry.capability, &[]).await.unwrap().record.lease };
    assert_eq!(lease().await.caps, caps(&["operator=2", "zone=1"]));

    let renew = |texts| Renewal { caps: caps(texts), ..Renewal::default() };
    let twice = twin.renew(&locator, &renew(&["node=1", "node=2"])).await;
    assert!(matches!(twice, Err(LeaseChangeError::Caps { .. })), "{twice:?}");
    twin.renew(&locator, &renew(&["country=6"])).await.unwrap();
    let all = caps(&["operator=2", "zone=1", "country=6"]);
    assert_eq!(lease().await.caps, all, "what is not named stays");
    drop(twin);
    let twin = cluster.twin(1);
    assert_eq!(twin.list().await[&locator].tenure.caps, all, "the index forgot");
    twin.renew(&locator, &renew(&["operator=3"])).await.unwrap();
    assert_eq!(lease().await.caps, caps(&["zone=1", "country=6", "operator=3"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_has_less_parity_or_as_much_as_at_first_and_nothing_else() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", &noise(5 << 20));
    let stored = twin.put(&path, &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let renew = async |profile: &str| {
        let renewal = Renewal { profile: Some(profile.parse().unwrap()), ..Renewal::default() };
        twin.renew(&locator, &renewal).await?;
        Ok(twin.list().await[&locator].tenure.profile)
    };
    let pair = |text: &str| text.parse::<Redundancy>().unwrap();
    assert_eq!(renew("4+1").await.unwrap(), Profile::Custom(pair("4+1")));
    assert_eq!(renew("small-cluster").await.unwrap(), Profile::SmallCluster, "as stored");
    let refused: Result<_, LeaseChangeError> = renew("4+3").await;
    let as_stored = pair("4+2");
    assert!(
        matches!(refused, Err(LeaseChangeError::MoreParity { asked, stored }) if (asked, stored) == (pair("4+3"), as_stored))
    );
    for profile in ["3+2", "standard"] {
        let refused = renew(profile).await;
        assert!(matches!(refused, Err(LeaseChangeError::OtherData { stored, .. }) if stored == as_stored), "{profile}");
    }
    let lease = cluster.network.find(&stored.entry.capability, &[]).await.unwrap().record.lease;
    assert_eq!((lease.version, lease.profile), (3, Profile::SmallCluster), "what was refused was told to nobody");

    // Each parity shard of one data shard is a copy, and the last of them may be the only good one.
    let copies = PutOptions { tenure: Tenure { profile: "1+2".parse().unwrap(), ..Tenure::default() }, ..options() };
    let copied = twin.put(&cluster.file("b", &noise(300_000)), &copies, &quiet()).await.unwrap();
    let once = Renewal { profile: Some("1+0".parse().unwrap()), ..Renewal::default() };
    let refused = twin.renew(&copied.entry.capability.locator(), &once).await;
    assert!(matches!(refused, Err(LeaseChangeError::NoParity { stored }) if stored == pair("1+2")), "{refused:?}");

    // An owner who lost the index does not know the length, and gives the numbers of columns instead.
    std::fs::remove_file(cluster.folder.path().join("owner-1/index")).unwrap();
    let renewal = |profile: &str| Renewal { profile: Some(profile.parse().unwrap()), ..Renewal::default() };
    let twin = cluster.twin(1);
    assert!(matches!(twin.renew(&locator, &renewal("eco")).await, Err(LeaseChangeError::Length)));
    twin.renew(&locator, &renewal("4+1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_is_signed_that_is_over_or_breaks_a_promise() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", b"x");
    let put = async |keep_until, expires| {
        let tenure = Tenure { retention: Retention { keep_until, expires }, ..options().tenure };
        twin.put(&path, &PutOptions { tenure, ..options() }, &quiet()).await
    };
    let (past, to_come, later) = (1_000_000_000, 4_000_000_000, 5_000_000_000);
    let refused = async |keep_until, expires| match put(keep_until, expires).await {
        Err(PutError::Retention(error)) => error,
        other => panic!("not refused: {other:?}"),
    };
    assert!(matches!(refused(0, past).await, RetentionError::Ended { end, .. } if end == past));
    assert!(matches!(refused(past, 0).await, RetentionError::KeptBefore { keep_until, .. } if keep_until == past));
    assert_eq!(refused(later, to_come).await, RetentionError::KeptLonger { keep_until: later, expires: to_come });
    assert!(twin.list().await.is_empty(), "what is refused is written down nowhere");

    let stored = put(to_come, 0).await.unwrap();
    let locator = stored.entry.capability.locator();
    let renew = async |twin: &Twin, keep_until, expires| {
        let renewal = Renewal { keep_until, expires, sooner: Sooner::Allowed, ..Renewal::default() };
        twin.renew(&locator, &renewal).await
    };
    let ended = renew(&twin, None, Some(past)).await;
    assert!(matches!(ended, Err(LeaseChangeError::Retention(RetentionError::Ended { .. }))), "{ended:?}");
    let broken = renew(&twin, Some(to_come - 1), Some(later)).await;
    assert!(matches!(broken, Err(LeaseChangeError::Shortened { until }) if until == to_come), "{broken:?}");
    let outlived = renew(&twin, None, Some(to_come - 1)).await;
    let kept_longer = RetentionError::KeptLonger { keep_until: to_come, expires: to_come - 1 };
    assert!(matches!(outlived, Err(LeaseChangeError::Retention(error)) if error == kept_longer), "{outlived:?}");
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    assert_eq!(found.record.lease.version, 1, "no node was told");
    renew(&twin, Some(to_come + 1), Some(later)).await.unwrap();
    // The same holds for an owner who lost the index.
    drop(twin);
    std::fs::remove_file(cluster.folder.path().join("owner-1/index")).unwrap();
    let broken = renew(&cluster.twin(1), Some(to_come), None).await;
    assert!(matches!(broken, Err(LeaseChangeError::Shortened { until }) if until == to_come + 1), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_leaves_the_time_that_it_does_not_name() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let stored = twin.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let (soon, later) = (4_000_000_000, 5_000_000_000);
    for (keep_until, expires, held) in [
        (None, Some(later), (0, later)),
        (Some(soon), None, (soon, later)),
        (None, Some(later + 1), (soon, later + 1)),
        (None, None, (soon, later + 1)),
        (None, Some(0), (soon, 0)),
    ] {
        let policy = Some("nft-immutable".parse().unwrap());
        let renewal = Renewal { policy, keep_until, expires, sooner: Sooner::Allowed, ..Renewal::default() };
        twin.renew(&locator, &renewal).await.unwrap();
        let Retention { keep_until, expires } = twin.list().await[&locator].tenure.retention;
        assert_eq!((keep_until, expires), held, "{renewal:?}");
        let lease = cluster.network.find(&stored.entry.capability, &[]).await.unwrap().record.lease;
        assert_eq!((lease.retention.keep_until, lease.retention.expires), held, "{renewal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_sooner_is_told_beforehand_and_needs_consent() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    cluster.file("site/b", b"y");
    let folder = cluster.file("site/a", b"x").parent().unwrap().to_owned();
    let stored = twin.put(&folder, &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let (soon, later, latest) = (4_000_000_000, 5_000_000_000, 6_000_000_000);
    let renewal = |expires, sooner| Renewal { expires: Some(expires), sooner, ..Renewal::default() };
    let told = async |twin: &Twin, expires| {
        let ends = twin.ends_sooner(&[locator].into(), &renewal(expires, Sooner::Allowed)).await;
        ends.into_values().collect::<Vec<_>>()
    };
    let refused = async |twin: &Twin, expires| match twin.renew(&locator, &renewal(expires, Sooner::Refused)).await {
        Err(LeaseChangeError::Sooner { held, end }) => (held, end),
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(told(&twin, later).await, [None; 3], "all of the folder had no end");
    assert_eq!(refused(&twin, later).await, (None, later));
    assert!(twin.list().await.values().all(|entry| entry.tenure.version == 1), "nothing was done");
    twin.renew(&locator, &renewal(later, Sooner::Allowed)).await.unwrap();
    let earlier = std::fs::read(cluster.folder.path().join("owner-1/index")).unwrap();
    assert_eq!(told(&twin, soon).await, [Some(later); 3]);
    assert_eq!(refused(&twin, soon).await, (Some(later), soon));
    for end in [later, latest, 0] {
        assert_eq!(told(&twin, end).await, [], "{end}");
        twin.renew(&locator, &renewal(end, Sooner::Refused)).await.unwrap();
    }
    // Another machine took the end away, of which this index does not know, or it was lost: nodes know.
    drop(twin);
    std::fs::write(cluster.folder.path().join("owner-1/index"), earlier).unwrap();
    assert_eq!(told(&cluster.twin(1), latest).await, []);
    assert_eq!(refused(&cluster.twin(1), latest).await, (None, latest));
    std::fs::remove_file(cluster.folder.path().join("owner-1/index")).unwrap();
    assert_eq!(told(&cluster.twin(1), soon).await, [None]);
}

/// A source that ends when the clock, in seconds since 1970, has passed this number.
struct Slow(u64);

impl Read for Slow {
    #[expect(clippy::disallowed_methods, reason = "a slow source is what is played")]
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        while unix_now() <= self.0 {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(0)
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_during_the_upload_is_not_signed() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    // 4 s are enough to pass the check at the beginning on a loaded machine.
    let expires = unix_now() + 4;
    let tenure = Tenure { retention: Retention { keep_until: 0, expires }, ..options().tenure };
    let put = twin.put_stream(Box::new(Slow(expires)), &PutOptions { tenure, ..options() }, &quiet()).await;
    let Err(PutError::Retention(RetentionError::Ended { end, now })) = put else { panic!("{put:?}") };
    assert!(end == expires && now > expires, "{now}");
    assert!(twin.list().await.is_empty(), "what is refused is written down nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_names_a_policy_that_edges_could_not_ask() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", b"x");
    publish(&twin, "eu-only").await;
    publish(&cluster.twin(2), "eu-onyl").await;
    let put = async |policy: &str| {
        let tenure = Tenure { policy: policy.parse().unwrap(), ..options().tenure };
        twin.put(&path, &PutOptions { tenure, ..options() }, &quiet()).await
    };
    let misspelt = put("eu-onyl").await;
    assert!(
        matches!(misspelt, Err(PutError::Policy(PolicyNameError::Unknown { .. }))),
        "another owner's: {misspelt:?}"
    );
    assert!(twin.list().await.is_empty());
    let stored = put("eu-only").await.unwrap();
    let locator = stored.entry.capability.locator();
    let renew = async |policy: &str| {
        let renewal = Renewal { policy: Some(policy.parse().unwrap()), ..Renewal::default() };
        twin.renew(&locator, &renewal).await
    };
    let misspelt = renew("eu-onyl").await;
    assert!(matches!(misspelt, Err(LeaseChangeError::Policy(PolicyNameError::Unknown { .. }))), "{misspelt:?}");
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    assert_eq!((found.record.lease.version, found.record.lease.policy.as_str()), (1, "eu-only"));
    renew("nft-immutable").await.unwrap();
    renew("eu-only").await.unwrap();
    // The only node that answers knows no such policy, but it may lag behind the others.
    (1..ORIGINS).for_each(|origin| cluster.memory.remove(&name(origin)));
    let unsure = renew("eu-onyl").await;
    assert!(matches!(unsure, Err(LeaseChangeError::Policy(PolicyNameError::Unavailable { .. }))), "{unsure:?}");
    cluster.memory.remove(&name(0));
    let unasked = renew("eu-only").await;
    let Err(LeaseChangeError::Policy(PolicyNameError::Unavailable { source: Some(_), .. })) = unasked else {
        panic!("{unasked:?}")
    };
}

/// Nodes of which the first so many answer with an old record.
#[derive(Default)]
struct Stale {
    old: Mutex<Option<Bytes>>,
    nodes: AtomicUsize,
}

#[async_trait]
impl Intercept for Stale {
    type Pass = bool;

    async fn before(&self, node: &NodeName, _call: Call) -> Result<bool, TransportError> {
        Ok((0..self.nodes.load(Ordering::SeqCst)).any(|origin| name(origin) == *node))
    }

    fn record(&self, _node: &NodeName, is_stale: bool, record: Option<Bytes>) -> Option<Bytes> {
        self.old.lock().unwrap().clone().filter(|_| is_stale).or(record)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_goes_on_from_the_newest_lease_whatever_old_ones_nodes_show() {
    // Half of the nodes are stale and the index is lost: the others know better. Or all are, and the index does.
    for nodes in [ORIGINS / 2, ORIGINS] {
        let mut stale = None;
        let wrap =
            |memory: Arc<MemoryTransport>| stale.insert(Arc::new(Intercepted::over(memory, Stale::default()))).clone();
        let cluster = SmallCluster::over(wrap);
        let stale = stale.unwrap();
        let twin = cluster.twin(1);
        publish(&twin, "europe").await;
        let stored = twin.put(&cluster.file("a", &noise(300_000)), &options(), &quiet()).await.unwrap();
        let locator = stored.entry.capability.locator();
        let held = async || cluster.memory.record(&name(7), &locator).await.unwrap().unwrap();
        let old = held().await;
        let closer = Renewal { policy: Some("europe".parse().unwrap()), ..Renewal::default() };
        twin.renew(&locator, &closer).await.unwrap();
        *stale.intercept().old.lock().unwrap() = Some(old);
        stale.intercept().nodes.store(nodes, Ordering::SeqCst);

        let secret = OwnerSecret::from_bytes([1; 32]);
        let index = Index::open(cluster.folder.path().join("lost/index"), &secret).unwrap();
        let twin = if nodes < ORIGINS { Twin::new(&secret, index, cluster.network.clone()) } else { twin };
        let longer = Renewal { expires: Some(u64::MAX), sooner: Sooner::Allowed, ..Renewal::default() };
        twin.renew(&locator, &longer).await.unwrap();
        let lease = Record::decode(&held().await).unwrap().lease;
        assert_eq!((lease.version, lease.policy.as_str(), lease.retention.expires), (3, "europe", u64::MAX));
    }
}
