//! What tells that a file is the one it was: its length, when it was written, and when anything of it was changed.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

const NUMBERS: usize = 5;
pub(super) const STAMP_BYTES: usize = NUMBERS * 8;

/// A file at some time. What has the same stamp is read as the same bytes; that they are, is proven stripe by stripe
/// before anything is sent.
///
/// Tools set the time of the last write back, and only the system sets that of the last change (ctime): a file that was
/// replaced or written to has another one, whatever its length and its other time say. So has one that got another mode
/// or link, which is then sent anew for nothing. The number of the device is not of it, because a reboot or a mount may
/// give another one, and neither is that of the inode, which some file systems make up at each mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    /// Seconds and nanoseconds since 1970, each.
    times: [i64; NUMBERS - 1],
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self { length: file.len(), times: [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()] }
    }

    /// Returns the stamp of what has no times: its length, and its hash in their place.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let hash = blake3::derive_key("evernear 2026 v1 stamp of what has no times", bytes);
        let (eight, _) = hash.as_chunks::<8>();
        let time = |at: usize| i64::from_le_bytes(eight[at]);
        Self { length: bytes.len() as u64, times: [time(0), time(1), time(2), time(3)] }
    }

    pub(crate) fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let (length, times) = bytes.split_at_mut(8);
        length.copy_from_slice(&self.length.to_le_bytes());
        for (bytes, time) in times.chunks_exact_mut(8).zip(self.times) {
            bytes.copy_from_slice(&time.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; STAMP_BYTES]) -> Self {
        let eight = |at: usize| bytes[at * 8..][..8].try_into().expect("8 of 40 bytes");
        let time = |at: usize| i64::from_le_bytes(eight(at));
        Self { length: u64::from_le_bytes(eight(0)), times: [time(1), time(2), time(3), time(4)] }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_replaced_under_its_old_time_and_length_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
        fs::write(&path, "first").unwrap();
        let (first, modified) = (stamp(), fs::metadata(&path).unwrap().modified().unwrap());
        assert_eq!((stamp(), Stamp::decode(&first.encode())), (first, first));
        // The clock of a file system goes on by some milliseconds at a time, so the first tries may be too early.
        let replace = || {
            let other = folder.path().join("other");
            fs::write(&other, "other").unwrap();
            fs::File::options().append(true).open(&other).unwrap().set_modified(modified).unwrap();
            fs::rename(&other, &path).unwrap();
            stamp() != first
        };
        assert!((0..1_000_000).any(|_| replace()));
    }
}
