//! Storing: a file, a stream or a whole folder becomes objects on nodes, and the index records their names.
//!
//! ```text
//! source -> encoding thread -> channel of one stripe -> client::Uploader      (a file that reaches its end)
//!        -> index: "committing" -> lease signed -> commit -> index: "stored"
//! ```
//!
//! The name is in the index before nodes are asked to commit, so an upload that a crash interrupts can be listed and
//! removed. What is longer than a few MiB has a journal (`unfinished.rs`): the same call goes on where it was, and an
//! attempt that lost too many nodes is followed by another. What was stored is noted until its owner was told
//! (`unfinished/source_lock.rs`): a command that was killed, or could not write its answer, stores nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Metadata,
    path::{Path, PathBuf},
    sync::Arc,
};

use client::{Receipt, UploadError};
use format::{
    Compression, DirectoryError, Label, Level, NodeName, Retention, Suite,
    limits::{LEASE_PLACES_MAX, NAME_BYTES_MAX, TAG_NAME_BYTES_MAX, TAGS_MAX},
};
use futures::StreamExt;
use tokio::task::spawn_blocking;

use crate::{
    index::{Batch, Entry, IndexError, Tenure},
    leases::LeaseChangeError,
    media::MediaType,
    policy_name::PolicyNameError,
    progress::Progress,
    retention::{self, RetentionError},
    tree::{TreeError, TreeFault},
    twin::{Twin, now},
    unfinished::{
        Head, Journal, PartJournal, RESUMABLE_BYTES_MIN, Resumption, SourceLock, Stamp, UnfinishedError, Untold,
    },
};

mod encoding;
mod folder;
mod held;
mod object;
mod room;
mod streamed;

use encoding::Source;
pub use encoding::{Changes, Deduplication, EncodingError};
use object::Item;
pub use room::NetworkFull;
pub use streamed::{Incoming, StreamedFiles, StreamedFolder};

/// Files and folders that are uploaded concurrently: small ones wait for round trips. A large one uses the whole
/// machine, so it takes the room of several (`Twin::room_for`).
const FILES_AT_ONCE: usize = 64;

/// How an object is stored.
#[derive(Debug, Clone)]
pub struct PutOptions {
    /// Policy, profile, places and retention. The twin chooses the version.
    pub tenure: Tenure,
    /// The AEAD of the blocks.
    pub suite: Suite,
    /// Whether blocks may be compressed.
    pub compression: Compression,
    /// Whether equal uploads share shards.
    pub deduplication: Deduplication,
    /// What happens when a file changes while it is read.
    pub changes: Changes,
    /// What happens when something in a folder cannot be stored.
    pub bad: Bad,
    /// Media type of a file. `None`: it is detected.
    pub mime: Option<MediaType>,
    /// Name of the object. `None`: the file's own name.
    pub name: Option<String>,
    /// Tags that a policy may ask for, put on every object.
    pub tags: BTreeMap<String, u32>,
    /// Weight of each node when nodes are chosen, in 255ths. Empty: all nodes are alike.
    pub preferences: BTreeMap<NodeName, u8>,
    /// Whether an upload that did not end goes on.
    pub resumption: Resumption,
    /// How the owner wrote the times of the tenure, such as `+30d`. The upload of a folder that goes on keeps the times
    /// that it was begun with while they are written the same way.
    pub asked_times: String,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self {
            tenure: Tenure::default(),
            suite: Suite::auto(),
            compression: Compression::Auto,
            deduplication: Deduplication::Off,
            changes: Changes::Refused,
            bad: Bad::Refused,
            mime: None,
            name: None,
            tags: BTreeMap::new(),
            preferences: BTreeMap::new(),
            resumption: Resumption::default(),
            asked_times: String::new(),
        }
    }
}

impl PutOptions {
    /// Returns a hash of what an upload must have in common with the one that it goes on with: what the object and the
    /// choice of nodes come from. Times are not of it, because many are told from now on.
    fn fingerprint(&self) -> [u8; 32] {
        let Tenure { version: _, profile, policy, wanted, refused, caps, retention: _ } = &self.tenure;
        let object = (self.suite, self.compression, self.deduplication, &self.mime, &self.name, &self.tags);
        let text = format!("{object:?} {profile} {policy} {wanted:?} {refused:?} {caps:?}");
        blake3::derive_key("evernear 2026 v1 options of an unfinished upload", text.as_bytes())
    }

    /// Returns a hash of how the times were written; where nobody says it, of the times.
    fn asked(&self) -> [u8; 32] {
        let Retention { keep_until, expires } = self.tenure.retention;
        let text = match self.asked_times.as_str() {
            "" => format!("{keep_until} {expires}"),
            written => written.to_owned(),
        };
        blake3::derive_key("evernear 2026 v1 times of an unfinished upload", text.as_bytes())
    }
}

/// What happens when a file or folder inside a folder cannot be stored: by its name, because it cannot be read, or
/// because it changes while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bad {
    /// It is an error; what is seen before the first byte is sent is told all at once.
    #[default]
    Refused,
    /// It is left out and told.
    LeftOut,
}

/// What was stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The label of the file or of the top folder.
    pub label: Label,
    /// Its entry in the index.
    pub entry: Entry,
    /// Where nodes hold the file or the top folder, which is stored last.
    pub receipt: Receipt,
    /// How many objects were stored: one, or all of a tree.
    pub objects: usize,
    /// Plaintext bytes of all files.
    pub bytes: u64,
    /// What was left out of a folder: symbolic links, sockets, pipes, devices.
    pub skipped: Vec<PathBuf>,
    /// What was left out because it cannot be stored, and why.
    pub bad: Vec<LeftOut>,
    /// Objects that earlier attempts at this folder stored and that are no part of it any more: they did not end.
    pub left_over: usize,
}

/// What became of several paths, which their owner is to be told.
pub struct Several {
    /// What became of each, in their order.
    pub results: Vec<Result<Stored, PutError>>,
    /// Where it is noted what was stored.
    untold: Vec<Untold>,
}

impl Several {
    /// Notes that the owner was told. Without this call the same `put` tells the same again, and stores nothing.
    pub async fn told(self) {
        let forget = move || self.untold.iter().for_each(Untold::told);
        spawn_blocking(forget).await.expect("a note is forgotten without a panic");
    }
}

/// A file or folder that was left out of a stored folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Why something was not stored. The objects of a tree that were stored before stay listed as one upload that did not
/// end, and `remove` ends their leases.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The folder cannot be stored.
    #[error("the folder cannot be stored")]
    Tree(#[from] TreeError),
    /// The source cannot be read, or cannot become an object.
    #[error("the upload cannot be encoded")]
    Encoding(#[from] EncodingError),
    /// The nodes did not take the object.
    #[error("{} was not stored", path.display())]
    Upload {
        /// What was to be stored.
        path: PathBuf,
        /// The cause.
        source: UploadError,
    },
    /// The names of a folder cannot be a directory.
    #[error("the folder {} cannot be a directory", path.display())]
    Directory {
        /// Which folder.
        path: PathBuf,
        /// The cause.
        source: DirectoryError,
    },
    /// The index cannot be written. Before the commit nothing is stored then; after it the object is stored, and the
    /// index lists it as incomplete.
    #[error("the index of uploads cannot be written")]
    Index(#[from] IndexError),
    /// A media type was named for a folder.
    #[error("a media type is for one file, and {} is a folder", path.display())]
    FolderType {
        /// Which folder.
        path: PathBuf,
    },
    /// A name, tag or cap is out of bounds.
    #[error("the {what} is out of bounds: at most {max}")]
    Bounds {
        /// Which.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The times cannot be those of a lease.
    #[error("the object is not stored for such a time")]
    Retention(#[from] RetentionError),
    /// The policy cannot be named in a lease.
    #[error("the object is not stored under this policy")]
    Policy(#[from] PolicyNameError),
    /// The name of the object would do harm on a terminal or in a header, or be taken for a path in a folder.
    #[error("{name:?} has a slash or control characters and cannot be the name of an object")]
    Name {
        /// The name.
        name: String,
    },
    /// A tag would do harm on a terminal or in a header.
    #[error("{tag:?} has control characters and cannot be a tag")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// Two files of one folder, or a file and a folder, have one path.
    #[error("{} is there twice; give each file a path of its own", path.display())]
    Twice {
        /// The path in the folder.
        path: PathBuf,
    },
    /// The path is a pipe, a device or a socket.
    #[error("{} is neither file nor folder; give a pipe on standard input", path.display())]
    Kind {
        /// What was given.
        path: PathBuf,
    },
    /// The path's metadata cannot be read.
    #[error("{} cannot be read", path.display())]
    Path {
        /// What was given.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// What was stored before, and is told now or gone on with, cannot get the times that are asked for now.
    #[error("what was stored before does not get the times that are asked for now")]
    Times(#[from] LeaseChangeError),
    /// Nodes do not say whether they still hold what was stored before. It is not told as stored then.
    #[error("nodes do not say whether they still hold what was stored before; try again")]
    Unasked(#[source] LeaseChangeError),
    /// What is needed to go on with an upload cannot be had.
    #[error("the upload cannot be resumed")]
    Unfinished(#[from] UnfinishedError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Twin {
    /// Stores files and folders, as many at once as there is room for. Returns what became of each: one that fails
    /// stops no other. What a call before this one stored, and whose owner was not told, is not stored again.
    pub async fn put_all(&self, uploads: &[(PathBuf, PutOptions)], progress: &Arc<dyn Progress>) -> Several {
        // Nodes are asked for a policy once and not for each file.
        let policies: BTreeSet<_> = uploads.iter().map(|(_, options)| &options.tenure.policy).collect();
        let mut known = BTreeSet::new();
        for policy in policies {
            if self.know_policy(policy).await.is_ok() {
                known.insert(policy);
            }
        }
        let known = &known;
        let put = |at: usize| async move {
            let (path, options) = &uploads[at];
            if !known.contains(&options.tenure.policy) {
                self.know_policy(&options.tenure.policy).await?;
            }
            self.put_known(path, options, progress).await
        };
        let mut several = Several { results: Vec::with_capacity(uploads.len()), untold: Vec::new() };
        let mut puts = futures::stream::iter((0..uploads.len()).map(put)).buffered(FILES_AT_ONCE);
        while let Some(put) = puts.next().await {
            several.results.push(put.map(|(stored, untold)| {
                several.untold.extend(untold);
                stored
            }));
        }
        self.sweep_locks().await;
        several
    }

    /// Stores a file, or a folder with everything in it, for an owner who is told by the answer.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put(
        &self,
        path: &Path,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        self.know_policy(&options.tenure.policy).await?;
        let (stored, untold) = self.put_known(path, options, progress).await?;
        self.sweep_locks().await;
        Several { results: Vec::new(), untold: untold.into_iter().collect() }.told().await;
        Ok(stored)
    }

    /// Stores a file or folder under a policy that edges can ask. Returns where it is noted until the owner was told.
    async fn put_known(
        &self,
        path: &Path,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Stored, Option<Untold>), PutError> {
        self.check(options)?;
        let fault = |source| PutError::Path { path: path.to_owned(), source };
        let real = tokio::fs::canonicalize(path).await.map_err(fault)?;
        // To the end: nobody stores it a second time meanwhile.
        let lock = self.lock_source(real, options.fingerprint()).await?;
        let stored = match tokio::fs::metadata(path).await.map_err(fault)? {
            it if it.is_dir() => self.put_tree(path, options, progress, &lock).await?,
            it if it.is_file() => self.put_file(path, &it, options, progress, &lock).await?,
            _ => return Err(PutError::Kind { path: path.to_owned() }),
        };
        Ok((stored, lock.untold()))
    }

    /// Stores a file.
    async fn put_file(
        &self,
        path: &Path,
        metadata: &Metadata,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
        lock: &Arc<SourceLock>,
    ) -> Result<Stored, PutError> {
        let name = match &options.name {
            Some(name) => name.clone(),
            None => path
                .file_name()
                .unwrap_or_default()
                .to_str()
                .map(str::to_owned)
                .ok_or_else(|| TreeError::Top(TreeFault::Utf8 { path: path.to_owned() }))?,
        };
        check_name(&name)?;
        let _room = self.room_for(metadata.len()).await;
        let stamp = Stamp::of(metadata);
        progress.file(path, Some(metadata.len()));
        if let Some(stored) = self.untold(lock, (stamp, &name), options).await? {
            progress.read(metadata.len());
            progress.sent(metadata.len());
            return Ok(stored);
        }
        let item = |part, batch| Item {
            part,
            noting: Some(held::noting(lock, stamp)),
            ..Item::top(Source::File(path.to_owned()), path, name.clone(), options, batch)
        };
        if metadata.len() <= RESUMABLE_BYTES_MIN && options.resumption != Resumption::Only {
            return self.store_top(item(None, new_batch()?), options, progress).await;
        }
        let journal = self.open_journal(path, Some(stamp), options).await?;
        let batch = journal.head.batch;
        self.forget_gone(batch).await?;
        let part = self.part_of(&journal, "", stamp, options.resumption).await?;
        let mut stored = self.store_top(item(Some(part), batch), options, progress).await;
        if is_other(&stored, options) {
            let part = journal.part_anew("", stamp, now())?;
            stored = self.store_top(item(Some(part), batch), options, progress).await;
        }
        journal.close(&stored);
        stored
    }

    /// Returns what is known of a file of an upload, or begins it. One that was committed and is no longer in the
    /// index was removed since, and is begun anew: under its old secrets it would be what was erased. So is one of
    /// which nodes hold more than the journal knows.
    async fn part_of(
        &self,
        journal: &Arc<Journal>,
        inner: &str,
        stamp: Stamp,
        resumption: Resumption,
    ) -> Result<PartJournal, PutError> {
        let (part, batch, path) = (journal.part(inner, stamp, now())?, journal.head.batch, inner.to_owned());
        let is_it = move |entry: &Entry| entry.batch == batch && (path.is_empty() || entry.path == path);
        let is_gone =
            part.was_committed() && !self.with_index(move |index| index.entries().any(|(_, entry)| is_it(entry))).await;
        let is_behind = !is_gone && self.is_behind(&part).await;
        if is_behind && resumption == Resumption::Only {
            let path = if inner.is_empty() { journal.head.path.clone() } else { inner.into() };
            return Err(UnfinishedError::Behind { path }.into());
        }
        Ok(if is_gone || is_behind { journal.part_anew(inner, stamp, now())? } else { part })
    }

    /// Goes on with the journal of a path, or begins one.
    async fn open_journal(
        &self,
        path: &Path,
        stamp: Option<Stamp>,
        options: &PutOptions,
    ) -> Result<Arc<Journal>, PutError> {
        let fault = |source| PutError::Path { path: path.to_owned(), source };
        let path = tokio::fs::canonicalize(path).await.map_err(fault)?;
        let (asked, retention) = (options.asked(), options.tenure.retention);
        let head = Head { batch: new_batch()?, path, options: options.fingerprint(), retention, asked, begun: now() };
        Ok(self.journal(head, stamp, options.resumption).await?)
    }

    /// Refuses options that would make the upload fail at its end, before anything is read.
    fn check(&self, options: &PutOptions) -> Result<(), PutError> {
        check_bounds(options)?;
        if options.tenure.retention != Retention::default() {
            self.check_clock().map_err(RetentionError::from)?;
        }
        Ok(retention::check(options.tenure.retention, self.now())?)
    }

    async fn store_top(
        &self,
        item: Item,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        let (entry, receipt) = self.store(item, options, progress).await?;
        let (label, bytes) = (Label::open(entry.capability.clone()), entry.length);
        Ok(Stored { label, entry, receipt, objects: 1, bytes, skipped: Vec::new(), bad: Vec::new(), left_over: 0 })
    }
}

/// Whether a file turned out to be another than the one that was begun, and may be begun anew.
fn is_other<T>(stored: &Result<T, PutError>, options: &PutOptions) -> bool {
    let is_other = matches!(stored, Err(PutError::Encoding(EncodingError::Other { .. })));
    is_other && options.resumption == Resumption::Auto
}

/// Refuses a name that the format would refuse at the end, before anything is read, and one with a slash: `rm --all-of`
/// would take it for a file of the folder called so. Some file systems have longer names than the format.
fn check_name(name: &str) -> Result<(), PutError> {
    bounded("name", name.len(), NAME_BYTES_MAX)?;
    let is_wrong = |letter: char| letter == '/' || letter.is_control();
    if name.contains(is_wrong) { Err(PutError::Name { name: name.to_owned() }) } else { Ok(()) }
}

fn bounded(what: &'static str, found: usize, max: usize) -> Result<(), PutError> {
    if found > max { Err(PutError::Bounds { what, max }) } else { Ok(()) }
}

fn check_bounds(options: &PutOptions) -> Result<(), PutError> {
    if let Some(tag) = options.tags.keys().find(|tag| tag.contains(char::is_control)) {
        return Err(PutError::Tag { tag: tag.clone() });
    }
    check_name(options.name.as_deref().unwrap_or_default())?;
    bounded("number of tags", options.tags.len(), TAGS_MAX)?;
    bounded("tag", options.tags.keys().map(String::len).max().unwrap_or(0), TAG_NAME_BYTES_MAX)?;
    let places = options.tenure.wanted.len().max(options.tenure.refused.len());
    bounded("number of wanted places, and of refused ones,", places, LEASE_PLACES_MAX)?;
    let levels: BTreeSet<Level> = options.tenure.caps.iter().map(|cap| cap.level).collect();
    bounded("number of caps for one level", options.tenure.caps.len() + 1 - levels.len(), 1)
}

pub(crate) fn new_batch() -> Result<Batch, getrandom::Error> {
    random().map(Batch)
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
