//! Folders: stored as they are, walked by path, fetched whole, removed whole.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use client::TransportError;
use format::{Kind, NodeName, OpenError};
use testing::{Call, Intercept, Intercepted, noise};
use twin::{
    Bad, GetError, Index, LeaseChangeError, Listed, Position, Progress, PutError, PutOptions, Renewal, Scope, Sooner,
    Tenure, TreeError, Twin,
};

use crate::{
    lease::publish,
    small_cluster::{ORIGINS, SmallCluster, options, quiet, read_all},
};

pub(crate) fn site(cluster: &SmallCluster) -> std::path::PathBuf {
    for (path, bytes) in [
        ("site/index.html", b"<!doctype html><img src=img/big.bin>".to_vec()),
        ("site/img/big.bin", noise(700_000)),
        ("site/img/a b/\u{fc}.txt", b"umlaut".to_vec()),
        ("site/.well-known/security.txt", b"Contact: mailto:x@example.org".to_vec()),
        ("site/empty.txt", Vec::new()),
    ] {
        cluster.file(path, &bytes);
    }
    std::fs::create_dir(cluster.folder.path().join("site/nothing")).unwrap();
    cluster.folder.path().join("site")
}

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_walked_by_path_and_fetched_whole() {
    let cluster = SmallCluster::start();
    let top = site(&cluster);
    #[cfg(unix)]
    std::os::unix::fs::symlink("index.html", top.join("link")).unwrap();
    let stored = cluster.twin(1).put(&top, &options(), &quiet()).await.unwrap();
    assert_eq!((stored.objects, stored.entry.kind, stored.entry.path.as_str()), (10, Kind::Directory, "site"));
    assert_eq!(stored.bytes, 700_000 + 36 + 6 + 29);
    #[cfg(unix)]
    assert_eq!(stored.skipped, [top.join("link")]);

    let capability = &stored.entry.capability;
    let network = &cluster.network;
    let html = network.find(capability, &path("index.html")).await.unwrap();
    assert_eq!(html.object.manifest().mime, "text/html; charset=utf-8");
    let umlaut = network.find(capability, &path("img/a b/\u{fc}.txt")).await.unwrap();
    assert_eq!(read_all(network, &umlaut).await.unwrap(), b"umlaut");
    let absent = network.find(capability, &path("img/absent")).await.err().unwrap();
    assert!(matches!(absent, GetError::NoEntry { name } if name == "absent"));

    let found = network.find(capability, &[]).await.unwrap();
    let names: Vec<_> = network.directory(&found).await.unwrap().entries().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, [".well-known", "empty.txt", "img", "index.html", "nothing"]);
    let directory = network.directory(&found).await.unwrap();
    let below = &directory.entry("img").unwrap().below;
    assert_eq!(below.keys().collect::<Vec<_>>(), ["a b"]);
    let inner = network.find(capability, &path("img/a b")).await.unwrap();
    assert_eq!(below["a b"].locator(), inner.object.locator());
    let to = cluster.folder.path().join("back");
    let delivered = network.fetch_tree(&found, &to, &quiet()).await.unwrap();
    assert_eq!(delivered.bytes, stored.bytes);
    for file in ["index.html", "img/big.bin", "img/a b/\u{fc}.txt", ".well-known/security.txt", "empty.txt"] {
        assert_eq!(std::fs::read(to.join(file)).unwrap(), std::fs::read(top.join(file)).unwrap(), "{file}");
    }
    assert!(to.join("nothing").is_dir());
    assert!(matches!(network.fetch_tree(&found, &to, &quiet()).await, Err(GetError::Exists { .. })));
    assert!(matches!(network.fetch_file(&found, 0..1, &to.join("x"), &quiet()).await, Err(GetError::Directory)));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_folder_ends_everything_that_was_stored_with_it() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let other = twin.put(&cluster.file("other", b"stays"), &options(), &quiet()).await.unwrap();
    let stored = twin.put(&site(&cluster), &options(), &quiet()).await.unwrap();
    let listed = twin.list().await;
    assert_eq!((listed.len(), listed.values().filter(|entry| entry.position == Position::Top).count()), (11, 2));
    let removed = twin.remove(&stored.entry.capability.locator()).await.unwrap();
    assert_eq!((removed.ended.len(), removed.unknown.len()), (10, 0));
    assert!(removed.ended.values().all(|told| told.missed.is_empty()));
    assert_eq!(twin.list().await.into_values().collect::<Vec<_>>(), [other.entry]);
    for entry in listed.values().filter(|entry| entry.batch == stored.entry.batch) {
        let gone = cluster.network.find(&entry.capability, &[]).await.err().unwrap();
        assert!(matches!(gone, GetError::Read(client::ReadError::Open(OpenError::Erased))), "{gone:?}");
    }
}

fn listed(cluster: &SmallCluster, scope: Scope) -> Vec<Listed> {
    let secret = format::OwnerSecret::from_bytes([1; 32]);
    Index::open(cluster.folder.path().join("owner-1/index"), &secret).unwrap().list(scope)
}

/// Nodes that take so many records and then no more.
pub(crate) struct FewRecords(pub(crate) AtomicUsize);

#[async_trait]
impl Intercept for FewRecords {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::PutRecord && self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            return Err(TransportError::Failed { node: node.clone(), status: 507, reason: "it is full".to_owned() });
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_fails_in_the_middle_is_one_thing_that_one_call_removes() {
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, FewRecords(AtomicUsize::new(20 * 4)))));
    for file in 0..40 {
        cluster.file(&format!("many/f{file}"), b"small");
    }
    let twin = cluster.twin(1);
    let failed = twin.put(&cluster.folder.path().join("many"), &options(), &quiet()).await.unwrap_err();
    assert!(matches!(failed, PutError::Upload { .. }), "{failed:?}");
    let members = twin.list().await;
    assert!(members.len() >= 15 && members.values().all(|entry| entry.position == Position::Inner), "{members:?}");
    for scope in [Scope::Tops, Scope::Unfinished] {
        let lines = listed(&cluster, scope);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let Listed { path, kind, objects, bytes, is_finished, .. } = &lines[0];
        assert_eq!((path.as_str(), *kind, *objects, *is_finished), ("many", Kind::Directory, members.len(), false));
        assert_eq!(*bytes, 5 * members.len() as u64);
    }
    assert_eq!(twin.unfinished().await.unwrap().locators.len(), 1);
    assert_eq!(twin.under("many").await, members.keys().copied().collect());
    assert!(twin.under("man").await.is_empty());
    // Any member stands for all of what did not end.
    let removed = twin.remove(members.last_key_value().unwrap().0).await.unwrap();
    assert_eq!(removed.ended.len() + removed.unknown.len(), members.len());
    assert!(listed(&cluster, Scope::All).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_the_sizes_of_whole_trees() {
    let cluster = SmallCluster::start();
    let stored = cluster.twin(1).put(&site(&cluster), &options(), &quiet()).await.unwrap();
    let lines = listed(&cluster, Scope::Tops);
    assert_eq!((lines.len(), lines[0].bytes, lines[0].objects), (1, stored.bytes, stored.objects));
    let all = listed(&cluster, Scope::All);
    let line = |path: &str| all.iter().find(|line| line.path == path).map(|line| (line.bytes, line.objects)).unwrap();
    assert_eq!((all.len(), line("site/img"), line("site/img/a b")), (10, (700_006, 4), (6, 2)));
    assert_eq!((line("site/nothing"), line("site/img/big.bin")), ((0, 1), (700_000, 1)));
    assert!(listed(&cluster, Scope::Unfinished).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_are_told_before_anything_is_sent_or_left_out() {
    let cluster = SmallCluster::start();
    let top = site(&cluster);
    for name in ["site/Icon\r", "site/img/a\tb"] {
        cluster.file(name, b"x");
    }
    let twin = cluster.twin(1);
    let refused = twin.put(&top, &options(), &quiet()).await.unwrap_err();
    assert!(matches!(&refused, PutError::Tree(TreeError::Bad { faults }) if faults.len() == 2), "{refused:?}");
    assert!(twin.list().await.is_empty());
    let stored = twin.put(&top, &PutOptions { bad: Bad::LeftOut, ..options() }, &quiet()).await.unwrap();
    assert_eq!((stored.objects, stored.bad.len(), twin.list().await.len()), (10, 2, 10));
    assert_eq!(stored.bad[0].path, top.join("Icon\r"));
    let file = twin.put(&top.join("Icon\r"), &options(), &quiet()).await.unwrap_err();
    assert!(matches!(file, PutError::Name { .. }), "{file:?}");
    // `rm --all-of site` takes what lies in a folder of this name.
    let named = PutOptions { name: Some("site/precious".to_owned()), ..options() };
    let file = twin.put(&top.join("index.html"), &named, &quiet()).await.unwrap_err();
    assert!(matches!(file, PutError::Name { .. }), "{file:?}");
}

/// Writes to a file of a folder when its reading begins.
struct Meddler(std::path::PathBuf);

impl Progress for Meddler {
    fn read(&self, bytes: u64) {
        // The empty file may be told before this one is opened.
        if bytes > 0 {
            let file = std::fs::File::options().write(true).open(&self.0).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_its_folder_is_stored_is_an_error_or_left_out() {
    let cluster = SmallCluster::start();
    let top = site(&cluster);
    // What is left is one file with bytes, whose reading the meddler waits for, and empty ones.
    for folder in ["img", ".well-known"] {
        std::fs::remove_dir_all(top.join(folder)).unwrap();
    }
    let twin = cluster.twin(1);
    let meddler: Arc<dyn Progress> = Arc::new(Meddler(top.join("index.html")));
    let failed = twin.put(&top, &options(), &meddler).await.unwrap_err();
    assert!(matches!(failed, PutError::Encoding(twin::EncodingError::Changed { .. })), "{failed:?}");
    // The file is set back, so that the meddler changes it again.
    let file = std::fs::File::options().write(true).open(top.join("index.html")).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    let stored = twin.put(&top, &PutOptions { bad: Bad::LeftOut, ..options() }, &meddler).await.unwrap();
    assert_eq!(stored.bad.iter().map(|it| it.path.clone()).collect::<Vec<_>>(), [top.join("index.html")]);
    assert!(stored.bad[0].reason.contains("changed while it was read"), "{}", stored.bad[0].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_stored_renewed_and_removed_and_one_that_fails_stops_no_other() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let kept = PutOptions {
        tenure: Tenure { retention: format::Retention { keep_until: u64::MAX, expires: 0 }, ..options().tenure },
        ..options()
    };
    let mut uploads: Vec<_> =
        (0..100).map(|file| (cluster.file(&format!("f{file}"), &[file; 100]), options())).collect();
    uploads.push((cluster.folder.path().join("absent"), options()));
    uploads.push((cluster.file("kept", b"x"), kept));
    uploads.push((site(&cluster), options()));
    let stored = twin.put_all(&uploads, &quiet()).await.results;
    assert_eq!(stored.len(), 103);
    assert!(matches!(stored[100], Err(PutError::Path { .. })), "{:?}", stored[100]);
    let tops: Vec<_> = stored.into_iter().filter_map(Result::ok).collect();
    assert_eq!((tops.len(), tops[99].entry.path.as_str(), tops[101].objects), (102, "f99", 10), "in their order");
    let locators = tops.iter().map(|stored| stored.entry.capability.locator()).collect();

    let renewal = Renewal { expires: Some(u64::MAX), sooner: Sooner::Allowed, ..Renewal::default() };
    let (renewed, failed) = twin.renew_all(&locators, &renewal, &quiet()).await.unwrap();
    assert_eq!((renewed.len(), failed.len()), (101 + 10, 0));
    let count = Arc::new(Count::default());
    let progress: Arc<dyn Progress> = count.clone();
    let (removed, failed) = twin.remove_all(&locators, &progress).await.unwrap();
    assert_eq!((removed.ended.len(), failed.len()), (100 + 10, 1));
    assert_eq!((count.all.load(Relaxed), count.done.load(Relaxed)), (110, 110));
    let kept = &tops[100].entry.capability.locator();
    assert!(matches!(failed[kept], LeaseChangeError::Kept { .. }));
    assert_eq!(twin.list().await.keys().collect::<Vec<_>>(), [kept]);
    assert_eq!(Twin::list(&cluster.twin(1)).await.len(), 1);
}

/// Counts how often nodes are asked for a policy.
struct Asks(Arc<AtomicUsize>);

#[async_trait]
impl Intercept for Asks {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        self.0.fetch_add(usize::from(call == Call::Policy), Relaxed);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_asked_for_a_policy_once_for_many_uploads() {
    let asks = Arc::new(AtomicUsize::new(0));
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, Asks(asks.clone()))));
    let twin = cluster.twin(1);
    publish(&twin, "geo").await;
    asks.store(0, Relaxed);
    let under = |policy: &str| {
        let tenure = Tenure { policy: policy.parse().unwrap(), ..options().tenure };
        let options = PutOptions { tenure, ..options() };
        (0..20).map(|file| (cluster.file(&format!("f{file}"), b"x"), options.clone())).collect::<Vec<_>>()
    };
    assert!(twin.put_all(&under("geo"), &quiet()).await.results.iter().all(Result::is_ok));
    assert_eq!(asks.load(Relaxed), ORIGINS);
    let unknown = twin.put_all(&under("goe"), &quiet()).await.results;
    assert!(unknown.iter().all(|put| matches!(put, Err(PutError::Policy(_)))), "{unknown:?}");
}

#[derive(Default)]
struct Count {
    all: AtomicUsize,
    done: AtomicUsize,
}

impl Progress for Count {
    fn leases(&self, objects: usize) {
        self.all.fetch_add(objects, Relaxed);
    }
    fn lease(&self) {
        self.done.fetch_add(1, Relaxed);
    }
}
