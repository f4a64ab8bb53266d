//! The cluster as a twin sees it: the transport to nodes, the list of nodes, and a reader that verifies what they send.

use std::{sync::Arc, time::SystemTime};

use client::{HttpTransport, IdentityError, Reader, ReaderOptions, Topology, Transport, TransportError};
use format::{
    Place,
    wire::{NodeEntry, Role},
};

use crate::config::TwinConfig;

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
    #[error("none of the {asked} configured nodes answers")]
    NoNode {
        /// How many were asked.
        asked: usize,
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

/// Asks the configured nodes for the list of all nodes, one after the other until one answers.
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
    let transport = Arc::new(HttpTransport::new(&identity, topology.clone()).map_err(IdentityError::from)?);
    let mut failure = None;
    for seed in &config.nodes {
        match transport.nodes(&seed.name).await {
            Ok(nodes) => {
                topology.replace(nodes);
                return Ok((transport, topology));
            }
            Err(error) => {
                tracing::warn!(node = %seed.name, %error, "a configured node does not answer");
                failure = Some(error);
            }
        }
    }
    Err(NetworkError::NoNode {
        asked: config.nodes.len(),
        source: failure.expect("a checked configuration names a node"),
    })
}
