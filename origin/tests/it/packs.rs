//! The packs of small shards: what was acknowledged is there whatever is cut or flipped, one fsync serves many commits,
//! and what is dead is won back.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use origin::store::{Disk, Found, Harm, PACK_BYTES_MAX, RealDisk, Step, Store, StoreError, SyncFailure};
use proptest::prelude::*;
use testing::Sample;

use crate::store::{assert_nothing, assert_whole, flip, flip_strips, list_of, locate, open, upload};

/// A machine whose memory is its disk: what was written is there, and nothing waits.
#[derive(Debug, Default)]
struct MemoryDisk;

impl Disk for MemoryDisk {
    fn sync(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn reached(&self, _step: Step) {}

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("{failure}")
    }
}

/// Room for about four entries of the shards below.
const FEW: u32 = 2_000;

/// Zeros shrink to strips of some dozen bytes, so that every byte of a pack can have its turn.
static SMALL: LazyLock<Vec<Sample>> =
    LazyLock::new(|| (0..12).map(|seed| Sample::of(seed, [seed; 32], &[0; 17_000])).collect());

fn open_sized(root: &Path, pack_bytes_max: u32) -> Arc<Store> {
    Arc::new(Store::open_with(root, Arc::new(MemoryDisk), pack_bytes_max).unwrap())
}

fn has(store: &Store, sample: &Sample) -> bool {
    store.has_shard(&sample.sealed.public.id(), 0).unwrap()
}

fn look(store: &Store, sample: &Sample) -> Found {
    store.verify_shard(&sample.sealed.public.id(), 0, 0, u64::MAX).unwrap().found
}

fn remove(store: &Store, sample: &Sample) {
    assert!(store.remove_shard(&sample.sealed.public.id(), 0, SystemTime::now()).unwrap());
}

fn files(root: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(root.join("packs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort_unstable();
    paths
}

/// Leaves a pack in a folder of which little is alive, and one behind it. Returns the log of the first.
pub(crate) fn leave_sparse_pack(root: &Path) -> PathBuf {
    let store = open_sized(root, u32::try_from(11 * entry_bytes()).unwrap());
    for sample in SMALL.iter() {
        upload(&store, sample, 0).unwrap();
    }
    SMALL[..9].iter().for_each(|sample| remove(&store, sample));
    let logs = files(root, "log");
    assert_eq!(logs.len(), 2);
    logs.into_iter().next().unwrap()
}

/// Bytes of the entry of such a shard.
fn entry_bytes() -> u64 {
    let (_dir, _, ends, _) = one_pack();
    ends[0]
}

/// A folder with one pack of three shards and a tombstone of the second, where each entry ends, and the bytes of the
/// log.
fn one_pack() -> (tempfile::TempDir, PathBuf, Vec<u64>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sized(dir.path(), PACK_BYTES_MAX);
    let mut ends = Vec::new();
    let end = || std::fs::metadata(&files(dir.path(), "log")[0]).unwrap().len();
    for sample in &SMALL[..3] {
        upload(&store, sample, 0).unwrap();
        ends.push(end());
    }
    remove(&store, &SMALL[1]);
    ends.push(end());
    drop(store);
    let log = files(dir.path(), "log").remove(0);
    let bytes = std::fs::read(&log).unwrap();
    (dir, log, ends, bytes)
}

#[test]
fn a_log_cut_anywhere_opens_with_every_entry_before_the_cut() {
    let (dir, log, ends, bytes) = one_pack();
    for cut in 0..=bytes.len() {
        std::fs::write(&log, &bytes[..cut]).unwrap();
        let store = open_sized(dir.path(), PACK_BYTES_MAX);
        let before = |entry: usize| ends[entry] <= cut as u64;
        for (entry, sample) in SMALL[..3].iter().enumerate() {
            let expected = before(entry) && !(entry == 1 && before(3));
            assert_eq!(has(&store, sample), expected, "cut at {cut}, entry {entry}");
            if expected {
                assert_eq!(look(&store, sample), Found::Intact);
            }
        }
        assert!(store.damage().iter().all(|damage| damage.shard.is_some()), "a torn end is no damage");
        let end = ends.iter().rfind(|end| **end <= cut as u64).unwrap_or(&0);
        assert_eq!(std::fs::metadata(&log).unwrap().len(), *end);
        // What comes next goes behind it and is found again.
        upload(&store, &SMALL[7], 0).unwrap();
        drop(store);
        let store = open_sized(dir.path(), PACK_BYTES_MAX);
        assert_eq!((look(&store, &SMALL[7]), store.damage().len()), (Found::Intact, 0));
        assert_eq!(has(&store, &SMALL[0]), before(0));
    }
}

#[test]
fn a_flip_of_any_byte_loses_at_most_its_entry_and_is_told() {
    let (dir, log, ends, bytes) = one_pack();
    let without_tombstone = usize::try_from(ends[2]).unwrap();
    let flips =
        (0..bytes.len()).map(|at| (bytes.len(), at)).chain((0..without_tombstone).map(|at| (without_tombstone, at)));
    for (length, at) in flips {
        let mut bad = bytes[..length].to_vec();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&log, &bad).unwrap();
        let store = open_sized(dir.path(), PACK_BYTES_MAX);
        let flipped = ends.iter().position(|end| (at as u64) < *end).unwrap();
        for (entry, sample) in SMALL[..3].iter().enumerate() {
            let object = sample.sealed.public.id();
            let told = store.damage().iter().any(|damage| damage.shard.is_some_and(|shard| shard.object == object));
            if entry == 1 && length == bytes.len() {
                assert!(!has(&store, sample), "the removed stays removed: {at}");
            } else if entry != flipped {
                assert_eq!(look(&store, sample), Found::Intact, "{at} {entry}");
            } else if has(&store, sample) {
                match look(&store, sample) {
                    Found::Intact => {}
                    // A damaged head or tail is written anew, and so is a damaged list. P is only in records.
                    Found::Damaged(harm @ (Harm::Entry | Harm::List)) => {
                        assert!(store.mend_shard(&object, 0).unwrap(), "{at} {harm}");
                        assert_eq!(look(&store, sample), Found::Intact);
                    }
                    Found::Damaged(harm) => assert!(store.quarantine(&object, 0, &harm).unwrap()),
                    Found::More { .. } => panic!("all of it was looked at"),
                }
            } else {
                assert!(told, "{at}");
            }
        }
    }
}

#[test]
fn an_entry_without_head_and_tail_is_lost_alone_and_told_at_every_start() {
    let (dir, log, ends, bytes) = one_pack();
    let mut bad = bytes;
    bad[0] ^= 1;
    bad[usize::try_from(ends[0]).unwrap() - 1] ^= 1;
    std::fs::write(&log, &bad).unwrap();
    for round in 0..2 {
        let store = open_sized(dir.path(), PACK_BYTES_MAX);
        let damage = store.damage().to_vec();
        assert_eq!((damage.len(), &damage[0].bytes, damage[0].shard), (1, &(0..ends[0]), None));
        assert_eq!(has(&store, &SMALL[0]), round > 0, "uploaded again in the first round");
        assert!(!has(&store, &SMALL[1]));
        assert_eq!(look(&store, &SMALL[2]), Found::Intact);
        upload(&store, &SMALL[0], 0).unwrap();
    }
}

#[test]
fn the_index_of_a_full_pack_can_be_lost_or_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sized(dir.path(), FEW);
    for sample in &SMALL[..9] {
        upload(&store, sample, 0).unwrap();
    }
    drop(store);
    let indexes = files(dir.path(), "index");
    assert!(indexes.len() >= 2 && files(dir.path(), "log").len() == indexes.len() + 1);
    let all_are_there = || {
        let store = open_sized(dir.path(), FEW);
        assert!(store.damage().is_empty());
        assert!(SMALL[..9].iter().all(|sample| look(&store, sample) == Found::Intact));
    };
    all_are_there();
    let whole = std::fs::read(&indexes[0]).unwrap();
    for at in 0..whole.len() as u64 {
        flip(&indexes[0], at);
        all_are_there();
        assert_eq!(std::fs::read(&indexes[0]).unwrap(), whole, "made again");
    }
    indexes.iter().for_each(|index| std::fs::remove_file(index).unwrap());
    all_are_there();
    assert_eq!(files(dir.path(), "index"), indexes);
}

#[test]
fn shards_about_as_large_as_a_pack_takes_are_there_after_a_restart() {
    // Two stripes of 4+2: a full strip, and a tail that makes the body as large as an entry may be, more or less.
    for length in (1_056_100..1_056_500).step_by(20) {
        let dir = tempfile::tempdir().unwrap();
        let sample = Sample::new(1, length);
        for column in [0, 5] {
            let store = open(dir.path());
            upload(&store, &sample, column).unwrap();
            drop(store);
            let store = open(dir.path());
            assert_eq!(store.damage(), [], "{length}");
            assert_whole(&store, &sample, column);
        }
    }
}

#[test]
fn what_lies_beside_the_strips_in_a_pack_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 140_000);
    let object = sample.sealed.public.id();
    upload(&store, &sample, 0).unwrap();
    store.put_record(&sample.record(&sample.lease(1), &"o1".parse().unwrap()), 1).unwrap();
    let public = sample.sealed.public.encoded().len() as u64;
    for (before, harm) in [(1, Harm::List), (41, Harm::Public), (41 + public, Harm::Entry)] {
        let (log, strips) = locate(dir.path(), &sample, 0);
        flip(&log, strips - before);
        assert_eq!(look(&store, &sample), Found::Damaged(harm));
        assert!(store.mend_shard(&object, 0).unwrap());
        assert_eq!(look(&store, &sample), Found::Intact);
        assert_whole(&store, &sample, 0);
    }
    // And what a pack cannot mend leaves it.
    flip_strips(dir.path(), &sample, 0, 100);
    assert!(matches!(look(&store, &sample), Found::Damaged(Harm::Strip { strip: 0 })));
    assert!(!store.mend_shard(&object, 0).unwrap());
    assert!(store.quarantine(&object, 0, &Harm::Strip { strip: 0 }).unwrap());
    drop(store);
    assert_nothing(dir.path(), &open(dir.path()), &sample, 0);
}

#[test]
fn small_shards_that_an_older_program_kept_as_files_are_read_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let sample = Sample::new(1, 140_000);
    let object = sample.sealed.public.id();
    let hex = object.to_string();
    let folder = dir.path().join("shards").join(&hex[..2]).join(&hex[2..4]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{object}.0")), sample.shard(0)).unwrap();
    std::fs::write(folder.join(format!("{object}.0.list")), list_of(&sample, 0)).unwrap();
    std::fs::write(folder.join(format!("{object}.public")), sample.sealed.public.encoded()).unwrap();
    let store = open(dir.path());
    assert_whole(&store, &sample, 0);
    assert!(store.confirm_shard(&object, 0).unwrap().is_some());
    upload(&store, &sample, 0).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "it is in a pack now");
    assert_eq!(store.shards(None, 9).unwrap().len(), 1);
    assert_whole(&store, &sample, 0);
    remove(&store, &sample);
    drop(store);
    assert_nothing(dir.path(), &open(dir.path()), &sample, 0);
}

/// A disk that counts, and whose first fsync after [`Gate::close`] takes until the test lets it end.
#[derive(Default)]
struct Gate {
    syncs: AtomicUsize,
    written: AtomicUsize,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

impl Disk for Gate {
    fn sync(&self, file: &File) -> io::Result<()> {
        let closed = self.closed.lock().unwrap();
        let (open, late) = self.opened.wait_timeout_while(closed, Duration::from_secs(20), |closed| *closed).unwrap();
        assert!(!late.timed_out(), "nobody opened the gate");
        drop(open);
        self.syncs.fetch_add(1, Ordering::SeqCst);
        RealDisk.sync(file)
    }

    fn reached(&self, step: Step) {
        if step == Step::EntryWritten {
            self.written.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("{failure}")
    }
}

#[test]
fn commits_that_wait_for_one_fsync_share_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let store = Arc::new(Store::open(dir.path(), gate.clone()).unwrap());
    upload(&store, &SMALL[0], 0).unwrap();
    let before = gate.syncs.load(Ordering::SeqCst);
    gate.set(true);
    std::thread::scope(|scope| {
        for sample in &SMALL[1..] {
            let store = &store;
            scope.spawn(move || {
                let mut draft = store.draft(&sample.sealed.public.id().to_string(), 0, sample.columns.len()).unwrap();
                draft.append(0, &sample.columns[0]).unwrap();
                draft.commit(0, &sample.sealed.public).unwrap();
            });
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while gate.written.load(Ordering::SeqCst) < SMALL.len() {
            assert!(std::time::Instant::now() < deadline, "all are written while the first fsync is under way");
            std::thread::yield_now();
        }
        gate.set(false);
    });
    let syncs = gate.syncs.load(Ordering::SeqCst) - before;
    assert!((1..=2).contains(&syncs), "11 commits took {syncs} fsyncs");
    drop(store);
    let store = open(dir.path());
    assert!(SMALL.iter().all(|sample| look(&store, sample) == Found::Intact));
}

#[test]
fn a_pack_of_which_little_is_left_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let entry = entry_bytes();
    let eleven = u32::try_from(11 * entry).unwrap();
    let store = open_sized(dir.path(), eleven);
    for sample in SMALL.iter() {
        upload(&store, sample, 0).unwrap();
    }
    assert!(store.compact().unwrap().is_none(), "all is alive");
    let logs = files(dir.path(), "log");
    let first = std::fs::metadata(&logs[0]).unwrap().len();
    assert_eq!(first, 11 * entry);
    for sample in &SMALL[..9] {
        remove(&store, sample);
    }
    let won = store.compact().unwrap().expect("two of eleven are alive");
    assert_eq!(won, first - 2 * entry);
    assert!(!logs[0].exists() && !logs[0].with_extension("index").exists());
    let check = |store: &Store| {
        for (number, sample) in SMALL.iter().enumerate() {
            assert_eq!(has(store, sample), number >= 9, "{number}");
            if number >= 9 {
                assert_eq!(look(store, sample), Found::Intact);
            }
        }
    };
    check(&store);
    drop(store);
    check(&open_sized(dir.path(), eleven));
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Put(usize),
    Remove(usize),
    Compact,
    Reopen,
    LoseIndexes,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0usize..12).prop_map(Act::Put),
        4 => (0usize..12).prop_map(Act::Remove),
        3 => Just(Act::Compact),
        1 => Just(Act::Reopen),
        1 => Just(Act::LoseIndexes),
    ];
    proptest::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_that_were_never_written_take_only_their_own_entries_with_them(from in 0usize..1_500, count in 1usize..900) {
        let (dir, log, ends, mut bytes) = one_pack();
        let end = (from + count).min(bytes.len());
        bytes[from.min(end)..end].fill(0);
        std::fs::write(&log, &bytes).unwrap();
        let store = open_sized(dir.path(), PACK_BYTES_MAX);
        let mut start = 0;
        for (sample, end_of_entry) in SMALL[..3].iter().zip(&ends) {
            let is_hit = start < end as u64 && (from as u64) < *end_of_entry;
            start = *end_of_entry;
            let is_removed = sample.sealed.locator == SMALL[1].sealed.locator;
            if !is_hit && !is_removed {
                assert_eq!(look(&store, sample), Found::Intact);
            } else if is_hit && !is_removed && !has(&store, sample) {
                let is_last = end as u64 > ends[2];
                assert!(is_last || !store.damage().is_empty(), "a loss in the middle is told");
            }
        }
    }

    #[test]
    fn whatever_is_put_removed_and_compacted_the_packs_hold_exactly_what_they_should(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Some(open_sized(dir.path(), FEW));
        let mut expected = BTreeSet::new();
        let check = |store: &Store, expected: &BTreeSet<usize>| {
            for (number, sample) in SMALL.iter().enumerate() {
                assert_eq!(has(store, sample), expected.contains(&number), "{number}");
                if expected.contains(&number) {
                    assert_eq!(look(store, sample), Found::Intact);
                }
            }
            assert_eq!(store.shards(None, 99).unwrap().len(), expected.len());
        };
        for act in acts {
            let open = store.as_ref().unwrap();
            match act {
                Act::Put(number) => {
                    upload(open, &SMALL[number], 0).unwrap();
                    expected.insert(number);
                }
                Act::Remove(number) => {
                    remove(open, &SMALL[number]);
                    expected.remove(&number);
                }
                Act::Compact => {
                    open.compact().unwrap();
                }
                Act::Reopen | Act::LoseIndexes => {
                    drop(store.take());
                    if matches!(act, Act::LoseIndexes) && dir.path().join("packs").exists() {
                        files(dir.path(), "index").iter().for_each(|index| std::fs::remove_file(index).unwrap());
                    }
                    store = Some(open_sized(dir.path(), FEW));
                    check(store.as_ref().unwrap(), &expected);
                }
            }
        }
        drop(store);
        check(&open_sized(dir.path(), FEW), &expected);
    }
}

#[test]
fn a_shard_that_is_not_in_a_pack_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let object = SMALL[0].sealed.public.id();
    assert!(matches!(store.verify_shard(&object, 0, 0, 1), Err(StoreError::NoShard { .. })));
    assert!(matches!(store.mend_shard(&object, 0), Err(StoreError::NoShard { .. })));
    assert!(matches!(store.quarantine(&object, 0, &Harm::List), Err(StoreError::NoShard { .. })));
    assert!(store.confirm_shard(&object, 0).unwrap().is_none());
    assert!(store.compact().unwrap().is_none());
}
