//! A whole object as it goes out compressed: a zstd frame for each block, one after another, which together are one
//! content of the coding `zstd` (RFC 8878 section 3).
//!
//! The frames are made here, of verified plaintext, and kept in the cache of blocks. Those in which an owner stored the
//! blocks are not passed on: decoders differ on some frames, and two viewers would have two contents (decision 30).

use std::{sync::Arc, vec};

use bytes::Bytes;
use format::{BlockIndex, Geometry, zstd_stored, zstd_stored_bytes};
use sandbox::Tier;

use super::{
    body::{Body, Reading, Source},
    cache::{BlockCache, BlockKey, Packed},
    hand::Hand,
    miss::Fills,
    objects::Opened,
};
use crate::error::Fault;

/// An object with shards as zstd frames, which are read in order.
pub(crate) struct Coded {
    opened: Arc<Opened>,
    geometry: Geometry,
    tier: Tier,
    /// Of the blocks whose frames are not held.
    reading: Reading,
    next: BlockIndex,
    /// The first piece, once it is here.
    first: Option<Bytes>,
    /// What is left of the frame that was begun.
    pieces: vec::IntoIter<Bytes>,
    /// The bytes of all frames, where they were known.
    length: Option<u64>,
    pub(crate) source: Source,
}

impl Coded {
    /// Takes an object that is not empty and may be kept, and says whether all of it is held. Reads nothing yet.
    pub(crate) fn new(
        (cache, fills): (&BlockCache, &Fills),
        opened: Arc<Opened>,
        geometry: Geometry,
        tier: Tier,
        hand: Hand,
    ) -> Self {
        let known = cache.frames(&opened.object.locator());
        let bytes = |block| {
            let frame = known.get(&BlockIndex(block))?;
            Some(frame.unwrap_or_else(|| zstd_stored_bytes(geometry.block_bytes(BlockIndex(block)))) as u64)
        };
        let length = (0..geometry.blocks()).map(bytes).sum::<Option<u64>>();
        let is_had = |block| matches!(known.get(&block), Some(Some(_)));
        let all = 0..opened.object.length();
        let body = Body::without((cache, fills), Arc::clone(&opened), geometry, all, tier, hand, is_had);
        let source = body.source;
        let (reading, next, pieces) = (body.reading(), BlockIndex(0), vec::IntoIter::default());
        Self { opened, geometry, tier, reading, next, first: None, pieces, length, source }
    }

    /// Reads the first block, so that what fails at once still gets an honest status.
    ///
    /// # Errors
    /// The faults of reading.
    pub(crate) async fn begin(mut self, fills: &Arc<Fills>) -> Result<Self, Fault> {
        self.first = self.next(fills).await?;
        Ok(self)
    }

    /// Returns the next piece, a frame or a part of one; none at the end.
    ///
    /// # Errors
    /// The faults of reading, and of [`Frames::frame`](super::frames::Frames::frame).
    pub(crate) async fn next(&mut self, fills: &Arc<Fills>) -> Result<Option<Bytes>, Fault> {
        if let Some(piece) = self.first.take().or_else(|| self.pieces.next()) {
            return Ok(Some(piece));
        }
        if self.next.0 >= self.geometry.blocks() {
            return Ok(None);
        }
        let block = self.next;
        let held_frame = || fills.held_frame(&self.opened, self.geometry, block, self.tier);
        if held_frame().is_some() {
            // It is looked for again, for the cache may have given it up while this waited.
            self.reading.take_room().await;
            if let Some(frame) = held_frame() {
                self.next.0 += 1;
                self.reading.pass(self.geometry.block_bytes(block) as u64);
                return Ok(Some(frame));
            }
        }
        self.next.0 += 1;
        let plain = self.reading.next(fills).await?.ok_or(Fault::Damaged)?;
        let (owner, key) = (self.opened.record.lease.owner, BlockKey { locator: self.opened.object.locator(), block });
        let is_promised = self.length.is_some();
        match fills.frames.frame(owner, key, plain.clone(), self.opened.claim(), is_promised).await? {
            Packed::Frame(frame) => Ok(Some(frame)),
            Packed::Stored => {
                self.pieces = zstd_stored(&plain).into_iter();
                Ok(self.pieces.next())
            }
        }
    }

    /// Reads for an object as it was opened since: what was ordered before that concerns it no more.
    pub(crate) fn go_on_for(&mut self, opened: &Arc<Opened>) {
        if !Arc::ptr_eq(&self.opened, opened) {
            self.opened = Arc::clone(opened);
        }
        self.reading.go_on_for(opened);
    }

    /// Whether other answers of the same connection have much in hand, too.
    pub(crate) fn is_crowded(&self) -> bool {
        self.reading.is_crowded()
    }

    /// Whether the last piece was given.
    pub(crate) fn is_over(&self) -> bool {
        self.first.is_none() && self.pieces.as_slice().is_empty() && self.next.0 >= self.geometry.blocks()
    }

    /// Returns the bytes of all frames; none where they are not known before all are made.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }
}
