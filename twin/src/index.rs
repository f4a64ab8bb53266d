//! The owner's own encrypted index of uploads: the only place, besides the labels handed out, where capabilities are
//! kept.
//!
//! The file is an append-only log (`index/frame.rs` draws it). Storing appends one frame and fsyncs it: a directory of
//! ten thousand files costs ten thousand small writes, and a crash loses at most the frame being written. Removing
//! rewrites the whole index and renames it, because an erased capability must not stay in the log.
//!
//! Several programs may use one index: a writer locks a file beside it and first reads what the others appended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use format::{Locator, OwnerId, OwnerSecret};
use zeroize::Zeroizing;

use crate::durable;

mod entry;
mod frame;

pub use entry::{Batch, Entry, MOVES_MAX, Move, NameState, PATH_BYTES_MAX, Position, State, Tenure};
use frame::{Chain, Front, HEAD_BYTES};

/// How long a writer waits for another program's lock. A write takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Largest index, in bytes. It holds millions of uploads, and it bounds the memory of a program that loads it.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// An owner's index, held in memory and on disk.
pub struct Index {
    path: PathBuf,
    owner: OwnerId,
    key: Zeroizing<[u8; 32]>,
    entries: BTreeMap<Locator, Entry>,
    /// Length of the part of the file that `entries` and `chain` were read from.
    read_bytes: u64,
    chain: Chain,
    /// The file that was read. It stays open so that no other file can get its inode number.
    file: Option<File>,
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
    /// The file was changed, or it is not an index of this owner.
    #[error("the index of uploads at {} is damaged at byte {at} ({what}); restore it from a copy", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Another program holds the index's lock for longer than a writer waits.
    #[error("another program has been writing the index at {} for {} s", path.display(), LOCK_WAIT.as_secs())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// The index is too large.
    #[error("the index of uploads would grow over {INDEX_BYTES_MAX} bytes; use several owners")]
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
        let (path, owner) = (path.into(), secret.keys().id());
        let head = frame::head(&owner);
        let mut index = Self {
            path,
            owner,
            key: secret.index_key(),
            entries: BTreeMap::new(),
            read_bytes: HEAD_BYTES as u64,
            chain: Chain::new(&head),
            file: None,
        };
        if let Some(folder) = index.path.parent() {
            durable::private_folder(folder).map_err(|source| index.io(source))?;
        }
        if !index.path.exists() {
            match durable::create(&index.path, &head) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(index.io(source)),
                _ => {}
            }
        }
        index.reload()?;
        Ok(index)
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

    /// Returns an upload and, when it is the top of a directory, everything that was stored with it.
    #[must_use]
    pub fn family(&self, locator: &Locator) -> BTreeMap<Locator, Entry> {
        let Some(top) = self.entries.get(locator) else { return BTreeMap::new() };
        let of_it = |entry: &Entry| top.position == Position::Top && entry.batch == top.batch;
        self.entries
            .iter()
            .filter(|(at, entry)| *at == locator || of_it(entry))
            .map(|(at, entry)| (*at, entry.clone()))
            .collect()
    }

    /// Records an upload durably and replaces its earlier entry. Blocks for one disk write.
    ///
    /// # Errors
    /// [`IndexError`]; the upload is then not recorded.
    pub fn record(&mut self, entry: Entry) -> Result<(), IndexError> {
        let _lock = self.lock()?;
        self.catch_up()?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        let frame = frame::seal(&self.key, &self.chain, salt, &entry);
        if self.read_bytes + frame.len() as u64 > INDEX_BYTES_MAX {
            return Err(IndexError::Full);
        }
        self.append(&frame).map_err(|source| self.io(source))?;
        self.read_bytes += frame.len() as u64;
        self.chain = self.chain.clone().then(&frame);
        self.entries.insert(entry.capability.locator(), entry);
        Ok(())
    }

    /// Forgets uploads: rewrites the index without them and without superseded entries (log compaction).
    ///
    /// The old file's disk blocks are freed, not overwritten. What a disk or a backup keeps of them stays sealed under
    /// the owner's key.
    ///
    /// # Errors
    /// [`IndexError`]; the index is then as it was.
    pub fn forget(&mut self, locators: &BTreeSet<Locator>) -> Result<(), IndexError> {
        let _lock = self.lock()?;
        self.catch_up()?;
        let kept: BTreeMap<_, _> = self
            .entries
            .iter()
            .filter(|(locator, _)| !locators.contains(*locator))
            .map(|(l, e)| (*l, e.clone()))
            .collect();
        let (bytes, chain) = self.snapshot(&kept)?;
        durable::replace(&self.path, &bytes).map_err(|source| self.io(source))?;
        self.entries = kept;
        self.read_bytes = bytes.len() as u64;
        self.chain = chain;
        self.file = None;
        Ok(())
    }

    fn append(&self, frame: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.read_bytes)?;
        file.seek(SeekFrom::Start(self.read_bytes))?;
        file.write_all(frame)?;
        file.sync_data()
    }

    fn snapshot(&self, entries: &BTreeMap<Locator, Entry>) -> Result<(Vec<u8>, Chain), IndexError> {
        let mut bytes = frame::head(&self.owner).to_vec();
        let mut chain = Chain::new(&bytes);
        for entry in entries.values() {
            let mut salt = [0; 32];
            getrandom::fill(&mut salt)?;
            let frame = frame::seal(&self.key, &chain, salt, entry);
            chain = chain.then(&frame);
            bytes.extend_from_slice(&frame);
        }
        Ok((bytes, chain))
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
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        (&file).take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| self.io(source))?;
        if bytes.len() as u64 > INDEX_BYTES_MAX {
            return Err(IndexError::Full);
        }
        frame::check_head(&bytes, &self.owner).map_err(|what| IndexError::Damaged {
            path: self.path.clone(),
            at: 0,
            what,
        })?;
        let mut entries = BTreeMap::new();
        let mut chain = Chain::new(&bytes[..HEAD_BYTES]);
        let mut at = HEAD_BYTES;
        while at < bytes.len() {
            match frame::open(&self.key, &chain, &bytes[at..]) {
                Front::Frame(entry, length) => {
                    chain = chain.then(&bytes[at..at + length]);
                    at += length;
                    entries.insert(entry.capability.locator(), *entry);
                }
                Front::Torn => break,
                Front::Damaged => {
                    let what = "a frame does not open";
                    return Err(IndexError::Damaged { path: self.path.clone(), at: at as u64, what });
                }
            }
        }
        self.entries = entries;
        self.chain = chain;
        self.read_bytes = at as u64;
        self.file = Some(file);
        Ok(bytes.split_off(at))
    }

    fn lock(&self) -> Result<File, IndexError> {
        let file = durable::open_private(
            OpenOptions::new().create(true).truncate(false).write(true),
            &self.path.with_extension("lock"),
        )
        .map_err(|source| self.io(source))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    // The standard library has no lock with a deadline, so this tries every 5 ms.
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(IndexError::Busy { path: self.path.clone() }),
                Err(TryLockError::Error(source)) => return Err(self.io(source)),
            }
        }
    }

    fn io(&self, source: io::Error) -> IndexError {
        IndexError::Io { path: self.path.clone(), source }
    }
}
