//! How to reach nodes: one call of the node API for each method, over HTTP, in memory, or with faults.

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyName,
    wire::{ChangePage, LocatorPage, NodeEntry, Note, Ticket},
};

/// Which strips of which shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShardAsk {
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
    /// First stripe.
    pub first: u64,
    /// Number of strips, at most `SHARD_READ_STRIPS_MAX`.
    pub count: u64,
}

/// Why a call to a node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The node is not in the list of nodes, or has no address.
    #[error("node {node} is not known")]
    Unknown {
        /// The node.
        node: NodeName,
    },
    /// The node cannot be reached or broke the connection; another node may do.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        node: NodeName,
        /// What the network said.
        reason: String,
    },
    /// The node did not answer in time.
    #[error("node {node} did not answer in time")]
    TimedOut {
        /// The node.
        node: NodeName,
    },
    /// The node refused: the request is wrong there and will be again.
    #[error("node {node} refused ({status}): {reason}")]
    Refused {
        /// The node.
        node: NodeName,
        /// HTTP status.
        status: u16,
        /// What the node said.
        reason: String,
    },
    /// The node failed; another node, or later, may do.
    #[error("node {node} failed ({status}): {reason}")]
    Failed {
        /// The node.
        node: NodeName,
        /// HTTP status.
        status: u16,
        /// What the node said.
        reason: String,
    },
    /// The node's answer is not what the API says.
    #[error("node {node} answered nonsense: {reason}")]
    Nonsense {
        /// The node.
        node: NodeName,
        /// What is wrong with it.
        reason: String,
    },
}

impl TransportError {
    /// Returns whether the same call may succeed later or elsewhere.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Unknown { .. })
    }
}

/// The node API, method by method; `format::wire` has the table. Every method ends in bounded time and may be dropped
/// at any await: a dropped call leaves at most an upload session, which the node collects.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Reads strips of a shard: the body of a `ShardSlice`, unverified.
    async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError>;

    /// Reads a record, unverified; none when the node has none.
    async fn record(&self, node: &NodeName, locator: &Locator) -> Result<Option<Bytes>, TransportError>;
    /// Files a record.
    async fn put_record(&self, node: &NodeName, locator: &Locator, record: Bytes) -> Result<(), TransportError>;
    /// Renews a lease.
    async fn put_lease(&self, node: &NodeName, locator: &Locator, envelope: Bytes) -> Result<(), TransportError>;
    /// Lists an owner's locators in order, from the one after `after`.
    async fn locators(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        after: Option<&Locator>,
    ) -> Result<LocatorPage, TransportError>;

    /// Opens an upload session for one shard.
    async fn create_upload(&self, node: &NodeName) -> Result<String, TransportError>;
    /// Appends strips from stripe `first` on.
    async fn append(&self, node: &NodeName, upload: &str, first: u64, strips: &[Bytes]) -> Result<(), TransportError>;
    /// Makes the shard durable as a column of the object of this public manifest.
    async fn commit(&self, node: &NodeName, upload: &str, column: usize, public: Bytes) -> Result<(), TransportError>;
    /// Drops an upload session.
    async fn abort(&self, node: &NodeName, upload: &str) -> Result<(), TransportError>;

    /// Reads a policy envelope, unverified; none when the node has none.
    async fn policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
    ) -> Result<Option<Bytes>, TransportError>;
    /// Files a policy envelope; its blobs must be there.
    async fn put_policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
        envelope: Bytes,
    ) -> Result<(), TransportError>;
    /// Brings an owner's order to the edges' caches.
    async fn purge(&self, node: &NodeName, envelope: Bytes) -> Result<(), TransportError>;
    /// Reads a blob, unverified; none when the node has none.
    async fn blob(&self, node: &NodeName, id: &BlobId) -> Result<Option<Bytes>, TransportError>;
    /// Files a blob.
    async fn put_blob(&self, node: &NodeName, id: &BlobId, blob: Bytes) -> Result<(), TransportError>;

    /// Reads a note of the edges; none when there is none.
    async fn note(&self, node: &NodeName, id: &NoteId) -> Result<Option<Note>, TransportError>;
    /// Files a note in place of the version before it. False: another version is held.
    async fn put_note(&self, node: &NodeName, id: &NoteId, note: &Note) -> Result<bool, TransportError>;

    /// Lists the nodes of the cluster.
    async fn nodes(&self, node: &NodeName) -> Result<Vec<NodeEntry>, TransportError>;
    /// Tells `node` about this process.
    async fn announce(&self, node: &NodeName, entry: &NodeEntry) -> Result<(), TransportError>;
    /// Tells `node` that a strip read was wrong; it is looked into before anything comes of it.
    async fn report(&self, node: &NodeName, ticket: &Ticket) -> Result<(), TransportError>;
    /// Waits up to `wait_seconds` for changes after `since`.
    async fn changes(&self, node: &NodeName, since: u64, wait_seconds: u32) -> Result<ChangePage, TransportError>;
}
