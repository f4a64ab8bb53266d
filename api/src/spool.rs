//! Where uploads wait that come in several requests: a folder for each, beside the store. What was acknowledged of them
//! is durable there.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;
use twin::Batch;

use crate::{refusal::Refusal, service::Service, tus::spool_fault};

/// The folder, in the owner's state folder.
const FOLDER: &str = "spool";

/// So much of its file system stays free of uploads: the index, the API's file and, on a small network, the catalog
/// lie there too, and must be writable to give anything back. Of a small file system it is 5 %.
const RESERVE_BYTES: u64 = 256 << 20;
const RESERVE_PERCENT: u64 = 5;

/// Too little is free under the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the twin's disk has room for {room} bytes of uploads beside those that others were promised, not for {asked}; \
     free some space there, or send less"
)]
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

    /// Says whether so many bytes more may be spooled, beside `promised` ones of others that are still to come. Blocks.
    ///
    /// # Errors
    /// One whose source is [`NoRoom`], or what the system says.
    pub(crate) fn check_room(&self, asked: u64, promised: u64) -> io::Result<()> {
        let stat = rustix::fs::statvfs(&self.0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(fits(bytes(stat.f_bavail), bytes(stat.f_blocks), asked, promised)?)
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

    /// Removes all of an upload. Blocks.
    pub(crate) fn remove(&self, batch: Batch) -> io::Result<()> {
        match std::fs::remove_dir_all(self.folder(batch)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

impl Service {
    /// Does work on the spool's disk, on a thread that may block.
    pub(crate) async fn on_spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let spool = self.spool.clone();
        spawn_blocking(move || work(&spool)).await.map_err(|_| Refusal::stopping())?.map_err(spool_fault)
    }

    /// Refuses `own` bytes, which were taken of the spool's account, where the disk has no room for them beside what
    /// others were promised and did not send yet. Returns how much that is.
    pub(crate) async fn check_room(&self, own: u64) -> Result<u64, Refusal> {
        // In this order: what is given back in between counts as promised still.
        let all = self.spooled.all();
        let promised = all.saturating_sub(own).saturating_sub(self.store.lying().await?);
        self.on_spool(move |spool| spool.check_room(own, promised)).await?;
        Ok(promised)
    }
}

/// Says whether `asked` bytes fit on a file system that has so many free, of so many, keeps its reserve, and was
/// promised to others in part.
fn fits(free: u64, total: u64, asked: u64, promised: u64) -> Result<(), NoRoom> {
    let reserve = RESERVE_BYTES.min(total / 100 * RESERVE_PERCENT);
    let room = free.saturating_sub(reserve).saturating_sub(promised);
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
        assert_eq!(fits(300 * mib, 1 << 40, 44 * mib, 0), Ok(()));
        assert_eq!(fits(300 * mib, 1 << 40, 44 * mib + 1, 0), Err(NoRoom { room: 44 * mib, asked: 44 * mib + 1 }));
        assert_eq!(fits(60 * mib, small, 10 * mib, 0), Ok(()), "5 % of a small disk");
        assert_eq!(fits(0, small, 0, 0), Ok(()));
        assert_eq!(fits(0, small, 1, 0), Err(NoRoom { room: 0, asked: 1 }));
        assert_eq!(fits(300 * mib, 1 << 40, 4 * mib, 40 * mib), Ok(()));
        assert_eq!(fits(300 * mib, 1 << 40, 5 * mib, 40 * mib), Err(NoRoom { room: 4 * mib, asked: 5 * mib }));
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &BTreeSet::new()).unwrap();
        assert_eq!(spool.check_room(u64::MAX, 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
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
