//! What lies where a catalog in SQLite should, before SQLite is asked: beside a file that is missing or empty it
//! removes the log, which may have all that the catalog had.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use client::Unwritable;

/// The file that a path leads to. SQLite follows links, and keeps the log beside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteFile {
    path: PathBuf,
}

impl SqliteFile {
    /// Follows links, also to a file that is not there. Blocks on the disk, as all of this does.
    ///
    /// # Errors
    /// That of the system.
    pub fn at(path: &Path) -> io::Result<Self> {
        match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
                Ok(target) => Self::at(&client::folder_of(path).join(target)),
                Err(_) => Ok(Self { path: path.to_owned() }),
            },
            followed => followed.map(|path| Self { path }),
        }
    }

    /// Returns where the file is, or would be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns one of the files of which a database consists: `end` is `-wal`, `-shm` or nothing.
    #[must_use]
    pub fn part(&self, end: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(end);
        name.into()
    }

    /// Returns the length of the file, if it is there.
    ///
    /// # Errors
    /// That of the system.
    pub fn length(&self) -> io::Result<Option<u64>> {
        length(&self.path)
    }

    /// Returns the log, if it has something and the file it belongs to has nothing.
    ///
    /// # Errors
    /// That of the system.
    pub fn lone_log(&self) -> io::Result<Option<PathBuf>> {
        let log = self.part("-wal");
        let is_alone = is_nothing(self.length()?) && !is_nothing(length(&log)?);
        Ok(is_alone.then_some(log))
    }

    /// Returns whether nothing is there that could be a catalog.
    ///
    /// # Errors
    /// That of the system.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(is_nothing(self.length()?))
    }

    /// Returns whether the disk is full or read-only.
    pub(super) fn is_unwritable(&self) -> bool {
        Unwritable::of_folder(client::folder_of(&self.path)).is_some()
    }
}

fn is_nothing(length: Option<u64>) -> bool {
    length.is_none_or(|length| length == 0)
}

fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(|found| Some(found.len())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_log_is_alone_beside_a_file_that_is_missing_or_empty_also_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("catalog.sqlite"), elsewhere.path().join("c"));
        symlink(&file, dir.path().join("between")).unwrap();
        symlink("between", &link).unwrap();
        let at = || SqliteFile::at(&link).unwrap();
        let log = elsewhere.path().join("c-wal");
        assert_eq!((at().path(), at().length().unwrap(), at().lone_log().unwrap()), (&*file, None, None));
        // One beside the link is of nothing.
        fs::write(dir.path().join("catalog.sqlite-wal"), "log").unwrap();
        fs::write(&log, "").unwrap();
        assert_eq!(at().lone_log().unwrap(), None);
        fs::write(&log, "log").unwrap();
        assert_eq!(at().lone_log().unwrap(), Some(log.clone()));
        fs::write(&file, "").unwrap();
        let found = at();
        assert!(found.is_empty().unwrap());
        assert_eq!((found.path(), found.lone_log().unwrap()), (&*fs::canonicalize(&file).unwrap(), Some(log)));
        fs::write(&file, "some").unwrap();
        assert_eq!(
            (at().is_empty().unwrap(), at().lone_log().unwrap(), at().length().unwrap()),
            (false, None, Some(4))
        );
        assert!(!at().is_unwritable());
    }
}
