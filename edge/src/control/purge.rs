//! Purges: an owner has the edges forget what they hold of an object, or of all its objects.
//!
//! Memory forgets at once, and of strips kept for other edges all that are the owner's. The disk is swept behind it,
//! because its entries are named by object and stripe, which takes the record to know; one object at a time, and owners
//! take turns. Not in the store, since it takes the list of nodes
//! and the transport, and only the change feed gives orders.
//!
//! Keeps true: only a record that the owner of the order signed says what leaves the disk. Anybody can file one under a
//! locator with keys of their own.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use client::{ReadError, Transport, TransportError};
use format::{Locator, OwnerId, PublicManifest, wire::LocatorPage};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{node::Node, store::objects::Opened};

/// Objects that wait to be swept off the disk, of all owners. What an owner orders of more is swept with all of its
/// own.
const SWEEPS_MAX: usize = 10_000;
/// Owners of whom something waits; of more the disk is not swept.
const OWNERS_MAX: usize = 10_000;
/// The pause before a second try when no origin could be asked, twice as long before each further one, and how many
/// tries there are: for two minutes in all.
const RETRY: Duration = Duration::from_secs(1);
const TRIES_MAX: u32 = 8;
/// One question of a sweep.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// An owner's list is swept for so long before others have their turn, but for one object at least.
const TURN: Duration = Duration::from_secs(10);
/// Between looks whether a predecessor gave the disk up.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// What of an owner is to leave the disk.
pub(crate) enum Sweep {
    /// An object that was open.
    Opened(Arc<Opened>),
    /// An object of which only the name is known, after so many tries.
    Object(Locator, u32),
    /// All objects that come after one in the order of their locators, after so many tries.
    All(Option<Locator>, u32),
}

impl Sweep {
    /// All objects of an owner.
    const ALL: Self = Self::All(None, 0);

    /// Returns what is to be tried again after a failure, and after what pause; none after the last try.
    fn again(self) -> Option<(Duration, Self)> {
        let (tries, again) = match self {
            Self::Opened(_) => return None,
            Self::Object(locator, tries) => (tries, Self::Object(locator, tries + 1)),
            Self::All(after, tries) => (tries, Self::All(after, tries + 1)),
        };
        (tries + 1 < TRIES_MAX).then(|| (RETRY * 2_u32.pow(tries), again))
    }
}

/// What waits to leave the disk: a queue for each owner, who take turns. Whatever one orders, and keys of owners cost
/// nothing, nobody else's waits for more than one of its sweeps, nor is dropped.
#[derive(Default)]
pub(crate) struct Sweeps {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Default)]
struct Waiting {
    of: HashMap<OwnerId, Queue>,
    /// Each of these owners once.
    turns: VecDeque<OwnerId>,
    /// In all queues.
    objects: usize,
}

#[derive(Default)]
struct Queue {
    objects: VecDeque<Sweep>,
    /// All objects after one, after so many tries: once, however often it is ordered.
    all: Option<(Option<Locator>, u32)>,
}

impl Sweeps {
    /// Has something of an owner wait. Returns whether there is room for it.
    pub(crate) fn add(&self, owner: OwnerId, sweep: Sweep) -> bool {
        let is_added = self.waiting().add(owner, sweep);
        self.added.notify_one();
        is_added
    }

    /// Returns what comes next. For one who asks. Cancel safe.
    async fn next(&self) -> (OwnerId, Sweep) {
        loop {
            let next = self.waiting().next();
            match next {
                Some(next) => return next,
                None => self.added.notified().await,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, owner: OwnerId, sweep: Sweep) -> bool {
        if !self.of.contains_key(&owner) {
            if self.of.len() >= OWNERS_MAX {
                return false;
            }
            self.turns.push_back(owner);
        }
        let queue = self.of.entry(owner).or_default();
        match sweep {
            // A new order: it holds for what was swept before it, too.
            Sweep::All(None, 0) => queue.all = Some((None, 0)),
            Sweep::All(after, tries) => _ = queue.all.get_or_insert((after, tries)),
            sweep => {
                queue.objects.push_back(sweep);
                self.objects += 1;
            }
        }
        if self.objects > SWEEPS_MAX
            && let Some(most) = self.of.values_mut().max_by_key(|queue| queue.objects.len())
        {
            most.objects.pop_back();
            most.all = Some((None, 0));
            self.objects -= 1;
        }
        true
    }

    fn next(&mut self) -> Option<(OwnerId, Sweep)> {
        let owner = self.turns.pop_front()?;
        let queue = self.of.get_mut(&owner)?;
        let object = queue.objects.pop_front();
        self.objects -= usize::from(object.is_some());
        let sweep = object.or_else(|| queue.all.take().map(|(after, tries)| Sweep::All(after, tries)));
        if queue.objects.is_empty() && queue.all.is_none() {
            self.of.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        Some((owner, sweep?))
    }
}

/// Has memory forget, or look up again what is open, and returns what is to leave the disk.
pub(crate) async fn purge(node: &Node, owner: OwnerId, locator: Option<Locator>, hard: bool) -> Vec<Sweep> {
    node.metrics.purges.inc();
    let (open, names) = match locator {
        Some(locator) => (HashSet::from([locator]), HashSet::from([locator])),
        None => (node.objects.of(&owner), node.names.of(&owner)),
    };
    // A name holds no bytes: it is looked up again.
    for name in names {
        node.names.changed(name).await;
    }
    if !hard {
        for locator in open {
            node.objects.changed(locator).await;
        }
        return Vec::new();
    }
    let mut sweeps = Vec::new();
    for locator in &open {
        sweeps.extend(node.objects.purged(*locator, &owner).await.map(Sweep::Opened));
    }
    node.forget(&open);
    node.fills.forget_strips(&owner);
    match locator {
        // The owner's list has what is not open.
        None => sweeps.push(Sweep::ALL),
        Some(locator) if sweeps.is_empty() => sweeps.push(Sweep::Object(locator, 0)),
        Some(_) => {}
    }
    sweeps
}

/// Why a sweep came to nothing.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("no origin gives the record")]
    Record(#[from] ReadError),
    #[error("no origin lists the owner's objects")]
    List(#[from] TransportError),
    #[error("no origin answers in time")]
    Slow,
}

/// Sweeps the disk.
pub(crate) struct Sweeper {
    node: Arc<Node>,
    transport: Arc<dyn Transport>,
    sweeps: Arc<Sweeps>,
}

impl Sweeper {
    pub(crate) fn new(node: Arc<Node>, transport: Arc<dyn Transport>, sweeps: Arc<Sweeps>) -> Self {
        Self { node, transport, sweeps }
    }

    /// Sweeps for ever; without a disk there is nothing to do.
    pub(crate) async fn run(self) {
        while self.node.config.cache.disk.is_some() && !self.node.fills.has_disk() {
            sleep(DISK_RETRY).await;
        }
        let mut later = FuturesUnordered::new();
        loop {
            let (owner, sweep) = tokio::select! {
                Some((owner, sweep)) = later.next(), if !later.is_empty() => {
                    self.add(owner, sweep);
                    continue;
                }
                next = self.sweeps.next() => next,
            };
            if !self.node.fills.has_disk() {
                continue;
            }
            for (failed, error) in self.sweep(owner, sweep).await {
                match failed.again().filter(|_| later.len() < SWEEPS_MAX) {
                    // What cannot be judged now comes after all else.
                    Some((pause, again)) => later.push(async move {
                        sleep(pause).await;
                        (owner, again)
                    }),
                    None => {
                        let error = client::causes(&error);
                        tracing::warn!(error, "what was purged may still lie on the disk, encrypted");
                    }
                }
            }
        }
    }

    fn add(&self, owner: OwnerId, sweep: Sweep) {
        if !self.sweeps.add(owner, sweep) {
            tracing::warn!(
                "too many owners purge at a time; what one of them names may still lie on the disk, encrypted"
            );
        }
    }

    /// Sweeps, and returns what could not be.
    async fn sweep(&self, owner: OwnerId, sweep: Sweep) -> Vec<(Sweep, SweepError)> {
        match sweep {
            Sweep::Opened(opened) => {
                self.forget(opened.record.public.clone()).await;
                Vec::new()
            }
            Sweep::Object(locator, tries) => {
                let swept = self.object(&owner, &locator).await;
                swept.err().map(|error| (Sweep::Object(locator, tries), error)).into_iter().collect()
            }
            Sweep::All(after, tries) => match self.page(&owner, after.as_ref()).await {
                Ok(page) => self.all(owner, page).await,
                Err(error) => vec![(Sweep::All(after, tries), error)],
            },
        }
    }

    async fn object(&self, owner: &OwnerId, locator: &Locator) -> Result<(), SweepError> {
        match timeout(ASK_DEADLINE, self.node.objects.record_of(owner, locator)).await {
            Ok(Ok(record)) => self.forget(record.public).await,
            // Nobody can read it any more, whatever lies here.
            Ok(Err(ReadError::NotFound { .. })) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(SweepError::Slow),
        }
        Ok(())
    }

    /// Sweeps a page of an owner's objects for as long as its turn is, and has the rest wait for the next one. Returns
    /// what could not be swept.
    async fn all(&self, owner: OwnerId, page: LocatorPage) -> Vec<(Sweep, SweepError)> {
        let (begun, mut failed, mut next) = (Instant::now(), Vec::new(), page.next);
        let last = page.locators.last().copied();
        for locator in page.locators {
            if let Err(error) = self.object(&owner, &locator).await {
                failed.push((Sweep::Object(locator, 0), error));
            }
            if begun.elapsed() >= TURN && Some(locator) != last {
                next = Some(locator);
                break;
            }
        }
        if next.is_some() {
            self.add(owner, Sweep::All(next, 0));
        }
        failed
    }

    async fn page(&self, owner: &OwnerId, after: Option<&Locator>) -> Result<LocatorPage, SweepError> {
        let mut failure = SweepError::Slow;
        for origin in self.node.topology.origins_by_distance(&self.node.config.place) {
            match timeout(ASK_DEADLINE, self.transport.locators(&origin, owner, after)).await {
                Ok(Ok(page)) => return Ok(page),
                Ok(Err(error)) => failure = error.into(),
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn forget(&self, public: PublicManifest) {
        let fills = Arc::clone(&self.node.fills);
        // Millions of stripes at the worst.
        let _ = spawn_blocking(move || fills.forget(&public)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u32) -> OwnerId {
        let mut owner = [0; 32];
        owner[..4].copy_from_slice(&number.to_le_bytes());
        OwnerId(owner)
    }

    fn object(number: u8) -> Sweep {
        Sweep::Object(Locator([number; 32]), 0)
    }

    #[test]
    fn an_owner_who_orders_much_takes_nobody_elses_turn_nor_room() {
        let mut waiting = Waiting::default();
        for number in 0..=255 {
            for _ in 0..SWEEPS_MAX / 100 {
                assert!(waiting.add(owner(1), object(number)) && waiting.add(owner(1), Sweep::ALL));
            }
        }
        assert!(waiting.add(owner(2), object(7)));
        assert_eq!((waiting.objects, waiting.turns.len()), (SWEEPS_MAX, 2));
        assert!(matches!(waiting.next(), Some((first, Sweep::Object(..))) if first == owner(1)));
        assert!(
            matches!(waiting.next(), Some((second, Sweep::Object(it, 0))) if second == owner(2) && it.0 == [7; 32])
        );
        // What had no room is swept with all that the owner has, once.
        let rest: Vec<Sweep> = std::iter::from_fn(|| waiting.next().map(|(_, sweep)| sweep)).collect();
        assert_eq!(rest.iter().filter(|sweep| matches!(sweep, Sweep::All(None, 0))).count(), 1);
        assert_eq!((waiting.objects, waiting.of.len(), waiting.turns.len()), (0, 0, 0));
    }

    #[test]
    fn owners_have_a_bound_and_those_who_wait_keep_their_place() {
        let mut waiting = Waiting::default();
        let owners = u32::try_from(OWNERS_MAX).unwrap();
        assert!((0..owners).all(|number| waiting.add(owner(number), Sweep::ALL)));
        assert!(!waiting.add(owner(owners), object(1)), "one more");
        assert!(waiting.add(owner(3), object(1)));
        assert!(waiting.next().is_some_and(|(first, _)| first == owner(0)));
        assert!(waiting.add(owner(owners), object(1)));
    }

    #[test]
    fn a_new_order_begins_anew_and_one_under_way_goes_on() {
        let mut waiting = Waiting::default();
        let at = Some(Locator([5; 32]));
        let next = |waiting: &mut Waiting| match waiting.next() {
            Some((_, Sweep::All(after, tries))) => (after, tries),
            _ => panic!("all is to be swept"),
        };
        waiting.add(owner(1), Sweep::All(at, 0));
        assert_eq!(next(&mut waiting), (at, 0));
        waiting.add(owner(1), Sweep::All(at, 2));
        waiting.add(owner(1), Sweep::ALL);
        waiting.add(owner(1), Sweep::All(at, 0));
        assert_eq!(next(&mut waiting), (None, 0));
        assert!(waiting.next().is_none());
    }

    #[test]
    fn tries_have_an_end() {
        let mut sweep = object(1);
        let mut waited = Duration::ZERO;
        while let Some((pause, again)) = sweep.again() {
            (sweep, waited) = (again, waited + pause);
        }
        assert_eq!(waited, RETRY * 127);
    }
}
