//! The same `put` given again, beside itself, and beside another machine of the same owner: nothing is stored twice,
//! nothing is told that nodes do not hold, and what is left over can be found.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use client::{Transport, TransportError};
use format::{Label, NodeName, OwnerSecret, Record, Retention};
use testing::{Call, Intercept, Intercepted, noise, until};
use tokio::sync::watch;
use twin::{Entry, Index, PutError, PutOptions, Resumption, Scope, State, Stored, Tenure, UnfinishedError};

use crate::{
    recover::machine,
    small_cluster::{SmallCluster, name, options, quiet, read_all},
    unfinished::{BYTES, CELLS, SMALL, World},
};

fn index(cluster: &SmallCluster, machine: &str) -> Index {
    Index::open(cluster.folder.path().join(machine).join("index"), &OwnerSecret::from_bytes([1; 32])).unwrap()
}

async fn assert_reads(cluster: &SmallCluster, stored: &Stored, inside: &str, bytes: &[u8]) {
    let path: Vec<_> = inside.split('/').map(str::to_owned).collect();
    let found = cluster.network.find(&stored.entry.capability, &path).await.unwrap();
    assert!(read_all(&cluster.network, &found).await.unwrap() == bytes, "{inside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_machine_erased_of_a_folder_is_sent_again() {
    let world = World::start();
    let bytes = noise(BYTES);
    let folder = world.break_off_folder(&bytes, options()).await;
    let other = machine(&world.cluster, "other");
    other.recover(&quiet()).await.unwrap();
    let erased: BTreeSet<_> = other.list().await.into_keys().collect();
    let (removed, failed) = other.remove_all(&erased, &quiet()).await.unwrap();
    assert_eq!((removed.ended.len(), failed.len()), (SMALL, 0));

    let stored = world.store(&folder, Resumption::Auto).await.unwrap();
    assert_eq!((stored.objects, stored.left_over), (SMALL + 3, 0));
    for number in 0..SMALL {
        assert_reads(&world.cluster, &stored, &number.to_string(), &noise(100 + number)).await;
    }
    assert_reads(&world.cluster, &stored, "z/large", &bytes).await;
    let listed = world.cluster.twin(1).list().await;
    assert!(listed.len() == SMALL + 3 && listed.keys().all(|locator| !erased.contains(locator)), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_machine_may_be_storing_is_told_apart_from_what_did_not_end() {
    let world = World::start();
    world.break_off_folder(&noise(BYTES), options()).await;
    let other = machine(&world.cluster, "other");
    other.recover(&quiet()).await.unwrap();
    let left = other.unfinished().await.unwrap();
    assert_eq!((left.locators.len(), left.elsewhere.len()), (0, 1), "it is young");
    assert_eq!(left.elsewhere[0].objects, SMALL);

    // By the clock of this machine it is old.
    let aged = |entry: Entry| Entry { created: 1, ..entry };
    index(&world.cluster, "other").record_all(other.list().await.into_values().map(aged)).unwrap();
    let other = machine(&world.cluster, "other");
    let left = other.unfinished().await.unwrap();
    assert_eq!((left.locators.len(), left.elsewhere.len()), (1, 0), "nodes hold no more of it than is known here");
    let one = *other.list().await.first_key_value().unwrap().0;
    index(&world.cluster, "other").forget(&[one].into()).unwrap();
    let left = machine(&world.cluster, "other").unfinished().await.unwrap();
    assert_eq!((left.locators.len(), left.elsewhere.len()), (0, 1), "it grows");

    // The machine that stores it knows whose it is, with a journal and without.
    let own = world.cluster.twin(1);
    let left = own.unfinished().await.unwrap();
    assert_eq!((left.locators.len(), left.elsewhere.len()), (1, 0));
    own.end_resumable(world.unfinished().await[0].batch).await.unwrap();
    assert_eq!(own.unfinished().await.unwrap(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_out_of_a_folder_between_two_tries_is_told_and_ended() {
    let world = World::start();
    let folder = world.break_off_folder(&noise(BYTES), options()).await;
    fs::remove_file(folder.join("0")).unwrap();
    fs::write(folder.join("1"), "changed").unwrap();
    let stored = world.store(&folder, Resumption::Only).await.unwrap();
    assert_eq!((world.sent(), stored.objects, stored.left_over), (CELLS, SMALL + 2, 2));
    let twin = world.cluster.twin(1);
    assert_eq!(
        (twin.list().await.len(), index(&world.cluster, "owner-1").list(Scope::Unfinished).len()),
        (SMALL + 4, 2)
    );
    twin.recover(&quiet()).await.unwrap();
    let left = twin.unfinished().await.unwrap();
    assert_eq!((left.locators.len(), left.elsewhere.len()), (2, 0));
    let (removed, failed) = twin.remove_all(&left.locators, &quiet()).await.unwrap();
    assert_eq!((removed.ended.len(), failed.len()), (2, 0));
    assert!(index(&world.cluster, "owner-1").list(Scope::Unfinished).is_empty());
    assert_reads(&world.cluster, &stored, "1", b"changed").await;
    assert_reads(&world.cluster, &stored, "2", &noise(102)).await;
    // The folder takes with it what is left over beside it, and nothing else does.
    assert_eq!(twin.list().await.len(), stored.objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_several_paths_that_is_cut_short_tells_later_what_it_stored() {
    let world = World::start();
    let cluster = &world.cluster;
    let (a, b) = (cluster.file("a", b"first"), cluster.file("b", &noise(9 << 20)));
    let site = cluster.file("site/index.html", b"page").parent().unwrap().to_owned();
    let large = cluster.file("large", &noise(BYTES));
    let uploads: Vec<_> = [&a, &b, &site, &large].map(|path| (path.clone(), options())).into();
    let stop_at = &world.stopping.intercept().stop_at;
    // Those of `b`, and some of the large one. Which come first nobody knows.
    stop_at.store(9 * 6 + CELLS / 2, Relaxed);
    let (twin, paths) = (cluster.twin(1), uploads.clone());
    let task = tokio::spawn(async move { twin.put_all(&paths, &quiet()).await.results.len() });
    world.stopping.intercept().stopped.notified().await;
    let tops = async || cluster.twin(1).list().await.into_values().filter(is_stored_top).collect::<Vec<_>>();
    until("what is small", || async { tops().await.len() >= 2 }).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The threads of what was stopped still end, and may store one more. One of the small ones may not have begun.
    until("the end of the uploads", || async { world.unfinished().await.len() + tops().await.len() >= 3 }).await;
    let before = tops().await;

    stop_at.store(usize::MAX, Relaxed);
    let mut tries = 1..=20;
    let put = loop {
        assert!(tries.next().is_some(), "a thread of what was stopped never ends");
        let put = cluster.twin(1).put_all(&uploads, &quiet()).await;
        // Such a thread may still have the lock of its path.
        let is_busy = |it: &Result<_, PutError>| matches!(it, Err(PutError::Unfinished(UnfinishedError::Busy { .. })));
        if !put.results.iter().any(is_busy) {
            break put;
        }
    };
    let told = labels(&put.results);
    assert!(before.iter().all(|entry| told.contains(&entry.label().to_string())), "{before:?}");
    assert_eq!((world.sent(), tops().await.len()), ((9 + 24) * 6, 4), "nothing is sent or stored twice");
    let site = put.results[2].as_ref().unwrap();
    assert_eq!((site.objects, site.bytes, site.receipt.records > 0), (2, 4, true));
    assert_reads(cluster, site, "index.html", b"page").await;

    // It was not told yet: the answer went to nobody.
    drop(put);
    fs::write(&a, "second").unwrap();
    let put = cluster.twin(1).put_all(&uploads, &quiet()).await;
    let again = labels(&put.results);
    let is_other: Vec<_> = again.iter().zip(&told).map(|(again, told)| again != told).collect();
    assert_eq!(is_other, [true, false, false, false], "what changed is stored, and no other");
    put.told().await;
    assert_eq!(world.unfinished().await, []);
    let anew = cluster.twin(1).put_all(&uploads[..3], &quiet()).await;
    assert!(labels(&anew.results).iter().all(|label| !again.contains(label)), "what was told is stored anew");
}

/// Holds one kind of calls back until it is opened.
struct Holding {
    call: Call,
    open: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
}

/// Returns a cluster whose nodes get none of these calls until it is opened, and how many wait or waited.
fn holding(call: Call) -> (SmallCluster, watch::Sender<bool>, Arc<AtomicUsize>) {
    let ((opened, open), held) = (watch::channel(false), Arc::new(AtomicUsize::new(0)));
    let holding = Holding { call, open, held: held.clone() };
    (SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, holding))), opened, held)
}

#[async_trait]
impl Intercept for Holding {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == self.call {
            self.held.fetch_add(1, Relaxed);
            let _ = self.open.clone().wait_for(|open| *open).await;
        }
        Ok(())
    }
}

/// Its journal goes on under the same name, and with the next version of its lease: nodes may have the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_cut_short_in_its_commit_is_told_later_and_stored_once() {
    for call in [Call::Commit, Call::PutRecord] {
        let (cluster, open, held) = holding(call);
        let uploads = [(cluster.file("b", &noise(5 << 20)), options())];
        let (twin, paths) = (cluster.twin(1), uploads.clone());
        let task = tokio::spawn(async move { twin.put_all(&paths, &quiet()).await.results.len() });
        until("the commit", || async { held.load(Relaxed) > 0 }).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        let ended = async || cluster.twin(1).resumable().await.unwrap().len() == 1;
        until("the end of the upload, whose nodes do not answer", ended).await;
        let begun = cluster.twin(1).list().await;
        assert!(begun.len() == 1 && begun.values().all(|entry| entry.state == State::Committing), "{begun:?}");
        open.send(true).unwrap();

        let told = labels(&cluster.twin(1).put_all(&uploads, &quiet()).await.results);
        let versions: Vec<_> = cluster.twin(1).list().await.into_values().map(|entry| entry.tenure.version).collect();
        // Records that were on their way may have come to all nodes since, and then the object is found there.
        assert!(versions == [2] || call == Call::PutRecord && versions == [1], "{call:?}: {versions:?}");
        // It was not told yet: the answer went to nobody.
        let put = cluster.twin(1).put_all(&uploads, &quiet()).await;
        assert_eq!(labels(&put.results), told, "{call:?}");
        put.told().await;
        assert_eq!((cluster.twin(1).list().await.len(), locks(&cluster).count()), (1, 0));
    }
}

/// As where the answer cannot be written: nobody is told, and the next one of the same options knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_one_path_that_nobody_was_told_of_is_told_by_the_next() {
    let cluster = SmallCluster::start();
    let site = cluster.file("site/index.html", b"page").parent().unwrap().to_owned();
    let mut stored = 0;
    for (path, objects) in [(cluster.file("a", b"small"), 1), (cluster.file("b", &noise(5 << 20)), 1), (site, 2)] {
        let put = cluster.twin(1).put_all(&[(path.clone(), options())], &quiet()).await;
        let first = labels(&put.results);
        drop(put);
        // Killed between the commit and the index's word of it.
        let tops = cluster.twin(1).list().await.into_values().filter(is_stored_top);
        let begun = tops.map(|entry| Entry { state: State::Committing, ..entry });
        index(&cluster, "owner-1").record_all(begun).unwrap();
        let other = PutOptions { name: Some("other".into()), ..options() };
        let other = cluster.twin(1).put(&path, &other, &quiet()).await.unwrap();
        assert_ne!(other.label.to_string(), first[0], "it was asked for something else");
        let again = cluster.twin(1).put(&path, &options(), &quiet()).await.unwrap();
        assert_eq!((again.label.to_string(), again.objects, again.left_over), (first[0].clone(), objects, 0));
        assert_eq!(again.entry.state, State::Stored);
        let anew = cluster.twin(1).put(&path, &options(), &quiet()).await.unwrap();
        assert_ne!(anew.label, again.label, "it was told");
        stored += 3 * objects;
        assert_eq!(cluster.twin(1).list().await.len(), stored);
    }
    assert_eq!(locks(&cluster).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_told_is_told_with_the_end_that_is_asked_for_now() {
    let cluster = SmallCluster::start();
    let site = cluster.file("site/index.html", b"page").parent().unwrap().to_owned();
    let paths = [cluster.file("a", b"small"), cluster.file("b", &noise(5 << 20)), site];
    let put = async |asked: &str, keep_until, expires| {
        let tenure = Tenure { retention: Retention { keep_until, expires }, ..options().tenure };
        let options = PutOptions { tenure, asked_times: asked.into(), ..options() };
        let uploads: Vec<_> = paths.iter().map(|path| (path.clone(), options.clone())).collect();
        cluster.twin(1).put_all(&uploads, &quiet()).await.results
    };
    let end = |before: u64| u64::MAX - before;
    let first = labels(&put("- +30d", 0, end(9)).await);
    for (asked, keep_until, expires) in
        [("- +30d", 0, end(5)), ("- +60d", 0, end(3)), ("- -", 0, 0), ("+1d -", end(9), 0)]
    {
        let again = put(asked, keep_until, expires).await;
        assert_eq!(labels(&again), first, "{asked}");
        for stored in again.into_iter().map(Result::unwrap) {
            assert_eq!(stored.entry.tenure.retention, Retention { keep_until, expires }, "{asked}");
            let (member, _) =
                cluster.twin(1).list().await.into_iter().find(|(_, it)| it.batch == stored.entry.batch).unwrap();
            let record = cluster.memory.record(&name(0), &member).await.unwrap().unwrap();
            assert_eq!(Record::decode(&record).unwrap().lease.retention, Retention { keep_until, expires }, "{asked}");
        }
    }
    assert_eq!(cluster.twin(1).list().await.len(), 4, "nothing was stored twice");
    // A promise cannot be taken back, and perhaps somebody was told of it and uses it: it ends no sooner.
    for (asked, keep_until, expires) in [("+1h -", end(99), 0), ("+1d +1d", end(9), end(9))] {
        let other = put(asked, keep_until, expires).await;
        assert!(labels(&other).iter().all(|label| !first.contains(label)), "{asked}");
    }
    let listed = cluster.twin(1).list().await;
    let held = listed.iter().filter(|(_, it)| first.contains(&Label::open(it.capability.clone()).to_string()));
    let times: Vec<_> = held.map(|(_, it)| it.tenure.retention).collect();
    assert_eq!(times, [Retention { keep_until: end(9), expires: 0 }; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_another_put_of_the_same_tells_what_that_one_stored() {
    let (cluster, open, _) = holding(Call::PutRecord);
    let path = cluster.file("a", b"small");
    let put = || {
        let (twin, path) = (cluster.twin(1), path.clone());
        tokio::spawn(async move { twin.put(&path, &options(), &quiet()).await.unwrap().label })
    };
    let folder = fs::canonicalize(cluster.folder.path()).unwrap().join("owner-1/unfinished");
    let opened = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.filter(|file| file.starts_with(&folder)).count()
    };
    let first = put();
    until("the first has the lock", || async { opened() == 1 }).await;
    let second = put();
    until("the second waits for it", || async { opened() == 2 }).await;
    open.send(true).unwrap();
    assert_eq!(first.await.unwrap(), second.await.unwrap());
    assert_eq!((cluster.twin(1).list().await.len(), locks(&cluster).count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_removes_the_locks_that_killed_programs_left() {
    let cluster = SmallCluster::start();
    let folder = cluster.folder.path().join("owner-1/unfinished");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{}.lock", "ab".repeat(32))), "").unwrap();
    cluster.twin(1).put(&cluster.file("a", b"small"), &options(), &quiet()).await.unwrap();
    assert_eq!(locks(&cluster).count(), 0);
}

fn labels(results: &[Result<Stored, PutError>]) -> Vec<String> {
    results.iter().map(|it| it.as_ref().unwrap().label.to_string()).collect()
}

/// The files beside the index that are there for a while only: journals and locks.
fn locks(cluster: &SmallCluster) -> fs::ReadDir {
    fs::read_dir(cluster.folder.path().join("owner-1/unfinished")).unwrap()
}

fn is_stored_top(entry: &Entry) -> bool {
    entry.position == twin::Position::Top && entry.state == State::Stored
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_being_stored_is_not_stored_a_second_time_meanwhile() {
    let world = World::start();
    let folder = world.cluster.file("site/large", &noise(BYTES)).parent().unwrap().to_owned();
    for path in [folder.join("large"), folder] {
        let half = world.sent() + CELLS / 2;
        world.stopping.intercept().stop_at.store(half, Relaxed);
        let (twin, put) = (world.cluster.twin(1), path.clone());
        let task = tokio::spawn(async move { twin.put(&put, &options(), &quiet()).await });
        until("half of it", || async { world.sent() == half }).await;
        for resumption in [Resumption::Auto, Resumption::Only] {
            let again = PutOptions { resumption, ..options() };
            let twin = world.cluster.twin(1);
            // Nodes take nothing more, so one that is not refused does not end.
            let put = tokio::time::timeout(Duration::from_secs(20), twin.put(&path, &again, &quiet())).await;
            let refused = put.expect("it is refused at once").unwrap_err();
            assert!(matches!(refused, PutError::Unfinished(UnfinishedError::Busy { .. })), "{refused}");
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        until("the end of the upload", || async { world.unfinished().await.len() == 1 }).await;
        let sent = world.sent();
        world.store(&path, Resumption::Only).await.unwrap();
        assert_eq!(world.sent() - sent, CELLS / 2);
    }
    assert_eq!(locks(&world.cluster).count(), 0, "nothing is left of journals and locks");
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// Keeps what a folder has in it at the last record that nodes take.
struct Keeping(PathBuf, Arc<Mutex<Files>>);

impl Keeping {
    fn files(folder: &Path) -> Files {
        let paths = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_none()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

#[async_trait]
impl Intercept for Keeping {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::PutRecord {
            *self.1.lock().unwrap() = Self::files(&self.0);
        }
        Ok(())
    }
}

/// Killed after the nodes have all, and before the journal was ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_stored_to_its_top_is_told_and_not_stored_again() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let state = tempfile::tempdir().unwrap();
    let journals = state.path().join("unfinished");
    let keeping = Keeping(journals.clone(), kept.clone());
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, keeping)));
    let secret = OwnerSecret::from_bytes([1; 32]);
    let twin =
        || twin::Twin::new(&secret, Index::open(state.path().join("index"), &secret).unwrap(), cluster.network.clone());
    let folder = cluster.file("site/img/a", b"picture").parent().unwrap().parent().unwrap().to_owned();
    cluster.file("site/index.html", b"page");
    let put = async || twin().put(&folder, &options(), &quiet()).await.unwrap();
    let first = put().await;
    let restore = || kept.lock().unwrap().iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    restore();
    assert_eq!(Keeping::files(&journals).len(), 1);
    // The index did not come to the end of the commits.
    let begun = twin().list().await.into_values().map(|entry| Entry { state: State::Committing, ..entry });
    Index::open(state.path().join("index"), &secret).unwrap().record_all(begun).unwrap();
    let again = put().await;
    assert_eq!((again.label, again.objects, again.bytes, again.left_over), (first.label.clone(), 4, 11, 0));
    assert_eq!((twin().list().await.len(), Keeping::files(&journals).len()), (4, 0));

    // One that is another now is stored beside it, whole.
    restore();
    cluster.file("site/index.html", b"other page");
    let other = put().await;
    assert!(other.label != first.label && other.left_over == 0);
    assert_eq!(twin().list().await.len(), 8);

    // One that gets other times is noted under the lease that has them.
    restore();
    let retention = Retention { keep_until: 0, expires: u64::MAX - 1 };
    let timed = PutOptions { tenure: Tenure { retention, ..options().tenure }, ..options() };
    for _ in 0..2 {
        let put = twin().put_all(&[(folder.clone(), timed.clone())], &quiet()).await;
        assert_eq!(labels(&put.results), [other.label.to_string()]);
    }
    assert_eq!(twin().list().await.len(), 8);
    assert_reads(&cluster, &first, "index.html", b"page").await;
    assert_reads(&cluster, &other, "index.html", b"other page").await;
}
