//! The disk under an origin that shares its process with others: where an fsync fails and an origin of its own would
//! end its process, this one ends alone.
//!
//! An fsync that failed is never tried again, as the system may answer the second with success though the bytes are
//! lost. So after the first failure every other fails too, and nothing that needs one is acknowledged any more.

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use origin::store::{Disk, RealDisk, Step, SyncFailure};
use tokio_util::sync::CancellationToken;

/// A real disk that can fail alone.
#[derive(Debug, Default)]
pub(crate) struct MortalDisk {
    failed: AtomicBool,
    /// Cancelled when the disk failed.
    end: CancellationToken,
}

impl MortalDisk {
    /// Makes a disk that cancels `end` when it fails.
    pub(crate) fn new(end: CancellationToken) -> Self {
        Self { failed: AtomicBool::new(false), end }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Disk for MortalDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        if self.has_failed() {
            return Err(io::Error::other("an fsync before failed"));
        }
        RealDisk.sync(file)
    }

    fn reached(&self, _step: Step) {}

    fn crash(&self, failure: &SyncFailure) -> ! {
        if !self.failed.swap(true, Ordering::Relaxed) {
            tracing::error!(
                path = %failure.path.display(), error = %failure.source,
                "fsync failed, the disk's state is unknown: its origin stops"
            );
        }
        self.end.cancel();
        // The call that needed the fsync gets no answer but that it failed: the store calls this off the reactor alone,
        // where an unwinding call is noticed by its caller.
        std::panic::resume_unwind(Box::new("an fsync failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_one_failure_nothing_is_synced_any_more() {
        let (file, end) = (tempfile::tempfile().unwrap(), CancellationToken::new());
        let disk = MortalDisk::new(end.clone());
        disk.sync(&file).unwrap();
        let failure = SyncFailure { path: "x".into(), source: io::Error::other("sector") };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disk.crash(&failure))).is_err());
        assert!(disk.has_failed() && end.is_cancelled() && disk.sync(&file).is_err());
    }
}
