//! A file that only takes room. Others may fill the disk, and the reserve that shards leave free with it; what an
//! erasure must write then gets the room of this file. It comes back once there is room again.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

use client::Unwritable;
use rustix::fs::FallocateFlags;

use super::{Store, StoreError};

/// Room for some dozen tombstones of the largest records, or for thousands of usual ones: each replaces a record that
/// was longer.
const BALLAST_BYTES: u64 = 1 << 20;

impl Store {
    /// Makes the file unless it is there or the room is needed for more. At most once for each sweep, so failing only
    /// puts it off.
    pub(crate) fn keep_ballast(&self) {
        let path = self.ballast_path();
        if path.exists() || self.space().is_ok_and(|space| space.usable_bytes() <= BALLAST_BYTES) {
            return;
        }
        // Half a file would be taken for a whole one.
        if let Err(error) = self.make_ballast() {
            tracing::warn!(%error, "no room can be kept for erasures");
            let _ = fs::remove_file(path);
        }
    }

    fn make_ballast(&self) -> io::Result<()> {
        let file = File::create(self.ballast_path())?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES) {
            // Some file systems cannot, and what is not written there takes no room.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                io::copy(&mut io::Read::take(io::repeat(1), BALLAST_BYTES), &mut &file).map(drop)
            }
            done => Ok(done?),
        }
    }

    /// Writes what makes room or must not wait for it, if need be in the place of the file.
    pub(super) fn with_ballast<T>(&self, mut write: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match write() {
            Err(StoreError::Io { source, .. })
                if Unwritable::of(&source) == Some(Unwritable::Full)
                    && fs::remove_file(self.ballast_path()).is_ok() =>
            {
                tracing::error!("the disk is full: the room that was kept for erasures is in use");
                write()
            }
            done => done,
        }
    }

    fn ballast_path(&self) -> PathBuf {
        self.root.join("ballast")
    }
}
