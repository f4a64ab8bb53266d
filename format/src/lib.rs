//! The object format of Evernear: names, keys, seals, erasure code, manifests, and every byte on a wire or a disk.
//!
//! This crate is pure. It opens no file and no socket, reads no clock and draws no randomness. Callers pass these in,
//! so the same input always gives the same output. `docs/format.md` draws the bytes; the golden vectors in
//! `tests/golden` pin them for ever.
//!
//! An upload goes through [`Encoder`]: bytes in, [`EncodedStripe`]s out, [`Sealed`] at the end. A read goes [`Label`]
//! -> [`Capability`] -> [`Locator`] -> [`Record`] -> [`Object`] -> blocks.
//!
//! ```
//! use format::{
//!     Attributes, BlockIndex, Compression, Encoder, EncoderOptions, Kind, Label, Lease, Object, OwnerSecret, Profile,
//!     Record, Suite,
//! };
//! # use std::{collections::BTreeMap, fs::File, io::Read};
//! # fn random(bytes: &mut [u8]) -> std::io::Result<()> {
//! #     File::open("/dev/urandom")?.read_exact(bytes)
//! # }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The owner's twin. `random` fills a slice, as `getrandom::fill` does.
//! let keys = OwnerSecret::from_bytes([7; 32]).keys();
//! let (profile, owner) = (Profile::SmallCluster, keys.id());
//! let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Auto, owner };
//! let text = b"A block that compresses. ".repeat(1000);
//! let mut encoder = Encoder::fresh(options, random)?;
//! let (mut stripes, mut input) = (Vec::new(), &text[..]);
//! while let Some(stripe) = encoder.write(&mut input)? {
//!     stripes.push(stripe);
//! }
//! let mut ending = encoder.end();
//! while let Some(stripe) = ending.stripe()? {
//!     stripes.push(stripe);
//! }
//! let (mime, name, tags) = ("text/plain".to_owned(), "a.txt".to_owned(), BTreeMap::new());
//! let attributes = Attributes { mime, name, created: 1_795_000_000, kind: Kind::File, tags };
//! let sealed = ending.seal(attributes, [9; 32])?;
//! let lease = Lease::new(&sealed, profile).sign(&keys);
//! let nodes = vec![None; sealed.public.columns()];
//! let record = Record::new(sealed.public, Some(sealed.sealed), lease.into(), nodes)?.encode();
//! let label = Label::open(sealed.capability).to_string();
//!
//! // An edge, which has the label from a viewer, and the record and cells from nodes.
//! let label: Label = label.parse()?;
//! let object = Object::open(label.capability(), &Record::decode(&record.into())?, 1_795_000_000)?;
//! let cell = stripes.remove(0).into_cells().next().ok_or("no column")?;
//! assert!(cell.is_intact(0));
//! assert_eq!(object.decode(BlockIndex(0), &cell.strip.ok_or("no strip")?)?, text);
//! # Ok(())
//! # }
//! ```

pub mod cbor;
pub mod hazmat;
pub mod limits;
pub mod rendezvous;
pub mod wire;

mod address;
mod cap;
mod capability;
mod compress;
mod dedup;
mod directory;
mod encode;
mod engine;
mod erasure;
mod geometry;
mod ids;
mod label;
mod lease;
mod moment;
mod name;
mod note;
mod object;
mod owner;
mod place;
mod policy;
mod profile;
mod proof;
mod public;
mod purge;
mod rebuild;
mod record;
mod row;
mod seal;
mod sealed;
mod signed;
mod strip;

pub use address::{AddressError, NodeAddress};
pub use cap::{Cap, CapError, Level};
pub use capability::Capability;
pub use compress::{Compression, zstd_frame, zstd_stored, zstd_stored_bytes};
pub use dedup::Fingerprint;
pub use directory::{Below, Directory, DirectoryError, Entry};
pub use encode::{Attributes, EncodeError, EncodedStripe, Encoder, EncoderOptions, Ending, Sealed};
pub use erasure::{Erasure, ErasureError, ReedSolomon};
pub use geometry::{BlockIndex, BlockSlice, Geometry, Redundancy, RedundancyError, StripeIndex};
pub use ids::{BlobId, IdError, Locator, ManifestHash, NoteId, ObjectId, OwnerId, Root, RowHash, StripHash};
pub use label::{Label, LabelError, Mode};
pub use lease::{Lease, LeaseError, Retention};
pub use moment::Moment;
pub use name::{NameError, Pointer, StableName};
pub use note::{NotePlace, OwnerNote, SealedNote};
pub use object::{DecodeError, Object, OpenError};
pub use owner::{OwnerKeys, OwnerPublic, OwnerSecret};
pub use place::{Country, Domain, NodeName, Place, PlaceError};
pub use policy::{PolicyLink, PolicyManifest, PolicyManifestError, PolicyName};
pub use profile::{Profile, ProfileError, Tier};
pub use proof::{ListProof, ProofError, RowList};
pub use public::PublicManifest;
pub use purge::{Purge, PurgeError, Purged};
pub use rebuild::{Rebuild, RebuildError};
pub use record::{Record, RecordError};
pub use row::{Cell, Row, row_bytes};
pub use seal::{SealError, Suite};
pub use sealed::{Kind, SealedManifest};
pub use signed::{Domain as SigningDomain, Signed, SignedError};
