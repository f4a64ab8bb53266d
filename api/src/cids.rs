//! CIDs of what is uploaded, computed while the bytes go by: on nft.storage's paths those that nft.storage made, on
//! others those of the profile `unixfs-v1-2025` (IPIP-0499). Nothing of the content is kept.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use unixfs::{Cid, Importer, Profile, Root, Tree, TreeError};

/// The CID of a file whose bytes go by.
#[derive(Clone)]
pub(crate) struct Passing {
    profile: Profile,
    importer: Arc<Mutex<Importer>>,
}

/// A reader whose bytes are counted in.
pub(crate) struct Tapped<R> {
    from: R,
    passing: Passing,
}

/// The CID of a folder.
pub(crate) struct Folder(Tree);

/// The name of a DAG, and how much its blocks take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dag {
    pub(crate) cid: Cid,
    pub(crate) bytes: u64,
}

impl From<Root> for Dag {
    fn from(root: Root) -> Self {
        Self { cid: root.cid, bytes: root.tsize }
    }
}

impl Passing {
    pub(crate) fn new(profile: Profile) -> Self {
        Self { profile, importer: Arc::new(Mutex::new(Importer::new(profile))) }
    }

    /// Counts bytes in.
    pub(crate) fn see(&self, bytes: &[u8]) {
        self.importer.lock().unwrap_or_else(PoisonError::into_inner).write(bytes, &mut ());
    }

    /// Returns a reader that counts in what is read of another.
    pub(crate) fn tap<R: Read>(&self, from: R) -> Tapped<R> {
        Tapped { from, passing: self.clone() }
    }

    /// Returns the root of all bytes so far, and begins anew.
    pub(crate) fn root(&self) -> Root {
        let mut importer = self.importer.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *importer, Importer::new(self.profile)).finish(&mut ()).root
    }
}

impl<R: Read> Read for Tapped<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.from.read(into)?;
        self.passing.see(&into[..bytes]);
        Ok(bytes)
    }
}

impl Folder {
    pub(crate) fn new(profile: Profile) -> Self {
        Self(Tree::new(profile))
    }

    /// Adds a file.
    pub(crate) fn insert(&mut self, path: &str, root: Root) -> Result<(), TreeError> {
        self.0.insert(path, root)
    }

    /// Returns the DAG of the whole.
    pub(crate) fn finish(self) -> Result<Dag, TreeError> {
        self.0.finish(&mut ()).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cid_of_what_was_read_does_not_hang_on_how_it_was_read() {
        let bytes: Vec<u8> = (0..700_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let of = |slice: usize| {
            let passing = Passing::new(Profile::NFT_CLASSIC);
            let (first, rest) = bytes.split_at(slice);
            passing.see(first);
            let mut sink = Vec::new();
            passing.tap(rest).read_to_end(&mut sink).unwrap();
            assert_eq!(sink, rest);
            passing.root()
        };
        assert!(of(1) == of(300_000) && of(0) == of(699_999));
        let hello = Passing::new(Profile::UNIXFS_V1_2025);
        hello.see(b"hello world");
        assert_eq!(hello.root().cid.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    }
}
