//! A range of an object on its way out, block by block. One block is in hand at a time; the stripes ahead are asked for
//! while it is written, as far as there is room for them, so memory grows neither with the object nor with its viewers.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use format::{BlockIndex, BlockSlice, Geometry, StripeIndex, limits::BLOCK_BYTES};
use sandbox::Tier;

use super::{
    HttpDoor,
    reply::{Broken, PIECE_BYTES, Source},
    session::Session,
};
use crate::{
    cache::BlockKey,
    error::Fault,
    miss::{Ahead, Flight},
    node::Node,
    objects::Opened,
};

/// Most bytes asked for ahead of one reader: a round trip of 160 ms at 50 MB/s.
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Blocks looked at to say hit or miss; of a larger range the rest is taken to be like them.
const LOOKED_AT_MAX: usize = 1024;
/// Blocks read together of an object of which none may be kept. All that one viewer of it holds; fewer cost more round
/// trips, and, while a node is down, more strips for each.
const UNKEPT_BLOCKS_MAX: usize = 4;

/// A range of an object with shards, its first block already here.
pub(super) struct Body {
    opened: Arc<Opened>,
    geometry: Geometry,
    range: Range<u64>,
    /// Where the owner lets the blocks lie.
    tier: Tier,
    /// Blocks that are here and not yet written.
    ready: VecDeque<(BlockIndex, Bytes)>,
    /// Stripes that were asked for ahead.
    ahead: VecDeque<Ahead>,
    /// The first stripe not asked for yet.
    next: u64,
    pub(super) source: Source,
}

impl Body {
    /// Takes a non-empty range and says whether all of it is held. Reads nothing yet.
    pub(super) fn new(node: &Node, opened: Arc<Opened>, geometry: Geometry, range: Range<u64>, tier: Tier) -> Self {
        let locator = opened.object.locator();
        let held = |slice: BlockSlice| match node.cache.holds(&BlockKey { locator, block: slice.block }) {
            true => Source::Hit,
            false if node.fills.is_on_disk(&opened, geometry, slice.block, tier) => Source::Disk,
            false => Source::Miss,
        };
        let source = geometry.slices(range.clone()).take(LOOKED_AT_MAX).map(held).max().unwrap_or(Source::Hit);
        Self { opened, geometry, range, tier, ready: VecDeque::new(), ahead: VecDeque::new(), next: 0, source }
    }

    /// Reads the first block, so that what fails at once still gets an honest status.
    ///
    /// # Errors
    /// The faults of reading.
    pub(super) async fn begin(mut self, node: &Node) -> Result<Self, Fault> {
        let Some(first) = self.geometry.slices(self.range.clone()).next() else { return Ok(self) };
        if self.tier != Tier::None {
            ReadAhead::new(&self).reach(node, &mut self, first.block);
        }
        let bytes = self.block(node, first.block).await?;
        self.ready.push_front((first.block, bytes));
        Ok(self)
    }

    async fn block(&mut self, node: &Node, block: BlockIndex) -> Result<Bytes, Fault> {
        if let Some((_, bytes)) = self.ready.pop_front_if(|(index, _)| *index == block) {
            return Ok(bytes);
        }
        if self.tier != Tier::None {
            if let Some(flight) = self.take_ahead(block)
                && let Some(bytes) = node.fills.landed(flight, block).await
            {
                return Ok(bytes);
            }
            return node.fills.block(&self.opened, self.geometry, block, self.tier).await;
        }
        let (stripe, column) = self.geometry.place(block);
        let columns = column..self.columns(stripe).end.min(column + UNKEPT_BLOCKS_MAX);
        self.ready = node.fills.unkept(&self.opened, self.geometry, stripe, columns).await?.into();
        self.ready.pop_front().map(|(_, bytes)| bytes).ok_or(Fault::Busy)
    }

    fn take_ahead(&mut self, block: BlockIndex) -> Option<Flight> {
        while let Some(stripe) = self.ahead.front_mut() {
            let flight = stripe.take(block);
            if !stripe.is_empty() {
                return flight;
            }
            self.ahead.pop_front();
            if flight.is_some() {
                return flight;
            }
        }
        None
    }

    /// What the range wants of a stripe.
    fn columns(&self, stripe: StripeIndex) -> Range<usize> {
        let start = match self.geometry.place(self.geometry.block_at(self.range.start)) {
            (first, column) if first == stripe => column,
            _ => 0,
        };
        let end = match self.geometry.place(self.geometry.block_at(self.range.end - 1)) {
            (last, column) if last == stripe => column + 1,
            _ => self.geometry.columns(stripe),
        };
        start..end
    }

    /// Returns the bytes of the range.
    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Writes the range; `ends` when nothing comes after it.
    ///
    /// # Errors
    /// [`Broken`] when the viewer left or a block cannot be had; the caller cuts the connection.
    pub(super) async fn send(mut self, door: &HttpDoor, session: &mut Session<'_>, ends: bool) -> Result<u64, Broken> {
        let node = &door.node;
        let length = self.length();
        let mut ahead = ReadAhead::new(&self);
        let mut sent = 0;
        for slice in self.geometry.slices(self.range.clone()) {
            if self.tier != Tier::None {
                ahead.reach(node, &mut self, slice.block);
            }
            let block = self.block(node, slice.block).await.map_err(|_| {
                node.metrics.http_cut.inc();
                Broken { bytes: sent, why: "cut: the rest could not be had" }
            })?;
            let mut rest = block.slice(slice.within);
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                sent += piece.len() as u64;
                let written = session.body(piece, ends && sent == length).await;
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
}

impl ReadAhead {
    fn new(body: &Body) -> Self {
        let last = body.geometry.block_at(body.range.end - 1);
        let stripe_bytes = body.geometry.columns(StripeIndex(0)).max(1) as u64 * BLOCK_BYTES as u64;
        Self { last, stripes_max: (AHEAD_BYTES_MAX / stripe_bytes).max(1), window: 0 }
    }

    /// Called for each block before it is read.
    fn reach(&mut self, node: &Node, body: &mut Body, block: BlockIndex) {
        let (stripe, _) = body.geometry.place(block);
        if stripe.0 < body.next.saturating_sub(self.window) {
            self.window = self.window.max(1);
            return;
        }
        let from = body.next.max(stripe.0);
        for stripe in from..=stripe.0 + self.window {
            if !self.stripe(node, body, StripeIndex(stripe), block) {
                return;
            }
            body.next = stripe + 1;
        }
        // A reader that leaves after its first stripe costs nothing ahead; one that goes on doubles it.
        self.window = (self.window * 2).clamp(1, self.stripes_max);
    }

    /// Asks for what the range wants of one stripe, from `block` on. False when there is no room.
    fn stripe(&self, node: &Node, body: &mut Body, stripe: StripeIndex, block: BlockIndex) -> bool {
        if stripe > body.geometry.place(self.last).0 {
            return true;
        }
        let mut columns = body.columns(stripe);
        let (current, column) = body.geometry.place(block);
        if current == stripe {
            columns.start = columns.start.max(column);
        }
        let Some(ahead) = node.fills.ahead(&body.opened, body.geometry, stripe, columns, body.tier) else {
            return false;
        };
        if !ahead.is_empty() {
            body.ahead.push_back(ahead);
        }
        true
    }
}
