//! Progress of long work: storing, fetching, changing leases.

use std::path::Path;

/// Receives the progress of long work. Several threads call it many times a second, so it must be quick and must not
/// block.
pub trait Progress: Send + Sync {
    /// A file is started. `length` is its length, or `None` for a stream.
    fn file(&self, path: &Path, length: Option<u64>) {
        let _ = (path, length);
    }
    /// `bytes` more bytes of plaintext were read. A de-duplicated file is read twice; only the second read is reported.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }
    /// Nodes hold `bytes` more bytes of plaintext, not yet committed.
    fn sent(&self, bytes: u64) {
        let _ = bytes;
    }
    /// An object is durable on `nodes` nodes, each of which holds one shard; 0 for an object small enough to need no
    /// shards.
    fn durable(&self, path: &Path, nodes: usize) {
        let _ = (path, nodes);
    }
    /// `bytes` more bytes of plaintext were verified and written, or were there from an earlier fetch.
    fn fetched(&self, bytes: u64) {
        let _ = bytes;
    }
    /// The leases of `objects` more objects are to be changed.
    fn leases(&self, objects: usize) {
        let _ = objects;
    }
    /// Nodes have the new lease of one more object, or it failed.
    fn lease(&self) {}
}

/// Ignores all progress.
impl Progress for () {}
