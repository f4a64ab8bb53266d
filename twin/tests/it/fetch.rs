//! Files and folders fetched to the disk: whole, in their place, and without following what lies there.

use std::{
    fs,
    ops::Range,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use client::{ReadError, TransportError};
use format::NodeName;
use rustix::fs::{CWD, Mode, mkfifoat};
use testing::{Call, Intercept, Intercepted, noise};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use twin::{Found, GetError, Progress, part_of};

use crate::small_cluster::{SmallCluster, options, quiet};

async fn stored(cluster: &SmallCluster, path: &Path) -> Found {
    let stored = cluster.twin(1).put(path, &options(), &quiet()).await.unwrap();
    cluster.network.find(&stored.entry.capability, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_come_back_alone_and_in_a_folder() {
    let cluster = SmallCluster::start();
    let name = "\u{6f22}".repeat(85);
    assert_eq!(name.len(), 255);
    let path = cluster.file(&format!("top/{name}"), b"x");
    let file = stored(&cluster, &path).await;
    let to = cluster.folder.path().join("back");
    fs::create_dir(&to).unwrap();
    cluster.network.fetch_file(&file, 0..1, &to.join(&name), &quiet()).await.unwrap();
    let folder = stored(&cluster, &cluster.folder.path().join("top")).await;
    cluster.network.fetch_tree(&folder, &to.join("\u{fc}".repeat(127)), &quiet()).await.unwrap();
    for back in [to.join(&name), to.join("\u{fc}".repeat(127)).join(&name)] {
        assert_eq!(fs::read(back).unwrap(), b"x");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_replaced_and_a_pipe_or_device_is_written_to() {
    let cluster = SmallCluster::start();
    let bytes = noise(300_000);
    let found = stored(&cluster, &cluster.file("a", &bytes)).await;
    let path = |name: &str| cluster.folder.path().join(name);
    let fetch = |to| {
        let (network, found) = (&cluster.network, &found);
        async move { network.fetch_file(found, 0..300_000, Path::new(&to), &quiet()).await }
    };

    fs::write(path("victim"), "untouched").unwrap();
    symlink("victim", path("link")).unwrap();
    fetch(path("link")).await.unwrap();
    assert_eq!(fs::read(path("victim")).unwrap(), b"untouched");
    assert!(path("link").symlink_metadata().unwrap().is_file() && fs::read(path("link")).unwrap() == bytes);

    mkfifoat(CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let (reader, pipe) = (path("pipe"), path("pipe"));
    let read = tokio::task::spawn_blocking(move || fs::read(reader).unwrap());
    fetch(pipe).await.unwrap();
    assert_eq!(read.await.unwrap(), bytes);
    assert!(path("pipe").symlink_metadata().unwrap().file_type().is_fifo());

    fetch("/dev/null".into()).await.unwrap();
    assert!(Path::new("/dev/null").symlink_metadata().unwrap().file_type().is_char_device());
    let stderr = Path::new("/dev/stderr").read_link().ok();
    let _ = fetch("/dev/no-such-device".into()).await.unwrap_err();
    assert!(!Path::new("/dev/no-such-device").exists());
    assert_eq!(Path::new("/dev/stderr").read_link().ok(), stderr);
}

/// The object's own name is its owner's choice, and would write over whatever is called so in the folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_takes_no_folders_place_and_that_is_told_before_it_is_fetched() {
    let reads = Arc::new(AtomicUsize::new(0));
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, FewReads(reads.clone()))));
    let found = stored(&cluster, &cluster.file("a", &noise(5 << 20))).await;
    let folder = cluster.folder.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for length in [5 << 20, 100] {
        let refused = cluster.network.fetch_file(&found, 0..length, &folder, &quiet()).await;
        // No read is answered, and none is asked for.
        assert!(matches!(&refused, Err(GetError::Folder { path }) if *path == folder), "{:?}", refused.err());
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// Nodes that answer so many reads of shards and then no more.
struct FewReads(Arc<AtomicUsize>);

#[async_trait]
impl Intercept for FewReads {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::ReadShard && self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            return Err(TransportError::TimedOut { node: node.clone() });
        }
        Ok(())
    }
}

#[derive(Default)]
struct Bytes {
    announced: AtomicU64,
    fetched: AtomicU64,
}

impl Progress for Bytes {
    fn file(&self, _: &Path, length: Option<u64>) {
        self.announced.fetch_add(length.unwrap(), Relaxed);
    }
    fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_cut_short_goes_on_where_it_was() {
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let few = FewReads(left.clone());
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, few)));
    for file in 0..40 {
        cluster.file(&format!("top/in/f{file}"), &noise(100_000 + file));
    }
    let top = cluster.folder.path().join("top");
    let found = stored(&cluster, &top).await;
    let to = cluster.folder.path().join("back");
    let part = part_of(&to, &found.object.locator());
    left.store(20, Relaxed);
    let failed = cluster.network.fetch_tree(&found, &to, &quiet()).await;
    assert!(matches!(failed, Err(GetError::Read(ReadError::Lost { .. }))), "{failed:?}");
    assert!(!to.exists());
    assert_eq!(part.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    // One file is damaged meanwhile, and a link was put in the place of another.
    let tree = part.join("tree/in");
    let mut there: Vec<_> = fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!((3..40).contains(&there.len()), "{there:?}");
    there.sort();
    fs::write(&there[0], noise(100_000 + 1)).unwrap();
    fs::remove_file(&there[1]).unwrap();
    symlink("/etc/passwd", &there[1]).unwrap();

    left.store(usize::MAX, Relaxed);
    let bytes = Arc::new(Bytes::default());
    let progress: Arc<dyn Progress> = bytes.clone();
    let delivered = cluster.network.fetch_tree(&found, &to, &progress).await.unwrap();
    assert_eq!(delivered.kept, there.len() - 2);
    let all: u64 = (0..40).map(|file| 100_000 + file).sum();
    assert!(delivered.bytes < all && bytes.fetched.load(Relaxed) == all && bytes.announced.load(Relaxed) == all);
    for file in 0..40 {
        let back = to.join(format!("in/f{file}"));
        assert!(back.symlink_metadata().unwrap().is_file());
        assert!(fs::read(back).unwrap() == noise(100_000 + file), "{file}");
    }
    assert!(!part.exists());
    assert_ne!(to.metadata().unwrap().permissions().mode() & 0o777, 0o700, "as a new folder of this user is");
}

/// Nodes that answer so many reads of shards and let all others wait for ever.
struct Stuck(AtomicUsize, Notify);

#[async_trait]
impl Intercept for Stuck {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::ReadShard && self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            self.1.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Returns how many names lie in a folder once a fetch of a file into it was given up, when no node answered any more.
async fn given_up(length: usize, reads: usize) -> (usize, Vec<String>) {
    let mut stuck = None;
    let cluster = SmallCluster::over(|inner| {
        let it = Arc::new(Intercepted::over(inner, Stuck(AtomicUsize::new(reads), Notify::new())));
        stuck = Some(it.clone());
        it
    });
    let bytes = noise(length);
    let found = stored(&cluster, &cluster.file("a", &bytes)).await;
    let to = cluster.folder.path().join("back");
    fs::create_dir(&to).unwrap();
    let names = || -> Vec<String> {
        fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (quiet, path) = (quiet(), to.join("file"));
    let fetch = cluster.network.fetch_file(&found, 0..bytes.len() as u64, &path, &quiet);
    let stuck = stuck.unwrap();
    let begun = async {
        stuck.intercept().1.notified().await;
        names().len()
    };
    let begun = tokio::select! {
        fetched = fetch => panic!("{fetched:?}"),
        begun = begun => begun,
    };
    (begun, names())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_small_file_that_is_given_up_nothing_stays_and_a_long_one_waits() {
    assert_eq!(given_up(4 << 20, 5).await, (1, vec![]));
    let (begun, names) = given_up(24 << 20, 40).await;
    assert!(begun == 1 && names.len() == 1 && names[0].starts_with(".file.") && names[0].ends_with(".part"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_that_was_cut_short_goes_on_and_what_is_wrong_in_it_does_not_count() {
    const LENGTH: u64 = 24 << 20;
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let few = FewReads(left.clone());
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, few)));
    let bytes = noise(24 << 20);
    cluster.file("top/in/film", &bytes);
    let film = stored(&cluster, &cluster.folder.path().join("top/in/film")).await;
    let tree = stored(&cluster, &cluster.folder.path().join("top")).await;
    let to = cluster.file("back/film", b"as it was");
    let (quiet, part) = (quiet(), part_of(&to, &film.object.locator()));
    let fetch = async |reads| {
        left.store(reads, Relaxed);
        cluster.network.fetch_file(&film, 0..LENGTH, &to, &quiet).await
    };
    let on_its_way = || {
        let names: Vec<_> = fs::read_dir(&part).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        names[0].clone()
    };
    for is_damaged in [false, true] {
        fs::write(&to, b"as it was").unwrap();
        let failed = fetch(40).await;
        assert!(matches!(failed, Err(GetError::Read(ReadError::Lost { .. }))), "{failed:?}");
        assert_eq!(fs::read(&to).unwrap(), b"as it was");
        assert_eq!(part.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let came = on_its_way().metadata().unwrap().len();
        assert!((4 << 20..LENGTH).contains(&came), "{came}");
        let again = fetch(16).await;
        assert!(matches!(again, Err(GetError::Read(ReadError::Lost { .. }))), "{again:?}");
        let more = on_its_way().metadata().unwrap().len();
        assert!(more > came, "{more} after {came}");
        if is_damaged {
            let mut damaged = fs::read(on_its_way()).unwrap();
            damaged[1_000_000] ^= 1;
            fs::write(on_its_way(), damaged).unwrap();
        }
        let delivered = fetch(usize::MAX).await.unwrap();
        assert!(fs::read(&to).unwrap() == bytes);
        let kept = if is_damaged { 0 } else { more };
        assert_eq!((delivered.kept_bytes, delivered.bytes), (kept, LENGTH - kept));
        assert!(!part.exists());
    }

    // So does one in a folder.
    let to = cluster.folder.path().join("folder");
    left.store(40, Relaxed);
    let failed = cluster.network.fetch_tree(&tree, &to, &quiet).await;
    assert!(matches!(failed, Err(GetError::Read(ReadError::Lost { .. }))), "{failed:?}");
    left.store(usize::MAX, Relaxed);
    let delivered = cluster.network.fetch_tree(&tree, &to, &quiet).await.unwrap();
    assert!(delivered.kept_bytes > 4 << 20 && delivered.kept_bytes + delivered.bytes == LENGTH, "{delivered:?}");
    assert!(fs::read(to.join("in/film")).unwrap() == bytes);
}

/// Nodes whose answers to some reads of shards are lost, as in a gap of the network.
struct Gap {
    reads: AtomicUsize,
    lost: Range<usize>,
}

#[async_trait]
impl Intercept for Gap {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::ReadShard && self.lost.contains(&self.reads.fetch_add(1, Relaxed)) {
            return Err(TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() });
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_network_ends_no_fetch_and_costs_no_strip_twice() {
    let (mut gap, patience) = (None, Duration::from_secs(20));
    let cluster = SmallCluster::patient(
        |inner| {
            let it = Arc::new(Intercepted::over(inner, Gap { reads: AtomicUsize::new(0), lost: 30..60 }));
            gap = Some(it.clone());
            it
        },
        patience,
    );
    let bytes = noise(24 << 20);
    let found = stored(&cluster, &cluster.file("a", &bytes)).await;
    let to = cluster.folder.path().join("back");
    let delivered = cluster.network.fetch_file(&found, 0..24 << 20, &to, &quiet()).await.unwrap();
    assert!(fs::read(&to).unwrap() == bytes);
    // Some may be hedged where the machine is busy.
    let came = gap.unwrap().intercept().reads.load(Relaxed) - 30;
    assert!((96..=120).contains(&came), "{came} strips for 96");
    assert!(delivered.pulled >= 24 << 20, "{delivered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_for_a_folder_that_others_may_write_to_is_refused() {
    let cluster = SmallCluster::start();
    cluster.file("top/f", b"x");
    let found = stored(&cluster, &cluster.folder.path().join("top")).await;
    let to = cluster.folder.path().join("back");
    let part = part_of(&to, &found.object.locator());
    fs::create_dir(&part).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o777)).unwrap();
    let open = cluster.network.fetch_tree(&found, &to, &quiet()).await;
    assert!(matches!(&open, Err(GetError::Write { path, .. }) if *path == part), "{open:?}");
    fs::remove_dir(&part).unwrap();
    symlink(cluster.folder.path(), &part).unwrap();
    let link = cluster.network.fetch_tree(&found, &to, &quiet()).await;
    assert!(matches!(&link, Err(GetError::Write { path, .. }) if *path == part), "{link:?}");
    assert!(!to.exists());
}

/// Answers reads of shards once eight were waiting at a time: more than one file of 2+2 asks for.
struct Together(watch::Sender<usize>);

const TOGETHER: usize = 8;

/// A read that waits; one that is given up no longer counts.
struct Waits<'t>(&'t watch::Sender<usize>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= usize::from(*waiting < TOGETHER));
    }
}

#[async_trait]
impl Intercept for Together {
    type Pass = ();

    async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::ReadShard {
            self.0.send_modify(|waiting| *waiting += usize::from(*waiting < TOGETHER));
            let _waits = Waits(&self.0);
            self.0.subscribe().wait_for(|waiting| *waiting >= TOGETHER).await.expect("the sender is here");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_folder_are_fetched_side_by_side() {
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, Together(watch::Sender::new(0)))));
    for file in 0..16 {
        cluster.file(&format!("top/f{file}"), &noise(200_000 + file));
    }
    let found = stored(&cluster, &cluster.folder.path().join("top")).await;
    let to = cluster.folder.path().join("back");
    let fetched = timeout(Duration::from_secs(30), cluster.network.fetch_tree(&found, &to, &quiet())).await;
    assert_eq!(fetched.expect("one file after the other never ends").unwrap().bytes, 16 * 200_000 + 120);
}
