//! The object format of Evernear: names, keys, seals, erasure code, manifests, and every byte on a wire or a disk.
//!
//! This crate is pure. It opens no file and no socket, reads no clock and draws no randomness. Callers pass these in,
//! so the same input always gives the same output. `docs/format.md` draws the bytes; the golden vectors in
//! `tests/golden` pin them for ever.
//!
//! An upload goes through [`Encoder`]: bytes in, [`EncodedStripe`]s out, [`Sealed`] at the end. A read goes [`Label`]
//! -> [`Capability`] -> [`Locator`] -> [`Record`] -> [`Object`] -> blocks.

pub mod cbor;
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
pub use compress::Compression;
pub use dedup::Fingerprint;
pub use directory::{Directory, DirectoryError, Entry};
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
pub use seal::{BlockPosition, DataKey, Engine, SealError, Sealer, Suite};
pub use sealed::{Kind, SealedManifest};
pub use signed::{Domain as SigningDomain, Signed, SignedError};
