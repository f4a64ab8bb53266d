//! Eight origins in memory, each in its own zone, two for each operator, and owners who use them.

use std::{path::Path, sync::Arc, time::Duration};

use client::{Topology, Transport};
use format::{Domain, NodeName, OwnerSecret, Place, Profile, wire::NodeEntry};
use tempfile::TempDir;
use testing::{MemoryTransport, node};
use twin::{Found, GetError, Index, Network, Progress, PutOptions, Tenure, Twin};

pub(crate) const ORIGINS: usize = 8;

pub(crate) struct SmallCluster {
    pub(crate) memory: Arc<MemoryTransport>,
    pub(crate) network: Arc<Network>,
    pub(crate) folder: TempDir,
}

impl SmallCluster {
    pub(crate) fn start() -> Self {
        Self::over(|memory| memory)
    }

    /// Wraps the transport to the nodes in another one. What fails is not read again.
    pub(crate) fn over<T: Transport>(wrap: impl FnOnce(Arc<MemoryTransport>) -> Arc<T>) -> Self {
        Self::patient(wrap, Duration::ZERO)
    }

    /// The same for somebody who has patience with the network.
    pub(crate) fn patient<T: Transport>(wrap: impl FnOnce(Arc<MemoryTransport>) -> Arc<T>, patience: Duration) -> Self {
        Self::of(ORIGINS, wrap, patience)
    }

    /// One of so many origins.
    pub(crate) fn of<T: Transport>(
        origins: usize,
        wrap: impl FnOnce(Arc<MemoryTransport>) -> Arc<T>,
        patience: Duration,
    ) -> Self {
        let memory = Arc::new(MemoryTransport::new(&nodes(origins)));
        let network = network(wrap(memory.clone()), origins, patience);
        Self { memory, network, folder: tempfile::tempdir().unwrap() }
    }

    /// Another way to the same nodes, of which there are [`ORIGINS`].
    pub(crate) fn network_over(&self, transport: impl Transport) -> Arc<Network> {
        network(Arc::new(transport), ORIGINS, Duration::ZERO)
    }

    pub(crate) fn twin(&self, owner: u8) -> Twin {
        let secret = OwnerSecret::from_bytes([owner; 32]);
        let index = Index::open(self.folder.path().join(format!("owner-{owner}/index")), &secret).unwrap();
        Twin::new(&secret, index, self.network.clone())
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn nodes(origins: usize) -> Vec<NodeEntry> {
    (0..origins).map(|origin| node(name(origin).as_str(), place(origin))).collect()
}

fn network(transport: Arc<dyn Transport>, origins: usize, patience: Duration) -> Arc<Network> {
    let network = Network::new(transport, Arc::new(Topology::new(nodes(origins))), place(0));
    Arc::new(network.with_patience(patience))
}

pub(crate) fn name(origin: usize) -> NodeName {
    format!("o{origin}").parse().unwrap()
}

fn place(origin: usize) -> Place {
    Place { operator: format!("op{}", origin / 2), ..testing::place(&format!("z{origin}")) }
}

pub(crate) fn options() -> PutOptions {
    PutOptions { tenure: Tenure { profile: Profile::SmallCluster, ..Tenure::default() }, ..PutOptions::default() }
}

pub(crate) fn zone(origin: usize) -> Domain {
    Domain::Zone(format!("z{origin}"))
}

pub(crate) fn quiet() -> Arc<dyn Progress> {
    Arc::new(())
}

pub(crate) async fn read_all(network: &Network, found: &Found) -> Result<Vec<u8>, GetError> {
    let whole = 0..found.object.length();
    Ok(network.read(found, whole, Vec::new(), Path::new("memory")).await?.0)
}
