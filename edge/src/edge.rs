//! Starting and ending an edge: everything is checked and bound before the first question is answered.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use client::{
    IdentityError, IdentityFiles, KnownNodes, Membership, Reader, ReaderOptions, Topology, Traces, TracesError,
    Transport, tls::Identity,
};
use format::wire::Role;
use quinn::Endpoint;
use sandbox::{Engine, EngineOptions, guard::ChildCommand};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    answer::reply::Ways,
    config::{Config, ConfigError, HttpsConfig},
    control::{
        acme::Keeper,
        admin, follow,
        purge::{Sweeper, Sweeps},
    },
    dns::{DnsSockets, ZoneFacts},
    door::{HttpDoor, Terminator, Workers, h3},
    listen::{
        certificate::{Certificate, CertificateError},
        sockets::Sockets,
    },
    metrics::Metrics,
    node::Node,
    peers,
    policy::{
        ask::BucketKey,
        denylist::{self, Denylist, DenylistError},
        library::PolicyLibrary,
        places::{PlaceTable, PlacesError},
        policies::Policies,
        versions::SeenVersions,
    },
    secret::{SecretError, ZoneSecret},
    store::{
        cache::BlockCache,
        directories::Directories,
        disk::{DiskError, DiskTier},
        miss::Fills,
        names::Names,
        objects::Objects,
        region::Region,
        register::Register,
    },
};

/// Answers under way get so long to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// What a predecessor lets go of as it ends, which takes it [`DRAIN_DEADLINE`] twice at most, is taken up by then.
const SUCCESSION_DEADLINE: Duration = Duration::from_secs(60);
const SUCCESSION_RETRY: Duration = Duration::from_millis(100);

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

/// Why an edge does not start; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The edge's own certificate is wrong.
    #[error("the identity of [tls] cannot be used")]
    Identity(#[from] IdentityError),
    /// The place table is wrong.
    #[error("the place table cannot be used")]
    Places(#[from] PlacesError),
    /// The policy engine does not start.
    #[error("the policy engine does not start")]
    Engine(#[from] sandbox::EngineError),
    /// The built-in policy does not run.
    #[error("the built-in policy does not run: {reason}")]
    DefaultPolicy {
        /// Why.
        reason: String,
    },
    /// The certificate for viewers is wrong.
    #[error("the certificate of [https] cannot be used")]
    Certificate(#[from] CertificateError),
    /// The collector of traces cannot be told.
    #[error("`traces` cannot be used")]
    Traces(#[from] TracesError),
    /// What is not to be served cannot be read, so nothing is.
    #[error("`denylist` cannot be used")]
    Denylist(#[from] DenylistError),
    /// The folder of the disk cache is wrong.
    #[error("`cache.disk` cannot be used")]
    Disk(#[from] DiskError),
    /// The folder of what is remembered cannot be written.
    #[error("{}, the folder of `state_dir`, cannot be written", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The secret of the zone's edges is wrong.
    #[error("{}, the file of the zone's secret, cannot be used", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SecretError,
    },
    /// This edge is to take the place of one that may have a certificate, and can have none.
    #[error(
        "there is no certificate for viewers: no origin could be asked for it, and none is kept; start again once an \
         origin answers, or give edges a `state_dir`, where they keep it"
    )]
    Uncertified,
    /// Other edges are to be answered, and there is no certificate for that.
    #[error("`peers` needs `tls`: other edges are answered with its certificate")]
    Peers,
    /// An address cannot be bound.
    #[error("{door} cannot listen on {address}")]
    Bind {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// An edge that answers.
#[derive(Debug)]
pub struct Running {
    /// The DNS door, UDP and TCP.
    pub dns: SocketAddr,
    /// The HTTP door.
    pub http: SocketAddr,
    /// The HTTP door over TLS; HTTP/3 has the UDP port of the same number.
    pub https: Option<SocketAddr>,
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
        let mut handed = std::mem::take(&mut parts.sockets);
        let succeeds = !handed.is_empty();
        let known_nodes = recall_nodes(&config, &parts.topology).await;
        let node = Arc::new(build(config, &parts, places, links, denylist, known_nodes, secure.as_ref())?);
        let keeper = keeper(&node, secure.as_ref(), &parts.transport, succeeds).await?;
        let disk_later = take_up_disk(&node, succeeds).await?;
        let bind = |door, address| move |source| StartError::Bind { door, address, source };

        let address = node.config.dns.listen;
        let dns = DnsSockets::bind(&mut handed, address).await.map_err(bind("dns", address))?;
        let dns_address = dns.address;
        let address = node.config.http.listen;
        let http = handed.listen(address).await.map_err(bind("http", address))?;
        let http_address = http.local_addr().map_err(bind("http", address))?;
        let https = match node.config.https.as_ref().zip(secure) {
            None => None,
            Some((https, (terminator, _))) => {
                let listener = handed.listen(https.listen).await.map_err(bind("https", https.listen))?;
                let address = listener.local_addr().map_err(bind("https", https.listen))?;
                // The port that TCP got, where any was asked for.
                let quic_address = SocketAddr::new(https.listen.ip(), address.port());
                let quic = match https.http3.then(|| h3::bind(quic_address, &terminator)) {
                    None => None,
                    Some(Ok(endpoint)) => Some(Quic::Bound(endpoint)),
                    Some(Err(error)) if succeeds && error.kind() == io::ErrorKind::AddrInUse => Some(Quic::Later),
                    Some(Err(error)) => return Err(bind("http3", quic_address)(error)),
                };
                Some(Secure { terminator, keeper, listener, address, quic })
            }
        };
        let https_address = https.as_ref().map(|https| https.address);
        let admin = match node.config.admin {
            None => None,
            Some(address) => {
                let listener = handed.listen(address).await.map_err(bind("admin", address))?;
                Some((listener.local_addr().map_err(bind("admin", address))?, listener))
            }
        };
        let admin_address = admin.as_ref().map(|(address, _)| *address);
        let peers = match &node.config.peers {
            None => None,
            Some(peers) => {
                let listener = handed.listen(peers.listen).await.map_err(bind("peers", peers.listen))?;
                let address = listener.local_addr().map_err(bind("peers", peers.listen))?;
                let told = peers.address.clone().unwrap_or_else(|| address.into());
                // It is set here alone.
                let _ = node.peer_address.set(told);
                Some((address, listener))
            }
        };
        let peers_address = peers.as_ref().map(|(address, _)| *address);

        tracing::info!(edge = %node.config.name, dns = %dns_address, http = %http_address, https = https_address.map(tracing::field::display), "edge answers");
        let [admin, peers] = [admin, peers].map(|bound| bound.map(|(_, listener)| listener));
        let doors = Doors { dns, http, https, admin, peers, disk_later };
        let sockets = doors.sockets().map_err(bind("http", http_address))?;
        let task = tokio::spawn(run(node, parts.transport, zone, doors, shutdown));
        Ok(Running {
            dns: dns_address,
            http: http_address,
            https: https_address,
            admin: admin_address,
            peers: peers_address,
            sockets,
            task,
        })
    }
}

/// What a check found.
pub struct Checked {
    /// The identity of `[tls]`, if there is one.
    pub identity: Option<Identity>,
    /// Addresses that another process has now.
    pub in_use: Vec<SocketAddr>,
}

/// TLS for viewers, and the secret that the zone's edges share for it.
type Secured = (Arc<Terminator>, Option<Arc<ZoneSecret>>);

/// A configuration that is good, and what its files hold.
struct Loaded {
    identity: Option<Identity>,
    zone: ZoneFacts,
    places: PlaceTable,
    /// TLS for viewers.
    secure: Option<Secured>,
    links: Option<ZoneSecret>,
    denylist: Denylist,
}

impl Loaded {
    fn of(config: &Config) -> Result<Self, StartError> {
        config.check()?;
        let identity = config.tls.as_ref().map(IdentityFiles::read).transpose()?;
        if let Some(identity) = &identity {
            identity.check(&config.name, Role::Edge, SystemTime::now())?;
        }
        Ok(Self {
            identity,
            zone: ZoneFacts::of(config)?,
            places: PlaceTable::load(&config.places)?,
            secure: config.https.as_ref().map(terminate).transpose()?,
            links: config.links.as_ref().map(|links| read_secret(&links.secret)).transpose()?,
            denylist: Denylist::read(config.denylist.as_ref().map_or(&[], |denylist| &denylist.files))?,
        })
    }
}

/// What is bound.
struct Doors {
    dns: DnsSockets,
    http: TcpListener,
    https: Option<Secure>,
    admin: Option<TcpListener>,
    peers: Option<TcpListener>,
    /// A predecessor has the disk cache still.
    disk_later: bool,
}

impl Doors {
    /// Returns what a successor needs to listen as this edge does.
    fn sockets(&self) -> io::Result<Sockets> {
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
struct Secure {
    terminator: Arc<Terminator>,
    /// Of a certificate from an authority.
    keeper: Option<Keeper>,
    listener: TcpListener,
    address: SocketAddr,
    quic: Option<Quic>,
}

/// The UDP port of HTTP/3. Its packets belong to connections, so two processes cannot share it.
enum Quic {
    Bound(Endpoint),
    /// A predecessor has it until its answers have ended.
    Later,
}

impl Quic {
    /// Returns the bound port; none if it did not become free before the shutdown, or in time.
    async fn endpoint(
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
    fn ways(&self, config: &HttpsConfig) -> Ways {
        let port = config.public_port.unwrap_or(self.address.port());
        Ways { redirect: config.redirect.then_some(port), http3: self.quic.is_some().then_some(port) }
    }
}

/// Sets TLS up from the files of the configuration.
fn terminate(https: &HttpsConfig) -> Result<Secured, StartError> {
    let secret = https.secret.as_deref().map(read_secret).transpose()?.map(Arc::new);
    let certificate = Arc::new(Certificate::new(https.files())?);
    Ok((Arc::new(Terminator::new(certificate, secret.clone())?), secret))
}

fn read_secret(path: &Path) -> Result<ZoneSecret, StartError> {
    ZoneSecret::read(path).map_err(|source| StartError::Secret { path: path.to_owned(), source })
}

/// Adds the nodes that a former run learned to those of the configuration.
async fn recall_nodes(config: &Config, topology: &Arc<Topology>) -> Option<Arc<KnownNodes>> {
    let known = Arc::new(KnownNodes::at(&config.state_dir.as_ref()?.join("nodes.json")));
    let (recalled, topology) = (Arc::clone(&known), Arc::clone(topology));
    // A failure is logged there; the edge starts with the nodes of its configuration then.
    let _ = client::offload(move || recalled.recall(&topology)).await;
    Some(known)
}

/// Makes what keeps a certificate from its authority, and takes up the one that a former run kept. An edge that
/// succeeds another asks the origins for it before it answers in that one's place.
async fn keeper(
    node: &Arc<Node>,
    secure: Option<&Secured>,
    transport: &Arc<dyn Transport>,
    succeeds: bool,
) -> Result<Option<Keeper>, StartError> {
    let acme = node.config.https.as_ref().and_then(|https| https.acme.clone());
    let Some((acme, (terminator, Some(secret)))) = acme.zip(secure) else { return Ok(None) };
    let mut keeper =
        Keeper::new(Arc::clone(node), Arc::clone(terminator.certificate()), acme, secret, Arc::clone(transport));
    keeper.recall().await;
    if succeeds && !node.can_shake_hands() && !keeper.first().await {
        return Err(StartError::Uncertified);
    }
    Ok(Some(keeper))
}

/// Opens the disk cache, and returns whether a predecessor has it still.
async fn take_up_disk(node: &Node, succeeds: bool) -> Result<bool, DiskError> {
    let Some(disk) = &node.config.cache.disk else { return Ok(false) };
    match DiskTier::open(disk, Arc::clone(&node.metrics)).await {
        Ok(tier) => node.fills.take_up(tier),
        Err(DiskError::Taken { .. }) if succeeds => return Ok(true),
        Err(error) => return Err(error),
    }
    Ok(false)
}

/// Opens the disk cache once the predecessor has let go of it.
async fn take_up_disk_later(node: Arc<Node>) {
    let freed = timeout(SUCCESSION_DEADLINE, async {
        while take_up_disk(&node, true).await? {
            sleep(SUCCESSION_RETRY).await;
        }
        Ok::<_, DiskError>(())
    });
    match freed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "the disk cache is not used"),
        Err(_) => tracing::error!("the disk cache is not used, another process has it"),
    }
}

fn build(
    config: Config,
    parts: &Parts,
    places: PlaceTable,
    links: Option<ZoneSecret>,
    denylist: Denylist,
    known_nodes: Option<Arc<KnownNodes>>,
    secure: Option<&Secured>,
) -> Result<Node, StartError> {
    let metrics = Arc::new(Metrics::new());
    let shared = secure.and_then(|(_, secret)| secret.as_deref());
    let buckets = BucketKey::of(links.as_ref().or(shared), &config.zone);
    let denylist = Arc::new(ArcSwap::from_pointee(denylist));
    let engine = match &parts.engine {
        Some(engine) => engine.clone(),
        None => Engine::new(EngineOptions::default())?,
    };
    let (transport, topology) = (&parts.transport, &parts.topology);
    let place = config.place.clone();
    let compiler = parts.compiler.clone();
    let library = PolicyLibrary::new(Arc::clone(transport), Arc::clone(topology), place, engine.clone(), compiler);
    let versions = config.state_dir.as_ref().map(|folder| folder.join("policies.json"));
    let versions = SeenVersions::recall(versions.as_deref());
    let policies = Policies::new(library, &engine, versions)
        .map_err(|error| StartError::DefaultPolicy { reason: error.to_string() })?;
    let mut options = ReaderOptions::default();
    if let Some(peers) = &config.peers {
        options.neighbour_patience = peers.patience();
    }
    let place = config.place.clone();
    let reader = Arc::new(Reader::new(Arc::clone(transport), Arc::clone(topology), place, options));
    let cache = BlockCache::new(config.cache.block_bytes_max);
    let register = Arc::new(Register::default());
    let fill_bytes_max = config.cache.fill_bytes_max;
    let region = config.peers.as_ref().map(|peers| {
        let own = (config.name.clone(), config.place.region.clone());
        Region::new(Arc::clone(&reader), own, peers.strip_bytes_max, Arc::clone(&metrics))
    });
    let fills = Fills::new(Arc::clone(&reader), cache.clone(), fill_bytes_max, region, Arc::clone(&metrics));
    let traces =
        config.traces.as_ref().map(|traces| Traces::start(traces, "evernear-edge", &config.name)).transpose()?;
    Ok(Node {
        public: config.public_addresses(),
        objects: Arc::new(Objects::new(Arc::clone(&reader), &config.cache, Arc::clone(&register))),
        names: Arc::new(Names::new(reader, &config.cache, Arc::clone(&register))),
        register,
        policies: Arc::new(policies),
        topology: Arc::clone(topology),
        membership: parts.membership.clone(),
        known_nodes,
        fills: Arc::new(fills),
        places,
        cache,
        directories: Directories::new(),
        metrics,
        traces,
        links,
        buckets,
        denylist,
        peer_address: OnceLock::new(),
        published: ArcSwap::default(),
        certificate: secure.map(|(terminator, _)| Arc::clone(terminator.certificate())),
        config,
    })
}

/// Keeps the certificate true: from its authority, or from its files.
fn certify(followers: &mut JoinSet<()>, node: &Arc<Node>, terminator: &Arc<Terminator>, keeper: Option<Keeper>) {
    let Some(https) = &node.config.https else { return };
    match keeper {
        Some(keeper) => {
            followers.spawn(keeper.run());
        }
        None => {
            let (every, metrics) = (node.config.reread_every(), Arc::clone(&node.metrics));
            followers.spawn(Arc::clone(terminator.certificate()).follow_files(https.clone(), every, metrics));
        }
    }
}

async fn run(
    node: Arc<Node>,
    transport: Arc<dyn Transport>,
    zone: ZoneFacts,
    bound: Doors,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut followers = JoinSet::new();
    let sweeps = Arc::new(Sweeps::default());
    followers.spawn(Sweeper::new(Arc::clone(&node), Arc::clone(&transport), Arc::clone(&sweeps)).run());
    followers.spawn(follow::changes(Arc::clone(&node), Arc::clone(&transport), sweeps));
    followers.spawn(follow::fill_register(Arc::clone(&node), Arc::clone(&transport)));
    followers.spawn(follow::announce(Arc::clone(&node), transport));
    if let Some((membership, files)) = node.membership.clone().zip(node.config.tls.clone()) {
        followers.spawn(membership.follow_files(files, node.config.reread_every()));
    }
    // pingora takes "the sender is gone" for "go on"; our own pair says it in so many words.
    let (down, going_down) = watch::channel(false);
    if let Some(listener) = bound.admin {
        followers.spawn(admin::serve(Arc::clone(&node), listener, going_down.clone()));
    }
    if let Some((listener, membership)) = bound.peers.zip(node.membership.clone()) {
        followers.spawn(peers::serve(Arc::clone(&node), listener, membership));
    }
    if let Some(denylist) = &node.config.denylist {
        let (every, held) = (node.config.reread_every(), Arc::clone(&node.denylist));
        followers.spawn(denylist::follow(denylist.files.clone(), every, held, Arc::clone(&node.metrics)));
    }
    if bound.disk_later {
        followers.spawn(take_up_disk_later(Arc::clone(&node)));
    }
    let (mut dns, dns_tcp) = bound.dns.serve(Arc::clone(&node), zone);
    let mut doors = JoinSet::new();
    doors.spawn(dns_tcp.serve(going_down.clone()));
    let ways = bound.https.as_ref().zip(node.config.https.as_ref()).map(|(https, config)| https.ways(config));
    let door = Arc::new(HttpDoor::new(Arc::clone(&node), ways.unwrap_or_default()));
    let workers = match Workers::start(&door, node.config.http.workers()) {
        Ok(workers) => Arc::new(workers),
        Err(error) => return tracing::error!(%error, "the edge ends: the system gives it no threads"),
    };
    if let Some(Secure { terminator, listener, address, quic, keeper }) = bound.https {
        certify(&mut followers, &node, &terminator, keeper);
        doors.spawn(Arc::clone(&door).serve(
            Arc::clone(&workers),
            listener,
            Some(Arc::clone(&terminator)),
            going_down.clone(),
        ));
        if let Some(quic) = quic {
            let (door, down) = (Arc::clone(&door), going_down.clone());
            doors.spawn(async move {
                if let Some(endpoint) = quic.endpoint(address, &terminator, down.clone()).await {
                    door.serve_quic(endpoint, down).await;
                }
            });
        }
    }
    doors.spawn(door.serve(workers, bound.http, None, going_down));

    // An error means that whoever could call the shutdown is gone.
    let _ = shutdown.wait_for(|down| *down).await;
    tracing::info!(edge = %node.config.name, "edge ends");
    let _ = down.send(true);
    followers.shutdown().await;
    let drained = timeout(DRAIN_DEADLINE, async {
        if let Err(error) = dns.shutdown_gracefully().await {
            tracing::debug!(%error, "the DNS door ended with an error");
        }
        while doors.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!("answers under way were cut at the deadline");
    }
    doors.shutdown().await;
    if timeout(DRAIN_DEADLINE, node.fills.stop()).await.is_err() {
        tracing::warn!("the disk cache was cut at the deadline; what it lacks is read from origins again");
    }
    if let Some(traces) = &node.traces {
        traces.end().await;
    }
}
