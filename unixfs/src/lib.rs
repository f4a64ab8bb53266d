//! Files and directories as IPFS has them: CIDs, UnixFS, CAR.
//!
//! This crate is pure. It opens no file and no socket, reads no clock and draws no randomness: bytes and blocks go in
//! and come out. The twin makes the CIDs of its HTTP API with it, and takes CARs of others.
//!
//! | to make | to read |
//! |---|---|
//! | [`Importer`]: a file's bytes to a CID | [`Walker`]: a CID to files, their parts in order |
//! | [`Directory`], [`Tree`]: paths to a CID | [`Completeness`]: which blocks of a DAG are missing |
//! | [`Ipld`]: a value of dag-cbor to a block | [`Links`]: what a block leads to |
//! | [`car::header`], [`car::section_head`] | [`CarReader`]: a CAR to blocks that have their names |
//!
//! A [`Profile`] says how content becomes a DAG; with the same one, CIDs are those of Kubo, Helia and nft.storage.
//! Sources: the specifications of [UnixFS](https://specs.ipfs.tech/unixfs/),
//! [CID](https://github.com/multiformats/cid), [dag-pb](https://ipld.io/specs/codecs/dag-pb/spec/),
//! [dag-cbor](https://ipld.io/specs/codecs/dag-cbor/spec/) and [CARv1](https://ipld.io/specs/transport/car/carv1/),
//! IPIP-0499 for profiles, and where these leave a choice, what boxo and the js importer do, with which the tests
//! compare.
//!
//! ```
//! use unixfs::{Importer, Profile, Tree};
//!
//! let profile = Profile::UNIXFS_V1_2025;
//! let mut importer = Importer::new(profile);
//! importer.write(b"hello\n", &mut ());
//! let mut tree = Tree::new(profile);
//! tree.insert("hello.txt", importer.finish(&mut ()).root)?;
//! let root = tree.finish(&mut ())?;
//! assert_eq!(root.cid.to_string(), "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24");
//! # Ok::<(), unixfs::TreeError>(())
//! ```

pub mod car;
pub mod limits;

mod cbor;
mod cid;
mod completeness;
mod data;
mod directory;
mod engine;
mod importer;
mod links;
mod node;
mod profile;
mod protobuf;
mod shard;
mod sink;
mod tree;
mod varint;
mod walker;

pub use car::{CarBlock, CarError, CarEvent, CarReader, CarSummary};
pub use cbor::{Ipld, IpldError};
pub use cid::{Cid, CidError, Codec, VerifyError, Version};
pub use completeness::{Completeness, CompletenessError, Structure};
pub use data::{Data, DataError, Kind};
pub use directory::{Directory, DirectoryError};
pub use importer::{File, Importer};
pub use links::{Links, LinksError};
pub use node::{Link, Node, NodeError};
pub use profile::{Leaves, Profile, ProfileError, Sharding};
pub use protobuf::ProtobufError;
pub use sink::{Block, Root, Sink};
pub use tree::{Tree, TreeError};
pub use walker::{Bounds, Step, WalkError, Walker};
