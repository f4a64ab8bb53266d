//! Why a DAG cannot be walked.

use crate::{Cid, DataError, NodeError, VerifyError};

/// Why a DAG cannot be walked. Who made it is at fault, but where something else is said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The block is not what its name says. Who gave it is at fault.
    #[error("{cid}: {source}")]
    Verify {
        /// The name.
        cid: Box<Cid>,
        /// Why.
        source: VerifyError,
    },
    /// The block is over the limit.
    #[error("{cid}: block too big: {bytes} > {}", crate::limits::BLOCK_BYTES_MAX)]
    BlockTooBig {
        /// Its name.
        cid: Box<Cid>,
        /// Its length.
        bytes: u64,
    },
    /// Nothing of that sort is wanted. Who gave it is at fault.
    #[error("no block of this codec is wanted")]
    NotWanted,
    /// A block is no dag-pb node.
    #[error("{cid}: {source}")]
    Node {
        /// Its name.
        cid: Box<Cid>,
        /// Why.
        source: NodeError,
    },
    /// A node is not of UnixFS.
    #[error("{cid}: {source}")]
    Data {
        /// Its name.
        cid: Box<Cid>,
        /// Why.
        source: DataError,
    },
    /// A node is something else than may be where it is, as a directory inside of a file.
    #[error("{cid} is not what may be at its place")]
    Unexpected {
        /// Its name.
        cid: Box<Cid>,
    },
    /// A name in a directory is no name, or it is there twice.
    #[error("{cid}: the directory has {name:?}, which is no name, or is there twice, or is not in its slot")]
    Name {
        /// The directory.
        cid: Box<Cid>,
        /// The first 300 characters of it.
        name: String,
    },
    /// A sharded directory hashes names in a way that is not known, or its slots are not as it says.
    #[error("{cid}: the sharded directory is not of 256 slots by Murmur3, or its links are not those of its slots")]
    Shard {
        /// The node.
        cid: Box<Cid>,
    },
    /// A file's node does not say the size of each of its parts, or these are not the size it says.
    #[error("{cid}: the node of a file has other sizes than its parts")]
    Sizes {
        /// The node.
        cid: Box<Cid>,
    },
    /// A part of a file has another size than the node above it says.
    #[error("{cid} has {bytes} bytes, and the node above it says {said}")]
    Size {
        /// The part.
        cid: Box<Cid>,
        /// What the node above says.
        said: u64,
        /// What it has.
        bytes: u64,
    },
    /// The DAG goes further than the bounds of the walk.
    #[error("the DAG has more than {most} {what}, at {path:?}")]
    Over {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        most: u64,
        /// Where, by its first 300 characters.
        path: String,
    },
}
