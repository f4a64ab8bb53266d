//! A shelf: a cache of strips near a reader, so that not every read asks a node.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;

use crate::ShardAsk;

/// Cached answers to requests for one strip. A [`crate::Reader`] proves a cached answer as it proves a node's.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Returns whether the answer is probably here. A wrong guess costs only time.
    fn holds(&self, ask: &ShardAsk) -> bool;

    /// Returns the answer, or `None` if it is not here.
    async fn get(&self, ask: &ShardAsk) -> Option<Bytes>;

    /// Offers a proven answer of a node. The shelf may keep it. The node was asked at `begun`, which may be before this
    /// reader wanted it: it may have joined somebody else's call.
    fn offer(&self, ask: &ShardAsk, body: &Bytes, begun: Instant);

    /// Reports that an answer of this shelf was not the strip.
    fn wrong(&self, ask: &ShardAsk);
}
