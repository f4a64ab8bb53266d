//! The index of uploads: every recorded entry survives a crash at any byte, and no entry is on disk unsealed.

use std::{collections::BTreeSet, path::Path};

use format::{Capability, Kind, Locator, ManifestHash, ObjectId, OwnerSecret, Retention, limits::LEASE_PLACES_MAX};
use twin::{
    Batch, Change, Entry, Hashes, Index, IndexError, MOVES_MAX, Move, NameState, Position, Scope, State, Tenure,
};

fn secret() -> OwnerSecret {
    OwnerSecret::from_bytes([7; 32])
}

pub(crate) fn entry(byte: u8) -> Entry {
    Entry {
        capability: Capability::from_bytes([byte; 32]),
        state: State::Stored,
        path: format!("photos of summer/cat {byte}.jpg"),
        length: u64::from(byte) << 32,
        mime: "image/jpeg".into(),
        kind: Kind::File,
        created: 1_700_000_000,
        tags: if byte.is_multiple_of(2) { BTreeSet::new() } else { ["premium".to_owned()].into() },
        tenure: Tenure { version: 1, wanted: vec!["country:BE".parse().unwrap()], ..Tenure::default() },
        batch: Batch([byte / 10; 16]),
        position: if byte.is_multiple_of(10) { Position::Top } else { Position::Inner },
        hashes: (byte % 10 == 1)
            .then_some(Hashes { object: ObjectId([byte; 32]), manifest: ManifestHash([!byte; 32]) }),
        name: (byte == 12).then(|| NameState {
            fresh_until: 1_800_000_000,
            seconds: 60,
            moves: vec![Move { version: 1, at: 1_700_000_000, target: Locator([byte; 32]) }],
        }),
    }
}

fn entries(index: &Index) -> Vec<Entry> {
    let mut entries: Vec<_> = index.entries().map(|(_, entry)| entry.clone()).collect();
    entries.sort_by_key(|entry| entry.length);
    entries
}

fn open(path: &Path) -> Result<Index, IndexError> {
    Index::open(path, &secret())
}

#[test]
fn entries_come_back_superseded_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = open(&path).unwrap();
    assert_eq!(entries(&index), []);
    for byte in [10, 11, 12, 20] {
        index.record(Entry { state: State::Committing, ..entry(byte) }).unwrap();
        index.record(entry(byte)).unwrap();
    }
    assert_eq!(entries(&open(&path).unwrap()), [10, 11, 12, 20].map(entry));
    let top = entry(10).capability.locator();
    let inner = entry(11).capability.locator();
    let family = |asked: &[_]| index.families(&asked.iter().copied().collect());
    assert_eq!(family(&[top])[&top].len(), 3);
    assert_eq!(family(&[inner])[&inner].keys().collect::<Vec<_>>(), [&inner]);
    // What belongs to a folder that is asked for is nothing beside it. What nobody knows is alone.
    let stranger = entry(99).capability.locator();
    let both = family(&[top, inner, stranger]);
    assert_eq!((both.len(), both[&top].len(), both[&stranger].len()), (2, 3, 0));
    let gone = both[&top].keys().copied().collect();
    index.forget(&gone).unwrap();
    index.record(entry(30)).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [20, 30].map(entry));
}

#[test]
fn of_two_programs_the_one_with_the_newer_lease_counts_and_what_one_removed_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let (mut one, mut other) = (open(&path).unwrap(), open(&path).unwrap());
    let lease = |version| {
        let it = entry(1);
        Entry { tenure: Tenure { version, ..it.tenure.clone() }, ..it }
    };
    one.record_all([entry(1), entry(2)]).unwrap();
    other.record(Change::Lease(lease(3))).unwrap();
    // It looked before the other one wrote.
    one.record_all([Change::Lease(lease(2)), lease(2).into()]).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [lease(3), entry(2)]);
    assert_eq!(entries(&one), [lease(3), entry(2)]);
    one.record_all([Change::Lease(lease(5)), Change::Lease(lease(4))]).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [lease(5), entry(2)], "also when both are written at once");
    other.forget(&[entry(1).capability.locator()].into()).unwrap();
    one.record(Change::Lease(lease(6))).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [entry(2)]);
    one.record(lease(1)).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [lease(1), entry(2)], "who stores it stores it");
}

#[test]
fn a_cut_at_any_byte_leaves_what_was_acknowledged_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut ends = vec![44];
    let mut index = open(&path).unwrap();
    for byte in 1..=3 {
        index.record(entry(byte)).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    let whole = std::fs::read(&path).unwrap();
    for cut in 44..=whole.len() {
        let acknowledged = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
        let expected_of = |count: usize| -> Vec<_> { (1..=u8::try_from(count).unwrap()).map(entry).collect() };
        // The end may be missing, or the file may have grown before the bytes were written.
        let end = ends.iter().find(|end| **end >= cut as u64).unwrap();
        for grown in [cut, usize::try_from(*end).unwrap()] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(grown, 0);
            // Now and then a frame ends with a zero itself; then nothing of it is missing.
            let expected = if grown > cut && bytes == whole[..grown] {
                expected_of(acknowledged + 1)
            } else {
                expected_of(acknowledged)
            };
            std::fs::write(&path, &bytes).unwrap();
            let mut index = open(&path).unwrap();
            assert_eq!(entries(&index), expected, "cut at {cut}, grown to {grown}");
            // And the next write continues from there.
            index.record(entry(9)).unwrap();
            assert_eq!(entries(&open(&path).unwrap()).len(), expected.len() + 1);
        }
    }
}

#[test]
fn a_crash_between_writing_anew_and_renaming_leaves_the_old_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = open(&path).unwrap();
    index.record(entry(1)).unwrap();
    index.record(entry(2)).unwrap();
    let old = std::fs::read(&path).unwrap();
    index.forget(&BTreeSet::from([entry(1).capability.locator()])).unwrap();
    let new = std::fs::read(&path).unwrap();
    // A crash may leave any part of the new file under its temporary name: the index is still the old one, and can be
    // written.
    for cut in (0..=new.len()).step_by(13) {
        std::fs::write(&path, &old).unwrap();
        std::fs::write(folder.path().join("index.4711.0.new"), &new[..cut]).unwrap();
        let mut index = open(&path).unwrap();
        assert_eq!(entries(&index), [1, 2].map(entry));
        std::fs::write(folder.path().join("index.other.new"), "another's").unwrap();
        index.forget(&BTreeSet::from([entry(2).capability.locator()])).unwrap();
        assert_eq!(entries(&open(&path).unwrap()), [entry(1)]);
        let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["index", "index.lock", "index.other.new"], "what the crash left is gone");
    }
}

#[test]
fn a_changed_byte_is_damage_or_costs_the_last_entry_which_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = open(&path).unwrap();
    index.record(entry(1)).unwrap();
    index.record(entry(2)).unwrap();
    let last = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    index.record(entry(3)).unwrap();
    drop(index);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).unwrap();
        match open(&path) {
            Err(IndexError::Damaged { .. }) => {}
            // A version and an owner in the header are told as such.
            Err(IndexError::Version { .. } | IndexError::OtherOwner { .. }) if at < 44 => {}
            Ok(index) => {
                assert!(at >= last, "byte {at} of an older frame went unseen");
                assert_eq!(entries(&index), [1, 2].map(entry));
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bad).unwrap();
    open(&path).unwrap().record(entry(4)).unwrap();
    assert_eq!(std::fs::read(path.with_extension("torn")).unwrap(), bad[last..]);
}

#[test]
fn two_programs_write_one_index_and_neither_loses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let write = |from: u8| {
        let path = path.clone();
        std::thread::spawn(move || {
            let mut index = open(&path).unwrap();
            for byte in from..from + 10 {
                index.record(entry(byte)).unwrap();
                if byte == from + 5 {
                    index.forget(&BTreeSet::from([entry(from).capability.locator()])).unwrap();
                }
            }
        })
    };
    [write(100), write(200)].into_iter().for_each(|thread| thread.join().unwrap());
    let expected: Vec<_> = (101..110).chain(201..210).map(entry).collect();
    assert_eq!(entries(&open(&path).unwrap()), expected);
}

#[test]
fn only_its_owner_reads_it_and_a_forgotten_name_is_gone_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = open(&path).unwrap();
    index.record(entry(1)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for window in [&[1; 32][..], b"photos", b"image/jpeg"] {
        assert!(!bytes.windows(window.len()).any(|found| found == window));
    }
    let other = Index::open(&path, &OwnerSecret::from_bytes([8; 32]));
    assert!(matches!(other, Err(IndexError::OtherOwner { .. })));
    let before = bytes.len();
    index.forget(&BTreeSet::from([entry(1).capability.locator()])).unwrap();
    assert_eq!((std::fs::read(&path).unwrap().len(), before > 44), (44, true));
}

#[test]
fn a_name_remembers_its_newest_moves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let moves =
        |count: u64| (1..=count).map(|version| Move { version, at: version, target: Locator([1; 32]) }).collect();
    let named = |count| Entry { name: Some(NameState { fresh_until: 9, seconds: 0, moves: moves(count) }), ..entry(1) };
    let most = MOVES_MAX as u64;
    open(&path).unwrap().record(named(most + 5)).unwrap();
    let read = entries(&open(&path).unwrap()).remove(0).name.unwrap();
    assert_eq!((read.moves.len(), read.moves[0].version, read.moves[MOVES_MAX - 1].version), (MOVES_MAX, 6, most + 5));
}

#[test]
fn an_entry_that_would_not_come_back_is_refused_before_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = open(&path).unwrap();
    index.record(entry(1)).unwrap();
    let places = |count| vec!["zone:z".parse().unwrap(); count];
    let with = |count| Entry { tenure: Tenure { wanted: places(count), ..Tenure::default() }, ..entry(2) };
    let good = std::fs::read(&path).unwrap();
    for too_many in [with(LEASE_PLACES_MAX + 1), Entry { mime: "x".repeat(1000), ..entry(2) }] {
        let refused = index.record_all(vec![entry(3), too_many.clone()]);
        assert!(matches!(refused, Err(IndexError::Unfit { ref name, .. }) if *name == too_many.path), "{refused:?}");
        assert!(std::fs::read(&path).unwrap() == good);
    }
    index.record(with(LEASE_PLACES_MAX)).unwrap();
    index.record(entry(3)).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [entry(1), with(LEASE_PLACES_MAX), entry(3)]);
}

#[test]
fn what_expired_is_forgotten_a_day_after_its_end() {
    const DAY: u64 = 86_400;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let ending = |byte, keep_until, expires| Entry {
        tenure: Tenure { retention: Retention { keep_until, expires }, ..Tenure::default() },
        ..entry(byte)
    };
    let name = NameState { fresh_until: 9, seconds: 0, moves: vec![] };
    let all = [
        ending(1, 0, 0),
        ending(2, 0, DAY),
        ending(3, 0, DAY + 1),
        ending(4, 2 * DAY, DAY),
        Entry { name: Some(name), ..ending(5, 0, DAY) },
    ];
    open(&path).unwrap().record_all(all.clone()).unwrap();
    assert_eq!(open(&path).unwrap().compact(2 * DAY - 1).unwrap().forgotten, 0);
    assert_eq!(open(&path).unwrap().compact(2 * DAY).unwrap().forgotten, 1);
    let left: Vec<_> = [0, 2, 3, 4].map(|at| all[at].clone()).into();
    assert_eq!(entries(&open(&path).unwrap()), left);
}

/// As many different entries as asked for.
fn many(count: u16) -> Vec<Entry> {
    let capability = |number: u16| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        Capability::from_bytes(bytes)
    };
    (0..count).map(|number| Entry { capability: capability(number), length: u64::from(number), ..entry(1) }).collect()
}

#[test]
fn an_index_of_which_half_is_superseded_is_rewritten_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let bytes = || std::fs::metadata(&path).unwrap().len();
    let mut index = open(&path).unwrap();
    index.record_all(many(1000)).unwrap();
    let once = bytes();
    // Another program that has read the index goes on with the new file.
    let mut other = open(&path).unwrap();
    index.record_all(many(999)).unwrap();
    let twice = bytes();
    assert!(twice > once + once * 9 / 10, "less than half is superseded");
    index.record_all(many(1)).unwrap();
    assert!(bytes() <= once, "{} {once}", bytes());
    let expected = many(1000);
    assert_eq!(entries(&open(&path).unwrap()), expected);
    other.record_all(many(10)).unwrap();
    index.record(entry(9)).unwrap();
    assert_eq!(entries(&open(&path).unwrap()), [expected, vec![entry(9)]].concat());
    // A small one is left alone.
    let small = folder.path().join("small");
    let mut index = open(&small).unwrap();
    (0..3).for_each(|_| index.record(entry(1)).unwrap());
    let report = Index::check(&small, &secret()).unwrap();
    assert_eq!((report.frames, report.live, report.dead), (3, 1, 2));
}

#[test]
fn a_check_counts_what_is_there_and_names_the_first_fault_and_compaction_drops_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = open(&path).unwrap();
    index.record_all(vec![entry(1), entry(2)]).unwrap();
    index.record(Entry { state: State::Committing, ..entry(2) }).unwrap();
    let second = std::fs::metadata(&path).unwrap().len();
    index.record(entry(3)).unwrap();
    let check = || Index::check(&path, &secret()).unwrap();
    let good = std::fs::read(&path).unwrap();
    let report = check();
    assert_eq!((report.frames, report.live, report.dead, report.bytes), (3, 3, 1, good.len() as u64));
    assert!(report.fault.is_none() && !report.is_torn && report.good_bytes == report.bytes);

    let at = usize::try_from(second).unwrap();
    let mut bad = good.clone();
    bad[at - 1] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let report = check();
    assert_eq!((report.frames, report.live, report.dead), (1, 2, 0));
    assert!(
        matches!(report.fault, Some(IndexError::Damaged { at, .. }) if at == report.good_bytes && at < second),
        "{:?}",
        report.fault
    );
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    let report = check();
    assert!(report.is_torn && report.fault.is_none() && report.good_bytes == second, "{report:?}");
    assert_eq!(std::fs::read(&path).unwrap(), good[..good.len() - 1], "a check changes nothing");

    std::fs::write(&path, &good).unwrap();
    let freed = open(&path).unwrap().compact(0).unwrap().freed_bytes;
    let report = check();
    assert_eq!((report.frames, report.live, report.dead), (1, 3, 0));
    assert!(freed > 0 && report.bytes == good.len() as u64 - freed);
    assert!(matches!(Index::check(folder.path().join("none"), &secret()), Err(IndexError::Io { .. })));
}

#[test]
fn a_top_that_an_earlier_attempt_left_stands_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(&folder.path().join("index")).unwrap();
    let top = |byte| Entry { path: "c".into(), name: None, kind: Kind::Directory, ..entry(byte) };
    let left = Entry { state: State::Committing, ..top(32) };
    index.record_all(vec![Entry { path: "c/x".into(), name: None, ..entry(31) }, left, top(30)]).unwrap();
    let family = |byte: u8| {
        let locator = entry(byte).capability.locator();
        index.families(&[locator].into())[&locator].len()
    };
    // Whoever ends what is unfinished erases nothing that is stored.
    assert_eq!((family(32), family(31), family(30)), (1, 1, 3));
}

#[test]
fn a_folder_without_a_top_is_one_thing_and_a_file_inside_one_with_a_top_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(&folder.path().join("index")).unwrap();
    let at = |byte: u8, path: &str| Entry { path: path.into(), name: None, ..entry(byte) };
    // Batch 1 has no top; batch 2 has one, which did not end; batch 3 has one, and a file that did not end.
    let top = |byte, path| Entry { kind: Kind::Directory, length: 7, ..at(byte, path) };
    let committing = |entry| Entry { state: State::Committing, ..entry };
    index.record_all(vec![at(11, "a/x"), at(12, "a/b/y"), at(13, "a/b/z")]).unwrap();
    index.record_all(vec![at(21, "b/x"), committing(top(20, "b"))]).unwrap();
    index.record_all(vec![committing(at(31, "c/x")), top(30, "c")]).unwrap();
    let said = |scope| -> Vec<_> {
        let lines = index.list(scope).into_iter();
        lines.map(|line| (line.path, line.objects, line.bytes >> 32, line.is_finished)).collect()
    };
    let line = |path: &str, objects, length, is_finished| (path.to_owned(), objects, length, is_finished);
    let (a, b) = (line("a", 3, 36, false), line("b", 2, 21, false));
    assert_eq!(said(Scope::Tops), [a.clone(), b.clone(), line("c", 2, 31, true)]);
    assert_eq!(said(Scope::Unfinished), [a, b, line("c/x", 1, 31, false)]);
    assert_eq!(said(Scope::All).len(), 8);
    let locator = |byte| entry(byte).capability.locator();
    for (asked, members) in [(11, 3), (13, 3), (20, 2), (21, 1), (30, 2), (31, 1)] {
        assert_eq!(index.families(&[locator(asked)].into())[&locator(asked)].len(), members, "{asked}");
    }
    assert_eq!(index.families(&[locator(11), locator(12)].into()).len(), 1);
    let under = |path| index.under(path).len();
    assert_eq!(["a", "a/", "a/b", "b", "c", "c/x", "x", ""].map(under), [3, 3, 2, 2, 2, 0, 0, 0]);

    // A stable name that is called like a folder is none, and one whose move was cut short is a name still.
    let moves = vec![Move { version: 1, at: 1, target: Locator([1; 32]) }];
    let named = Entry { name: Some(NameState { fresh_until: 9, seconds: 0, moves }), ..top(40, "c") };
    index.record(committing(named)).unwrap();
    assert_eq!((index.under("c").len(), index.list(Scope::Unfinished).len()), (2, 3));
    assert!(index.list(Scope::Tops).iter().any(|line| line.entry.name.is_some() && line.is_finished));
}
