//! The calls to nodes: one method for each call of the node API, over HTTP, or in memory in tests.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Cell, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyName,
    wire::{ChangePage, LocatorPage, NodeEntry, Note, ObjectHealth, RepairStatus, Ticket},
};

/// A request for consecutive strips of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShardAsk {
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
    /// First stripe.
    pub first: u64,
    /// Number of stripes, at most `SHARD_READ_STRIPS_MAX`.
    pub count: u64,
}

/// Why a call to a node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The node is not in the topology, or has no address.
    #[error("node {node} is not known")]
    Unknown {
        /// The node.
        node: NodeName,
    },
    /// The node cannot be reached, or it broke the connection. Another node may succeed.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        node: NodeName,
        /// The error of the network.
        reason: String,
    },
    /// The node did not answer in time.
    #[error("node {node} did not answer in time")]
    TimedOut {
        /// The node.
        node: NodeName,
    },
    /// The node refused the request. Sending it again does not help.
    #[error("node {node} refused ({status}): {reason}")]
    Refused {
        /// The node.
        node: NodeName,
        /// HTTP status.
        status: u16,
        /// The node's reason.
        reason: String,
    },
    /// The node failed. Another node may succeed, or this one later.
    #[error("node {node} failed ({status}): {reason}")]
    Failed {
        /// The node.
        node: NodeName,
        /// HTTP status.
        status: u16,
        /// The node's reason.
        reason: String,
    },
    /// The node's answer violates the API.
    #[error("node {node} answered nonsense: {reason}")]
    Nonsense {
        /// The node.
        node: NodeName,
        /// The violation.
        reason: String,
    },
}

impl TransportError {
    /// Returns whether the same call may succeed later or at another node.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Unknown { .. })
    }

    /// Returns whether the same call may succeed later at the same node: it is not refused for good, and does not lack
    /// room.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.is_retryable() && !self.is_full()
    }

    /// Returns which kind of error it is, in a word.
    #[must_use]
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed out",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Nonsense { .. } => "nonsense",
        }
    }

    /// Returns the node that was called.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Unknown { node }
            | Self::TimedOut { node }
            | Self::Unreachable { node, .. }
            | Self::Refused { node, .. }
            | Self::Failed { node, .. }
            | Self::Nonsense { node, .. } => node,
        }
    }

    /// Returns whether a node takes no more bytes: it is full, or its operator empties it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.status() == Some(507)
    }

    /// Returns whether a node refused a record for what it holds: something else, a later lease, or what was erased.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 410, .. })
    }

    /// Returns whether an upload at the node has come to its end there: the node does not know it, or what was sent is
    /// not its shard, or the node takes no more bytes. A call that came in the wrong order (409) leaves its upload as
    /// it was, and whoever asks the node what it has goes on with that.
    #[must_use]
    pub fn ends_upload(&self) -> bool {
        self.is_full() || (!self.is_retryable() && self.status() != Some(409))
    }

    /// Returns the HTTP status of a node that refused or failed.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Failed { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The node API, method by method; `format::wire` has the table. Every method ends in bounded time and may be dropped
/// at any await. A dropped call leaves at most an upload session, which the node collects.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Reads strips of a shard. Returns the body of a `ShardSlice`, unverified.
    async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError>;

    /// Waits for a connection to a node. Whoever leaves has it made all the same.
    async fn reach(&self, _node: &NodeName) -> Result<(), TransportError> {
        Ok(())
    }

    /// Asks an edge nearby for a strip that `node` has, of the object of this public manifest. Returns the body of a
    /// `ShardSlice`, unverified. Only edges answer that, and not all. It is told that an answer is of no use later than
    /// `within`.
    async fn strip(
        &self,
        neighbour: &NodeName,
        _public: &Bytes,
        _ask: ShardAsk,
        _node: &NodeName,
        _within: Duration,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unknown { node: neighbour.clone() })
    }

    /// Reads a record, unverified. Returns `None` if the node has none.
    async fn record(&self, node: &NodeName, locator: &Locator) -> Result<Option<Bytes>, TransportError>;
    /// Files a record.
    async fn put_record(&self, node: &NodeName, locator: &Locator, record: Bytes) -> Result<(), TransportError>;
    /// Renews a lease.
    async fn put_lease(&self, node: &NodeName, locator: &Locator, envelope: Bytes) -> Result<(), TransportError>;
    /// Lists an owner's locators in order, starting after `after`.
    async fn locators(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        after: Option<&Locator>,
    ) -> Result<LocatorPage, TransportError>;
    /// Lists the locators of all owners in order, starting after `after`; for edges.
    async fn all_locators(&self, node: &NodeName, after: Option<&Locator>) -> Result<LocatorPage, TransportError>;

    /// Opens an upload session for one shard: a column of an object of so many columns.
    async fn create_upload(&self, node: &NodeName, column: usize, columns: usize) -> Result<String, TransportError>;
    /// Appends cells from stripe `first` on. Cells that the node has already are taken once more; it refuses (409) what
    /// leaves a gap.
    async fn append(&self, node: &NodeName, upload: &str, first: u64, cells: &[Cell]) -> Result<(), TransportError>;
    /// Returns how many cells the node has of an upload, from the first on.
    async fn upload_cells(&self, node: &NodeName, upload: &str) -> Result<u64, TransportError>;
    /// Makes the shard durable as a column of the object of this public manifest. A commit that is made again waits for
    /// the first, or finds the shard; one that comes before all cells is refused (409) and takes nothing away.
    async fn commit(&self, node: &NodeName, upload: &str, column: usize, public: Bytes) -> Result<(), TransportError>;
    /// Drops an upload session.
    async fn abort(&self, node: &NodeName, upload: &str) -> Result<(), TransportError>;

    /// Reads a policy envelope, unverified. Returns `None` if the node has none.
    async fn policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
    ) -> Result<Option<Bytes>, TransportError>;
    /// Files a policy envelope. The node must already have its blobs.
    async fn put_policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
        envelope: Bytes,
    ) -> Result<(), TransportError>;
    /// Brings an owner's purge order for the edges' caches.
    async fn purge(&self, node: &NodeName, envelope: Bytes) -> Result<(), TransportError>;
    /// Reads a blob, unverified. Returns `None` if the node has none.
    async fn blob(&self, node: &NodeName, id: &BlobId) -> Result<Option<Bytes>, TransportError>;
    /// Files a blob.
    async fn put_blob(&self, node: &NodeName, id: &BlobId, blob: Bytes) -> Result<(), TransportError>;

    /// Reads a note of the edges. Returns `None` if the node has none.
    async fn note(&self, node: &NodeName, id: &NoteId) -> Result<Option<Note>, TransportError>;
    /// Files a note in place of the previous version (compare and swap). Returns false if the node holds another
    /// version.
    async fn put_note(&self, node: &NodeName, id: &NoteId, note: &Note) -> Result<bool, TransportError>;

    /// Lists the nodes of the cluster.
    async fn nodes(&self, node: &NodeName) -> Result<Vec<NodeEntry>, TransportError>;
    /// Announces this process to `node`.
    async fn announce(&self, node: &NodeName, entry: &NodeEntry) -> Result<(), TransportError>;
    /// Reads the list of refused node certificates, unverified. Returns `None` if the node has none above number
    /// `after`.
    async fn refused(&self, node: &NodeName, after: u64) -> Result<Option<Bytes>, TransportError>;
    /// Brings a list of refused node certificates. The node verifies it, and refuses one that is older than its own.
    async fn put_refused(&self, node: &NodeName, list: Bytes) -> Result<(), TransportError>;
    /// Asks for the health of an object. Returns `None` if no record is filed under the locator.
    async fn health(&self, node: &NodeName, locator: &Locator) -> Result<Option<ObjectHealth>, TransportError>;
    /// Asks for the state of the repair queue.
    async fn repairs(&self, node: &NodeName) -> Result<RepairStatus, TransportError>;
    /// Reports to `node` that a strip was wrong. The report is verified before it has any effect.
    async fn report(&self, node: &NodeName, ticket: &Ticket) -> Result<(), TransportError>;
    /// Waits up to `wait_seconds` for changes after `since`.
    async fn changes(&self, node: &NodeName, since: u64, wait_seconds: u32) -> Result<ChangePage, TransportError>;

    /// Returns by how many seconds the clock of each node was ahead of this machine's when it answered last. Asks
    /// nobody. Nodes that do not tell are missing.
    fn clocks(&self) -> BTreeMap<NodeName, i64> {
        BTreeMap::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_ends_where_its_session_is_gone_or_of_no_use_and_else_goes_on() {
        let node: NodeName = "o1".parse().unwrap();
        let answer = |status| {
            let (node, reason) = (node.clone(), String::new());
            let is_passing = status >= 500 || matches!(status, 408 | 429);
            match is_passing {
                true => TransportError::Failed { node, status, reason },
                false => TransportError::Refused { node, status, reason },
            }
        };
        for (status, ends) in [
            (400, true),
            (403, true),
            (404, true),
            (408, false),
            (409, false),
            (413, true),
            (422, true),
            (429, false),
            (500, false),
            (503, false),
            (507, true),
        ] {
            assert_eq!(answer(status).ends_upload(), ends, "{status}");
        }
        assert!(TransportError::Unknown { node: node.clone() }.ends_upload());
        assert!(!TransportError::TimedOut { node }.ends_upload());
    }
}
