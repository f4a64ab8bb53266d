//! Objects that are open: locator -> record and opened object, kept until told of a change, and the names nobody knows.
//!
//! A record older than `record_seconds` still serves while it is looked up again behind the viewer's back: the control
//! plane may be down, what is held goes on being served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use client::{ReadError, Reader};
use format::{Capability, Locator, Object, OpenError, OwnerId, Record};
use moka::{future, sync};
use tokio::{sync::Semaphore, time::timeout};

use crate::{clock, config::CacheConfig, error::Fault};

/// A record must be found by then, over all nodes asked.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// Look-ups at one time: names with a good check cost nothing to make up, so what they cost us is bounded.
const LOOK_UPS_MAX: usize = 512;
/// Waiting for one of these.
const ROOM_DEADLINE: Duration = Duration::from_secs(1);
/// Changes remembered, and for how long: a look-up that began before a change may end after it, but not by so much.
const CHANGED_MAX: u64 = 100_000;
const CHANGED_TIME: Duration = Duration::from_secs(60);
const _: () = assert!(OPEN_DEADLINE.as_secs() * 2 < CHANGED_TIME.as_secs());
/// Names that nobody knows and are remembered as such; each takes some 100 B.
const UNKNOWN_MAX: u64 = 100_000;

/// An object with the record it was opened from.
pub(crate) struct Opened {
    pub(crate) object: Arc<Object>,
    pub(crate) record: Record,
    capability: Capability,
    /// When its look-up began.
    since: Instant,
    refreshing: AtomicBool,
    /// How often its beginning was asked for; one with its next record.
    begun: Arc<AtomicU64>,
}

/// A change of a record.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// Another lease or placement, told at this moment. The old one serves until the new one is here.
    Changed(Instant),
    /// The owner erased the object: that is final.
    Erased,
}

/// All open objects.
pub(crate) struct Objects {
    reader: Arc<Reader>,
    opened: future::Cache<Locator, Arc<Opened>>,
    /// What an attempt to open came to, for a short while.
    faults: sync::Cache<Locator, Fault>,
    /// What the change feed told lately: a look-up that began before must not undo it.
    told: sync::Cache<Locator, Told>,
    room: Semaphore,
    record_time: Duration,
}

impl Opened {
    /// Takes note that somebody asked for the object from its first byte on.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether more than one did.
    pub(crate) fn is_wanted(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 1
    }

    /// Returns the fault of an object that may no longer be read.
    pub(crate) fn check_lease(&self, now: SystemTime) -> Result<(), Fault> {
        if self.record.lease.is_alive(clock::unix_seconds(now)) { Ok(()) } else { Err(Fault::Erased) }
    }
}

impl Objects {
    pub(crate) fn new(reader: Arc<Reader>, config: &CacheConfig) -> Self {
        Self {
            reader,
            opened: future::Cache::new(config.objects_max),
            faults: sync::Cache::builder().max_capacity(UNKNOWN_MAX).time_to_live(config.unknown_time()).build(),
            told: sync::Cache::builder().max_capacity(CHANGED_MAX).time_to_live(CHANGED_TIME).build(),
            room: Semaphore::new(LOOK_UPS_MAX),
            record_time: config.record_time(),
        }
    }

    /// Opens an object: from memory, else from the nodes, once for all who ask at a time. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Unknown`], [`Fault::Erased`], or a fault of the nodes.
    pub(crate) async fn open(self: &Arc<Self>, capability: &Capability) -> Result<Arc<Opened>, Fault> {
        let locator = capability.locator();
        let told = self.told.get(&locator);
        if matches!(told, Some(Told::Erased)) {
            return Err(Fault::Erased);
        }
        if let Some(opened) = self.opened.get(&locator).await {
            let is_old = matches!(told, Some(Told::Changed(at)) if at >= opened.since);
            if is_old || opened.since.elapsed() >= self.record_time {
                self.refresh(&opened);
            }
            return Ok(opened);
        }
        if let Some(fault) = self.faults.get(&locator) {
            return Err(fault);
        }
        let opened = self.opened.try_get_with(locator, self.look_up(capability, Arc::default())).await;
        opened.map_err(|fault| {
            let fault = (*fault).clone();
            if matches!(fault, Fault::Unknown | Fault::Erased) {
                self.faults.insert(locator, fault.clone());
            }
            fault
        })
    }

    async fn look_up(&self, capability: &Capability, begun: Arc<AtomicU64>) -> Result<Arc<Opened>, Fault> {
        let room = timeout(ROOM_DEADLINE, self.room.acquire()).await;
        let _room = room.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)?;
        let since = Instant::now();
        let found = timeout(OPEN_DEADLINE, self.reader.object(capability)).await.map_err(|_| Fault::Slow)?;
        let (object, record) = found.map_err(|error| {
            let fault = fault_of_read(&error);
            if !matches!(fault, Fault::Unknown | Fault::Erased) {
                let locator = capability.locator();
                tracing::warn!(%locator, error = &error as &dyn std::error::Error, "object cannot be opened");
            }
            fault
        })?;
        // The erasure may have been told while a node still gave the record.
        if matches!(self.told.get(&object.locator()), Some(Told::Erased)) {
            return Err(Fault::Erased);
        }
        let capability = capability.clone();
        Ok(Arc::new(Opened { object, record, capability, since, refreshing: AtomicBool::new(false), begun }))
    }

    /// Looks a record up again, once at a time, while the old one serves: when no node can be asked, it goes on
    /// serving.
    fn refresh(self: &Arc<Self>, opened: &Arc<Opened>) {
        if opened.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (objects, opened) = (Arc::clone(self), Arc::clone(opened));
        // Ends by OPEN_DEADLINE and holds nothing but its arguments, so nobody needs to own it.
        tokio::spawn(async move {
            let locator = opened.object.locator();
            match objects.look_up(&opened.capability, Arc::clone(&opened.begun)).await {
                Ok(fresh) => objects.opened.insert(locator, fresh).await,
                Err(Fault::Unknown | Fault::Erased) => objects.opened.invalidate(&locator).await,
                Err(_) => opened.refreshing.store(false, Ordering::Relaxed),
            }
        });
    }

    /// Takes note that a record changed, and looks it up at once when the object is open.
    pub(crate) async fn changed(self: &Arc<Self>, locator: Locator) {
        if !matches!(self.told.get(&locator), Some(Told::Erased)) {
            self.told.insert(locator, Told::Changed(Instant::now()));
        }
        self.faults.invalidate(&locator);
        if let Some(opened) = self.opened.get(&locator).await {
            self.refresh(&opened);
        }
    }

    /// Forgets an object that its owner erased.
    pub(crate) async fn erased(&self, locator: Locator) {
        self.told.insert(locator, Told::Erased);
        self.opened.invalidate(&locator).await;
    }

    /// Forgets an object, which may be looked up again at once, and returns it if it was open.
    pub(crate) async fn purged(&self, locator: Locator) -> Option<Arc<Opened>> {
        if !matches!(self.told.get(&locator), Some(Told::Erased)) {
            self.told.insert(locator, Told::Changed(Instant::now()));
        }
        self.faults.invalidate(&locator);
        self.opened.remove(&locator).await
    }

    /// Returns the open objects of an owner; reads all that are open.
    pub(crate) fn of(&self, owner: &OwnerId) -> Vec<Locator> {
        let of_it = self.opened.iter().filter(|(_, opened)| opened.record.public.owner() == *owner);
        of_it.map(|(locator, _)| *locator).collect()
    }

    /// Returns a record from the nodes, without opening it.
    ///
    /// # Errors
    /// As the reader.
    pub(crate) async fn record(&self, locator: &Locator) -> Result<Record, ReadError> {
        self.reader.record(locator).await
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        self.told.invalidate_all();
        self.opened.invalidate_all();
        self.faults.invalidate_all();
    }

    /// Returns whether an object is open here: steering tells policies so.
    pub(crate) fn holds(&self, locator: &Locator) -> bool {
        self.opened.contains_key(locator)
    }
}

/// Says whose fault a failed read is.
pub(crate) fn fault_of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::NotFound { .. } => Fault::Unknown,
        ReadError::Unavailable { .. } => Fault::Unreachable,
        ReadError::Open(OpenError::Erased) => Fault::Erased,
        // Another node may have the right record, and strips may come back; what was broken when stored stays so.
        ReadError::Open(_) | ReadError::Lost { .. } => Fault::TooFewShards,
        ReadError::TooSlow { .. } => Fault::Slow,
        ReadError::Ending { .. } => Fault::Busy,
        ReadError::Decode(_) => Fault::Damaged,
    }
}
