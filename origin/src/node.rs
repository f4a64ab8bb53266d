//! One running origin: its files, its catalog, its sessions, and the bounds they share. The API's calls and the
//! background tasks work on it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use client::{Membership, Topology, Traces, Transport};
use format::{
    NodeAddress,
    wire::{NodeEntry, Role, Survey},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{Refusal, Sent},
    catalog::{Catalog, CatalogError, CatalogId, ShardTotals},
    clock::CatalogClock,
    config::Config,
    copies::{Copies, RefreshError},
    feed::Feed,
    intake::{self, Intake, IntakeError},
    metrics::Metrics,
    store::{Rested, Space, Store, StoreError},
    upkeep,
    upload::{Taken, UploadError, Uploads},
};

/// A call into the disk that did not come back with an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a call into the disk did not end; the node is stopping or has a fault")]
pub(crate) struct Lost;

/// Why the node has no room for more shards.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    /// The share of the disk that shards may take is full.
    #[error("the node is full; use another")]
    Full,
    /// The operator wants the node empty.
    #[error("the node is being emptied; use another")]
    Draining,
    /// The disk cannot say.
    #[error("the node's disk does not answer")]
    Store(#[from] StoreError),
}

/// Why a draft may not grow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReserveError {
    /// Drafts have their share.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The disk cannot say.
    #[error("the node's disk does not answer")]
    Store(#[from] StoreError),
}

/// One running origin.
pub(crate) struct Node {
    pub(crate) config: Config,
    /// Where other nodes reach it.
    pub(crate) address: NodeAddress,
    pub(crate) store: Arc<Store>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) uploads: Arc<Uploads<Refusal>>,
    pub(crate) feed: Feed,
    pub(crate) copies: Copies,
    pub(crate) metrics: Metrics,
    /// What is told of calls; none where the operator named no collector.
    pub(crate) traces: Option<Traces>,
    /// Reaches the other nodes; what moves between origins goes over it.
    pub(crate) transport: Arc<dyn Transport>,
    /// The own certificate, and whom the cluster refuses; none for a node without a door.
    pub(crate) membership: Option<Arc<Membership>>,
    /// The nodes, as the catalog last listed them.
    pub(crate) topology: Arc<Topology>,
    /// Rings when something may have to be repaired.
    pub(crate) repair_wanted: Notify,
    /// Whether disk and catalog were compared since the start: before that the catalog may say of shards that they are
    /// here.
    pub(crate) reconciled: AtomicBool,
    /// Owns every task and every call into the disk.
    pub(crate) tasks: TaskTracker,
    /// Stops all of them.
    pub(crate) stop: CancellationToken,
    clock: Mutex<CatalogClock>,
    /// The catalog that knows what is here, once that was read or noted.
    pub(crate) catalog_id: OnceLock<CatalogId>,
    /// Whether the catalog was that one when it was asked last.
    knows_catalog: AtomicBool,
    intake: Intake,
    disk_calls: Arc<Semaphore>,
    /// Reading a draft back takes as long as its bytes do, so only some of the disk's calls may be that.
    pub(crate) read_backs: Arc<Semaphore>,
    shards: AtomicU64,
    shard_bytes: AtomicU64,
    draining: AtomicBool,
    /// What this node's last whole walk over all objects counted.
    survey: Mutex<Option<Survey>>,
}

/// What a node works on.
pub(crate) struct Parts {
    pub(crate) store: Store,
    /// Drafts that lie in the store.
    pub(crate) rested: Vec<Rested>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) membership: Option<Arc<Membership>>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) traces: Option<Traces>,
}

impl Node {
    pub(crate) fn new(config: Config, address: NodeAddress, parts: Parts, stop: CancellationToken) -> Self {
        let Parts { store, rested, catalog, transport, membership, topology, traces } = parts;
        let limits = &config.limits;
        let at_most = |bound: u32| usize::try_from(bound).unwrap_or(usize::MAX);
        let grace = Duration::from_secs(limits.erase_grace_seconds);
        let clock = CatalogClock::new(Duration::from_secs(limits.announce_seconds), grace);
        let clock = clock.resume(&store.clock_note().unwrap_or_default(), Instant::now());
        Self {
            address,
            draining: AtomicBool::new(store.is_draining()),
            store: Arc::new(store),
            feed: Feed::new(catalog.clone()),
            copies: Copies::default(),
            catalog,
            uploads: Arc::new(Uploads::new(at_most(limits.uploads_max), rested, SystemTime::now())),
            metrics: Metrics::new(),
            traces,
            transport,
            membership,
            topology,
            repair_wanted: Notify::new(),
            reconciled: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stop,
            clock: Mutex::new(clock),
            catalog_id: OnceLock::new(),
            knows_catalog: AtomicBool::new(false),
            intake: Intake::new(limits.bodies_bytes_max),
            disk_calls: Arc::new(Semaphore::new(at_most(limits.disk_calls_max))),
            read_backs: Arc::new(Semaphore::new(at_most(limits.disk_calls_max).div_ceil(8))),
            shards: AtomicU64::new(0),
            shard_bytes: AtomicU64::new(0),
            survey: Mutex::default(),
            config,
        }
    }

    /// Runs work that blocks or computes for long off the reactor, so many at once as the configuration says. Dropped,
    /// it still runs to its end.
    pub(crate) async fn off_reactor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Store>) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let permit = self.disk_calls.clone().acquire_owned().await.map_err(|_| Lost)?;
        let store = self.store.clone();
        let token = self.tasks.token();
        let work = move || {
            let done = work(&store);
            drop((permit, token));
            done
        };
        client::offload(work).await.map_err(|_| Lost)
    }

    /// Reads a request's body of at most `max` bytes.
    pub(crate) async fn body(&self, sent: Sent, max: usize) -> Result<intake::Taken, IntakeError> {
        let taken = self.intake.read(&sent.peer.name, &sent.headers, sent.body, max).await?;
        self.metrics.bytes_in.inc_by(taken.bytes.len() as u64);
        Ok(taken)
    }

    /// Reads a small body whose share of the budget need not be kept.
    pub(crate) async fn small_body(&self, sent: Sent, max: usize) -> Result<Bytes, IntakeError> {
        Ok(self.body(sent, max).await?.bytes)
    }

    /// Counts a shard that came.
    pub(crate) fn gained(&self, bytes: u64) {
        self.shards.fetch_add(1, Ordering::Relaxed);
        self.shard_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the catalog was the one that knows the disk when it was asked last.
    pub(crate) fn knows_catalog(&self) -> bool {
        self.knows_catalog.load(Ordering::Relaxed)
    }

    pub(crate) fn put_knows_catalog(&self, knows: bool) {
        self.knows_catalog.store(knows, Ordering::Relaxed);
    }

    /// Returns the catalog's clock, seconds since 1970.
    pub(crate) async fn catalog_now(&self) -> Result<u64, CatalogError> {
        let now = self.catalog.now().await?;
        let was_set = self.clock().look(now, Instant::now());
        if was_set {
            tracing::error!(now, "the catalog's clock was set: nothing is judged by it for a while");
            self.note_clock().await;
        }
        Ok(now)
    }

    /// Notes on the disk what the next run is to know of the catalog's clock.
    pub(crate) async fn note_clock(&self) {
        let Some(note) = self.clock().note(Instant::now()) else { return };
        if let Ok(Err(error)) = self.off_reactor(move |store| store.put_clock_note(&note)).await {
            tracing::warn!(%error, "what is known of the catalog's clock cannot be noted");
        }
    }

    /// What is remembered of the catalog's clock.
    pub(crate) fn clock(&self) -> MutexGuard<'_, CatalogClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the catalog's word for what is here; in between the node counts itself.
    pub(crate) async fn recount(&self) -> Result<(), CatalogError> {
        let ShardTotals { shards, bytes } = self.catalog.shard_totals(&self.config.name).await?;
        self.shards.store(shards, Ordering::Relaxed);
        self.shard_bytes.store(bytes, Ordering::Relaxed);
        self.metrics.shards.set(shards);
        self.metrics.shard_bytes.set(bytes);
        Ok(())
    }

    /// Returns the bytes of the shards held, by the node's own count.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.shard_bytes.load(Ordering::Relaxed)
    }

    /// Returns how busy the node is, 0 to 100: the memory of bodies or the calls into the disk, whichever is fuller.
    pub(crate) fn load(&self) -> u8 {
        let max = u64::from(self.config.limits.disk_calls_max);
        let free = u64::try_from(self.disk_calls.available_permits()).unwrap_or(u64::MAX);
        let calls = u8::try_from(max.saturating_sub(free) * 100 / max.max(1)).unwrap_or(100);
        calls.max(self.intake.load())
    }

    /// Refuses when shards may not take so many bytes more, also after drafts that nobody used lately gave their room.
    /// A call into the disk, and two more for each of these.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), RoomError> {
        if self.is_draining() {
            return Err(RoomError::Draining);
        }
        loop {
            let space = self.store.space()?;
            if self.room(space).1 >= bytes {
                return Ok(());
            }
            // Drafts take room of the disk, and none of what the operator allows shards to take.
            let is_full_for_good = space.usable_bytes() >= bytes || self.uploads.yield_room(Instant::now()).is_none();
            if is_full_for_good {
                return Err(RoomError::Full);
            }
        }
    }

    /// Counts bytes that a call is about to add to its draft, also after unused drafts gave their room. All drafts
    /// together may have what shards may still take, so that none is written in vain.
    pub(crate) fn reserve(&self, taken: &Taken<Refusal>, bytes: u64) -> Result<(), ReserveError> {
        loop {
            let (space, drafts) = (self.store.space()?, self.uploads.bytes());
            let on_disk = space.usable_bytes().saturating_add(drafts);
            let allowed = self.config.capacity_bytes.map(|capacity| capacity.saturating_sub(self.held_bytes()));
            let reserved = taken.reserve(bytes, allowed.unwrap_or(u64::MAX).min(on_disk));
            if reserved.is_ok() || taken.make_room(Instant::now()).is_none() {
                return Ok(reserved?);
            }
        }
    }

    /// Returns the bytes that drafts at rest may take.
    pub(crate) fn resting_bytes_max(&self) -> Result<u64, StoreError> {
        let space = self.store.space()?;
        let (capacity, _) = self.room(space);
        // The shards lie in the object store, the uploads all the same on the disk.
        let capacity = if self.config.bucket.is_some() { capacity.min(space.usable_bytes()) } else { capacity };
        Ok(capacity / 100 * u64::from(self.config.limits.resting_uploads_percent))
    }

    /// Returns the bytes shards may take, and those of them that are free. With an object store the disk has only
    /// uploads under way, and is either full or does not matter.
    fn room(&self, space: Space) -> (u64, u64) {
        let (held, usable) = (self.held_bytes(), space.usable_bytes());
        let capacity = self.config.capacity_bytes.unwrap_or_else(|| usable.saturating_add(held));
        let on_disk = if self.config.bucket.is_some() && usable > 0 { u64::MAX } else { usable };
        (capacity, capacity.saturating_sub(held).min(on_disk))
    }

    /// Returns what the node says of itself.
    pub(crate) fn entry(&self) -> Result<NodeEntry, StoreError> {
        let space = self.store.space()?;
        let (capacity_bytes, free_bytes) = self.room(space);
        // Nobody sends shards to a node without room.
        let free_bytes = if self.store.is_writable() { free_bytes } else { 0 };
        self.metrics.disk_free_bytes.set(free_bytes);
        Ok(NodeEntry {
            name: self.config.name.clone(),
            role: Role::Origin,
            address: Some(self.address.clone()),
            public: Vec::new(),
            place: self.config.place.clone(),
            capacity_bytes,
            free_bytes,
            load: self.intake.load(),
            draining: self.is_draining(),
            seen: 0,
        })
    }

    /// Returns what this node's last whole walk over all objects counted.
    pub(crate) fn survey(&self) -> Option<Survey> {
        self.survey.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put_survey(&self, survey: Survey) {
        *self.survey.lock().unwrap_or_else(PoisonError::into_inner) = Some(survey);
    }

    /// Whether the operator wants the node empty.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Empties the node, or fills it again; remembered over restarts and told to all.
    pub(crate) async fn drain(self: &Arc<Self>, draining: bool) -> Result<(), RefreshError> {
        self.off_reactor(move |store| store.put_draining(draining)).await??;
        self.draining.store(draining, Ordering::Relaxed);
        tracing::info!(node = %self.config.name, draining, "told by the operator");
        upkeep::announce(self).await?;
        Ok(())
    }
}
