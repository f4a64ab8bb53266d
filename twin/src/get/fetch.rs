//! Fetching to the disk: a file, or a folder with everything in it.
//!
//! A file appears under its name only when it is complete, and what was there is replaced: a link, too, is replaced and
//! never followed. Pipes and devices are written to. Of a file that is cut short nothing stays: whoever drops the fetch
//! removes its temporary file. Only a process that is killed leaves one, `NAME.PID.N.new`.
//!
//! A folder is fetched into a private folder beside its place (`part_of`), several files side by side, and moved there
//! when it is complete. If that is interrupted, the private folder stays, and the next fetch of the same object to the
//! same place goes on: a file whose bytes have the right hash is not fetched again.
//!
//! ```text
//! .NAME.LOCATOR.part/        mode 0700, so nobody else can put links into it; locked (flock) by the one who fetches
//!   N.new                    a file on its way
//!   tree/                    what is complete; becomes NAME
//! ```

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Write},
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use format::{Capability, Kind, Locator, limits::PATH_SEGMENTS_MAX};
use futures::{StreamExt, stream::FuturesUnordered};
use rustix::fs::OFlags;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Delivered, Found, GetError};
use crate::{durable, network::Network, plain_file, progress::Progress};

/// Most files and folders of one tree that is fetched as a whole; the same bound holds when a tree is stored.
pub(super) const NODES_MAX: usize = 1_000_000;
/// Files and folders of a tree that are fetched concurrently: small ones wait for round trips.
const NODES_AT_ONCE: usize = 32;
/// Room for their bytes. A file takes as many places as it has parts of 1 MiB, up to a quarter of the room: it holds at
/// most three stripes, of up to 6 MiB each, in memory.
const PLACES: u32 = 64;
const PLACE_BYTES: u64 = 1 << 20;
/// Bytes of the name that a private folder shows.
const NAME_BYTES_SHOWN: usize = 100;

/// Returns the private folder in which a tree waits until it is complete.
#[must_use]
pub fn part_of(path: &Path, locator: &Locator) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = &name[..name.floor_char_boundary(NAME_BYTES_SHOWN)];
    path.with_file_name(format!(".{name}.{}.part", &locator.to_string()[..16]))
}

/// One node of a tree that is to be fetched.
struct Node {
    capability: Capability,
    path: PathBuf,
    depth: usize,
}

/// What became of it.
enum Fetched {
    File(Delivered),
    Folder(Vec<Node>),
}

/// The fetch of one tree.
struct Fetch<'n> {
    network: &'n Network,
    part: &'n Path,
    room: Semaphore,
    files: AtomicU64,
    progress: &'n Arc<dyn Progress>,
}

impl Network {
    /// Fetches a whole file to a path, or a range of it. What was there is replaced, when all bytes are there and
    /// durable. A link is replaced and not followed; a pipe or a device is written to.
    ///
    /// # Errors
    /// [`GetError`]; nothing has changed at `path` then, unless it is a pipe or a device.
    pub async fn fetch_file(
        &self,
        found: &Found,
        range: Range<u64>,
        path: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<Delivered, GetError> {
        if found.object.kind() == Kind::Directory {
            return Err(GetError::Directory);
        }
        let fault = |source| GetError::Write { path: path.to_owned(), source };
        progress.file(path, Some(range.end - range.start));
        let target = path.to_owned();
        if let Some(stream) = blocking(move || open_stream(&target)).await.map_err(fault)? {
            return Ok(self.read(found, range, Counted(stream, progress.clone()), path).await?.1);
        }
        let (target, temporary) = (path.to_owned(), durable::temporary_of(path));
        let (file, temporary, delivered) = self.write_new(found, range, temporary, path, progress).await?;
        let done = blocking(move || {
            file.sync_all()?;
            temporary.becomes(&target)?;
            durable::sync_folder(&target)
        });
        done.await.map(|()| delivered).map_err(fault)
    }

    /// Fetches a directory and everything in it into a new folder, which appears when it is complete and durable. What
    /// an interrupted fetch of it left in [`part_of`] is used.
    ///
    /// # Errors
    /// [`GetError`]; there is no folder at `path` then, and what was fetched stays in [`part_of`].
    pub async fn fetch_tree(
        &self,
        found: &Found,
        path: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<Delivered, GetError> {
        if path.symlink_metadata().is_ok() {
            return Err(GetError::Exists { path: path.to_owned() });
        }
        let part = part_of(path, &found.object.locator());
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| GetError::Write { path, source }
        };
        let lock = claim(&part).map_err(fault(&part))?;
        let room = Semaphore::new(usize::try_from(PLACES).expect("a few"));
        let fetch = Fetch { network: self, part: &part, room, files: AtomicU64::new(0), progress };
        let tree = part.join("tree");
        let delivered = fetch.all(&found.capability, &tree).await?;
        let (target, from) = (path.to_owned(), part.clone());
        let done = blocking(move || {
            // Once for all files: a sync of each would cost more than their bytes.
            rustix::fs::syncfs(&lock)?;
            std::fs::rename(&tree, &target)?;
            durable::sync_folder(&target)?;
            std::fs::remove_dir_all(&from)
        });
        done.await.map(|()| delivered).map_err(fault(path))
    }

    /// Writes a new file, under its temporary path. Errors call it `name`.
    async fn write_new(
        &self,
        found: &Found,
        range: Range<u64>,
        temporary: PathBuf,
        name: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<(File, Temporary, Delivered), GetError> {
        // A killed program may have left one of its name. Then it is new, so no link is followed.
        let _ = std::fs::remove_file(&temporary);
        let file = File::create_new(&temporary).map_err(|source| GetError::Write { path: name.to_owned(), source })?;
        let temporary = Temporary(Some(temporary));
        let (Counted(file, _), delivered) = self.read(found, range, Counted(file, progress.clone()), name).await?;
        Ok((file, temporary, delivered))
    }
}

impl Fetch<'_> {
    async fn all(&self, top: &Capability, tree: &Path) -> Result<Delivered, GetError> {
        let mut delivered = Delivered::default();
        let mut nodes = 1;
        let mut waiting = vec![Node { capability: top.clone(), path: tree.to_owned(), depth: 0 }];
        let mut running = FuturesUnordered::new();
        // After a failure nothing new is begun, and what is on its way is finished: the next fetch has it then.
        let mut failed = None;
        loop {
            while running.len() < NODES_AT_ONCE
                && let Some(node) = waiting.pop()
            {
                running.push(self.one(node));
            }
            match running.next().await {
                None => return failed.map_or(Ok(delivered), Err),
                Some(Ok(Fetched::File(file))) => delivered.add(file),
                Some(Ok(Fetched::Folder(inside))) => {
                    nodes += inside.len();
                    if nodes > NODES_MAX {
                        return Err(GetError::Large);
                    }
                    if failed.is_none() {
                        waiting.extend(inside);
                    }
                }
                Some(Err(error)) => {
                    waiting.clear();
                    failed.get_or_insert(error);
                }
            }
        }
    }

    async fn one(&self, node: Node) -> Result<Fetched, GetError> {
        let Node { capability, path, depth } = node;
        if depth > PATH_SEGMENTS_MAX {
            return Err(GetError::Large);
        }
        let found = self.network.open(&capability).await?;
        if found.object.kind() == Kind::File {
            return self.file(&found, path).await.map(Fetched::File);
        }
        make_folder(&path).map_err(|source| GetError::Write { path: path.clone(), source })?;
        let directory = self.network.directory(&found).await?;
        // `Directory` refuses names that would lead out of its folder (path traversal).
        let inside = directory.entries().map(|(name, entry)| Node {
            capability: entry.capability.clone(),
            path: path.join(name),
            depth: depth + 1,
        });
        Ok(Fetched::Folder(inside.collect()))
    }

    async fn file(&self, found: &Found, path: PathBuf) -> Result<Delivered, GetError> {
        let length = found.object.length();
        let places = u32::try_from(length / PLACE_BYTES + 1).unwrap_or(u32::MAX).min(PLACES / 4);
        let _room = self.room.acquire_many(places).await.expect("the room is never closed");
        self.progress.file(&path, Some(length));
        let (kept, hash) = (path.clone(), found.object.manifest().hash);
        if blocking(move || is_there(&kept, length, hash)).await {
            self.progress.fetched(length);
            return Ok(Delivered { kept: 1, ..Delivered::default() });
        }
        let temporary = self.part.join(format!("{}.new", self.files.fetch_add(1, Ordering::Relaxed)));
        // What is there is of an earlier fetch, which this one has locked out.
        let _ = std::fs::remove_file(&temporary);
        let (_, temporary, delivered) =
            self.network.write_new(found, 0..length, temporary, &path, self.progress).await?;
        temporary.becomes(&path).map_err(|source| GetError::Write { path, source })?;
        Ok(delivered)
    }
}

/// A temporary file, which is removed unless it becomes what it was made for.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn becomes(mut self, target: &Path) -> io::Result<()> {
        let renamed = self.0.as_ref().map_or(Ok(()), |path| std::fs::rename(path, target));
        self.0.take_if(|_| renamed.is_ok());
        renamed
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Without it the file only takes room.
        let _ = self.0.take().map(std::fs::remove_file);
    }
}

/// A sink that tells the progress of what is written.
struct Counted<W>(W, Arc<dyn Progress>);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.fetched(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Opens a pipe or device to write to it, and waits for the reader of a pipe. Returns `None` for a place where a file
/// can appear.
fn open_stream(path: &Path) -> io::Result<Option<File>> {
    let is_stream = |metadata: &Metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder)?;
    // `/dev/stderr` and the like are links, which lead to what the shell opened. Nothing is ever put in their place.
    let is_of_the_system = folder == Path::new("/dev") || folder.starts_with("/proc");
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) if is_of_the_system || is_stream(&metadata) => OpenOptions::new().write(true).open(path).map(Some),
        Err(error) if is_of_the_system => Err(error),
        _ => Ok(None),
    }
}

/// Makes the private folder of a tree, or takes the one that an interrupted fetch left, and locks it.
fn claim(part: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(part) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = i32::try_from((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits()).expect("the flags of open(2) are an int");
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(part)?;
    let metadata = folder.metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("it is there, and others may write to it: remove it"));
    }
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another program is fetching into it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a folder, or takes the one that is there.
fn make_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.symlink_metadata()?.is_dir() => Ok(()),
        made => made,
    }
}

/// Returns whether a file is there and has the right bytes.
fn is_there(path: &Path, length: u64, hash: [u8; 32]) -> bool {
    let read = || -> io::Result<bool> {
        let file = plain_file::open(path)?;
        if file.metadata()?.len() != length {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file)?;
        Ok(*hasher.finalize().as_bytes() == hash)
    };
    read().unwrap_or(false)
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(act).await.expect("acts on the disk neither panic nor are cancelled")
}
