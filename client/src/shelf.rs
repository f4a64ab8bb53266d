//! Strips kept near a reader, so that not every read asks a node.

use async_trait::async_trait;
use bytes::Bytes;

use crate::ShardAsk;

/// What nodes answered to asks for one strip. A [`crate::Reader`] proves what comes from here like a node's word.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Whether the answer is likely to be here; wrong either way costs time and nothing else.
    fn holds(&self, ask: &ShardAsk) -> bool;

    /// Returns the answer, if it is here.
    async fn get(&self, ask: &ShardAsk) -> Option<Bytes>;

    /// Is offered what a node answered, proven.
    fn offer(&self, ask: &ShardAsk, body: &Bytes);

    /// Is told that what it gave is not the strip.
    fn wrong(&self, ask: &ShardAsk);
}
