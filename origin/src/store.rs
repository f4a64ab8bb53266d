//! The files of one origin. Everything here blocks and is called off the reactor.
//!
//! ```text
//! lock                                 held while the origin runs
//! tmp/<upload>.<column>.<columns>.draft  cells of an upload, appended; all else in tmp goes at boot
//! packs/<number>-<salt>.log, .index    small shards, many to a log
//! shards/aa/bb/<object>.<column>       a large shard: its cells back to back, each a row and a strip
//! shards/aa/bb/<object>.<column>.list  the hash of each row, and where each cell ends
//! shards/aa/bb/<object>.public         the public manifest
//! records/aa/<locator>                 a copy of the record, so that reads need no catalog
//! quarantine/<number>-<object>.<column>  damaged shards, the newest of them
//! ballast                              takes room that erasures may have when there is none
//! draining                             there when the operator wants the node empty
//! feed, scrub                          how far the change feed was followed, and the scrub came
//! clock                                what the catalog's clock said last, and whether it was set
//! catalog                              the id of the catalog that knows what is here
//! ```
//!
//! A large shard is there exactly when its strip file is: that file is renamed into place last, after everything it
//! needs is durable beside it. A small one is there exactly when its last entry in the packs is not a tombstone.
//! `draft.rs` has the order of a commit, `held.rs` hides the difference from readers.
//!
//! Where the operator names an object store, new shards of every size lie in it (`bucket.rs`), and all else stays here.

mod ballast;
mod bucket;
mod cells;
mod disk;
mod draft;
mod entry;
mod files;
mod head;
mod held;
mod index;
mod note;
mod pack;
mod packs;
mod quarantine;
mod record;
mod rested;
mod send;
mod shards;
mod slice;
mod space;
mod tree;
mod verify;

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use client::{Bug, planted};
use format::ObjectId;

pub(crate) use self::bucket::CALL;
pub use self::{
    bucket::{Bucket, BucketFault},
    disk::{Disk, RealDisk, Step, SyncFailure},
    draft::{AppendError, CommitError, Draft},
    packs::{PACK_BYTES_MAX, PackDamage},
    rested::Rested,
    shards::{HeldShard, ShardId},
    slice::Slice,
    space::Space,
    verify::{Checked, Found, Harm},
};
use self::{
    packs::{Killed, Packs},
    tree::Trees,
};

/// Locks over all ids: enough that two ids seldom share one, few enough to make at once.
const GUARDS: usize = 1024;
/// How long another process may still have the lock, and how often it is asked for.
const LOCK_DEADLINE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Longest wait for a file to be closed when all are open: above a handshake that nobody finishes, which holds one.
const FILES_PATIENCE: Duration = Duration::from_secs(30);
const FILES_PAUSE: Duration = Duration::from_millis(20);

/// Why the store cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed or is full; our fault, another node may do.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process runs on this folder; the operator's fault.
    #[error("another origin runs on {path}")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The object store did not do what it was asked, `fault` says whose fault it is; another node may do.
    #[error("cannot {action} {key}: {fault}")]
    Bucket {
        /// What was tried.
        action: &'static str,
        /// On which key of which object store.
        key: String,
        /// Whose fault it is.
        fault: BucketFault,
        /// The cause.
        source: object_store::Error,
    },
    /// The place in the object store is another origin's; the operator's fault.
    #[error("{url} is where origin {owner} keeps its shards; give each origin a prefix of its own")]
    BucketInUse {
        /// The place.
        url: String,
        /// Whose it is.
        owner: String,
    },
    /// A file is not what was written; our fault, another node may do.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is no such shard here; the caller's fault.
    #[error("shard {object}.{column} is not here")]
    NoShard {
        /// The object.
        object: ObjectId,
        /// The column.
        column: usize,
    },
    /// The asked cells are not in the shard; the caller's fault.
    #[error("{count} cells from {first} on are not in a shard of {cells}, or more than one read may have")]
    Range {
        /// First cell asked.
        first: u64,
        /// Cells asked.
        count: u64,
        /// Cells there are.
        cells: u64,
    },
}

/// First parts of the names of all that lies in the folder.
pub(crate) const OWN_NAMES: [&str; 14] = [
    "lock",
    "tmp",
    "packs",
    "shards",
    "records",
    "quarantine",
    "ballast",
    "draining",
    "refused.crl",
    "feed",
    "scrub",
    "copies",
    "clock",
    "catalog",
];

impl StoreError {
    /// Whether one file is damaged, or cannot be read at its place on the disk; others can be.
    pub(crate) fn is_of_one_file(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => is_of_the_sector(source),
            _ => false,
        }
    }
}

/// The files of one origin.
pub struct Store {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    packs: Packs,
    /// Where new shards go. None: into packs and files.
    bucket: Option<Arc<Bucket>>,
    /// Folders whose own entry is durable.
    folders: Mutex<HashSet<PathBuf>>,
    /// Folders of copies in which all names are durable that earlier processes gave.
    named: Mutex<HashSet<PathBuf>>,
    guards: Vec<Mutex<()>>,
    trees: Trees,
    /// Keeps other processes out until it is dropped.
    _lock: File,
}

impl Store {
    /// Opens or creates the folder, takes its lock, reads what the packs hold and clears what a crash left behind
    /// but drafts, which rest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(root: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        Self::open_with(root, disk, PACK_BYTES_MAX)
    }

    /// The same, with packs of another size; at least one entry has room.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_with(root: &Path, disk: Arc<dyn Disk>, pack_bytes_max: u32) -> Result<Self, StoreError> {
        for folder in [root.to_owned(), root.join("tmp"), root.join("shards"), root.join("records")] {
            fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        }
        let lock = take_lock(root.join("lock"))?;
        let guards = (0..GUARDS).map(|_| Mutex::new(())).collect();
        let packs = Packs::new(pack_bytes_max);
        let folders = Mutex::default();
        let mut store = Self {
            root: root.to_owned(),
            disk,
            packs,
            bucket: None,
            folders,
            named: Mutex::default(),
            guards,
            trees: Trees::default(),
            _lock: lock,
        };
        store.clear_scraps()?;
        store.open_packs()?;
        store.keep_ballast();
        store.sync_folder(root);
        Ok(store)
    }

    /// Lets new shards lie in an object store, if there is one, and takes this origin's place in it. Shards that are
    /// here already stay. Every later call that concerns shards blocks on the object store too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn with_bucket(mut self, bucket: Option<Bucket>) -> Result<Self, StoreError> {
        if let Some(bucket) = &bucket {
            bucket.claim()?;
        }
        self.bucket = bucket.map(Arc::new);
        Ok(self)
    }

    /// Returns what [`Self::open`] found damaged in packs so that it cannot say which shard was there.
    #[must_use]
    pub fn damage(&self) -> &[PackDamage] {
        &self.packs.damage
    }

    /// Returns how much room the file system has.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn space(&self) -> Result<Space, StoreError> {
        Space::of(&self.root).map_err(failed("measure", &self.root))
    }

    /// Returns whether the disk takes new files, by making one: a file system that the kernel made read-only after an
    /// error does not tell otherwise.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let path = self.tmp_path("probe");
        let is_made = File::create(&path).is_ok();
        // Who looks at the same time may have removed it already.
        let _ = fs::remove_file(&path);
        is_made
    }

    /// Returns whether a shard is here, whole; its name may not be durable yet.
    ///
    /// # Errors
    /// [`StoreError::Bucket`], which is no word about the shard.
    pub fn has_shard(&self, object: &ObjectId, column: usize) -> Result<bool, StoreError> {
        let shard = ShardId { object: *object, column };
        if self.packs.index().find(&shard).is_some() || self.shard_path(object, column).exists() {
            return Ok(true);
        }
        let Some(bucket) = &self.bucket else { return Ok(false) };
        Ok(bucket.meta(&shard)?.is_some())
    }

    /// Returns the bytes of a shard that is here, whole and durable: waits for a commit under way, and makes its name
    /// durable again, because the process that renamed it may have died before it could.
    ///
    /// # Errors
    /// [`StoreError`], which is no word about the shard.
    pub fn confirm_shard(&self, object: &ObjectId, column: usize) -> Result<Option<u64>, StoreError> {
        let _guard = self.guard(&object.0);
        let shard = ShardId { object: *object, column };
        let packed = self.packs.index().find(&shard);
        if let Some((_, place)) = packed {
            self.sync_packs(place.pack, place.span.end());
            return Ok(Some(place.span.cells_bytes.into()));
        }
        let path = self.shard_path(object, column);
        if let Some(file) = open(&path)? {
            self.sync_folder(&self.shard_folder(object));
            return Ok(Some(file.metadata().map_err(failed("measure", &path))?.len()));
        }
        let Some(bucket) = &self.bucket else { return Ok(None) };
        Ok(bucket.meta(&shard)?.map(|object| object.size))
    }

    /// Removes a shard, unless it was written after `before`: then it was uploaded again since somebody decided that it
    /// may go, and false is returned. A shard that is not here is as good as removed.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Bucket`].
    pub fn remove_shard(&self, object: &ObjectId, column: usize, before: SystemTime) -> Result<bool, StoreError> {
        // Under the guard of commits, so that none comes between the look and the removal.
        let _guard = self.guard(&object.0);
        let id = ShardId { object: *object, column };
        if self.kill_packed(&id, |place| time(place.written) <= before || planted(Bug::Collection))? == Killed::Kept {
            return Ok(false);
        }
        let shard = self.shard_path(object, column);
        if let Some(file) = open(&shard)? {
            let written = file.metadata().and_then(|about| about.modified()).map_err(failed("measure", &shard))?;
            if written > before && !planted(Bug::Collection) {
                return Ok(false);
            }
        }
        self.remove_files(&id)?;
        let Some(bucket) = &self.bucket else { return Ok(true) };
        let Some(front) = bucket.front(&id)? else { return Ok(true) };
        if front.written() > before {
            return Ok(false);
        }
        bucket.remove(&id)?;
        Ok(true)
    }

    /// Serialises work on one id. Never held across an await: the store has none.
    fn guard(&self, id: &[u8; 32]) -> MutexGuard<'_, ()> {
        let guard = &self.guards[usize::from(u16::from_le_bytes([id[0], id[1]])) % GUARDS];
        guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a folder below the root, durably: each new entry on the way is synced before anything is put behind it.
    fn make_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let mut durable = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(folder) {
            return Ok(());
        }
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let below = folder.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.root));
        for parent in below {
            self.sync_folder(parent);
        }
        durable.insert(folder.to_owned());
        Ok(())
    }

    /// Makes a file's bytes durable. Whether a failed fsync kept or lost them cannot be known, and asking again would
    /// be told "fine" of pages the kernel dropped (Rebello et al., "Can Applications Recover from fsync Failures?",
    /// 2020).
    fn sync(&self, file: &File, path: &Path) {
        self.sync_or(file, path, || {});
    }

    fn sync_or(&self, file: &File, path: &Path, before_the_end: impl FnOnce()) {
        if planted(Bug::FileSync) {
            return;
        }
        if let Err(source) = self.disk.sync(file) {
            before_the_end();
            self.disk.crash(&SyncFailure { path: path.to_owned(), source });
        }
    }

    /// Does the same for a draft, which a restart would read back: after a failed fsync that could come from pages that
    /// the kernel has in memory alone, so the file goes first.
    fn sync_draft(&self, file: &File, path: &Path) {
        self.sync_or(file, path, || drop(fs::remove_file(path)));
    }

    /// Makes a folder's entries durable.
    fn sync_folder(&self, folder: &Path) {
        if planted(Bug::FolderSync) {
            return;
        }
        let done = open_folder(folder).and_then(|file| self.disk.sync(&file));
        if let Err(source) = done {
            self.disk.crash(&SyncFailure { path: folder.to_owned(), source });
        }
    }

    fn tmp_path(&self, name: &str) -> PathBuf {
        self.root.join("tmp").join(name)
    }
}

/// Locks a file against other processes. One that is ending may have it a moment longer, and so may a child between its
/// fork and its exec.
fn take_lock(path: PathBuf) -> Result<File, StoreError> {
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("open", &path))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_DEADLINE => thread::park_timeout(LOCK_PAUSE),
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => return Err(StoreError::Io { action: "lock", path, source }),
        }
    }
}

/// Opens a folder that has to be synced. That all files the process may have are open says nothing of the disk, and
/// passes.
fn open_folder(folder: &Path) -> io::Result<File> {
    let start = Instant::now();
    loop {
        match File::open(folder) {
            Err(error) if is_out_of_files(&error) && start.elapsed() < FILES_PATIENCE => {
                thread::park_timeout(FILES_PAUSE);
            }
            opened => return opened,
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let out = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| out.contains(&code))
}

/// The time that nanoseconds since 1970 tell.
fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Names the file and the action of an IO error.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Returns whether an error tells of the bytes that were to be read, not of the machine.
fn is_of_the_sector(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Turns what is damaged, or cannot be read at its place on the disk, into nothing.
fn intact<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error) if error.is_of_one_file() => Ok(None),
        other => other,
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(source)),
        _ => Ok(()),
    }
}

/// Opens a file to read; none when there is none.
fn open(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("open", path)(source)),
    }
}

/// Reads a whole small file of at most `max` bytes; none when there is none.
fn read(path: &Path, max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    use std::io::Read as _;
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() > max { Err(StoreError::Damaged { path: path.to_owned() }) } else { Ok(Some(bytes)) }
}
