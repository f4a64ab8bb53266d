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

    /// Makes a file of an upload, which nobody else reads. Blocks.
    pub(crate) fn create(&self, batch: Batch, name: &str) -> io::Result<File> {
        let folder = self.folder(batch);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        sync(&self.0)?;
        let file = File::options().create_new(true).read(true).write(true).mode(0o600).open(folder.join(name))?;
        sync(&folder)?;
        Ok(file)
    }

    /// Opens a file of an upload. Blocks.
    pub(crate) fn file(&self, batch: Batch, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).open(self.folder(batch).join(name))
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

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

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
