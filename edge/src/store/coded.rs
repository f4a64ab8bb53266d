//! A whole object as it goes out compressed: a zstd frame for each block, one after another, which together are one
//! content of the coding `zstd` (RFC 8878 section 3).
//!
//! The frames are made here, of verified plaintext, and kept in the cache of blocks. Those in which an owner stored the
//! blocks are not passed on: decoders differ on some frames, and two viewers would have two contents (decision 30).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use format::{BlockIndex, Geometry, zstd_frame};
use sandbox::Tier;
use tokio::task::spawn_blocking;

use super::{
    body::{Body, Reading, Source},
    cache::{BlockCache, BlockKey},
    miss::Fills,
    objects::Opened,
};
use crate::error::Fault;

/// An object with shards as zstd frames, which are read in order.
pub(crate) struct Coded {
    cache: BlockCache,
    opened: Arc<Opened>,
    geometry: Geometry,
    tier: Tier,
    /// Of the blocks whose frames are not held.
    reading: Reading,
    /// Before the first of them was read: what is forgotten after that is not kept again.
    begun: Instant,
    next: BlockIndex,
    /// The first frame, once it is here.
    first: Option<Bytes>,
    /// The bytes of all frames, where all were held.
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
    ) -> Self {
        let begun = Instant::now();
        let locator = opened.object.locator();
        let bytes = |block| Some(cache.frame(&BlockKey { locator, block: BlockIndex(block) })?.len() as u64);
        let length = (0..geometry.blocks()).map(bytes).sum::<Option<u64>>();
        let body = Body::new((cache, fills), Arc::clone(&opened), geometry, 0..opened.object.length(), tier);
        let source = if length.is_some() { Source::Hit } else { body.source };
        let (cache, reading) = (cache.clone(), body.reading());
        Self { cache, opened, geometry, tier, reading, begun, next: BlockIndex(0), first: None, length, source }
    }

    /// Reads the first block, so that what fails at once still gets an honest status.
    ///
    /// # Errors
    /// The faults of reading.
    pub(crate) async fn begin(mut self, fills: &Arc<Fills>) -> Result<Self, Fault> {
        self.first = self.next(fills).await?;
        Ok(self)
    }

    /// Returns the next frame; none at the end.
    ///
    /// # Errors
    /// The faults of reading.
    pub(crate) async fn next(&mut self, fills: &Arc<Fills>) -> Result<Option<Bytes>, Fault> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.next.0 >= self.geometry.blocks() {
            return Ok(None);
        }
        let block = self.next;
        self.next.0 += 1;
        if let Some(frame) = fills.held_frame(&self.opened, self.geometry, block, self.tier) {
            self.reading.pass(self.geometry.block_bytes(block) as u64);
            return Ok(Some(frame));
        }
        let plain = self.reading.next(fills).await?.ok_or(Fault::Damaged)?;
        let _turn = fills.compressing.acquire().await.map_err(|_| Fault::Busy)?;
        let frame = spawn_blocking(move || Bytes::from(zstd_frame(&plain))).await.map_err(|_| Fault::Busy)?;
        self.cache.insert_frame(BlockKey { locator: self.opened.object.locator(), block }, frame.clone(), self.begun);
        Ok(Some(frame))
    }

    /// Whether the last frame was given.
    pub(crate) fn is_over(&self) -> bool {
        self.first.is_none() && self.next.0 >= self.geometry.blocks()
    }

    /// Returns the bytes of all frames; none where they are not known before all are made.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }
}
