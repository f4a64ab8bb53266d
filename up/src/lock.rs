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
    /// Takes the lock and writes the id of this process into its file. On a read-only file system the file that a start
    /// before left is locked, and has no id of this process.
    pub(crate) fn take(path: &Path) -> Result<Self, NoLock> {
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let (file, has_id) = match opened {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                (File::open(path).map_err(|_| error)?, false)
            }
            opened => (opened?, true),
        };
        match file.try_lock() {
            // An earlier process wrote the id that stands there.
            Err(TryLockError::WouldBlock) if !has_id => Err(NoLock::Held(None)),
            Err(TryLockError::WouldBlock) => Err(NoLock::Held(read_id(file)?)),
            Err(TryLockError::Error(error)) => Err(error.into()),
            Ok(()) => {
                // It is for people: on a full disk, too, the lock counts without it.
                if has_id && let Err(error) = write_id(&file) {
                    tracing::warn!(path = %path.display(), %error, "the id of this process is not written into the lock");
                }
                Ok(Self(file))
            }
        }
    }
}

fn read_id(file: File) -> io::Result<Option<u32>> {
    let mut id = String::new();
    file.take(ID_BYTES_MAX).read_to_string(&mut id)?;
    Ok(id.trim().parse().ok())
}

fn write_id(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
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
