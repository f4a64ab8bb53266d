//! The owners' policies at this edge: found, verified, admitted, compiled off the reactor, and swapped whole.
//!
//! Keeps true: no policy decides whose manifest both signatures do not verify, whose blobs are not the named ones, or whose
//! number is lower than one seen; while an object's policy cannot be had, the object is not served.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use client::{Topology, Transport, TransportError};
use format::{BlobId, NodeName, OwnerId, Place, PolicyLink, PolicyManifest, PolicyManifestError, PolicyName};
use moka::{future::Cache, sync};
use sandbox::{Chain, Config, Engine, Link, Policy, guard::ChildCommand};
use tokio::{sync::Semaphore, time::timeout};

use crate::{clock, decide::Program, error::Fault};

const DEFAULT_COMPONENT: &[u8] = include_bytes!("../../policies/prebuilt/nft-immutable.wasm");
/// Policies kept ready; each is some 100 KiB of machine code and up to 1 MiB of memory of decisions.
const PROGRAMS_MAX: u64 = 256;
/// Compiled components kept for other owners' use: the ready-made ones serve many.
const COMPONENTS_MAX: u64 = 128;
/// Policies compiled at one time: the compiler takes a core and up to 512 MiB each.
const COMPILATIONS_MAX: usize = 2;
/// Origins asked for a policy before giving up.
const ORIGINS_ASKED_MAX: usize = 4;
/// So long a policy that could not be had is not asked for again.
const FAULT_TIME: Duration = Duration::from_secs(1);
/// A viewer waits so long for a policy to be fetched and compiled.
const LOAD_DEADLINE: Duration = Duration::from_secs(20);

/// Why a policy cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// No origin answered; try later.
    #[error("no origin could be asked")]
    Origins(#[source] TransportError),
    /// No origin has it. The owner's: publish it, or name another in the lease.
    #[error("no origin has the policy, or a part of it")]
    Missing,
    /// The envelope does not verify.
    #[error("the manifest does not count")]
    Manifest(#[from] PolicyManifestError),
    /// The node sent another policy than asked for, or an older version than was seen.
    #[error("the manifest is not the one asked for, or older than version {seen}")]
    Wrong {
        /// Highest version seen.
        seen: u64,
    },
    /// The version does not count yet, or no longer.
    #[error("the version is not in force now")]
    Time,
    /// The component is not admitted. The owner's.
    #[error("a component is not admitted")]
    Admit(#[from] sandbox::AdmitError),
    /// The component does not compile. The owner's.
    #[error("a component does not compile")]
    Engine(#[from] sandbox::EngineError),
    /// The compiling child failed.
    #[error("a component does not compile")]
    Guard(#[from] sandbox::guard::GuardError),
    /// The configuration is wrong. The owner's.
    #[error("a configuration cannot be used")]
    Config(#[from] sandbox::ConfigError),
    /// The configuration is not text. The owner's.
    #[error("a configuration is not text")]
    Text,
    /// The number of links is wrong. The owner's.
    #[error("the chain cannot be used")]
    Chain(#[from] sandbox::ChainError),
    /// Our own compiler task was stopped.
    #[error("the compilation was stopped")]
    Stopped,
}

type Key = (OwnerId, PolicyName);

/// All policies of this edge.
pub(crate) struct Policies {
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    place: Place,
    engine: Engine,
    child: Option<ChildCommand>,
    default: Arc<Program>,
    /// Swapped in place when a new version comes, so that a request sees one version or the other.
    programs: Cache<Key, Arc<ArcSwap<Program>>>,
    /// Policies that could not be had a moment ago: a busy object must not make a storm of questions.
    faults: sync::Cache<Key, ()>,
    /// When a policy was last told to have changed: a load that began before begins again.
    changed: sync::Cache<Key, Instant>,
    components: Cache<BlobId, Arc<Policy>>,
    compilations: Semaphore,
}

impl Policies {
    /// Starts with the built-in default policy compiled.
    ///
    /// # Errors
    /// [`PolicyError`] when the engine cannot run the default policy: then it can run none.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        topology: Arc<Topology>,
        place: Place,
        engine: Engine,
        child: Option<ChildCommand>,
    ) -> Result<Self, PolicyError> {
        // Our own component, so it needs no child to be compiled in.
        let policy = compile(&engine, None, DEFAULT_COMPONENT)?;
        let chain = Chain::new(vec![Link { policy: Arc::new(policy), config: Arc::new(Config::default()) }])?;
        Ok(Self {
            transport,
            topology,
            place,
            engine,
            child,
            default: Arc::new(Program::new(chain, 0, 0)),
            programs: Cache::new(PROGRAMS_MAX),
            faults: sync::Cache::builder().max_capacity(PROGRAMS_MAX * 16).time_to_live(FAULT_TIME).build(),
            changed: sync::Cache::builder().max_capacity(PROGRAMS_MAX * 16).time_to_live(LOAD_DEADLINE * 2).build(),
            components: Cache::new(COMPONENTS_MAX),
            compilations: Semaphore::new(COMPILATIONS_MAX),
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
                let cause = &*error as &dyn std::error::Error;
                tracing::warn!(owner = %key.0, policy = %key.1, error = cause, "policy cannot be had");
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
                let error = &error as &dyn std::error::Error;
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
        let (owner, name) = key;
        let envelope = self.first(|node| async move { self.transport.policy(&node, owner, name).await }).await?;
        let manifest = PolicyManifest::open(&envelope)?;
        if manifest.owner != *owner || manifest.name != *name || manifest.sequence < seen {
            return Err(PolicyError::Wrong { seen });
        }
        let now = clock::unix_seconds(SystemTime::now());
        if now < manifest.not_before || (manifest.expires != 0 && now >= manifest.expires) {
            return Err(PolicyError::Time);
        }
        let mut links = Vec::with_capacity(manifest.links.len());
        for link in &manifest.links {
            links.push(self.link(link).await?);
        }
        Ok(Program::new(Chain::new(links)?, manifest.sequence, manifest.expires))
    }

    async fn link(&self, link: &PolicyLink) -> Result<Link, PolicyError> {
        let config = self.blob(link.config, link.config_bytes).await?;
        let text = std::str::from_utf8(&config).map_err(|_| PolicyError::Text)?;
        let config = Arc::new(Config::parse(text)?);
        if let Some(policy) = self.components.get(&link.component).await {
            return Ok(Link { policy, config });
        }
        let component = self.blob(link.component, link.component_bytes).await?;
        let _turn = self.compilations.acquire().await.map_err(|_| PolicyError::Stopped)?;
        let (engine, child) = (self.engine.clone(), self.child.clone());
        let compiling = tokio::task::spawn_blocking(move || compile(&engine, child.as_ref(), &component));
        let policy = Arc::new(compiling.await.map_err(|_| PolicyError::Stopped)??);
        self.components.insert(link.component, Arc::clone(&policy)).await;
        Ok(Link { policy, config })
    }

    /// Fetches a blob and verifies that it is the one named.
    async fn blob(&self, id: BlobId, bytes: u32) -> Result<Bytes, PolicyError> {
        let is_it = |blob: &Bytes| u32::try_from(blob.len()) == Ok(bytes) && BlobId::of(blob) == id;
        self.first(|node| async move {
            let blob = self.transport.blob(&node, &id).await?;
            // A node that sends another blob counts as one that has none.
            Ok(blob.filter(is_it))
        })
        .await
    }

    /// Asks origins, nearest first, until one has it.
    async fn first<F, A>(&self, ask: F) -> Result<Bytes, PolicyError>
    where
        F: Fn(NodeName) -> A,
        A: Future<Output = Result<Option<Bytes>, TransportError>>,
    {
        let mut last = PolicyError::Missing;
        for node in self.topology.origins_by_distance(&self.place).into_iter().take(ORIGINS_ASKED_MAX) {
            match ask(node).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => last = PolicyError::Missing,
                Err(error) => last = PolicyError::Origins(error),
            }
        }
        Err(last)
    }
}

fn compile(engine: &Engine, child: Option<&ChildCommand>, component: &[u8]) -> Result<Policy, PolicyError> {
    let admitted = sandbox::admit(component, &[])?;
    let artefact = match child {
        Some(command) => sandbox::guard::compile(&admitted, &[], command)?,
        None => engine.compile(&admitted)?,
    };
    Ok(engine.load(&admitted, &artefact)?)
}
