//! The twin itself: one owner's keys and index, and the cluster they are used in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use format::{Locator, OwnerId, OwnerKeys, OwnerSecret};
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot},
    task::spawn_blocking,
};
use zeroize::Zeroizing;

use crate::{
    clock::{self, ClockError},
    index::{Change, Family, Index, IndexError},
    network::Network,
    unfinished::Journals,
};

/// Room for files that are uploaded concurrently. A file of up to [`SMALL_BYTES`] takes one of these places, a larger
/// one [`LARGE_PLACES`]: it holds several stripes, of up to 6 MiB each, in memory.
const PLACES: usize = 64;
const SMALL_BYTES: u64 = 128 * 1024;
const LARGE_PLACES: u32 = 16;

/// Changes that wait to be recorded, each with whom to tell.
type Waiting = Arc<Mutex<Vec<(Change, oneshot::Sender<Result<(), IndexError>>)>>>;

/// Acts for one owner in one cluster. `owner` and `network` return at once, `list` and `whole` use only the index, and
/// all other calls talk to nodes.
pub struct Twin {
    pub(crate) secret: OwnerSecret,
    pub(crate) keys: Arc<OwnerKeys>,
    pub(crate) dedup_key: Zeroizing<[u8; 32]>,
    pub(crate) note_key: Zeroizing<[u8; 32]>,
    index: Arc<Mutex<Index>>,
    waiting: Waiting,
    room: Semaphore,
    pub(crate) network: Arc<Network>,
    pub(crate) journals: Journals,
}

impl Twin {
    /// Puts an owner, its index and a cluster together.
    #[must_use]
    pub fn new(secret: &OwnerSecret, index: Index, network: Arc<Network>) -> Self {
        let (keys, dedup_key, note_key) = (Arc::new(secret.keys()), secret.dedup_key(), secret.note_key());
        let journals = Journals::beside(index.path(), secret.index_key(), keys.id());
        let (index, waiting, room) = (Arc::new(Mutex::new(index)), Waiting::default(), Semaphore::new(PLACES));
        Self { secret: secret.clone(), keys, dedup_key, note_key, index, waiting, room, network, journals }
    }

    /// Returns the owner.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.keys.id()
    }

    /// Returns the cluster.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs `act` on the index, on a blocking thread: it reads and writes the disk and may wait for another program.
    pub(crate) async fn with_index<T: Send + 'static>(&self, act: impl FnOnce(&mut Index) -> T + Send + 'static) -> T {
        let index = self.index.clone();
        // A poisoned lock can be used: the index changes its memory only after the disk, so after a panic it is as it
        // was before.
        let run = spawn_blocking(move || act(&mut lock(&index)));
        run.await.expect("acts on the index neither panic nor are cancelled")
    }

    /// Records a change of the index. Those that are recorded at the same time share one write (group commit): a disk
    /// takes some hundred writes a second.
    pub(crate) async fn record(&self, change: impl Into<Change>) -> Result<(), IndexError> {
        let (tell, told) = oneshot::channel();
        let waiting = self.waiting.clone();
        lock(&waiting).push((change.into(), tell));
        self.with_index(move |index| write(index, std::mem::take(&mut *lock(&waiting)))).await;
        told.await.expect("whoever took the change has written it, because it holds the index until then")
    }

    /// Waits for room for a file of that length, and keeps it until the answer is dropped.
    pub(crate) async fn room_for(&self, length: u64) -> SemaphorePermit<'_> {
        let places = if length <= SMALL_BYTES { 1 } else { LARGE_PLACES };
        self.room.acquire_many(places).await.expect("the room is never closed")
    }

    /// Returns each upload with everything that belongs to it ([`Index::families`]).
    pub(crate) async fn families(&self, locators: &BTreeSet<Locator>) -> BTreeMap<Locator, Family> {
        let locators = locators.clone();
        self.with_index(move |index| index.families(&locators)).await
    }

    /// Returns the seconds since 1970 by the nodes' clocks, as far as they told them: these decide when a lease ends.
    pub(crate) fn now(&self) -> u64 {
        clock::time_of_nodes(now(), &self.network.transport.clocks())
    }

    /// Refuses to sign times while this machine's clock is not that of the nodes. Asks nobody: every answer of a node
    /// tells its time, and three at least came before.
    pub(crate) fn check_clock(&self) -> Result<(), ClockError> {
        let here = now();
        clock::check(here, clock::time_of_nodes(here, &self.network.transport.clocks()))
    }

    /// Forgets uploads.
    pub(crate) async fn forget(&self, locators: BTreeSet<Locator>) -> Result<(), IndexError> {
        self.with_index(move |index| index.forget(&locators)).await
    }
}

/// Records changes together, or, if that fails, one by one, so that each is told its own error.
fn write(index: &mut Index, waiting: Vec<(Change, oneshot::Sender<Result<(), IndexError>>)>) {
    if waiting.is_empty() {
        return;
    }
    let (changes, tell): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
    let results: Vec<_> = match index.record_all(changes.clone()) {
        Ok(()) => changes.iter().map(|_| Ok(())).collect(),
        Err(error) if changes.len() == 1 => vec![Err(error)],
        Err(_) => changes.into_iter().map(|change| index.record(change)).collect(),
    };
    for (tell, result) in tell.into_iter().zip(results) {
        // Whoever gave up waiting needs no answer.
        let _ = tell.send(result);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the seconds since 1970 by this machine's clock, or zero when the clock is before 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
