//! Owners' policies as origins hold them: fetched, verified, admitted, and compiled off the reactor.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use client::{Topology, Transport, TransportError};
use format::{BlobId, NodeName, OwnerId, Place, PolicyLink, PolicyManifest, PolicyManifestError, PolicyName};
use futures::{StreamExt, stream::FuturesUnordered};
use moka::future::Cache;
use sandbox::{Chain, Config, Engine, Link, Policy, guard::ChildCommand};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::clock;

/// Compiled components kept for other owners' use: the ready-made ones serve many.
const COMPONENTS_MAX: u64 = 128;
/// Policies compiled at one time: the compiler takes a core and up to 512 MiB each.
const COMPILATIONS_MAX: usize = 2;
/// Origins asked for a policy. All are asked at once, so that one that lies or lags behind does not decide which
/// version counts.
const ORIGINS_ASKED_MAX: usize = 4;
/// After the first version that verifies the other origins have this long to show a newer one.
const DOUBT: Duration = Duration::from_secs(1);

/// Whose policy it is, and its name.
pub(crate) type Key = (OwnerId, PolicyName);

/// Why a policy cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No origin answered; try later.
    #[error("no origin could be asked")]
    Origins(#[source] TransportError),
    /// No origin has it. The owner's: publish it, or name another in the lease.
    #[error("no origin has the policy, or a part of it")]
    Missing,
    /// It was not there in time; try later.
    #[error("the policy took too long to be fetched and compiled")]
    Slow,
    /// The envelope does not verify.
    #[error("the manifest does not count")]
    Manifest(#[from] PolicyManifestError),
    /// The node sent another policy than asked for, or an older version than was seen.
    #[error("the manifest is not the one asked for, or older than version {seen}")]
    Wrong {
        /// Highest version seen.
        seen: u64,
    },
    /// The version does not count yet.
    #[error("the version counts from second {not_before} on")]
    Early {
        /// Seconds since 1970.
        not_before: u64,
    },
    /// The version no longer counts. The owner's: publish another.
    #[error("the version counted until second {expires}")]
    Expired {
        /// Seconds since 1970.
        expires: u64,
    },
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
    #[error("the configuration of link {link} cannot be used")]
    Config {
        /// Which link, counted from 1 as its owner does.
        link: usize,
        /// What is wrong with it.
        source: sandbox::ConfigError,
    },
    /// The configuration is not text. The owner's.
    #[error("the configuration of link {link} is not text")]
    Text {
        /// Which link, counted from 1.
        link: usize,
    },
    /// The links make no chain, or a configuration is not what its component takes. The owner's.
    #[error("the chain cannot be used")]
    Chain(#[from] sandbox::ChainError),
    /// Our own compiler task was stopped.
    #[error("the compilation was stopped")]
    Stopped,
}

/// Where policies come from.
pub struct PolicyLibrary {
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    place: Place,
    engine: Engine,
    child: Option<ChildCommand>,
    components: Cache<BlobId, Arc<Policy>>,
    compilations: Semaphore,
}

/// A version of a policy, ready to be asked.
pub struct LoadedPolicy {
    /// Its links.
    pub chain: Chain,
    /// Its number; a higher one is newer.
    pub sequence: u64,
    /// Second after which it does not count; 0 = never.
    pub expires: u64,
}

impl PolicyLibrary {
    /// Asks the origins nearest to `place`. Components are compiled by `child`, which bounds what that costs.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        topology: Arc<Topology>,
        place: Place,
        engine: Engine,
        child: Option<ChildCommand>,
    ) -> Self {
        let (components, compilations) = (Cache::new(COMPONENTS_MAX), Semaphore::new(COMPILATIONS_MAX));
        Self { transport, topology, place, engine, child, components, compilations }
    }

    /// Returns the version in force of an owner's policy, which is no older than version `seen`. Cancel safe.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn load(&self, owner: &OwnerId, name: &PolicyName, seen: u64) -> Result<LoadedPolicy, PolicyError> {
        let manifest = self.newest(owner, name).await?;
        if manifest.sequence < seen {
            return Err(PolicyError::Wrong { seen });
        }
        let now = clock::unix_seconds(SystemTime::now());
        let PolicyManifest { not_before, expires, .. } = manifest;
        if now < not_before {
            return Err(PolicyError::Early { not_before });
        }
        if expires != 0 && now >= expires {
            return Err(PolicyError::Expired { expires });
        }
        let mut links = Vec::with_capacity(manifest.links.len());
        for (at, link) in (1..).zip(&manifest.links) {
            links.push(self.link(at, link).await?);
        }
        Ok(LoadedPolicy { chain: Chain::new(links)?, sequence: manifest.sequence, expires: manifest.expires })
    }

    /// Returns the newest version that the nearest origins hold. An origin whose answer does not verify counts as one
    /// that has none: another may have it.
    async fn newest(&self, owner: &OwnerId, name: &PolicyName) -> Result<PolicyManifest, PolicyError> {
        let nodes = self.topology.origins_by_distance(&self.place).into_iter().take(ORIGINS_ASKED_MAX);
        let ask = |node: NodeName| async move {
            let envelope = self.transport.policy(&node, owner, name).await.map_err(PolicyError::Origins)?;
            let manifest = PolicyManifest::open(&envelope.ok_or(PolicyError::Missing)?)?;
            let is_it = manifest.owner == *owner && manifest.name == *name;
            if is_it { Ok(manifest) } else { Err(PolicyError::Wrong { seen: 0 }) }
        };
        let mut asked: FuturesUnordered<_> = nodes.map(ask).collect();
        let (mut newest, mut failure): (Option<(Instant, PolicyManifest)>, _) = (None, PolicyError::Missing);
        loop {
            let answer = match &newest {
                None => asked.next().await,
                Some((until, _)) => timeout_at(*until, asked.next()).await.ok().flatten(),
            };
            match answer {
                None => return newest.map(|(_, found)| found).ok_or(failure),
                Some(Err(error)) => failure = error,
                Some(Ok(found)) => {
                    let (until, held) = newest.unwrap_or_else(|| (Instant::now() + DOUBT, found.clone()));
                    newest = Some((until, if found.sequence > held.sequence { found } else { held }));
                }
            }
        }
    }

    async fn link(&self, at: usize, link: &PolicyLink) -> Result<Link, PolicyError> {
        let config = self.blob(link.config, link.config_bytes).await?;
        let text = std::str::from_utf8(&config).map_err(|_| PolicyError::Text { link: at })?;
        let config = Arc::new(Config::parse(text).map_err(|source| PolicyError::Config { link: at, source })?);
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

pub(crate) fn compile(engine: &Engine, child: Option<&ChildCommand>, component: &[u8]) -> Result<Policy, PolicyError> {
    let admitted = sandbox::admit(component, &[])?;
    let artefact = match child {
        Some(command) => sandbox::guard::compile(&admitted, &[], command)?,
        None => engine.compile(&admitted)?,
    };
    Ok(engine.load(&admitted, &artefact)?)
}
