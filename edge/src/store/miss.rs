//! The miss path: blocks that are not held are read from origins, once for all who want them.
//!
//! A fill is a task of its own, so it goes on when the viewer who caused it leaves; it puts its blocks into the cache,
//! unless the owner lets none be kept: then only who waits has them. All wanted columns of a stripe are read together.
//! Keeps true: at most `fill_bytes_max` of decoded bytes are on their way at one time, of one owner's objects half of
//! what the others leave; every fill ends by a deadline, and one block is read once however many wait for it.

mod ahead;
mod flights;

use std::{
    num::NonZero,
    ops::Range,
    sync::{Arc, Mutex, OnceLock},
    thread::available_parallelism,
    time::Duration,
};

use bytes::Bytes;
use client::{Reader, ShardAsk};
use format::{
    BlockIndex, Geometry, NodeName, OwnerId, PublicManifest, StripeIndex, limits::BLOCK_BYTES, wire::StripPath,
    zstd_stored, zstd_stored_bytes,
};
use sandbox::Tier;
use tokio::runtime::Handle;

use self::flights::State;
pub(crate) use self::{ahead::Ahead, flights::Flight};
use super::{
    cache::{BlockCache, BlockKey, Packed},
    disk::DiskTier,
    frames::Frames,
    objects::Opened,
    region::{NotBrought, Region},
    room::Room,
};
use crate::{error::Fault, metrics::Metrics};

/// A block may be evicted before the one who waited for it looks; then it is read again, but not for ever.
const TRIES_MAX: usize = 3;

/// All reads from origins and the disk that are on their way.
pub(crate) struct Fills {
    reader: Arc<Reader>,
    cache: BlockCache,
    /// Taken up once, at the start or when a predecessor has let go of it.
    disk: OnceLock<DiskTier>,
    /// The other edges that bring strips; none where the operator wants none asked.
    region: Option<Region>,
    /// One place for each block of 256 KiB.
    room: Arc<Room>,
    /// The same for blocks that were asked for ahead of a viewer and are not yet written.
    ahead: Arc<Room>,
    pub(super) frames: Arc<Frames>,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
    /// Where reads run: the runtime on which this was made.
    control: Handle,
}

impl Fills {
    pub(crate) fn new(
        reader: Arc<Reader>,
        cache: BlockCache,
        fill_bytes_max: u64,
        region: Option<Region>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let room_blocks = u32::try_from(fill_bytes_max / BLOCK_BYTES as u64).unwrap_or(u32::MAX);
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            reader,
            frames: Frames::new(cache.clone(), u32::try_from(cores).unwrap_or(u32::MAX)),
            cache,
            disk: OnceLock::new(),
            region,
            room: Room::new(room_blocks),
            ahead: Room::new(room_blocks),
            state: Mutex::default(),
            metrics,
            control: Handle::current(),
        }
    }

    /// Takes the disk up; it can be done once.
    pub(crate) fn take_up(&self, disk: DiskTier) {
        // The second would be closed again, which costs nothing but its start.
        let _ = self.disk.set(disk);
    }

    /// Whether a disk was taken up.
    pub(crate) fn has_disk(&self) -> bool {
        self.disk.get().is_some()
    }

    /// Has the disk forget an object. Blocks for microseconds of each strip that it may hold.
    pub(crate) fn forget(&self, public: &PublicManifest) {
        if !self.has_disk() {
            return;
        }
        self.metrics.disk_sweeps.inc();
        for stripe in (0..public.stripes()).map(StripeIndex) {
            self.forget_stripe(public, stripe);
        }
    }

    /// The same for what came of one stripe.
    fn forget_stripe(&self, public: &PublicManifest, stripe: StripeIndex) {
        let Some(disk) = self.disk.get() else { return };
        for column in 0..public.columns() {
            disk.forget(&ShardAsk { object: public.id(), column, first: stripe.0, count: 1 });
        }
    }

    /// Has memory forget what is kept of an owner's for other edges.
    pub(crate) fn forget_strips(&self, owner: &OwnerId) {
        if let Some(region) = &self.region {
            region.forget(owner);
        }
    }

    /// Brings a strip for another edge of the region. Cancel safe.
    ///
    /// # Errors
    /// [`NotBrought`].
    pub(crate) async fn bring(
        &self,
        asker: &NodeName,
        path: StripPath,
        within: Option<Duration>,
    ) -> Result<Bytes, NotBrought> {
        match &self.region {
            Some(region) => region.bring(self.disk.get(), asker, path, within).await,
            None => Err(NotBrought::NoStrip),
        }
    }

    /// The disk, for an object whose blocks may lie there.
    fn disk(&self, tier: Tier) -> Option<&DiskTier> {
        self.disk.get().filter(|_| tier == Tier::Disk)
    }

    /// Whether a block's strip is likely to be on the disk, or enough others of its stripe.
    pub(crate) fn is_on_disk(&self, opened: &Opened, geometry: Geometry, block: BlockIndex, tier: Tier) -> bool {
        let (stripe, column) = geometry.place(block);
        let public = opened.object.public();
        let ask = |column| ShardAsk { object: public.id(), column, first: stripe.0, count: 1 };
        self.disk(tier).is_some_and(|disk| {
            let holds = |column: &usize| disk.holds(&ask(*column));
            let need = geometry.columns(stripe);
            holds(&column) || (0..public.columns()).filter(holds).take(need).count() == need
        })
    }

    /// Returns a block that may be kept, if the cache has it.
    pub(crate) fn held(&self, opened: &Opened, geometry: Geometry, block: BlockIndex, tier: Tier) -> Option<Bytes> {
        let found = self.cache.get(&BlockKey { locator: opened.object.locator(), block })?;
        self.found(opened, geometry, block, tier);
        Some(found)
    }

    /// Returns a block as a zstd frame, if the cache has it so.
    pub(super) fn held_frame(
        &self,
        opened: &Opened,
        geometry: Geometry,
        block: BlockIndex,
        tier: Tier,
    ) -> Option<Bytes> {
        let found = self.cache.frame(&BlockKey { locator: opened.object.locator(), block })?;
        self.found(opened, geometry, block, tier);
        Some(found)
    }

    /// Adds a block as it goes out compressed to a content, if the cache has all that it takes to know and to make
    /// that.
    pub(crate) fn add_packed(
        &self,
        opened: &Opened,
        geometry: Geometry,
        block: BlockIndex,
        tier: Tier,
        content: &mut Vec<Bytes>,
    ) -> Option<()> {
        match self.cache.packed(&BlockKey { locator: opened.object.locator(), block })? {
            Packed::Frame(frame) => {
                self.found(opened, geometry, block, tier);
                content.push(frame);
            }
            Packed::Stored => content.extend(zstd_stored(&self.held(opened, geometry, block, tier)?)),
        }
        Some(())
    }

    /// Whether the cache has a block. Counts as no use of it.
    pub(crate) fn holds(&self, opened: &Opened, block: BlockIndex) -> bool {
        self.cache.holds(&BlockKey { locator: opened.object.locator(), block })
    }

    /// Returns the bytes of a block as it goes out compressed, if the cache has all that it takes to make that.
    pub(crate) fn packed_bytes(&self, opened: &Opened, geometry: Geometry, block: BlockIndex) -> Option<u64> {
        let bytes = match self.cache.packed(&BlockKey { locator: opened.object.locator(), block })? {
            Packed::Frame(frame) => frame.len(),
            Packed::Stored => self.holds(opened, block).then(|| zstd_stored_bytes(geometry.block_bytes(block)))?,
        };
        Some(bytes as u64)
    }

    pub(super) fn holds_frame(&self, opened: &Opened, block: BlockIndex) -> bool {
        self.cache.holds_frame(&BlockKey { locator: opened.object.locator(), block })
    }

    fn found(&self, opened: &Opened, geometry: Geometry, block: BlockIndex, tier: Tier) {
        self.metrics.block_hits.inc();
        // It may have come when the object was asked for once, and the disk did not take it.
        if let Some(disk) = self.disk(tier).filter(|_| opened.is_wanted()) {
            disk.keep(&opened.object.public().id(), geometry.place(block).0);
        }
    }

    /// Returns a block that may be kept, from the cache, the disk or origins. Cancel safe: the fill goes on.
    ///
    /// # Errors
    /// The nodes' faults, or [`Fault::Busy`].
    pub(crate) async fn block(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        block: BlockIndex,
        tier: Tier,
    ) -> Result<Bytes, Fault> {
        for _ in 0..TRIES_MAX {
            if let Some(found) = self.held(opened, geometry, block, tier) {
                return Ok(found);
            }
            let (stripe, column) = geometry.place(block);
            let Some((_, Some(flight))) = self.launch(opened, geometry, stripe, column..column + 1, tier).pop() else {
                continue;
            };
            self.metrics.block_misses.inc();
            let blocks = flight.await?;
            if let Some((_, found)) = blocks.iter().find(|(index, _)| *index == block) {
                return Ok(found.clone());
            }
        }
        Err(Fault::Busy)
    }

    /// Returns some blocks of one stripe, in order, for an object of which none may be kept: what the cache still has
    /// from before the owner said so leaves it. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub(crate) async fn unkept(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        stripe: StripeIndex,
        columns: Range<usize>,
    ) -> Result<Vec<(BlockIndex, Bytes)>, Fault> {
        let locator = opened.object.locator();
        'again: for _ in 0..TRIES_MAX {
            let mut found = Vec::with_capacity(columns.len());
            let mut wanted = self.launch(opened, geometry, stripe, columns.clone(), Tier::None);
            wanted.sort_by_key(|(block, _)| block.0);
            for (block, flight) in wanted {
                let blocks = match flight {
                    Some(flight) => {
                        // Its frame may have outlived it.
                        self.cache.remove(&BlockKey { locator, block });
                        flight.await?
                    }
                    None => match self.cache.remove(&BlockKey { locator, block }) {
                        Some(held) => Arc::new(vec![(block, held)]),
                        None => continue 'again,
                    },
                };
                found.extend(blocks.iter().find(|(index, _)| *index == block).cloned());
            }
            self.metrics.block_misses.inc_by(found.len() as u64);
            return Ok(found);
        }
        Err(Fault::Busy)
    }
}

#[cfg(test)]
mod tests;
