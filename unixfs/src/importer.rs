//! The bytes of a file become the CID of a balanced DAG, as they come.
//!
//! Place in the flow: an upload writes into it what it writes elsewhere too. Nothing of the content is kept, but for
//! one chunk where leaves are nodes: a node begins with its length, which for the last one is known at the end. Keeps
//! true: how the bytes are sliced changes nothing. All leaves are at one depth, as boxo and Helia build it: a node is
//! closed when it is full, and whatever is open at the end is closed from below. Memory is at most one row of links a
//! level: 64 bytes each, 1024 on three levels for a TiB.

use crate::{
    Cid, Codec, Data, Kind, Leaves, Profile, Version,
    engine::{Sha256, sha256},
    node::{put_data, put_link},
    sink::{Block, Root, Sink},
};

/// Makes one file's DAG.
///
/// ```
/// use unixfs::{Importer, Profile};
///
/// let mut importer = Importer::new(Profile::UNIXFS_V1_2025);
/// importer.write(b"hello ", &mut ());
/// importer.write(b"world", &mut ());
/// let file = importer.finish(&mut ());
/// assert_eq!(file.root.cid.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
/// assert_eq!(file.bytes, 11);
/// ```
#[derive(Clone)]
pub struct Importer {
    profile: Profile,
    leaf: Leaf,
    /// Of the open leaf.
    leaf_bytes: usize,
    /// Before the open leaf.
    bytes: u64,
    /// What has no parent yet: leaves, then their parents, up to the top.
    levels: Vec<Vec<Child>>,
}

/// The leaf that is being filled.
#[derive(Clone)]
enum Leaf {
    Raw(Sha256),
    Node(Vec<u8>),
}

/// What a parent says of a child.
#[derive(Clone)]
struct Child {
    digest: [u8; 32],
    is_raw: bool,
    tsize: u64,
    bytes: u64,
}

/// A file that was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its DAG.
    pub root: Root,
    /// Of its content.
    pub bytes: u64,
}

impl Importer {
    /// Begins a file.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self { profile, leaf: Leaf::new(profile.leaves()), leaf_bytes: 0, bytes: 0, levels: Vec::new() }
    }

    /// Takes the next bytes of the content, in slices of any length, and tells the sink of the blocks that are done.
    pub fn write(&mut self, mut content: &[u8], sink: &mut impl Sink) {
        while !content.is_empty() {
            // A full leaf is closed when there is more to come: the last one may be the whole file.
            if self.leaf_bytes == self.profile.chunk_bytes() {
                self.close_leaf(sink);
            }
            let room = self.profile.chunk_bytes() - self.leaf_bytes;
            let (now, later) = content.split_at(room.min(content.len()));
            match &mut self.leaf {
                Leaf::Raw(hash) => hash.update(now),
                Leaf::Node(chunk) => chunk.extend_from_slice(now),
            }
            self.leaf_bytes += now.len();
            content = later;
        }
    }

    /// Ends the file. An empty one is an empty leaf.
    pub fn finish(mut self, sink: &mut impl Sink) -> File {
        self.close_leaf(sink);
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            if is_top && self.levels[level].len() == 1 {
                let child = &self.levels[level][0];
                let cid = child.cid(self.profile.version());
                return File { root: Root { cid, tsize: child.tsize }, bytes: self.bytes };
            }
            if !self.levels[level].is_empty() {
                self.close_node(level, sink);
            }
            level += 1;
        }
    }

    fn close_leaf(&mut self, sink: &mut impl Sink) {
        let bytes = std::mem::take(&mut self.leaf_bytes);
        let child = match std::mem::replace(&mut self.leaf, Leaf::new(self.profile.leaves())) {
            Leaf::Raw(hash) => {
                let child = Child { digest: hash.finish(), is_raw: true, tsize: bytes as u64, bytes: bytes as u64 };
                sink.take(Block::Raw { cid: child.cid(self.profile.version()), offset: self.bytes, bytes });
                child
            }
            Leaf::Node(mut chunk) => {
                let data = (!chunk.is_empty()).then(|| chunk.as_slice().into());
                let mut block = Vec::with_capacity(chunk.len() + 32);
                put_data(&mut block, &Data { data, file_bytes: Some(bytes as u64), ..Data::new(Kind::File) }.encode());
                let child = self.node(&block, bytes as u64, 0, sink);
                chunk.clear();
                self.leaf = Leaf::Node(chunk);
                child
            }
        };
        self.bytes += bytes as u64;
        self.put(0, child, sink);
    }

    /// Files a child under its level. A level that is full becomes a node of the next.
    fn put(&mut self, level: usize, child: Child, sink: &mut impl Sink) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(child);
        if self.levels[level].len() == self.profile.width() {
            self.close_node(level, sink);
        }
    }

    /// Makes one node of all that a level has.
    fn close_node(&mut self, level: usize, sink: &mut impl Sink) {
        let mut children = std::mem::take(&mut self.levels[level]);
        let mut block = Vec::with_capacity(children.len() * 56 + 16);
        for child in &children {
            put_link(&mut block, &child.cid(self.profile.version()), b"", child.tsize);
        }
        let bytes = children.iter().map(|child| child.bytes).sum();
        let block_bytes = children.iter().map(|child| child.bytes).collect();
        put_data(&mut block, &Data { file_bytes: Some(bytes), block_bytes, ..Data::new(Kind::File) }.encode());
        let below = children.iter().map(|child| child.tsize).sum();
        let node = self.node(&block, bytes, below, sink);
        children.clear();
        self.levels[level] = children;
        self.put(level + 1, node, sink);
    }

    fn node(&self, block: &[u8], bytes: u64, below: u64, sink: &mut impl Sink) -> Child {
        let child = Child { digest: sha256(block), is_raw: false, tsize: block.len() as u64 + below, bytes };
        sink.take(Block::Node { cid: child.cid(self.profile.version()), block });
        child
    }
}

impl Leaf {
    fn new(leaves: Leaves) -> Self {
        match leaves {
            Leaves::Raw => Self::Raw(Sha256::new()),
            Leaves::Nodes => Self::Node(Vec::new()),
        }
    }
}

impl Child {
    fn cid(&self, version: Version) -> Cid {
        match (self.is_raw, version) {
            (true, _) => Cid::v1(Codec::Raw, self.digest),
            (false, Version::V0) => Cid::v0(self.digest),
            (false, Version::V1) => Cid::v1(Codec::DagPb, self.digest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(profile: Profile, content: &[u8], slice: usize) -> (File, Vec<(Cid, usize)>) {
        let mut blocks = Vec::new();
        let mut importer = Importer::new(profile);
        for part in content.chunks(slice) {
            importer.write(part, &mut |block: Block<'_>| blocks.push(told(block, content)));
        }
        let file = importer.finish(&mut |block: Block<'_>| blocks.push(told(block, content)));
        (file, blocks)
    }

    fn told(block: Block<'_>, content: &[u8]) -> (Cid, usize) {
        match block {
            Block::Raw { cid, offset, bytes } => {
                let offset = usize::try_from(offset).unwrap();
                cid.verify(&content[offset..offset + bytes]).unwrap();
                (cid, bytes)
            }
            Block::Node { cid, block } => {
                cid.verify(block).unwrap();
                (cid, block.len())
            }
        }
    }

    #[test]
    fn slices_change_nothing_and_every_block_is_told_under_its_name() {
        let content: Vec<u8> = (0..1000_u32).flat_map(u32::to_le_bytes).collect();
        for leaves in [Leaves::Raw, Leaves::Nodes] {
            let profile = Profile::UNIXFS_V0_2015.with_leaves(leaves);
            let profile = profile.with_chunk_bytes(100).unwrap().with_width(3).unwrap();
            let (file, blocks) = import(profile, &content, usize::MAX >> 1);
            assert_eq!(file.bytes, 4000);
            assert_eq!(blocks.last().unwrap().0, file.root.cid);
            assert_eq!(blocks.iter().map(|(_, bytes)| *bytes as u64).sum::<u64>(), file.root.tsize);
            for slice in [1, 7, 99, 100, 101, 300, 3999] {
                assert_eq!(import(profile, &content, slice), (file, blocks.clone()), "{slice}");
            }
        }
    }

    #[test]
    fn all_leaves_are_at_one_depth_and_a_last_node_may_have_one_child() {
        let profile = Profile::UNIXFS_V1_2025.with_chunk_bytes(1).unwrap().with_width(2).unwrap();
        // Leaves, then nodes: ceil(n / 2) on each level, until one is left.
        for (leaves, nodes) in [(1, 0), (2, 1), (3, 2 + 1), (4, 2 + 1), (5, 3 + 2 + 1), (8, 7), (9, 5 + 3 + 2 + 1)] {
            let (_, blocks) = import(profile, &vec![7; leaves], 1);
            assert_eq!(blocks.len(), leaves + nodes, "{leaves}");
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_leaf() {
        let (file, blocks) = import(Profile::UNIXFS_V1_2025, b"", 1);
        assert_eq!(file.root.cid.to_string(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
        assert_eq!((file.bytes, file.root.tsize, blocks.len()), (0, 0, 1));
        let (file, _) = import(Profile::UNIXFS_V0_2015, b"", 1);
        assert_eq!(file.root.cid.to_string(), "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH");
        assert_eq!(file.root.tsize, 6);
    }
}
