//! The journal of one `put`: what must be known to go on with it, written before it is needed.
//!
//! Keeps true: no row leaves under a data key before it is in the journal durably, and none leaves that is another than
//! the journal says. So two plaintexts are never sealed under one key and nonce for somebody else to see, whatever
//! became of the file in between, and whatever a power cut of the owner's machine took. A journal that cannot be
//! written ends its upload, and keeps what was sent: the upload goes on later. Sessions and what is stored are synced
//! with the rows that come after them: without them more is sent again, and nothing else.
//!
//! Who works on an upload holds the lock of its journal (flock). Who only looks reads without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use client::{Earlier, Session};
use format::{Encoder, EncoderOptions, Locator, Retention, RowHash, hazmat};

use super::{
    UnfinishedError,
    frame::{Frame, HEAD_BYTES, Seals, Secrets, TORN_BYTES_MAX},
    stamp::Stamp,
};
use crate::{durable, index::Batch};

/// Largest journal that is read: some 100 bytes for each stripe of the longest object, and as many for each of a
/// million files.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// How long to wait for the lock of a journal. Who only looks whether somebody has it holds it for some microseconds.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// What began a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) batch: Batch,
    /// The path that is stored, without links.
    pub(crate) path: PathBuf,
    /// The hash of the options.
    pub(crate) options: [u8; 32],
    /// The times of what is stored, and the hash of how its owner wrote them.
    pub(crate) retention: Retention,
    pub(crate) asked: [u8; 32],
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

/// How far a journal goes.
#[derive(Clone, Copy)]
struct End {
    frames: u64,
    bytes: u64,
}

struct Log {
    /// None when it is only looked at, was ended, or could not be written.
    file: Option<Arc<File>>,
    end: End,
    /// What is durable of it.
    synced: End,
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

/// Why stripes may not be sent.
pub(crate) enum Withheld {
    /// A stripe is another than the one that was sent under the same key.
    Other { stripe: u64 },
    /// The journal cannot be written.
    Journal(UnfinishedError),
}

impl Journal {
    /// Begins a journal in a folder, and locks it. Blocks for two disk writes.
    pub(super) fn create(folder: &Path, seals: Seals, head: Head) -> Result<Self, UnfinishedError> {
        let path = file_of(folder, head.batch);
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        durable::private_folder(folder).map_err(io)?;
        let Head { options, retention, asked, begun: time, .. } = head;
        let begun = Frame::Begun { path: head.path.to_string_lossy().into_owned(), options, retention, asked, time };
        let first = [&seals.head()[..], &seals.seal(0, &begun)?].concat();
        // Under its own name it is whole and locked from the first moment on, so nobody takes it for a damaged one.
        let temporary = durable::temporary_of(&path);
        let file = durable::open_private(OpenOptions::new().read(true).append(true).create_new(true), &temporary);
        let file = file.map_err(io)?;
        let named = file.try_lock().map_err(io::Error::from).and_then(|()| {
            (&file).write_all(&first)?;
            file.sync_data()?;
            std::fs::rename(&temporary, &path)?;
            durable::sync_folder(&path)
        });
        named.map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            io(source)
        })?;
        let mut log = Log::new(first.len() as u64);
        (log.file, log.synced) = (Some(Arc::new(file)), log.end);
        Ok(Self { head, path, seals, log: Mutex::new(log) })
    }

    /// Opens a journal to go on with it or to end it; none when another program works on it. A last frame that was cut
    /// short is cut off. Blocks.
    pub(super) fn open(folder: &Path, seals: Seals, batch: Batch) -> Result<Option<Self>, UnfinishedError> {
        let path = file_of(folder, batch);
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(io)?;
        if !durable::lock(&file, LOCK_WAIT).map_err(io)? {
            return Ok(None);
        }
        // Whoever had the lock may have ended the upload.
        if file.metadata().map_err(io)?.nlink() == 0 {
            return Err(io(io::ErrorKind::NotFound.into()));
        }
        let (journal, end) = Self::load(&file, path.clone(), seals, batch)?;
        file.set_len(end).map_err(io)?;
        journal.log().file = Some(Arc::new(file));
        Ok(Some(journal))
    }

    /// Reads a journal as it is now, whoever works on it. Blocks.
    pub(super) fn look(folder: &Path, seals: Seals, batch: Batch) -> Result<Self, UnfinishedError> {
        let path = file_of(folder, batch);
        let file = File::open(&path).map_err(|source| UnfinishedError::Io { path: path.clone(), source })?;
        Ok(Self::load(&file, path, seals, batch)?.0)
    }

    /// Returns whether a program works on an upload. Blocks.
    pub(super) fn is_busy(folder: &Path, batch: Batch) -> bool {
        // Those who look at the same time do not keep each other out.
        let probe = File::open(file_of(folder, batch)).map(|file| file.try_lock_shared());
        matches!(probe, Ok(Err(TryLockError::WouldBlock)))
    }

    /// Returns when a journal was last written; none when it is gone. Blocks.
    pub(super) fn used(folder: &Path, batch: Batch) -> Option<SystemTime> {
        std::fs::metadata(file_of(folder, batch)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Reads a journal, and returns it with the length of what is good of it.
    fn load(file: &File, path: PathBuf, seals: Seals, batch: Batch) -> Result<(Self, u64), UnfinishedError> {
        let mut bytes = Vec::new();
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        file.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
        let damaged = || UnfinishedError::Damaged { path: path.clone() };
        if bytes.get(..HEAD_BYTES) != Some(seals.head()) {
            return Err(damaged());
        }
        let (first, length) = seals.open(0, &bytes[HEAD_BYTES..]).ok_or_else(damaged)?;
        let Frame::Begun { path: stored, options, retention, asked, time } = first else { return Err(damaged()) };
        let head = Head { batch, path: stored.into(), options, retention, asked, begun: time };
        let mut at = HEAD_BYTES + length;
        let mut log = Log::new(at as u64);
        while at < bytes.len() {
            let Some((frame, length)) = seals.open(log.end.frames, &bytes[at..]) else { break };
            log.take(frame, length).ok_or_else(damaged)?;
            at += length;
        }
        // Nothing of it is known to be durable, and nothing of it is to be cut off.
        log.synced.bytes = log.end.bytes;
        if bytes.len() - at > TORN_BYTES_MAX {
            return Err(damaged());
        }
        Ok((Self { head, path, seals, log: Mutex::new(log) }, at as u64))
    }

    /// Returns what is known of a file that did not change since, or begins it.
    pub(crate) fn part(
        self: &Arc<Self>,
        inner: &str,
        stamp: Stamp,
        created: u64,
    ) -> Result<PartJournal, UnfinishedError> {
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
    ) -> Result<PartJournal, UnfinishedError> {
        let (secrets, mut log) = (Secrets::draw()?, self.log());
        let frame = Frame::Part { inner: inner.to_owned(), stamp, secrets: secrets.clone(), created };
        self.write(&mut log, frame)?;
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

    /// Returns all files and folders that are stored, or were about to be.
    pub(crate) fn all_stored(&self) -> BTreeSet<Locator> {
        self.log().done.values().map(|(_, locator)| *locator).collect()
    }

    /// Returns the object of a file that is stored, or was about to be, and did not change since.
    pub(crate) fn stored(&self, inner: &str, stamp: Stamp) -> Option<Locator> {
        self.log().done.get(inner).filter(|(held, _)| *held == stamp).map(|(_, locator)| *locator)
    }

    /// Notes that a file or folder is stored, or is about to be: the index knows whether it is.
    pub(crate) fn done(&self, inner: &str, stamp: Stamp, locator: Locator) {
        // Without this frame the file is stored once more.
        let _ = self.write(&mut self.log(), Frame::Done { inner: inner.to_owned(), stamp, locator });
    }

    /// Returns whether all that is stored is this: so many files and folders, each of which is stored as it is now.
    pub(crate) fn is_all<'n>(&self, mut nodes: impl ExactSizeIterator<Item = (&'n str, Option<Stamp>)>) -> bool {
        let log = self.log();
        let is_same = |(inner, stamp): (&str, Option<Stamp>)| match stamp {
            Some(stamp) => log.done.get(inner).is_some_and(|(held, _)| *held == stamp),
            None => log.done.contains_key(&folder_key(inner)),
        };
        nodes.len() == log.done.len() && nodes.all(is_same)
    }

    /// Returns how many files are stored, and the sessions of the others.
    pub(super) fn rest(&self) -> (usize, Vec<Session>) {
        let log = self.log();
        let open =
            log.parts.iter().filter(|part| log.done.get(&part.inner).is_none_or(|(stamp, _)| *stamp != part.stamp));
        (
            log.done.keys().filter(|inner| !inner.ends_with('/')).count(),
            open.flat_map(|part| part.sessions.values().cloned()).collect(),
        )
    }

    /// Ends the journal: nobody goes on with this upload.
    pub(crate) fn end(&self) {
        if let Err(error) = durable::remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a journal cannot be removed");
        }
        // Whoever waits for the lock finds it gone.
        self.log().file = None;
    }

    /// Ends the journal of an upload that came to its end, or that failed before anything was sent.
    pub(crate) fn close<T, E>(&self, upload: &Result<T, E>) {
        let (stored, sessions) = self.rest();
        if upload.is_ok() || stored == 0 && sessions.is_empty() {
            self.end();
        }
    }

    /// Takes a frame in and writes it down.
    fn write(&self, log: &mut Log, frame: Frame) -> Result<(), UnfinishedError> {
        let sealed = self.seals.seal(log.end.frames, &frame)?;
        if let Err(source) = log.file().and_then(|file| (&*file).write_all(&sealed)) {
            log.cut(log.end);
            return Err(self.io(source));
        }
        log.take(frame, sealed.len()).expect("the frames of a program that runs follow each other");
        Ok(())
    }

    /// Makes all that was written durable. Blocks for one disk write at most.
    pub(super) fn sync(&self) -> Result<(), UnfinishedError> {
        let log = self.log();
        if log.synced.frames == log.end.frames {
            return Ok(());
        }
        let (file, end) = (log.file(), log.end);
        // It is free during the write: lanes note their sessions.
        drop(log);
        let synced = file.and_then(|file| file.sync_data());
        let mut log = self.log();
        // Of several that sync at the same time the system tells one that it failed.
        if let Err(source) = synced.and_then(|()| log.file().map(drop)) {
            // The system may have dropped what came after, none of which was sent, and would not say so again.
            let synced = log.synced;
            log.cut(synced);
            log.file = None;
            return Err(self.io(source));
        }
        if log.synced.frames < end.frames {
            log.synced = end;
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> UnfinishedError {
        UnfinishedError::Io { path: self.path.clone(), source }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// What follows the first frame, which ends there.
    fn new(bytes: u64) -> Self {
        let (end, synced) = (End { frames: 1, bytes }, End { frames: 0, bytes });
        Self { file: None, end, synced, parts: Vec::new(), done: BTreeMap::new() }
    }

    /// Cuts off what a write that failed may have left. Where that fails too nothing more is written, and who opens the
    /// journal next cuts it off.
    fn cut(&mut self, end: End) {
        if self.file().and_then(|file| file.set_len(end.bytes)).is_err() {
            self.file = None;
        }
    }

    fn file(&self) -> io::Result<Arc<File>> {
        self.file.clone().ok_or_else(|| io::Error::other("it was ended, or an earlier write failed"))
    }

    /// Takes a frame of so many bytes in; none when it does not follow what is here.
    fn take(&mut self, frame: Frame, bytes: usize) -> Option<()> {
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
        self.end = End { frames: self.end.frames + 1, bytes: self.end.bytes + bytes as u64 };
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
        let frame = Frame::Session { part: self.at as u64, column, session: session.clone() };
        // Without this frame the column is sent once more.
        let _ = self.journal.write(&mut self.journal.log(), frame);
    }

    /// Returns how many stripes were noted.
    pub(crate) fn stripes(&self) -> u64 {
        self.journal.log().parts[self.at].rows.len() as u64
    }

    /// Notes stripes durably, which may be sent then. Those that were noted before must be the same. Blocks for one
    /// disk write at most.
    pub(crate) fn rows(&self, rows: &[(u64, RowHash)]) -> Result<(), Withheld> {
        let mut log = self.journal.log();
        for (stripe, hash) in rows {
            let held = usize::try_from(*stripe).ok().and_then(|stripe| log.parts[self.at].rows.get(stripe));
            match held {
                Some(held) if held == hash => {}
                Some(_) => return Err(Withheld::Other { stripe: *stripe }),
                None => {
                    let frame = Frame::Row { part: self.at as u64, hash: *hash };
                    self.journal.write(&mut log, frame).map_err(Withheld::Journal)?;
                }
            }
        }
        drop(log);
        // Also when none is new: an attempt before this one may have written and not synced yet.
        self.journal.sync().map_err(Withheld::Journal)
    }

    /// Notes that nodes are asked to commit.
    pub(crate) fn public(&self, public: &Bytes) {
        let mut log = self.journal.log();
        if log.parts[self.at].public.is_none() {
            let frame = Frame::Public { part: self.at as u64, public: public.clone() };
            // Without this frame nodes that have their shard are sent it once more.
            let _ = self.journal.write(&mut log, frame);
        }
    }

    /// Returns how many frames of the journal are durable.
    #[cfg(test)]
    pub(crate) fn synced(&self) -> u64 {
        self.journal.log().synced.frames
    }
}

/// Returns what a folder is called in a journal. No file is called so.
pub(crate) fn folder_key(inner: &str) -> String {
    format!("{inner}/")
}

fn file_of(folder: &Path, batch: Batch) -> PathBuf {
    folder.join(data_encoding::HEXLOWER.encode(&batch.0))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use zeroize::Zeroizing;

    use super::*;
    use crate::unfinished::{Journals, Resumption};

    struct World {
        folder: tempfile::TempDir,
        journals: Journals,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (index, owner) = (folder.path().join("index"), format::OwnerId([1; 32]));
            Self { folder, journals: Journals::beside(&index, Zeroizing::new([7; 32]), owner) }
        }

        fn head(byte: u8, begun: u64) -> Head {
            let (options, asked, retention) = ([0; 32], [0; 32], Retention::default());
            Head { batch: Batch([byte; 16]), path: format!("/{byte}").into(), options, retention, asked, begun }
        }

        /// Goes on with the journal of a path, or begins one.
        fn open(&self, byte: u8, begun: u64) -> Arc<Journal> {
            Arc::new(self.journals.of(Self::head(byte, begun), None, Resumption::Auto).unwrap())
        }

        fn file(&self, byte: u8) -> PathBuf {
            file_of(&self.folder.path().join("unfinished"), Batch([byte; 16]))
        }

        fn stamp(&self) -> Stamp {
            Stamp::of(&std::fs::metadata(self.folder.path()).unwrap())
        }
    }

    fn row(byte: u8) -> RowHash {
        RowHash([byte; 32])
    }

    #[test]
    fn a_write_or_a_sync_that_fails_keeps_what_was_sent() {
        // Nobody writes to what is open for reading alone, and a pipe cannot be synced.
        for fails in ["a write", "a sync"] {
            let world = World::new();
            let (journal, stamp) = (world.open(1, 1), world.stamp());
            let part = journal.part("a", stamp, 1).unwrap();
            assert!(part.rows(&[(0, row(0)), (1, row(1))]).is_ok());
            let good = std::fs::read(world.file(1)).unwrap();
            let (_reader, pipe) = io::pipe().unwrap();
            let broken = match fails {
                "a write" => File::open(world.file(1)).unwrap(),
                _ => File::from(OwnedFd::from(pipe)),
            };
            let locked = journal.log().file.replace(Arc::new(broken));
            assert!(matches!(part.rows(&[(2, row(2))]), Err(Withheld::Journal(_))), "{fails}");
            assert!(matches!(part.rows(&[(2, row(2))]), Err(Withheld::Journal(_))), "nothing more is sent");
            drop((part, journal, locked));
            assert_eq!(std::fs::read(world.file(1)).unwrap(), good, "{fails}");
            let again = world.open(1, 2).part("a", stamp, 2).unwrap();
            assert_eq!((again.stripes(), again.created), (2, 1), "{fails}");
            assert!(matches!(again.rows(&[(1, row(9))]), Err(Withheld::Other { stripe: 1 })));
        }
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off_and_the_journal_goes_on() {
        let world = World::new();
        let (journal, stamp) = (world.open(1, 1), world.stamp());
        let part = journal.part("a", stamp, 1).unwrap();
        assert!(part.rows(&[(0, row(0))]).is_ok());
        let file = journal.log().file().unwrap();
        let end = journal.log().end;
        (&*file).write_all(b"half a frame").unwrap();
        journal.log().cut(end);
        assert!(part.rows(&[(1, row(1))]).is_ok());
        drop((part, journal, file));
        assert_eq!(world.open(1, 2).part("a", stamp, 2).unwrap().stripes(), 2);
    }

    /// A clock that was ahead, or behind, says nothing: journals go when there are too many, the one first that was not
    /// used for longest.
    #[test]
    fn no_clock_ends_a_journal_and_their_number_has_a_bound() {
        let (world, now) = (World::new(), crate::twin::now());
        for byte in 1..=3 {
            drop(world.open(byte, 1).part("a", world.stamp(), 1).unwrap());
            let written =
                SystemTime::UNIX_EPOCH + Duration::from_secs([1, u64::from(u32::MAX), 2][usize::from(byte) - 1]);
            File::options().append(true).open(world.file(byte)).unwrap().set_modified(written).unwrap();
        }
        assert_eq!(world.journals.list().unwrap().len(), 3, "whoever looks takes none away");
        for byte in 4..=5 {
            drop(world.open(byte, now * 2));
        }
        assert_eq!(world.journals.list().unwrap().len(), 5, "nor does a put under a clock that is ahead");
        assert_eq!(world.open(1, now).head.begun, 1, "it goes on");
        world.journals.make_room(4).unwrap();
        assert_eq!([1, 2, 3, 4, 5].map(|byte| world.file(byte).exists()), [true, true, false, true, true]);
        let held = world.open(4, now);
        world.journals.make_room(1).unwrap();
        assert_eq!([1, 2, 4, 5].map(|byte| world.file(byte).exists()), [false, false, true, false], "one is held");
        drop(held);
    }
}
