//! How much room a file system has, and the part of it that stays free.

use std::{io, path::Path};

/// A full file system fragments, and SQLite on it cannot even delete: so much of it is never given to shards.
const RESERVE_PERCENT: u64 = 5;

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What this process may still write.
    pub free_bytes: u64,
}

impl Space {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// Returns what is free above the reserve of 5 %.
    #[must_use]
    pub fn usable_bytes(self) -> u64 {
        self.free_bytes.saturating_sub(self.total_bytes / 100 * RESERVE_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_stays_free() {
        let at = |free_bytes| Space { total_bytes: 1000, free_bytes }.usable_bytes();
        assert_eq!((at(1000), at(51), at(50), at(0)), (950, 1, 0, 0));
    }
}
