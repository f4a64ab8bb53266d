//! A disk that takes no write.

use std::{error::Error, fmt, io};

/// Why a disk takes no write, which is nobody's fault and passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// No room is left, for this user at least.
    Full,
    /// It is mounted so that nothing can be written, or the system made it so after an error.
    ReadOnly,
}

impl Unwritable {
    /// Finds it among the causes of an error.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Some(Self::Full),
            Some(io::ErrorKind::ReadOnlyFilesystem) => Some(Self::ReadOnly),
            _ => error.source().and_then(Self::of),
        }
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
