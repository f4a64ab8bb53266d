//! The owner's own encrypted index of uploads: the only place, besides the labels handed out, where capabilities are
//! kept.
//!
//! The file is an append-only log (`index/frame.rs` draws it). Storing appends one frame and fsyncs it: a crash loses
//! at most the frame being written. Removing rewrites the whole index and renames it, because an erased capability must
//! not stay in the log. The index is also rewritten, without what is superseded, once half of its entries are.
//!
//! Several programs may use one index: a writer locks a file beside it and first reads what the others appended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use format::{Locator, OwnerId, OwnerSecret, cbor::CborError};
use zeroize::Zeroizing;

use crate::{durable, retention};

mod change;
mod check;
mod content;
mod entry;
mod frame;
mod listing;
mod log;
mod page;

pub use change::Change;
pub use check::IndexCheck;
use content::Content;
pub use entry::{Batch, Entry, Hashes, MOVES_MAX, Move, NameState, PATH_BYTES_MAX, Position, State, Tenure};
use frame::{Chain, HEAD_BYTES, HeadFault};
pub use listing::{Family, Listed, Scope};
use log::{Log, Stop};
pub use page::{Page, PageAsk, Spot};

/// How long a writer waits for another program's lock. A write takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Largest index, in bytes. It holds millions of uploads, and it bounds the memory of a program that loads it.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Entries below which an index is not rewritten by itself: it has some 300 KiB then, and reading it costs nothing.
const COMPACT_ENTRIES_MIN: usize = 1024;

/// An owner's index, held in memory and on disk.
pub struct Index {
    path: PathBuf,
    owner: OwnerId,
    key: Zeroizing<[u8; 32]>,
    entries: BTreeMap<Locator, Entry>,
    /// Entries in the file, superseded ones too.
    recorded: usize,
    /// Length of the part of the file that `entries` and `chain` were read from.
    read_bytes: u64,
    chain: Chain,
    /// The file that was read. It stays open so that no other file can get its inode number.
    file: Option<File>,
    /// An fsync failed. The system may then show as written what the disk does not have, so nothing is chained behind
    /// it: the index is written anew into another file first.
    is_suspect: bool,
    /// Brings what was written to the disk.
    sync: fn(&File) -> io::Result<()>,
}

/// What a rewriting of the index left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes by which the file is shorter.
    pub freed_bytes: u64,
    /// Uploads that are no longer listed.
    pub forgotten: usize,
}

/// Why the index cannot be read or written. Nothing is lost: every acknowledged entry stays in the file.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The disk returns an error.
    #[error("the index of uploads at {} cannot be read or written", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file was changed. What stands before that byte is good.
    #[error("the index of uploads at {} is damaged at byte {at} ({what})", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The index is whole, and this owner wrote it, by a program that knew more than this one.
    #[error("a later version of this program wrote the index of uploads at {}: at byte {at} it holds what this one does not know", path.display())]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is not known.
        source: CborError,
    },
    /// The whole file is of a version that this program does not know.
    #[error("the index of uploads at {} is of version {found}, which this program does not know", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version.
        found: u8,
    },
    /// The file is the index of another owner.
    #[error("the index of uploads at {} belongs to another owner", path.display())]
    OtherOwner {
        /// Which file.
        path: PathBuf,
    },
    /// An entry breaks a bound of the index, so it could not be read back. Nothing was written.
    #[error("the index of uploads cannot hold an entry for {name:?}")]
    Unfit {
        /// Path of the upload, cut at 300 characters.
        name: String,
        /// Which bound.
        source: CborError,
    },
    /// Another program holds the index's lock for longer than a writer waits.
    #[error("another program has been writing the index at {} for {} s", path.display(), LOCK_WAIT.as_secs())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// The index is too large.
    #[error("the index of uploads would grow over {INDEX_BYTES_MAX} bytes")]
    Full,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Index {
    /// Opens the index at `path`, or creates an empty one. Reads the whole file.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(path: impl Into<PathBuf>, secret: &OwnerSecret) -> Result<Self, IndexError> {
        let mut index = Self::unread(path.into(), secret);
        if let Some(folder) = index.path.parent() {
            durable::private_folder(folder).map_err(|source| index.io(source))?;
        }
        if !index.path.exists() {
            // A writer sweeps away temporary files, also the one of a creation that it does not know of.
            let _lock = index.lock()?;
            match durable::create(&index.path, &frame::head(&index.owner)) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(index.io(source)),
                _ => {}
            }
        }
        index.reload()?;
        Ok(index)
    }

    fn unread(path: PathBuf, secret: &OwnerSecret) -> Self {
        let owner = secret.keys().id();
        Self {
            path,
            owner,
            key: secret.index_key(),
            entries: BTreeMap::new(),
            recorded: 0,
            read_bytes: HEAD_BYTES as u64,
            chain: Chain::new(&frame::head(&owner)),
            file: None,
            is_suspect: false,
            sync: File::sync_data,
        }
    }

    /// Reads what other programs wrote since the last read. Blocks while one writes.
    pub(crate) fn refresh(&mut self) -> Result<(), IndexError> {
        let _lock = self.lock()?;
        self.catch_up()
    }

    /// Returns the path of the index.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all uploads, in order of their locators.
    pub fn entries(&self) -> impl Iterator<Item = (&Locator, &Entry)> {
        self.entries.iter()
    }

    /// Returns one upload.
    #[must_use]
    pub fn entry(&self, locator: &Locator) -> Option<&Entry> {
        self.entries.get(locator)
    }

    /// Records a change durably. Blocks for one disk write.
    ///
    /// # Errors
    /// [`IndexError`]; the change is then not recorded.
    pub fn record(&mut self, change: impl Into<Change>) -> Result<(), IndexError> {
        self.record_all([change])
    }

    /// Records changes, in one disk write for some 800 of them (group commit). Each is made of what the index has by
    /// then, also by other programs: one that is older changes nothing. When half of what the file holds is superseded
    /// then, the file is rewritten without that.
    ///
    /// # Errors
    /// [`IndexError`]. [`IndexError::Unfit`] says that none is recorded; after the others the first may be.
    pub fn record_all(&mut self, changes: impl IntoIterator<Item = impl Into<Change>>) -> Result<(), IndexError> {
        let _lock = self.lock()?;
        self.catch_up()?;
        if self.is_suspect {
            self.rewrite()?;
        }
        let mut changed = BTreeMap::new();
        for change in changes.into_iter().map(Into::into) {
            let locator = change.locator();
            let held = changed.get(&locator).or(self.entries.get(&locator));
            changed.extend(change.over(held).map(|entry| (locator, entry.trimmed())));
        }
        let contents = content::pack(changed.values())?;
        let mut changed = changed.into_iter();
        for Content { bytes, entries: count } in contents {
            let frame = frame::seal(&self.key, &self.chain, salt()?, &bytes);
            if self.read_bytes + frame.len() as u64 > INDEX_BYTES_MAX {
                return Err(IndexError::Full);
            }
            self.append(&frame).map_err(|source| self.io(source))?;
            self.read_bytes += frame.len() as u64;
            self.chain = self.chain.clone().then(&frame);
            self.recorded += count;
            self.entries.extend(changed.by_ref().take(count));
        }
        if self.recorded >= COMPACT_ENTRIES_MIN && self.recorded >= 2 * self.entries.len() {
            // The uploads are recorded. An index that stays long is no reason to say otherwise.
            if let Err(error) = self.rewrite() {
                tracing::warn!(%error, "the index of uploads stays longer than it need be");
            }
        }
        Ok(())
    }

    /// Forgets uploads: rewrites the index without them and without superseded entries.
    ///
    /// The old file's disk blocks are freed, not overwritten. What a disk or a backup keeps of them stays sealed under
    /// the owner's key.
    ///
    /// # Errors
    /// [`IndexError`]; the index is then as it was.
    pub fn forget(&mut self, locators: &BTreeSet<Locator>) -> Result<(), IndexError> {
        self.rewrite_without(|locator, _| locators.contains(locator)).map(drop)
    }

    /// Rewrites the index without superseded entries (log compaction), and without uploads whose lease ended a day or
    /// longer before `now`, seconds since 1970: nodes have erased them. What another machine of the owner renewed in
    /// the meantime comes back by [`crate::Twin::recover`].
    ///
    /// # Errors
    /// [`IndexError`]; the index is then as it was.
    pub fn compact(&mut self, now: u64) -> Result<Compacted, IndexError> {
        let has_expired = |entry: &Entry| entry.name.is_none() && retention::is_long_over(entry.tenure.retention, now);
        self.rewrite_without(|_, entry| has_expired(entry))
    }

    fn rewrite_without(&mut self, is_gone: impl Fn(&Locator, &Entry) -> bool) -> Result<Compacted, IndexError> {
        let _lock = self.lock()?;
        self.catch_up()?;
        let (before, bytes) = (self.entries.clone(), self.read_bytes);
        self.entries.retain(|locator, entry| !is_gone(locator, entry));
        let forgotten = before.len() - self.entries.len();
        match self.rewrite() {
            Ok(()) => Ok(Compacted { freed_bytes: bytes.saturating_sub(self.read_bytes), forgotten }),
            Err(error) => {
                self.entries = before;
                Err(error)
            }
        }
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.read_bytes)?;
        file.seek(SeekFrom::Start(self.read_bytes))?;
        let mut done = file.write_all(frame);
        if done.is_ok() {
            done = (self.sync)(&file);
            self.is_suspect = done.is_err();
        }
        if done.is_err() {
            // For other programs. If this fails too, they and this one read the frame, and it is written anew with all.
            let _ = file.set_len(self.read_bytes);
        }
        done
    }

    /// Replaces the file by one with the entries in memory; the caller holds the lock. After a crash the file is the
    /// old or the new one.
    fn rewrite(&mut self) -> Result<(), IndexError> {
        let mut bytes = frame::head(&self.owner).to_vec();
        let mut chain = Chain::new(&bytes);
        for content in content::pack(self.entries.values())? {
            let frame = frame::seal(&self.key, &chain, salt()?, &content.bytes);
            chain = chain.then(&frame);
            bytes.extend_from_slice(&frame);
        }
        // What a crash left of an earlier rewriting may hold what was erased since.
        durable::sweep(&self.path)
            .and_then(|()| durable::replace(&self.path, &bytes))
            .map_err(|source| self.io(source))?;
        (self.recorded, self.read_bytes, self.chain) = (self.entries.len(), bytes.len() as u64, chain);
        self.is_suspect = false;
        // Without it the next write reads the file again.
        self.file = File::open(&self.path).ok();
        Ok(())
    }

    /// Reads what other programs wrote since the last read; the caller holds the lock. A torn write at the end, left by
    /// a crash, is copied to a file beside the index before the next append overwrites it.
    fn catch_up(&mut self) -> Result<(), IndexError> {
        if self.is_current() {
            return Ok(());
        }
        let torn = self.reload()?;
        if !torn.is_empty() {
            let aside = self.path.with_extension("torn");
            durable::replace(&aside, &torn).map_err(|source| self.io(source))?;
            tracing::warn!(
                bytes = torn.len(),
                "the last write to the index was cut short by a crash; its bytes are put aside"
            );
        }
        Ok(())
    }

    /// Returns whether the file is still the one that was read and has the same length: then no other program wrote.
    fn is_current(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let held = self.file.as_ref().and_then(|file| file.metadata().ok());
            let found = std::fs::metadata(&self.path).ok();
            held.zip(found).is_some_and(|(held, found)| {
                (held.dev(), held.ino()) == (found.dev(), found.ino()) && found.len() == self.read_bytes
            })
        }
        #[cfg(not(unix))]
        false
    }

    /// Reads the whole file and returns its torn end.
    fn reload(&mut self) -> Result<Vec<u8>, IndexError> {
        let (file, mut bytes, log) = self.read()?;
        if let Some(fault) = self.fault(&log) {
            return Err(fault);
        }
        (self.entries, self.recorded, self.chain) = (log.entries, log.recorded, log.chain);
        self.read_bytes = log.end as u64;
        self.file = Some(file);
        Ok(bytes.split_off(log.end))
    }

    /// Reads the whole file as far as it can be read.
    fn read(&self) -> Result<(File, Vec<u8>, Log), IndexError> {
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        (&file).take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| self.io(source))?;
        if bytes.len() as u64 > INDEX_BYTES_MAX {
            return Err(IndexError::Full);
        }
        let path = self.path.clone();
        let log = Log::read(&bytes, &self.owner, &self.key).map_err(|fault| match fault {
            HeadFault::None => IndexError::Damaged { path, at: 0, what: "it does not begin as an index" },
            HeadFault::Version(found) => IndexError::Version { path, found },
            HeadFault::OtherOwner => IndexError::OtherOwner { path },
        })?;
        Ok((file, bytes, log))
    }

    fn fault(&self, log: &Log) -> Option<IndexError> {
        let (path, at) = (self.path.clone(), log.end as u64);
        match &log.stop {
            Stop::End | Stop::Torn => None,
            Stop::Damaged => Some(IndexError::Damaged { path, at, what: "a frame does not open" }),
            Stop::Unknown(source) => Some(IndexError::Unknown { path, at, source: source.clone() }),
        }
    }

    fn lock(&self) -> Result<File, IndexError> {
        let file = durable::open_private(
            OpenOptions::new().create(true).truncate(false).write(true),
            &self.path.with_extension("lock"),
        )
        .map_err(|source| self.io(source))?;
        match durable::lock(&file, LOCK_WAIT).map_err(|source| self.io(source))? {
            true => Ok(file),
            false => Err(IndexError::Busy { path: self.path.clone() }),
        }
    }

    fn io(&self, source: io::Error) -> IndexError {
        IndexError::Io { path: self.path.clone(), source }
    }
}

fn salt() -> Result<[u8; 32], getrandom::Error> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)?;
    Ok(salt)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn nothing_is_chained_behind_a_frame_that_did_not_reach_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("index"), OwnerSecret::from_bytes([7; 32]));
        let mut index = Index::open(&path, &secret).unwrap();
        index.record(change::tests::entry(1, State::Stored)).unwrap();
        let (before, held) = (std::fs::metadata(&path).unwrap(), std::fs::read(&path).unwrap());
        index.sync = |_| Err(io::Error::other("made so"));
        let failed = index.record(change::tests::entry(2, State::Stored));
        assert!(matches!(failed, Err(IndexError::Io { .. })), "{failed:?}");
        assert!(std::fs::read(&path).unwrap() == held, "what was not synced is gone");
        assert_eq!(index.entries().next().unwrap().1.tenure.version, 1);
        index.sync = File::sync_data;
        index.record(change::tests::entry(3, State::Stored)).unwrap();
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), before.ino(), "all is in another file");
        let index = Index::open(&path, &secret).unwrap();
        let versions: Vec<u64> = index.entries().map(|(_, entry)| entry.tenure.version).collect();
        assert_eq!(versions, [3]);
    }
}
