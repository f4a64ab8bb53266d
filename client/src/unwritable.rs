//! Why a disk takes no write: the one look for it at the causes of an error, so that every program tells it the same
//! way.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    path::Path,
};

/// What a database writes at least.
const PAGE: [u8; 4096] = [0; 4096];

/// Why a disk takes no write, which is nobody's fault and passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// No room is left, for this user at least.
    Full,
    /// It is mounted so that nothing can be written, or the system made it so after an error.
    ReadOnly,
}

impl Unwritable {
    /// Finds it in an error, or among its causes.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Some(Self::Full),
            Some(io::ErrorKind::ReadOnlyFilesystem) => Some(Self::ReadOnly),
            _ => error.source().and_then(Self::of),
        }
    }

    /// Finds out whether a page can be written in a folder. Leaves nothing there. Blocks on the disk.
    #[must_use]
    pub fn of_folder(folder: &Path) -> Option<Self> {
        let write = || {
            let mut file = tempfile::tempfile_in(folder)?;
            file.write_all(&PAGE).and_then(|()| file.sync_all())
        };
        write().err().and_then(|error: io::Error| Self::of(&error))
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Full => "is full; free some space there",
            Self::ReadOnly => {
                "is read-only; mount it so that it can be written (`dmesg` tells whether an error made it so)"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("x cannot be written")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn a_full_and_a_read_only_disk_are_found_among_the_causes_and_nothing_else_is_one() {
        let of = |kind: io::ErrorKind| {
            let direct = Unwritable::of(&io::Error::from(kind));
            assert_eq!(Unwritable::of(&Wrapped(kind.into())), direct);
            assert_eq!(Unwritable::of(&io::Error::other(Wrapped(kind.into()))), direct);
            direct
        };
        assert_eq!(of(io::ErrorKind::StorageFull), Some(Unwritable::Full));
        assert_eq!(of(io::ErrorKind::QuotaExceeded), Some(Unwritable::Full));
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), Some(Unwritable::ReadOnly));
        assert_eq!(of(io::ErrorKind::PermissionDenied), None);
    }
}
