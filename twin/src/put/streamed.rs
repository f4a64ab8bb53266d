//! Storing what can be read only once: one stream, or a folder whose files come one after another, as an upload over
//! HTTP brings them. Nothing of it can be resumed; its caller chose the batch and can end all of it by that name
//! ([`Twin::remove_batch`]), also after a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
    path::Path,
    sync::Arc,
};

use client::Receipt;
use format::{Directory, Kind, Label, Locator, limits::PATH_SEGMENTS_MAX};

use super::{
    Deduplication, PutError, PutOptions, Stored,
    encoding::Source,
    folder::{DIRECTORY_MIME, named},
    new_batch,
    object::Item,
};
use crate::{
    index::{Batch, Entry, PATH_BYTES_MAX, Position},
    leases::{LeaseChangeError, Removed},
    media::MediaType,
    progress::Progress,
    tree::{NODES_MAX, TreeError, TreeFault},
    twin::Twin,
    unfinished::{Resumption, UnfinishedError},
};

/// Bytes that can be read once.
pub struct Incoming {
    /// Where they come from. Reads may block; an error ends the upload.
    pub stream: Box<dyn Read + Send>,
    /// How many there will be, as far as that is known. It decides only how much room the upload waits for.
    pub length: Option<u64>,
}

/// A folder whose files come as streams.
pub struct StreamedFolder<'t> {
    files: StreamedFiles<'t>,
    /// Each folder by its path from the top, whose own path is empty.
    folders: BTreeMap<String, Directory>,
    /// Paths of files, stored or about to be.
    paths: BTreeSet<String>,
    kept: BTreeSet<Locator>,
    bytes: u64,
}

/// Stores the files of such a folder, concurrently and in any order.
#[derive(Clone)]
pub struct StreamedFiles<'t> {
    twin: &'t Twin,
    options: Arc<PutOptions>,
    name: Arc<str>,
    batch: Batch,
}

impl Batch {
    /// Draws the id of a new upload.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn draw() -> Result<Self, getrandom::Error> {
        new_batch()
    }
}

impl Twin {
    /// Refuses options that would make an upload fail at its end, before anything is read. Asks nodes for the policy.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn check_put(&self, options: &PutOptions) -> Result<(), PutError> {
        self.check(options)?;
        Ok(self.know_policy(&options.tenure.policy).await?)
    }

    /// Stores the bytes of a stream. Its only name is the one in the options, and it cannot be de-duplicated.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put_stream(
        &self,
        stream: Box<dyn Read + Send>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        self.put_incoming(new_batch()?, Incoming { stream, length: None }, options, progress).await
    }

    /// The same as a batch that the caller chose, once there is room.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put_incoming(
        &self,
        batch: Batch,
        Incoming { stream, length }: Incoming,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        let path = Path::new("standard input");
        self.check_put(options).await?;
        if options.resumption == Resumption::Only {
            return Err(UnfinishedError::Absent { path: path.to_owned() }.into());
        }
        let _room = self.room_for(length.unwrap_or(u64::MAX)).await;
        progress.file(path, length);
        let name = options.name.clone().unwrap_or_default();
        let item = Item::top(Source::Stream(stream), path, name, options, batch);
        self.store_top(item, options, progress).await
    }

    /// Begins a folder whose files come as streams. It is called as the options say.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn begin_folder(&self, batch: Batch, options: PutOptions) -> Result<StreamedFolder<'_>, PutError> {
        self.check_put(&options).await?;
        if options.mime.is_some() {
            return Err(PutError::FolderType { path: options.name.unwrap_or_default().into() });
        }
        // A directory's body holds capabilities, and a stream is not read twice.
        let options = PutOptions { deduplication: Deduplication::Off, ..options };
        let name = options.name.clone().unwrap_or_default().into();
        let files = StreamedFiles { twin: self, options: Arc::new(options), name, batch };
        let folders = [(String::new(), Directory::default())].into();
        Ok(StreamedFolder { files, folders, paths: BTreeSet::new(), kept: BTreeSet::new(), bytes: 0 })
    }

    /// Erases whatever the index has of an upload, as [`Twin::remove`] does. Of one that did not come so far that nodes
    /// were asked to commit, there is nothing to erase: its sessions at nodes end by themselves.
    ///
    /// # Errors
    /// [`LeaseChangeError`]; a repeated call mends that.
    pub async fn remove_batch(&self, batch: Batch) -> Result<Removed, LeaseChangeError> {
        let of_it = self.with_index(move |index| {
            let of_it = index.entries().filter(|(_, entry)| entry.batch == batch);
            of_it.map(|(locator, _)| *locator).collect::<BTreeSet<_>>()
        });
        let of_it = of_it.await;
        if of_it.is_empty() {
            return Ok(Removed::default());
        }
        let quiet: Arc<dyn Progress> = Arc::new(());
        let (removed, failed) = self.remove_all(&of_it, &quiet).await?;
        failed.into_values().next().map_or(Ok(removed), Err)
    }
}

impl StreamedFiles<'_> {
    /// Stores one file under a path that was taken. It is in the folder once [`StreamedFolder::insert`] was told.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn store(
        &self,
        path: &str,
        mime: Option<MediaType>,
        Incoming { stream, length }: Incoming,
        progress: &Arc<dyn Progress>,
    ) -> Result<Entry, PutError> {
        let _room = self.twin.room_for(length.unwrap_or(u64::MAX)).await;
        progress.file(Path::new(path), length);
        let mime = mime.map(|mime| mime.as_str().to_owned());
        Ok(self.twin.store(self.item(path, mime, Kind::File, stream), &self.options, progress).await?.0)
    }

    async fn store_folder(&self, path: &str, directory: &Directory) -> Result<(Entry, Receipt), PutError> {
        let quiet: Arc<dyn Progress> = Arc::new(());
        let body = Box::new(Cursor::new(directory.encode()));
        let item = self.item(path, Some(DIRECTORY_MIME.to_owned()), Kind::Directory, body);
        self.twin.store(item, &self.options, &quiet).await
    }

    /// What is stored at a path from the top, whose own path is empty.
    fn item(&self, path: &str, mime: Option<String>, kind: Kind, stream: Box<dyn Read + Send>) -> Item {
        let is_top = path.is_empty();
        Item {
            source: Source::Stream(stream),
            part: None,
            path: path.into(),
            name: if is_top { self.name.to_string() } else { path.rsplit('/').next().unwrap_or_default().to_owned() },
            inner: if is_top { self.name.to_string() } else { format!("{}/{path}", self.name) },
            mime,
            kind,
            batch: self.batch,
            position: if is_top { Position::Top } else { Position::Inner },
            noting: None,
        }
    }
}

impl<'t> StreamedFolder<'t> {
    /// Returns what stores its files.
    #[must_use]
    pub fn files(&self) -> StreamedFiles<'t> {
        self.files.clone()
    }

    fn check_path(&self, path: &str) -> Result<(), PutError> {
        let fault = |source| PutError::Directory { path: path.into(), source };
        path.split('/').try_for_each(Directory::check_name).map_err(fault)?;
        if path.split('/').count() > PATH_SEGMENTS_MAX {
            return Err(TreeError::Top(TreeFault::Deep { path: path.into() }).into());
        }
        if self.files.name.len() + 1 + path.len() > PATH_BYTES_MAX {
            return Err(TreeError::Top(TreeFault::Long { path: path.into() }).into());
        }
        if self.paths.len() + self.folders.len() >= NODES_MAX {
            return Err(TreeError::Large.into());
        }
        Ok(())
    }

    /// Takes a path, names with slashes between them, for a file that is about to be stored, and makes the folders on
    /// the way.
    ///
    /// # Errors
    /// [`PutError`]: it cannot be a path, or is taken.
    pub fn take_path(&mut self, path: &str) -> Result<(), PutError> {
        self.check_path(path)?;
        let above = || path.match_indices('/').map(|(at, _)| &path[..at]);
        let is_taken = self.paths.contains(path) || self.folders.contains_key(path);
        if is_taken || above().any(|it| self.paths.contains(it)) {
            return Err(PutError::Twice { path: path.into() });
        }
        for folder in above() {
            self.folders.entry(folder.to_owned()).or_default();
        }
        self.paths.insert(path.to_owned());
        Ok(())
    }

    /// Makes a folder, also one in which nothing will be, and the folders on the way.
    ///
    /// # Errors
    /// [`PutError`]: it cannot be a path, or is that of a file.
    pub fn take_folder(&mut self, path: &str) -> Result<(), PutError> {
        self.check_path(path)?;
        let all = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        for folder in all {
            if self.paths.contains(folder) {
                return Err(PutError::Twice { path: path.into() });
            }
            self.folders.entry(folder.to_owned()).or_default();
        }
        Ok(())
    }

    /// Returns how many objects the folder is made of so far: those that are about to be stored, and itself.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.paths.len() + self.folders.len()
    }

    /// Puts a stored file into its folder.
    ///
    /// # Errors
    /// [`PutError::Directory`].
    pub fn insert(&mut self, path: &str, entry: &Entry) -> Result<(), PutError> {
        self.bytes = self.bytes.saturating_add(entry.length);
        self.kept.insert(entry.capability.locator());
        self.insert_at(path, entry, &Directory::default())
    }

    /// Stores the folders from the leaves to the top.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn finish(mut self) -> Result<Stored, PutError> {
        let mut paths: Vec<String> = self.folders.keys().filter(|path| !path.is_empty()).cloned().collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
        for path in paths {
            let directory = self.folders.remove(&path).unwrap_or_default();
            let (entry, _) = self.files.store_folder(&path, &directory).await?;
            self.kept.insert(entry.capability.locator());
            self.insert_at(&path, &entry, &directory)?;
        }
        let top = self.folders.remove("").unwrap_or_default();
        let (entry, receipt) = self.files.store_folder("", &top).await?;
        let (label, objects, bytes) = (Label::open(entry.capability.clone()), self.kept.len() + 1, self.bytes);
        Ok(Stored { label, entry, receipt, objects, bytes, skipped: Vec::new(), bad: Vec::new(), left_over: 0 })
    }

    /// Puts an object, of which `directory` is the content unless it is a file, into the directory of its folder.
    fn insert_at(&mut self, path: &str, entry: &Entry, directory: &Directory) -> Result<(), PutError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let into = self.folders.entry(above.to_owned()).or_default();
        let inserted = into.insert(name, named(entry, directory, into.room()));
        inserted.map_err(|source| PutError::Directory { path: path.into(), source })
    }
}
