//! A transport with something before every call: one place forwards the whole node API, so that distance, faults and
//! whatever a test wants are each one small type. For tests and the demo.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ShardAsk, Transport, TransportError};
use format::{
    BlobId, Cell, Locator, NodeName, NoteId, OwnerId, PolicyName,
    wire::{ChangePage, LocatorPage, NodeEntry, Note, ObjectHealth, RepairStatus, Ticket},
};

/// What stands before the calls of an [`Intercepted`] transport.
#[async_trait]
pub trait Intercept: Send + Sync + 'static {
    /// What a call that may go on takes with it to its answer.
    type Pass: Send;

    /// Lets a call go on, late or at once, or ends it with an error.
    async fn before(&self, node: &NodeName, call: Call) -> Result<Self::Pass, TransportError>;

    /// Sees which record a node is asked for.
    fn looks_up(&self, _locator: &Locator) {}

    /// Returns who answers in the place of a node, if the node itself does not. What that one is told no other node
    /// hears.
    fn instead(&self, _node: &NodeName) -> Option<&dyn Transport> {
        None
    }

    /// Sees, and may change, what a node answered to the read of a shard, or a neighbour to that of a strip.
    fn shard(&self, _node: &NodeName, _pass: Self::Pass, body: Bytes) -> Bytes {
        body
    }

    /// Sees, and may change, what a node answered to the read of a record.
    fn record(&self, _node: &NodeName, _pass: Self::Pass, record: Option<Bytes>) -> Option<Bytes> {
        record
    }

    /// Sees, and may change, what a node answered to the read of a policy.
    fn policy(&self, _node: &NodeName, _pass: Self::Pass, envelope: Option<Bytes>) -> Option<Bytes> {
        envelope
    }

    /// Returns by how many seconds the clocks of nodes are ahead, if that is to be told.
    fn clocks(&self) -> Option<BTreeMap<NodeName, i64>> {
        None
    }

    /// Sees, and may change, what a node told of the change feed.
    fn changes(&self, _node: &NodeName, _pass: Self::Pass, page: ChangePage) -> ChangePage {
        page
    }
}

/// A transport that asks an [`Intercept`] before every call.
pub struct Intercepted<I> {
    inner: Arc<dyn Transport>,
    intercept: I,
}

impl<I: Intercept> Intercepted<I> {
    /// Puts `intercept` before every call of `inner`.
    #[must_use]
    pub fn over(inner: Arc<dyn Transport>, intercept: I) -> Self {
        Self { inner, intercept }
    }

    /// Returns what stands before the calls.
    pub fn intercept(&self) -> &I {
        &self.intercept
    }

    fn behind(&self, node: &NodeName) -> &dyn Transport {
        self.intercept.instead(node).unwrap_or(&*self.inner)
    }
}

macro_rules! forward {
    ($($call:ident: $name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        /// A method of [`Transport`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Call {
            /// [`Transport::read_shard`].
            ReadShard,
            /// [`Transport::strip`]; the node is the neighbour that is asked.
            Strip,
            /// [`Transport::record`].
            Record,
            /// [`Transport::policy`].
            Policy,
            /// [`Transport::changes`].
            Changes,
            $(#[doc = concat!("[`Transport::", stringify!($name), "`].")] $call,)*
        }

        #[async_trait]
        impl<I: Intercept> Transport for Intercepted<I> {
            async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError> {
                let pass = self.intercept.before(node, Call::ReadShard).await?;
                Ok(self.intercept.shard(node, pass, self.behind(node).read_shard(node, ask).await?))
            }
            async fn reach(&self, node: &NodeName) -> Result<(), TransportError> {
                self.behind(node).reach(node).await
            }
            async fn strip(
                &self,
                neighbour: &NodeName,
                public: &Bytes,
                ask: ShardAsk,
                node: &NodeName,
                within: Duration,
            ) -> Result<Bytes, TransportError> {
                let pass = self.intercept.before(neighbour, Call::Strip).await?;
                let body = self.behind(neighbour).strip(neighbour, public, ask, node, within).await?;
                Ok(self.intercept.shard(neighbour, pass, body))
            }
            async fn record(&self, node: &NodeName, locator: &Locator) -> Result<Option<Bytes>, TransportError> {
                self.intercept.looks_up(locator);
                let pass = self.intercept.before(node, Call::Record).await?;
                Ok(self.intercept.record(node, pass, self.behind(node).record(node, locator).await?))
            }
            async fn policy(
                &self,
                node: &NodeName,
                owner: &OwnerId,
                name: &PolicyName,
            ) -> Result<Option<Bytes>, TransportError> {
                let pass = self.intercept.before(node, Call::Policy).await?;
                Ok(self.intercept.policy(node, pass, self.behind(node).policy(node, owner, name).await?))
            }
            async fn changes(&self, node: &NodeName, since: u64, wait_seconds: u32) -> Result<ChangePage, TransportError> {
                let pass = self.intercept.before(node, Call::Changes).await?;
                Ok(self.intercept.changes(node, pass, self.inner.changes(node, since, wait_seconds).await?))
            }
            fn clocks(&self) -> BTreeMap<NodeName, i64> {
                self.intercept.clocks().unwrap_or_else(|| self.inner.clocks())
            }
            $(async fn $name(&self, node: &NodeName, $($arg: $type),*) -> Result<$out, TransportError> {
                self.intercept.before(node, Call::$call).await?;
                self.behind(node).$name(node, $($arg),*).await
            })*
        }
    };
}

forward! {
    PutRecord: put_record(locator: &Locator, record: Bytes) -> ();
    PutLease: put_lease(locator: &Locator, envelope: Bytes) -> ();
    Locators: locators(owner: &OwnerId, after: Option<&Locator>) -> LocatorPage;
    AllLocators: all_locators(after: Option<&Locator>) -> LocatorPage;
    CreateUpload: create_upload(column: usize, columns: usize) -> String;
    Append: append(upload: &str, first: u64, cells: &[Cell]) -> ();
    UploadCells: upload_cells(upload: &str) -> u64;
    Commit: commit(upload: &str, column: usize, public: Bytes) -> ();
    Abort: abort(upload: &str) -> ();
    PutPolicy: put_policy(owner: &OwnerId, name: &PolicyName, envelope: Bytes) -> ();
    Purge: purge(envelope: Bytes) -> ();
    Blob: blob(id: &BlobId) -> Option<Bytes>;
    PutBlob: put_blob(id: &BlobId, blob: Bytes) -> ();
    Note: note(id: &NoteId) -> Option<Note>;
    PutNote: put_note(id: &NoteId, note: &Note) -> bool;
    Nodes: nodes() -> Vec<NodeEntry>;
    Announce: announce(entry: &NodeEntry) -> ();
    Refused: refused(after: u64) -> Option<Bytes>;
    PutRefused: put_refused(list: Bytes) -> ();
    Health: health(locator: &Locator) -> Option<ObjectHealth>;
    Repairs: repairs() -> RepairStatus;
    Report: report(ticket: &Ticket) -> ();
}
