//! What tells that a file is the one it was: its length, when it was changed, and its place on the disk.

use std::{
    fs::Metadata,
    time::{Duration, UNIX_EPOCH},
};

pub(super) const STAMP_BYTES: usize = 36;

/// A file at some time. What has the same stamp is read as the same bytes; that they are, is proven stripe by stripe
/// before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Duration,
    device: u64,
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        let modified = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        #[cfg(unix)]
        let (device, inode) = {
            use std::os::unix::fs::MetadataExt;
            (file.dev(), file.ino())
        };
        #[cfg(not(unix))]
        let (device, inode) = (0, 0);
        Self { length: file.len(), modified, device, inode }
    }

    pub(super) fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        for (at, number) in [self.length, self.modified.as_secs(), self.device, self.inode].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[32..].copy_from_slice(&self.modified.subsec_nanos().to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; STAMP_BYTES]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("8 of 36 bytes"));
        let nanos = u32::from_le_bytes(bytes[32..].try_into().expect("the last 4 bytes"));
        let modified = Duration::from_secs(number(1)).saturating_add(Duration::from_nanos(nanos.into()));
        Self { length: number(0), modified, device: number(2), inode: number(3) }
    }
}
