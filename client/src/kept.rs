//! Small files that a node keeps over restarts: read within a bound, replaced as a whole. After a crash a file has its
//! old or its new bytes.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    path::Path,
};

/// Reads a kept file; none when there is none yet.
///
/// # Errors
/// The error of the operating system; [`io::ErrorKind::FileTooLarge`] above `bytes_max`.
pub fn read_kept(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}

/// Replaces a kept file, for this user alone to read, and makes its folder if need be. Blocks on the disk: bytes,
/// fsync, rename, fsync of the folder.
///
/// # Errors
/// The error of the operating system; the old file stays then.
pub fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    make_folder(folder, &DirBuilder::new())?;
    let mut file = tempfile::Builder::new().prefix(".evernear-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Makes a folder, and those above it that are missing, each durably: a file is not durable in a folder that is not.
/// Blocks on the disk.
///
/// # Errors
/// The error of the operating system.
pub fn make_folder(path: &Path, builder: &DirBuilder) -> io::Result<()> {
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some() => {
            make_folder(folder_of(path), builder)?;
            make_folder(path, builder)
        }
        Err(_) if path.is_dir() => Ok(()),
        made => made.and_then(|()| sync_folder(path)),
    }
}

/// Makes what was created, renamed, linked or removed at a path durable: fsync of its folder. Blocks on the disk.
///
/// # Errors
/// The error of the operating system.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Returns the folder in which a path lies.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kept_file_is_replaced_whole_and_read_within_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/kept");
        assert_eq!(read_kept(&path, 9).unwrap(), None);
        for bytes in [&b"first"[..], b"", b"the third"] {
            keep(&path, bytes).unwrap();
            assert_eq!(read_kept(&path, 9).unwrap().unwrap(), bytes);
        }
        assert_eq!(read_kept(&path, 8).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(keep(&folder.path().join("file/below"), b"").is_err());
    }

    #[test]
    fn folders_are_made_down_to_the_last_and_may_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        for _ in 0..2 {
            make_folder(&deep, &DirBuilder::new()).unwrap();
            assert!(deep.is_dir());
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for path in [link.clone(), link.join("below"), "".into()] {
            assert!(make_folder(&path, &DirBuilder::new()).is_err(), "{}", path.display());
        }
    }
}
