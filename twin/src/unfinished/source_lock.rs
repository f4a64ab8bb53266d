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
//! The note is a keyed hash of the source's stamp and the object's locator, so the file tells of neither. It is not
//! synced: what a power cut takes of it is stored once more.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
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

const NOTE_BYTES: usize = 32;
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
            earlier = read(&file).map_err(io)?.or(earlier);
            // Whoever had the lock removed the file that it is on, and the next one locks another.
            if file.metadata().map_err(io)?.nlink() > 0 {
                return Ok(Some(Self { path, file, key, earlier }));
            }
        }
    }

    /// Returns whether an earlier `put` noted anything.
    pub(crate) fn has_note(&self) -> bool {
        self.earlier.is_some()
    }

    /// Returns which of these objects an earlier `put` noted for the source as it is now.
    pub(crate) fn stored<'l>(
        &self,
        stamp: Stamp,
        mut locators: impl Iterator<Item = &'l Locator>,
    ) -> Option<&'l Locator> {
        let earlier = self.earlier?;
        locators.find(|locator| self.note_of(stamp, locator) == earlier)
    }

    /// Notes what is about to be stored of the source.
    pub(crate) fn note(&self, stamp: Stamp, locator: &Locator) {
        // Without it the source is stored once more.
        let _ = self.file.write_all_at(&self.note_of(stamp, locator), 0);
    }

    /// Returns what the owner is to be told; none when that stands in no note.
    pub(crate) fn untold(&self) -> Option<Untold> {
        let note = read(&self.file).ok()??;
        Some(Untold { path: self.path.clone(), note })
    }

    fn note_of(&self, stamp: Stamp, locator: &Locator) -> Note {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"evernear 2026 v1 note of what was stored of a source");
        *hasher.update(&stamp.encode()).update(locator.as_bytes()).finalize().as_bytes()
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

/// Removes the files that killed programs left, and of the notes all but the newest [`NOTES_MAX`]. Blocks.
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
    let over = notes.len().saturating_sub(NOTES_MAX);
    notes.sort_unstable();
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
        let stored = |lock: &SourceLock, stamp| lock.stored(stamp, [other, one].iter()).copied();
        let first = take(folder.path(), "a").unwrap();
        assert!(!first.has_note() && first.untold().is_none());
        first.note(stamp, &other);
        first.note(stamp, &one);
        let untold = first.untold().unwrap();
        drop(first);

        let second = take(folder.path(), "a").unwrap();
        assert_eq!((stored(&second, stamp), stored(&second, changed)), (Some(one), None));
        untold.told();
        assert_eq!(left(folder.path()), ["a.lock"], "it is told by whoever has the lock");
        // As whoever was told removes it.
        let remove = || {
            std::fs::remove_file(folder.path().join("a.lock")).unwrap();
            drop(second);
        };
        let third = wait_for(folder.path(), "a", remove).unwrap();
        assert_eq!((stored(&third, stamp), third.untold().is_none()), (Some(one), true));
        third.note(changed, &other);
        let untold = third.untold().unwrap();
        drop(third);
        untold.told();
        assert_eq!(left(folder.path()), Vec::<String>::new());
        assert!(!take(folder.path(), "a").unwrap().has_note());
    }

    #[test]
    fn what_nobody_holds_is_swept_and_notes_and_locks_stay() {
        let folder = tempfile::tempdir().unwrap();
        assert!(sweep(&folder.path().join("absent")).is_ok());
        for name in ["killed.lock", "00000000000000000000000000000000"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let held = take(folder.path(), "held").unwrap();
        take(folder.path(), "noted").unwrap().note(Stamp::of_bytes(b""), &Locator([1; 32]));
        sweep(folder.path()).unwrap();
        assert_eq!(left(folder.path()), ["00000000000000000000000000000000", "held.lock", "noted.lock"]);
        drop(held);
    }
}
