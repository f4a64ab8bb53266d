//! The owner's digital twin: keeps the owner's keys, stores and fetches files, ends leases, publishes policies.
//!
//! | noun | what it does |
//! |---|---|
//! | [`OwnerStore`] | the owner secret in a file, sealed by a passphrase or a key file ([`Unlock`]) |
//! | [`Index`] | the owner's own encrypted log of uploads: the capabilities live here and in the labels handed out |
//! | [`Network`] | the cluster; reads with a label alone, without any owner |
//! | [`Twin`] | owner, index and network together: `put`, `list`, `renew`, `remove`, `publish`, `point`, `recover` |
//!
//! This is a library: it prints nothing and reads no command line. Invariants: an object's name is in the index before
//! nodes commit the object; a fetched file appears whole or not at all; secrets are wiped from memory and never logged.

mod byte_range;
mod clock;
mod config;
mod durable;
mod get;
mod health;
mod index;
mod learn;
mod leases;
mod media;
mod moment;
mod names;
mod network;
mod operator;
mod owner_store;
mod plain_file;
mod policy_name;
mod policy_source;
mod progress;
mod publish;
mod purge;
mod put;
mod recover;
mod refresh;
mod retention;
mod tree;
mod twin;
mod unfinished;
mod unlock;
mod urls;

pub use byte_range::{ByteRange, ByteRangeError};
pub use clock::ClockError;
pub use config::{ApiConfig, ConfigError, SeedConfig, TwinConfig};
pub use get::{Delivered, Found, GetError, part_of};
pub use health::{Repairs, UploadHealth};
pub use index::{
    Batch, Change, Compacted, Entry, Family, Hashes, Index, IndexCheck, IndexError, Listed, MOVES_MAX, Move, NameState,
    PATH_BYTES_MAX, Page, PageAsk, Position, Scope, Spot, State, Tenure,
};
pub use leases::{LeaseChangeError, Over, Removed, Renewal, Sooner, Told};
pub use media::{Inspection, MediaType, MediaTypeError};
pub use moment::{MomentError, moment};
pub use names::{NameChange, NameChangeError, NameTerms, Renamed};
pub use network::{Network, NetworkError};
pub use operator::{Operator, OperatorError};
pub use owner_store::{OwnerCard, OwnerError, OwnerStore};
pub use policy_name::PolicyNameError;
pub use policy_source::{LinkSource, PolicySource, PolicySourceError};
pub use progress::Progress;
pub use publish::{POLICY_SECONDS, PublishError, Published};
pub use purge::{PurgeOrderError, PurgeTold, Selection};
pub use put::{
    Bad, Changes, Deduplication, EncodingError, Incoming, LeftOut, NetworkFull, PutError, PutOptions, Several, Stored,
    StreamedFiles, StreamedFolder,
};
pub use recover::{RecoverError, Recovered};
pub use retention::RetentionError;
pub use tree::{Node, NodeKind, Tree, TreeError, TreeFault};
pub use twin::Twin;
pub use unfinished::{Elsewhere, Ended, LeftBehind, Resumption, Unfinished, UnfinishedError, resumable};
pub use unlock::{Cost, KEY_FILE_BYTES, LockKind, PASSPHRASE_BYTES_MIN, Unlock, UnlockError};
pub use urls::{Link, Target, TargetError, UrlTemplate, UrlTemplateError};
