//! Storing: a file, a stream or a whole folder becomes objects on nodes, and the index records their names.
//!
//! ```text
//! source -> encoding thread -> channel of one stripe -> client::Uploader      (a file that reaches its end)
//!        -> index: "committing" -> lease signed -> commit -> index: "stored"
//! ```
//!
//! The name is in the index before nodes are asked to commit, so an upload that a crash interrupts can be listed and
//! removed. What is longer than a few MiB has a journal (`unfinished.rs`): the same call goes on where it was, and an
//! attempt that lost too many nodes is followed by another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use client::{Receipt, UploadError};
use format::{
    Compression, Directory, DirectoryError, Entry as DirectoryEntry, Kind, Label, Level, NodeName, Retention, Suite,
    limits::{LEASE_PLACES_MAX, NAME_BYTES_MAX, TAG_NAME_BYTES_MAX, TAGS_MAX},
};
use futures::StreamExt;
use tokio::task::spawn_blocking;

use crate::{
    index::{Batch, Entry, IndexError, Position, State, Tenure},
    leases::{LeaseChangeError, Renewal, Sooner},
    media::MediaType,
    policy_name::PolicyNameError,
    progress::Progress,
    retention::{self, RetentionError},
    tree::{Node, NodeKind, Tree, TreeError, TreeFault},
    twin::{Twin, now},
    unfinished::{Head, Journal, PartJournal, RESUMABLE_BYTES_MIN, Resumption, Stamp, UnfinishedError},
};

mod encoding;
mod object;

use encoding::Source;
pub use encoding::{Changes, Deduplication, EncodingError};
use object::Item;

/// Media type of a directory object. Edges never send it: they send a list of the names.
const DIRECTORY_MIME: &str = "inode/directory";
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
    /// What is stored of a folder that goes on cannot get the times that are asked for now.
    #[error("what is stored of the folder does not get its times")]
    Times(#[from] LeaseChangeError),
    /// What is needed to go on with an upload cannot be had.
    #[error("the upload cannot be resumed")]
    Unfinished(#[from] UnfinishedError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Twin {
    /// Stores several files and folders, as many at once as there is room for. Returns what became of each, in their
    /// order: one that fails stops no other.
    pub async fn put_all(
        &self,
        uploads: &[(PathBuf, PutOptions)],
        progress: &Arc<dyn Progress>,
    ) -> Vec<Result<Stored, PutError>> {
        // Nodes are asked for a policy once and not for each file.
        let policies: BTreeSet<_> = uploads.iter().map(|(_, options)| &options.tenure.policy).collect();
        let mut known = BTreeSet::new();
        for policy in policies {
            if self.know_policy(policy).await.is_ok() {
                known.insert(policy);
            }
        }
        let known = &known;
        let puts = uploads.iter().map(|(path, options)| async move {
            if known.contains(&options.tenure.policy) {
                self.put_known(path, options, progress).await
            } else {
                self.put(path, options, progress).await
            }
        });
        futures::stream::iter(puts).buffered(FILES_AT_ONCE).collect().await
    }

    /// Stores a file, or a folder with everything in it.
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
        self.put_known(path, options, progress).await
    }

    /// Stores a file or folder under a policy that edges can ask.
    async fn put_known(
        &self,
        path: &Path,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        let fault = |source| PutError::Path { path: path.to_owned(), source };
        let metadata = tokio::fs::metadata(path).await.map_err(fault)?;
        if metadata.is_dir() {
            return self.put_tree(path, options, progress).await;
        }
        if !metadata.is_file() {
            return Err(PutError::Kind { path: path.to_owned() });
        }
        let name = match &options.name {
            Some(name) => name.clone(),
            None => path
                .file_name()
                .unwrap_or_default()
                .to_str()
                .map(str::to_owned)
                .ok_or_else(|| TreeError::Top(TreeFault::Utf8 { path: path.to_owned() }))?,
        };
        check(options)?;
        check_name(&name)?;
        let _room = self.room_for(metadata.len()).await;
        let stamp = Stamp::of(&metadata);
        progress.file(path, Some(metadata.len()));
        let item =
            |part, batch| Item { part, ..Item::top(Source::File(path.to_owned()), path, name.clone(), options, batch) };
        if metadata.len() <= RESUMABLE_BYTES_MIN && options.resumption != Resumption::Only {
            return self.store_top(item(None, new_batch()?), options, progress).await;
        }
        let journal = self.open_journal(path, Some(stamp), options).await?;
        let batch = journal.head.batch;
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

    /// Stores the bytes of a stream. Its only name is the one in the options, and it cannot be de-duplicated.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put_stream(
        &self,
        stream: Box<dyn std::io::Read + Send>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        self.know_policy(&options.tenure.policy).await?;
        let path = Path::new("standard input");
        check(options)?;
        check_name(options.name.as_deref().unwrap_or_default())?;
        if options.resumption == Resumption::Only {
            return Err(UnfinishedError::Absent { path: path.to_owned() }.into());
        }
        progress.file(path, None);
        let name = options.name.clone().unwrap_or_default();
        let item = Item::top(Source::Stream(stream), path, name, options, new_batch()?);
        self.store_top(item, options, progress).await
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

    async fn store_top(
        &self,
        item: Item,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        let (entry, receipt) = self.store(item, options, progress).await?;
        let (label, bytes) = (Label::open(entry.capability.clone()), entry.length);
        Ok(Stored { label, entry, receipt, objects: 1, bytes, skipped: Vec::new(), bad: Vec::new() })
    }

    /// Stores all files of a folder, several concurrently, then its directories from the leaves to the top.
    async fn put_tree(
        &self,
        path: &Path,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        if options.mime.is_some() {
            return Err(PutError::FolderType { path: path.to_owned() });
        }
        check(options)?;
        let (top, name) = (path.to_owned(), options.name.clone());
        let state = self.with_index(|index| index.path().parent().map(Path::to_owned)).await;
        let walked = spawn_blocking(move || Tree::walk(&top, name.as_deref(), state.as_deref())).await;
        let tree = walked.expect("a walk neither panics nor is cancelled")?;
        let tree = if options.bad == Bad::LeftOut { tree } else { tree.whole()? };
        check_name(&tree.nodes[0].name)?;
        let mut journal = self.open_journal(path, None, options).await?;
        let mut retention = match journal.head.asked == options.asked() && !journal.head.retention.has_ended(now()) {
            true => journal.head.retention,
            false => options.tenure.retention,
        };
        if !self.prolongs(&journal, retention).await? {
            journal.end();
            (journal, retention) = (self.open_journal(path, None, options).await?, options.tenure.retention);
        }
        let options = &PutOptions { tenure: Tenure { retention, ..options.tenure.clone() }, ..options.clone() };
        let stored = self.put_nodes_of(tree, &journal, options, progress).await;
        journal.close(&stored);
        stored
    }

    /// Gives the files of a folder that are stored already the times that the others get. Returns whether they have
    /// them: what expired or was erased meanwhile has not, and neither has what was promised to be kept for longer.
    async fn prolongs(&self, journal: &Journal, asked: Retention) -> Result<bool, PutError> {
        let (stored, now) = (journal.all_stored(), now());
        let is_right = move |entry: &Entry| entry.tenure.retention == asked && !asked.has_ended(now);
        let (stored, others) = self
            .with_index(move |index| {
                let others = stored.iter().filter_map(|locator| index.entry(locator)).any(|entry| !is_right(entry));
                (stored, others)
            })
            .await;
        if !others {
            return Ok(true);
        }
        let keep_until = (asked.keep_until != 0).then_some(asked.keep_until);
        let renewal =
            Renewal { keep_until, expires: Some(asked.expires), sooner: Sooner::Allowed, ..Renewal::default() };
        let quiet: Arc<dyn Progress> = Arc::new(());
        let failed = match self.renew_all(&stored, &renewal, &quiet).await {
            Ok((_, failed)) => failed.into_values().next(),
            Err(error) => Some(error),
        };
        match failed {
            None => Ok(true),
            Some(error) if error.is_passing() => Err(error.into()),
            Some(error) => {
                tracing::warn!(%error, "what is stored of the folder does not get the times asked for; it is stored anew");
                Ok(false)
            }
        }
    }

    async fn put_nodes_of(
        &self,
        tree: Tree,
        journal: &Arc<Journal>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, PutError> {
        let Tree { nodes, skipped, bad } = tree;
        let mut bad: Vec<_> = bad.iter().map(LeftOut::of_fault).collect();
        let batch = journal.head.batch;
        let mut directories: HashMap<usize, Directory> = HashMap::new();
        let (mut bytes, mut objects) = (0, 0);
        let file = |(at, node): (usize, &Node)| match node.kind {
            NodeKind::File { length } => Some((at, length)),
            NodeKind::Folder => None,
        };
        let files: Vec<(usize, u64)> = nodes.iter().enumerate().filter_map(file).collect();
        let nodes = &nodes;
        let put_file = |(at, length): (usize, u64)| async move {
            let node = &nodes[at];
            let _room = self.room_for(length).await;
            progress.file(&node.path, Some(length));
            (at, self.put_file_of(node, journal, options, progress).await)
        };
        let mut stored = futures::stream::iter(files.into_iter().map(put_file)).buffer_unordered(FILES_AT_ONCE);
        while let Some((at, stored)) = stored.next().await {
            match stored {
                Err(PutError::Encoding(error)) if options.bad == Bad::LeftOut && error.is_of_file() => {
                    bad.push(LeftOut::of(&nodes[at].path, &error));
                }
                stored => {
                    let entry = stored?;
                    bytes += entry.length;
                    objects += 1;
                    insert(&mut directories, nodes, at, &entry)?;
                }
            }
        }
        drop(stored);
        for at in (0..nodes.len()).rev().filter(|at| nodes[*at].kind == NodeKind::Folder) {
            let directory = directories.remove(&at).unwrap_or_default();
            let (entry, receipt) = self.put_folder_of(&nodes[at], &directory, batch, options, progress).await?;
            objects += 1;
            if at == 0 {
                let label = Label::open(entry.capability.clone());
                return Ok(Stored { label, entry, receipt, objects, bytes, skipped, bad });
            }
            insert(&mut directories, nodes, at, &entry)?;
        }
        unreachable!("the first node of a tree is its top folder, and the loop ends with it")
    }

    /// Stores a file of a folder, unless the journal says that it is stored and has not changed since.
    async fn put_file_of(
        &self,
        node: &Node,
        journal: &Arc<Journal>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Entry, PutError> {
        let fault = |source| EncodingError::Read { path: node.path.clone(), source };
        let metadata = tokio::fs::symlink_metadata(&node.path).await.map_err(fault)?;
        let (stamp, length) = (Stamp::of(&metadata), metadata.len());
        if let Some(locator) = journal.stored(&node.inner, stamp)
            && let Some(entry) = self.with_index(move |index| index.entry(&locator).cloned()).await
            && entry.state == State::Stored
        {
            progress.read(length);
            progress.sent(length);
            return Ok(entry);
        }
        let part = match length > RESUMABLE_BYTES_MIN {
            true => Some(self.part_of(journal, &node.inner, stamp, options.resumption).await?),
            false => None,
        };
        let item = |part| Item {
            source: Source::Inner(node.path.clone()),
            part,
            path: node.path.clone(),
            name: node.name.clone(),
            inner: node.inner.clone(),
            mime: None,
            kind: Kind::File,
            batch: journal.head.batch,
            position: Position::Inner,
        };
        let mut stored = self.store(item(part), options, progress).await;
        if is_other(&stored, options) {
            let part = journal.part_anew(&node.inner, stamp, now())?;
            stored = self.store(item(Some(part)), options, progress).await;
        }
        let (entry, _) = stored?;
        journal.done(&node.inner, stamp, entry.capability.locator());
        Ok(entry)
    }

    async fn put_folder_of(
        &self,
        node: &Node,
        directory: &Directory,
        batch: Batch,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Entry, Receipt), PutError> {
        let item = Item {
            source: Source::Stream(Box::new(Cursor::new(directory.encode()))),
            part: None,
            path: node.path.clone(),
            inner: node.inner.clone(),
            name: node.name.clone(),
            mime: Some(DIRECTORY_MIME.to_owned()),
            kind: Kind::Directory,
            batch,
            position: if node.parent.is_none() { Position::Top } else { Position::Inner },
        };
        // A directory's body holds capabilities, so it is never de-duplicated, even when files are.
        let options = PutOptions { deduplication: Deduplication::Off, ..options.clone() };
        let quiet: Arc<dyn Progress> = Arc::new(());
        let (entry, receipt) = self.store(item, &options, &quiet).await?;
        progress.durable(&node.path, receipt.durable);
        Ok((entry, receipt))
    }
}

impl LeftOut {
    fn of(path: &Path, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
        Self { path: path.to_owned(), reason: causes.collect::<Vec<_>>().join(": ") }
    }

    fn of_fault(fault: &TreeFault) -> Self {
        Self { path: fault.path(), reason: fault.to_string() }
    }
}

/// Whether a file turned out to be another than the one that was begun, and may be begun anew.
fn is_other<T>(stored: &Result<T, PutError>, options: &PutOptions) -> bool {
    let is_other = matches!(stored, Err(PutError::Encoding(EncodingError::Other { .. })));
    is_other && options.resumption == Resumption::Auto
}

/// Adds a stored object to the directory of its folder.
fn insert(
    directories: &mut HashMap<usize, Directory>,
    nodes: &[Node],
    at: usize,
    entry: &Entry,
) -> Result<(), PutError> {
    let node = &nodes[at];
    let parent = node.parent.expect("all but the top have a folder, and the top is not inserted");
    let named = DirectoryEntry {
        capability: entry.capability.clone(),
        length: entry.length,
        mime: entry.mime.clone(),
        kind: entry.kind,
        unknown: vec![],
    };
    let inserted = directories.entry(parent).or_default().insert(&node.name, named);
    inserted.map_err(|source| PutError::Directory { path: nodes[parent].path.clone(), source })
}

/// Refuses a name that the format would refuse at the end, before anything is read, and one with a slash: `rm --all-of`
/// would take it for a file of the folder called so.
fn check_name(name: &str) -> Result<(), PutError> {
    let is_wrong = |letter: char| letter == '/' || letter.is_control();
    if name.contains(is_wrong) { Err(PutError::Name { name: name.to_owned() }) } else { Ok(()) }
}

/// Refuses options that would make the upload fail at its end, before anything is read.
fn check(options: &PutOptions) -> Result<(), PutError> {
    check_bounds(options)?;
    Ok(retention::check(options.tenure.retention, now())?)
}

fn check_bounds(options: &PutOptions) -> Result<(), PutError> {
    let bounded = |what, found: usize, max| if found > max { Err(PutError::Bounds { what, max }) } else { Ok(()) };
    bounded("name", options.name.as_ref().map_or(0, String::len), NAME_BYTES_MAX)?;
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
