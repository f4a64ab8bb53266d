//! Files that hold keys or other secrets: small, and closed to the other users of the machine. Every program reads its
//! own here.
//!
//! Readable by the owner and, if need be, a group: that is how root gives a key to a service. Readable by everybody is
//! refused and not warned of, because a warning of a key that leaks is read after it has leaked.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Keys, certificates and configurations are small; a larger file is not one.
pub const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Of a file's mode: what users beside owner and group may do.
const OTHERS: u32 = 0o007;

/// Why a file of a key is not used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is too large to be what it should be.
    #[error("{} is larger than 64 KiB, which no key is", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// Everybody on this machine may read the file.
    #[error(
        "{path} holds a key and is open to every user of this machine (mode {mode:03o}); close it: chmod o= {path}",
        path = path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Reads a file of a key.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_key_file(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the open file: what is looked at is what is read.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > KEY_FILE_BYTES_MAX { Err(KeyFileError::Large { path: path.to_owned() }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_that_everybody_may_read_is_refused_and_one_of_a_group_is_not() {
        let dir = std::env::temp_dir().join(format!("evernear-key-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("node.key");
        fs::write(&path, "secret").unwrap();
        for (mode, is_read) in
            [(0o600, true), (0o640, true), (0o400, true), (0o644, false), (0o604, false), (0o602, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read_key_file(&path);
            assert_eq!(read.is_ok(), is_read, "{mode:o}: {read:?}");
            assert!(is_read || read.unwrap_err().to_string().contains("chmod o= "));
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
