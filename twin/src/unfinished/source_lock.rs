//! The lock of what a `put` reads, with a note of what was stored of it and not told yet. Without the lock two at the
//! same time would store a source twice; without the note the next one would store again what a command stored that was
//! killed, or could not write its answer.
//!
//! ```text
//! lock the file -> note the object in it -> nodes commit -> let go of it -> the owner is told -> remove the file
//! ```
//!
//! The file is named after the source and the options, and locked by flock: the system lets go of it when the program
//! ends, however it does. A file without a note that nobody holds is what a killed program left. Whoever waited for the
//! lock reads the note in the file that it waited for, also when that was removed meanwhile.
//!
//! The note is a keyed hash of the source's stamp, the object's locator and the version of its lease, and the locator
//! under a key that derives from that hash, so the file tells of neither. It is not synced: what a power cut takes of
//! it is stored once more. After a day it counts no more: whoever stored it may have found it in the index by then.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use format::Locator;
use zeroize::Zeroizing;

use super::{Stamp, UnfinishedError};
use crate::durable;

/// How long to wait for the lock. A program that was killed lets go of it a moment later.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// No journal is called so: those have names of 16 bytes.
const EXTENSION: &str = "lock";
/// Notes of which nobody was told, at most: with one more, the oldest goes, and its source is stored again.
const NOTES_MAX: usize = 16_384;

/// A note counts for so long.
const NOTE_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const NOTE_BYTES: usize = 64;
const CHECK_BYTES: usize = 32;
type Note = [u8; NOTE_BYTES];

/// The lock of one source, until it is dropped.
pub(crate) struct SourceLock {
    path: PathBuf,
    file: File,
    key: Zeroizing<[u8; 32]>,
    /// What an earlier `put` noted.
    earlier: Option<Note>,
}

/// What was stored of a source, and its owner is to be told.
pub(crate) struct Untold {
    path: PathBuf,
    note: Note,
}

impl SourceLock {
    /// Takes the lock of this name; none when another `put` has it. Blocks for at most [`LOCK_WAIT`].
    pub(super) fn take(folder: &Path, name: &str, key: Zeroizing<[u8; 32]>) -> Result<Option<Self>, UnfinishedError> {
        let path = folder.join(name).with_extension(EXTENSION);
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        durable::private_folder(folder).map_err(io)?;
        let mut earlier = None;
        loop {
            let options = &mut OpenOptions::new();
            let options = options.create(true).truncate(false).read(true).write(true);
            let file = durable::open_private(options, &path).map_err(io)?;
            if !durable::lock(&file, LOCK_WAIT).map_err(io)? {
                return Ok(None);
            }
            earlier = read(&file).map_err(io)?.filter(|_| !is_old(&file)).or(earlier);
            // Whoever had the lock removed the file that it is on, and the next one locks another.
            if file.metadata().map_err(io)?.nlink() > 0 {
                return Ok(Some(Self { path, file, key, earlier }));
            }
        }
    }

    /// Returns which object an earlier `put` noted, if it is of this source: [`Self::is_of`] tells.
    pub(crate) fn noted(&self) -> Option<Locator> {
        let (check, masked) = self.earlier.as_ref()?.split_at(CHECK_BYTES);
        Some(Locator(self.masked(check, masked)))
    }

    /// Returns whether that is the object, under this version of its lease, of the source as it is now.
    pub(crate) fn is_of(&self, stamp: Stamp, locator: &Locator, version: u64) -> bool {
        self.earlier == Some(self.note_of(stamp, locator, version))
    }

    /// Notes what is about to be stored of the source, or was renewed.
    pub(crate) fn note(&self, stamp: Stamp, locator: &Locator, version: u64) {
        // Without it the source is stored once more.
        let _ = self.file.write_all_at(&self.note_of(stamp, locator, version), 0);
    }

    /// Returns what the owner is to be told; none when that stands in no note.
    pub(crate) fn untold(&self) -> Option<Untold> {
        let note = read(&self.file).ok()??;
        Some(Untold { path: self.path.clone(), note })
    }

    fn note_of(&self, stamp: Stamp, locator: &Locator, version: u64) -> Note {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"evernear 2026 v1 note of what was stored of a source");
        hasher.update(&stamp.encode()).update(locator.as_bytes()).update(&version.to_le_bytes());
        let check = hasher.finalize();
        let mut note = [0; NOTE_BYTES];
        note[..CHECK_BYTES].copy_from_slice(check.as_bytes());
        note[CHECK_BYTES..].copy_from_slice(&self.masked(check.as_bytes(), locator.as_bytes()));
        note
    }

    /// Masks a locator, or takes the mask off. No two locators have the same mask, since `check` hangs on the locator.
    fn masked(&self, check: &[u8], locator: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"evernear 2026 v1 locator in a note of what was stored").update(check);
        let mut masked = *hasher.finalize().as_bytes();
        masked.iter_mut().zip(locator).for_each(|(mask, byte)| *mask ^= byte);
        masked
    }
}

impl Drop for SourceLock {
    fn drop(&mut self) {
        // One with a note is for whoever comes next.
        if !matches!(read(&self.file), Ok(None)) {
            return;
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "the lock of an upload cannot be removed");
            }
            _ => {}
        }
    }
}

impl Untold {
    /// Forgets it, because the owner was told. Blocks.
    pub(crate) fn told(&self) {
        if let Err(error) = remove_idle(&self.path, |note| note == Some(self.note)) {
            tracing::warn!(path = %self.path.display(), %error, "what was told is told once more by the same command");
        }
    }
}

/// Removes the files that killed programs left, and of the notes those that count no more and all but the newest
/// [`NOTES_MAX`]. Blocks.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut notes = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        match metadata.len() {
            _ if path.extension() != Some(OsStr::new(EXTENSION)) => {}
            0 => remove_idle(&path, |note| note.is_none())?,
            _ => notes.push((metadata.modified()?, path)),
        }
    }
    notes.sort_unstable();
    let old = notes.partition_point(|(written, _)| age(*written) > NOTE_AGE_MAX);
    let over = notes.len().saturating_sub(NOTES_MAX).max(old);
    notes.iter().take(over).try_for_each(|(_, path)| remove_idle(path, |_| true))
}

/// Removes a file that nobody has locked, if its note is one to be removed. Whoever waits for its lock finds it gone.
fn remove_idle(path: &Path, is_one: impl FnOnce(Option<Note>) -> bool) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    // With the lock, so that this is the file of that name, or one that was removed.
    if file.try_lock().is_ok() && file.metadata()?.nlink() > 0 && is_one(read(&file)?) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether what a file notes counts no more.
fn is_old(file: &File) -> bool {
    file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|written| age(written) > NOTE_AGE_MAX)
}

fn age(written: SystemTime) -> Duration {
    written.elapsed().unwrap_or_default()
}

fn read(file: &File) -> io::Result<Option<Note>> {
    let mut note = [0; NOTE_BYTES];
    match file.read_exact_at(&mut note, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(note)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn take(folder: &Path, name: &str) -> Option<SourceLock> {
        SourceLock::take(folder, name, Zeroizing::new([7; 32])).unwrap()
    }

    fn left(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Takes a lock that another has, which goes on with `then` once this waits for it.
    fn wait_for(folder: &Path, name: &str, then: impl FnOnce()) -> Option<SourceLock> {
        let path = folder.join(name).with_extension(EXTENSION);
        let is_it = |entry: io::Result<std::fs::DirEntry>| {
            entry.and_then(|entry| std::fs::read_link(entry.path())).is_ok_and(|open| open == path)
        };
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().map(is_it).filter(|is| *is).count();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take(folder, name));
            while open() < 2 {
                assert!(began.elapsed() < Duration::from_secs(10), "nobody waits");
                std::thread::yield_now();
            }
            then();
            waiting.join().unwrap()
        })
    }

    #[test]
    fn one_at_a_time_has_the_lock_and_nothing_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let take = |name| take(folder.path(), name);
        let first = take("a");
        assert!(first.is_some() && take("b").is_some());
        assert!(take("a").is_none());
        assert!(wait_for(folder.path(), "a", || drop(first)).is_some(), "it waits for who is about to end");
        assert_eq!(left(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn what_was_noted_is_found_until_it_was_told_and_by_whoever_waits_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Locator([1; 32]), Locator([2; 32]));
        let (stamp, changed) = (Stamp::of_bytes(b"as it was"), Stamp::of_bytes(b"as it is"));
        let first = take(folder.path(), "a").unwrap();
        assert!(first.noted().is_none() && first.untold().is_none());
        first.note(stamp, &other, 1);
        first.note(stamp, &one, 1);
        let untold = first.untold().unwrap();
        drop(first);

        let second = take(folder.path(), "a").unwrap();
        assert_eq!(second.noted(), Some(one));
        assert!(second.is_of(stamp, &one, 1));
        assert!(!second.is_of(changed, &one, 1) && !second.is_of(stamp, &one, 2) && !second.is_of(stamp, &other, 1));
        untold.told();
        assert_eq!(left(folder.path()), ["a.lock"], "it is told by whoever has the lock");
        // As whoever was told removes it.
        let remove = || {
            std::fs::remove_file(folder.path().join("a.lock")).unwrap();
            drop(second);
        };
        let third = wait_for(folder.path(), "a", remove).unwrap();
        assert!(third.is_of(stamp, &one, 1) && third.untold().is_none());
        third.note(changed, &other, 1);
        let untold = third.untold().unwrap();
        drop(third);
        untold.told();
        assert_eq!(left(folder.path()), Vec::<String>::new());
        assert!(take(folder.path(), "a").unwrap().noted().is_none());

        // A note of the day before counts no more, and goes.
        let fourth = take(folder.path(), "a").unwrap();
        fourth.note(stamp, &one, 1);
        let path = folder.path().join("a.lock");
        drop(fourth);
        let before = SystemTime::now() - NOTE_AGE_MAX - Duration::from_secs(60);
        File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert!(take(folder.path(), "a").unwrap().noted().is_none());
        sweep(folder.path()).unwrap();
        assert_eq!(left(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn what_nobody_holds_is_swept_and_notes_and_locks_stay() {
        let folder = tempfile::tempdir().unwrap();
        assert!(sweep(&folder.path().join("absent")).is_ok());
        for name in ["killed.lock", "00000000000000000000000000000000"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let held = take(folder.path(), "held").unwrap();
        take(folder.path(), "noted").unwrap().note(Stamp::of_bytes(b""), &Locator([1; 32]), 1);
        sweep(folder.path()).unwrap();
        assert_eq!(left(folder.path()), ["00000000000000000000000000000000", "held.lock", "noted.lock"]);
        drop(held);
    }
}
