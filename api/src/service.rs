//! What all requests share: the twin, the store, the accounts, the places for uploads, and what ends them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use twin::{ApiConfig, Batch, PutOptions, Twin, UrlTemplate};

use crate::{
    About, Placer,
    quota::{Accounts, Reservation},
    rate::Rates,
    refusal::Refusal,
    spool::Spool,
    store::{Source, Store, StoreError, Write},
    token::{Grant, TokenId},
    tus::Turns,
    wishes::{Defaults, SharedDefaults},
};

/// How often what broken uploads left is looked for.
/// CARs that are received at one time: each takes a thread, and some 100 bytes of memory for each of its blocks.
const CARS_MAX: usize = 8;
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The running API.
pub(crate) struct Service {
    pub(crate) twin: Arc<Twin>,
    pub(crate) url: UrlTemplate,
    defaults: SharedDefaults,
    pub(crate) placer: Placer,
    pub(crate) config: ApiConfig,
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    rates: Mutex<Rates>,
    started: Instant,
    /// Where uploads of several requests wait.
    pub(crate) spool: Spool,
    /// Who writes to an upload in several requests, and who stores one.
    pub(crate) turns: Turns,
    pub(crate) finishing: Turns,
    /// Held by whoever puts parts of one upload together.
    pub(crate) parts: tokio::sync::Mutex<()>,
    /// Places for uploads that are encoded while they come.
    pub(crate) streams: Semaphore,
    /// Places for CARs that are received.
    pub(crate) cars: Semaphore,
    /// A place for a policy that is checked: each takes up to 512 MiB of memory.
    pub(crate) checks: Arc<Semaphore>,
    /// Everything that runs.
    pub(crate) tasks: TaskTracker,
    /// No more requests are taken.
    pub(crate) stop: CancellationToken,
    /// Uploads under way end now.
    pub(crate) cut: CancellationToken,
    /// The newest time that an upload was given, milliseconds since 1970.
    newest_ms: AtomicU64,
    /// Uploads of this process that are under way.
    under_way: Mutex<BTreeSet<Batch>>,
}

/// What a service is made of.
pub(crate) struct Parts {
    pub(crate) twin: Arc<Twin>,
    pub(crate) url: UrlTemplate,
    pub(crate) defaults: SharedDefaults,
    pub(crate) placer: Placer,
    pub(crate) config: ApiConfig,
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) stop: CancellationToken,
}

/// An upload under way. Dropped, it is one that broke.
pub(crate) struct UnderWay {
    pub(crate) batch: Batch,
    service: Arc<Service>,
}

impl Service {
    pub(crate) async fn new(parts: Parts) -> Result<Arc<Self>, StoreError> {
        let Parts { twin, url, defaults, placer, config, store, spool, stop } = parts;
        let newest_ms = AtomicU64::new(store.newest_ms().await?);
        Ok(Arc::new(Self {
            streams: Semaphore::new(config.streams_max.try_into().unwrap_or(1)),
            cars: Semaphore::new(CARS_MAX),
            checks: Arc::new(Semaphore::new(1)),
            twin,
            url,
            defaults,
            placer,
            config,
            store,
            spool,
            turns: Turns::default(),
            finishing: Turns::default(),
            parts: tokio::sync::Mutex::default(),
            accounts: Accounts::default(),
            rates: Mutex::default(),
            started: Instant::now(),
            tasks: TaskTracker::new(),
            stop,
            cut: CancellationToken::new(),
            newest_ms,
            under_way: Mutex::default(),
        }))
    }

    /// Returns what an upload gets now where nobody wishes for something else.
    pub(crate) fn defaults(&self) -> Defaults {
        self.defaults.now()
    }

    /// Counts a request of a token.
    pub(crate) fn count(&self, grant: &Grant) -> Result<(), Refusal> {
        let taken = lock(&self.rates).take(grant.id, grant.rate, self.started.elapsed());
        taken.map_err(|wait| Refusal::too_often(wait.as_secs().max(1)))
    }

    /// Returns options that keep to the policy that they name, and refuses those that no upload could have.
    pub(crate) async fn placed(&self, options: PutOptions, bytes: u64) -> Result<PutOptions, Refusal> {
        let placing = self.placer.load(&self.twin, &options.tenure.policy).await?;
        let mime = options.mime.as_ref().map_or("", |mime| mime.as_str()).to_owned();
        let options = placing.of(options, About { bytes, mime }).await?;
        self.twin.check_put(&options).await?;
        Ok(options)
    }

    /// Opens the account of a token for an upload.
    pub(crate) async fn account(&self, grant: &Grant) -> Result<Reservation, Refusal> {
        let used = if self.accounts.knows(grant.id) { 0 } else { self.store.used(grant.id).await? };
        Ok(self.accounts.begin(grant, used))
    }

    /// Returns the time, in milliseconds since 1970, as nobody got it before: lists are paged by it.
    pub(crate) fn next_ms(&self) -> u64 {
        let now = now_ms();
        let after = |newest| Some(now.max(newest + 1));
        let before = self.newest_ms.fetch_update(Relaxed, Relaxed, after).unwrap_or(now);
        now.max(before + 1)
    }

    /// Returns where this API listens, as IPFS writes addresses.
    pub(crate) fn multiaddr(&self) -> String {
        let address = self.config.listen;
        let kind = if address.is_ipv4() { "ip4" } else { "ip6" };
        format!("/{kind}/{}/tcp/{}/http", address.ip(), address.port())
    }

    /// Writes down that an upload begins, so that what it leaves is found after a crash.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        token: TokenId,
        source: Source,
        title: Option<String>,
    ) -> Result<UnderWay, Refusal> {
        let batch = Batch::draw().map_err(|error| Refusal::own(&error))?;
        let created_ms = self.next_ms();
        lock(&self.under_way).insert(batch);
        let under_way = UnderWay { batch, service: self.clone() };
        self.store.write(Write::Begin { batch, token, created_ms, source, title }).await?;
        Ok(under_way)
    }

    /// Ends what is left of an upload that broke. What cannot be ended now is by a later sweep.
    pub(crate) async fn clear(&self, batch: Batch) {
        let cleared = async {
            self.twin.remove_batch(batch).await.map_err(|error| error.to_string())?;
            self.store.write(Write::Drop(batch)).await.map_err(|error| error.to_string())
        };
        if let Err(error) = cleared.await {
            tracing::warn!(%batch, error, "what a broken upload left is not ended yet");
        }
    }

    /// Ends what broken uploads left, of earlier runs too, until the twin stops.
    pub(crate) async fn sweep_often(self: Arc<Self>) {
        loop {
            match self.store.open_batches().await {
                Ok(open) => {
                    for batch in open {
                        let is_running = lock(&self.under_way).contains(&batch);
                        if !is_running && !self.stop.is_cancelled() {
                            self.clear(batch).await;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "broken uploads cannot be looked for"),
            }
            if let Err(refusal) = self.sweep_resumables().await {
                tracing::warn!(reason = refusal.message, "uploads in several requests cannot be looked at");
            }
            let next = tokio::time::sleep(SWEEP_EVERY);
            if self.stop.run_until_cancelled(next).await.is_none() {
                return;
            }
        }
    }

    /// Forgets rows of what was erased by other programs, or by a request that a crash cut short.
    pub(crate) async fn reconcile(&self) -> Result<(), StoreError> {
        let kept = self.store.kept().await?;
        let held = self.twin.list().await;
        let gone = kept.into_iter().filter(|it| it.locator.is_none_or(|locator| !held.contains_key(&locator)));
        for upload in gone {
            self.store.write(Write::Drop(upload.batch)).await?;
        }
        Ok(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.service.under_way).remove(&self.batch);
    }
}

/// Returns milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns seconds since 1970.
pub(crate) fn now() -> u64 {
    now_ms() / 1000
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
