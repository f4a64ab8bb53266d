//! What all requests share: the twin, the store, the accounts, the places for uploads, and what ends them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use format::{Locator, Retention};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use twin::{ApiConfig, Batch, PutOptions, Twin, UrlTemplate};

use crate::{
    About, Placer,
    callers::Callers,
    intake::IntakeError,
    lineage::Lineage,
    lived::{Lived, Living},
    places::Places,
    quota::{Accounts, Holder, Reservation},
    rate::Rates,
    refusal::{Refusal, causes},
    spool::Spool,
    store::{Freed, Source, Store, StoreError, Write, share},
    token::{Grant, Scope, TokenId},
    turns::Turns,
    wishes::{Defaults, SharedDefaults},
};

/// CARs that are received at one time: each takes a thread, and some 100 bytes of memory for each of its blocks.
const CARS_MAX: usize = 8;
/// How often what broken uploads left is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often the time that was seen to pass is written down, in seconds of it: a crash loses no more, and what is lost
/// is mostly counted as an absence.
const LIVED_EVERY: u64 = 3600;
/// How often rows of what is no more are looked for: what other programs erase is mostly found when it is asked for.
const RECONCILE_EVERY: Duration = Duration::from_secs(86_400);
/// The same while nodes do not say.
const RECONCILE_AGAIN: Duration = Duration::from_secs(600);
/// Rows that are looked at together.
const RECONCILED_AT_ONCE: u32 = 256;
/// How often it is looked whether tokens were ended by which requests are under way.
const TOKENS_EVERY: Duration = Duration::from_secs(1);

/// The running API.
pub(crate) struct Service {
    pub(crate) twin: Arc<Twin>,
    pub(crate) url: UrlTemplate,
    defaults: SharedDefaults,
    pub(crate) placer: Placer,
    pub(crate) config: ApiConfig,
    pub(crate) store: Store,
    pub(crate) lineage: Lineage,
    /// Bytes that tokens have stored, and that they have in the spool.
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) spooled: Arc<Accounts>,
    /// Requests under way.
    pub(crate) callers: Arc<Callers>,
    rates: Mutex<Rates>,
    started: Instant,
    living: Mutex<Living>,
    /// Where uploads of several requests wait.
    pub(crate) spool: Spool,
    /// Who works on an upload in several requests.
    pub(crate) turns: Turns<Batch>,
    /// Who puts the parts of a DAG together, by its CID.
    pub(crate) parts: Turns<String>,
    /// Places for uploads that are encoded while they come.
    pub(crate) streams: Arc<Places>,
    /// Places for CARs that are received.
    pub(crate) cars: Arc<Places>,
    /// A place for a policy that is checked, and one for a policy that is published: each takes up to 512 MiB of
    /// memory, and who checks keeps nobody from publishing.
    pub(crate) checks: Arc<Places>,
    pub(crate) publishing: Arc<Semaphore>,
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
    pub(crate) token: TokenId,
    service: Arc<Service>,
}

impl Service {
    pub(crate) async fn new(parts: Parts) -> Result<Arc<Self>, StoreError> {
        let Parts { twin, url, defaults, placer, config, store, spool, stop } = parts;
        let newest_ms = AtomicU64::new(store.newest_ms().await?);
        let counted = store.counted().await?;
        let lineage = Lineage::of(&store.tokens().await?);
        let line = |token| lineage.line(token).iter().map(|kin| kin.token).collect();
        let living = Living::begin(store.lived().await?, now(), Instant::now());
        let connections = usize::try_from(share(config.connections_max.into())).unwrap_or(usize::MAX);
        Ok(Arc::new(Self {
            streams: Places::new(config.streams_max.try_into().unwrap_or(1)),
            cars: Places::new(CARS_MAX),
            accounts: Accounts::stored(counted.iter().map(|it| (line(it.token), it.stored))),
            spooled: Accounts::spooled(counted.iter().map(|it| (line(it.token), it.spooled))),
            lineage,
            callers: Callers::new(connections),
            checks: Places::new(1),
            publishing: Arc::new(Semaphore::new(1)),
            twin,
            url,
            defaults,
            placer,
            config,
            store,
            spool,
            turns: Turns::default(),
            parts: Turns::default(),
            rates: Mutex::default(),
            started: Instant::now(),
            living: Mutex::new(living),
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

    /// Counts a request of a token, and of those that it descends from.
    pub(crate) fn count(&self, grant: &Grant) -> Result<(), Refusal> {
        self.lineage.learn(grant);
        let (mut rates, now) = (lock(&self.rates), self.started.elapsed());
        for kin in self.lineage.line(grant.id) {
            rates.take(kin.token, kin.rate, now).map_err(|wait| Refusal::too_often(wait.as_secs().max(1)))?;
        }
        Ok(())
    }

    /// Returns options that keep to the policy that they name, and refuses those that no upload could have, or not one
    /// by a token of this scope.
    pub(crate) async fn placed(&self, scope: Scope, options: PutOptions, bytes: u64) -> Result<PutOptions, Refusal> {
        let placing = self.placer.load(&self.twin, &options.tenure.policy).await?;
        let mime = options.mime.as_ref().map_or("", |mime| mime.as_str()).to_owned();
        let asked = options.tenure.retention;
        let options = placing.of(options, About { bytes, mime }).await?;
        if options.tenure.policy != self.defaults().policy && !may_promise(scope, asked, options.tenure.retention) {
            return Err(Refusal::promise(&options.tenure.policy));
        }
        self.twin.check_put(&options).await?;
        Ok(options)
    }

    /// Does some work for a token, until it is ended or the twin waits no longer. What of it was done is for the caller
    /// to clear.
    pub(crate) async fn while_it_counts<T>(
        &self,
        token: TokenId,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let ended = self.callers.ended(token);
        tokio::select! {
            done = work => done,
            () = ended.cancelled() => Err(IntakeError::Ended.into()),
            () = self.cut.cancelled() => Err(IntakeError::Stopping.into()),
        }
    }

    /// Opens the account of a token for an upload.
    pub(crate) fn account(&self, token: TokenId) -> Reservation {
        let line = self.lineage.line(token).into_iter();
        let holders = line.map(|kin| Holder { token: kin.token, max: kin.quota_bytes }).collect();
        self.accounts.begin(holders, None)
    }

    /// Opens it for what is stored whether or not it is within the token's quota.
    pub(crate) fn unbound_account(&self, token: TokenId) -> Reservation {
        self.accounts.begin(self.holders(token), None)
    }

    /// Opens what a token has in the spool, for an upload.
    pub(crate) fn spool_account(&self, token: TokenId) -> Reservation {
        let (max, mut holders) = (self.config.spool_bytes_max, self.holders(token));
        if let Some(root) = holders.last_mut() {
            root.max = Some(share(max));
        }
        self.spooled.begin(holders, Some(max))
    }

    fn holders(&self, token: TokenId) -> Vec<Holder> {
        self.lineage.line(token).into_iter().map(|kin| Holder { token: kin.token, max: None }).collect()
    }

    /// Writes something down, and gives back what counts no more by it.
    pub(crate) async fn write(&self, write: Write) -> Result<(), StoreError> {
        self.give_back(self.store.write(write).await?);
        Ok(())
    }

    /// Gives back what counts no more.
    pub(crate) fn give_back(&self, freed: Vec<Freed>) {
        for Freed { token, stored, spooled } in freed {
            let line = self.lineage.line(token);
            self.accounts.give_back(line.iter().map(|kin| kin.token), stored);
            self.spooled.give_back(line.iter().map(|kin| kin.token), spooled);
        }
    }

    /// Returns the time, in milliseconds since 1970, as nobody got it before: lists are paged by it.
    pub(crate) fn next_ms(&self) -> u64 {
        let now = now_ms();
        let after = |newest| Some(now.max(newest + 1));
        let before = self.newest_ms.fetch_update(Relaxed, Relaxed, after).unwrap_or(now);
        now.max(before + 1)
    }

    /// Returns the seconds that were seen to pass, by which what waits in the spool goes.
    pub(crate) fn lived(&self) -> u64 {
        self.look().seconds
    }

    fn look(&self) -> Lived {
        lock(&self.living).look(now(), Instant::now())
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
        let under_way = UnderWay { batch, token, service: self.clone() };
        self.write(Write::Begin { batch, token, created_ms, source, title }).await?;
        Ok(under_way)
    }

    /// Whether an upload is neither written down as whole nor ended yet.
    pub(crate) fn is_under_way(&self, batch: Batch) -> bool {
        lock(&self.under_way).contains(&batch)
    }

    /// Ends what is left of an upload that broke. What cannot be ended now is by a later sweep.
    pub(crate) async fn clear(&self, batch: Batch) {
        let cleared = async {
            self.twin.remove_batch(batch).await.map_err(|error| error.to_string())?;
            self.write(Write::Drop(batch)).await.map_err(|error| error.to_string())
        };
        if let Err(error) = cleared.await {
            tracing::warn!(%batch, error, "what a broken upload left is not ended yet");
        }
    }

    /// Ends what broken uploads left, of earlier runs too, until the twin stops.
    pub(crate) async fn sweep_often(self: Arc<Self>) {
        let mut written = None;
        loop {
            let lived = self.look();
            if written.is_none_or(|written| lived.seconds >= written + LIVED_EVERY) {
                match self.write(Write::Lived(lived)).await {
                    Ok(()) => written = Some(lived.seconds),
                    Err(error) => tracing::warn!(%error, "the time that passed is not written down yet"),
                }
            }
            match self.store.open_batches().await {
                Ok(open) => {
                    for batch in open {
                        if !self.is_under_way(batch) && !self.stop.is_cancelled() {
                            self.clear(batch).await;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "broken uploads cannot be looked for"),
            }
            if let Err(refusal) = self.sweep_parts().await {
                tracing::warn!(reason = refusal.message, "old parts of CARs cannot be looked for");
            }
            if let Err(refusal) = self.sweep_ended().await {
                tracing::warn!(reason = refusal.message, "what ended tokens did not finish cannot be forgotten");
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

    /// Forgets what tokens that were ended did not finish, so that it takes no room. What is under way by them has a
    /// moment to end.
    pub(crate) async fn sweep_ended(&self) -> Result<(), Refusal> {
        while self.drop_ended_resumables().await? + self.drop_ended_parts().await? > 0 {}
        Ok(())
    }

    /// Ends what is under way by tokens that were ended, until the twin stops.
    pub(crate) async fn watch_tokens(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(TOKENS_EVERY)).await.is_some() {
            for token in self.callers.active() {
                match self.store.token(token).await {
                    Ok(Some((grant, _))) if grant.ended(now()).is_none() => {}
                    Ok(_) => self.callers.end(token),
                    Err(error) => tracing::warn!(%error, "tokens cannot be looked at"),
                }
            }
        }
    }

    /// Looks for rows of what is no more, now and then, until the twin stops.
    pub(crate) async fn reconcile_often(self: Arc<Self>) {
        loop {
            let pause = match self.stop.run_until_cancelled(Box::pin(self.reconcile())).await {
                Some(Ok(0)) => RECONCILE_EVERY,
                Some(Ok(untold)) => {
                    tracing::warn!(
                        untold,
                        "nodes do not say yet whether uploads that the index does not know are over"
                    );
                    RECONCILE_AGAIN
                }
                Some(Err(refusal)) => {
                    tracing::warn!(reason = refusal.message, "what other programs erased cannot be looked for yet");
                    RECONCILE_AGAIN
                }
                None => return,
            };
            if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Forgets rows of what was erased by other programs, or by a request that a crash cut short, and of what ended by
    /// itself. That the index does not know an upload says nothing: it may be an older copy, or made anew. A row goes
    /// by the word of the owner that nodes have ([`twin::Over`]), and stays otherwise. Returns of how many uploads
    /// nodes say nothing. Cancel safe.
    async fn reconcile(&self) -> Result<usize, Refusal> {
        let (mut after, mut unlisted, mut untold) = (None, 0, 0);
        loop {
            // The rows first: what is stored meanwhile is in the index by then.
            let kept = self.store.kept(after, RECONCILED_AT_ONCE).await?;
            let Some((_, last)) = kept.last() else { break };
            after = Some(*last);
            let rows: BTreeMap<Locator, Batch> = kept.into_iter().collect();
            let over = self.twin.over(rows.keys().copied().collect()).await?;
            for batch in over.gone.iter().filter_map(|locator| rows.get(locator)) {
                self.write(Write::Drop(*batch)).await?;
            }
            (unlisted, untold) = (unlisted + over.unlisted.len(), untold + over.untold.len());
            if let Some((locator, error)) = over.untold.first_key_value() {
                tracing::debug!(%locator, error = causes(error), "nodes do not say whether an upload is over");
            }
        }
        if unlisted > 0 {
            tracing::warn!(
                unlisted,
                "the index does not know what was stored; `evernear owner recover` brings it back"
            );
        }
        Ok(untold)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.service.under_way).remove(&self.batch);
    }
}

/// Returns whether a token of this scope may have a file kept as planned: by a policy it is promised for longer than it
/// was asked, perhaps. Nobody can take that back.
fn may_promise(scope: Scope, asked: Retention, planned: Retention) -> bool {
    scope == Scope::Admin || planned.keep_until <= asked.keep_until
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_admin_has_a_policy_promise_more_than_was_asked() {
        let kept = |keep_until| Retention { keep_until, expires: 0 };
        for (scope, planned, may) in
            [(Scope::Write, 0, true), (Scope::Write, 5, true), (Scope::Write, 6, false), (Scope::Admin, 6, true)]
        {
            assert_eq!(may_promise(scope, kept(5), kept(planned)), may, "{scope} {planned}");
        }
    }
}
