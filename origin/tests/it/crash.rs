//! Crashes: the process dies at each step of a commit, an fsync fails. Whole shard or none, and never a second try.

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use origin::store::{Disk, RealDisk, Step, Store, SyncFailure};

use crate::{
    sample::Sample,
    store::{assert_nothing, assert_whole, open},
};

const AT: &str = "EVERNEAR_TEST_CRASH_AT";
const IN: &str = "EVERNEAR_TEST_CRASH_IN";

fn sample() -> Sample {
    Sample::new(1, 1 << 20)
}

fn commit(store: &Arc<Store>) {
    let sample = sample();
    let mut draft = store.draft("upload").unwrap();
    draft.append(0, &sample.columns[0]).unwrap();
    draft.commit(0, &sample.sealed.public).unwrap();
}

/// The real disk in a process that dies at a step, without unwinding and without running anybody's destructor.
struct DiesAt(usize);

impl Disk for DiesAt {
    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }

    fn reached(&self, step: Step) {
        if Step::ALL[self.0] == step {
            std::process::abort();
        }
    }

    fn crash(&self, failure: &SyncFailure) -> ! {
        panic!("{failure}")
    }
}

/// The child of the test below; does nothing when run by itself.
#[test]
fn child() {
    if let (Ok(step), Ok(root)) = (std::env::var(AT), std::env::var(IN)) {
        let store = Arc::new(Store::open(Path::new(&root), Arc::new(DiesAt(step.parse().unwrap()))).unwrap());
        commit(&store);
    }
}

#[test]
fn a_crash_at_any_step_of_a_commit_leaves_a_whole_shard_or_none() {
    for (at, step) in Step::ALL.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--test-threads=1"])
            .env(AT, at.to_string())
            .env(IN, dir.path())
            .output()
            .unwrap()
            .status;
        assert!(status.code().is_none(), "the child ends by a signal at {step:?}");
        let store = open(dir.path());
        if step >= Step::ShardRenamed {
            assert_whole(&store, &sample(), 0);
        } else {
            assert_nothing(dir.path(), &store, &sample(), 0);
        }
        // Whatever was left, the upload can be made again.
        commit(&store);
        assert_whole(&store, &sample(), 0);
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
    let count = Arc::new(FailsAt { at: usize::MAX, syncs: AtomicUsize::new(0) });
    let dir = tempfile::tempdir().unwrap();
    commit(&Arc::new(Store::open(dir.path(), count.clone()).unwrap()));
    let syncs = count.syncs.load(Ordering::SeqCst);
    assert!(syncs >= 6, "strips, list, manifest, folders and twice the shard's folder: {syncs}");
    for at in 0..syncs {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FailsAt { at, syncs: AtomicUsize::new(0) });
        let run = || commit(&Arc::new(Store::open(dir.path(), disk.clone()).unwrap()));
        let crashed = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert!(crashed.downcast_ref::<String>().unwrap().starts_with("crashed: fsync of "), "{at}");
        assert_eq!(disk.syncs.load(Ordering::SeqCst), at + 1, "no fsync follows the one that failed");
        let store = open(dir.path());
        if store.has_shard(&sample().sealed.public.id(), 0) {
            assert_whole(&store, &sample(), 0);
        }
    }
}
