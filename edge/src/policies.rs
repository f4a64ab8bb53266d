//! The owners' policies at this edge: found, verified, admitted, compiled off the reactor, and swapped whole.
//!
//! Keeps true: no policy decides whose manifest both signatures do not verify, whose blobs are not the named ones, or whose
//! number is lower than one seen; while an object's policy cannot be had, the object is not served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use format::{OwnerId, PolicyName};
use moka::{future::Cache, sync};
use sandbox::{Chain, Config, Engine, Link};
use tokio::time::timeout;

use crate::{
    decide::Program,
    error::{Fault, causes},
    library::{PolicyError, PolicyLibrary, compile},
};

const DEFAULT_COMPONENT: &[u8] = include_bytes!("../../policies/prebuilt/nft-immutable.wasm");
/// Policies kept ready; each is some 100 KiB of machine code and up to 1 MiB of memory of decisions.
const PROGRAMS_MAX: u64 = 256;
/// So long a policy that could not be had is not asked for again.
const FAULT_TIME: Duration = Duration::from_secs(1);
/// A viewer waits so long for a policy to be fetched and compiled.
const LOAD_DEADLINE: Duration = Duration::from_secs(20);

/// Whose policy it is, and its name.
pub(crate) type Key = (OwnerId, PolicyName);

/// All policies of this edge.
pub(crate) struct Policies {
    library: PolicyLibrary,
    default: Arc<Program>,
    /// Swapped in place when a new version comes, so that a request sees one version or the other.
    programs: Cache<Key, Arc<ArcSwap<Program>>>,
    /// Policies that could not be had a moment ago: a busy object must not make a storm of questions.
    faults: sync::Cache<Key, ()>,
    /// When a policy was last told to have changed: a load that began before begins again.
    changed: sync::Cache<Key, Instant>,
}

impl Policies {
    /// Starts with the built-in default policy compiled.
    ///
    /// # Errors
    /// [`PolicyError`] when the engine cannot run the default policy: then it can run none.
    pub(crate) fn new(library: PolicyLibrary, engine: &Engine) -> Result<Self, PolicyError> {
        // Our own component, so it needs no child to be compiled in.
        let policy = compile(engine, None, DEFAULT_COMPONENT)?;
        let chain = Chain::new(vec![Link { policy: Arc::new(policy), config: Arc::new(Config::default()) }])?;
        Ok(Self {
            library,
            default: Arc::new(Program::new(chain, None, 0, 0)),
            programs: Cache::new(PROGRAMS_MAX),
            faults: sync::Cache::builder().max_capacity(PROGRAMS_MAX * 16).time_to_live(FAULT_TIME).build(),
            changed: sync::Cache::builder().max_capacity(PROGRAMS_MAX * 16).time_to_live(LOAD_DEADLINE * 2).build(),
        })
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
        let loading = tokio::spawn(async move { timeout(LOAD_DEADLINE, policies.load_shared(key)).await });
        loading.await.ok().and_then(Result::ok).flatten().ok_or(Fault::Policy)
    }

    /// Loads a policy once for all who ask at a time.
    async fn load_shared(&self, key: Key) -> Option<Arc<Program>> {
        let loading = async { self.load_current(&key).await.map(|program| Arc::new(ArcSwap::from_pointee(program))) };
        match self.programs.try_get_with(key.clone(), loading).await {
            Ok(slot) => Some(slot.load_full()),
            Err(error) => {
                tracing::warn!(owner = %key.0, policy = %key.1, error = causes(&*error), "policy cannot be had");
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

    /// Takes up a new version of a policy that is in use; others are fetched when first needed. The version in force stays
    /// when the new one cannot be had or used.
    pub(crate) async fn changed(&self, owner: OwnerId, name: &PolicyName) {
        let key = (owner, name.clone());
        self.changed.insert(key.clone(), Instant::now());
        self.faults.invalidate(&key);
        let Some(slot) = self.programs.get(&key).await else { return };
        match self.load(&key, slot.load().sequence).await {
            Ok(program) => {
                tracing::info!(owner = %key.0, policy = %key.1, version = program.sequence, "policy taken up");
                let program = Arc::new(program);
                // Another task may have taken up a still newer one meanwhile.
                slot.rcu(|held| if held.sequence > program.sequence { Arc::clone(held) } else { Arc::clone(&program) });
            }
            Err(error) => {
                let error = causes(&error);
                tracing::warn!(owner = %key.0, policy = %key.1, error, "new policy version not taken up; the old one stays");
            }
        }
    }

    /// Looks all policies in use up again, after the change feed lost its thread.
    pub(crate) async fn changed_all(&self) {
        let keys: Vec<Key> = self.programs.iter().map(|(key, _)| (*key).clone()).collect();
        for (owner, name) in keys {
            self.changed(owner, &name).await;
        }
    }

    async fn load(&self, key: &Key, seen: u64) -> Result<Program, PolicyError> {
        let loaded = self.library.load(&key.0, &key.1, seen).await?;
        Ok(Program::new(loaded.chain, Some(key.clone()), loaded.sequence, loaded.expires))
    }
}
