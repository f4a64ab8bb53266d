//! Crashes: the process dies at each step of a commit, of a removal and of a compaction, an fsync fails. Whole shard or
//! none, what was acknowledged stays, and never a second try.

use std::{
    fs::File,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use origin::store::{Disk, RealDisk, Step, Store, SyncFailure};
use testing::Sample;

use crate::{
    bucket::commit_large,
    store::{assert_nothing, assert_whole, open, upload},
};

const AT: &str = "EVERNEAR_TEST_CRASH_AT";
const NTH: &str = "EVERNEAR_TEST_CRASH_NTH";
const IN: &str = "EVERNEAR_TEST_CRASH_IN";

/// An object whose shards are files: two strips each.
fn sample() -> Sample {
    Sample::new(1, 2 << 20)
}

fn commit(store: &Arc<Store>) {
    upload(store, &sample(), 0).unwrap();
}

/// The real disk in a process that dies at the n-th time of a step, without unwinding and without running anybody's
/// destructor.
struct DiesAt {
    step: Step,
    left: AtomicUsize,
}

impl Disk for DiesAt {
    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }

    fn reached(&self, step: Step) {
        if self.step == step && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::process::abort();
        }
    }

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("{failure}")
    }
}

mod role {
    use super::*;

    /// The child of the tests below; does nothing when run by itself.
    #[test]
    #[ignore = "a role, not a test: the tests beside it start it"]
    fn child() {
        if let [Ok(at), Ok(nth), Ok(root)] = [AT, NTH, IN].map(std::env::var) {
            let at: usize = at.parse().unwrap();
            let step = Step::FILE.into_iter().chain(Step::PACK).chain(Step::BUCKET).nth(at).unwrap();
            let disk = Arc::new(DiesAt { step, left: AtomicUsize::new(nth.parse().unwrap()) });
            if at < Step::FILE.len() {
                commit(&Arc::new(Store::open(Path::new(&root), disk).unwrap()));
            } else if at < Step::FILE.len() + Step::PACK.len() {
                work_in_packs(Path::new(&root), disk);
            } else {
                commit_large(Path::new(&root), disk);
            }
        }
    }
}

/// Runs the child until it dies; false when it came to its end.
pub(crate) fn dies(root: &Path, at: usize, nth: usize) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::role::child", "--ignored", "--test-threads=1"])
        .env(AT, at.to_string())
        .env(NTH, nth.to_string())
        .env(IN, root)
        .output()
        .unwrap();
    assert!(output.status.success() || output.status.code().is_none(), "the child ends well or by a signal");
    !output.status.success()
}

#[test]
fn a_crash_at_any_step_of_a_commit_leaves_a_whole_shard_or_none() {
    for (at, step) in Step::FILE.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        assert!(dies(dir.path(), at, 0), "{step:?}");
        let store = open(dir.path());
        if step >= Step::ShardRenamed {
            assert_whole(&store, &sample(), 0);
        } else {
            // The upload can go on: what was appended is there, and nothing else.
            let rested = store.rested().unwrap().remove(0);
            assert_eq!(store.resume(&rested).unwrap().cells(), sample().columns[0].len() as u64, "{step:?}");
            assert_nothing(dir.path(), &store, &sample(), 0);
        }
        // Whatever was left, the upload can be made again.
        commit(&store);
        assert_whole(&store, &sample(), 0);
    }
}

/// Room for five of the shards below.
const PACK: u32 = 5 * 18_000;

/// Small objects with one shard each in packs.
fn small() -> Vec<Sample> {
    (0..7).map(|seed| Sample::new(seed, 17_000)).collect()
}

/// Fills a pack and begins another, empties the first but for one shard and rewrites it. Notes what was acknowledged.
fn work_in_packs(root: &Path, disk: Arc<dyn Disk>) {
    let store = Arc::new(Store::open_with(root, disk, PACK).unwrap());
    let acknowledge = |what: &str, number: usize| {
        let mut file = File::options().create(true).append(true).open(root.join("acknowledged")).unwrap();
        file.write_all(format!("{what} {number}\n").as_bytes()).unwrap();
    };
    let samples = small();
    for (number, sample) in samples.iter().enumerate() {
        upload(&store, sample, 0).unwrap();
        acknowledge("put", number);
    }
    for (number, sample) in samples.iter().enumerate().take(4) {
        assert!(store.remove_shard(&sample.sealed.public.id(), 0, SystemTime::now()).unwrap());
        acknowledge("removed", number);
    }
    assert!(store.compact().unwrap().is_some());
    acknowledge("compacted", 0);
}

#[test]
fn a_crash_at_any_step_in_packs_keeps_what_was_acknowledged() {
    for (number, step) in Step::PACK.into_iter().enumerate() {
        let mut deaths = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            if !dies(dir.path(), Step::FILE.len() + number, deaths) {
                break;
            }
            deaths += 1;
            let acknowledged = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap_or_default();
            let said = |what: &str| acknowledged.lines().any(|line| line == what);
            let store = Arc::new(Store::open_with(dir.path(), Arc::new(RealDisk), PACK).unwrap());
            assert!(store.damage().is_empty());
            for (number, sample) in small().iter().enumerate() {
                let is_here = store.has_shard(&sample.sealed.public.id(), 0).unwrap();
                if said(&format!("removed {number}")) {
                    assert!(!is_here, "{step:?} {deaths}: {number} was removed");
                } else if said(&format!("put {number}")) {
                    // One that is being removed when the process dies may be here or not.
                    let in_removal =
                        number < 4 && said("put 6") && (number == 0 || said(&format!("removed {}", number - 1)));
                    assert!(is_here || in_removal, "{step:?} {deaths}: {number} was put");
                }
                if is_here {
                    assert_whole(&store, sample, 0);
                }
            }
            // The work can be done again on what is left.
            drop(store);
            work_in_packs(dir.path(), Arc::new(RealDisk));
        }
        assert!(deaths > 0, "{step:?} is reached");
    }
}

/// A disk whose n-th fsync fails. Its process would die; the panic stands for that.
struct FailsAt {
    at: usize,
    syncs: AtomicUsize,
}

impl Disk for FailsAt {
    fn sync(&self, file: &File) -> io::Result<()> {
        if self.syncs.fetch_add(1, Ordering::SeqCst) == self.at {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.sync(file)
    }

    fn reached(&self, _step: Step) {}

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("crashed: {failure}")
    }
}

#[test]
fn a_failed_fsync_ends_the_process_and_is_never_tried_again() {
    // One that is files, and one in a pack.
    for (sample, least, rests) in [(sample(), 6, true), (small().remove(0), 2, false)] {
        let run = |root: &Path, disk: Arc<FailsAt>| {
            upload(&Arc::new(Store::open(root, disk).unwrap()), &sample, 0).unwrap();
        };
        let count = Arc::new(FailsAt { at: usize::MAX, syncs: AtomicUsize::new(0) });
        run(tempfile::tempdir().unwrap().path(), count.clone());
        let syncs = count.syncs.load(Ordering::SeqCst);
        assert!(syncs >= least, "{syncs}");
        let mut drafts = 0;
        for at in 0..syncs {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FailsAt { at, syncs: AtomicUsize::new(0) });
            let crashed = catch_unwind(AssertUnwindSafe(|| run(dir.path(), disk.clone()))).unwrap_err();
            let crashed = crashed.downcast_ref::<String>().unwrap();
            let path = crashed.strip_prefix("crashed: fsync of ").unwrap_or_else(|| panic!("{at}: {crashed}"));
            let path = Path::new(path.split(" failed").next().unwrap());
            // What the kernel may have in memory alone is not read back as a draft.
            let is_draft = path.extension().is_some_and(|end| end == "draft");
            assert!(!is_draft || !path.exists(), "{at}: {}", path.display());
            drafts += usize::from(is_draft);
            assert_eq!(disk.syncs.load(Ordering::SeqCst), at + 1, "no fsync follows the one that failed");
            let store = open(dir.path());
            if store.has_shard(&sample.sealed.public.id(), 0).unwrap() {
                assert_whole(&store, &sample, 0);
            }
        }
        assert_eq!(drafts > 0, rests, "a draft is synced where it becomes the file of its shard");
    }
}
