//! Atomic and durable writes of private files: after a crash a file has its old or its new bytes, and only its owner
//! may read it.
//!
//! Order of a write: temporary file beside the target (mode 0600), bytes, fsync, rename, fsync of the folder. A
//! crash leaves at most a temporary file, `NAME.PID.N.new`, which nothing reads; of a long name it has the beginning. A
//! folder that is made and a file that is removed are synced likewise.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

pub(crate) use client::sync_folder;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// Bytes of a name that its temporary file has too. File systems take names of 255 bytes, and so does `put`.
const NAME_BYTES_KEPT: usize = 200;

/// Replaces the content of `path` by `bytes`.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes)?;
    std::fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Removes the temporary files that crashes left beside `path`. The caller keeps other writers of `path` out.
pub(crate) fn sweep(path: &Path) -> io::Result<()> {
    let (folder, name) = (client::folder_of(path), path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let rest = found.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".new"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if rest.and_then(|rest| rest.split_once('.')).is_some_and(|(pid, call)| is_number(pid) && is_number(call)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Creates `path` with `bytes`. If `path` exists, the error is [`io::ErrorKind::AlreadyExists`].
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes)?;
    place(&temporary, path)?;
    sync_folder(path)
}

/// Gives a file its name, unless another has it: of two programs that create one at once, one fails. NFS has no rename
/// that replaces nothing, and FAT has no links.
fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    let placed = match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::hard_link(temporary, path),
        Err(error) => Err(error.into()),
    };
    let removed = std::fs::remove_file(temporary);
    placed.and(removed)
}

/// Removes `path`.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    sync_folder(path)
}

/// Creates a folder for private files, which only its owner can read.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    client::make_folder(path, &builder)
}

/// Opens a file. If this call creates it, it gets the mode of a private file, 0600.
pub(crate) fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Locks a file, and waits for other programs that have it locked. Returns false when they still have it after `wait`.
pub(crate) fn lock(file: &File, wait: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            // The standard library has no lock with a deadline, so this tries every 5 ms.
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

/// Returns the path of a temporary file beside a target. Each call returns a different one, so that two writers do not
/// mix their bytes.
pub(crate) fn temporary_of(path: &Path) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = &name[..name.floor_char_boundary(NAME_BYTES_KEPT)];
    path.with_file_name(format!("{name}.{}.{call}.new", std::process::id()))
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let temporary = temporary_of(path);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_private(OpenOptions::new().write(true).create_new(true), &temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Partial files should not keep a full disk full. If removing fails too, the first error is the one that
        // matters.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map(|()| temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creating_never_replaces_and_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"first").unwrap();
        assert_eq!(create(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn the_longest_names_have_temporary_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x".repeat(255), "\u{fc}".repeat(127), "\u{6f22}".repeat(85)] {
            let path = folder.path().join(name);
            replace(&path, b"x").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"x");
        }
    }
}
