//! What the store asks of the machine beside plain file calls: to make bytes durable, and to die when that fails. Tests
//! put a disk in its place that fails or crashes at a chosen step.

use std::{fs::File, io, path::PathBuf, process};

/// What the store has done so far, in the order in which it does it; `docs/format.md` section 16 says why.
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
    /// A full pack is durable as a whole.
    PackSynced,
    /// Its index is durable beside it.
    PackIndexed,
    /// A new pack is there, empty, and its name is durable.
    PackNamed,
    /// An entry, of a shard or of its removal, was written to the newest pack.
    EntryWritten,
    /// It is durable, and all that were written before.
    EntrySynced,
    /// What of a sparse pack is alive is durable elsewhere.
    CopiesSynced,
    /// The sparse pack was unlinked.
    PackDropped,
    /// The object store was given all but the end of a large shard, and shows nothing of it.
    PartsSent,
    /// It has the shard, for good.
    ObjectSent,
}

impl Step {
    /// The steps of a commit of a shard that is a file of its own.
    pub const FILE: [Self; 6] = [
        Self::StripsSynced,
        Self::SidecarsSynced,
        Self::SidecarsRenamed,
        Self::SidecarsNamed,
        Self::ShardRenamed,
        Self::ShardNamed,
    ];
    /// The steps of all that happens in packs.
    pub const PACK: [Self; 7] = [
        Self::PackSynced,
        Self::PackIndexed,
        Self::PackNamed,
        Self::EntryWritten,
        Self::EntrySynced,
        Self::CopiesSynced,
        Self::PackDropped,
    ];
    /// The steps of a commit of a large shard into an object store; of a small one the last alone.
    pub const BUCKET: [Self; 2] = [Self::PartsSent, Self::ObjectSent];
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

    /// Is told of each step as it is done.
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
