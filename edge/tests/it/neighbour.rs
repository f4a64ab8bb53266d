//! Another edge of the region, which asks an edge for strips over TLS.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use client::{
    HttpTransport, Membership, ShardAsk, Topology, Transport, TransportError,
    tls::{Authority, Identity},
};
use edge::config::PeersConfig;
use format::{
    NodeName,
    wire::{NodeEntry, Role},
};

use crate::site::{DEADLINE, Site, Stored, other_edge};

/// Has an edge bring strips for others, on any port.
pub(crate) fn peers() -> PeersConfig {
    PeersConfig { listen: "127.0.0.1:0".parse().unwrap(), address: None, strip_bytes_max: 4 << 20, patience_ms: 100 }
}

/// Returns a member of the cluster of all tests of this process.
pub(crate) fn member(name: &NodeName) -> Arc<Membership> {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    let authority = AUTHORITY.get_or_init(|| Authority::create().unwrap());
    let issued = authority.issue(name, Role::Edge).unwrap();
    let identity = Identity::from_pem(authority.certificate_pem(), &issued.certificate, &issued.key).unwrap();
    Membership::new(&identity, None).unwrap()
}

/// The other edge, and the one that it asks.
pub(crate) struct Neighbour {
    transport: HttpTransport,
    edge: NodeName,
}

impl Neighbour {
    /// Is to ask the edge of this name at the port of `site`.
    pub(crate) fn of(site: &Site, name: &str) -> Self {
        let address = site.edge.peers.map(Into::into);
        let entry = NodeEntry { address, ..other_edge(name, "BE", 50.0, 4.0, "127.0.0.1") };
        let edge = entry.name.clone();
        let transport = HttpTransport::of(member(&"edge-near".parse().unwrap()), Arc::new(Topology::new(vec![entry])));
        Self { transport, edge }
    }

    /// Whether the edge answers, with the certificate of its name: there are strips at this port, and nothing else.
    pub(crate) async fn is_answered(&self) -> bool {
        let refused: Result<_, TransportError> = self.transport.nodes(&self.edge).await;
        refused.is_err_and(|refused| refused.status() == Some(404))
    }

    /// Has the edge bring the first strip of an object, from whichever origin has it.
    pub(crate) async fn strip(&self, site: &Site, stored: &Stored) -> Bytes {
        let public = &stored.sealed.public;
        let ask = ShardAsk { object: public.id(), column: 0, first: 0, count: 1 };
        for node in &site.nodes {
            let strip = self.transport.strip(&self.edge, public.encoded(), ask, &node.name, DEADLINE).await;
            if let Ok(strip) = strip {
                return strip;
            }
        }
        panic!("no origin has the strip");
    }
}

/// How many strips an edge brought with this result.
pub(crate) async fn brought(site: &Site, result: &str) -> u64 {
    let (text, line) = (site.metrics().await, format!("evernear_edge_strips_brought_total{{result=\"{result}\"}} "));
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}
