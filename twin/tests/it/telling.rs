//! Leases and their nodes: clocks that differ, calls that fail for a while, removals that are cut short, and nodes that
//! know less than they did.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Topology, Transport, TransportError};
use format::{Label, Locator, NodeName, OwnerSecret, PolicyName, Record, Retention, rendezvous, wire::NodeEntry};
use testing::{Call, Intercept, Intercepted, MemoryTransport, node, until};
use tokio::time::Instant;
use twin::{
    ClockError, Index, LeaseChangeError, NameChange, NameChangeError, NameTerms, Network, PolicySource, PublishError,
    PutError, PutOptions, Renewal, RetentionError, Scope, Sooner, State, Tenure, Twin,
};

use crate::{
    directory::site,
    recover::machine,
    small_cluster::{SmallCluster, name, options, quiet},
};

type Rule = Box<dyn Fn(&NodeName, Call) -> Option<TransportError> + Send>;
type Lens = Box<dyn Fn(&NodeName, Option<Bytes>) -> Option<Bytes> + Send>;

/// What a test wants of the way to the nodes.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// By how many seconds all nodes are ahead.
    pub(crate) ahead: Arc<AtomicI64>,
    /// Calls that signed something.
    signed: Arc<AtomicUsize>,
    fails: Arc<Mutex<Option<Rule>>>,
    shows: Arc<Mutex<Option<Lens>>>,
    /// Leases that nodes still get; a further one never comes to its end.
    leases: Arc<Mutex<Option<usize>>>,
    stalled: Arc<AtomicUsize>,
}

#[async_trait]
impl Intercept for Way {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let is_signed = matches!(call, Call::PutRecord | Call::PutLease | Call::PutPolicy);
        self.signed.fetch_add(usize::from(is_signed), Relaxed);
        let is_stalled = call == Call::PutLease
            && match &mut *self.leases.lock().unwrap() {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
        if is_stalled {
            self.stalled.fetch_add(1, Relaxed);
            std::future::pending::<()>().await;
        }
        self.fails.lock().unwrap().as_ref().and_then(|rule| rule(node, call)).map_or(Ok(()), Err)
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        match &*self.shows.lock().unwrap() {
            Some(lens) => lens(node, record),
            None => record,
        }
    }

    fn clocks(&self) -> Option<BTreeMap<NodeName, i64>> {
        Some((0..3).map(|origin| (name(origin), self.ahead.load(Relaxed))).collect())
    }
}

impl Way {
    pub(crate) fn cluster(&self) -> SmallCluster {
        SmallCluster::over(|memory| Arc::new(Intercepted::over(memory, self.clone())))
    }

    pub(crate) fn fail(&self, rule: impl Fn(&NodeName, Call) -> Option<TransportError> + Send + 'static) {
        *self.fails.lock().unwrap() = Some(Box::new(rule));
    }

    pub(crate) fn show(&self, lens: impl Fn(&NodeName, Option<Bytes>) -> Option<Bytes> + Send + 'static) {
        *self.shows.lock().unwrap() = Some(Box::new(lens));
    }

    pub(crate) fn mend(&self) {
        (*self.fails.lock().unwrap(), *self.shows.lock().unwrap(), *self.leases.lock().unwrap()) = (None, None, None);
    }
}

pub(crate) fn silent(node: &NodeName) -> TransportError {
    TransportError::TimedOut { node: node.clone() }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn until_day() -> Renewal {
    Renewal { expires: Some(now() + 86_400), sooner: Sooner::Allowed, ..Renewal::default() }
}

fn under(retention: Retention) -> PutOptions {
    PutOptions { tenure: Tenure { retention, ..options().tenure }, ..options() }
}

/// Returns the source of an error that says so of the clock.
fn clock<T>(result: Result<T, impl std::error::Error + 'static>) -> Option<ClockError> {
    let error = result.err()?;
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref() {
            return Some(*found);
        }
        at = error.source();
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_clock_is_off_signs_no_end() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    let path = cluster.file("a", b"x");
    let stored = twin.put(&path, &options(), &quiet()).await.unwrap();
    let (label, locator) = (stored.label.clone(), stored.entry.capability.locator());
    let terms = NameTerms { fresh_until: Some(now() + 86_400), seconds: None };
    twin.point("site", &NameChange::New(label.clone()), terms).await.unwrap();
    let policy: PolicyName = "geo".parse().unwrap();
    let source = PolicySource::parse("[[link]]\nuse = \"geo\"\n", std::path::Path::new("")).unwrap();
    twin.publish(&policy, &source).await.unwrap();
    let names = twin.names().await;
    for ahead in [301 + 5, -301 - 5, 86_400 * 365, -86_400] {
        way.ahead.store(ahead, Relaxed);
        way.signed.store(0, Relaxed);
        let changes = [NameChange::New(label.clone()), NameChange::Move(label.clone()), NameChange::Set(label.clone())];
        let mut refused = Vec::new();
        for change in changes.into_iter().chain([NameChange::Renew]) {
            for terms in [NameTerms::default(), terms] {
                refused.push(clock(twin.point("site", &change, terms).await));
            }
        }
        for (keep_until, expires) in [(now() + 86_400, 0), (0, now() + 86_400)] {
            refused.push(clock(twin.put(&path, &under(Retention { keep_until, expires }), &quiet()).await));
        }
        refused.push(clock(twin.renew(&locator, &until_day()).await));
        refused.push(clock(twin.check_name("site").await));
        refused.push(clock(twin.publish(&policy, &source).await));
        refused.push(clock(twin.renew_policy(&policy, now() + 86_400).await));
        for (at, error) in refused.into_iter().enumerate() {
            let Some(ClockError { here, nodes }) = error else {
                panic!("{at} is signed by a clock that is {ahead} off")
            };
            assert!(now() - here < 60 && here.saturating_add_signed(ahead) == nodes, "{here} {nodes}");
        }
        assert_eq!(way.signed.load(Relaxed), 0, "no node was told");
        assert_eq!(twin.names().await, names);
    }
    // What sets no time goes on.
    let policy = Some(policy);
    twin.renew(&locator, &Renewal { policy, ..Renewal::default() }).await.unwrap();
    let other = twin.put(&path, &options(), &quiet()).await.unwrap().entry.capability.locator();
    twin.remove(&other).await.unwrap();
    for ahead in [290, -290] {
        way.ahead.store(ahead, Relaxed);
        twin.point("site", &NameChange::Renew, NameTerms::default()).await.unwrap();
        twin.renew(&locator, &until_day()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_past_by_the_nodes_clocks_is_signed_by_nobody() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    let path = cluster.file("a", b"x");
    let stored = twin.put(&path, &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    way.ahead.store(250, Relaxed);
    way.signed.store(0, Relaxed);
    let soon = now() + 100;
    let put = twin.put(&path, &under(Retention { keep_until: 0, expires: soon }), &quiet()).await;
    assert!(matches!(put, Err(PutError::Retention(RetentionError::Ended { end, now })) if end == soon && now > soon));
    let renewal = Renewal { expires: Some(soon), ..until_day() };
    let renewed = twin.renew(&locator, &renewal).await;
    assert!(matches!(renewed, Err(LeaseChangeError::Retention(RetentionError::Ended { .. }))), "{renewed:?}");
    let terms = NameTerms { fresh_until: Some(soon), seconds: None };
    let named = twin.point("site", &NameChange::New(stored.label), terms).await;
    assert!(matches!(named, Err(NameChangeError::Past { .. })), "{named:?}");
    let source = PolicySource::parse("[[link]]\nuse = \"geo\"\n", std::path::Path::new("")).unwrap();
    let published = twin.publish_until(&"geo".parse().unwrap(), &source, soon).await;
    assert!(matches!(published, Err(PublishError::Ended { .. })), "{published:?}");
    assert_eq!(way.signed.load(Relaxed), 0, "no node was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_of_a_name_sets_no_earlier_end() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let label = twin.put(&cluster.file("page", b"x"), &options(), &quiet()).await.unwrap().label;
    let end = now() + 1000 * 86_400;
    let terms = |fresh_until| NameTerms { fresh_until: Some(fresh_until), seconds: None };
    twin.point("site", &NameChange::New(label.clone()), terms(end)).await.unwrap();
    let sooner = twin.point("site", &NameChange::Renew, terms(end - 1)).await;
    assert!(
        matches!(sooner, Err(NameChangeError::Sooner { held, end: asked }) if (held, asked) == (end, end - 1)),
        "{sooner:?}"
    );
    assert_eq!(twin.names().await[0].1.fresh_until, end);
    twin.point("site", &NameChange::Renew, terms(end)).await.unwrap();
    twin.point("site", &NameChange::Move(label), terms(end - 1)).await.unwrap();
    assert_eq!(twin.names().await[0].1.fresh_until, end - 1, "as the owner says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_cut_short_is_listed_as_ending_and_another_one_ends_it() {
    for told in [0, 1, 20] {
        let way = Way::default();
        let cluster = way.cluster();
        let twin = Arc::new(machine(&cluster, "one"));
        let stored = twin.put(&site(&cluster), &options(), &quiet()).await.unwrap();
        let stays = twin.put(&cluster.file("stays", b"x"), &options(), &quiet()).await.unwrap();
        let named = twin.point("site", &NameChange::New(stored.label.clone()), NameTerms::default()).await.unwrap();
        let (top, stays) = (stored.entry.capability.locator(), stays.entry.capability.locator());
        let name = named.label.capability().locator();
        let all = twin.list().await.len();
        *way.leases.lock().unwrap() = Some(told);
        let cut = twin.clone();
        let removal = tokio::spawn(async move { cut.remove_all(&[top, name].into(), &quiet()).await });
        until("the removal stalls", async || way.stalled.load(Relaxed) > 0).await;
        removal.abort();
        assert!(removal.await.unwrap_err().is_cancelled());
        drop(twin);

        way.mend();
        let twin = machine(&cluster, "one");
        let listed = twin.list().await;
        let ending: BTreeSet<_> =
            listed.iter().filter(|(_, it)| it.state == State::Ending).map(|(at, _)| *at).collect();
        assert_eq!((listed.len(), ending.len()), (all, all - 1), "all but what stays");
        let secret = OwnerSecret::from_bytes([1; 32]);
        let index = Index::open(cluster.folder.path().join("one/index"), &secret).unwrap();
        let unfinished = index.list(Scope::Tops);
        let finished: Vec<_> = unfinished.iter().filter(|it| it.is_finished).map(|it| it.locator).collect();
        assert_eq!(finished, [stays], "nothing else is said to be stored");
        let renewed = twin.renew(&top, &until_day()).await;
        assert!(matches!(renewed, Err(LeaseChangeError::Ending)), "{renewed:?}");
        let moved = twin.point("site", &NameChange::Renew, NameTerms::default()).await;
        assert!(matches!(moved, Err(NameChangeError::Ending { .. })), "{moved:?}");
        let to_ending = NameChange::New(Label::open(twin.list().await[&top].capability.clone()));
        let made = twin.point("other", &to_ending, NameTerms::default()).await;
        assert!(matches!(made, Err(NameChangeError::TargetEnding)), "{made:?}");

        if told == 0 {
            // Another machine knows nothing of it, and this one hears of what that did.
            let two = machine(&cluster, "two");
            two.recover(&quiet()).await.unwrap();
            two.renew(&top, &until_day()).await.unwrap();
            two.point("site", &NameChange::Renew, NameTerms::default()).await.unwrap();
            twin.recover(&quiet()).await.unwrap();
            let listed = twin.list().await;
            assert!(ending.iter().all(|locator| listed[locator].state == State::Ending), "{listed:?}");
        }
        let unfinished = twin.unfinished().await.unwrap().locators;
        assert_eq!(unfinished, [top, name].into());
        let (removed, failed) = twin.remove_all(&unfinished, &quiet()).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(removed.ended.keys().copied().collect::<BTreeSet<_>>(), ending, "it says what it ended");
        assert_eq!(twin.list().await.into_keys().collect::<Vec<_>>(), [stays]);
        for locator in ending {
            let record = cluster.memory.record(&crate::small_cluster::name(0), &locator).await.unwrap().unwrap();
            assert!(Record::decode(&record).unwrap().lease.erased);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_was_told_of_is_stored_as_before() {
    let way = Way::default();
    let cluster = way.cluster();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let stored = one.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    two.recover(&quiet()).await.unwrap();
    // This index does not know of the promise, and the nodes do.
    let keep_until = Some(now() + 86_400);
    two.renew(&locator, &Renewal { keep_until, ..Renewal::default() }).await.unwrap();
    let kept = one.remove(&locator).await;
    assert!(matches!(kept, Err(LeaseChangeError::Kept { until }) if Some(until) == keep_until), "{kept:?}");
    assert_eq!(one.list().await[&locator].state, State::Stored);
    assert_eq!(machine(&cluster, "one").list().await[&locator].state, State::Stored, "durably");
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_a_while_is_tried_again_and_reaches_every_node() {
    for status in [Some(408), Some(503), None] {
        let way = Way::default();
        let cluster = way.cluster();
        let twin = cluster.twin(1);
        let mut locators = Vec::new();
        for file in 0..3 {
            let stored = twin.put(&cluster.file(&format!("f{file}"), &[file]), &options(), &quiet()).await.unwrap();
            locators.push(stored.entry.capability.locator());
        }
        let break_off = || {
            let failed: Mutex<HashMap<(NodeName, Call), usize>> = Mutex::default();
            way.fail(move |node, call| {
                let mut failed = failed.lock().unwrap();
                let times = failed.entry((node.clone(), call)).or_default();
                let is_broken = matches!(call, Call::Record | Call::PutLease) && *times < 2;
                *times += usize::from(is_broken);
                let (node, reason) = (node.clone(), "made so".to_owned());
                let error = match status {
                    Some(status) => TransportError::Failed { node, status, reason },
                    None => TransportError::Unreachable { node, reason },
                };
                is_broken.then_some(error)
            });
        };
        break_off();
        let renewed = twin.renew(&locators[0], &until_day()).await.unwrap();
        assert!(renewed[&locators[0]].missed.is_empty(), "{renewed:?}");
        break_off();
        let (removed, failed) = twin.remove_all(&locators.iter().copied().collect(), &quiet()).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(removed.ended.len() == 3 && removed.ended.values().all(|told| told.missed.is_empty()), "{removed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_costs_a_command_minutes_however_many_objects_it_has() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    for file in 0..200u8 {
        cluster.file(&format!("many/f{file}"), &[file]);
    }
    let folder = cluster.folder.path().join("many");
    let stored = twin.put(&folder, &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    for call in [Call::PutLease, Call::Record] {
        way.fail(move |node, it| (it == call).then(|| silent(node)));
        let began = Instant::now();
        let renewed = twin.renew(&locator, &until_day()).await;
        let removed = twin.remove(&locator).await;
        assert!(began.elapsed() < Duration::from_secs(4 * 60), "{:?}", began.elapsed());
        for failed in [renewed.err(), removed.err()] {
            assert!(
                matches!(
                    failed,
                    Some(LeaseChangeError::TooFew { .. } | LeaseChangeError::Read(_) | LeaseChangeError::Ending)
                ),
                "{failed:?}"
            );
        }
        assert_eq!(twin.list().await.len(), 201);
    }
    way.mend();
    assert_eq!(twin.remove(&locator).await.unwrap().ended.len(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_failed_is_made_again_at_once_although_no_node_tells_what_became_of_it() {
    let way = Way::default();
    let cluster = way.cluster();
    let path = cluster.file("a", b"x");
    way.fail(|node, call| (call == Call::PutRecord).then(|| silent(node)));
    let failed = cluster.twin(1).put(&path, &options(), &quiet()).await;
    assert!(matches!(failed, Err(PutError::Upload { .. })), "{failed:?}");
    way.fail(|node, call| (call == Call::Record).then(|| silent(node)));
    let began = Instant::now();
    let stored = cluster.twin(1).put(&path, &options(), &quiet()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((stored.entry.state, cluster.twin(1).list().await.len()), (State::Stored, 2));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_holds_up_no_removal() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    let stored = twin.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    *way.leases.lock().unwrap() = Some(3);
    let began = Instant::now();
    let locator = stored.entry.capability.locator();
    let removed = twin.remove(&locator).await.unwrap();
    let told = &removed.ended[&locator];
    assert_eq!((told.nodes.len(), told.missed.len()), (3, 1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Stores so many small files and returns what was stored.
async fn put_many(cluster: &SmallCluster, twin: &Twin, files: u8) -> BTreeSet<Locator> {
    for file in 0..files {
        let path = cluster.file(&format!("f{file}"), &[file]);
        twin.put(&path, &options(), &quiet()).await.unwrap();
    }
    twin.list().await.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_small_files_is_removed_by_one_call_to_each_node_and_the_read_of_one_record() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    for file in 0..30u8 {
        cluster.file(&format!("many/f{file}"), &[file]);
    }
    let stored = twin.put(&cluster.folder.path().join("many"), &options(), &quiet()).await.unwrap();
    let calls: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counted = calls.clone();
    way.fail(move |_, call| {
        *counted.lock().unwrap().entry(format!("{call:?}")).or_default() += 1;
        None
    });
    let removed = twin.remove(&stored.entry.capability.locator()).await.unwrap();
    assert!(removed.ended.len() == 31 && removed.ended.values().all(|told| told.nodes.len() == 4), "{removed:?}");
    let counted = calls.lock().unwrap().clone();
    assert_eq!(counted, [("PutLease".to_owned(), 31 * 4), ("Record".to_owned(), 1)].into());
    assert!(twin.list().await.is_empty());
    for locator in removed.ended.keys() {
        let record = cluster.memory.record(&name(0), locator).await.unwrap().unwrap();
        let record = Record::decode(&record).unwrap();
        assert!(record.lease.erased && record.lease.version == 2 && record.sealed.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_many_heeds_what_another_machine_signed_meanwhile() {
    let way = Way::default();
    let cluster = way.cluster();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let all = put_many(&cluster, &one, 4).await;
    two.recover(&quiet()).await.unwrap();
    let keep_until = Some(now() + 86_400);
    let (renewed, kept) = {
        let mut all = all.iter().copied();
        (all.by_ref().take(2).collect::<BTreeSet<_>>(), all.collect::<BTreeSet<_>>())
    };
    for locator in &renewed {
        two.renew(locator, &until_day()).await.unwrap();
    }
    for locator in &kept {
        two.renew(locator, &Renewal { keep_until, ..Renewal::default() }).await.unwrap();
    }
    let (removed, failed) = one.remove_all(&all, &quiet()).await.unwrap();
    assert_eq!(removed.ended.keys().copied().collect::<BTreeSet<_>>(), renewed);
    let is_kept =
        |error: &LeaseChangeError| matches!(error, LeaseChangeError::Kept { until } if Some(*until) == keep_until);
    assert!(failed.keys().copied().eq(kept.iter().copied()) && failed.values().all(is_kept), "{failed:?}");
    let listed = one.list().await;
    assert!(listed.len() == 2 && listed.values().all(|entry| entry.state == State::Stored), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_many_says_what_no_node_knows_and_files_nothing_of_it() {
    let (way, other) = (Way::default(), Way::default());
    let (cluster, lost) = (way.cluster(), other.cluster());
    let twin = machine(&cluster, "one");
    let all = put_many(&cluster, &twin, 3).await;
    drop(twin);
    // The same index before nodes that lost all of it.
    let secret = OwnerSecret::from_bytes([1; 32]);
    let index = Index::open(cluster.folder.path().join("one/index"), &secret).unwrap();
    let twin = Twin::new(&secret, index, lost.network.clone());
    let (removed, failed) = twin.remove_all(&all, &quiet()).await.unwrap();
    assert!(failed.is_empty() && removed.ended.is_empty(), "{removed:?} {failed:?}");
    assert_eq!(removed.unknown, all);
    for locator in &all {
        assert!(lost.memory.record(&name(0), locator).await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_may_have_been_told_stays_listed_as_ending() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    let all = put_many(&cluster, &twin, 3).await;
    // A call that times out may have come to its node.
    way.fail(|node, call| (call == Call::PutLease).then(|| silent(node)));
    let (removed, failed) = twin.remove_all(&all, &quiet()).await.unwrap();
    assert!(removed.ended.is_empty() && failed.len() == 3);
    assert!(failed.values().all(|error| matches!(error, LeaseChangeError::TooFew { told: 0, .. })), "{failed:?}");
    assert!(twin.list().await.values().all(|entry| entry.state == State::Ending));
    way.mend();
    assert_eq!(twin.remove_all(&all, &quiet()).await.unwrap().0.ended.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_many_before_nodes_that_are_away_begins_nothing() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    let all = put_many(&cluster, &twin, 3).await;
    way.fail(|node, _| Some(silent(node)));
    let (removed, failed) = twin.remove_all(&all, &quiet()).await.unwrap();
    assert!(removed.ended.is_empty() && failed.len() == 3, "{failed:?}");
    assert!(twin.list().await.values().all(|entry| entry.state == State::Stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_goes_on_from_what_nodes_that_refuse_it_know() {
    let way = Way::default();
    let cluster = way.cluster();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let stored = one.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    let old = cluster.memory.record(&name(0), &locator).await.unwrap();
    two.recover(&quiet()).await.unwrap();
    for _ in 0..3 {
        two.renew(&locator, &until_day()).await.unwrap();
    }
    // All nodes have version 4, and the first answers come from those that show the first.
    let shown = AtomicUsize::new(0);
    way.show(move |_, record| if shown.fetch_add(1, Relaxed) < 4 { old.clone() } else { record });
    let removed = one.remove(&locator).await.unwrap();
    assert_eq!(removed.ended.len(), 1);
    let record = cluster.memory.record(&name(0), &locator).await.unwrap().unwrap();
    let lease = Record::decode(&record).unwrap().lease;
    assert_eq!((lease.erased, lease.version), (true, 5));
}

/// As after the catalog was restored from a backup of before: most nodes know nothing of the object.
#[tokio::test(start_paused = true)]
async fn what_a_silent_node_may_still_serve_stays_in_the_index() {
    let way = Way::default();
    let cluster = way.cluster();
    let twin = cluster.twin(1);
    let stored = twin.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator = stored.entry.capability.locator();
    way.show(|node, record| record.filter(|_| *node == name(3)));
    way.fail(|node, call| (call == Call::Record && *node == name(3)).then(|| silent(node)));
    let unsure = twin.remove(&locator).await;
    let Err(LeaseChangeError::Unsure { silent, .. }) = unsure else { panic!("{unsure:?}") };
    assert_eq!(silent, [name(3)].into());
    assert_eq!(twin.list().await[&locator].state, State::Stored);
    let renewed = twin.renew(&locator, &until_day()).await;
    assert!(matches!(renewed, Err(LeaseChangeError::Unsure { .. })), "{renewed:?}");
    // It comes back, and is told.
    way.fail(|_, _| None);
    twin.remove(&locator).await.unwrap();
    assert!(twin.list().await.is_empty());
    way.mend();
    let record = cluster.memory.record(&name(3), &locator).await.unwrap().unwrap();
    assert!(Record::decode(&record).unwrap().lease.erased);
    // What no node knows at all is forgotten.
    let stored = twin.put(&cluster.file("b", b"y"), &options(), &quiet()).await.unwrap();
    way.show(|_, _| None);
    let removed = twin.remove(&stored.entry.capability.locator()).await.unwrap();
    assert_eq!((removed.unknown.len(), twin.list().await.len()), (1, 0));
}

/// A node that shares no catalog with the others.
struct Far(NodeName, MemoryTransport);

#[async_trait]
impl Intercept for Far {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn instead(&self, node: &NodeName) -> Option<&dyn Transport> {
        (*node == self.0).then_some(&self.1)
    }
}

/// Readers ask nine nodes for a record, and it may lie at others too.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_only_a_far_node_has_left_is_found_and_the_others_get_it_again() {
    for erases in [true, false] {
        let nodes: Vec<_> = (0..12).map(|origin| node(name(origin).as_str(), testing::place("z"))).collect();
        let (before, restored) = (MemoryTransport::new(&nodes), MemoryTransport::new(&nodes));
        let (folder, secret) = (tempfile::tempdir().unwrap(), OwnerSecret::from_bytes([1; 32]));
        let twin = |transport: Arc<dyn Transport>| {
            let network = Network::new(transport, Arc::new(Topology::new(nodes.clone())), testing::place("z"));
            Twin::new(&secret, Index::open(folder.path().join("index"), &secret).unwrap(), Arc::new(network))
        };
        let path = folder.path().join("a");
        std::fs::write(&path, "text").unwrap();
        let stored = twin(Arc::new(before.clone())).put(&path, &options(), &quiet()).await.unwrap();
        let locator = stored.entry.capability.locator();
        let order = rendezvous::order(locator.as_bytes(), nodes.iter().map(|node| &node.name));
        let far = Far((*order.last().unwrap()).clone(), before.clone());
        let (last, first) = (far.0.clone(), (*order.first().unwrap()).clone());
        let lease = async |of: &MemoryTransport, node: &NodeName| {
            let record = of.record(node, &locator).await.unwrap();
            record.map(|record| Record::decode(&record).unwrap().lease)
        };
        assert!(lease(&restored, &first).await.is_none());
        let twin = twin(Arc::new(Intercepted::over(Arc::new(restored.clone()), far)));
        if erases {
            assert_eq!(twin.remove(&locator).await.unwrap().ended.len(), 1);
            assert!(lease(&before, &last).await.unwrap().erased, "the far one does not serve it any more");
        } else {
            twin.renew(&locator, &until_day()).await.unwrap();
        }
        let lease = lease(&restored, &first).await.unwrap();
        assert_eq!((lease.erased, lease.version), (erases, 2));
    }
}

/// A network before its catalog was restored from a backup, and after, with an owner's file that lies in a folder.
struct Restore {
    nodes: Vec<NodeEntry>,
    before: MemoryTransport,
    restored: MemoryTransport,
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Restore {
    fn of(nodes: usize) -> Self {
        let nodes: Vec<_> = (0..nodes).map(|origin| node(name(origin).as_str(), testing::place("z"))).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "text").unwrap();
        Self { before: MemoryTransport::new(&nodes), restored: MemoryTransport::new(&nodes), nodes, folder, path }
    }

    /// Returns the owner's twin on one of its machines.
    fn twin(&self, transport: impl Transport, machine: &str) -> Twin {
        let (secret, index) = (OwnerSecret::from_bytes([1; 32]), self.folder.path().join(machine));
        let topology = Arc::new(Topology::new(self.nodes.clone()));
        let network = Network::new(Arc::new(transport), topology, testing::place("z"));
        Twin::new(&secret, Index::open(index, &secret).unwrap(), Arc::new(network))
    }
}

/// The catalog was restored from a backup of before two renewals by another machine, and one node's copy knows of
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_ends_a_later_lease_that_lives_on_at_one_node() {
    // All of them are homes of the record.
    let restore = Restore::of(4);
    let Restore { nodes, before, restored, .. } = &restore;
    let one = restore.twin(before.clone(), "one");
    let locator = one.put(&restore.path, &options(), &quiet()).await.unwrap().entry.capability.locator();
    let record = before.record(&name(0), &locator).await.unwrap().unwrap();
    for node in nodes {
        restored.put_record(&node.name, &locator, record.clone()).await.unwrap();
    }
    let two = restore.twin(before.clone(), "two");
    two.recover(&quiet()).await.unwrap();
    for day in 1..=2 {
        let later = Renewal { expires: Some(now() + day * 86_400), ..until_day() };
        one.renew(&locator, &later).await.unwrap();
    }
    drop(two);
    let far = Far(name(1), before.clone());
    let two = restore.twin(Intercepted::over(Arc::new(restored.clone()), far), "two");
    assert_eq!(two.remove(&locator).await.unwrap().ended.len(), 1);
    for memory in [before, restored] {
        let held = memory.record(&name(1), &locator).await.unwrap().unwrap();
        let held = Record::decode(&held).unwrap().lease;
        assert_eq!((held.erased, held.version), (true, 4));
    }
}

/// A node of another memory, which gives no record before it was sent one.
struct Shy(NodeName, MemoryTransport, AtomicUsize);

#[async_trait]
impl Intercept for Shy {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if *node == self.0 && matches!(call, Call::PutRecord | Call::PutLease) {
            self.2.store(1, Relaxed);
        }
        match *node == self.0 && call == Call::Record && self.2.load(Relaxed) == 0 {
            true => Err(TransportError::Unreachable { node: node.clone(), reason: "it is shy".to_owned() }),
            false => Ok(()),
        }
    }

    fn instead(&self, node: &NodeName) -> Option<&dyn Transport> {
        (*node == self.0).then_some(&self.1)
    }
}

/// The same where most nodes take what is late: readers go by the newest that any node has.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_and_a_move_are_told_as_done_once_they_are_above_what_one_node_knows() {
    let restore = Restore::of(4);
    let Restore { nodes, before, restored, .. } = &restore;
    let one = restore.twin(before.clone(), "one");
    let stored = one.put(&restore.path, &options(), &quiet()).await.unwrap();
    let made = one.point("site", &NameChange::New(stored.label.clone()), NameTerms::default()).await.unwrap();
    let [object, site] = [&stored.label, &made.label].map(|label| label.capability().locator());
    for locator in [&object, &site] {
        let record = before.record(&name(0), locator).await.unwrap().unwrap();
        for node in nodes {
            restored.put_record(&node.name, locator, record.clone()).await.unwrap();
        }
    }
    restore.twin(before.clone(), "two").recover(&quiet()).await.unwrap();
    let until_day = |day: u64| Renewal { expires: Some(now() + day * 86_400), ..until_day() };
    for day in 1..=2 {
        one.renew(&object, &until_day(day)).await.unwrap();
        one.point("site", &NameChange::Renew, NameTerms::default()).await.unwrap();
    }
    let two = |machine: &str| {
        let shy = Shy(name(1), before.clone(), AtomicUsize::new(0));
        restore.twin(Intercepted::over(Arc::new(restored.clone()), shy), machine)
    };
    two("two").renew(&object, &until_day(3)).await.unwrap();
    let moved = two("two").point("site", &NameChange::Set(stored.label), NameTerms::default()).await.unwrap();
    assert_eq!(moved.entry.tenure.version, 4);
    for locator in [&object, &site] {
        for memory in [before, restored] {
            let held = memory.record(&name(1), locator).await.unwrap().unwrap();
            assert_eq!(Record::decode(&held).unwrap().lease.version, 4);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_erasure_that_few_nodes_know_is_forgotten_once_most_know_it() {
    let way = Way::default();
    let cluster = way.cluster();
    let (one, two) = (machine(&cluster, "one"), machine(&cluster, "two"));
    let stored = one.put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let locator: Locator = stored.entry.capability.locator();
    two.recover(&quiet()).await.unwrap();
    let old = cluster.memory.record(&name(0), &locator).await.unwrap();
    one.remove(&locator).await.unwrap();
    // One knows of the erasure, two went back to before it, and the others to before the object.
    way.show(move |node, record| match (1..=3).find(|origin| *node == name(*origin)) {
        Some(3) => record,
        Some(_) => old.clone(),
        None => None,
    });
    way.fail(|node, call| (call == Call::PutLease && *node != name(3)).then(|| silent(node)));
    let recovered = two.recover(&quiet()).await.unwrap();
    assert_eq!((recovered.forgotten, &recovered.unread), (0, &[locator].into()));
    assert_eq!(two.list().await.len(), 1, "most nodes serve it still");
    way.fail(|_, _| None);
    way.signed.store(0, Relaxed);
    let recovered = two.recover(&quiet()).await.unwrap();
    assert_eq!((recovered.forgotten, recovered.unread.len()), (1, 0));
    assert!(way.signed.load(Relaxed) >= 4 && two.list().await.is_empty(), "the others were told");
}
