//! Starts and stops the network: authority, origins, edges and an owner, each as it would be on its own machine.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use client::{
    HttpTransport, Membership, Topology, Transport,
    tls::{Authority, Identity},
};
use edge::{Edge, Parts, Sockets};
use format::{
    NodeName, OwnerSecret, Profile,
    wire::{NodeEntry, Role},
};
use origin::Origin;
use sandbox::{Engine, EngineOptions};
use testing::Intercepted;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use twin::{Link, Stored, Tenure, Twin, UrlTemplate};

use crate::{
    Distance, Links,
    owner::OwnerFolder,
    world::{EDGES, ORIGINS, Site, VIEWERS},
};

/// The zone of all names in the demo. Browsers resolve names in it to loopback by themselves (RFC 6761 section 6.3).
pub(crate) const ZONE: &str = "localhost";
/// The default profile of this network: any two of the six nodes may be lost.
pub(crate) const PROFILE: Profile = Profile::SmallCluster;
/// How long it may take until all edges know all nodes.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// Options of the network.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Port of the HTTP doors; zero for a free one.
    pub http_port: u16,
    /// Port of the DNS doors; zero for a free one.
    pub dns_port: u16,
    /// Whether distance adds latency.
    pub distance: Distance,
    /// Size of each edge's cache of blocks, in bytes.
    pub cache_bytes: u64,
    /// Whether all edges stand where the last one stands and bring strips for each other, and how many milliseconds
    /// one of them then has for a strip; none when each stands alone.
    pub region_patience_ms: Option<u64>,
    /// A collector that every node tells of every request. Absent: none does.
    pub traces: Option<String>,
}

impl NetworkOptions {
    /// Returns the table of a node's configuration.
    fn traces_toml(&self) -> String {
        self.traces.as_ref().map_or_else(String::new, |to| format!("[traces]\nendpoint = \"{to}\"\nratio = 1\n"))
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            http_port: 0,
            dns_port: 0,
            distance: Distance::None,
            cache_bytes: 256 << 20,
            region_patience_ms: None,
            traces: None,
        }
    }
}

/// One origin.
pub struct OriginNode {
    /// Its name.
    pub name: NodeName,
    /// Its folder.
    pub folder: PathBuf,
    config: origin::Config,
    identity: (String, String),
    running: Option<(origin::Running, CancellationToken)>,
}

/// The running network. Stop it with [`Network::stop`].
pub struct Network {
    /// The origins, in the order of [`ORIGINS`].
    pub origins: Vec<OriginNode>,
    /// The edges, in the order of [`EDGES`].
    pub edges: Vec<edge::Running>,
    /// The simulated links of each edge.
    pub links: Vec<Arc<Intercepted<Links>>>,
    /// Each edge as a member of the cluster.
    pub memberships: Vec<Arc<Membership>>,
    /// The owner.
    pub twin: Twin,
    /// The owner's secret, for tests that search for it.
    pub secret: OwnerSecret,
    /// The owner's state folder.
    pub owner: OwnerFolder,
    urls: UrlTemplate,
    /// Admits nodes, and refuses them.
    pub authority: Authority,
    down: watch::Sender<bool>,
}

impl Network {
    /// Starts everything under `folder` and returns when every edge knows every node.
    ///
    /// # Errors
    /// When a port is taken or something does not start.
    pub async fn start(folder: &Path, options: &NetworkOptions) -> Result<Self> {
        let authority = Authority::create()?;
        let mut origins = Vec::new();
        for (at, site) in (11..).zip(&ORIGINS) {
            let mut node =
                OriginNode::new(folder, site, Ipv4Addr::new(127, 0, 0, at), &authority, &options.traces_toml())?;
            node.start(&authority).await?;
            origins.push(node);
        }
        let seeds: Vec<NodeEntry> = origins.iter().map(OriginNode::entry).collect::<Result<_>>()?;
        let (down, shutdown) = watch::channel(false);
        let engine = Engine::new(EngineOptions::default())?;
        let ports = Ports::choose(options)?;
        let (mut edges, mut links, mut topologies, mut memberships) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, site) in (1..).zip(edge_sites(options)) {
            let site = &site;
            let config = edge_config(site, Ipv4Addr::new(127, 0, 0, at), &ports, &seeds, options)?;
            let identity = identity(&authority, site.name, Role::Edge)?;
            let topology = Arc::new(Topology::new(seeds.clone()));
            let membership = Membership::new(&identity, None)?;
            let http: Arc<dyn Transport> = Arc::new(HttpTransport::of(membership.clone(), topology.clone()));
            memberships.push(membership.clone());
            let links_of = Links::new(topology.clone(), site.place(), options.distance);
            let link = Arc::new(Intercepted::over(http, links_of));
            links.push(link.clone());
            topologies.push(topology.clone());
            let engine = Some(engine.clone());
            let sockets = Sockets::default();
            let parts =
                Parts { transport: link, membership: Some(membership), topology, engine, compiler: None, sockets };
            edges.push(Edge::start(config, parts, shutdown.clone()).await.context("an edge does not start")?);
        }
        let (owner, secret) = OwnerFolder::make(folder.join("owner"), &authority, &seeds, ports.http)?;
        let (config, twin) = owner.connect(&secret).await?;
        let it = Self { origins, edges, links, memberships, twin, secret, owner, urls: config.url, authority, down };
        it.ready(&topologies).await?;
        Ok(it)
    }

    /// Waits until every edge knows all nodes, then gives the list of nodes to the owner.
    async fn ready(&self, edges: &[Arc<Topology>]) -> Result<()> {
        let all = ORIGINS.len() + EDGES.len();
        let deadline = Instant::now() + READY_DEADLINE;
        while Instant::now() < deadline {
            if edges.iter().all(|edge| edge.snapshot().len() >= all) {
                self.twin.network().topology().replace(edges[0].snapshot().to_vec());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the nodes did not find each other within {READY_DEADLINE:?}")
    }

    /// Issues a certificate of this cluster to a caller, a thief among them.
    ///
    /// # Errors
    /// When the name is none.
    pub fn identity(&self, name: &str, role: Role) -> Result<Identity> {
        identity(&self.authority, name, role)
    }

    /// Returns the origins that run, as a caller is configured with them.
    ///
    /// # Errors
    /// When one is stopped.
    pub fn seeds(&self) -> Result<Vec<NodeEntry>> {
        self.origins.iter().map(OriginNode::entry).collect()
    }

    /// Returns the default options of storing in this network.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        Tenure { profile: PROFILE, ..Tenure::default() }
    }

    /// Returns the URL of a label, and of a name under it, at the first edge.
    #[must_use]
    pub fn url(&self, label: &format::Label, name: &str) -> String {
        self.urls.url(label, name)
    }

    /// Returns the link of a stored object at the first edge.
    #[must_use]
    pub fn link(&self, stored: &Stored) -> Link {
        self.urls.link(stored)
    }

    /// Stops an origin. For its callers this looks like a crash.
    ///
    /// # Errors
    /// When its task panicked.
    pub async fn kill(&mut self, origin: usize) -> Result<()> {
        if let Some((running, stop)) = self.origins[origin].running.take() {
            stop.cancel();
            running.stopped().await?;
        }
        Ok(())
    }

    /// Starts a stopped origin again, on the same folder and address.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn revive(&mut self, origin: usize) -> Result<()> {
        self.origins[origin].start(&self.authority).await
    }

    /// Stops everything.
    ///
    /// # Errors
    /// When a task panicked.
    pub async fn stop(mut self) -> Result<()> {
        let _ = self.down.send(true);
        for edge in self.edges.drain(..) {
            edge.join().await;
        }
        for origin in 0..self.origins.len() {
            self.kill(origin).await?;
        }
        Ok(())
    }
}

impl OriginNode {
    fn new(folder: &Path, site: &Site, address: Ipv4Addr, authority: &Authority, traces: &str) -> Result<Self> {
        let name: NodeName = site.name.parse()?;
        let data = folder.join("origins").join(site.name);
        let issued = authority.issue(&name, Role::Origin)?;
        let config = toml::from_str(&format!(
            "name = \"{name}\"\nlisten = \"{address}:0\"\ndata_dir = {data:?}\ncatalog = \"sqlite://{}\"\n\
             capacity_bytes = {}\n[place]\n{}[limits]\nerase_grace_seconds = 1\nsweep_seconds = 1\ndrain_seconds = 1\n{traces}",
            folder.join("catalog.sqlite").display(),
            1u64 << 40,
            place_toml(site),
        ))?;
        let identity = (issued.certificate, issued.key.to_string());
        Ok(Self { name, folder: data, config, identity, running: None })
    }

    async fn start(&mut self, authority: &Authority) -> Result<()> {
        let (certificate, key) = &self.identity;
        let identity = Identity::from_pem(authority.certificate_pem(), certificate, key)?;
        let stop = CancellationToken::new();
        let running = Origin::start(self.config.clone(), identity, stop.clone()).await?;
        // The origin keeps its port when it is started again.
        self.config.listen = running.local_addr;
        self.running = Some((running, stop));
        Ok(())
    }

    fn entry(&self) -> Result<NodeEntry> {
        let (running, _) = self.running.as_ref().context("the origin is stopped")?;
        Ok(NodeEntry {
            name: self.name.clone(),
            role: Role::Origin,
            address: Some(running.local_addr.into()),
            public: Vec::new(),
            place: self.config.place.clone(),
            capacity_bytes: 1,
            free_bytes: 1,
            load: 0,
            draining: false,
            seen: 0,
        })
    }
}

/// Where the edges stand.
fn edge_sites(options: &NetworkOptions) -> [Site; 3] {
    match options.region_patience_ms {
        None => EDGES,
        Some(_) => EDGES.map(|Site { name, .. }| Site { name, ..EDGES[2] }),
    }
}

struct Ports {
    http: u16,
    dns: u16,
}

impl Ports {
    /// Chooses the ports. All edges have the same ports on different addresses, as they would on the Internet.
    fn choose(options: &NetworkOptions) -> Result<Self> {
        let free = |wanted: u16| -> Result<u16> {
            if wanted != 0 {
                return Ok(wanted);
            }
            Ok(TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?.local_addr()?.port())
        };
        Ok(Self { http: free(options.http_port)?, dns: free(options.dns_port)? })
    }
}

fn edge_config(
    site: &Site,
    address: Ipv4Addr,
    ports: &Ports,
    seeds: &[NodeEntry],
    options: &NetworkOptions,
) -> Result<edge::Config> {
    let mut text = format!(
        "name = \"{}\"\nzone = \"{ZONE}\"\n[place]\n{}[dns]\nlisten = \"{address}:{}\"\nrefused = \"answer\"\n\
         [http]\nlisten = \"{address}:{}\"\n[cache]\nblock_bytes_max = {}\n{}",
        site.name,
        place_toml(site),
        ports.dns,
        ports.http,
        options.cache_bytes,
        options.traces_toml(),
    );
    if let Some(patience) = options.region_patience_ms {
        text += &format!("[peers]\nlisten = \"{address}:0\"\npatience_ms = {patience}\n");
    }
    for viewer in VIEWERS {
        for prefix in [viewer.subnet, viewer.prefix] {
            text += &format!("[[places.prefix]]\nprefix = \"{prefix}\"\ncountry = \"{}\"\n", viewer.country);
        }
    }
    for seed in seeds {
        text += &node_toml("seeds", seed)?;
    }
    Ok(edge::Config::from_toml(&text)?)
}

/// Writes an origin as a table of an array.
pub(crate) fn node_toml(table: &str, node: &NodeEntry) -> Result<String> {
    let address = node.address.as_ref().context("an origin has an address")?;
    Ok(format!("[[{table}]]\nname = \"{}\"\naddress = \"{address}\"\n", node.name))
}

/// Issues a certificate.
pub(crate) fn identity(authority: &Authority, name: &str, role: Role) -> Result<Identity> {
    let issued = authority.issue(&name.parse()?, role)?;
    Ok(Identity::from_pem(authority.certificate_pem(), &issued.certificate, &issued.key)?)
}

pub(crate) fn place_toml(site: &Site) -> String {
    let Site { name, country, region, operator, latitude, longitude } = site;
    format!(
        "country = \"{country}\"\nregion = \"{region}\"\nzone = \"{name}\"\noperator = \"{operator}\"\ndatacentre = \"{name}-1\"\nlatitude = {latitude:?}\nlongitude = {longitude:?}\n"
    )
}
