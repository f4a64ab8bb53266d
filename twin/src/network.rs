//! The cluster as a twin sees it: the transport to nodes, the list of nodes, and a reader that verifies what they send.

use std::{sync::Arc, time::SystemTime};

use client::{HttpTransport, IdentityError, KnownNodes, Reader, ReaderOptions, Topology, Transport, TransportError};
use format::{
    NodeName, Place,
    wire::{NodeEntry, Role},
};

use crate::config::TwinConfig;

/// Beside the configuration: the nodes of the last answer.
const NODES_FILE: &str = "nodes.json";
/// Nodes of an earlier run that are asked while no configured one answers; each costs up to 3 seconds.
const LEARNED_ASKED_MAX: usize = 8;

/// Access to a cluster. It needs no owner: everybody who has a label can read with it.
pub struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) reader: Reader,
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
        let reader = Reader::new(transport.clone(), topology.clone(), here, ReaderOptions::default());
        Self { transport, topology, reader }
    }

    /// Asks the configured nodes for the list of all nodes, one after the other until one answers. The transport's
    /// deadline holds for each.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn connect(config: &TwinConfig) -> Result<Self, NetworkError> {
        let (transport, topology) = reach(config).await?;
        Ok(Self::new(transport, topology, config.place.clone()))
    }

    /// Returns the reader.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns the nodes.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }
}

/// Asks the configured nodes for the list of all nodes, and then those of an earlier run, one after the other until one
/// answers.
pub(crate) async fn reach(config: &TwinConfig) -> Result<(Arc<HttpTransport>, Arc<Topology>), NetworkError> {
    let identity = config.identity.read()?;
    // Nodes decide what the role may do. But an expired certificate is reported more clearly here than by a failed TLS
    // handshake.
    identity.check(identity.name(), identity.role(), SystemTime::now())?;
    let seeds = config.nodes.iter().map(|seed| NodeEntry {
        name: seed.name.clone(),
        role: Role::Origin,
        address: Some(seed.address.clone()),
        public: Vec::new(),
        place: config.place.clone(),
        capacity_bytes: 0,
        free_bytes: 0,
        load: 0,
        draining: false,
        seen: 0,
    });
    let topology = Arc::new(Topology::new(seeds.collect()));
    let known = KnownNodes::at(&config.folder.join(NODES_FILE));
    known.recall(&topology);
    let transport = Arc::new(HttpTransport::new(&identity, topology.clone()).map_err(IdentityError::from)?);
    let mut failure = None;
    // The configured nodes stand first in the list; those of an earlier run come in the order of their distance.
    let configured: Vec<NodeName> = config.nodes.iter().map(|seed| seed.name.clone()).collect();
    let learned = topology.origins_by_distance(&config.place).into_iter().filter(|name| !configured.contains(name));
    let asked: Vec<NodeName> = configured.iter().cloned().chain(learned.take(LEARNED_ASKED_MAX)).collect();
    for node in &asked {
        match transport.nodes(node).await {
            Ok(nodes) => {
                if let Err(error) = known.keep(&nodes) {
                    tracing::debug!(%error, "the node list cannot be kept beside the configuration");
                }
                topology.replace(nodes);
                return Ok((transport, topology));
            }
            Err(error) => {
                tracing::warn!(%node, %error, "a node does not answer");
                failure = Some(error);
            }
        }
    }
    let (asked, configured) = (asked.len(), configured.len());
    let source = failure.expect("a checked configuration names a node");
    Err(NetworkError::NoNode { configured, learned: asked - configured, source })
}
