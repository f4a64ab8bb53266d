//! The journal of one `put`: what must be known to go on with it, written before it is needed.
//!
//! Keeps true: no row leaves under a data key before it is in the journal, and none leaves that is another than the
//! journal says. So two plaintexts are never sealed under one key and nonce for somebody else to see, whatever became
//! of the file in between. Secrets are synced, rows are not: after a power cut of the owner's machine the last rows may
//! be missing, and of these only the file's length, time and place tell that it is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use client::{Earlier, Session};
use format::{Encoder, EncoderOptions, Locator, RowHash, hazmat};

use super::{
    UnfinishedError,
    frame::{Frame, HEAD_BYTES, Seals, Secrets, TORN_BYTES_MAX},
    stamp::Stamp,
};
use crate::{durable, index::Batch};

/// Largest journal that is read: some 100 bytes for each stripe of the longest object, and as many for each of a
/// million files.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// What began a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) batch: Batch,
    /// The path that is stored, without links.
    pub(crate) path: PathBuf,
    /// The hash of the options.
    pub(crate) options: [u8; 32],
    /// Seconds since 1970.
    pub(crate) begun: u64,
}

/// The journal of one `put`, open and locked.
pub(crate) struct Journal {
    pub(crate) head: Head,
    path: PathBuf,
    seals: Seals,
    log: Mutex<Log>,
}

struct Log {
    /// None once it could not be written: then nobody goes on with this upload, which itself goes on.
    file: Option<File>,
    frames: u64,
    parts: Vec<Part>,
    done: BTreeMap<String, (Stamp, Locator)>,
}

/// A file that is being stored.
struct Part {
    inner: String,
    stamp: Stamp,
    secrets: Secrets,
    created: u64,
    sessions: BTreeMap<usize, Session>,
    rows: Vec<RowHash>,
    public: Option<Bytes>,
}

/// One file of a journal.
#[derive(Clone)]
pub(crate) struct PartJournal {
    journal: Arc<Journal>,
    at: usize,
    secrets: Secrets,
    /// When the object was created, seconds since 1970.
    pub(crate) created: u64,
}

/// A stripe is another than the one that was sent under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherRow;

impl Journal {
    /// Begins a journal in a folder, and locks it. Blocks for two disk writes.
    pub(super) fn create(folder: &Path, seals: Seals, head: Head) -> Result<Self, UnfinishedError> {
        let path = file_of(folder, head.batch);
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        durable::private_folder(folder).map_err(io)?;
        let mut file =
            durable::open_private(OpenOptions::new().read(true).append(true).create_new(true), &path).map_err(io)?;
        file.try_lock().map_err(|error| io(error.into()))?;
        let (name, options) = (head.path.to_string_lossy().into_owned(), head.options);
        let begun = Frame::Begun { path: name, options, time: head.begun };
        let first = [&seals.head()[..], &seals.seal(0, &begun)?].concat();
        file.write_all(&first).and_then(|()| file.sync_data()).map_err(|source| {
            // Half a journal would be taken for a damaged one.
            let _ = std::fs::remove_file(&path);
            io(source)
        })?;
        durable::sync_folder(&path).map_err(io)?;
        let log = Log { file: Some(file), frames: 1, parts: Vec::new(), done: BTreeMap::new() };
        Ok(Self { head, path, seals, log: Mutex::new(log) })
    }

    /// Opens a journal; none when another program has it. A last frame that was cut short is cut off.
    pub(super) fn open(folder: &Path, seals: Seals, batch: Batch) -> Result<Option<Self>, UnfinishedError> {
        let path = file_of(folder, batch);
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(io)?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        (&file).take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
        let damaged = || UnfinishedError::Damaged { path: path.clone() };
        if bytes.get(..HEAD_BYTES) != Some(seals.head()) {
            return Err(damaged());
        }
        let (first, length) = seals.open(0, &bytes[HEAD_BYTES..]).ok_or_else(damaged)?;
        let Frame::Begun { path: stored, options, time } = first else { return Err(damaged()) };
        let head = Head { batch, path: stored.into(), options, begun: time };
        let mut log = Log { file: None, frames: 1, parts: Vec::new(), done: BTreeMap::new() };
        let mut at = HEAD_BYTES + length;
        while at < bytes.len() {
            let Some((frame, length)) = seals.open(log.frames, &bytes[at..]) else { break };
            log.take(frame).ok_or_else(damaged)?;
            at += length;
        }
        if bytes.len() - at > TORN_BYTES_MAX {
            return Err(damaged());
        }
        file.set_len(at as u64).map_err(io)?;
        log.file = Some(file);
        Ok(Some(Self { head, path, seals, log: Mutex::new(log) }))
    }

    /// Returns what is known of a file that did not change since, or begins it.
    pub(crate) fn part(
        self: &Arc<Self>,
        inner: &str,
        stamp: Stamp,
        created: u64,
    ) -> Result<PartJournal, getrandom::Error> {
        let log = self.log();
        let known = log.parts.iter().rposition(|part| part.inner == inner && part.stamp == stamp);
        let Some(at) = known else {
            drop(log);
            return self.part_anew(inner, stamp, created);
        };
        let Part { secrets, created, .. } = &log.parts[at];
        Ok(PartJournal { journal: self.clone(), at, secrets: secrets.clone(), created: *created })
    }

    /// Begins a file anew, under other secrets: what was sent of it before is of no use.
    pub(crate) fn part_anew(
        self: &Arc<Self>,
        inner: &str,
        stamp: Stamp,
        created: u64,
    ) -> Result<PartJournal, getrandom::Error> {
        let (secrets, mut log) = (Secrets::draw()?, self.log());
        let frame = Frame::Part { inner: inner.to_owned(), stamp, secrets: secrets.clone(), created };
        self.write(&mut log, frame);
        self.sync(&mut log);
        let at = log.parts.len() - 1;
        Ok(PartJournal { journal: self.clone(), at, secrets, created })
    }

    /// Returns whether a file of this name was begun or stored, and is another now.
    pub(crate) fn is_changed(&self, inner: &str, stamp: Stamp) -> bool {
        let log = self.log();
        let parts = log.parts.iter().filter(|part| part.inner == inner).map(|part| part.stamp);
        let mut known = parts.chain(log.done.get(inner).map(|(stamp, _)| *stamp)).peekable();
        known.peek().is_some() && known.all(|held| held != stamp)
    }

    /// Returns one of the files that are stored.
    pub(crate) fn any_stored(&self) -> Option<Locator> {
        self.log().done.values().next().map(|(_, locator)| *locator)
    }

    /// Returns the object of a file that is stored and did not change since.
    pub(crate) fn stored(&self, inner: &str, stamp: Stamp) -> Option<Locator> {
        self.log().done.get(inner).filter(|(held, _)| *held == stamp).map(|(_, locator)| *locator)
    }

    /// Notes that a file is stored.
    pub(crate) fn done(&self, inner: &str, stamp: Stamp, locator: Locator) {
        self.write(&mut self.log(), Frame::Done { inner: inner.to_owned(), stamp, locator });
    }

    /// Returns how many files are stored, and the sessions of the others.
    pub(super) fn rest(&self) -> (usize, Vec<Session>) {
        let log = self.log();
        let done: BTreeSet<&String> = log.done.keys().collect();
        let open = log.parts.iter().filter(|part| !done.contains(&part.inner));
        (log.done.len(), open.flat_map(|part| part.sessions.values().cloned()).collect())
    }

    /// Ends the journal: nobody goes on with this upload.
    pub(crate) fn end(&self) {
        self.log().file = None;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a journal cannot be removed");
        }
    }

    /// Ends the journal of an upload that came to its end, or that failed before anything was sent.
    pub(crate) fn close<T, E>(&self, upload: &Result<T, E>) {
        let (stored, sessions) = self.rest();
        if upload.is_ok() || stored == 0 && sessions.is_empty() {
            self.end();
        }
    }

    /// Takes a frame in, and writes it down first. A journal that cannot be written is none from then on.
    fn write(&self, log: &mut Log, frame: Frame) {
        if let Some(file) = &mut log.file {
            let sealed = self.seals.seal(log.frames, &frame).map_err(std::io::Error::other);
            if let Err(error) = sealed.and_then(|sealed| file.write_all(&sealed)) {
                self.give_up(log, &error);
            }
        }
        log.take(frame).expect("the frames of a program that runs follow each other");
    }

    fn sync(&self, log: &mut Log) {
        if let Some(Err(error)) = log.file.as_ref().map(File::sync_data) {
            self.give_up(log, &error);
        }
    }

    fn give_up(&self, log: &mut Log, error: &std::io::Error) {
        tracing::warn!(path = %self.path.display(), %error, "the journal cannot be written: this upload cannot be resumed");
        log.file = None;
        let _ = std::fs::remove_file(&self.path);
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Takes a frame in; none when it does not follow what is here.
    fn take(&mut self, frame: Frame) -> Option<()> {
        let at = |part: u64| usize::try_from(part).ok();
        match frame {
            Frame::Begun { .. } => return None,
            Frame::Part { inner, stamp, secrets, created } => {
                let (sessions, rows, public) = (BTreeMap::new(), Vec::new(), None);
                self.parts.push(Part { inner, stamp, secrets, created, sessions, rows, public });
            }
            Frame::Session { part, column, session } => {
                self.parts.get_mut(at(part)?)?.sessions.insert(column, session);
            }
            Frame::Row { part, hash } => self.parts.get_mut(at(part)?)?.rows.push(hash),
            Frame::Public { part, public } => self.parts.get_mut(at(part)?)?.public = Some(public),
            Frame::Done { inner, stamp, locator } => {
                self.done.insert(inner, (stamp, locator));
            }
        }
        self.frames += 1;
        Some(())
    }
}

impl PartJournal {
    /// Begins the object again. Returns its encoder, what makes the manifest unlike others, and what draws the nodes.
    pub(crate) fn begin(&self, options: EncoderOptions) -> (Encoder, [u8; 32], [u8; 32]) {
        let Secrets { key, random, seed } = &self.secrets;
        // What `hazmat` asks for: `Journals::of` goes on under the same options only, and `Self::row` lets no other
        // stripe leave than the one before.
        (hazmat::encoder(options, **key), *random, *seed)
    }

    /// Returns whether nodes were asked to commit it.
    pub(crate) fn was_committed(&self) -> bool {
        self.journal.log().parts[self.at].public.is_some()
    }

    /// Returns what the last attempt left behind.
    pub(crate) fn earlier(&self) -> Earlier {
        let log = self.journal.log();
        let part = &log.parts[self.at];
        let columns = part.sessions.last_key_value().map_or(0, |(last, _)| last + 1);
        let sessions = (0..columns).map(|column| part.sessions.get(&column).cloned()).collect();
        Earlier { sessions, public: part.public.clone() }
    }

    /// Notes the session of a column.
    pub(crate) fn session(&self, column: usize, session: &Session) {
        let part = self.at as u64;
        self.journal.write(&mut self.journal.log(), Frame::Session { part, column, session: session.clone() });
    }

    /// Notes a stripe before it is sent. One that was noted before must be the same.
    pub(crate) fn row(&self, stripe: u64, hash: RowHash) -> Result<(), OtherRow> {
        let mut log = self.journal.log();
        let held = usize::try_from(stripe).ok().and_then(|stripe| log.parts[self.at].rows.get(stripe));
        match held {
            Some(held) if *held == hash => Ok(()),
            Some(_) => Err(OtherRow),
            None => {
                self.journal.write(&mut log, Frame::Row { part: self.at as u64, hash });
                Ok(())
            }
        }
    }

    /// Notes that nodes are asked to commit.
    pub(crate) fn public(&self, public: &Bytes) {
        let mut log = self.journal.log();
        if log.parts[self.at].public.is_none() {
            self.journal.write(&mut log, Frame::Public { part: self.at as u64, public: public.clone() });
        }
    }
}

fn file_of(folder: &Path, batch: Batch) -> PathBuf {
    folder.join(data_encoding::HEXLOWER.encode(&batch.0))
}
