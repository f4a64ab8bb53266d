//! A simulated cluster: real origins on folders of their own, one real catalog, and the network between them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use client::{HttpTransport, ShardAsk, Topology, Transport};
use fastrand::Rng;
use format::{
    NodeName, ObjectId, Place, PublicManifest,
    wire::{NodeEntry, Role},
};
use futures::future::join_all;
use http_body_util::BodyExt;
use hyper::Request;
use origin::{Config, Origin, Running, Surroundings, store::RealDisk};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::Shared,
    network::{Link, Weather},
    trace::{Trace, lock},
};

/// Places of zones: eight cities.
const ZONES: [(&str, &str, f64, f64); 8] = [
    ("BE", "brussels", 50.8, 4.4),
    ("DE", "frankfurt", 50.1, 8.7),
    ("FI", "helsinki", 60.2, 24.9),
    ("US", "ashburn", 39.0, -77.5),
    ("US", "portland", 45.5, -122.7),
    ("BR", "sao-paulo", -23.5, -46.6),
    ("SG", "singapore", 1.3, 103.8),
    ("JP", "tokyo", 35.7, 139.7),
];
const ORIGINS_PER_ZONE: usize = 3;
const CAPACITY_BYTES: u64 = 256 << 20;
/// Everything an origin does by the clock, in seconds instead of minutes and days; background scrubs never come. One
/// node of each zone repairs.
const LIMITS: &str = "announce_seconds = 4\ndown_seconds = 12\nscan_seconds = 12\nsweep_seconds = 30\ndrain_seconds = 1\n\
    erase_grace_seconds = 60\nrepair_bytes_per_second = 0\nscrub_seconds = 100000000000";
/// A node that stops has ended after so long.
const STOP: Duration = Duration::from_secs(30);

/// A machine that an origin runs on.
pub(crate) struct Host {
    pub(crate) name: NodeName,
    pub(crate) place: Place,
    folder: PathBuf,
    on: Mutex<Option<(Arc<Running>, CancellationToken)>>,
    topology: Arc<Topology>,
}

impl Host {
    /// The service of the node while it is up, and what tells when it goes down.
    pub(crate) fn service(&self) -> Option<(Arc<Running>, CancellationToken)> {
        lock(&self.on).clone()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// One simulation.
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) catalog: Arc<Shared>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) weather: Mutex<Weather>,
    dice: Mutex<Rng>,
    /// Disks that were lost and whose shards are not made again yet.
    lost: AtomicUsize,
}

fn place(zone: usize) -> Place {
    let (country, city, latitude, longitude) = ZONES[zone];
    Place {
        country: country.parse().unwrap(),
        region: country.to_lowercase(),
        zone: city.to_owned(),
        operator: String::new(),
        datacentre: String::new(),
        latitude,
        longitude,
    }
}

impl World {
    /// Starts all origins in a folder.
    pub(crate) async fn start(seed: u64, dir: &Path) -> Arc<Self> {
        let host = |at: usize| {
            let (place, name) = (place(at / ORIGINS_PER_ZONE), format!("o{:02}", at + 1));
            let topology = Arc::new(Topology::new(Vec::new()));
            Host { folder: dir.join(&name), name: name.parse().unwrap(), place, on: Mutex::default(), topology }
        };
        let world = Arc::new(Self {
            trace: Trace::begin(),
            catalog: Arc::new(Shared::open(&dir.join("catalog.db"))),
            hosts: (0..ZONES.len() * ORIGINS_PER_ZONE).map(host).collect(),
            weather: Mutex::new(Weather { jitter: Duration::from_millis(2), ..Weather::default() }),
            dice: Mutex::new(Rng::with_seed(seed)),
            lost: AtomicUsize::new(0),
        });
        for at in 0..world.hosts.len() {
            world.power_on(at).await;
        }
        world
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut lock(&self.dice))
    }

    pub(crate) fn host(&self, name: &NodeName) -> &Host {
        self.find(name).expect("the catalog knows only origins")
    }

    /// The host of a name that a liar may have made up.
    pub(crate) fn find(&self, name: &NodeName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// The place of an edge or a twin in a zone's city, outside of the zone.
    pub(crate) fn outside(zone: usize) -> Place {
        Place { zone: "outside".to_owned(), ..place(zone) }
    }

    /// What a process calls the nodes by.
    pub(crate) fn transport(self: &Arc<Self>, name: &str, role: Role, place: Place) -> Arc<HttpTransport> {
        let link = Link { world: self.clone(), name: name.parse().unwrap(), role, place };
        Arc::new(HttpTransport::over(link))
    }

    pub(crate) async fn power_on(self: &Arc<Self>, at: usize) {
        let host = &self.hosts[at];
        let Place { country, region, zone, latitude, longitude, .. } = &host.place;
        let config = format!(
            "name = \"{}\"\nlisten = \"10.0.0.{}:4000\"\ndata_dir = {:?}\ncatalog = \"sqlite:///never\"\n\
             capacity_bytes = {CAPACITY_BYTES}\n[limits]\n{LIMITS}\nrepairs_max = {}\n[place]\ncountry = \"{country}\"\n\
             region = \"{region}\"\nzone = \"{zone}\"\nlatitude = {latitude:.1}\nlongitude = {longitude:.1}\n",
            host.name,
            at + 1,
            host.folder,
            usize::from(at.is_multiple_of(ORIGINS_PER_ZONE))
        );
        let around = Surroundings {
            disk: Arc::new(RealDisk),
            catalog: self.catalog.clone(),
            transport: self.transport(host.name.as_str(), Role::Origin, host.place.clone()),
            topology: host.topology.clone(),
        };
        let power = CancellationToken::new();
        let running = Origin::start_within(Config::from_toml(&config).unwrap(), around, power.clone()).await.unwrap();
        *lock(&host.on) = Some((Arc::new(running), power));
        self.trace.note(format_args!("{} is up", host.name));
    }

    /// Ends a node: calls under way break, its tasks end where they are.
    pub(crate) async fn power_off(&self, at: usize) {
        let host = &self.hosts[at];
        let Some((mut running, power)) = lock(&host.on).take() else { return };
        self.trace.note(format_args!("{} goes down", host.name));
        power.cancel();
        let running = loop {
            match Arc::try_unwrap(running) {
                Ok(running) => break running,
                // Calls under way let go of it when they are polled next.
                Err(shared) => running = shared,
            }
            sleep(Duration::from_millis(1)).await;
        };
        timeout(STOP, running.stopped()).await.expect("a node ends in time").unwrap();
    }

    /// Ends a node and empties its disk.
    pub(crate) async fn wipe(&self, at: usize) {
        self.power_off(at).await;
        fs::remove_dir_all(&self.hosts[at].folder).unwrap();
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.trace.note(format_args!("{} lost its disk", self.hosts[at].name));
    }

    pub(crate) fn lost_disks(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// What lost disks had was made again.
    pub(crate) fn disks_settled(&self) {
        self.lost.store(0, Ordering::Relaxed);
    }

    pub(crate) async fn end(&self) {
        join_all((0..self.hosts.len()).map(|at| self.power_off(at))).await;
        self.catalog.end();
    }

    /// What a node answers to a call that no network is in the way of; none when it is down.
    pub(crate) async fn inspect(&self, host: &Host, path: &str) -> Option<(StatusCode, Bytes)> {
        let (running, _) = host.service()?;
        let call = Request::builder().uri(format!("https://{}{path}", host.name)).body(Body::empty()).unwrap();
        let answer = running.answer("inspector".parse().unwrap(), Role::Edge, call).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, body))
    }

    /// Whether a node proves the last strip of a column.
    pub(crate) async fn holds(&self, node: &NodeName, public: &PublicManifest, column: usize) -> bool {
        let Some(first) = public.column_strips(column).checked_sub(1) else { return true };
        let object: ObjectId = public.id();
        let path = format!("/v1/shards/{object}/{column}?first={first}&count=1");
        let Some((StatusCode::OK, body)) = self.inspect(self.host(node), &path).await else { return false };
        client::verify_slice(public, ShardAsk { object, column, first, count: 1 }, body).is_some()
    }

    /// Asks a node that is up for all nodes; keeps what was known when the one drawn does not answer.
    pub(crate) async fn refresh(&self, transport: &dyn Transport, topology: &Topology) {
        let at = self.draw(|dice| dice.usize(0..self.hosts.len()));
        if let Ok(nodes) = transport.nodes(&self.hosts[at].name).await {
            topology.replace(nodes);
        }
    }

    /// All nodes as the catalog has them, for a process that begins.
    pub(crate) async fn topology(&self) -> Arc<Topology> {
        let nodes: Vec<NodeEntry> = origin::catalog::Catalog::nodes(&*self.catalog).await.unwrap();
        Arc::new(Topology::new(nodes))
    }
}
