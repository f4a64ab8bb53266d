//! Shards in an object store: what holds of those on the own disk holds of them, on a folder and on a real S3 server,
//! and an object store that is gone says nothing of shards.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use client::{ShardAsk, Transport};
use format::wire::{Role, frame_cells};
use origin::{
    Config,
    rebuild::{Rebuilt, rebuild},
    store::{BucketFault, CommitError, Disk, Found, Harm, RealDisk, Step, Store, StoreError},
};
use tempfile::TempDir;
use testing::{
    Sample,
    conformance::{status, upload as send},
    noise, origin_config,
};
use tokio::runtime::Runtime;

use crate::{
    crash::dies,
    s3::{ACCESS_KEY, S3, SECRET_KEY},
    store::{assert_nothing, assert_whole, flip, open, upload, walk},
    world::World,
};

/// An object store, and the folder of an origin that keeps its shards there.
struct Place {
    dir: TempDir,
    runtime: Runtime,
    s3: Option<S3>,
}

impl Place {
    fn folder() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), runtime: runtime(), s3: None };
        std::fs::create_dir(place.dir.path().join("objects")).unwrap();
        place
    }

    fn s3() -> Self {
        let mut place = Self::folder();
        let root = place.dir.path().join("objects");
        std::fs::create_dir(root.join("bucket")).unwrap();
        place.s3 = Some(S3::start(&root, place.runtime.handle()));
        place
    }

    fn each() -> [Self; 2] {
        [Self::folder(), Self::s3()]
    }

    /// The lines of a configuration that say where shards go.
    fn settings(&self) -> String {
        let keys = self.dir.path().join("keys.toml");
        let text = format!("access_key_id = {ACCESS_KEY:?}\nsecret_access_key = {SECRET_KEY:?}\n");
        std::fs::write(&keys, text).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
        match &self.s3 {
            None => format!("capacity_bytes = 1_000_000_000\nbucket.url = \"file://{}\"\n", self.objects().display()),
            Some(s3) => format!(
                "capacity_bytes = 1_000_000_000\nbucket.url = \"s3://bucket/deep/o1\"\nbucket.endpoint = {:?}\n\
                 bucket.region = \"eu-test-1\"\nbucket.credentials = {keys:?}\n",
                s3.endpoint()
            ),
        }
    }

    fn config(&self) -> Config {
        config(self.dir.path(), "o1", &self.settings())
    }

    fn try_open(&self, config: &Config) -> Result<Arc<Store>, StoreError> {
        let _on = self.runtime.enter();
        let bucket = config.bucket().unwrap();
        Store::open(&config.data_dir, Arc::new(RealDisk))?.with_bucket(bucket).map(Arc::new)
    }

    fn open(&self) -> Arc<Store> {
        self.try_open(&self.config()).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("o1")
    }

    /// Where both kinds keep objects as files.
    fn objects(&self) -> PathBuf {
        match &self.s3 {
            None => self.dir.path().join("objects"),
            Some(s3) => s3.root.join("bucket/deep/o1"),
        }
    }

    fn object(&self, sample: &Sample, column: usize) -> PathBuf {
        let object = sample.id().to_string();
        self.objects().join("shards").join(&object[..2]).join(format!("{object}.{column:03}"))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn config(dir: &Path, name: &str, settings: &str) -> Config {
    let catalog = format!("sqlite://{}", dir.join("catalog.db").display());
    Config::from_toml(&origin_config(name, &dir.join(name), &catalog, settings)).unwrap()
}

/// A little object, one of some strips, and one whose shards are sent in parts.
static SAMPLES: LazyLock<[Sample; 3]> = LazyLock::new(|| {
    [Sample::new(1, 17_000), Sample::new(2, (2 << 20) + 70_000), Sample::of(3, [3; 32], &noise(36 << 20))]
});

fn large() -> &'static Sample {
    &SAMPLES[2]
}

fn fault<T>(done: Result<T, StoreError>) -> BucketFault {
    match done {
        Err(StoreError::Bucket { fault, .. }) => fault,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn every_shard_becomes_one_object_and_every_range_of_it_reads() {
    for place in Place::each() {
        let store = place.open();
        for sample in &*SAMPLES {
            for column in [0, sample.columns.len() - 1] {
                let bytes = upload(&store, sample, column).unwrap();
                assert_eq!(std::fs::metadata(place.object(sample, column)).unwrap().len(), bytes);
                assert!(bytes > sample.sealed.public.shard_bytes(column));
                assert_eq!(store.confirm_shard(&sample.id(), column).unwrap(), Some(bytes));
                assert_whole(&store, sample, column);
            }
            let (cells, public) = (&sample.columns[0], &sample.sealed.public);
            for first in 0..cells.len() {
                let mut slice = store.slice(&sample.id(), 0, first as u64, 1).unwrap();
                slice.proof().verify(public.root().unwrap(), cells.len(), first..first + 1).unwrap();
                assert_eq!(slice.piece().unwrap().unwrap(), frame_cells(&cells[first..=first]).concat());
                assert!(slice.piece().unwrap().is_none());
            }
            let outside = store.slice(&sample.id(), 0, cells.len() as u64, 1);
            assert!(matches!(outside, Err(StoreError::Range { .. })));
            assert!(matches!(store.slice(&sample.id(), 1, 0, 1), Err(StoreError::NoShard { .. })));
        }
        assert!(!place.data().join("packs").exists(), "all of it is elsewhere");
        assert_eq!(std::fs::read_dir(place.data().join("tmp")).unwrap().count(), 0);
        // After a restart as before.
        drop(store);
        let store = place.open();
        SAMPLES.iter().for_each(|sample| assert_whole(&store, sample, sample.columns.len() - 1));
    }
}

#[test]
fn what_does_not_match_the_manifest_leaves_no_object() {
    for place in Place::each() {
        let store = place.open();
        let sample = Sample::new(1, 3 << 20);
        let other = Sample::new(2, 3 << 20);
        let mut draft = store.draft("wrong", 0, 6).unwrap();
        draft.append(0, &other.columns[0]).unwrap();
        assert!(matches!(draft.commit(0, &sample.sealed.public), Err(CommitError::Root { .. })));
        assert_nothing(&place.data(), &store, &sample, 0);
        assert!(!place.object(&sample, 0).exists());
    }
}

#[test]
fn a_removal_spares_what_was_written_since_it_was_decided() {
    for place in Place::each() {
        let store = place.open();
        for sample in &*SAMPLES {
            upload(&store, sample, 0).unwrap();
            upload(&store, sample, 1).unwrap();
            let now = SystemTime::now();
            assert!(!store.remove_shard(&sample.id(), 0, now - Duration::from_secs(60)).unwrap());
            assert_whole(&store, sample, 0);
            assert!(store.remove_shard(&sample.id(), 0, now).unwrap());
            assert!(store.remove_shard(&sample.id(), 0, now).unwrap());
            assert_nothing(&place.data(), &store, sample, 0);
            assert_whole(&store, sample, 1);
        }
    }
}

#[test]
fn pages_have_the_shards_of_disk_and_object_store_once_and_in_order() {
    for place in Place::each() {
        // Some were here before the operator named an object store.
        let old = [Sample::new(11, 17_000), Sample::new(12, 3 << 20)];
        let mut expected = Vec::new();
        let store = open(&place.data());
        for sample in &old {
            expected.push((sample.id(), 2, upload(&store, sample, 2).unwrap()));
        }
        drop(store);
        let store = place.open();
        for seed in 1..=5 {
            let sample = Sample::new(seed, 17_000);
            for column in 0..3 {
                expected.push((sample.id(), column, upload(&store, &sample, column).unwrap()));
            }
        }
        std::fs::write(place.objects().join("shards/notes"), "not ours").unwrap();
        std::fs::write(place.object(&Sample::new(1, 17_000), 0).with_extension("0"), "another spelling").unwrap();
        expected.sort_unstable();
        for limit in [1, 2, 17, 100] {
            assert_eq!(walk(&store, limit), expected, "{limit}");
        }
        // Uploaded again it moves; removed it is gone from wherever it was.
        for sample in &old {
            assert_whole(&store, sample, 2);
            let before = walk(&store, 100).len();
            upload(&store, sample, 2).unwrap();
            assert_eq!(walk(&store, 100).len(), before);
            assert!(store.remove_shard(&sample.id(), 2, SystemTime::now()).unwrap());
            assert_nothing(&place.data(), &store, sample, 2);
        }
    }
}

#[test]
fn damage_anywhere_in_an_object_is_found_and_the_object_taken_out() {
    for place in Place::each() {
        let store = place.open();
        let sample = Sample::new(1, 4 << 20);
        let (id, public) = (sample.id(), &sample.sealed.public);
        let path = place.object(&sample, 0);
        let look = || store.verify_shard(&id, 0, 0, u64::MAX).unwrap().found;
        let bytes = upload(&store, &sample, 0).unwrap();
        let strips_at = bytes - public.shard_bytes(0);
        let strip = |strip: usize| strips_at + sample.cell_start(0, strip);
        let places = [
            (0, Harm::Public),
            (12, Harm::Public),
            (47, Harm::Public),
            (60, Harm::Public),
            (strips_at - 1, Harm::List),
            (strip(0), Harm::Strip { strip: 0 }),
            (strip(2) - 1, Harm::Strip { strip: 1 }),
            (bytes - 1, Harm::Strip { strip: 3 }),
        ];
        for (at, harm) in places {
            flip(&path, at);
            assert_eq!(look(), Found::Damaged(harm), "{at}");
            assert!(!store.mend_shard(&id, 0).unwrap());
            flip(&path, at);
            assert_eq!(look(), Found::Intact);
            assert!(!store.quarantine(&id, 0, &harm).unwrap(), "it is intact");
        }
        for length in [0, 1, 47, 48, strips_at, bytes - 1] {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            assert_eq!(look(), Found::Damaged(Harm::Public), "{length}");
            assert!(matches!(store.slice(&id, 0, 0, 1), Err(StoreError::Damaged { .. })));
            assert!(store.quarantine(&id, 0, &Harm::Public).unwrap());
            assert_nothing(&place.data(), &store, &sample, 0);
            upload(&store, &sample, 0).unwrap();
            assert_whole(&store, &sample, 0);
        }
        // A damaged one may go as well.
        flip(&path, 0);
        assert!(store.remove_shard(&id, 0, SystemTime::now() + Duration::from_secs(60)).unwrap());
        assert_nothing(&place.data(), &store, &sample, 0);
    }
}

/// What the child of the crash test does: commits the large shard of the configuration in its folder.
pub(crate) fn commit_large(root: &Path, disk: Arc<dyn Disk>) {
    let settings = std::fs::read_to_string(root.join("settings")).unwrap();
    let runtime = runtime();
    let _on = runtime.enter();
    let config = config(root, "o1", &settings);
    let store = Store::open(&config.data_dir, disk).unwrap().with_bucket(config.bucket().unwrap()).unwrap();
    upload(&Arc::new(store), large(), 0).unwrap();
}

#[test]
fn a_crash_at_any_step_leaves_a_whole_shard_or_none() {
    for (number, step) in Step::BUCKET.into_iter().enumerate() {
        for place in Place::each() {
            std::fs::write(place.dir.path().join("settings"), place.settings()).unwrap();
            assert!(dies(place.dir.path(), Step::FILE.len() + Step::PACK.len() + number, 0), "{step:?}");
            let store = place.open();
            let held = store.shards(None, 9).unwrap();
            if step == Step::ObjectSent {
                assert_eq!(held.len(), 1, "who lists finds it");
                assert_whole(&store, large(), 0);
            } else {
                assert!(held.is_empty());
                assert_eq!(store.rested().unwrap().len(), 1, "the upload can go on");
                store.rested().unwrap().into_iter().for_each(|rested| rested.remove().unwrap());
                assert_nothing(&place.data(), &store, large(), 0);
            }
            upload(&store, large(), 0).unwrap();
            assert_whole(&store, large(), 0);
        }
    }
}

#[test]
fn a_server_that_dies_at_any_request_of_a_commit_leaves_a_whole_shard_or_none() {
    let mut place = Place::s3();
    let store = place.open();
    // One request each, and four: begin, two parts, end.
    for (sample, requests) in [(&SAMPLES[0], 1), (large(), 4)] {
        for (after, does_the_last) in (0..=requests).flat_map(|after| [(after, false), (after, true)]) {
            place.s3.as_mut().unwrap().restart_to_die(after, does_the_last);
            let done = upload(&store, sample, 0);
            let died = !place.s3.as_ref().unwrap().is_alive();
            assert_eq!(died, after < requests, "{after}: {done:?}");
            match done {
                Ok(_) => assert!(!died),
                Err(CommitError::Store(error)) => assert_eq!(fault::<()>(Err(error)), BucketFault::Unreachable),
                Err(other) => panic!("{other}"),
            }
            place.s3.as_mut().unwrap().restart();
            if store.has_shard(&sample.id(), 0).unwrap() {
                assert!(!died || (does_the_last && after + 1 == requests), "{after} {does_the_last}");
                assert_whole(&store, sample, 0);
                assert!(store.remove_shard(&sample.id(), 0, SystemTime::now()).unwrap());
            } else {
                assert_nothing(&place.data(), &store, sample, 0);
            }
        }
    }
}

#[test]
fn while_the_server_is_away_nothing_is_said_of_shards() {
    let mut place = Place::s3();
    let store = place.open();
    let sample = large();
    upload(&store, sample, 0).unwrap();
    let count = sample.columns[0].len() as u64;
    let mut slice = store.slice(&sample.id(), 0, 0, count).unwrap();
    let first = slice.piece().unwrap().unwrap();

    place.s3.as_ref().unwrap().stop();
    let began = Instant::now();
    let (id, now) = (sample.id(), SystemTime::now());
    assert_eq!(fault(slice.piece()), BucketFault::Unreachable, "in the middle of a read");
    assert_eq!(fault(store.slice(&id, 0, 0, 1)), BucketFault::Unreachable);
    assert_eq!(fault(store.has_shard(&id, 0)), BucketFault::Unreachable);
    assert_eq!(fault(store.has_shard(&id, 1)), BucketFault::Unreachable);
    assert_eq!(fault(store.confirm_shard(&id, 0)), BucketFault::Unreachable);
    assert_eq!(fault(store.verify_shard(&id, 0, 0, 1)), BucketFault::Unreachable);
    assert_eq!(fault(store.quarantine(&id, 0, &Harm::List)), BucketFault::Unreachable);
    assert_eq!(fault(store.remove_shard(&id, 0, now)), BucketFault::Unreachable);
    assert_eq!(fault(store.shards(None, 9)), BucketFault::Unreachable);
    println!("all was refused after {:?}", began.elapsed());

    place.s3.as_mut().unwrap().restart();
    assert_whole(&store, sample, 0);
    // The read that was cut goes on where it was.
    let mut bytes = first.to_vec();
    while let Some(piece) = slice.piece().unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes, sample.shard(0));
}

#[test]
fn a_bucket_that_is_gone_has_lost_nothing_and_another_origin_is_kept_out() {
    for place in Place::each() {
        let store = place.open();
        let sample = Sample::new(1, 40_000);
        upload(&store, &sample, 0).unwrap();
        let other = config(place.dir.path(), "o2", &place.settings());
        assert!(matches!(place.try_open(&other), Err(StoreError::BucketInUse { owner, .. }) if owner == "o1"));

        let (objects, away) = (place.objects(), place.dir.path().join("away"));
        std::fs::rename(&objects, &away).unwrap();
        std::fs::create_dir(&objects).unwrap();
        assert_eq!(fault(store.has_shard(&sample.id(), 0)), BucketFault::Gone);
        assert_eq!(fault(store.slice(&sample.id(), 0, 0, 1)), BucketFault::Gone);
        assert_eq!(fault(store.verify_shard(&sample.id(), 0, 0, 1)), BucketFault::Gone);
        assert_eq!(fault(store.shards(None, 9)), BucketFault::Gone);
        std::fs::remove_dir_all(&objects).unwrap();
        std::fs::rename(&away, &objects).unwrap();
        assert_whole(&store, &sample, 0);
    }
}

#[test]
fn an_operator_is_told_whether_the_keys_the_bucket_or_the_network_is_at_fault() {
    let place = Place::s3();
    let with = |from: &str, to: &str| {
        let settings = place.settings();
        assert!(settings.contains(from), "{settings}");
        place.try_open(&config(place.dir.path(), "o1", &settings.replace(from, to)))
    };
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    assert_eq!(fault(with(&place.s3.as_ref().unwrap().endpoint(), &nobody)), BucketFault::Unreachable);
    let config = place.config();
    for (key, secret) in [("nobody", SECRET_KEY), (ACCESS_KEY, "wrong-secret-key")] {
        let text = format!("access_key_id = {key:?}\nsecret_access_key = {secret:?}\n");
        std::fs::write(config.bucket.as_ref().unwrap().credentials.as_ref().unwrap(), text).unwrap();
        let refused = place.try_open(&config).err().unwrap();
        let told = format!("{refused} {refused:?}");
        assert!(!told.contains(secret), "{told}");
        assert_eq!(fault::<()>(Err(refused)), BucketFault::Credentials);
    }
}

#[test]
fn an_origin_lives_through_an_outage_damage_and_the_loss_of_its_folder() {
    let mut place = Place::s3();
    let settings = place.settings();
    let world = place.runtime.block_on(World::start_in(tempfile::tempdir().unwrap(), 1, &settings));
    let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
    let samples = [Sample::new(1, 40_000), Sample::new(2, 3 << 20)];
    let put = async |sample: &Sample| send(&twin, &node, &sample.columns[0], 0, &sample.sealed.public).await;
    let read = async |sample: &Sample| {
        twin.read_shard(&node, ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 }).await
    };
    place.runtime.block_on(async {
        for sample in &samples {
            put(sample).await.unwrap();
            read(sample).await.unwrap();
        }
        assert_eq!(world.origin(1).scrub().await.unwrap().quarantined, 0);
    });

    place.s3.as_ref().unwrap().stop();
    place.runtime.block_on(async {
        assert_eq!(status(read(&samples[0]).await), 503);
        assert_eq!(status(put(&samples[1]).await), 503);
        assert!(world.origin(1).scrub().await.is_err());
    });
    place.s3.as_mut().unwrap().restart();

    flip(&place.object(&samples[0], 0), 9_000);
    place.runtime.block_on(async {
        let scrubbed = world.origin(1).scrub().await.unwrap();
        assert_eq!((scrubbed.mended, scrubbed.quarantined), (0, 1));
        assert_eq!(status(read(&samples[0]).await), 404);
        read(&samples[1]).await.unwrap();
        put(&samples[0]).await.unwrap();
    });

    let dir = place.runtime.block_on(world.end());
    for lost in ["o1", "catalog.db"] {
        let path = dir.path().join(lost);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    let config = config(dir.path(), "o1", &settings);
    let rebuilt = |shards_filed, shards_known| Rebuilt { shards_filed, shards_known, ..Rebuilt::default() };
    assert_eq!(place.runtime.block_on(rebuild(&config)).unwrap(), rebuilt(2, 0));
    assert_eq!(place.runtime.block_on(rebuild(&config)).unwrap(), rebuilt(0, 2));
    let world = place.runtime.block_on(World::start_in(dir, 1, &settings));
    place.runtime.block_on(async {
        let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
        for sample in &samples {
            let ask = ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 };
            twin.read_shard(&node, ask).await.unwrap();
        }
        world.end().await;
    });
}
