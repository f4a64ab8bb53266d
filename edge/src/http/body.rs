//! A range of an object on its way out, block by block. One block is in hand at a time; the stripes ahead are asked for while
//! it is written, so memory does not grow with the object.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use format::{BlockIndex, BlockSlice, Geometry, StripeIndex, limits::BLOCK_BYTES};
use pingora_core::protocols::http::ServerSession;

use super::{
    HttpDoor,
    reply::{Broken, PIECE_BYTES, Source},
};
use crate::{cache::BlockKey, error::Fault, node::Node, objects::Opened};

/// Most bytes asked for ahead of one reader: a round trip of 160 ms at 50 MB/s.
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Blocks looked at to say hit or miss; of a larger range the rest is taken to be like them.
const LOOKED_AT_MAX: usize = 1024;

/// A range of an object with shards, its first block already here.
pub(super) struct Body {
    opened: Arc<Opened>,
    geometry: Geometry,
    range: Range<u64>,
    first: Option<Bytes>,
    pub(super) source: Source,
}

impl Body {
    /// Takes a non-empty range and says whether all of it is held. Reads nothing yet.
    pub(super) fn new(node: &Node, opened: Arc<Opened>, geometry: Geometry, range: Range<u64>) -> Self {
        let locator = opened.object.locator();
        let held = |slice: BlockSlice| node.cache.holds(&BlockKey { locator, block: slice.block });
        let is_hit = geometry.slices(range.clone()).take(LOOKED_AT_MAX).all(held);
        let source = if is_hit { Source::Hit } else { Source::Miss };
        Self { opened, geometry, range, first: None, source }
    }

    /// Reads the first block, so that what fails at once still gets an honest status.
    ///
    /// # Errors
    /// The faults of reading.
    pub(super) async fn begin(mut self, node: &Node) -> Result<Self, Fault> {
        let Some(first) = self.geometry.slices(self.range.clone()).next() else { return Ok(self) };
        let ahead = ReadAhead::new(&self);
        ahead.stripe(node, &self, self.geometry.place(first.block).0);
        self.first = Some(node.fills.block(&self.opened, self.geometry, first.block).await?);
        Ok(self)
    }

    /// Returns the bytes of the range.
    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Writes the range.
    ///
    /// # Errors
    /// [`Broken`] when the viewer left or a block cannot be had; the caller cuts the connection.
    pub(super) async fn send(mut self, door: &Arc<HttpDoor>, session: &mut ServerSession) -> Result<u64, Broken> {
        let node = &door.node;
        let length = self.length();
        let mut ahead = ReadAhead::new(&self);
        let mut sent = 0;
        for slice in self.geometry.slices(self.range.clone()) {
            ahead.reach(node, &self, slice.block);
            let block = match self.first.take() {
                Some(first) => first,
                None => node.fills.block(&self.opened, self.geometry, slice.block).await.map_err(|_| {
                    node.metrics.http_cut.inc();
                    Broken { bytes: sent, why: "cut: the rest could not be had" }
                })?,
            };
            let mut rest = block.slice(slice.within);
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                sent += piece.len() as u64;
                let written = session.write_response_body(piece, sent == length).await;
                written.map_err(|_| Broken { bytes: sent, why: "viewer left" })?;
            }
        }
        Ok(sent)
    }
}

/// Asks for stripes ahead of a reader; the further it reads in one go, the more of them.
struct ReadAhead {
    last: BlockIndex,
    stripes_max: u64,
    /// Stripes to ask for beyond the one being read.
    window: u64,
    /// The first stripe not asked for yet.
    next: u64,
}

impl ReadAhead {
    fn new(body: &Body) -> Self {
        let last = body.geometry.block_at(body.range.end - 1);
        let stripe_bytes = body.geometry.columns(StripeIndex(0)).max(1) as u64 * BLOCK_BYTES as u64;
        Self { last, stripes_max: (AHEAD_BYTES_MAX / stripe_bytes).max(1), window: 0, next: 0 }
    }

    /// Called for each block before it is read.
    fn reach(&mut self, node: &Node, body: &Body, block: BlockIndex) {
        let (stripe, _) = body.geometry.place(block);
        if stripe.0 < self.next.saturating_sub(self.window) {
            return;
        }
        let from = self.next.max(stripe.0);
        for stripe in from..=stripe.0 + self.window {
            self.stripe(node, body, StripeIndex(stripe));
        }
        self.next = stripe.0 + self.window + 1;
        // A reader that leaves after its first stripe costs nothing ahead; one that goes on doubles it.
        self.window = (self.window * 2).clamp(1, self.stripes_max);
    }

    /// Asks for what the range wants of one stripe.
    fn stripe(&self, node: &Node, body: &Body, stripe: StripeIndex) {
        let (last_stripe, last_column) = body.geometry.place(self.last);
        if stripe > last_stripe {
            return;
        }
        let first_column = match body.geometry.place(body.geometry.block_at(body.range.start)) {
            (first, column) if first == stripe => column,
            _ => 0,
        };
        let end = if stripe == last_stripe { last_column + 1 } else { body.geometry.columns(stripe) };
        node.fills.prefetch(&body.opened, body.geometry, stripe, first_column..end);
    }
}
