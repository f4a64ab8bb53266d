//! The lock of what a `put` reads: two at the same time would store it twice, and neither would know of the other.
//!
//! Whoever stores a source holds a locked file (flock) named after the source and the options. The system lets go of it
//! when the program ends, however it does.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::UnfinishedError;
use crate::durable;

/// How long to wait for the lock. A program that was killed lets go of it a moment later.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The lock of one source, until it is dropped.
#[derive(Debug)]
pub(crate) struct SourceLock {
    path: PathBuf,
    _file: File,
}

impl SourceLock {
    /// Takes the lock of this name; none when another `put` has it. Blocks for at most [`LOCK_WAIT`].
    pub(super) fn take(folder: &Path, name: &str) -> Result<Option<Self>, UnfinishedError> {
        // No journal is called so: those have names of 16 bytes.
        let path = folder.join(format!("{name}.lock"));
        let io = |source| UnfinishedError::Io { path: path.clone(), source };
        durable::private_folder(folder).map_err(io)?;
        loop {
            let options = &mut OpenOptions::new();
            let file = durable::open_private(options.create(true).truncate(false).write(true), &path).map_err(io)?;
            if !durable::lock(&file, LOCK_WAIT).map_err(io)? {
                return Ok(None);
            }
            // Whoever had the lock removed the file that it is on, and the next one locks another.
            if file.metadata().map_err(io)?.nlink() > 0 {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for SourceLock {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "the lock of an upload cannot be removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock_and_nothing_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let take = |name| SourceLock::take(folder.path(), name).unwrap();
        let first = take("a");
        assert!(first.is_some() && take("b").is_some());
        assert!(take("a").is_none());
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take("a").is_some());
            drop(first);
            waiting.join().unwrap()
        });
        assert!(waiting, "it waits for who is about to end");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
