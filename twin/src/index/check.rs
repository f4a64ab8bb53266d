//! A look at the whole index that changes nothing: what it holds, and its first fault.

use std::path::PathBuf;

use format::OwnerSecret;

use super::{Index, IndexError, log::Stop};

/// What the file of an index holds, up to its first fault.
#[derive(Debug)]
pub struct IndexCheck {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes up to the fault, or to the end.
    pub good_bytes: u64,
    /// Frames in them. A frame is what was written at once.
    pub frames: usize,
    /// Entries in these frames that are the newest of their object.
    pub live: usize,
    /// Entries that later ones supersede. Compaction drops them.
    pub dead: usize,
    /// Whether a crash cut the last write short. The next write puts its bytes aside.
    pub is_torn: bool,
    /// Why the index cannot be used.
    pub fault: Option<IndexError>,
}

impl Index {
    /// Reads the whole index at `path` and changes nothing. Waits while another program writes.
    ///
    /// # Errors
    /// [`IndexError`] when nothing of it can be read.
    pub fn check(path: impl Into<PathBuf>, secret: &OwnerSecret) -> Result<IndexCheck, IndexError> {
        let index = Self::unread(path.into(), secret);
        let _lock = index.lock()?;
        let (_, bytes, log) = index.read()?;
        Ok(IndexCheck {
            bytes: bytes.len() as u64,
            good_bytes: log.end as u64,
            frames: log.frames,
            live: log.entries.len(),
            dead: log.recorded - log.entries.len(),
            is_torn: log.stop == Stop::Torn,
            fault: index.fault(&log),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Write};

    use super::*;
    use crate::index::{frame, salt};

    #[test]
    fn what_a_later_version_wrote_is_no_damage_and_is_never_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let secret = OwnerSecret::from_bytes([7; 32]);
        let mut index = Index::open(&path, &secret).unwrap();
        let later = frame::seal(&index.key, &index.chain, salt().unwrap(), &[2, 1, 2, 3]);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&later).unwrap();
        let whole = std::fs::read(&path).unwrap();

        let opened = Index::open(&path, &secret).err();
        assert!(matches!(opened, Some(IndexError::Unknown { at: 44, .. })), "{opened:?}");
        let report = Index::check(&path, &secret).unwrap();
        assert!(matches!(report.fault, Some(IndexError::Unknown { at: 44, .. })) && !report.is_torn, "{report:?}");
        // A program that opened the index before does not write over it either.
        assert!(matches!(index.forget(&BTreeSet::new()), Err(IndexError::Unknown { .. })));
        assert!(matches!(index.compact(0), Err(IndexError::Unknown { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn an_index_of_a_later_version_is_told_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let secret = OwnerSecret::from_bytes([7; 32]);
        drop(Index::open(&path, &secret).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] = 2;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Index::open(&path, &secret), Err(IndexError::Version { found: 2, .. })));
    }
}
