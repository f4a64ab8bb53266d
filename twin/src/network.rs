//! The cluster as a twin sees it: the transport to nodes, the list of nodes, and a reader that verifies what they send.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::{
    HttpTransport, IdentityError, KnownNodes, Membership, Reader, ReaderOptions, Topology, Transport, TransportError,
    tls::Identity,
};
use format::{
    NodeName, Place,
    wire::{NodeEntry, Role},
};

use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    config::{TwinConfig, nowhere},
    get::PATIENCE,
    learn::learn,
    refresh::Refresh,
};

/// Beside the configuration: the nodes of the last answer.
const NODES_FILE: &str = "nodes.json";
/// Beside the configuration: the newest list of refused node certificates.
const REFUSED_FILE: &str = "refused.crl";
/// Nodes asked for that list, of those known before and of the nearest others each.
const WITNESSES: usize = 3;
/// A witness that is slower is not waited for.
const WITNESS_DEADLINE: Duration = Duration::from_secs(1);
/// Nodes of an earlier run that are asked while no configured one answers; each costs up to 3 seconds.
const LEARNED_ASKED_MAX: usize = 8;

/// Access to a cluster. It needs no owner: everybody who has a label can read with it.
pub struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) reader: Reader,
    here: Place,
    /// How long a read is made again while nothing comes.
    pub(crate) patience: Duration,
    /// Keep the topology and the own certificate new, where there is a network to ask.
    _refresh: Vec<Refresh>,
}

/// Why the cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// This program's identity cannot be used.
    #[error("the identity of this twin does not serve; `evernear cluster issue` makes one")]
    Identity(#[from] IdentityError),
    /// No node of the configuration answers; their fault or the network's.
    #[error("none of the {configured} configured nodes answers, nor of {learned} that an earlier run learned of")]
    NoNode {
        /// How many of the configuration were asked.
        configured: usize,
        /// How many others were asked.
        learned: usize,
        /// The last answer.
        source: TransportError,
    },
}

impl Network {
    /// Makes a network of nodes that are already known.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, topology: Arc<Topology>, here: Place) -> Self {
        let reader = Reader::new(transport.clone(), topology.clone(), here.clone(), ReaderOptions::patient());
        Self { transport, topology, reader, here, patience: PATIENCE, _refresh: Vec::new() }
    }

    /// Makes reads that fail because of the network again for another time than 50 s.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks the configured nodes, and those of an earlier run, for the list of all nodes until three answered, and then
    /// for new lists each minute. The transport's deadline holds for each.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn connect(config: &TwinConfig) -> Result<Self, NetworkError> {
        let identity = config.identity.read()?;
        let Reached { transport, topology, membership, .. } = reach(config, identity, Role::Twin).await?;
        let refresh = vec![
            Refresh::start(transport.clone(), topology.clone(), config.place.clone()),
            Refresh::of_identity(membership, config.identity.clone()),
        ];
        Ok(Self { _refresh: refresh, ..Self::new(transport, topology, config.place.clone()) })
    }

    /// Returns the reader.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns where this program is.
    pub(crate) fn here(&self) -> &Place {
        &self.here
    }

    /// Returns the nodes.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }
}

/// The way to a cluster.
pub(crate) struct Reached {
    pub(crate) transport: Arc<HttpTransport>,
    /// The nodes as several of them told.
    pub(crate) topology: Arc<Topology>,
    pub(crate) membership: Arc<Membership>,
    /// The nodes known before anybody was asked: those of the configuration, and those of an earlier run.
    pub(crate) known: Vec<NodeEntry>,
}

/// Asks the configured nodes for the list of all nodes, and then those of an earlier run, until three answered.
pub(crate) async fn reach(config: &TwinConfig, identity: Identity, role: Role) -> Result<Reached, NetworkError> {
    // Nodes decide what the role may do. But another role, or an expired certificate, is reported more clearly here
    // than by a node that refuses or a failed TLS handshake.
    identity.check(identity.name(), role, SystemTime::now())?;
    let seeds = config.nodes.iter().map(|seed| NodeEntry {
        name: seed.name.clone(),
        role: Role::Origin,
        address: Some(seed.address.clone()),
        public: Vec::new(),
        place: nowhere(),
        capacity_bytes: 0,
        free_bytes: 0,
        load: 0,
        draining: false,
        seen: 0,
    });
    let topology = Arc::new(Topology::new(seeds.collect()));
    let known = KnownNodes::at(&config.folder.join(NODES_FILE));
    known.recall(&topology);
    let membership =
        Membership::new(&identity, Some(&config.folder.join(REFUSED_FILE))).map_err(IdentityError::from)?;
    let transport = Arc::new(HttpTransport::of(membership.clone(), topology.clone()));
    // The configured nodes stand first in the list; those of an earlier run come in the order of their distance.
    let configured: Vec<NodeName> = config.nodes.iter().map(|seed| seed.name.clone()).collect();
    let learned = topology.origins_by_distance(&config.place).into_iter().filter(|name| !configured.contains(name));
    let asked: Vec<NodeName> = configured.iter().cloned().chain(learned.take(LEARNED_ASKED_MAX)).collect();
    let begun = topology.snapshot();
    loop {
        topology.replace(begun.to_vec());
        learn(&*transport, &topology, &asked, &config.place).await.map_err(|source| NetworkError::NoNode {
            configured: configured.len(),
            learned: asked.len() - configured.len(),
            source,
        })?;
        // A thief with an origin's key may be among those who answered. So those known before are asked whom the
        // cluster refuses, and the nearest of those told: news begins this again, without the thief.
        let (first, nearest) = (&asked[..asked.len().min(WITNESSES)], topology.origins_by_distance(&config.place));
        let others = nearest.iter().filter(|name| !first.contains(name)).take(WITNESSES);
        if !learn_refused(&membership, &transport, first.iter().chain(others)).await {
            break;
        }
    }
    if let Err(error) = known.keep(&topology.snapshot()) {
        tracing::debug!(%error, "the node list cannot be kept beside the configuration");
    }
    Ok(Reached { transport, topology, membership, known: begun.to_vec() })
}

/// Asks nodes at once for the list of refused certificates, since one alone could hold it back, and takes the newest
/// up. Returns whether there was a newer one.
async fn learn_refused(
    membership: &Arc<Membership>,
    transport: &HttpTransport,
    nodes: impl Iterator<Item = &NodeName>,
) -> bool {
    let number = membership.refused().number();
    let asks = nodes.map(|node| timeout(WITNESS_DEADLINE, transport.refused(node, number)));
    let mut is_news = false;
    for answer in join_all(asks).await {
        let Ok(Ok(Some(list))) = answer else { continue };
        match membership.open_refused(list) {
            Ok(list) => is_news |= membership.take_up(list).await,
            Err(error) => tracing::warn!(%error, "a list of refused certificates does not count"),
        }
    }
    is_news
}
