//! Where uploads wait that come in several requests: a folder for each, beside the store. What was acknowledged of them
//! is durable there.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use twin::Batch;

/// The folder, in the owner's state folder.
const FOLDER: &str = "spool";

/// So much of its file system stays free of uploads: the index, the API's file and, on a small network, the catalog
/// lie there too, and must be writable to give anything back. Of a small file system it is 5 %.
const RESERVE_BYTES: u64 = 256 << 20;
const RESERVE_PERCENT: u64 = 5;

/// Too little is free under the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the twin's disk has room for {room} bytes of uploads, not for {asked}; free some space there, or send less")]
pub(crate) struct NoRoom {
    pub(crate) room: u64,
    pub(crate) asked: u64,
}

impl From<NoRoom> for io::Error {
    fn from(error: NoRoom) -> Self {
        Self::new(io::ErrorKind::StorageFull, error)
    }
}

/// The spool of a twin.
#[derive(Debug, Clone)]
pub(crate) struct Spool(PathBuf);

impl Spool {
    /// Opens the spool, and removes what belongs to no upload that goes on. Blocks.
    pub(crate) fn open(state: &Path, going_on: &BTreeSet<Batch>) -> io::Result<Self> {
        let it = Self(state.join(FOLDER));
        DirBuilder::new().recursive(true).mode(0o700).create(&it.0)?;
        let kept: BTreeSet<PathBuf> = going_on.iter().map(|batch| it.folder(*batch)).collect();
        for entry in std::fs::read_dir(&it.0)? {
            let path = entry?.path();
            if !kept.contains(&path) {
                std::fs::remove_dir_all(&path)?;
            }
        }
        Ok(it)
    }

    /// The folder of an upload.
    fn folder(&self, batch: Batch) -> PathBuf {
        self.0.join(batch.to_string())
    }

    /// Says whether so many bytes more may be spooled. Blocks.
    ///
    /// # Errors
    /// One whose source is [`NoRoom`], or what the system says.
    pub(crate) fn check_room(&self, asked: u64) -> io::Result<()> {
        let stat = rustix::fs::statvfs(&self.0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(fits(bytes(stat.f_bavail), bytes(stat.f_blocks), asked)?)
    }

    /// Makes a file of an upload, which nobody else reads. Blocks.
    pub(crate) fn create(&self, batch: Batch, name: &str) -> io::Result<File> {
        let folder = self.folder(batch);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        sync(&self.0)?;
        let file = File::options().create_new(true).read(true).write(true).mode(0o600).open(folder.join(name))?;
        sync(&folder)?;
        Ok(file)
    }

    /// Returns where a file of an upload is.
    pub(crate) fn path(&self, batch: Batch, name: &str) -> PathBuf {
        self.folder(batch).join(name)
    }

    /// Opens a file of an upload. Blocks.
    pub(crate) fn file(&self, batch: Batch, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path(batch, name))
    }

    /// Removes a file of an upload, if it is there. Blocks.
    pub(crate) fn remove_file(&self, batch: Batch, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.folder(batch).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes all of an upload. Blocks.
    pub(crate) fn remove(&self, batch: Batch) -> io::Result<()> {
        match std::fs::remove_dir_all(self.folder(batch)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Says whether `asked` bytes fit on a file system that has so many free, of so many, and keeps its reserve.
fn fits(free: u64, total: u64, asked: u64) -> Result<(), NoRoom> {
    let reserve = RESERVE_BYTES.min(total / 100 * RESERVE_PERCENT);
    let room = free.saturating_sub(reserve);
    if asked <= room { Ok(()) } else { Err(NoRoom { room, asked }) }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_reserve_stays_free_for_what_must_be_written_to_free_the_rest() {
        let (mib, small) = (1 << 20, 1000 << 20);
        assert_eq!(fits(300 * mib, 1 << 40, 44 * mib), Ok(()));
        assert_eq!(fits(300 * mib, 1 << 40, 44 * mib + 1), Err(NoRoom { room: 44 * mib, asked: 44 * mib + 1 }));
        assert_eq!(fits(60 * mib, small, 10 * mib), Ok(()), "5 % of a small disk");
        assert_eq!(fits(0, small, 0), Ok(()));
        assert_eq!(fits(0, small, 1), Err(NoRoom { room: 0, asked: 1 }));
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &BTreeSet::new()).unwrap();
        assert_eq!(spool.check_room(u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_goes_on_is_there_after_a_start_and_what_does_not_is_gone() {
        let state = tempfile::tempdir().unwrap();
        let spool = Spool::open(state.path(), &BTreeSet::new()).unwrap();
        let [on, gone] = [1, 2].map(|at| Batch([at; 16]));
        for batch in [on, gone] {
            spool.create(batch, "1").unwrap().write_all(b"abc").unwrap();
        }
        let spool = Spool::open(state.path(), &[on].into()).unwrap();
        assert!(spool.file(on, "1").is_ok() && spool.file(gone, "1").is_err());
        spool.remove(on).unwrap();
        spool.remove(on).unwrap();
        assert!(spool.file(on, "1").is_err());
    }
}
