//! The files of an origin: what matches becomes a shard, anything else leaves nothing.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use format::{Cell, ListProof, ObjectId, Record, limits::SHARD_READ_STRIPS_MAX, wire::read_cells};
use origin::store::{
    AppendError, Checked, CommitError, Disk, Found, Harm, RealDisk, Step, Store, StoreError, SyncFailure,
};
use testing::Sample;

pub(crate) fn open(root: &Path) -> Arc<Store> {
    Arc::new(Store::open(root, Arc::new(RealDisk)).unwrap())
}

pub(crate) fn upload(store: &Arc<Store>, sample: &Sample, column: usize) -> Result<u64, CommitError> {
    // A process that died may have left a draft: no two have one name.
    static UPLOADS: AtomicU64 = AtomicU64::new(0);
    let name = format!("upload-{}-{}", std::process::id(), UPLOADS.fetch_add(1, Ordering::Relaxed));
    let mut draft = store.draft(&name, column, sample.columns.len()).unwrap();
    for (first, cell) in sample.columns[column].iter().enumerate() {
        draft.append(first as u64, std::slice::from_ref(cell)).unwrap();
    }
    draft.commit(column, &sample.sealed.public)
}

/// Reads a whole shard and verifies it as a reader does.
pub(crate) fn assert_whole(store: &Store, sample: &Sample, column: usize) {
    let (public, cells) = (&sample.sealed.public, &sample.columns[column]);
    let count = cells.len();
    let mut slice = store.slice(&public.id(), column, 0, count as u64).unwrap();
    let proof: ListProof = slice.proof().clone();
    let hashes = proof.verify(public.root().unwrap(), count, 0..count).unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = slice.piece().unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes, sample.shard(column));
    assert!(cells.iter().zip(hashes).all(|(cell, hash)| cell.row.hash() == hash));
}

/// The list that lies beside a shard: the hash of each row, then the end of each cell.
pub(crate) fn list_of(sample: &Sample, column: usize) -> Vec<u8> {
    let ends = (1..=sample.columns[column].len()).flat_map(|cells| sample.cell_start(column, cells).to_le_bytes());
    sample.sealed.rows.as_bytes().iter().copied().chain(ends).collect()
}

/// Asserts that nothing of a shard can be read and that no upload is left.
pub(crate) fn assert_nothing(root: &Path, store: &Store, sample: &Sample, column: usize) {
    let object = sample.sealed.public.id();
    assert!(!store.has_shard(&object, column).unwrap());
    assert!(matches!(store.slice(&object, column, 0, 1), Err(StoreError::NoShard { .. })));
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn every_column_becomes_a_shard_and_every_range_of_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // 3 stripes of 4+2, with a tail that leaves columns empty.
    let sample = Sample::new(1, (2 << 20) + 70_000);
    for column in 0..6 {
        let bytes = upload(&store, &sample, column).unwrap();
        assert_eq!(bytes, sample.sealed.public.shard_bytes(column));
        assert_whole(&store, &sample, column);
        let cells = sample.columns[column].len() as u64;
        for first in 0..cells {
            for count in 1..=cells - first {
                let slice = store.slice(&sample.sealed.public.id(), column, first, count).unwrap();
                let range = usize::try_from(first).unwrap()..usize::try_from(first + count).unwrap();
                let wanted: usize = sample.columns[column][range.clone()].iter().map(Cell::size).sum();
                assert_eq!(slice.left_bytes(), wanted as u64);
                let root = sample.sealed.public.root().unwrap();
                slice.proof().verify(root, sample.columns[column].len(), range).unwrap();
            }
        }
        for (first, count) in [(0, 0), (0, cells + 1), (cells, 1), (u64::MAX, 1), (0, SHARD_READ_STRIPS_MAX + 1)] {
            let read = store.slice(&sample.sealed.public.id(), column, first, count);
            assert!(matches!(read, Err(StoreError::Range { .. })), "{first} {count}");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Zeros shrink to a strip of some dozen bytes, so that every bit can have its turn.
    let sample = Sample::of(2, [2; 32], &[0; 17_000]);
    let cell = sample.shard(0);
    for bit in 0..cell.len() * 8 {
        let mut bad = cell.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let Ok(bad) = read_cells(bad.into(), 3, 0, 64) else { continue };
        let mut draft = store.draft("flip", 0, 3).unwrap();
        match draft.append(0, &bad) {
            Err(error) => assert!(matches!(error, AppendError::Strip { strip: 0 }), "{bit}: {error}"),
            // A bit of the row that says nothing about this strip.
            Ok(()) => assert!(matches!(draft.commit(0, &sample.sealed.public), Err(CommitError::Root { .. })), "{bit}"),
        }
    }
    assert_nothing(dir.path(), &store, &sample, 0);
    upload(&store, &sample, 0).unwrap();
    assert_whole(&store, &sample, 0);
}

#[test]
fn what_does_not_match_the_manifest_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (sample, other) = (Sample::new(1, 3 << 20), Sample::new(9, 3 << 20));
    let (cells, public) = (&sample.columns[0], &sample.sealed.public);
    let try_with = |cells: &[Cell], column: usize, public| {
        let mut draft = store.draft("try", 0, 6).unwrap();
        draft.append(0, cells).unwrap();
        draft.commit(column, public)
    };
    assert!(matches!(try_with(&other.columns[0], 0, public), Err(CommitError::Root { .. })));
    assert!(matches!(
        try_with(cells, 0, &other.sealed.public),
        Err(CommitError::Root { .. } | CommitError::Length { .. })
    ));
    assert!(matches!(try_with(cells, 1, public), Err(CommitError::Column { begun: (0, 6), column: 1, columns: 6 })));
    assert!(matches!(try_with(&cells[1..], 0, public), Err(CommitError::Missing { .. })));
    assert!(matches!(try_with(&[&cells[..], &cells[..1]].concat(), 0, public), Err(CommitError::TooMany { .. })));
    let swapped: Vec<_> = cells.iter().rev().cloned().collect();
    assert!(matches!(try_with(&swapped, 0, public), Err(CommitError::Root { .. })));
    let shorter = Sample::new(1, (3 << 20) - 70_000);
    assert!(matches!(try_with(&shorter.columns[0], 0, public), Err(CommitError::Tail)));
    // Column 3 has no strip in its last stripe; a shard that claims one more stripe has a strip after it.
    let tail = Sample::new(1, (2 << 20) + 70_000);
    let mut draft = store.draft("tail", 3, 6).unwrap();
    draft.append(0, &tail.columns[3]).unwrap();
    assert!(matches!(draft.append(3, &tail.columns[3][..1]), Err(AppendError::AfterEmpty { cell: 3 })));
    drop(draft);
    assert_nothing(dir.path(), &store, &sample, 0);

    let mut draft = store.draft("order", 0, 6).unwrap();
    draft.append(0, &cells[..1]).unwrap();
    for first in [0, 2, u64::MAX] {
        assert!(matches!(draft.append(first, &cells[1..2]), Err(AppendError::Order { expected: 1, .. })));
    }
    let changed = Cell { strip: cells[2].strip.clone(), ..cells[1].clone() };
    assert!(matches!(draft.append(1, &[changed]), Err(AppendError::Strip { strip: 1 })));
    let missing = Cell { strip: None, ..cells[1].clone() };
    assert!(matches!(draft.append(1, &[missing]), Err(AppendError::Strip { strip: 1 })));
    // What was refused did not touch the draft.
    draft.append(1, &cells[1..]).unwrap();
    draft.append(0, cells).unwrap();
    draft.commit(0, public).unwrap();
    assert_whole(&store, &sample, 0);
}

#[test]
fn removing_one_shard_keeps_the_other_columns_of_the_object() {
    // In a pack, and as files.
    for length in [40_000, 3 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let sample = Sample::new(1, length);
        let object = sample.sealed.public.id();
        for column in [0, 1] {
            upload(&store, &sample, column).unwrap();
        }
        let now = SystemTime::now();
        // Uploaded again after somebody decided that it may go.
        assert!(!store.remove_shard(&object, 0, now - Duration::from_secs(60)).unwrap());
        assert_whole(&store, &sample, 0);
        assert!(store.remove_shard(&object, 0, now).unwrap());
        assert_nothing(dir.path(), &store, &sample, 0);
        assert_whole(&store, &sample, 1);
        assert!(store.remove_shard(&object, 1, now).unwrap());
        assert!(store.remove_shard(&object, 1, now).unwrap());
        assert!(store.shards(None, 9).unwrap().is_empty());
    }
}

#[test]
fn damage_on_the_disk_is_told_and_a_second_origin_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 3 << 20);
    upload(&store, &sample, 0).unwrap();
    let object = sample.sealed.public.id();
    let hex = object.to_string();
    let shard = dir.path().join("shards").join(&hex[..2]).join(&hex[2..4]).join(format!("{object}.0"));
    std::fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(10).unwrap();
    assert!(matches!(store.slice(&object, 0, 0, 1), Err(StoreError::Damaged { .. })));
    assert!(matches!(Store::open(dir.path(), Arc::new(RealDisk)), Err(StoreError::InUse { .. })));
}

#[test]
fn copies_of_records_never_go_back_and_the_erased_stay_erased() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 40_000);
    let node = "o1".parse().unwrap();
    let locator = sample.sealed.locator;
    assert!(store.record(&locator).unwrap().is_none());
    for (version, expected) in [(2, 2), (1, 2), (3, 3)] {
        store.put_record(&sample.record(&sample.lease(version), &node), 1).unwrap();
        assert_eq!(store.record(&locator).unwrap().unwrap().lease.version, expected);
    }
    // Other manifests change an intact copy under no lease that does not erase; where the shards are follows the
    // catalog.
    let other = |sealed| Record { sealed, ..store.record(&locator).unwrap().unwrap() };
    for forged in [other(None), other(Some(vec![7; 100].into()))] {
        store.put_record(&forged, 1).unwrap();
        assert_eq!(store.record(&locator).unwrap().unwrap().sealed, Some(sample.sealed.sealed.clone()));
    }
    let moved = Record { placement: vec![None; sample.sealed.public.columns()], ..other(None) };
    store.put_record(&moved, 1).unwrap();
    let held = store.record(&locator).unwrap().unwrap();
    assert_eq!((held.placement, held.sealed), (moved.placement, Some(sample.sealed.sealed.clone())));
    store.put_record(&sample.record(&sample.erasure(4), &node), 1).unwrap();
    store.put_record(&sample.record(&sample.lease(5), &node), 1).unwrap();
    let held = store.record(&locator).unwrap().unwrap();
    assert!(held.sealed.is_none() && held.lease.erased && held.lease.version == 4);
    assert_eq!(store.records().unwrap(), [locator]);
    assert_eq!(store.filed_record(&locator).unwrap().unwrap().1, 1);
    // A time that the disk has changed is the newest, and is made good.
    let name = locator.to_string();
    flip(&dir.path().join("records").join(&name[..2]).join(&name), 3);
    assert_eq!(store.filed_record(&locator).unwrap().unwrap().1, u64::MAX);
    store.put_record(&sample.record(&sample.erasure(4), &node), 7).unwrap();
    assert_eq!(store.filed_record(&locator).unwrap().unwrap().1, 7);
    assert_eq!(store.feed_position(), None);
    store.put_feed_position(77).unwrap();
    assert_eq!(store.feed_position(), Some(77));
}

#[test]
fn an_erasure_is_written_over_the_copy_that_it_ends_with_one_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Counts::default());
    let store = Store::open(dir.path(), disk.clone()).unwrap();
    let (sample, node) = (Sample::new(1, 9), "o1".parse().unwrap());
    let name = sample.sealed.locator.to_string();
    let path = dir.path().join("records").join(&name[..2]).join(&name);
    store.put_record(&sample.record(&sample.lease(1), &node), 5).unwrap();
    // Another name of the same bytes: a file that only got another name would keep them.
    let before = dir.path().join("before");
    std::fs::hard_link(&path, &before).unwrap();
    let syncs = disk.syncs.load(Ordering::SeqCst);
    let erased = sample.record(&sample.erasure(2), &node);
    store.put_record(&erased, 9).unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - syncs, 1);
    assert_eq!(std::fs::read(&before).unwrap(), std::fs::read(&path).unwrap());
    let (held, since) = store.filed_record(&sample.sealed.locator).unwrap().unwrap();
    assert_eq!((held.encode(), since), (erased.encode(), 5));
    store.put_record(&erased, 9).unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - syncs, 1, "it is there");
}

#[test]
fn an_erasure_ends_a_copy_whatever_a_disk_made_of_it_and_no_later_one() {
    let (sample, node) = (Sample::new(1, 9), "o1".parse().unwrap());
    let locator = sample.sealed.locator;
    let name = locator.to_string();
    let erased = sample.record(&sample.erasure(2), &node);
    let length = sample.record(&sample.lease(1), &node).encode().len() as u64 + 16;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let path = dir.path().join("records").join(&name[..2]).join(&name);
    for at in (16..length).step_by(61) {
        store.put_record(&sample.record(&sample.lease(1), &node), 5).unwrap();
        flip(&path, at);
        store.put_record(&erased, 5).unwrap();
        assert_eq!(store.record(&locator).unwrap().unwrap().encode(), erased.encode(), "{at}");
        std::fs::remove_file(&path).unwrap();
    }
    store.put_record(&sample.record(&sample.lease(3), &node), 5).unwrap();
    store.put_record(&erased, 5).unwrap();
    assert!(!store.record(&locator).unwrap().unwrap().lease.erased, "the owner signed another lease after it");
}

/// At the fsync that an erasure is acknowledged by, nothing of the sealed manifest may lie in the file, whose tail the
/// file system would give back as it is.
#[test]
fn an_erasure_leaves_zeros_where_the_manifest_was_and_a_tail_of_zeros_is_borne() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Sees::default());
    let store = Store::open(dir.path(), disk.clone()).unwrap();
    // What lies inline, and is longer than an erasure by some blocks of a disk.
    let (sample, node) = (Sample::of(1, [1; 32], &testing::noise_of(1, 12_000)), "o1".parse().unwrap());
    let locator = sample.sealed.locator;
    let name = locator.to_string();
    let path = dir.path().join("records").join(&name[..2]).join(&name);
    store.put_record(&sample.record(&sample.lease(1), &node), 5).unwrap();
    let (length, erased) = (std::fs::read(&path).unwrap().len(), sample.record(&sample.erasure(2), &node));
    let end = erased.encode().len() + 16;
    assert!(end + 8192 < length);
    store.put_record(&erased, 9).unwrap();
    let synced = disk.0.lock().unwrap().clone();
    assert_eq!(synced.len(), length);
    assert!(synced[end..].iter().all(|byte| *byte == 0));
    assert_eq!(std::fs::read(&path).unwrap(), &synced[..end], "it is cut then");
    // The cut is not synced, so a power cut may leave the tail.
    for (tail, is_borne) in [(vec![0], true), (vec![0; length - end], true), (vec![0, 0, 1], false), (vec![1], false)] {
        std::fs::write(&path, [&synced[..end], &tail[..]].concat()).unwrap();
        let read = store.filed_record(&locator);
        assert_eq!(read.is_ok(), is_borne, "{read:?}");
        if let Ok(read) = read {
            assert_eq!(read.unwrap().0.encode(), erased.encode());
        }
    }
}

/// A disk that looks at the file that was synced last.
#[derive(Default)]
struct Sees(std::sync::Mutex<Vec<u8>>);

impl Disk for Sees {
    fn sync(&self, file: &File) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        if file.metadata()?.is_file() {
            *self.0.lock().unwrap() = std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        }
        Ok(())
    }

    fn reached(&self, _step: Step) {}

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("crashed: {failure}")
    }
}

#[test]
fn a_copy_that_another_process_named_gets_a_durable_name_before_it_is_built_on() {
    let dir = tempfile::tempdir().unwrap();
    let (sample, node) = (Sample::new(1, 9), "o1".parse().unwrap());
    let alive = sample.record(&sample.lease(1), &node);
    open(dir.path()).put_record(&alive, 5).unwrap();
    for (record, first) in [(&alive, 1), (&sample.record(&sample.erasure(2), &node), 2)] {
        let disk = Arc::new(Counts::default());
        let store = Store::open(dir.path(), disk.clone()).unwrap();
        let syncs = || disk.syncs.swap(0, Ordering::SeqCst);
        syncs();
        store.put_record(record, 5).unwrap();
        assert_eq!(syncs(), first, "the folder, once");
        store.put_record(record, 5).unwrap();
        assert_eq!(syncs(), 0);
    }
}

#[test]
fn a_draft_is_synced_after_each_64_mib() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Counts::default());
    let store = Arc::new(Store::open(dir.path(), disk.clone()).unwrap());
    let sample = Sample::new(1, (1 << 20) + 1);
    let cell = &sample.columns[0][0];
    let due = (64_usize << 20).div_ceil(cell.size());
    let mut draft = store.draft("upload", 0, sample.columns.len()).unwrap();
    let syncs = || disk.syncs.load(Ordering::SeqCst);
    let before = syncs();
    for appended in 1..=2 * due {
        draft.append(appended as u64 - 1, std::slice::from_ref(cell)).unwrap();
        assert_eq!(syncs() - before, appended / due, "{appended} cells of {} bytes", cell.size());
    }
}

/// A disk that counts its fsyncs.
#[derive(Default)]
struct Counts {
    syncs: AtomicUsize,
}

impl Disk for Counts {
    fn sync(&self, _file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn reached(&self, _step: Step) {}

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("crashed: {failure}")
    }
}

/// The path of the strips of a shard that is a file of its own.
fn strips_path(root: &Path, object: &ObjectId, column: usize) -> PathBuf {
    let hex = object.to_string();
    root.join("shards").join(&hex[..2]).join(&hex[2..4]).join(format!("{object}.{column}"))
}

/// Finds the file of a folder that holds a shard's strips, and where in it: the last such place in the newest pack.
pub(crate) fn locate(root: &Path, sample: &Sample, column: usize) -> (PathBuf, u64) {
    let path = strips_path(root, &sample.sealed.public.id(), column);
    if path.exists() {
        return (path, 0);
    }
    let strips = sample.shard(column);
    let mut logs: Vec<_> = std::fs::read_dir(root.join("packs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort_unstable();
    let found = logs.into_iter().rev().find_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(strips.len()).rposition(|window| window == strips)?;
        Some((path, at as u64))
    });
    found.expect("the shard is in a pack")
}

/// Flips a bit of a shard's strips.
pub(crate) fn flip_strips(root: &Path, sample: &Sample, column: usize, at: u64) {
    let (path, start) = locate(root, sample, column);
    flip(&path, start + at);
}

pub(crate) fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn pages_of_shards_have_each_once_in_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut expected = Vec::new();
    for seed in 1..=5 {
        // Some in packs, some as files.
        let sample = Sample::new(seed, if seed % 2 == 0 { 140_000 } else { 3 << 20 });
        for column in [0, 1, 3] {
            let bytes = upload(&store, &sample, column).unwrap();
            expected.push((sample.sealed.public.id(), column, bytes));
        }
    }
    expected.sort_unstable();
    for limit in [1, 2, 4, 15, 100] {
        assert_eq!(walk(&store, limit), expected, "{limit}");
    }
}

/// All shards with their bytes, by pages of at most `limit`.
pub(crate) fn walk(store: &Store, limit: usize) -> Vec<(ObjectId, usize, u64)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.shards(after.as_ref(), limit).unwrap();
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return found };
        after = Some(last.shard);
        found.extend(page.iter().map(|held| (held.shard.object, held.shard.column, held.bytes)));
    }
}

#[test]
fn a_look_in_steps_finds_exactly_the_strip_that_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // 4 stripes of 4+2.
    let sample = Sample::new(1, 4 << 20);
    let (public, object) = (&sample.sealed.public, sample.sealed.public.id());
    upload(&store, &sample, 0).unwrap();
    let look = |from, budget| store.verify_shard(&object, 0, from, budget).unwrap();
    assert_eq!(look(0, u64::MAX), Checked { bytes: public.shard_bytes(0), found: Found::Intact });
    let mut next = 0;
    for step in 1..=4 {
        let checked = look(next, 1);
        assert_eq!(checked.bytes, sample.columns[0][step - 1].size() as u64);
        match checked.found {
            Found::More { next: strip } if step < 4 => next = strip,
            Found::Intact if step == 4 => {}
            other => panic!("{step}: {other:?}"),
        }
    }
    let path = strips_path(dir.path(), &object, 0);
    for strip in 0..4 {
        let cell = usize::try_from(strip).unwrap();
        let (start, end) = (sample.cell_start(0, cell), sample.cell_start(0, cell + 1));
        for at in [start, end - 1] {
            flip(&path, at);
            for from in 0..=strip {
                assert_eq!(look(from, u64::MAX).found, Found::Damaged(Harm::Strip { strip }));
            }
            assert!(!store.mend_shard(&object, 0).unwrap());
            flip(&path, at);
        }
    }
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(public.shard_bytes(0) - 1).unwrap();
    assert!(matches!(look(0, u64::MAX).found, Found::Damaged(Harm::Length { .. })));
    assert!(matches!(store.verify_shard(&object, 1, 0, 1), Err(StoreError::NoShard { .. })));
}

#[test]
fn lost_sidecars_are_written_anew_from_strips_and_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 4 << 20);
    let object = sample.sealed.public.id();
    upload(&store, &sample, 0).unwrap();
    let strips = strips_path(dir.path(), &object, 0);
    let (list, public) = (strips.with_extension("0.list"), strips.with_extension("public"));
    let look = || store.verify_shard(&object, 0, 0, u64::MAX).unwrap().found;
    // A wrong place of a cell in the middle: nobody is given other bytes for it, and it is mended.
    flip(&list, 4 * 32 + 8);
    assert_eq!(look(), Found::Damaged(Harm::End { cell: 1 }));
    assert!(store.slice(&object, 0, 0, 1).is_ok());
    for (first, count) in [(1, 1), (2, 1), (1, 3), (0, 2)] {
        assert!(matches!(store.slice(&object, 0, first, count), Err(StoreError::Damaged { .. })), "{first} {count}");
    }
    assert!(store.mend_shard(&object, 0).unwrap());
    assert_eq!(look(), Found::Intact);
    for harm in [Harm::List, Harm::Public] {
        let path = if harm == Harm::List { &list } else { &public };
        for damage in [|path: &Path| std::fs::remove_file(path).unwrap(), |path: &Path| flip(path, 40)] {
            damage(path);
            assert_eq!(look(), Found::Damaged(harm));
            if harm == Harm::Public && store.records().unwrap().is_empty() {
                assert!(!store.mend_shard(&object, 0).unwrap(), "P is nowhere");
                store.put_record(&sample.record(&sample.lease(1), &"o1".parse().unwrap()), 1).unwrap();
            }
            assert!(store.mend_shard(&object, 0).unwrap());
            assert_eq!(look(), Found::Intact);
            assert_whole(&store, &sample, 0);
        }
    }
}

#[test]
fn quarantine_takes_the_damaged_shard_alone_and_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let harm = Harm::Strip { strip: 0 };
    // In a pack, and as files.
    for (length, rounds) in [(17_000, 258), (3 << 20, 2)] {
        let sample = Sample::new(1, length);
        let object = sample.sealed.public.id();
        upload(&store, &sample, 1).unwrap();
        for round in 0..rounds {
            upload(&store, &sample, 0).unwrap();
            if round % 100 == 0 {
                assert!(!store.quarantine(&object, 0, &harm).unwrap(), "it is intact");
                assert_whole(&store, &sample, 0);
            }
            flip_strips(dir.path(), &sample, 0, 9);
            assert!(store.quarantine(&object, 0, &harm).unwrap());
            assert_nothing(dir.path(), &store, &sample, 0);
        }
        assert_whole(&store, &sample, 1);
    }
    let kept = std::fs::read_dir(dir.path().join("quarantine")).unwrap();
    let mut names: Vec<_> = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 258, "one entry of each of 254, strips and list of two");
    assert!(names[0].starts_with("00000004-") && names[257].starts_with("00000259-"), "the oldest went");
}
