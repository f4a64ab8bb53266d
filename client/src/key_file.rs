//! Files with keys or other secrets. They are small and closed to the machine's other users. Every program reads its
//! own secrets through this module.
//!
//! The owner and, if needed, a group may read such a file: this is how root gives a key to a service. A file that
//! everybody can read is refused. A warning is not enough, because people read it after the key has leaked.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Maximum bytes of a key, certificate or configuration. A larger file is none of these.
pub const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// The permission bits of users outside the owner and the group.
const OTHERS: u32 = 0o007;

/// Why a key file is refused. The operator must fix it.
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
    /// The file is too large to be a key file.
    #[error("{} is larger than 64 KiB, which no key is", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// Every user of this machine may access the file.
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

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_key_file(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // The mode is that of the open file, so the file checked is the file read.
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
