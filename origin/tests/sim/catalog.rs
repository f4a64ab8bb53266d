//! The catalog of a simulated cluster: the real one on SQLite, by the simulation's clock. SQLite works on threads of
//! its own, so each call is waited for before virtual time goes on; to the simulation it takes no time at all.

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Lease, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyManifest, PolicyName, Purge, Record,
    wire::{ChangePage, NodeEntry, Note, Obstacle, Ticket},
};
use origin::catalog::{
    Abandoned, Applied, Catalog, CatalogError, CatalogId, DeadRepair, Filed, ObjectPage, ObjectRow, Repair, RepairAsk,
    RepairEnd, RepairQueue, Revival, ShardRow, ShardTotals, SqliteCatalog,
};
use tokio::{
    runtime::{Builder, Runtime},
    task::unconstrained,
    time::Instant,
};

use crate::trace::lock;

/// When all simulations begin, seconds since 1970.
const EPOCH: Duration = Duration::from_secs(2_000_000_000);
const CHANGES_KEPT: u32 = 1000;

/// Where the connections of all catalogs live: beside the simulations, whose time stands still meanwhile.
static BESIDE: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// One catalog for all origins of a simulation.
pub(crate) struct Shared {
    inner: SqliteCatalog,
    began: Instant,
    now_ms: Arc<AtomicU64>,
    down: AtomicBool,
    known: Mutex<Known>,
}

/// What is known without asking: two dozen origins ask the same several times a second.
#[derive(Default)]
struct Known {
    /// The newest change and pages of changes, until somebody writes.
    newest: Option<u64>,
    pages: BTreeMap<(u64, usize), ChangePage>,
    /// Tickets that were taken and not ended; whether there are no others.
    tickets_held: usize,
    no_ticket_waits: bool,
    /// Who has named work, and until when.
    work: BTreeMap<String, (NodeName, Duration)>,
}

impl Known {
    fn forget_news(&mut self) {
        (self.newest, self.pages) = (None, BTreeMap::new());
    }
}

fn wait<T>(call: impl Future<Output = T>) -> T {
    let _beside = BESIDE.enter();
    // Without a budget: what yields to others would wait for ever, as they stand still.
    futures::executor::block_on(unconstrained(call))
}

impl Shared {
    pub(crate) fn open(path: &Path) -> Self {
        let now_ms = Arc::new(AtomicU64::new(0));
        let told = now_ms.clone();
        let clock = Arc::new(move || EPOCH + Duration::from_millis(told.load(Ordering::Relaxed)));
        let inner = wait(SqliteCatalog::open_by(path, CHANGES_KEPT, Some(clock))).unwrap();
        Self { inner, began: Instant::now(), now_ms, down: AtomicBool::new(false), known: Mutex::default() }
    }

    /// Takes the catalog away, or gives it back.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        wait(self.inner.close());
    }

    fn reach<T>(&self, call: impl Future<Output = Result<T, CatalogError>>) -> Result<T, CatalogError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(CatalogError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        self.now_ms.store(u64::try_from(self.now().as_millis()).unwrap(), Ordering::Relaxed);
        wait(call)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What needs no asking while the catalog answers.
    fn known<T>(&self, look: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
        if self.down.load(Ordering::Relaxed) { None } else { look(&lock(&self.known)) }
    }
}

macro_rules! forward {
    (quiet { $($read:ident($($read_arg:ident: $read_type:ty),*) -> $read_out:ty;)* }
     told { $($write:ident($($write_arg:ident: $write_type:ty),*) -> $write_out:ty;)* }) => {
        #[async_trait]
        impl Catalog for Shared {
            $(async fn $read(&self, $($read_arg: $read_type),*) -> Result<$read_out, CatalogError> {
                self.reach(self.inner.$read($($read_arg),*))
            })*
            $(async fn $write(&self, $($write_arg: $write_type),*) -> Result<$write_out, CatalogError> {
                lock(&self.known).forget_news();
                self.reach(self.inner.$write($($write_arg),*))
            })*

            async fn newest_change(&self) -> Result<u64, CatalogError> {
                if let Some(newest) = self.known(|known| known.newest) {
                    return Ok(newest);
                }
                let newest = self.reach(self.inner.newest_change())?;
                lock(&self.known).newest = Some(newest);
                Ok(newest)
            }

            async fn changes(&self, since: u64, limit: usize) -> Result<ChangePage, CatalogError> {
                if let Some(page) = self.known(|known| known.pages.get(&(since, limit)).cloned()) {
                    return Ok(page);
                }
                let page = self.reach(self.inner.changes(since, limit))?;
                lock(&self.known).pages.insert((since, limit), page.clone());
                Ok(page)
            }

            async fn report(&self, reader: &NodeName, ticket: &Ticket) -> Result<Applied, CatalogError> {
                lock(&self.known).no_ticket_waits = false;
                self.reach(self.inner.report(reader, ticket))
            }

            async fn take_tickets(
                &self,
                holder: &NodeName,
                hold: Duration,
                limit: usize,
            ) -> Result<Vec<Ticket>, CatalogError> {
                if self.known(|known| known.no_ticket_waits.then_some(())).is_some() {
                    return Ok(Vec::new());
                }
                let taken = self.reach(self.inner.take_tickets(holder, hold, limit))?;
                let mut known = lock(&self.known);
                known.tickets_held += taken.len();
                known.no_ticket_waits = known.tickets_held == 0;
                Ok(taken)
            }

            async fn end_ticket(&self, ticket: &Ticket) -> Result<(), CatalogError> {
                self.reach(self.inner.end_ticket(ticket))?;
                let mut known = lock(&self.known);
                known.tickets_held = known.tickets_held.saturating_sub(1);
                Ok(())
            }

            async fn take_work(
                &self,
                name: &str,
                holder: &NodeName,
                hold: Duration,
            ) -> Result<Option<Bytes>, CatalogError> {
                let is_held = |(by, until): &(NodeName, Duration)| by != holder && self.now() < *until;
                if self.known(|known| known.work.get(name).filter(|held| is_held(held)).map(drop)).is_some() {
                    return Ok(None);
                }
                let taken = self.reach(self.inner.take_work(name, holder, hold))?;
                if taken.is_some() {
                    lock(&self.known).work.insert(name.to_owned(), (holder.clone(), self.now() + hold));
                }
                Ok(taken)
            }

            async fn keep_work(
                &self,
                name: &str,
                holder: &NodeName,
                hold: Duration,
                cursor: &[u8],
            ) -> Result<bool, CatalogError> {
                let kept = self.reach(self.inner.keep_work(name, holder, hold, cursor))?;
                if kept {
                    lock(&self.known).work.insert(name.to_owned(), (holder.clone(), self.now() + hold));
                }
                Ok(kept)
            }

            /// An origin that stops ends its own connections, and here all share them.
            async fn close(&self) {}
        }
    };
}

forward! {
    quiet {
        filed(locator: &Locator) -> Option<Filed>;
        locators(owner: Option<&OwnerId>, after: Option<&Locator>, limit: usize) -> Vec<Locator>;
        object(object: &ObjectId) -> Option<ObjectRow>;
        objects(after: Option<&ObjectId>, limit: usize) -> ObjectPage;
        objects_on(node: &NodeName, after: Option<&ObjectId>, limit: usize) -> ObjectPage;
        dead_shards(node: &NodeName, before: u64, after: Option<(ObjectId, usize)>, limit: usize) -> Vec<ShardRow>;
        abandon_shards(before: u64, silent: u64, after: Option<&ObjectId>, limit: usize) -> Abandoned;
        fold() -> ();
        shards_on(node: &NodeName, after: Option<(ObjectId, usize)>, limit: usize) -> Vec<ShardRow>;
        shard_totals(node: &NodeName) -> ShardTotals;
        repair_queue() -> RepairQueue;
        dead_repairs(limit: usize) -> Vec<DeadRepair>;
        dead_repair(object: &ObjectId) -> Option<DeadRepair>;
        repair_obstacles(limit: usize) -> Vec<Obstacle>;
        policy(owner: &OwnerId, name: &PolicyName) -> Option<Bytes>;
        blob(id: &BlobId) -> Option<Bytes>;
        nodes() -> Vec<NodeEntry>;
        forget_edges(silent: u64) -> u64;
        identity() -> CatalogId;
        now() -> u64;
        purge() -> ();
        place_shard(shard: &ShardRow) -> ();
        forget_shard(shard: &ShardRow, before: u64) -> ();
        lose_shard(shard: &ShardRow) -> ();
        queue_repair(repair: &RepairAsk) -> Applied;
        take_repair(holder: &NodeName, hold: Duration) -> Option<Repair>;
        keep_repair(object: &ObjectId, holder: &NodeName, hold: Duration) -> bool;
        end_repair(object: &ObjectId, holder: &NodeName, end: &RepairEnd) -> ();
        revive_repairs(by: Revival<'_>) -> u64;
        put_blob(id: &BlobId, blob: &Bytes) -> ();
        note(id: &NoteId) -> Option<Note>;
        put_note(id: &NoteId, note: &Note) -> ();
        refused() -> Option<Bytes>;
    }
    told {
        restore_record(record: &Record, since: u64) -> Applied;
        put_record(record: &Record) -> Applied;
        put_lease(lease: &Lease, envelope: &Bytes) -> Applied;
        move_columns(locator: &Locator, placement: &[Option<NodeName>]) -> Applied;
        expire(now: u64, limit: usize) -> u64;
        put_policy(manifest: &PolicyManifest, envelope: &Bytes) -> Applied;
        tell_purge(purge: &Purge) -> Applied;
        announce(entry: &NodeEntry) -> Applied;
        put_refused(number: u64, list: &Bytes) -> ();
        restart_feed(node: &NodeName) -> ();
    }
}
