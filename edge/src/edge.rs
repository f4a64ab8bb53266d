//! Starting and ending an edge: everything is checked and bound before the first question is answered.

mod build;
mod doors;
mod loaded;
mod run;
mod start_error;
mod succession;

use std::{net::SocketAddr, sync::Arc};

use client::{Membership, Topology, Transport, tls::Identity};
use sandbox::{Engine, guard::ChildCommand};
use tokio::{sync::watch, task::JoinHandle};

pub use self::start_error::StartError;
use self::{
    build::build,
    doors::Doors,
    loaded::Loaded,
    run::run,
    succession::{keeper, recall_nodes, take_up_disk},
};
use crate::{
    config::{Config, HttpsConfig},
    listen::{certificate::check_names, sockets::Sockets},
    store::disk::DiskError,
};

/// What an edge works with and does not make itself.
pub struct Parts {
    /// How to reach origins.
    pub transport: Arc<dyn Transport>,
    /// The certificate that `transport` uses, kept up to date by the edge, and whom it refuses. Absent: the transport
    /// has none.
    pub membership: Option<Arc<Membership>>,
    /// The nodes known so far, at least one origin; the edge keeps it up to date.
    pub topology: Arc<Topology>,
    /// The policy engine; several edges in one process share one. Absent: a new one.
    pub engine: Option<Engine>,
    /// The child process that compiles owners' policies. Absent: they are compiled in this process, which only a
    /// process that knows its owners may do.
    pub compiler: Option<ChildCommand>,
    /// What a predecessor, or a service manager, listens with already. An address of the configuration that is not
    /// among them is bound anew; what only one process can have, the port of HTTP/3 and the disk cache, is taken once
    /// the predecessor ended.
    pub sockets: Sockets,
}

/// An edge that answers.
#[derive(Debug)]
pub struct Running {
    /// The DNS door, UDP and TCP, if there is one.
    pub dns: Option<SocketAddr>,
    /// The HTTP door.
    pub http: SocketAddr,
    /// The HTTP door over TLS; HTTP/3 has the UDP port of the same number.
    pub https: Option<SocketAddr>,
    /// Whether viewers can shake hands there, if there is such a door: the first certificate of an authority may still
    /// be ordered.
    pub is_certified: bool,
    /// Metrics and health.
    pub admin: Option<SocketAddr>,
    /// Where other edges of the region ask for strips.
    pub peers: Option<SocketAddr>,
    /// Second handles of the listening sockets, for a successor. They keep the queues open, so let go of them before
    /// the shutdown.
    pub sockets: Sockets,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until the edge has ended, which it does some seconds after the shutdown at most.
    pub async fn join(self) {
        drop(self.sockets);
        // The task neither panics nor is aborted; if it did, it has ended all the same.
        let _ = self.task.await;
    }
}

/// An edge node.
pub struct Edge;

impl Edge {
    /// Checks all that a start would refuse, without starting: the configuration, every file that it names, whether the
    /// addresses can be had and the folder of the disk cache be written. [`Self::start`] reads the same files by the
    /// same function.
    ///
    /// # Errors
    /// [`StartError`]. An address that another process has is none: it may be the edge that runs with this
    /// configuration.
    pub fn check(config: &Config) -> Result<Checked, StartError> {
        if config.peers.is_some() && config.tls.is_none() {
            return Err(StartError::Peers);
        }
        let Loaded { identity, .. } = Loaded::of(config)?;
        if let Some(path) = &config.state_dir {
            client::is_usable_folder(path).map_err(|source| StartError::State { path: path.clone(), source })?;
        }
        if let Some(disk) = &config.cache.disk {
            let unusable = |source| DiskError::Folder { path: disk.path.clone(), source };
            client::is_usable_folder(&disk.path).map_err(unusable)?;
        }
        let mut in_use = Vec::new();
        for door in config.doors() {
            let bind = |source| StartError::Bind { door: door.field, address: door.address, source };
            if door.probe().map_err(bind)? {
                in_use.push(door.address);
            }
        }
        // The DNS door has one address twice.
        in_use.dedup();
        Ok(Checked { identity, in_use })
    }

    /// Checks whether browsers would take the certificate for viewers for the zone's objects. A start lets that pass:
    /// some viewers trust a certificate by other ways.
    ///
    /// # Errors
    /// [`StartError::Certificate`].
    pub fn check_names(config: &Config) -> Result<(), StartError> {
        let files = config.https.as_ref().and_then(HttpsConfig::files);
        files.map_or(Ok(()), |files| Ok(check_names(&files, &config.zone)?))
    }

    /// Checks the configuration, binds all doors and starts answering. Ends when `shutdown` turns true or its sender
    /// goes.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(
        config: Config,
        mut parts: Parts,
        shutdown: watch::Receiver<bool>,
    ) -> Result<Running, StartError> {
        let Loaded { zone, secure, places, links, denylist, .. } = Loaded::of(&config)?;
        if config.peers.is_some() && parts.membership.is_none() {
            return Err(StartError::Peers);
        }
        let handed = std::mem::take(&mut parts.sockets);
        let succeeds = !handed.is_empty();
        let known_nodes = recall_nodes(&config, &parts.topology).await;
        let node = Arc::new(build(config, &parts, places, links, denylist, known_nodes, secure.as_ref())?);
        let keeper = keeper(&node, secure.as_ref(), &parts.transport, succeeds).await?;
        let disk_later = take_up_disk(&node, succeeds).await?;
        let doors = Doors::bind(&node.config, handed, secure.map(|(terminator, _)| (terminator, keeper))).await?;

        let (dns, http) = (doors.dns.as_ref().map(|dns| dns.address), doors.http.address);
        let https = doors.https.as_ref().map(|https| https.tcp.address);
        let [admin, peers] = [&doors.admin, &doors.peers].map(|door| door.as_ref().map(|door| door.address));
        if let Some((config, address)) = node.config.peers.as_ref().zip(peers) {
            // It is set here alone.
            let _ = node.peer_address.set(config.address.clone().unwrap_or_else(|| address.into()));
        }
        tracing::info!(edge = %node.config.name, dns = dns.map(tracing::field::display), %http, https = https.map(tracing::field::display), "edge answers");
        let (sockets, is_certified) = (doors.sockets()?, node.can_shake_hands());
        let task = tokio::spawn(run(node, parts.transport, zone, doors, disk_later, shutdown));
        Ok(Running { dns, http, https, is_certified, admin, peers, sockets, task })
    }
}

/// What a check found.
pub struct Checked {
    /// The identity of `[tls]`, if there is one.
    pub identity: Option<Identity>,
    /// Addresses that another process has now.
    pub in_use: Vec<SocketAddr>,
}
