//! Fetching to the disk: a file, or a folder with everything in it.
//!
//! A file appears under its name only when it is complete, and what was there is replaced: a link, too, is replaced and
//! never followed. Pipes and devices are written to.
//!
//! A folder, and a file of more than 4 MiB, is fetched into a private folder beside its place (`part_of`), several
//! files side by side, and moved there when it is complete. If that is interrupted, the private folder stays, and the
//! next fetch of the same object to the same place goes on: a file whose bytes have the right hash is not fetched
//! again, and a long one of which a part came is fetched from there on. Of a small file or a range that is cut short
//! nothing stays: whoever drops the fetch removes its temporary file. Only a process that is killed leaves one,
//! `NAME.PID.N.new`.
//!
//! ```text
//! .NAME.LOCATOR.part/        only this user may write to it, so nobody else can put links into it; whoever fetches
//!   HASH.new                 locks it (flock); a file on its way, by its place in the tree
//!   tree/                    what is complete; becomes NAME
//! ```
//!
//! A file system may take two names of a folder for one, as FAT does with `A` and `a`. So the name of each file and
//! folder is taken before its bytes are fetched, and whoever comes second is told.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{File, Metadata, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use format::{Capability, Kind, limits::PATH_SEGMENTS_MAX};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    Delivered, Found, GetError,
    again::Tries,
    part::{Begun, KEPT_BYTES_MIN, Part, Temporary, part_of},
};
use crate::{durable, network::Network, plain_file, progress::Progress};

/// Most files and folders of one tree that is fetched as a whole; the same bound holds when a tree is stored.
pub(super) const NODES_MAX: usize = 1_000_000;
/// Files and folders of a tree that are fetched concurrently: small ones wait for round trips.
const NODES_AT_ONCE: usize = 32;
/// Room for their bytes. A file takes as many places as it has parts of 1 MiB, up to a quarter of the room: it holds at
/// most three stripes, of up to 6 MiB each, in memory.
const PLACES: u32 = 64;
const PLACE_BYTES: u64 = 1 << 20;

/// One node of a tree that is to be fetched.
struct Node {
    capability: Capability,
    path: PathBuf,
    depth: usize,
    before: Before,
}

/// Whether something may be in the place of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing, unless the file system takes the names of two nodes for one.
    Nothing,
    /// What an earlier fetch left under this very name.
    Left,
}

/// What became of it.
enum Fetched {
    File(Delivered),
    Folder(Vec<Node>),
}

/// The fetch of one tree.
struct Fetch<'n> {
    network: &'n Network,
    part: &'n Part,
    tree: &'n Path,
    room: Semaphore,
    progress: &'n Arc<dyn Progress>,
}

impl Network {
    /// Fetches a whole file to a path, or a range of it. What was there is replaced, when all bytes are there and
    /// durable. A link is replaced and not followed; a pipe or a device is written to. What an interrupted fetch of a
    /// long file left in [`part_of`] is used.
    ///
    /// # Errors
    /// [`GetError`]; nothing has changed at `path` then, unless it is a pipe or a device. What was fetched of a long
    /// file stays in [`part_of`].
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
        // The rename at the end would refuse it too, but put the file in the place of a link to one.
        if path.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(GetError::Folder { path: path.to_owned() });
        }
        let fault = |source| write_fault(path, source);
        progress.file(path, Some(range.end - range.start));
        let target = path.to_owned();
        if let Some(stream) = blocking(move || open_stream(&target)).await.map_err(fault)? {
            return Ok(self.read(found, range, Counted(stream, progress.clone()), path).await?.1);
        }
        let length = found.object.length();
        if range == (0..length) && length > KEPT_BYTES_MIN {
            let part = path.to_owned();
            let locator = found.object.locator();
            let part = blocking(move || Part::claim(part_of(&part, &locator))).await.map_err(fault)?;
            let temporary = part.path.join(name_of(Path::new("")));
            let (file, temporary, delivered) = self.fetch_on(found, temporary, path, progress).await?;
            settle(file, temporary, path).await.map_err(fault)?;
            return Ok(delivered);
        }
        let temporary = durable::temporary_of(path);
        // A killed program may have left one of its name. Then it is new, so no link is followed.
        let _ = std::fs::remove_file(&temporary);
        let file = File::create_new(&temporary).map_err(fault)?;
        let temporary = Temporary::passing(temporary);
        let (Counted(file, _), delivered) = self.read(found, range, Counted(file, progress.clone()), path).await?;
        settle(file, temporary, path).await.map_err(fault)?;
        Ok(delivered)
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
        let part = Part::claim(part.clone()).map_err(|source| write_fault(&part, source))?;
        let room = Semaphore::new(usize::try_from(PLACES).expect("a few"));
        let tree = part.path.join("tree");
        let fetch = Fetch { network: self, part: &part, tree: &tree, room, progress };
        let delivered = fetch.all(&found.capability).await?;
        let target = path.to_owned();
        let done = blocking(move || {
            // Once for all files: a sync of each would cost more than their bytes.
            if let Err(error) = rustix::fs::syncfs(&part.lock) {
                // What is read back may be in memory alone, and a second sync would not say so.
                let _ = std::fs::remove_dir_all(&part.path);
                return Err(error.into());
            }
            std::fs::rename(&tree, &target)?;
            durable::sync_folder(&target)?;
            std::fs::remove_dir_all(&part.path)
        });
        done.await.map(|()| delivered).map_err(|source| write_fault(path, source))
    }

    /// Fetches what an earlier fetch has not left of a file under its temporary path. Errors call it `name`.
    async fn fetch_on(
        &self,
        found: &Found,
        temporary: PathBuf,
        name: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<(File, Temporary, Delivered), GetError> {
        let length = found.object.length();
        loop {
            let it = Temporary::of_length(temporary.clone(), length);
            let (begun, mut it) = blocking(move || (it.begin(length), it)).await;
            let Begun { file, kept, hasher } = begun.map_err(|source| write_fault(name, source))?;
            progress.fetched(kept);
            let sink = Counted(file, progress.clone());
            match self.deliver(found, kept..length, Some(hasher), sink, name).await {
                Ok((Counted(file, _), delivered)) => {
                    return Ok((file, it, Delivered { kept_bytes: kept, ..delivered }));
                }
                Err(GetError::Hash) => {
                    it.leave();
                    if kept == 0 {
                        return Err(GetError::Hash);
                    }
                    tracing::warn!(path = %name.display(), "what an earlier fetch left is not of the object; it is fetched anew");
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Fetch<'_> {
    async fn all(&self, top: &Capability) -> Result<Delivered, GetError> {
        let mut delivered = Delivered::default();
        let mut nodes = 1;
        let (capability, path) = (top.clone(), self.tree.to_owned());
        let mut waiting = vec![Node { capability, path, depth: 0, before: Before::Left }];
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
        let Node { capability, path, depth, before } = node;
        if depth > PATH_SEGMENTS_MAX {
            return Err(GetError::Large);
        }
        let mut tries = Tries::new(self.network.patience);
        let (object, record) = loop {
            match self.network.reader.object(&capability).await {
                Ok(opened) => break opened,
                Err(error) => tries.failed(error, 0).await?,
            }
        };
        let found = Found { capability, object, record };
        if found.object.kind() == Kind::File {
            return self.file(&found, path, before).await.map(Fetched::File);
        }
        let folder = path.clone();
        let there = blocking(move || make_folder(&folder, before)).await?;
        let directory = self.network.directory(&found).await?;
        // `Directory` refuses names that would lead out of its folder (path traversal).
        let inside = directory.entries().map(|(name, entry)| Node {
            capability: entry.capability.clone(),
            path: path.join(name),
            depth: depth + 1,
            before: if there.contains(OsStr::new(name)) { Before::Left } else { Before::Nothing },
        });
        Ok(Fetched::Folder(inside.collect()))
    }

    async fn file(&self, found: &Found, path: PathBuf, before: Before) -> Result<Delivered, GetError> {
        let length = found.object.length();
        let places = u32::try_from(length / PLACE_BYTES + 1).unwrap_or(u32::MAX).min(PLACES / 4);
        let _room = self.room.acquire_many(places).await.expect("the room is never closed");
        self.progress.file(&path, Some(length));
        let (kept, hash) = (path.clone(), found.object.manifest().hash);
        if before == Before::Left && blocking(move || is_there(&kept, length, hash)).await {
            self.progress.fetched(length);
            return Ok(Delivered { kept: 1, kept_bytes: length, ..Delivered::default() });
        }
        let name = path.clone();
        let taken = match before {
            Before::Nothing => Some(blocking(move || take_name(&name)).await?),
            Before::Left => None,
        };
        let inner = path.strip_prefix(self.tree).unwrap_or(&path);
        let temporary = self.part.path.join(name_of(inner));
        let (_, temporary, delivered) = self.network.fetch_on(found, temporary, &path, self.progress).await?;
        temporary.becomes(&path).map_err(|source| write_fault(&path, source))?;
        if let Some(taken) = taken {
            taken.replace();
        }
        Ok(delivered)
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

/// Returns the name of a file on its way, by its path in the tree.
fn name_of(inner: &Path) -> String {
    let hash = blake3::hash(inner.as_os_str().as_encoded_bytes()).to_hex();
    format!("{}.new", &hash[..32])
}

/// Makes a whole file durable and puts it into its place.
async fn settle(file: File, mut temporary: Temporary, path: &Path) -> io::Result<()> {
    let target = path.to_owned();
    let settled = blocking(move || {
        if let Err(error) = file.sync_all() {
            // What is read back may be in memory alone, and a second sync would not say so.
            temporary.leave();
            return Err(error);
        }
        temporary.becomes(&target)?;
        durable::sync_folder(&target)
    });
    settled.await
}

/// Takes the name of a new file: an empty one is there until the file is.
fn take_name(path: &Path) -> Result<Temporary, GetError> {
    File::create_new(path).map_err(|source| new_fault(path, source))?;
    let taken = Temporary::passing(path.to_owned());
    keeps_name(path)?;
    Ok(taken)
}

/// Makes a folder, or takes the one that an earlier fetch left. Returns what is in it.
fn make_folder(path: &Path, before: Before) -> Result<HashSet<OsString>, GetError> {
    match std::fs::create_dir(path) {
        Ok(()) => keeps_name(path).map(|()| HashSet::new()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && before == Before::Left => {
            let names = || -> io::Result<HashSet<OsString>> {
                match path.symlink_metadata()?.is_dir() {
                    true => std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect(),
                    false => Err(error),
                }
            };
            names().map_err(|source| write_fault(path, source))
        }
        Err(source) => Err(new_fault(path, source)),
    }
}

/// Refuses a name that the file system took for another one: some drop dots and spaces at the end.
fn keeps_name(path: &Path) -> Result<(), GetError> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else { return Ok(()) };
    if !matches!(name.as_encoded_bytes().last(), Some(b'.' | b' ')) {
        return Ok(());
    }
    let is_it = |entry: io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == name);
    match std::fs::read_dir(folder).map_err(|source| write_fault(folder, source))?.any(is_it) {
        true => Ok(()),
        false => Err(GetError::Name { path: path.to_owned(), source: None }),
    }
}

/// Tells why something new cannot be made.
fn new_fault(path: &Path, source: io::Error) -> GetError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => GetError::Folded { path: path.to_owned() },
        // The folder is there, so it is the name.
        io::ErrorKind::NotFound => GetError::Name { path: path.to_owned(), source: Some(source) },
        _ => write_fault(path, source),
    }
}

/// Tells why something cannot be written.
fn write_fault(path: &Path, source: io::Error) -> GetError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => GetError::Name { path, source: Some(source) },
        _ => GetError::Write { path, source },
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

#[cfg(test)]
mod tests {
    use super::*;

    /// On a file system that takes two names for one, the second is there before it is made.
    #[test]
    fn two_names_that_the_file_system_takes_for_one_never_end_as_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let taken = take_name(&path).unwrap();
        let second = take_name(&path).err().unwrap();
        assert!(matches!(&second, GetError::Folded { path: folded } if *folded == path), "{second}");
        let second = make_folder(&path, Before::Nothing).unwrap_err();
        assert!(matches!(second, GetError::Folded { .. }), "{second}");
        std::fs::write(&path, "the first").unwrap();
        taken.replace();
        assert!(matches!(take_name(&path), Err(GetError::Folded { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"the first");

        let path = folder.path().join("b");
        assert!(make_folder(&path, Before::Nothing).unwrap().is_empty());
        assert!(matches!(make_folder(&path, Before::Nothing), Err(GetError::Folded { .. })));
        std::fs::write(path.join("in"), "").unwrap();
        assert!(make_folder(&path, Before::Left).unwrap().contains(OsStr::new("in")));
    }

    #[test]
    fn a_name_is_free_again_when_its_file_does_not_come() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plain", "dot.", "space ", "\u{6f22}"] {
            let path = folder.path().join(name);
            drop(take_name(&path).unwrap());
            assert!(!path.exists());
            take_name(&path).unwrap().replace();
            assert!(path.exists());
        }
        let long = take_name(&folder.path().join("x".repeat(256))).err().unwrap();
        assert!(matches!(long, GetError::Name { .. }), "{long}");
    }
}
