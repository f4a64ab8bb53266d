//! Records that were looked up: locator -> what the record opens as, kept until told of a change, and the names nobody
//! knows. An edge has one of these for objects and one for stable names.
//!
//! A record older than `record_seconds` still serves while it is looked up again behind the viewer's back: the control
//! plane may be down, what is held goes on being served. After the change feed lost its thread the first viewer waits
//! for that look-up, since the record may have ended unheard; where no node can be asked, it serves on.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Known, ReadError, Reader, Said, Scope, Span};
use format::{Capability, Locator, OpenError, OwnerId, Record};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use moka::{future, sync};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};

use super::{
    index::{Entered, Index},
    register::{Register, Standing},
    watch::{Watch, Watches},
};
use crate::{config::CacheConfig, error::Fault};

/// A record must be found by then, over all nodes asked.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// Look-ups for viewers at one time: names with a good check cost nothing to make up, so what they cost us is bounded.
const LOOK_UPS_MAX: usize = 512;
/// The same of what the change feed never told of: what is new by less than the feed's lag, or made up.
const UNTOLD_LOOK_UPS_MAX: usize = 64;
/// The same of what is doubted, once for all who ask for one: what is open was found once, so labels that were made up
/// take none of this room.
const DOUBTED_LOOK_UPS_MAX: usize = 1024;
/// Waiting for one of those: longer, as all that is hot is looked up at a time.
const DOUBTED_ROOM_DEADLINE: Duration = Duration::from_secs(5);
/// Waiting for one of these.
const ROOM_DEADLINE: Duration = Duration::from_secs(1);
/// Look-ups for resolvers at one time, of both kinds. Who asks them may be spoofed, so they are few and take nothing
/// away from viewers.
const DNS_LOOK_UPS_MAX: usize = 64;
const DNS_UNTOLD_LOOK_UPS_MAX: usize = 16;
/// A resolver waits so long for a look-up, which goes on behind it: by its first timeout, 376 ms in unbound, it would
/// take a server that is slow to say what is cold for one that loses questions.
const DNS_PATIENCE: Duration = Duration::from_millis(300);
/// Look-ups at one time of what is open already, and the wait for one of these.
const REFRESHES_MAX: usize = 128;
const REFRESH_DEADLINE: Duration = Duration::from_secs(30);
/// Records whose versions are remembered; each takes some 150 B.
const KNOWN_MAX: u64 = 100_000;
/// Pauses between looks for a change that was told. Origins follow the feed as edges do, half a second behind at most;
/// together they leave an answer under two seconds.
const COPIES_BEHIND: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// Changes remembered, and for how long: a look-up that began before a change may end after it, but not by so much.
const CHANGED_MAX: u64 = 100_000;
const CHANGED_TIME: Duration = Duration::from_secs(60);
const _: () = assert!(OPEN_DEADLINE.as_secs() * 2 < CHANGED_TIME.as_secs());
/// An open record counts once for each so many bytes of it.
const OBJECT_BYTES: usize = 16 * 1024;
/// Names that nobody knows and are remembered as such; each takes some 100 B.
const UNKNOWN_MAX: u64 = 100_000;

/// What a record opens as.
#[async_trait]
pub(crate) trait Content: Sized + Send + Sync + 'static {
    /// Looks the content up at the nodes.
    async fn look_up(reader: &Reader, look: Look, known: Option<Known>) -> Result<Self, ReadError>;

    /// Takes over what counts on from the same content as it was looked up before.
    fn after(&mut self, _earlier: &Self) {}

    /// Returns how it was looked up.
    fn look(&self) -> &Look;

    /// Returns the record that it was opened from.
    fn record(&self) -> &Record;
}

/// One look-up.
pub(crate) struct Look {
    pub(crate) capability: Capability,
    /// When it began.
    since: Instant,
    /// The next one is under way.
    refreshing: AtomicBool,
    /// How often everything had been doubted when it began.
    epoch: u64,
    /// The same when the next one failed, because no node could be asked.
    excused: AtomicU64,
    /// By which its owner's orders find what came of it.
    entered: OnceLock<Entered<OwnerId, Locator>>,
}

impl Look {
    fn is_excused(&self, epoch: u64) -> bool {
        self.excused.load(Ordering::Relaxed) >= epoch
    }
}

/// A change of a record.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// Another lease, placement or pointer, told at this moment. The old one serves until the new one is here.
    Changed(Instant),
    /// Its end, told at this moment. The feed is one origin's word, which nobody signed: the old one serves no more,
    /// and whether its owner ended it the lease says, which all nodes are asked for.
    Ended(Instant),
}

impl Told {
    fn at(self) -> Instant {
        match self {
            Self::Changed(at) | Self::Ended(at) => at,
        }
    }
}

/// All records of one kind that are open.
pub(crate) struct Records<T> {
    reader: Arc<Reader>,
    opened: future::Cache<Locator, Arc<T>>,
    /// Of each owner what is open.
    owned: Arc<Index<OwnerId, Locator>>,
    /// What an attempt to open came to, for a short while.
    faults: sync::Cache<Locator, Fault>,
    /// What the change feed told lately: a look-up that began before must not undo it.
    told: sync::Cache<Locator, Told>,
    /// What was seen of records, also of those that are no longer open: nothing that a node says sets it back.
    known: sync::Cache<Locator, Known>,
    /// Whoever keeps an answer made of a record, and is to be told when it no longer counts.
    watches: Watches,
    room: Room<Semaphore>,
    /// The same for resolvers.
    room_dns: Room<Arc<Semaphore>>,
    register: Arc<Register>,
    /// The same for what is doubted.
    room_doubted: Semaphore,
    /// Look-ups of what is doubted that are under way, each with how often everything had been doubted.
    again: Mutex<HashMap<(Locator, u64), Flight<T>>>,
    /// Look-ups behind the viewers' backs have room of their own: an owner who changes much keeps no viewer waiting.
    room_behind: Semaphore,
    /// How often everything was doubted.
    epoch: AtomicU64,
    record_time: Duration,
    /// Where look-ups run: the runtime on which this was made.
    control: Handle,
}

/// Room for look-ups: apart for what the change feed never told of.
struct Room<S> {
    may_be: S,
    untold: S,
}

impl<S> Room<S> {
    fn of(&self, standing: Standing) -> &S {
        match standing {
            Standing::MayBe => &self.may_be,
            Standing::Untold => &self.untold,
        }
    }
}

/// A look-up that all who ask for what is doubted wait for.
type Flight<T> = Shared<BoxFuture<'static, Result<Arc<T>, Fault>>>;

/// A look-up of what is doubted: it is under way until this is dropped, whatever ends it.
struct UnderWay<T: Content> {
    records: Arc<Records<T>>,
    key: (Locator, u64),
}

impl<T: Content> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.records.again().remove(&self.key);
    }
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
    /// A viewer, who waits for room.
    Viewer,
    /// A resolver, who has room.
    Resolver,
}

impl<T: Content> Records<T> {
    pub(crate) fn new(reader: Arc<Reader>, config: &CacheConfig, register: Arc<Register>) -> Self {
        let shared = |places| Arc::new(Semaphore::new(places));
        Self {
            reader,
            opened: future::Cache::builder().max_capacity(config.objects_max).weigher(weigh::<T>).build(),
            owned: Index::new(),
            faults: sync::Cache::builder().max_capacity(UNKNOWN_MAX).time_to_live(config.unknown_time()).build(),
            told: sync::Cache::builder().max_capacity(CHANGED_MAX).time_to_live(CHANGED_TIME).build(),
            known: sync::Cache::new(KNOWN_MAX),
            watches: Watches::new(),
            room: Room { may_be: Semaphore::new(LOOK_UPS_MAX), untold: Semaphore::new(UNTOLD_LOOK_UPS_MAX) },
            room_dns: Room { may_be: shared(DNS_LOOK_UPS_MAX), untold: shared(DNS_UNTOLD_LOOK_UPS_MAX) },
            register,
            room_doubted: Semaphore::new(DOUBTED_LOOK_UPS_MAX),
            again: Mutex::default(),
            room_behind: Semaphore::new(REFRESHES_MAX),
            epoch: AtomicU64::new(0),
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
            Held::Doubted(opened, epoch) => self.open_again(opened, epoch).await,
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

    /// The same for a resolver: what is not open is looked up behind it, and it does not wait long for that. Cancel
    /// safe.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Fault::Slow`] while it is looked up, [`Fault::Busy`] when too much else is. Then what the
    /// change feed never told of is [`Fault::Unknown`].
    pub(crate) async fn open_soon(self: &Arc<Self>, capability: &Capability) -> Result<Arc<T>, Fault> {
        let locator = capability.locator();
        let late = |_| Fault::Slow;
        match self.held(&locator).await {
            Held::Good(opened) => Ok(opened),
            Held::Doubted(opened, epoch) => {
                timeout(DNS_PATIENCE, self.open_again(opened, epoch)).await.map_err(late)?
            }
            Held::Fault(fault) => Err(fault),
            Held::Nothing => {
                let standing = self.register.standing(&locator, Instant::now());
                let full = || if standing == Standing::Untold { Fault::Unknown } else { Fault::Busy };
                let place = Arc::clone(self.room_dns.of(standing)).try_acquire_owned().map_err(|_| full())?;
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
        if let Some(opened) = self.opened.get(locator).await {
            let told = self.told.get(locator).filter(|told| told.at() >= opened.look().since);
            if !matches!(told, Some(Told::Ended(_))) {
                let (look, epoch) = (opened.look(), self.epoch());
                let is_doubted = look.epoch < epoch;
                if is_doubted && !look.is_excused(epoch) {
                    return Held::Doubted(opened, epoch);
                }
                if is_doubted || told.is_some() || look.since.elapsed() >= self.record_time {
                    self.refresh(&opened);
                }
                return Held::Good(opened);
            }
            // A look-up that was under way when its end was told came after all.
            self.opened.invalidate(locator).await;
        }
        self.faults.get(locator).map_or(Held::Nothing, Held::Fault)
    }

    /// Looks up what memory does not have, once for all who ask at a time. Ends by `OPEN_DEADLINE` after it has room.
    /// To be called in a task of its own: what was found is kept at the end.
    async fn open_cold(self: &Arc<Self>, capability: &Capability, asker: Asker) -> Result<Arc<T>, Fault> {
        let locator = capability.locator();
        let look_up = async {
            let _room = match asker {
                Asker::Viewer => {
                    let standing = self.register.standing(&locator, Instant::now());
                    Some(room(self.room.of(standing), ROOM_DEADLINE).await?)
                }
                Asker::Resolver => None,
            };
            let opened = Arc::new(self.look_up(capability).await?);
            if matches!(self.told.get(&opened.record().locator()), Some(Told::Ended(_))) {
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

    /// Looks a record up again before it is served, once for all who ask at a time. It serves on where no node can be
    /// asked, or nodes are behind, and is looked up behind the viewers' backs from then on. Cancel safe.
    async fn open_again(self: &Arc<Self>, opened: Arc<T>, epoch: u64) -> Result<Arc<T>, Fault> {
        let key = (opened.record().locator(), epoch);
        let flight = self.again().get(&key).cloned();
        let flight = flight.unwrap_or_else(|| self.launch_again(opened, key));
        flight.await
    }

    /// Begins to look a record up again, or joins who does. One task, however many wait for it and leave.
    fn launch_again(self: &Arc<Self>, opened: Arc<T>, key: (Locator, u64)) -> Flight<T> {
        let mut under_way = self.again();
        if let Some(flight) = under_way.get(&key) {
            return flight.clone();
        }
        let records = Arc::clone(self);
        // Ends by OPEN_DEADLINE after it has room; whoever waits may leave meanwhile.
        let task = self.control.spawn(Scope::current().around(async move {
            // Made here: a runtime that ends drops what it is given at once, and the map is held now.
            let here = UnderWay { records, key };
            here.records.look_up_doubted(&opened, key).await
        }));
        let flight = async move { task.await.unwrap_or(Err(Fault::Busy)) }.boxed().shared();
        under_way.insert(key, flight.clone());
        flight
    }

    async fn look_up_doubted(&self, opened: &Arc<T>, (locator, epoch): (Locator, u64)) -> Result<Arc<T>, Fault> {
        if opened.look().is_excused(epoch) {
            return Ok(Arc::clone(opened));
        }
        match self.opened.get(&locator).await {
            Some(held) if !Arc::ptr_eq(&held, opened) => return Ok(held),
            Some(_) => {}
            None => return Err(self.faults.get(&locator).unwrap_or(Fault::Busy)),
        }
        let look_up = async {
            let _room = room(&self.room_doubted, DOUBTED_ROOM_DEADLINE).await?;
            self.look_up(&opened.look().capability).await
        };
        match look_up.await {
            Ok(fresh) => Ok(self.renew(opened, fresh).await),
            Err(fault @ (Fault::Unknown | Fault::Erased)) => {
                self.remember(locator, &fault);
                self.close(locator).await;
                Err(fault)
            }
            // No node could be asked, or those that could be have only what is older. Any other failure says nothing of
            // the record, least of all that this edge has much to do.
            Err(Fault::Unreachable | Fault::Slow | Fault::Outdated) => {
                opened.look().excused.fetch_max(epoch, Ordering::Relaxed);
                Ok(Arc::clone(opened))
            }
            Err(fault) => Err(fault),
        }
    }

    fn again(&self) -> MutexGuard<'_, HashMap<(Locator, u64), Flight<T>>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what was looked up again in the place of what is open.
    async fn renew(&self, opened: &Arc<T>, mut fresh: T) -> Arc<T> {
        let locator = opened.record().locator();
        fresh.after(opened);
        let fresh = Arc::new(fresh);
        self.opened.insert(locator, Arc::clone(&fresh)).await;
        self.watches.end(&locator);
        fresh
    }

    /// Forgets what is no longer to be had.
    async fn close(&self, locator: Locator) {
        self.opened.invalidate(&locator).await;
        self.watches.end(&locator);
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    async fn look_up(&self, capability: &Capability) -> Result<T, Fault> {
        let span = Span::within("record");
        let found = span.scope().around(self.ask(capability)).await;
        if let Err(fault) = &found {
            span.say("evernear.status", Said::Number(fault.status().as_u16().into()));
            if fault.status().is_server_error() {
                span.fail("the nodes");
            }
        }
        found
    }

    async fn ask(&self, capability: &Capability) -> Result<T, Fault> {
        let known = self.known.get(&capability.locator());
        let look = Look {
            capability: capability.clone(),
            since: Instant::now(),
            refreshing: AtomicBool::new(false),
            epoch: self.epoch(),
            excused: AtomicU64::new(0),
            entered: OnceLock::new(),
        };
        let found = timeout(OPEN_DEADLINE, T::look_up(&self.reader, look, known)).await.map_err(|_| Fault::Slow)?;
        let found = found.map_err(|error| {
            let fault = fault_of_read(&error);
            if !matches!(fault, Fault::Unknown | Fault::Erased) {
                let locator = capability.locator();
                tracing::warn!(%locator, error = &error as &dyn std::error::Error, "record cannot be opened");
            }
            fault
        })?;
        // A node that is behind, or lies, still gives a record that was erased; one that has the owner's word is
        // enough.
        let locator = found.record().locator();
        if matches!(self.told.get(&locator), Some(Told::Ended(_))) {
            let newest = self.reader.newest_record(&locator, &found.record().lease.owner);
            let newest = timeout(OPEN_DEADLINE, newest).await.map_err(|_| Fault::Slow)?;
            let newest = newest.map_err(|error| fault_of_read(&error))?;
            self.learn(locator, Known::of(&newest));
            if newest.lease.erased {
                return Err(Fault::Erased);
            }
        }
        let entered = self.owned.enter(found.record().public.owner(), locator);
        drop(found.look().entered.set(entered));
        // Two look-ups may have been under way, and the other one found more.
        let seen = Known::of(found.record());
        if self.learn(locator, seen) == seen { Ok(found) } else { Err(Fault::Outdated) }
    }

    /// Remembers what was seen of a record, and returns the newest that was.
    fn learn(&self, locator: Locator, seen: Known) -> Known {
        let newest = self.known.entry(locator).and_upsert_with(|held| {
            let held = held.map(moka::Entry::into_value).filter(|held| held.owner == seen.owner);
            held.filter(|held| held.version > seen.version).unwrap_or(seen)
        });
        newest.into_value()
    }

    /// Watches a record that is open; none when it no longer counts, or is to be looked up again.
    pub(crate) async fn watch(&self, opened: &Arc<T>) -> Option<Watch> {
        let locator = opened.record().locator();
        let watch = self.watches.begin(locator, opened.record().public.owner())?;
        // After the watch began: what was told before is seen here, what is told later ends the watch.
        let is_newest = self.told.get(&locator).is_none_or(|told| told.at() < opened.look().since);
        let is_newest = is_newest && opened.look().epoch == self.epoch();
        let is_held = self.opened.get(&locator).await.is_some_and(|held| Arc::ptr_eq(&held, opened));
        (is_newest && is_held).then_some(watch)
    }

    /// Returns until when an answer made of a record may be given without a look here.
    pub(crate) fn fresh_until(&self, opened: &T) -> Instant {
        opened.look().since + self.record_time
    }

    /// Looks a record up again, once at a time, while the old one serves: when no node can be asked, it goes on
    /// serving.
    fn refresh(self: &Arc<Self>, opened: &Arc<T>) {
        if opened.look().refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (records, opened) = (Arc::clone(self), Arc::clone(opened));
        // Ends by OPEN_DEADLINE and holds nothing but its arguments, so nobody needs to own it.
        self.control.spawn(async move {
            let look_up = async {
                let _room = room(&records.room_behind, REFRESH_DEADLINE).await?;
                records.look_up(&opened.look().capability).await
            };
            match look_up.await {
                Ok(fresh) => drop(records.renew(&opened, fresh).await),
                Err(Fault::Unknown | Fault::Erased) => records.close(opened.record().locator()).await,
                Err(_) => opened.look().refreshing.store(false, Ordering::Relaxed),
            }
        });
    }

    /// Takes note that a record changed, and looks it up at once when it is open.
    pub(crate) async fn changed(self: &Arc<Self>, locator: Locator) {
        self.tell(locator, Told::Changed(Instant::now()));
        let Some(opened) = self.opened.get(&locator).await else { return };
        self.refresh(&opened);
        self.look_again(&opened);
    }

    /// Looks a record up a little later while no node gives another: the catalog tells of a change before all copies of
    /// the record have it.
    fn look_again(self: &Arc<Self>, opened: &Arc<T>) {
        let (records, opened) = (Arc::clone(self), Arc::clone(opened));
        // Ends with the last pause and holds nothing but its arguments, so nobody needs to own it.
        self.control.spawn(async move {
            let (locator, known) = (opened.record().locator(), &opened.record().lease_envelope);
            for pause in COPIES_BEHIND {
                sleep(pause).await;
                match records.opened.get(&locator).await {
                    Some(held) if held.record().lease_envelope == *known => records.refresh(&held),
                    _ => break,
                }
            }
        });
    }

    /// Forgets what its owner is said to have ended, so that the next look-up asks whether it is so.
    pub(crate) async fn ended(&self, locator: Locator) {
        self.tell(locator, Told::Ended(Instant::now()));
        self.opened.invalidate(&locator).await;
    }

    /// Forgets what may be looked up again at once, and returns it if it was open and is the owner's.
    pub(crate) async fn purged(&self, locator: Locator, owner: &OwnerId) -> Option<Arc<T>> {
        self.tell(locator, Told::Changed(Instant::now()));
        self.opened.remove(&locator).await.filter(|opened| opened.record().public.owner() == *owner)
    }

    /// Takes note of what the feed told. That all nodes are to be asked is not forgotten over the next change.
    fn tell(&self, locator: Locator, told: Told) {
        let told = match self.told.get(&locator) {
            Some(Told::Ended(_)) => Told::Ended(told.at()),
            _ => told,
        };
        self.told.insert(locator, told);
        self.watches.end(&locator);
        self.faults.invalidate(&locator);
    }

    /// Returns what of an owner is open, or was a moment ago, or is watched: what is given ready is asked for here no
    /// more, and may have left.
    pub(crate) fn of(&self, owner: &OwnerId) -> HashSet<Locator> {
        self.owned.of(owner).into_iter().chain(self.watches.of(owner)).collect()
    }

    /// Returns an owner's record from the nodes, without opening it. Those of others under its locator do not count.
    ///
    /// # Errors
    /// As the reader.
    pub(crate) async fn record_of(&self, owner: &OwnerId, locator: &Locator) -> Result<Record, ReadError> {
        let is_own = |record: &Record| record.lease.owner == *owner;
        let found = self.reader.records(locator, |found| found.iter().any(is_own)).await?;
        match found.into_iter().find(is_own) {
            Some(record) => Ok(record),
            // Whether there is none, or who has it is late, takes the word of most nodes.
            None => self.reader.newest_record(locator, owner).await,
        }
    }

    /// Doubts everything: what is open is looked up again before it is served next. It is not forgotten, or each hiccup
    /// of the feed would take away what is held, and for as long as no node can be asked.
    pub(crate) fn doubt_all(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.faults.invalidate_all();
        self.watches.end_all();
    }

    /// Returns whether it is open here: steering tells policies so.
    pub(crate) fn holds(&self, locator: &Locator) -> bool {
        self.opened.contains_key(locator)
    }
}

/// How often an open record counts among `objects_max`.
fn weigh<T: Content>(_: &Locator, opened: &Arc<T>) -> u32 {
    let record = opened.record();
    let manifests = record.public.encoded().len() + record.sealed.as_ref().map_or(0, Bytes::len);
    // All are there as they came and as they were read.
    let bytes = 2 * (manifests + record.lease_envelope.len());
    u32::try_from(bytes.div_ceil(OBJECT_BYTES)).unwrap_or(u32::MAX).max(1)
}

/// Waits for room for a look-up.
async fn room(room: &Semaphore, deadline: Duration) -> Result<SemaphorePermit<'_>, Fault> {
    timeout(deadline, room.acquire()).await.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)
}

/// Says whose fault a failed read is.
pub(crate) fn fault_of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::NotFound { .. } => Fault::Unknown,
        ReadError::Unavailable { .. } => Fault::Unreachable,
        ReadError::Old { .. } => Fault::Outdated,
        ReadError::Open(OpenError::Erased) => Fault::Erased,
        // Every node that answered has something else there, as for the label of an object with the mode of a name.
        ReadError::Open(OpenError::Mismatch | OpenError::Capability | OpenError::Locator | OpenError::Seal(_)) => {
            Fault::Unknown
        }
        // Another node may have the right record, and strips may come back; what was broken when stored stays so.
        ReadError::Open(_) | ReadError::Lost { .. } => Fault::TooFewShards,
        ReadError::TooSlow { .. } => Fault::Slow,
        ReadError::Ending { .. } => Fault::Busy,
        ReadError::Decode(_) => Fault::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use client::{ReaderOptions, Topology, Transport};
    use format::wire::NodeEntry;
    use testing::{MemoryTransport, Sample};

    use super::*;
    use crate::store::objects::Opened;

    /// Six nodes with one object, and what an edge has open of them.
    struct Scene {
        nodes: Vec<NodeEntry>,
        origins: Arc<MemoryTransport>,
        sample: Sample,
        records: Arc<Records<Opened>>,
    }

    impl Scene {
        async fn new() -> Self {
            let zones = ["a", "b", "c", "d", "e", "f"];
            let nodes: Vec<NodeEntry> = zones.map(|zone| testing::node(zone, testing::place(zone))).into();
            let origins = Arc::new(MemoryTransport::new(&nodes));
            let (sample, config) =
                (Sample::new(1, 100), crate::config::Config::from_toml(include_str!("../../edge.sample.toml")));
            let topology = Arc::new(Topology::new(nodes.clone()));
            let place = testing::place("here");
            let reader = Reader::new(Arc::clone(&origins) as _, topology, place, ReaderOptions::default());
            let records = Records::new(Arc::new(reader), &config.unwrap().cache, Arc::default());
            let it = Self { nodes, origins, sample, records: Arc::new(records) };
            let record = Bytes::from(it.sample.record(&it.sample.lease(1), &it.nodes[0].name).encode());
            for node in &it.nodes {
                it.origins.put_record(&node.name, &it.sample.sealed.locator, record.clone()).await.unwrap();
            }
            it
        }

        async fn erase(&self) {
            let lease = self.sample.sign(&self.sample.erasure(2));
            for node in &self.nodes {
                self.origins.put_lease(&node.name, &self.sample.sealed.locator, lease.clone()).await.unwrap();
            }
        }

        async fn open(&self) -> Result<Arc<Opened>, Fault> {
            self.records.open(&self.sample.sealed.capability).await
        }
    }

    #[tokio::test]
    async fn what_is_doubted_is_excused_by_no_lack_of_room() {
        let scene = Scene::new().await;
        scene.open().await.unwrap();
        scene.records.doubt_all();
        scene.erase().await;
        // Labels that were made up have all the room that there is for what is cold.
        let _forged = [&scene.records.room.may_be, &scene.records.room.untold]
            .map(|room| room.try_acquire_many(u32::try_from(room.available_permits()).unwrap()).unwrap());
        assert_eq!(scene.open().await.map(|_| ()), Err(Fault::Erased));
    }

    #[tokio::test]
    async fn an_edge_that_has_too_much_to_do_says_so_and_excuses_nothing() {
        let scene = Scene::new().await;
        let opened = scene.open().await.unwrap();
        scene.records.doubt_all();
        scene.records.room_doubted.close();
        assert_eq!(scene.open().await.map(|_| ()), Err(Fault::Busy));
        assert!(!opened.look().is_excused(scene.records.epoch()));
    }

    #[tokio::test]
    async fn viewers_who_leave_leave_one_look_up_and_an_owner_finds_what_is_open() {
        let scene = Scene::new().await;
        let opened = scene.open().await.unwrap();
        let owner = scene.sample.owner.id();
        assert_eq!(scene.records.of(&owner), [scene.sample.sealed.locator].into());
        assert!(scene.records.of(&OwnerId([9; 32])).is_empty());
        scene.records.doubt_all();
        let room = scene.records.room_doubted.try_acquire_many(DOUBTED_LOOK_UPS_MAX.try_into().unwrap()).unwrap();
        for _ in 0..100 {
            let left = timeout(Duration::ZERO, scene.open()).await;
            assert!(left.is_err(), "it waits for room");
        }
        assert_eq!(scene.records.again().len(), 1);
        drop(room);
        let fresh = scene.open().await.unwrap();
        assert!(!Arc::ptr_eq(&fresh, &opened));
        assert!(scene.records.again().is_empty());
        scene.records.close(scene.sample.sealed.locator).await;
        drop((opened, fresh));
        // moka drops what it lets go of a little later.
        testing::until("it is let go of", async || {
            scene.records.opened.run_pending_tasks().await;
            scene.records.of(&owner).is_empty()
        })
        .await;
    }
}
