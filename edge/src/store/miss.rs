//! The miss path: blocks that are not held are read from origins, once for all who want them.
//!
//! A fill is a task of its own, so it goes on when the viewer who caused it leaves; it puts its blocks into the cache,
//! unless the owner lets none be kept: then only who waits has them. All wanted columns of a stripe are read together.
//! Keeps true: at most `fill_bytes_max` of decoded bytes are on their way at one time, of one owner's objects half of
//! what the others leave; every fill ends by a deadline, and one block is read once however many wait for it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZero,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Near, Reader, Said, Scope, ShardAsk, Shelf, Span};
use format::{BlockIndex, Geometry, NodeName, PublicManifest, StripeIndex, limits::BLOCK_BYTES, wire::StripPath};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use sandbox::Tier;
use tokio::{runtime::Handle, sync::oneshot, task::JoinSet, time::timeout};

use super::{
    cache::{BlockCache, BlockKey},
    disk::DiskTier,
    frames::Frames,
    objects::Opened,
    records::fault_of_read,
    region::{Home, NotBrought, Region},
    room::{Room, Taken},
};
use crate::{error::Fault, metrics::Metrics};

/// A stripe must be there by then; origins that are merely slow are hedged long before.
const FILL_DEADLINE: Duration = Duration::from_secs(25);
/// A block may be evicted before the one who waited for it looks; then it is read again, but not for ever.
const TRIES_MAX: usize = 3;

type Blocks = Arc<Vec<(BlockIndex, Bytes)>>;
pub(crate) type Flight = Shared<BoxFuture<'static, Result<Blocks, Fault>>>;

/// Blocks of one stripe that were on their way when a viewer came near them, in order. They are kept for that viewer,
/// because the cache keeps only what it thinks worth it.
pub(crate) struct Ahead {
    flights: VecDeque<(BlockIndex, Flight)>,
    /// When they were asked for.
    begun: Instant,
    _room: Option<Taken>,
}

impl Ahead {
    /// Takes out what brings a block, and forgets what comes before it. Says since when it was asked for.
    pub(crate) fn take(&mut self, block: BlockIndex) -> Option<(Flight, Instant)> {
        while self.flights.front()?.0 < block {
            self.flights.pop_front();
        }
        self.flights.pop_front_if(|(index, _)| *index == block).map(|(_, flight)| (flight, self.begun))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }
}

/// Blocks that one read brings: they are on their way until it is dropped, whatever ends it.
struct UnderWay {
    fills: Arc<Fills>,
    keys: Vec<BlockKey>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.fills.state();
        for key in &self.keys {
            state.flights.remove(key);
        }
    }
}

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

#[derive(Default)]
struct State {
    flights: HashMap<BlockKey, Flight>,
    tasks: JoinSet<()>,
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

    /// Whether strips are kept, on a disk or for other edges.
    pub(crate) fn keeps_strips(&self) -> bool {
        self.has_disk() || self.region.is_some()
    }

    /// Has the disk, and what is kept for other edges, forget an object. Blocks for microseconds of each strip that it
    /// may hold.
    pub(crate) fn forget(&self, public: &PublicManifest) {
        let (disk, region) = (self.disk.get(), self.region.as_ref());
        if disk.is_none() && region.is_none() {
            return;
        }
        self.metrics.disk_sweeps.inc_by(u64::from(disk.is_some()));
        for stripe in 0..public.stripes() {
            for column in 0..public.columns() {
                let ask = ShardAsk { object: public.id(), column, first: stripe, count: 1 };
                if let Some(disk) = disk {
                    disk.forget(&ask);
                }
                if let Some(region) = region {
                    region.forget(&ask);
                }
            }
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

    /// Waits for a block that was asked for ahead; none when it could not be read then.
    pub(crate) async fn landed(&self, flight: Flight, block: BlockIndex) -> Option<Bytes> {
        let blocks = flight.await.ok()?;
        self.metrics.block_misses.inc();
        blocks.iter().find(|(index, _)| *index == block).map(|(_, bytes)| bytes.clone())
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

    /// Begins to read those of a stripe's data columns that are neither held nor on their way. Never waits; none when
    /// viewers who are slow have all the room for what is ahead of them, or the owner's all of its share.
    pub(crate) fn ahead(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        stripe: StripeIndex,
        columns: &[usize],
        tier: Tier,
    ) -> Option<Ahead> {
        let wanted = u32::try_from(columns.len()).unwrap_or(u32::MAX);
        let room = self.ahead.try_take(opened.record.lease.owner, wanted)?;
        let begun = Instant::now();
        let launched = self.launch(opened, geometry, stripe, columns.iter().copied(), tier).into_iter();
        let mut flights: Vec<_> = launched.filter_map(|(block, flight)| Some((block, flight?))).collect();
        flights.sort_unstable_by_key(|(block, _)| *block);
        let room = (!flights.is_empty()).then_some(room);
        Some(Ahead { flights: flights.into(), begun, _room: room })
    }

    /// Begins to read what is likely to be wanted of a range, as far as the owner has half of its share of the room
    /// free then. Returns whether anything was begun. Never waits; nobody is told of the end.
    pub(crate) fn prefetch(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        range: Range<u64>,
        tier: Tier,
    ) -> bool {
        let mut is_begun = false;
        let mut columns_of = BTreeMap::<u64, Range<usize>>::new();
        for slice in geometry.slices(range) {
            let (stripe, column) = geometry.place(slice.block);
            columns_of.entry(stripe.0).or_insert(column..column).end = column + 1;
        }
        for (stripe, columns) in columns_of {
            let wanted = u32::try_from(columns.len()).unwrap_or(u32::MAX);
            if !self.room.is_half_free(&opened.record.lease.owner, wanted) {
                break;
            }
            self.metrics.prefetches.inc();
            drop(self.launch(opened, geometry, StripeIndex(stripe), columns, tier));
            is_begun = true;
        }
        is_begun
    }

    /// Returns, for each of the columns, its block and the read that brings it; no read where the cache has it.
    fn launch(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        geometry: Geometry,
        stripe: StripeIndex,
        columns: impl Iterator<Item = usize>,
        tier: Tier,
    ) -> Vec<(BlockIndex, Option<Flight>)> {
        let locator = opened.object.locator();
        let key = |column| BlockKey { locator, block: geometry.block(stripe, column) };
        let mut state = self.state();
        // A fill puts its blocks into the cache before its flight is taken away, so under the lock none slips through.
        let (mut wanted, mut missing) = (Vec::new(), Vec::new());
        for column in columns.filter(|column| *column < geometry.columns(stripe)) {
            let key = key(column);
            let flight = state.flights.get(&key).cloned();
            if flight.is_none() && !self.cache.holds(&key) {
                missing.push(column);
            } else {
                wanted.push((key.block, flight));
            }
        }
        if missing.is_empty() {
            return wanted;
        }
        let (done, filled) = oneshot::channel();
        let flight: Flight = filled.map(|result| result.unwrap_or(Err(Fault::Busy))).boxed().shared();
        for column in &missing {
            let key = key(*column);
            state.flights.insert(key, flight.clone());
            wanted.push((key.block, Some(flight.clone())));
        }
        // Ended tasks are taken out here, so that the set stays as small as the work under way.
        while state.tasks.try_join_next().is_some() {}
        let (fills, opened) = (Arc::clone(self), Arc::clone(opened));
        let (keys, begun) = (missing.iter().map(|column| key(*column)).collect(), Instant::now());
        let read = async move {
            // Made here: a runtime that ends drops what it is given at once, and the state is held now.
            let under_way = UnderWay { fills: Arc::clone(&fills), keys };
            let span = Span::within("fill");
            let result = span.scope().around(fills.fill(&opened, stripe, &missing, tier, &span)).await;
            if let Ok(blocks) = &result {
                for (block, bytes) in blocks.iter().filter(|_| tier != Tier::None) {
                    fills.cache.insert(BlockKey { locator, block: *block }, bytes.clone(), begun);
                }
            } else {
                fills.metrics.fill_faults.inc();
                span.fail("the nodes");
            }
            drop((under_way, span));
            // Nobody may be waiting any more; the cache has what may be kept.
            let _ = done.send(result);
        };
        // Whoever asks may run on a worker, where decoding would hold up all its viewers.
        state.tasks.spawn_on(Scope::current().around(read), &self.control);
        wanted
    }

    async fn fill(
        &self,
        opened: &Opened,
        stripe: StripeIndex,
        columns: &[usize],
        tier: Tier,
        span: &Span,
    ) -> Result<Blocks, Fault> {
        span.say("evernear.blocks", Said::Number(columns.len() as u64));
        let wanted = u32::try_from(columns.len()).unwrap_or(u32::MAX);
        let room = self.room.take(opened.record.lease.owner, wanted).await;
        let _room = room.inspect_err(|_| _ = self.metrics.fills_turned_away.inc())?;
        let disk = self.disk(tier).map(|disk| disk.shelf(opened.is_wanted()));
        // What its owner lets nobody keep no other edge is asked for: it would keep the ciphertext.
        let region = self.region.as_ref().filter(|_| tier != Tier::None);
        let home = region.and_then(|region| Some((region, region.home(&opened.object.public().id(), stripe)?)));
        let (kept, disk, neighbour) = match home {
            Some((region, Home::Here)) => (Some(region.shelf(disk)), None, None),
            Some((_, Home::At(neighbour))) => (None, disk, Some(neighbour)),
            None => (None, disk, None),
        };
        let shelf = kept.as_ref().map(|kept| kept as &dyn Shelf).or(disk.as_ref().map(|disk| disk as &dyn Shelf));
        let near = Near { shelf, neighbour: neighbour.as_ref() };
        let read = self.reader.blocks_near(near, &opened.object, &opened.record.placement, stripe, columns);
        let read = timeout(FILL_DEADLINE, read).await.map_err(|_| Fault::Slow)?.map_err(|error| {
            let locator = opened.object.locator();
            tracing::warn!(%locator, stripe = stripe.0, error = &error as &dyn std::error::Error, "stripe cannot be read");
            fault_of_read(&error)
        })?;
        self.metrics.fills.inc();
        self.metrics.fill_bytes.inc_by(read.bytes);
        self.metrics.neighbour_bytes.inc_by(read.neighbour_bytes);
        self.metrics.fills_recovered.inc_by(u64::from(read.recovered));
        span.say("evernear.nodes", Said::Number(read.nodes.len() as u64));
        span.say("evernear.bytes", Said::Number(read.bytes));
        span.say("evernear.recovered", Said::Number(read.recovered.into()));
        Ok(Arc::new(read.blocks))
    }

    /// Ends all fills, whoever waits gets [`Fault::Busy`], and writes what is on its way to the disk.
    pub(crate) async fn stop(&self) {
        {
            let mut state = self.state();
            state.tasks.abort_all();
            state.flights.clear();
        }
        if let Some(disk) = self.disk.get() {
            disk.close().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use client::{ReaderOptions, Topology, Transport};
    use format::wire::NodeEntry;
    use testing::{Fault as NodeFault, FaultyTransport, MemoryTransport, Sample};
    use tokio::time::Instant as Virtual;

    use super::*;
    use crate::{
        config::CacheConfig,
        store::{objects::Objects, register::Register},
    };

    /// Blocks that may be on their way at one time.
    const ROOM_BLOCKS: usize = 8;
    const CROWD_BLOCKS: usize = 64;
    /// What a strip takes to come.
    const STRIP_TIME: Duration = Duration::from_secs(1);

    /// Two owners' objects at slow origins, and an edge with little room.
    struct Scene {
        fills: Arc<Fills>,
        opened: [Arc<Opened>; 2],
    }

    impl Scene {
        async fn new() -> Self {
            let nodes: Vec<NodeEntry> = ["a", "b"].map(|zone| testing::node(zone, testing::place(zone))).into();
            let origins = Arc::new(MemoryTransport::new(&nodes));
            let samples = [Sample::new(1, CROWD_BLOCKS * BLOCK_BYTES), Sample::new(2, ROOM_BLOCKS * BLOCK_BYTES)];
            for sample in &samples {
                let (node, columns) = (&nodes[0].name, sample.columns.len());
                for (column, cells) in sample.columns.iter().enumerate() {
                    let upload = origins.create_upload(node, column, columns).await.unwrap();
                    origins.append(node, &upload, 0, cells).await.unwrap();
                    let public = sample.sealed.public.encoded().clone();
                    origins.commit(node, &upload, column, public).await.unwrap();
                }
                let record = Bytes::from(sample.record(&sample.lease(1), node).encode());
                for node in &nodes {
                    origins.put_record(&node.name, &sample.sealed.locator, record.clone()).await.unwrap();
                }
            }
            let slow: Arc<dyn Transport> = Arc::new(FaultyTransport::new(origins, |_| NodeFault::Late(STRIP_TIME)));
            let topology = Arc::new(Topology::new(nodes));
            let reader = Reader::new(slow, topology, testing::place("here"), ReaderOptions::default());
            let (reader, config) = (Arc::new(reader), CacheConfig::default());
            let objects = Arc::new(Objects::new(Arc::clone(&reader), &config, Arc::new(Register::default())));
            let room_bytes = (ROOM_BLOCKS * BLOCK_BYTES) as u64;
            let cache = BlockCache::new(config.block_bytes_max);
            let fills = Arc::new(Fills::new(reader, cache, room_bytes, None, Arc::new(Metrics::new())));
            let [crowded, other] = samples.map(|sample| sample.sealed.capability);
            let opened = [objects.open(&crowded).await.unwrap(), objects.open(&other).await.unwrap()];
            Self { fills, opened }
        }

        /// Asks for one block of each owner's object and returns how long it took, in strips.
        fn ask(&self, owner: usize, block: usize) -> tokio::task::JoinHandle<Result<u64, Fault>> {
            let (fills, opened) = (Arc::clone(&self.fills), Arc::clone(&self.opened[owner]));
            tokio::spawn(async move {
                let begun = Virtual::now();
                let geometry = opened.object.geometry().unwrap();
                fills.block(&opened, geometry, BlockIndex(block as u64), Tier::Memory).await?;
                Ok(begun.elapsed().as_secs() / STRIP_TIME.as_secs())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_on_one_owners_cold_blocks_delays_no_other_owners() {
        let scene = Scene::new().await;
        let storm: Vec<_> = (0..CROWD_BLOCKS).map(|block| scene.ask(0, block)).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let others: Vec<_> = (0..2).map(|block| scene.ask(1, block)).collect();
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(1), "it takes as long as without the storm");
        }
        let (mut served, mut busy) = (0, 0);
        for read in storm {
            match read.await.unwrap() {
                Ok(_) => served += 1,
                Err(fault) => {
                    assert_eq!(fault, Fault::Busy);
                    busy += 1;
                }
            }
        }
        assert!(served >= 2 * ROOM_BLOCKS && busy > 0, "{served} served, {busy} told to come again");
    }
}
