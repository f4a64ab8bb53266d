//! What an edge is bound to: the sockets of its doors, and what of them a predecessor has still.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::Endpoint;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    StartError,
    succession::{SUCCESSION_DEADLINE, SUCCESSION_RETRY},
};
use crate::{
    answer::reply::Ways,
    config::{Config, HttpConfig, HttpsConfig},
    control::acme::Keeper,
    dns::DnsSockets,
    door::{Terminator, h3},
    listen::sockets::Sockets,
};

/// What is bound.
pub(super) struct Doors {
    pub(super) dns: Option<DnsSockets>,
    pub(super) http: Listening,
    pub(super) https: Option<Secure>,
    pub(super) admin: Option<Listening>,
    pub(super) peers: Option<Listening>,
}

impl Doors {
    /// Binds all doors of a configuration: takes what was handed over, and has the rest anew. What a predecessor may
    /// have still is given time, where this edge succeeds one.
    ///
    /// # Errors
    /// [`StartError::Bind`].
    pub(super) async fn bind(
        config: &Config,
        mut handed: Sockets,
        secure: Option<(Arc<Terminator>, Option<Keeper>)>,
    ) -> Result<Self, StartError> {
        let succeeds = !handed.is_empty();
        let dns = match config.dns.listen {
            None => None,
            Some(address) => {
                let unbound = |source| StartError::Bind { door: "dns", address, source };
                Some(DnsSockets::bind(&mut handed, address).await.map_err(unbound)?)
            }
        };
        let http = Listening::at(&mut handed, "http", config.http.listen).await?;
        let https = match config.https.as_ref().zip(secure) {
            None => None,
            Some((https, (terminator, keeper))) => {
                let tcp = Listening::at(&mut handed, "https", https.listen).await?;
                // The port that TCP got, where any was asked for.
                let address = SocketAddr::new(https.listen.ip(), tcp.address.port());
                let quic = match https.http3.then(|| h3::bind(address, &terminator, &config.http)) {
                    None => None,
                    Some(Ok(endpoint)) => Some(Quic::Bound(endpoint)),
                    Some(Err(error)) if succeeds && error.kind() == io::ErrorKind::AddrInUse => Some(Quic::Later),
                    Some(Err(source)) => return Err(StartError::Bind { door: "http3", address, source }),
                };
                Some(Secure { terminator, keeper, tcp, quic })
            }
        };
        let admin = Listening::maybe_at(&mut handed, "admin", config.admin).await?;
        let peers = Listening::maybe_at(&mut handed, "peers", config.peers.as_ref().map(|peers| peers.listen)).await?;
        Ok(Self { dns, http, https, admin, peers })
    }

    /// Returns what a successor needs to listen as this edge does.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn sockets(&self) -> Result<Sockets, StartError> {
        let mut sockets = Sockets::default();
        if let Some(DnsSockets { udp, tcp, address }) = &self.dns {
            let unshared = |source| StartError::Bind { door: "dns", address: *address, source };
            sockets.add_udp(udp).and_then(|()| sockets.add_tcp(tcp)).map_err(unshared)?;
        }
        let https = self.https.as_ref().map(|https| &https.tcp);
        for Listening { door, socket, address } in
            [&self.http].into_iter().chain(https).chain(&self.admin).chain(&self.peers)
        {
            sockets.add_tcp(socket).map_err(|source| StartError::Bind { door, address: *address, source })?;
        }
        Ok(sockets)
    }
}

/// A TCP socket that listens.
pub(super) struct Listening {
    door: &'static str,
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
}

impl Listening {
    async fn at(handed: &mut Sockets, door: &'static str, address: SocketAddr) -> Result<Self, StartError> {
        let unbound = |source| StartError::Bind { door, address, source };
        let socket = handed.listen(address).await.map_err(unbound)?;
        Ok(Self { door, address: socket.local_addr().map_err(unbound)?, socket })
    }

    async fn maybe_at(
        handed: &mut Sockets,
        door: &'static str,
        address: Option<SocketAddr>,
    ) -> Result<Option<Self>, StartError> {
        match address {
            Some(address) => Self::at(handed, door, address).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The HTTP door over TLS.
pub(super) struct Secure {
    pub(super) terminator: Arc<Terminator>,
    /// Of a certificate from an authority.
    pub(super) keeper: Option<Keeper>,
    pub(super) tcp: Listening,
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
        http: &HttpConfig,
        mut down: watch::Receiver<bool>,
    ) -> Option<Endpoint> {
        if let Self::Bound(endpoint) = self {
            return Some(endpoint);
        }
        let freed = async {
            loop {
                match h3::bind(address, terminator, http) {
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
        let port = config.public_port.unwrap_or(self.tcp.address.port());
        Ways { redirect: config.redirect.then_some(port), http3: self.quic.is_some().then_some(port) }
    }
}
