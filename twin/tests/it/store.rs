//! Files come back exactly, or not at all.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use client::{ReadError, ShardAsk, TransportError, UploadError};
use format::{Capability, NodeName, Profile, limits::LEASE_PLACES_MAX};
use testing::{Call, Intercept, Intercepted, noise};
use twin::{ByteRange, Deduplication, GetError, Progress, PutError, PutOptions, State, Tenure};

use crate::{
    small_cluster::{ORIGINS, SmallCluster, name, options, quiet, read_all, zone},
    unfinished::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_shape_come_back_exactly() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let sizes =
        [0, 1, 16 << 10, (16 << 10) + 1, 128 << 10, (256 << 10) + 1, (1 << 20) + 7, 4 << 20, (5 << 20) + 12_345];
    for size in sizes {
        let bytes = noise(size);
        let path = cluster.file("noise.bin", &bytes);
        let stored = twin.put(&path, &options(), &quiet()).await.unwrap();
        assert_eq!((stored.entry.length, stored.bytes, stored.objects), (size as u64, size as u64, 1));
        assert_eq!((stored.entry.path.as_str(), stored.entry.state), ("noise.bin", State::Stored));
        let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
        assert_eq!(read_all(&cluster.network, &found).await.unwrap(), bytes, "{size}");

        let to = cluster.folder.path().join("back");
        let delivered = cluster.network.fetch_file(&found, 0..size as u64, &to, &quiet()).await.unwrap();
        assert_eq!(delivered.bytes, size as u64);
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
    }
    assert_eq!(twin.list().await.len(), sizes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_on_one_origin_comes_back_exactly_and_a_damaged_one_is_told() {
    let cluster = SmallCluster::of(1, |memory| memory, Duration::ZERO);
    let options = PutOptions { tenure: Tenure { profile: "1+0".parse().unwrap(), ..Tenure::default() }, ..options() };
    for size in [0, 1, (16 << 10) + 1, (1 << 20) + 7, 5 << 20] {
        let bytes = noise(size);
        let stored = cluster.twin(1).put(&cluster.file("one", &bytes), &options, &quiet()).await.unwrap();
        let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
        assert!(read_all(&cluster.network, &found).await.unwrap() == bytes, "{size}");
        let columns = found.object.public().columns();
        assert_eq!((columns, stored.receipt.durable), (usize::from(size > 16 << 10), columns), "{size}");
        if columns == 1 {
            let ask = ShardAsk { object: found.object.public().id(), column: 0, first: 0, count: 1 };
            assert!(cluster.memory.flip(&name(0), ask, 12_345));
            let lost = read_all(&cluster.network, &found).await;
            assert!(matches!(lost, Err(GetError::Read(ReadError::Lost { .. }))), "{size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_range_is_exact_over_blocks_and_stripes() {
    let cluster = SmallCluster::start();
    let bytes = noise((2 << 20) + 70_001);
    let stored = cluster.twin(1).put(&cluster.file("a", &bytes), &options(), &quiet()).await.unwrap();
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    const BLOCK: usize = 256 << 10;
    for text in
        ["0-0", "0-1", "262143-262144", "1048575-1048576", "1000000-1999999", "-1", "-70002", "2097152-", "5-5000000"]
    {
        let range = text.parse::<ByteRange>().unwrap().of(bytes.len() as u64).unwrap();
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
        let (read, delivered) = cluster.network.read(&found, range, Vec::new(), Path::new("memory")).await.unwrap();
        assert_eq!(read, bytes[start..end], "{text}");
        let blocks = (end - 1) / BLOCK - start / BLOCK + 1;
        assert!(delivered.pulled <= ((blocks + 4) * (BLOCK + 64)) as u64, "{text} pulled {}", delivered.pulled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lost_origins_and_a_flipped_bit_change_nothing_and_three_losses_leave_no_file() {
    let cluster = SmallCluster::start();
    let bytes = noise(9 << 20);
    let stored = cluster.twin(1).put(&cluster.file("a", &bytes), &options(), &quiet()).await.unwrap();
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    let holders: Vec<_> = found.record.placement.iter().flatten().cloned().collect();
    assert_eq!(holders.len(), 6);
    cluster.memory.remove(&holders[0]);
    let ask = ShardAsk { object: found.object.public().id(), column: 1, first: 3, count: 1 };
    assert!(cluster.memory.flip(&holders[1], ask, 12_345));
    let to = cluster.folder.path().join("back");
    let delivered = cluster.network.fetch_file(&found, 0..found.object.length(), &to, &quiet()).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
    assert!(delivered.recovered > 0);
    assert_eq!(delivered.wrong.iter().collect::<Vec<_>>(), [&holders[1]]);

    std::fs::remove_file(&to).unwrap();
    cluster.memory.remove(&holders[2]);
    cluster.memory.remove(&holders[3]);
    let lost = cluster.network.fetch_file(&found, 0..found.object.length(), &to, &quiet()).await;
    assert!(matches!(lost, Err(GetError::Read(ReadError::Lost { .. }))), "{lost:?}");
    let left: Vec<_> =
        std::fs::read_dir(cluster.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("back")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_stored_and_progress_tells_all_of_it() {
    #[derive(Default)]
    struct Heard {
        read: AtomicU64,
        sent: AtomicU64,
        durable: AtomicU64,
    }
    impl Progress for Heard {
        fn read(&self, bytes: u64) {
            self.read.fetch_add(bytes, Relaxed);
        }
        fn sent(&self, bytes: u64) {
            self.sent.fetch_add(bytes, Relaxed);
        }
        fn durable(&self, _: &Path, nodes: usize) {
            self.durable.fetch_add(nodes as u64, Relaxed);
        }
    }
    let cluster = SmallCluster::start();
    let text = "All happy families are alike. ".repeat(200_000);
    let heard = Arc::new(Heard::default());
    let progress: Arc<dyn Progress> = heard.clone();
    let options = PutOptions { name: Some("novel.txt".into()), tags: [("ru".to_owned(), 1877)].into(), ..options() };
    let stream = Box::new(std::io::Cursor::new(text.clone().into_bytes()));
    let stored = cluster.twin(1).put_stream(stream, &options, &progress).await.unwrap();
    assert_eq!(stored.entry.mime, "text/plain; charset=utf-8");
    for heard in [&heard.read, &heard.sent] {
        assert_eq!(heard.load(Relaxed), text.len() as u64);
    }
    assert_eq!(heard.durable.load(Relaxed), 6);
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    assert_eq!((found.object.manifest().name.as_str(), found.object.manifest().tags["ru"]), ("novel.txt", 1877));
    assert_eq!(read_all(&cluster.network, &found).await.unwrap(), text.as_bytes());
    // Compressed on the way: the shards are far smaller than the text.
    let stored: usize =
        (0..ORIGINS).flat_map(|origin| cluster.memory.stored(&name(origin))).map(|strip| strip.len()).sum();
    assert!(stored < text.len() / 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_bind_and_a_cluster_too_small_says_so_before_anything_is_written_down() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", &noise(5 << 20));
    let tenure = Tenure { refused: vec![zone(0), zone(1)], ..options().tenure };
    let stored = twin.put(&path, &PutOptions { tenure, ..options() }, &quiet()).await.unwrap();
    let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
    assert!(found.record.placement.iter().flatten().all(|node| ![name(0), name(1)].contains(node)));

    let tenure = Tenure { profile: Profile::Standard, ..Tenure::default() };
    let refused = twin.put(&path, &PutOptions { tenure, ..options() }, &quiet()).await.unwrap_err();
    assert!(matches!(refused, PutError::Upload { source: UploadError::Placement(_), .. }), "{refused:?}");
    assert_eq!(twin.list().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_places_than_a_lease_takes_are_refused_at_once_and_the_index_stays_good() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", &noise(1 << 20));
    let tenure = Tenure { refused: vec![zone(0); LEASE_PLACES_MAX + 1], ..options().tenure };
    for _ in 0..2 {
        let refused = twin.put(&path, &PutOptions { tenure: tenure.clone(), ..options() }, &quiet()).await;
        assert!(matches!(refused, Err(PutError::Bounds { max: LEASE_PLACES_MAX, .. })), "{refused:?}");
    }
    assert!(cluster.twin(1).list().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_tag_that_no_manifest_takes_is_refused_before_a_byte_is_sent() {
    let world = World::start();
    world.stopping.intercept().stop_at.store(usize::MAX, Relaxed);
    let file = world.cluster.file("site/a", &noise(5 << 20));
    let named = |name: &str| PutOptions { name: Some(name.to_owned()), ..options() };
    let tagged = |tag: &str| PutOptions { tags: [(tag.to_owned(), 1)].into(), ..options() };
    let bad = [named(&"x".repeat(256)), named("a\nb"), tagged("a\nb"), tagged(&"x".repeat(65))];
    for (at, bad) in bad.iter().enumerate() {
        for path in [&*file, file.parent().unwrap()] {
            let refused = world.cluster.twin(1).put(path, bad, &quiet()).await.unwrap_err();
            let is_told = matches!(
                refused,
                PutError::Bounds { what: "name" | "tag", .. } | PutError::Name { .. } | PutError::Tag { .. }
            );
            assert!(is_told, "{at}: {refused:?}");
        }
    }
    assert_eq!((world.sent(), world.cluster.twin(1).list().await.len()), (0, 0));
    for good in [named(&"x".repeat(255)), tagged(&"x".repeat(64))] {
        world.cluster.twin(1).put(&file, &good, &quiet()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_files_share_shards_only_when_asked() {
    let cluster = SmallCluster::start();
    let twin = cluster.twin(1);
    let path = cluster.file("a", &noise(1 << 20));
    let mut objects = Vec::new();
    for deduplication in [Deduplication::On, Deduplication::On, Deduplication::Off] {
        let stored = twin.put(&path, &PutOptions { deduplication, ..options() }, &quiet()).await.unwrap();
        let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
        assert_eq!(read_all(&cluster.network, &found).await.unwrap(), noise(1 << 20));
        objects.push((found.object.public().id(), stored.entry.capability.locator()));
    }
    assert_eq!(objects[0].0, objects[1].0);
    assert_ne!(objects[0].1, objects[1].1, "each upload has a name of its own");
    assert_ne!(objects[0].0, objects[2].0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_is_not_found_and_a_file_has_no_inside() {
    let cluster = SmallCluster::start();
    let unknown = cluster.network.find(&Capability::from_bytes([9; 32]), &[]).await.err().unwrap();
    assert!(matches!(unknown, GetError::Read(ReadError::NotFound { .. })), "{unknown:?}");
    let stored = cluster.twin(1).put(&cluster.file("a", b"x"), &options(), &quiet()).await.unwrap();
    let inside = cluster.network.find(&stored.entry.capability, &["b".to_owned()]).await.err().unwrap();
    assert!(matches!(inside, GetError::NotDirectory { .. }), "{inside:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_dies_at_its_commit_is_listed_and_can_be_removed() {
    let cluster = SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, NoRecords)));
    let twin = cluster.twin(1);
    let failed = twin.put(&cluster.file("a", &noise(1 << 20)), &options(), &quiet()).await.unwrap_err();
    assert!(matches!(failed, PutError::Upload { source: UploadError::Record { .. }, .. }), "{failed:?}");
    let listed = twin.list().await;
    let (locator, entry) = listed.first_key_value().unwrap();
    assert_eq!((listed.len(), entry.state), (1, State::Committing));
    let removed = twin.remove(locator).await.unwrap();
    assert_eq!((removed.ended.len(), removed.unknown.len()), (0, 1));
    assert_eq!(cluster.twin(1).list().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_stuck_origin_do_not_fail_an_upload() {
    for illness in [Illness::Dead, Illness::Stuck] {
        let cluster =
            SmallCluster::over(|inner| Arc::new(Intercepted::over(inner, Ill { illness, node: OnceLock::new() })));
        let bytes = noise(6 << 20);
        let stored = cluster.twin(1).put(&cluster.file("a", &bytes), &options(), &quiet()).await.unwrap();
        // Another origin takes the place of a dead one. A stuck one is not waited for.
        let durable = if illness == Illness::Dead { 6 } else { 5 };
        assert_eq!(stored.receipt.durable, durable, "{illness:?}");
        let found = cluster.network.find(&stored.entry.capability, &[]).await.unwrap();
        assert_eq!(read_all(&cluster.network, &found).await.unwrap(), bytes, "{illness:?}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Illness {
    /// The node cannot be reached.
    Dead,
    /// The node takes every strip, but never confirms that they are durable.
    Stuck,
}

/// Makes one origin fail at storing: the first that an upload asks.
struct Ill {
    illness: Illness,
    node: OnceLock<NodeName>,
}

#[async_trait]
impl Intercept for Ill {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let stores = matches!(call, Call::CreateUpload | Call::Append | Call::Commit);
        if !stores || self.node.get_or_init(|| node.clone()) != node {
            return Ok(());
        }
        match self.illness {
            Illness::Dead => Err(TransportError::Unreachable { node: node.clone(), reason: "dead".to_owned() }),
            Illness::Stuck if call == Call::Commit => std::future::pending().await,
            Illness::Stuck => Ok(()),
        }
    }
}

/// Nodes that take shards and then die before the record.
struct NoRecords;

#[async_trait]
impl Intercept for NoRecords {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::PutRecord { Err(TransportError::TimedOut { node: node.clone() }) } else { Ok(()) }
    }
}
