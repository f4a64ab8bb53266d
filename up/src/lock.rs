//! The lock that keeps a second process from running the same network. The system drops it when the process ends,
//! whatever ends it.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
};

/// Longest id that is read, in bytes.
const ID_BYTES_MAX: u64 = 20;

/// Held while the network runs.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "dropping it is its use")] File);

/// Why the lock is not held.
#[derive(Debug)]
pub(crate) enum NoLock {
    /// A process of this id has it; none when it has not said yet.
    Held(Option<u32>),
    /// The disk returns an error.
    Io(io::Error),
}

impl From<io::Error> for NoLock {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Lock {
    /// Takes the lock and writes the id of this process into its file.
    pub(crate) fn take(path: &Path) -> Result<Self, NoLock> {
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut id = String::new();
                file.take(ID_BYTES_MAX).read_to_string(&mut id)?;
                return Err(NoLock::Held(id.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // The id is for people: on a full disk the lock counts without it.
        let said = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = said {
            tracing::warn!(path = %path.display(), %error, "the id of this process is not written into the lock");
        }
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_learns_the_first_ones_id_and_the_lock_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "4294967295, a longer one than this\n").unwrap();
        let first = Lock::take(&path).unwrap();
        assert!(matches!(Lock::take(&path), Err(NoLock::Held(Some(id))) if id == std::process::id()));
        drop(first);
        Lock::take(&path).unwrap();
    }
}
