//! Uploads that were begun and did not end. Each has a journal beside the owner's index: the secrets of its objects,
//! the sessions at nodes, the hash of each row that was sent. With these the same bytes become the same cells, and what
//! nodes hold already is not sent again.
//!
//! A file of at most [`RESUMABLE_BYTES_MIN`] has no part in a journal: it is sent again whole. Of a folder, the files
//! that are stored stay stored.

mod elsewhere;
mod frame;
mod journal;
mod source_lock;
mod stamp;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::Session;
use format::{Locator, OwnerId, OwnerSecret};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::timeout;

pub use self::elsewhere::{Elsewhere, LeftBehind};
use self::frame::Seals;
pub(crate) use self::{
    journal::{Head, Journal, PartJournal, Withheld, folder_key},
    source_lock::{SourceLock, Untold},
    stamp::Stamp,
};
use crate::{
    durable,
    index::{Batch, Entry, Index, IndexError, Position, State},
    twin::Twin,
};

/// A file of more bytes than this goes on where it was. To send a smaller one again costs less than the two fsyncs of a
/// journal.
pub(crate) const RESUMABLE_BYTES_MIN: u64 = 4 << 20;

/// Journals that nobody works on, at most: with one more, the one goes that was not used for longest. Their age does
/// not count, because a clock that was ahead for a moment would end them all.
const JOURNALS_MAX: usize = 256;

/// How long a node has to say what it holds of an upload that goes on.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// An upload that did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its batch, which names it.
    pub batch: Batch,
    /// What is stored, without links; none when its journal does not read, and it can only be ended.
    pub path: Option<PathBuf>,
    /// When it was begun, seconds since 1970.
    pub begun: u64,
    /// How many of its files are stored.
    pub files_stored: usize,
    /// How many sessions are open at nodes for the others.
    pub sessions: usize,
}

/// What became of an upload that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Sessions that nodes ended. The others end by themselves.
    pub sessions: usize,
    /// Objects of it in the index, stored or not known to be: whoever wants them gone removes them.
    pub objects: Vec<Locator>,
}

/// Why an unfinished upload cannot be looked at or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum UnfinishedError {
    /// The disk returns an error.
    #[error("the journal of an upload at {} cannot be read or written", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file was changed, or is another owner's.
    #[error("the journal of an upload at {} is damaged; the upload cannot go on, end it and begin anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// No unfinished upload of this path is known.
    #[error("no unfinished upload of {} is known here, so there is none to resume; store it without --resume", path.display())]
    Absent {
        /// What was to be stored.
        path: PathBuf,
    },
    /// The upload was begun with other options.
    #[error(
        "the unfinished upload of {} was begun with other options; give the same ones, or store it without --resume",
        path.display()
    )]
    Options {
        /// What was to be stored.
        path: PathBuf,
    },
    /// Nodes have what the journal does not say that it was sent.
    #[error(
        "nodes hold more of {} than its journal knows: this disk was set back to an earlier state, and what was sent since then may \
         have been other bytes under the same key; store it without --resume",
        path.display()
    )]
    Behind {
        /// What was to be stored.
        path: PathBuf,
    },
    /// The file is another than the one that was begun.
    #[error(
        "{} changed since its upload was begun, so what nodes hold of it is of no use; store it without --resume",
        path.display()
    )]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// Another program works on it.
    #[error(
        "another program is storing {} just now, or removes what is stored of it; wait for it, or end it",
        path.display()
    )]
    Busy {
        /// What is stored, or the journal.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl UnfinishedError {
    /// Returns whether the journal is not there: its upload ended.
    fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Whether an upload goes on where an earlier one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resumption {
    /// If there is one of the same path with the same options, of a file that did not change. Else it begins anew.
    #[default]
    Auto,
    /// There must be one.
    Only,
}

/// The journals of one owner.
#[derive(Clone)]
pub(crate) struct Journals {
    folder: PathBuf,
    index_key: zeroize::Zeroizing<[u8; 32]>,
    owner: OwnerId,
}

impl Journals {
    /// Those beside an index.
    pub(crate) fn beside(index: &Path, index_key: zeroize::Zeroizing<[u8; 32]>, owner: OwnerId) -> Self {
        Self { folder: index.with_file_name("unfinished"), index_key, owner }
    }

    /// Goes on with the journal of a path, or begins one. `stamp` is the file's, for a path that is one file. Blocks.
    pub(crate) fn of(
        &self,
        begun: Head,
        stamp: Option<Stamp>,
        resumption: Resumption,
    ) -> Result<Journal, UnfinishedError> {
        let must = resumption == Resumption::Only;
        let path = || begun.path.clone();
        let (mut is_busy, mut has_others) = (false, false);
        for batch in self.batches()? {
            // Of names that are not UTF-8 a journal keeps what can be shown of them; the stamp tells them apart.
            let is_it = |head: &Head| head.path.as_os_str() == &*begun.path.to_string_lossy();
            let opened = match self.look(batch) {
                Ok(journal) if !is_it(&journal.head) => continue,
                // Whoever has it may end it, or go on: to begin another would store the same twice.
                Ok(journal) => self.open(batch).inspect(|opened| {
                    is_busy |= opened.is_none() && journal.head.options == begun.options;
                }),
                Err(error) => Err(error),
            };
            let journal = match opened {
                Ok(Some(journal)) => journal,
                Ok(None) => continue,
                Err(error) if error.is_absent() => continue,
                Err(error) => {
                    tracing::warn!(%error, "an unfinished upload is passed over");
                    continue;
                }
            };
            let is_changed = stamp.is_some_and(|stamp| journal.is_changed("", stamp));
            match (journal.head.options == begun.options, is_changed) {
                (true, false) => {
                    // A program that was killed may have written what it did not sync.
                    journal.sync()?;
                    return Ok(journal);
                }
                (true, true) if must => return Err(UnfinishedError::Changed { path: path() }),
                // Nobody can go on with it. Nodes end its sessions by themselves.
                (true, true) => journal.end(),
                (false, _) => has_others = true,
            }
        }
        match must {
            _ if is_busy => Err(UnfinishedError::Busy { path: path() }),
            true if has_others => Err(UnfinishedError::Options { path: path() }),
            true => Err(UnfinishedError::Absent { path: path() }),
            false => self.create(begun),
        }
    }

    /// Begins a journal. Blocks.
    fn create(&self, begun: Head) -> Result<Journal, UnfinishedError> {
        self.make_room(JOURNALS_MAX - 1)?;
        Journal::create(&self.folder, self.seals(begun.batch), begun)
    }

    /// Ends the journals that were not used for longest, until so many are left or programs work on the others. What of
    /// their uploads is stored stays in the index, as what did not end.
    fn make_room(&self, left_max: usize) -> Result<(), UnfinishedError> {
        let batches = self.batches()?;
        let over = batches.len().saturating_sub(left_max);
        if over == 0 {
            return Ok(());
        }
        let used = |batch: Batch| Some((Journal::used(&self.folder, batch)?, batch));
        let busy = self.busy()?;
        let mut idle: Vec<_> = batches.into_iter().filter(|it| !busy.contains(it)).filter_map(used).collect();
        idle.sort_unstable();
        idle.into_iter().take(over).for_each(|(_, batch)| self.end_of(batch));
        Ok(())
    }

    /// Locks what a `put` with these options reads, until the answer is dropped. Blocks for a second at most.
    pub(crate) fn lock_source(&self, path: PathBuf, options: &[u8; 32]) -> Result<SourceLock, UnfinishedError> {
        let mut hasher = blake3::Hasher::new_keyed(&self.index_key);
        hasher.update(b"evernear 2026 v1 lock of a source").update(options).update(path.as_os_str().as_encoded_bytes());
        let name = data_encoding::HEXLOWER.encode(hasher.finalize().as_bytes());
        SourceLock::take(&self.folder, &name, self.index_key.clone())?.ok_or(UnfinishedError::Busy { path })
    }

    /// Removes the locks that killed programs left. Blocks.
    fn sweep(&self) {
        if let Err(error) = source_lock::sweep(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "the locks that killed programs left stay");
        }
    }

    /// Opens a journal to go on with it or to end it; none when another program works on it.
    fn open(&self, batch: Batch) -> Result<Option<Journal>, UnfinishedError> {
        Journal::open(&self.folder, self.seals(batch), batch)
    }

    /// Reads a journal, whoever works on it.
    fn look(&self, batch: Batch) -> Result<Journal, UnfinishedError> {
        Journal::look(&self.folder, self.seals(batch), batch)
    }

    /// Lists the uploads that did not end and that no program works on. Blocks.
    fn list(&self) -> Result<Vec<Unfinished>, UnfinishedError> {
        let (mut found, busy) = (Vec::new(), self.busy()?);
        for batch in self.batches()?.into_iter().filter(|batch| !busy.contains(batch)) {
            match self.look(batch) {
                Ok(journal) => {
                    let ((files_stored, sessions), Head { path, begun, .. }) = (journal.rest(), journal.head.clone());
                    let (path, begun, sessions) = (Some(path), begun, sessions.len());
                    found.push(Unfinished { batch, path, begun, files_stored, sessions });
                }
                Err(error) if error.is_absent() => {}
                // It may be ended, and hides no other.
                Err(error) => {
                    tracing::warn!(%error, "an unfinished upload does not read");
                    found.push(Unfinished { batch, path: None, begun: 0, files_stored: 0, sessions: 0 });
                }
            }
        }
        Ok(found)
    }

    /// Ends a journal that nobody goes on with, unless a program does. Blocks.
    fn end_of(&self, batch: Batch) {
        match self.open(batch) {
            Ok(Some(journal)) => journal.end(),
            Ok(None) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => tracing::warn!(%error, "the journal of an upload that nobody goes on with stays"),
        }
    }

    /// Opens the journals of those of these uploads that have one, so that no other program goes on with them; none for
    /// one that a program works on. Blocks.
    pub(crate) fn hold(&self, batches: &BTreeSet<Batch>) -> Result<BTreeMap<Batch, Option<Journal>>, UnfinishedError> {
        let mut held = BTreeMap::new();
        for batch in self.batches()?.into_iter().filter(|batch| batches.contains(batch)) {
            match self.open(batch) {
                Ok(journal) => drop(held.insert(batch, journal)),
                Err(error) if error.is_absent() => {}
                Err(error) => tracing::warn!(%error, "the journal of an upload does not read and stays"),
            }
        }
        Ok(held)
    }

    /// Returns the uploads that a program works on. Blocks.
    pub(crate) fn busy(&self) -> Result<BTreeSet<Batch>, UnfinishedError> {
        let is_busy = |batch: &Batch| Journal::is_busy(&self.folder, *batch);
        Ok(self.batches()?.into_iter().filter(is_busy).collect())
    }

    fn seals(&self, batch: Batch) -> Seals {
        Seals::new(&self.index_key, &self.owner, batch)
    }

    fn batches(&self) -> Result<Vec<Batch>, UnfinishedError> {
        let io = |source| UnfinishedError::Io { path: self.folder.clone(), source };
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut batches = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let bytes = data_encoding::HEXLOWER.decode(name.as_encoded_bytes()).ok();
            batches.extend(bytes.and_then(|bytes| bytes.try_into().ok()).map(Batch));
        }
        batches.sort_unstable();
        Ok(batches)
    }
}

/// Lists the uploads of the owner of an index that did not end and that no program works on. Blocks.
///
/// # Errors
/// [`UnfinishedError::Io`].
pub fn resumable(index: &Index, secret: &OwnerSecret) -> Result<Vec<Unfinished>, UnfinishedError> {
    Journals::beside(index.path(), secret.index_key(), secret.keys().id()).list()
}

impl Twin {
    /// Lists the uploads that did not end and that no program works on.
    ///
    /// # Errors
    /// [`UnfinishedError::Io`].
    pub async fn resumable(&self) -> Result<Vec<Unfinished>, UnfinishedError> {
        let journals = self.journals.clone();
        blocking(move || journals.list()).await
    }

    /// Ends an upload that did not end: nodes drop what they hold of it and was never committed, and nobody can resume
    /// it. What of it is in the index stays, and is told.
    ///
    /// # Errors
    /// [`UnfinishedError::Busy`] when another program works on it, [`UnfinishedError::Io`] when there is none.
    pub async fn end_resumable(&self, batch: Batch) -> Result<Ended, UnfinishedError> {
        let journals = self.journals.clone();
        let sessions = blocking(move || match journals.open(batch) {
            Ok(Some(journal)) => {
                let (_, sessions) = journal.rest();
                journal.end();
                Ok(sessions)
            }
            Ok(None) => Err(UnfinishedError::Busy { path: journals.folder.clone() }),
            Err(UnfinishedError::Damaged { path }) => {
                durable::remove(&path).map_err(|source| UnfinishedError::Io { path, source })?;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        })
        .await?;
        let transport = &self.network.transport;
        let end = |Session { node, upload }: Session| async move { transport.abort(&node, &upload).await.is_ok() };
        let ended: FuturesUnordered<_> = sessions.into_iter().map(end).collect();
        let sessions = ended.filter(|ended| std::future::ready(*ended)).count().await;
        // Without a journal it would look like another machine's.
        if let Err(error) = self.leave(batch, BTreeSet::new()).await {
            tracing::warn!(%error, "what is stored of an upload that was ended is not marked as left over");
        }
        let objects = self.with_index(move |index| {
            let of_it = index.entries().filter(|(_, entry)| entry.batch == batch);
            of_it.map(|(locator, _)| *locator).collect()
        });
        let objects = objects.await;
        Ok(Ended { sessions, objects })
    }

    /// Returns whether a node holds more of a file than its journal knows. Then the journal is older than what was
    /// sent, as after a backup or a snapshot of this disk was put back, and does not say what was sealed under its
    /// secrets. One node is enough to say so, although it may lie: it makes the rest of this upload be sent anew, which
    /// costs bytes. To go on where it spoke the truth would seal two plaintexts under one key and nonce.
    pub(crate) async fn is_behind(&self, part: &PartJournal) -> bool {
        let (stripes, transport) = (part.stripes(), &self.network.transport);
        let asks = part.earlier().sessions.into_iter().flatten().map(|Session { node, upload }| async move {
            // What a node that does not answer holds is in the journal all the same: this is the second of two locks.
            timeout(ANSWER_WAIT, transport.upload_cells(&node, &upload))
                .await
                .is_ok_and(|it| it.is_ok_and(|it| it > stripes))
        });
        join_all(asks).await.contains(&true)
    }

    /// Marks what an upload has stored as left over, except this. `ls --unfinished` lists it and `rm --unfinished` ends
    /// it, beside a folder that was stored without it too. An upload that came to its end leaves nothing. Returns how
    /// many objects are left over.
    pub(crate) async fn leave(&self, batch: Batch, kept: BTreeSet<Locator>) -> Result<usize, IndexError> {
        self.with_index(move |index| {
            let of_it = index.entries().filter(|(at, entry)| entry.batch == batch && !kept.contains(at));
            let left: Vec<Entry> = of_it.map(|(_, entry)| entry.clone()).collect();
            if left.iter().any(|entry| entry.position == Position::Top && entry.state == State::Stored) {
                return Ok(0);
            }
            let stored = left.iter().filter(|entry| entry.state == State::Stored);
            let changes: Vec<_> = stored.map(|entry| Entry { state: State::Committing, ..entry.clone() }).collect();
            if changes.is_empty() { Ok(()) } else { index.record_all(changes) }.map(|()| left.len())
        })
        .await
    }

    /// Ends the journal of an upload that came to its end, if it has one.
    pub(crate) async fn end_journal(&self, batch: Batch) {
        let journals = self.journals.clone();
        let ended = tokio::task::spawn_blocking(move || journals.end_of(batch)).await;
        ended.expect("the end of a journal neither panics nor is cancelled");
    }

    /// Locks what a `put` reads ([`Journals::lock_source`]).
    pub(crate) async fn lock_source(
        &self,
        path: PathBuf,
        options: [u8; 32],
    ) -> Result<Arc<SourceLock>, UnfinishedError> {
        let journals = self.journals.clone();
        blocking(move || journals.lock_source(path, &options).map(Arc::new)).await
    }

    /// Removes the locks that killed programs left.
    pub(crate) async fn sweep_locks(&self) {
        let journals = self.journals.clone();
        let swept = tokio::task::spawn_blocking(move || journals.sweep()).await;
        swept.expect("a sweep neither panics nor is cancelled");
    }

    /// Goes on with the journal of a path, or begins one.
    pub(crate) async fn journal(
        &self,
        head: Head,
        stamp: Option<Stamp>,
        resumption: Resumption,
    ) -> Result<Arc<Journal>, UnfinishedError> {
        let journals = self.journals.clone();
        blocking(move || journals.of(head, stamp, resumption).map(Arc::new)).await
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, UnfinishedError> + Send + 'static,
) -> Result<T, UnfinishedError> {
    tokio::task::spawn_blocking(act).await.expect("a look at the journals neither panics nor is cancelled")
}
