//! What a long upload tells while it runs.

use std::path::Path;

/// Hears how an upload goes. Called from several threads, many times a second: it must be quick and must not block.
pub trait Progress: Send + Sync {
    /// A file is begun; `length` is what the disk said, none for a stream.
    fn file(&self, path: &Path, length: Option<u64>) {
        let _ = (path, length);
    }
    /// So many more bytes of plaintext were read. A de-duplicated file is read twice and tells only the second time.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }
    /// So many more bytes of plaintext are held by nodes, not yet committed.
    fn sent(&self, bytes: u64) {
        let _ = bytes;
    }
    /// An object is durable on so many nodes, each holding one shard of it; 0 for an object small enough to need none.
    fn durable(&self, path: &Path, nodes: usize) {
        let _ = (path, nodes);
    }
}

/// Hears nothing.
impl Progress for () {}
