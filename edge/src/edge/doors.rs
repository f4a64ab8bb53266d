//! What an edge is bound to: the sockets of its doors, and what of them a predecessor has still.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::Endpoint;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

use super::succession::{SUCCESSION_DEADLINE, SUCCESSION_RETRY};
use crate::{
    answer::reply::Ways,
    config::HttpsConfig,
    control::acme::Keeper,
    dns::DnsSockets,
    door::{Terminator, h3},
    listen::sockets::Sockets,
};

/// What is bound.
pub(super) struct Doors {
    pub(super) dns: DnsSockets,
    pub(super) http: TcpListener,
    pub(super) https: Option<Secure>,
    pub(super) admin: Option<TcpListener>,
    pub(super) peers: Option<TcpListener>,
    /// A predecessor has the disk cache still.
    pub(super) disk_later: bool,
}

impl Doors {
    /// Returns what a successor needs to listen as this edge does.
    pub(super) fn sockets(&self) -> io::Result<Sockets> {
        let mut sockets = Sockets::default();
        sockets.add_udp(&self.dns.udp)?;
        let https = self.https.as_ref().map(|https| &https.listener);
        for listener in [&self.dns.tcp, &self.http].into_iter().chain(https).chain(&self.admin).chain(&self.peers) {
            sockets.add_tcp(listener)?;
        }
        Ok(sockets)
    }
}

/// The HTTP door over TLS.
pub(super) struct Secure {
    pub(super) terminator: Arc<Terminator>,
    /// Of a certificate from an authority.
    pub(super) keeper: Option<Keeper>,
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) quic: Option<Quic>,
}

/// The UDP port of HTTP/3. Its packets belong to connections, so two processes cannot share it.
pub(super) enum Quic {
    Bound(Endpoint),
    /// A predecessor has it until its answers have ended.
    Later,
}

impl Quic {
    /// Returns the bound port; none if it did not become free before the shutdown, or in time.
    pub(super) async fn endpoint(
        self,
        address: SocketAddr,
        terminator: &Terminator,
        mut down: watch::Receiver<bool>,
    ) -> Option<Endpoint> {
        if let Self::Bound(endpoint) = self {
            return Some(endpoint);
        }
        let freed = async {
            loop {
                match h3::bind(address, terminator) {
                    Ok(endpoint) => return endpoint,
                    Err(_) => sleep(SUCCESSION_RETRY).await,
                }
            }
        };
        tokio::select! {
            freed = timeout(SUCCESSION_DEADLINE, freed) => {
                if freed.is_err() {
                    tracing::error!(%address, "HTTP/3 is not answered, another process has the port");
                }
                freed.ok()
            }
            _ = down.wait_for(|down| *down) => None,
        }
    }
}

impl Secure {
    pub(super) fn ways(&self, config: &HttpsConfig) -> Ways {
        let port = config.public_port.unwrap_or(self.address.port());
        Ways { redirect: config.redirect.then_some(port), http3: self.quic.is_some().then_some(port) }
    }
}
