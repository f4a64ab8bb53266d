//! The catalog: records, leases, placement, policies, blobs, nodes and the change feed, behind one trait.
//!
//! Every engine keeps the same promises, written down once in the conformance suite `tests/it/catalog.rs`: a lease's
//! version only grows, an erased record never shows sealed bytes again, and a change is in the feed exactly when what it
//! tells of is committed. Reads of shards and of records that lie on a disk do not depend on it.

mod rule;
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Lease, Locator, NodeName, ObjectId, OwnerId, PolicyManifest, PolicyName, Record,
    wire::{ChangePage, NodeEntry},
};

pub use self::{
    rule::Refused,
    sqlite::{OpenError, SqliteCatalog},
};

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The catalog now says what the write asked, and the feed tells of it.
    Stored,
    /// The catalog said so before: the same write came twice.
    Unchanged,
}

/// A shard on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRow {
    /// The node.
    pub node: NodeName,
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
    /// Bytes of the shard.
    pub bytes: u64,
}

/// What a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardTotals {
    /// Shards.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why the catalog did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The write breaks a rule; the writer's fault.
    #[error("the catalog refuses the write")]
    Refused(#[from] Refused),
    /// The engine failed or was too busy; try again later.
    #[error("the catalog is not available")]
    Unavailable(#[from] sqlx::Error),
    /// A row cannot be read back; an operator must restore the catalog.
    #[error("the catalog holds a damaged row in {table}")]
    Damaged {
        /// The table.
        table: &'static str,
    },
}

/// The database of a cluster. Methods end in bounded time; one that is dropped has either happened or not, never half.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Files a record, or renews its lease and placement.
    ///
    /// # Errors
    /// [`Refused`] when the held lease is newer, the object is another, or the record was erased.
    async fn put_record(&self, record: &Record) -> Result<Applied, CatalogError>;

    /// Renews the lease of a filed record. `lease` is what was verified in `envelope`.
    ///
    /// # Errors
    /// As [`Self::put_record`], and [`Refused::NoRecord`].
    async fn put_lease(&self, lease: &Lease, envelope: &Bytes) -> Result<Applied, CatalogError>;

    /// Returns a record with the placement last known.
    async fn record(&self, locator: &Locator) -> Result<Option<Record>, CatalogError>;

    /// Returns an owner's living locators in order, at most `limit`, from the one after `after`.
    async fn locators(
        &self,
        owner: &OwnerId,
        after: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Locator>, CatalogError>;

    /// Notes that a shard is durable on a node.
    async fn place_shard(&self, shard: &ShardRow) -> Result<(), CatalogError>;

    /// Notes that a node no longer holds a shard, unless it was committed again within `grace`.
    async fn forget_shard(&self, shard: &ShardRow, grace: Duration) -> Result<(), CatalogError>;

    /// Returns shards of a node, at most `limit`, all of whose records were erased at least `grace` ago. A shard that was
    /// committed within `grace` is not among them: its record may be on its way.
    async fn dead_shards(&self, node: &NodeName, grace: Duration, limit: usize) -> Result<Vec<ShardRow>, CatalogError>;

    /// Returns what a node holds.
    async fn shard_totals(&self, node: &NodeName) -> Result<ShardTotals, CatalogError>;

    /// Files a policy whose manifest was verified in `envelope`.
    ///
    /// # Errors
    /// [`Refused`] when the held sequence is not lower or a blob is missing.
    async fn put_policy(&self, manifest: &PolicyManifest, envelope: &Bytes) -> Result<Applied, CatalogError>;

    /// Returns the envelope of a policy's newest version.
    async fn policy(&self, owner: &OwnerId, name: &PolicyName) -> Result<Option<Bytes>, CatalogError>;

    /// Files a blob whose hash was checked.
    async fn put_blob(&self, id: &BlobId, blob: &Bytes) -> Result<(), CatalogError>;

    /// Returns a blob.
    async fn blob(&self, id: &BlobId) -> Result<Option<Bytes>, CatalogError>;

    /// Notes what a node says of itself. The feed tells only of what readers plan by: a new node, or a moved one.
    ///
    /// # Errors
    /// [`Refused::OtherRole`] when the name is taken.
    async fn announce(&self, entry: &NodeEntry) -> Result<Applied, CatalogError>;

    /// Returns all nodes in order of their names.
    async fn nodes(&self) -> Result<Vec<NodeEntry>, CatalogError>;

    /// Returns the changes after `since`, at most `limit`; at once, also when there are none.
    async fn changes(&self, since: u64, limit: usize) -> Result<ChangePage, CatalogError>;

    /// Returns the sequence of the newest change; zero before the first.
    async fn newest_change(&self) -> Result<u64, CatalogError>;

    /// Drops what the engine's own files (its log) still hold of erased records. Best effort; called now and then.
    async fn purge(&self) -> Result<(), CatalogError>;

    /// Ends all connections. Calls after it fail.
    async fn close(&self);
}
