//! A whole small network that lasts, in one process: an authority, origins over one or more disks, an edge, an owner
//! with a twin.
//!
//! ```text
//! state folder (~/.evernear)     owner.key, unlock.key, twin.toml, index: as every command of an owner uses them
//!   api.sqlite, api.lock, spool  what the twin remembers of tokens and uploads
//!   network/lock                 held while the network runs; the id of the process is in it
//!   network/up.toml              what was decided: disks, names, ports        (settings)
//!   network/keys/                the authority, and a certificate of each node (keys)
//!   network/catalog.sqlite       the catalog of all origins, where it is in no PostgreSQL database (catalog_place)
//!   network/edge/                what the edge remembers
//!   network/invitations.toml     machines that may join                       (invitations)
//!   network/disk1/               the disk of a network that was given none
//! DISK/evernear/disk.toml        the mark: whose disk it is                    (disk)
//! DISK/evernear/o1/              the data of an origin
//! ```
//!
//! Each start makes what is missing and goes on with what is there, so a first start that was killed at any moment is
//! continued by the next. `up.toml` is the first thing that a first start writes; all else follows from it. While the
//! network runs, [`Up`] looks after its disks: one that is gone is left out, one that is back, or empty in the place of
//! a lost one, is taken in again, and the origins make good what it lacks.
//!
//! Another machine joins as a node by an [`Invitation`]: it asks at the door ([`invite`], `join_door`), and [`join`]
//! writes what comes of that, in `STATE/node/`. From then on it is a node as any other, run by its configuration.
//!
//! This is a library: it prints nothing and reads no command line.

mod account;
mod agent;
mod catalog_place;
mod clock;
mod disk;
mod disks;
mod doors;
mod exchange;
mod failing;
mod folders;
mod home;
mod invitation;
mod invitations;
mod invite;
mod join;
mod join_door;
mod keeper;
mod keys;
mod lock;
mod loss;
mod lost_catalog;
mod named_disk;
mod node_folder;
mod origin_ports;
mod owner;
mod ports;
mod prepare;
mod public;
mod pulse;
mod seat;
mod settings;
mod up;
mod up_error;

pub use account::{Account, DiskAccount, PublicAccount};
pub use catalog_place::{CatalogChoice, CatalogChoiceError, CatalogPlaceError};
pub use clock::ClockFault;
pub use disk::Gone;
pub use exchange::{Refusal, fuzz as fuzz_join};
pub use invitation::{Invitation, InvitationError};
pub use invitations::{InvitationsError, Invited};
pub use invite::{Invite, InviteError, Listed, invitations, invite, revoke_invitation};
pub use join::{JoinError, JoinOptions, Joined, join};
pub use keys::KeysError;
pub use lost_catalog::CatalogFault;
pub use owner::OwnerFault;
pub use prepare::UpOptions;
pub use public::{PublicOptions, PublicZone};
pub use pulse::{Reading, Wait};
pub use settings::{Listen, ListenError, SettingsError};
pub use up::Up;
pub use up_error::UpError;
