//! What the store asks of the machine beside plain file calls: to make bytes durable, and to die when that fails. Tests put
//! a disk in its place that fails or crashes at a chosen step.

use std::{fs::File, io, path::PathBuf, process};

/// What a commit has done so far; `docs/format.md` and object-format section 6 give the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The strips are durable in `tmp`.
    StripsSynced,
    /// The strip list and the public manifest are durable in `tmp`.
    SidecarsSynced,
    /// Both were renamed to where they belong.
    SidecarsRenamed,
    /// Their names are durable.
    SidecarsNamed,
    /// The strips were renamed to where they belong.
    ShardRenamed,
    /// Their name is durable: the shard is there for good.
    ShardNamed,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 6] = [
        Self::StripsSynced,
        Self::SidecarsSynced,
        Self::SidecarsRenamed,
        Self::SidecarsNamed,
        Self::ShardRenamed,
        Self::ShardNamed,
    ];
}

/// Bytes that could not be made durable.
#[derive(Debug, thiserror::Error)]
#[error("fsync of {path} failed")]
pub struct SyncFailure {
    /// The file or folder.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// The machine under the store.
pub trait Disk: Send + Sync + 'static {
    /// Makes what was written to a file, or the entries of a folder, durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Is told of each step of a commit as it is done.
    fn reached(&self, step: Step);

    /// Ends the process, because it no longer knows what its disk holds.
    fn crash(&self, failure: &SyncFailure) -> !;
}

/// The real machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn reached(&self, _step: Step) {}

    fn crash(&self, failure: &SyncFailure) -> ! {
        tracing::error!(path = %failure.path.display(), error = %failure.source, "fsync failed, the disk's state is unknown: stopping");
        process::abort()
    }
}
