//! Blocks in memory, for tests: what importers tell goes in, what walkers want comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use unixfs::{Block, Bounds, Cid, Importer, Profile, Root, Step, Tree, WalkError, Walker};

/// Blocks by their names of version 1, and those that they were put under.
#[derive(Default, Clone)]
pub(crate) struct Store(pub(crate) BTreeMap<Cid, Bytes>, BTreeMap<Cid, Cid>);

/// What a walk told: paths to content, None for a directory.
pub(crate) type Files = BTreeMap<String, Option<Vec<u8>>>;

impl Store {
    pub(crate) fn put(&mut self, cid: Cid, block: &[u8]) {
        self.0.insert(cid.to_v1(), Bytes::copy_from_slice(block));
        self.1.insert(cid.to_v1(), cid);
    }

    /// All blocks under the names that they were put under.
    pub(crate) fn names(&self) -> impl Iterator<Item = (Cid, Bytes)> {
        self.0.iter().map(|(v1, block)| (self.1[v1], block.clone()))
    }

    pub(crate) fn block(&self, cid: &Cid) -> Option<&Bytes> {
        self.0.get(&cid.to_v1())
    }

    /// Imports one file, in slices of some length.
    pub(crate) fn file(&mut self, profile: Profile, content: &[u8], slice: usize) -> Root {
        let mut sink = |block: Block<'_>| match block {
            Block::Raw { cid, offset, bytes } => {
                let offset = usize::try_from(offset).unwrap();
                self.put(cid, &content[offset..offset + bytes]);
            }
            Block::Node { cid, block } => self.put(cid, block),
        };
        let mut importer = Importer::new(profile);
        content.chunks(slice).for_each(|part| importer.write(part, &mut sink));
        let file = importer.finish(&mut sink);
        assert_eq!(file.bytes, content.len() as u64);
        file.root
    }

    /// Imports a tree; paths that end in a slash are directories.
    pub(crate) fn tree<'a>(&mut self, profile: Profile, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Root {
        let mut tree = Tree::new(profile);
        for (path, content) in files {
            match path.strip_suffix('/') {
                Some(path) => tree.insert_directory(path).unwrap(),
                None => tree.insert(path, self.file(profile, content, 1000)).unwrap(),
            }
        }
        let mut sink = |block: Block<'_>| {
            if let Block::Node { cid, block } = block {
                self.put(cid, block);
            }
        };
        tree.finish(&mut sink).unwrap()
    }

    /// Walks a DAG and puts its files together.
    pub(crate) fn walk(&self, root: Cid, bounds: Bounds) -> Result<Files, WalkError> {
        let (mut walker, mut files) = (Walker::new(root, bounds), Files::new());
        let mut open: Option<(String, u64, Vec<u8>)> = None;
        loop {
            let step = walker.step()?;
            if !matches!(step, Step::Leaf { .. } | Step::Inline(_) | Step::Block(_) | Step::Length(_))
                && let Some((path, bytes, content)) = open.take()
            {
                assert_eq!(content.len() as u64, bytes, "{path}");
                assert!(files.insert(path, Some(content)).is_none());
            }
            match step {
                Step::Block(cid) => walker.give(self.block(&cid).unwrap().clone())?,
                Step::Length(cid) => walker.give_length(self.block(&cid).unwrap().len() as u64)?,
                Step::Directory { path } => assert!(files.insert(path + "/", None).is_none()),
                Step::File { path, bytes } => open = Some((path, bytes, Vec::new())),
                Step::Leaf { cid, bytes } => {
                    let block = self.block(&cid).unwrap();
                    assert_eq!(block.len() as u64, bytes);
                    open.as_mut().unwrap().2.extend_from_slice(block);
                }
                Step::Inline(part) => open.as_mut().unwrap().2.extend_from_slice(&part),
                Step::Symlink { path, target } => drop(files.insert(path, Some(target.to_vec()))),
                Step::Other { path, cid } => drop(files.insert(path, Some(cid.to_bytes()))),
                Step::End => return Ok(files),
            }
        }
    }
}
