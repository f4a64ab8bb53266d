//! The owners' policies at this edge: found, verified, admitted, compiled off the reactor, and swapped whole.
//!
//! Keeps true: no policy decides whose manifest both signatures do not verify, whose blobs are not the named ones, or
//! whose number is lower than one seen; while an object's policy cannot be had, the object is not served.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use client::Scope;
use format::{OwnerId, PolicyName};
use moka::{future::Cache, sync};
use sandbox::{Chain, Config, Engine, Link};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use super::{
    epochs::{Epoch, Epochs},
    library::{Key, PolicyError, PolicyLibrary, compile},
    program::Program,
    versions::SeenVersions,
};
use crate::{clock, error::Fault};

const DEFAULT_COMPONENT: &[u8] = include_bytes!("../../../policies/prebuilt/nft-immutable.wasm");
/// Policies kept ready; each is some 100 KiB of machine code and up to 1 MiB of memory of decisions.
const PROGRAMS_MAX: u64 = 256;
/// So long a policy that could not be had is not asked for again.
const FAULT_TIME: Duration = Duration::from_secs(1);
/// A policy must be fetched and compiled by then, for all who wait for it.
const LOAD_DEADLINE: Duration = Duration::from_secs(20);
/// Between tries to take up a new version: at first, and at most, for it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(20);
/// A policy that is taken up in its last days is told of in the log.
const WARN_DAYS: u64 = 30;
const DAY_SECONDS: u64 = 24 * 3600;
/// So long it is known when a policy was last told to have changed.
const CHANGED_TIME: Duration = LOAD_DEADLINE.saturating_mul(2);
// A try that waits sees that another word came meanwhile, and leaves the work to it.
const _: () = assert!(RETRY_LAST.as_secs() < CHANGED_TIME.as_secs());

/// All policies of this edge.
pub(crate) struct Policies {
    library: PolicyLibrary,
    default: Arc<Program>,
    /// Swapped in place when a new version comes, so that a request sees one version or the other.
    programs: Cache<Key, Arc<ArcSwap<Program>>>,
    /// The highest version used of each, over restarts too.
    seen: Arc<SeenVersions>,
    /// Policies that could not be had a moment ago: a busy object must not make a storm of questions.
    faults: sync::Cache<Key, ()>,
    /// When a policy was last told to have changed: a load that began before begins again.
    changed: sync::Cache<Key, Instant>,
    /// They end with each word of a change, and with each new version.
    epochs: Epochs,
    /// Where policies are fetched and compiled: the runtime on which this was made.
    control: Handle,
}

impl Policies {
    /// Starts with the built-in default policy compiled.
    ///
    /// # Errors
    /// [`PolicyError`] when the engine cannot run the default policy: then it can run none.
    pub(crate) fn new(library: PolicyLibrary, engine: &Engine, seen: SeenVersions) -> Result<Self, PolicyError> {
        // Our own component, so it needs no child to be compiled in.
        let policy = compile(engine, None, DEFAULT_COMPONENT)?;
        let chain = Chain::new(vec![Link { policy: Arc::new(policy), config: Arc::new(Config::default()) }])?;
        Ok(Self {
            library,
            default: Arc::new(Program::new(chain, None, 0, 0)),
            programs: Cache::new(PROGRAMS_MAX),
            seen: Arc::new(seen),
            faults: sync::Cache::builder().max_capacity(PROGRAMS_MAX * 16).time_to_live(FAULT_TIME).build(),
            changed: sync::Cache::builder().max_capacity(PROGRAMS_MAX * 16).time_to_live(CHANGED_TIME).build(),
            epochs: Epochs::new(),
            control: Handle::current(),
        })
    }

    /// Returns the epoch of a policy, to be taken before the policy is asked for what is to be kept.
    pub(crate) fn epoch(&self, owner: &OwnerId, name: &PolicyName) -> Epoch {
        self.epochs.now(owner, name)
    }

    /// Whether a policy may decide otherwise than in that epoch. The built-in one never does, whatever this says of it.
    pub(crate) fn is_over(&self, epoch: Epoch) -> bool {
        self.epochs.is_over(epoch)
    }

    /// Returns the policy of an owner's object. The default name is built in and never looked up. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Policy`] while it cannot be had.
    pub(crate) async fn program(self: &Arc<Self>, owner: OwnerId, name: &PolicyName) -> Result<Arc<Program>, Fault> {
        if name.as_str() == PolicyName::DEFAULT {
            return Ok(Arc::clone(&self.default));
        }
        let key = (owner, name.clone());
        if let Some(program) = self.programs.get(&key).await {
            return Ok(program.load_full());
        }
        if self.faults.contains_key(&key) {
            return Err(Fault::Policy);
        }
        // A task of its own: the viewer who caused it may leave, the work is for all who come after.
        let policies = Arc::clone(self);
        let load = async move { policies.load_shared(key).await };
        let loading = self.control.spawn(Scope::current().around(load));
        loading.await.ok().flatten().ok_or(Fault::Policy)
    }

    /// Loads a policy once for all who ask at a time. The deadline is the load's: were it that of each who waits, moka
    /// would give the load to the next one each time, and panic one that waited for 200 of them.
    async fn load_shared(&self, key: Key) -> Option<Arc<Program>> {
        let loading = async {
            let loaded = timeout(LOAD_DEADLINE, self.load_current(&key)).await.map_err(|_| PolicyError::Slow)?;
            loaded.map(|program| Arc::new(ArcSwap::from_pointee(program)))
        };
        match self.programs.try_get_with(key.clone(), loading).await {
            Ok(slot) => Some(slot.load_full()),
            Err(error) => {
                tracing::warn!(owner = %key.0, policy = %key.1, error = client::causes(&*error), "policy cannot be had");
                self.faults.insert(key, ());
                None
            }
        }
    }

    async fn load_current(&self, key: &Key) -> Result<Program, PolicyError> {
        let begun = Instant::now();
        let program = self.load(key, 0).await?;
        let is_old = self.changed.get(key).is_some_and(|changed| changed >= begun);
        if is_old { self.load(key, program.sequence).await } else { Ok(program) }
    }

    /// Takes up a new version of a policy that is in use; others are fetched when first needed. The version in force
    /// stays when the new one cannot be used, and while it cannot be had: then it is asked for again and again, because
    /// it may refuse what the old one allows. Returns at once: a policy may take seconds to compile.
    pub(crate) fn changed(self: &Arc<Self>, owner: OwnerId, name: PolicyName) {
        let (key, told) = ((owner, name), Instant::now());
        self.changed.insert(key.clone(), told);
        self.epochs.end(&key.0, &key.1);
        self.faults.invalidate(&key);
        // Ends with the edge at the latest.
        let policies = Arc::downgrade(self);
        self.control.spawn(async move {
            let mut pause = RETRY_FIRST;
            while let Some(policies) = policies.upgrade() {
                let Some(longest) = policies.take_up(&key, told).await else { return };
                drop(policies);
                sleep(pause.min(longest)).await;
                pause = (pause * 2).min(RETRY_LAST);
            }
        });
    }

    /// Tries to take up the version that was told of, and returns the longest pause before the next try, where one may
    /// help.
    async fn take_up(&self, key: &Key, told: Instant) -> Option<Duration> {
        let slot = self.programs.get(key).await?;
        if self.changed.get(key).is_some_and(|last| last > told) {
            return None;
        }
        let error = match self.load(key, slot.load().sequence).await {
            Ok(program) => {
                tracing::info!(owner = %key.0, policy = %key.1, version = program.sequence, "policy taken up");
                let program = Arc::new(program);
                // Another task may have taken up a still newer one meanwhile.
                slot.rcu(|held| if held.sequence > program.sequence { Arc::clone(held) } else { Arc::clone(&program) });
                self.epochs.end(&key.0, &key.1);
                return None;
            }
            Err(error) => error,
        };
        let cause = client::causes(&error);
        tracing::warn!(owner = %key.0, policy = %key.1, error = cause, "new policy version not taken up; the old one stays");
        match error {
            PolicyError::Early { not_before } => {
                let left = not_before.saturating_sub(clock::unix_seconds(SystemTime::now()));
                Some(Duration::from_secs(left.max(1)))
            }
            PolicyError::Origins(_) | PolicyError::Missing | PolicyError::Stopped => Some(RETRY_LAST),
            // The owner's to mend, by another version; or it would cost seconds of compilation each time.
            _ => None,
        }
    }

    /// Looks all policies in use up again, after the change feed lost its thread.
    pub(crate) fn changed_all(self: &Arc<Self>) {
        // Also of those that are no more in use, but for whoever is answered by one just now.
        self.epochs.end_all();
        for (key, _) in &self.programs {
            let (owner, name) = (*key).clone();
            self.changed(owner, name);
        }
    }

    async fn load(&self, key: &Key, seen: u64) -> Result<Program, PolicyError> {
        let loaded = self.library.load(&key.0, &key.1, seen.max(self.seen.highest(key))).await?;
        // Before anybody is served by it.
        let (versions, of, sequence) = (Arc::clone(&self.seen), key.clone(), loaded.sequence);
        if let Ok(Err(error)) = client::offload(move || versions.raise(&of, sequence)).await {
            tracing::warn!(%error, "the version of a policy cannot be kept; after a restart an older one may count");
        }
        let left = loaded.expires.saturating_sub(clock::unix_seconds(SystemTime::now())) / DAY_SECONDS;
        if loaded.expires != 0 && left < WARN_DAYS {
            tracing::warn!(owner = %key.0, policy = %key.1, days = left, "a policy ends soon; what it governs is not served then");
        }
        Ok(Program::new(loaded.chain, Some(key.clone()), loaded.sequence, loaded.expires))
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use client::Topology;
    use futures::future::join_all;
    use sandbox::EngineOptions;
    use testing::{Fault as NodeFault, FaultyTransport, MemoryTransport};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_load_has_one_deadline_for_all_who_wait_for_it() {
        const WAITERS: u64 = 300;
        let node = testing::node("o1", testing::place("o1"));
        let origins = Arc::new(MemoryTransport::new(slice::from_ref(&node)));
        let silent = Arc::new(FaultyTransport::new(origins, |_| NodeFault::Late(10 * LOAD_DEADLINE)));
        let (topology, engine) = (Arc::new(Topology::new(vec![node])), Engine::new(EngineOptions::default()).unwrap());
        let library = PolicyLibrary::new(silent, topology, testing::place("here"), engine.clone(), None);
        let policies = Arc::new(Policies::new(library, &engine, SeenVersions::default()).unwrap());
        let begun = tokio::time::Instant::now();
        let waiters = (0..WAITERS).map(|number| {
            let (policies, name) = (Arc::clone(&policies), "slow".parse().unwrap());
            async move {
                sleep(Duration::from_millis(10 * number)).await;
                let program = policies.program(OwnerId([1; 32]), &name).await;
                assert_eq!(program.err(), Some(Fault::Policy));
                begun.elapsed().as_secs()
            }
        });
        let ended = join_all(waiters).await;
        assert!(ended.iter().all(|seconds| *seconds == LOAD_DEADLINE.as_secs()), "{ended:?}");
    }
}
