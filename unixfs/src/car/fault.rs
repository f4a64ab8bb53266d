//! Why something is no CAR that is taken: in the words of nft.storage, where it refused the same.

use crate::{
    Cid, CidError, LinksError, VerifyError,
    limits::{BLOCK_BYTES_MAX, CAR_HEADER_BYTES_MAX, VARINT_BYTES_MAX},
};

/// Why something is no CAR that is taken. Who sent it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    /// A length is longer than it must be, or above 64 bits.
    #[error("the length at byte {at} is no number of at most {VARINT_BYTES_MAX} bytes in its shortest form")]
    Length {
        /// Where it begins, in bytes.
        at: u64,
    },
    /// The header is not what CARv1 has.
    #[error("the header is not that of a CAR: a map with `roots` and `version`")]
    Header,
    /// The header is over the limit.
    #[error("header too big: {bytes} > {CAR_HEADER_BYTES_MAX}")]
    HeaderTooBig {
        /// As it was announced.
        bytes: u64,
    },
    /// The CAR is of another version.
    #[error("CAR version {version} is not supported; send the CARv1 that is inside, or make one")]
    Version {
        /// As the header says it.
        version: u64,
    },
    /// The header names no root.
    #[error("missing roots")]
    MissingRoots,
    /// The header names more than one root.
    #[error("too many roots")]
    TooManyRoots,
    /// The root is no CID.
    #[error("the root is no CID: {0}")]
    Root(CidError),
    /// The CID of a section is none, or longer than the section.
    #[error("the section at byte {at} does not begin with a CID: {source}")]
    Cid {
        /// Where its CID begins, in bytes.
        at: u64,
        /// Why.
        source: CidError,
    },
    /// A block is over the limit.
    #[error("block too big: {bytes} > {BLOCK_BYTES_MAX}")]
    BlockTooBig {
        /// As it was announced.
        bytes: u64,
    },
    /// A block does not have its name.
    #[error("failed hash verification: {cid}: {source}")]
    Verify {
        /// The name.
        cid: Cid,
        /// Why.
        source: VerifyError,
    },
    /// The root's block is not what its codec says.
    #[error("the root cannot be read: {0}")]
    RootBlock(LinksError),
    /// The input ended within something.
    #[error("the CAR is cut off at byte {at}")]
    CutOff {
        /// Its length.
        at: u64,
    },
    /// There is a header and nothing else.
    #[error("empty CAR")]
    Empty,
    /// The block that the header names is not there.
    #[error("missing root block")]
    MissingRootBlock,
    /// The root leads on, and nothing is there but itself.
    #[error("CAR must contain at least one non-root block")]
    RootAlone,
}
