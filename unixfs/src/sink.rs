//! Who is told of the blocks that importing makes.

use crate::Cid;

/// One block of a DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block<'a> {
    /// A part of the content as it is, which whoever imports still has or can find again.
    Raw {
        /// Its name.
        cid: Cid,
        /// Where it begins in the content, in bytes.
        offset: u64,
        /// Its length.
        bytes: usize,
    },
    /// A node: of a directory, of a file above its leaves, or a leaf wrapped into a node.
    Node {
        /// Its name.
        cid: Cid,
        /// All of it.
        block: &'a [u8],
    },
}

/// Who is told of each block, children before the nodes that link to them. `()` is nobody.
pub trait Sink {
    /// Takes a block.
    fn take(&mut self, block: Block<'_>);
}

impl Sink for () {
    fn take(&mut self, _block: Block<'_>) {}
}

impl<F: FnMut(Block<'_>)> Sink for F {
    fn take(&mut self, block: Block<'_>) {
        self(block);
    }
}

/// The top of a DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Its name.
    pub cid: Cid,
    /// The bytes of all its blocks, repeated ones counted again: what links to it say as their size.
    pub tsize: u64,
}
