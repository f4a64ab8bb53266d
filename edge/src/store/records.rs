//! Records that were looked up: locator -> what the record opens as, kept until told of a change, and the names nobody
//! knows. An edge has one of these for objects and one for stable names.
//!
//! A record older than `record_seconds` still serves while it is looked up again behind the viewer's back: the control
//! plane may be down, what is held goes on being served. After the change feed lost its thread the first viewer waits
//! for that look-up, since the record may have ended unheard; where no node can be asked, it serves on.

mod admission;
mod doubt;
mod look;
mod told;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Known, ReadError, Reader, Scope};
use format::{Capability, Locator, NodeName, OwnerId, Record};
use moka::{future, policy::EvictionPolicy, sync};
use prometheus_client::metrics::counter::Counter;
use tokio::{runtime::Handle, time::timeout};

pub(crate) use self::look::{Content, Look};
use self::{
    admission::Admission,
    doubt::Flight,
    told::{ENDS_MAX, ENDS_TIME},
};
use super::{
    presence::Presences,
    register::Register,
    watch::{Watch, Watches},
};
use crate::{config::CacheConfig, error::Fault};

/// A resolver waits so long for a look-up, which goes on behind it: by its first timeout, 376 ms in unbound, it would
/// take a server that is slow to say what is cold for one that loses questions.
pub(crate) const DNS_PATIENCE: Duration = Duration::from_millis(300);
/// Records whose versions are remembered; each takes some 150 B.
const KNOWN_MAX: u64 = 100_000;
/// An open record counts once for each so many bytes of it.
const OBJECT_BYTES: usize = 16 * 1024;
/// Names that nobody knows and are remembered as such; each takes some 100 B.
const UNKNOWN_MAX: u64 = 100_000;

/// All records of one kind that are open.
pub(crate) struct Records<T> {
    reader: Arc<Reader>,
    opened: future::Cache<Locator, Arc<T>>,
    /// What is here of what was opened.
    presences: Arc<Presences>,
    /// What an attempt to open came to, for a short while.
    faults: sync::Cache<Locator, Fault>,
    /// What the change feed told the end of lately: a look-up must not undo it.
    ends: sync::Cache<Locator, ()>,
    /// What was seen of records, also of those that are no longer open: nothing that a node says sets it back.
    known: sync::Cache<Locator, Known>,
    /// Whoever keeps an answer made of a record, and is to be told when it no longer counts.
    watches: Watches,
    admission: Admission,
    register: Arc<Register>,
    /// Look-ups of what is doubted that are under way, each with how often everything had been doubted.
    again: Mutex<HashMap<(Locator, u64), Flight<T>>>,
    /// How often everything was doubted.
    doubts: AtomicU64,
    record_time: Duration,
    /// Where look-ups run: the runtime on which this was made.
    control: Handle,
}

/// What memory has of a record.
enum Held<T> {
    /// It serves.
    Good(Arc<T>),
    /// It is to be looked up again before it serves: how often everything was doubted.
    Doubted(Arc<T>, u64),
    /// There was nothing to be had a moment ago.
    Fault(Fault),
    Nothing,
}

/// For whom a record is looked up.
#[derive(Clone, Copy)]
enum Asker {
    /// A viewer, who waits for a place.
    Viewer,
    /// A resolver, who has one.
    Resolver,
}

impl<T: Content> Records<T> {
    /// Looks records up by this reader, and counts what is looked up for no resolver because too much is.
    pub(crate) fn new(
        reader: Arc<Reader>,
        config: &CacheConfig,
        register: Arc<Register>,
        turned_away: Counter,
    ) -> Self {
        Self {
            reader,
            opened: future::Cache::builder().max_capacity(config.objects_max).weigher(weigh::<T>).build(),
            presences: Presences::new(),
            faults: sync::Cache::builder().max_capacity(UNKNOWN_MAX).time_to_live(config.unknown_time()).build(),
            // By default a cache that is full takes nothing new that is not asked for more often than what it has.
            ends: sync::Cache::builder()
                .max_capacity(ENDS_MAX)
                .time_to_live(ENDS_TIME)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            known: sync::Cache::new(KNOWN_MAX),
            watches: Watches::new(),
            admission: Admission::new(turned_away),
            register,
            again: Mutex::default(),
            doubts: AtomicU64::new(0),
            record_time: config.record_time(),
            control: Handle::current(),
        }
    }

    /// Opens what a capability leads to: from memory, else from the nodes, once for all who ask at a time. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Unknown`], [`Fault::Erased`], or a fault of the nodes.
    pub(crate) async fn open(self: &Arc<Self>, capability: &Capability) -> Result<Arc<T>, Fault> {
        let locator = capability.locator();
        match self.held(&locator).await {
            Held::Good(opened) => Ok(opened),
            Held::Doubted(opened, doubts) => self.open_again(opened, doubts).await,
            Held::Fault(fault) => Err(fault),
            Held::Nothing => {
                // A task of its own: the viewer who caused it may leave, the work is for all who come after.
                let (records, capability) = (Arc::clone(self), capability.clone());
                let open = async move { records.open_cold(&capability, Asker::Viewer).await };
                let opening = self.control.spawn(Scope::current().around(open));
                opening.await.unwrap_or(Err(Fault::Busy))
            }
        }
    }

    /// The same for a resolver at this address: what is not open is looked up behind it, and it does not wait long for
    /// that. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Fault::Slow`] while it is looked up, [`Fault::Busy`] when too much else is. Then what the
    /// change feed never told of is [`Fault::Unknown`].
    pub(crate) async fn open_soon(
        self: &Arc<Self>,
        capability: &Capability,
        resolver: IpAddr,
    ) -> Result<Arc<T>, Fault> {
        let locator = capability.locator();
        let late = |_| Fault::Slow;
        match self.held(&locator).await {
            Held::Good(opened) => Ok(opened),
            Held::Doubted(opened, doubts) => {
                timeout(DNS_PATIENCE, self.open_again(opened, doubts)).await.map_err(late)?
            }
            Held::Fault(fault) => Err(fault),
            Held::Nothing => {
                let standing = self.register.standing(&locator, Instant::now());
                let place = self.admission.resolver(standing, resolver)?;
                let (records, capability) = (Arc::clone(self), capability.clone());
                let opening = self.control.spawn(async move {
                    let opened = records.open_cold(&capability, Asker::Resolver).await;
                    drop(place);
                    opened
                });
                timeout(DNS_PATIENCE, opening).await.map_err(late)?.unwrap_or(Err(Fault::Busy))
            }
        }
    }

    /// Returns what memory has, and has it looked up behind the caller's back when it is time.
    async fn held(self: &Arc<Self>, locator: &Locator) -> Held<T> {
        let Some(opened) = self.serving(locator).await else {
            return self.faults.get(locator).map_or(Held::Nothing, Held::Fault);
        };
        let (look, doubts) = (opened.look(), self.doubts());
        let is_doubted = look.doubts < doubts;
        if is_doubted && !look.is_excused(doubts) {
            return Held::Doubted(opened, doubts);
        }
        if is_doubted || look.claim.is_changed() || look.since.elapsed() >= self.record_time {
            self.refresh(&opened);
        }
        Held::Good(opened)
    }

    /// Returns what is open and not over.
    async fn serving(&self, locator: &Locator) -> Option<Arc<T>> {
        let mut opened = self.opened.get(locator).await?;
        if opened.is_over() {
            // What came since, if that is why.
            opened = self.opened.get(locator).await?;
        }
        if opened.is_over() {
            // A look-up that was under way when its end was told, it was purged, or a later lease came, came after all.
            self.opened.invalidate(locator).await;
            return None;
        }
        Some(opened)
    }

    /// Looks up what memory does not have, once for all who ask at a time. Ends by `OPEN_DEADLINE` after it has a
    /// place. To be called in a task of its own: what was found is kept at the end.
    async fn open_cold(self: &Arc<Self>, capability: &Capability, asker: Asker) -> Result<Arc<T>, Fault> {
        let locator = capability.locator();
        let look_up = async {
            let _place = match asker {
                Asker::Viewer => Some(self.admission.viewer(self.register.standing(&locator, Instant::now())).await?),
                Asker::Resolver => None,
            };
            let opened = Arc::new(self.look_up(capability).await?);
            opened.look().claim.opens(opened.record().lease.version);
            if self.ends.contains_key(&opened.record().locator()) {
                self.look_again(&opened);
            }
            Ok(opened)
        };
        let opened = self.opened.try_get_with(locator, look_up).await;
        opened.map_err(|fault: Arc<Fault>| {
            let fault = (*fault).clone();
            self.remember(locator, &fault);
            fault
        })
    }

    /// Remembers for a while that there is nothing to be had.
    fn remember(&self, locator: Locator, fault: &Fault) {
        if matches!(fault, Fault::Unknown | Fault::Erased) {
            self.faults.insert(locator, fault.clone());
        }
    }

    /// Puts what was looked up again in the place of what is open.
    async fn renew(&self, opened: &Arc<T>, mut fresh: T) -> Arc<T> {
        let locator = opened.record().locator();
        fresh.after(opened);
        let fresh = Arc::new(fresh);
        self.opened.insert(locator, Arc::clone(&fresh)).await;
        fresh.look().claim.opens(fresh.record().lease.version);
        self.watches.end(&locator);
        fresh
    }

    /// Forgets what is no longer to be had.
    async fn close(&self, locator: Locator) {
        self.opened.invalidate(&locator).await;
        self.watches.end(&locator);
    }

    /// Watches a record that is open; none when it no longer counts, or is to be looked up again.
    pub(crate) async fn watch(&self, opened: &Arc<T>) -> Option<Watch> {
        let locator = opened.record().locator();
        let watch = self.watches.begin(locator, opened.record().public.owner())?;
        // After the watch began: what was told before is seen here, what is told later ends the watch.
        let look = opened.look();
        let is_newest = !opened.is_over() && !look.claim.is_changed() && look.doubts == self.doubts();
        let is_held = self.opened.get(&locator).await.is_some_and(|held| Arc::ptr_eq(&held, opened));
        (is_newest && is_held).then_some(watch)
    }

    /// Returns until when an answer made of a record may be given without a look here.
    pub(crate) fn fresh_until(&self, opened: &T) -> Instant {
        opened.look().since + self.record_time
    }

    /// Whether a record that was opened is still what it would be opened as, as far as this edge was told: what serves
    /// whoever asks now counts. Looks nothing up.
    pub(crate) fn counts(&self, opened: &T) -> bool {
        let (look, now) = (opened.look(), self.doubts());
        let is_doubted = look.doubts < now && !look.is_excused(now);
        !is_doubted && !opened.is_over()
    }

    /// Returns what of an owner is here in any form, or was a moment ago, or is watched: what is given ready is asked
    /// for here no more, and may have left.
    pub(crate) fn of(&self, owner: &OwnerId) -> HashSet<Locator> {
        self.presences.of_owner(owner).into_iter().chain(self.watches.of(owner)).collect()
    }

    /// Has what comes of reads that are under way be kept nowhere. To be called before what is kept is forgotten.
    pub(crate) fn forget(&self, locator: &Locator) {
        self.presences.forget(locator);
    }

    /// Returns an owner's record from the nodes, without opening it. Those of others under its locator do not count.
    ///
    /// # Errors
    /// As the reader.
    pub(crate) async fn record_of(&self, owner: &OwnerId, locator: &Locator) -> Result<Record, ReadError> {
        let is_own = |record: &Record| record.lease.owner == *owner;
        let found = self.reader.records(locator, |found| found.iter().any(is_own)).await?;
        match found.records.into_iter().find(is_own) {
            Some(record) => Ok(record),
            // Whether there is none, or who has it is late, takes the word of most nodes.
            None => self.reader.newest_record(locator, owner).await,
        }
    }

    /// Returns whether it is open here: steering tells policies so.
    pub(crate) fn holds(&self, locator: &Locator) -> bool {
        self.opened.contains_key(locator)
    }
}

/// How often an open record counts among `objects_max`.
fn weigh<T: Content>(_: &Locator, opened: &Arc<T>) -> u32 {
    places(opened.record())
}

fn places(record: &Record) -> u32 {
    let manifests = record.public.encoded().len() + record.sealed.as_ref().map_or(0, Bytes::len);
    let of_column = |node: &Option<NodeName>| size_of_val(node) + node.as_ref().map_or(0, |node| node.as_str().len());
    let placement: usize = record.placement.iter().map(of_column).sum();
    // The others are there as they came and as they were read.
    let bytes = 2 * (manifests + record.lease_envelope.len()) + placement;
    u32::try_from(bytes.div_ceil(OBJECT_BYTES)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
