//! A small site for tests: six origins in memory, an owner who stores, and edges before them.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Topology, Transport, TransportError};
use edge::{Config, Edge, Parts, Running, Sockets, StartError};
use format::{
    Attributes, Capability, Compression, Directory, EncoderOptions, Entry, Kind, Label, Lease, Locator, NodeName,
    OwnerKeys, OwnerSecret, Place, Pointer, PolicyName, Profile, Record, Sealed, StableName, Suite,
    wire::{Change, ChangeKind, ChangePage, NodeEntry, Role},
};
use testing::{Call, Encoded, Intercept, Intercepted, MemoryTransport, node};
use tokio::{process::Command, sync::watch};

use crate::neighbour::member;

/// No answer takes this long on a loopback.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Writes a file that only this user may read, as files of keys must be.
pub(crate) fn close(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Faults that a test may switch on for the way from the edge to the origins, and what went that way.
#[derive(Default)]
pub(crate) struct Weather {
    state: Mutex<Fault>,
    /// Nodes that give this record whatever they are asked for.
    replayed: Mutex<Option<(Vec<NodeName>, Bytes)>>,
    /// An object of which no node gives a record that can be read.
    garbled: Mutex<Option<Locator>>,
    /// What the feed tells beside the truth, the next time that it tells any.
    made_up: Mutex<Vec<ChangeKind>>,
    look_ups: AtomicU64,
    reads: AtomicU64,
    /// Records that were asked for, and those that came, in order.
    asked: Mutex<Vec<Locator>>,
    came: Mutex<Vec<(Locator, usize)>>,
    /// How often an origin was asked for a list of all locators, and whether none gives one.
    lists: AtomicU64,
    unlisted: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    /// No origin can be reached.
    Down,
    /// All calls but this one are answered.
    Without(Call),
    /// Calls of this kind are answered so late.
    Late(Call, Duration),
    /// Every shard is wrong.
    Lies,
    /// Whoever reads a shard panics.
    Panics,
}

impl Weather {
    pub(crate) fn down(&self) {
        *self.state.lock().unwrap() = Fault::Down;
    }

    pub(crate) fn without(&self, call: Call) {
        *self.state.lock().unwrap() = Fault::Without(call);
    }

    /// Has nodes take so long for each record.
    pub(crate) fn late(&self, by: Duration) {
        self.late_with(Call::Record, by);
    }

    /// Has origins take so long before they answer one kind of call.
    pub(crate) fn late_with(&self, call: Call, by: Duration) {
        *self.state.lock().unwrap() = Fault::Late(call, by);
    }

    pub(crate) fn lying(&self) {
        *self.state.lock().unwrap() = Fault::Lies;
    }

    pub(crate) fn panicking(&self) {
        *self.state.lock().unwrap() = Fault::Panics;
    }

    pub(crate) fn fair(&self) {
        *self.state.lock().unwrap() = Fault::None;
        *self.replayed.lock().unwrap() = None;
        *self.garbled.lock().unwrap() = None;
    }

    /// Has no node give a record of this object that can be read.
    pub(crate) fn garble(&self, locator: Locator) {
        *self.garbled.lock().unwrap() = Some(locator);
    }

    /// Has nodes give an old record from now on.
    pub(crate) fn replay(&self, nodes: &[NodeEntry], record: &Record) {
        let nodes = nodes.iter().map(|node| node.name.clone()).collect();
        *self.replayed.lock().unwrap() = Some((nodes, record.encode().into()));
    }

    /// Has the feed tell what is not so, together with the next news.
    pub(crate) fn make_up(&self, news: Vec<ChangeKind>) {
        *self.made_up.lock().unwrap() = news;
    }

    /// Whether the feed has told what was made up.
    pub(crate) fn has_told(&self) -> bool {
        self.made_up.lock().unwrap().is_empty()
    }

    /// Has no origin list all locators.
    pub(crate) fn unlisted(&self) {
        self.unlisted.store(true, Ordering::SeqCst);
    }

    /// How often an origin was asked for a list of all locators.
    pub(crate) fn lists(&self) -> u64 {
        self.lists.load(Ordering::SeqCst)
    }

    /// Whether all of these records were asked for before the first of them came.
    pub(crate) fn were_asked_at_once(&self, locators: &[Locator]) -> bool {
        let (asked, came) = (self.asked.lock().unwrap(), self.came.lock().unwrap());
        let first = came.iter().find(|(locator, _)| locators.contains(locator)).map(|(_, asked)| *asked);
        first.is_some_and(|first| locators.iter().all(|locator| asked[..first].contains(locator)))
    }

    /// Whether an origin was asked for this record.
    pub(crate) fn was_asked(&self, locator: &Locator) -> bool {
        self.asked.lock().unwrap().contains(locator)
    }

    /// How often an origin was asked for a part of a shard.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// How often an origin was asked for a record.
    pub(crate) fn look_ups(&self) -> u64 {
        self.look_ups.load(Ordering::SeqCst)
    }
}

/// The way from one edge to the origins.
struct Road(Arc<Weather>, Option<Elsewhere>);

/// An origin, and what answers in its place: another cluster's.
pub(crate) type Elsewhere = (NodeName, Arc<MemoryTransport>);

#[async_trait]
impl Intercept for Road {
    type Pass = Fault;

    fn instead(&self, node: &NodeName) -> Option<&dyn Transport> {
        let (_, other) = self.1.as_ref().filter(|(name, _)| name == node)?;
        Some(&**other)
    }

    async fn before(&self, node: &NodeName, call: Call) -> Result<Fault, TransportError> {
        let fault = *self.0.state.lock().unwrap();
        match call {
            Call::Record => _ = self.0.look_ups.fetch_add(1, Ordering::SeqCst),
            Call::ReadShard => _ = self.0.reads.fetch_add(1, Ordering::SeqCst),
            _ => {}
        }
        if let Fault::Late(late, by) = fault
            && late == call
        {
            tokio::time::sleep(by).await;
        }
        let is_list = call == Call::AllLocators;
        self.0.lists.fetch_add(u64::from(is_list), Ordering::SeqCst);
        let is_refused = is_list && self.0.unlisted.load(Ordering::SeqCst);
        if is_refused || fault == Fault::Down || fault == Fault::Without(call) {
            return Err(TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() });
        }
        Ok(fault)
    }

    fn looks_up(&self, locator: &Locator) {
        self.0.asked.lock().unwrap().push(*locator);
    }

    fn record(&self, node: &NodeName, _: Fault, record: Option<Bytes>) -> Option<Bytes> {
        if let Some(record) = record.as_ref().and_then(|it| Record::decode(it).ok()) {
            let asked = self.0.asked.lock().unwrap().len();
            self.0.came.lock().unwrap().push((record.lease.locator, asked));
        }
        let is_of = |locator: Locator| {
            record.as_ref().is_some_and(|it| Record::decode(it).is_ok_and(|record| record.lease.locator == locator))
        };
        if self.0.garbled.lock().unwrap().is_some_and(is_of) {
            return Some(Bytes::from_static(b"no record"));
        }
        let replayed = self.0.replayed.lock().unwrap();
        replayed.as_ref().filter(|(liars, _)| liars.contains(node)).map_or(record, |(_, old)| Some(old.clone()))
    }

    fn changes(&self, _: &NodeName, _: Fault, mut page: ChangePage) -> ChangePage {
        if !page.changes.is_empty() {
            let made_up = self.0.made_up.lock().unwrap().split_off(0);
            page.changes.extend(made_up.into_iter().map(|kind| Change { sequence: page.next, kind }));
        }
        page
    }

    fn shard(&self, _: &NodeName, fault: Fault, body: Bytes) -> Bytes {
        assert!(fault != Fault::Panics, "made so");
        let mut body = body.to_vec();
        if fault == Fault::Lies
            && let Some(byte) = body.last_mut()
        {
            *byte ^= 1;
        }
        body.into()
    }
}

/// Origins, an owner, and one edge.
pub(crate) struct Site {
    pub(crate) origins: Arc<MemoryTransport>,
    pub(crate) nodes: Vec<NodeEntry>,
    pub(crate) owner: OwnerKeys,
    pub(crate) weather: Arc<Weather>,
    pub(crate) edge: Running,
    /// For the edge that takes over.
    pub(crate) elsewhere: Option<Elsewhere>,
    stop: watch::Sender<bool>,
}

/// What was stored.
pub(crate) struct Stored {
    pub(crate) label: String,
    pub(crate) sealed: Sealed,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn place(country: &str, zone: &str, latitude: f64, longitude: f64) -> Place {
    Place { country: country.parse().unwrap(), latitude, longitude, ..testing::place(zone) }
}

fn origin(number: usize) -> NodeEntry {
    let place = place("BE", &format!("zone-{number}"), 50.0, 4.0 + number as f64);
    NodeEntry { seen: 1_000, ..node(&format!("origin-{number}"), place) }
}

/// Another edge of the cluster, far away or near.
pub(crate) fn other_edge(name: &str, country: &str, latitude: f64, longitude: f64, address: &str) -> NodeEntry {
    NodeEntry {
        name: name.parse().unwrap(),
        role: Role::Edge,
        public: vec![address.parse().unwrap()],
        place: place(country, name, latitude, longitude),
        ..origin(0)
    }
}

/// How long answers under the owner's stable names may be kept.
pub(crate) const NAME_SECONDS: u32 = 30;

const CONFIG: &str = r#"
name = "edge-bru"
zone = "evernear.example"
public = ["127.0.0.1"]
admin = "127.0.0.1:0"
[place]
country = "BE"
region = "eu"
zone = "bru1"
latitude = 50.85
longitude = 4.35
[dns]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
# No record is looked up again for its age while a test runs: what an edge learns of a change, the feed told it.
[cache]
unknown_seconds = 1
record_seconds = 86400
[[places.prefix]]
prefix = "192.0.2.0/24"
country = "BE"
[[places.prefix]]
prefix = "198.51.100.0/24"
country = "JP"
[[places.prefix]]
prefix = "203.0.113.0/24"
country = "US"
[[places.prefix]]
prefix = "127.0.0.0/8"
country = "BE"
[[seeds]]
name = "origin-1"
address = "127.0.0.1:1"
"#;

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, vec![]).await
    }

    /// Starts with a changed configuration and other edges on the list of nodes.
    pub(crate) async fn with(change: impl FnOnce(&mut Config), others: Vec<NodeEntry>) -> Self {
        Self::try_with(change, others).await.unwrap()
    }

    pub(crate) async fn try_with(change: impl FnOnce(&mut Config), others: Vec<NodeEntry>) -> Result<Self, StartError> {
        let nodes: Vec<NodeEntry> = (1..=6).map(origin).chain(others).collect();
        Self::over(Arc::new(MemoryTransport::new(&nodes)), nodes, change).await
    }

    /// Starts another edge over the same origins.
    pub(crate) async fn beside(&self, change: impl FnOnce(&mut Config)) -> Self {
        Self::over(Arc::clone(&self.origins), self.nodes.clone(), change).await.unwrap()
    }

    /// Starts an edge that takes over what this one listens with.
    pub(crate) async fn successor(&mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.try_successor(change).await.unwrap()
    }

    pub(crate) async fn try_successor(&mut self, change: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let Running { dns, http, https, admin, peers, .. } = self.edge;
        let here = |config: &mut Config| {
            change(config);
            (config.dns.listen, config.http.listen, config.admin) = (dns, http, admin);
            if let (Some(config), Some(address)) = (&mut config.https, https) {
                config.listen = address;
            }
            if let (Some(config), Some(address)) = (&mut config.peers, peers) {
                config.listen = address;
            }
        };
        let sockets = std::mem::take(&mut self.edge.sockets);
        Self::handed(sockets, Arc::clone(&self.origins), self.nodes.clone(), self.elsewhere.take(), here).await
    }

    pub(crate) async fn over(
        origins: Arc<MemoryTransport>,
        nodes: Vec<NodeEntry>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        Self::handed(Sockets::default(), origins, nodes, None, change).await
    }

    async fn handed(
        sockets: Sockets,
        origins: Arc<MemoryTransport>,
        nodes: Vec<NodeEntry>,
        elsewhere: Option<Elsewhere>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        let weather = Arc::new(Weather::default());
        let mut config = Config::from_toml(CONFIG).unwrap();
        change(&mut config);
        let way = origins.caller(config.name.as_str(), Role::Edge);
        let road = Intercepted::over(Arc::new(way), Road(Arc::clone(&weather), elsewhere));
        let (stop, stopped) = watch::channel(false);
        let parts = Parts {
            transport: Arc::new(road),
            membership: config.peers.as_ref().map(|_| member(&config.name)),
            topology: Arc::new(Topology::new(nodes.clone())),
            engine: Some(engine()),
            compiler: None,
            sockets,
        };
        let edge = Edge::start(config, parts, stopped).await?;
        Ok(Self { origins, nodes, owner: secret().keys(), weather, edge, elsewhere: None, stop })
    }

    pub(crate) async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(DEADLINE, self.edge.join()).await.unwrap();
    }

    /// Stores a file under the default policy.
    pub(crate) async fn store(&self, name: &str, mime: &str, bytes: Vec<u8>) -> Stored {
        self.store_as(name, mime, bytes, Kind::File, &PolicyName::default()).await
    }

    pub(crate) async fn store_as(
        &self,
        name: &str,
        mime: &str,
        bytes: Vec<u8>,
        kind: Kind,
        policy: &PolicyName,
    ) -> Stored {
        let attributes =
            Attributes { mime: mime.into(), name: name.into(), created: 784_111_777, kind, ..testing::attributes() };
        self.store_with(attributes, bytes, policy).await
    }

    /// Stores a file that its writer says to have made at a second since 1970.
    pub(crate) async fn store_created(&self, mime: &str, bytes: Vec<u8>, created: u64) -> Stored {
        let attributes = Attributes { mime: mime.into(), created, ..testing::attributes() };
        self.store_with(attributes, bytes, &PolicyName::default()).await
    }

    async fn store_with(&self, attributes: Attributes, bytes: Vec<u8>, policy: &PolicyName) -> Stored {
        let seed = blake3_of(&[attributes.name.as_bytes(), &bytes].concat());
        let options = EncoderOptions {
            profile: Profile::SmallCluster,
            suite: Suite::ChaCha20Poly1305,
            compression: Compression::Auto,
            owner: self.owner.id(),
        };
        let encoded = Encoded::of(&[&bytes], options, seed, attributes, seed);
        let lease = self.lease(&encoded.sealed, policy, 1, false).sign(&self.owner);
        let topology = Arc::new(Topology::new(self.nodes.clone()));
        encoded.upload(self.origins.clone(), topology, seed, lease.into()).await.unwrap();
        let sealed = encoded.sealed;
        let label = Label::open(sealed.capability.clone()).to_string();
        Stored { label, sealed, bytes }
    }

    pub(crate) fn lease(&self, sealed: &Sealed, policy: &PolicyName, version: u64, erased: bool) -> Lease {
        Lease { policy: policy.clone(), erased, version, ..Lease::new(sealed, Profile::SmallCluster) }
    }

    /// Stores a directory of entries under the default policy.
    pub(crate) async fn store_directory(&self, entries: &[(&str, &Stored, Kind)]) -> Stored {
        self.store_directory_as(entries, &PolicyName::default()).await
    }

    pub(crate) async fn store_directory_as(&self, entries: &[(&str, &Stored, Kind)], policy: &PolicyName) -> Stored {
        let mut directory = Directory::default();
        for (name, stored, kind) in entries {
            let content = (*kind == Kind::Directory).then(|| Directory::decode(&stored.bytes).unwrap());
            let entry = Entry {
                capability: stored.sealed.capability.clone(),
                length: stored.bytes.len() as u64,
                mime: String::new(),
                kind: *kind,
                below: content.unwrap_or_default().folders(directory.room()),
                unknown: Default::default(),
            };
            directory.insert(name, entry).unwrap();
        }
        self.store_as("", "", directory.encode().to_vec(), Kind::Directory, policy).await
    }

    /// Has a stable name of the owner's stand for an object, and returns the record that says so.
    pub(crate) async fn point(&self, name: &StableName, to: &Stored, fresh_until: u64, version: u64) -> Record {
        let pointer = Pointer { target: to.sealed.capability.clone(), fresh_until, seconds: NAME_SECONDS };
        let record = name.record(&self.owner, &pointer, version, None);
        self.origins.put_record(&self.nodes[0].name, &name.locator(), record.encode().into()).await.unwrap();
        record
    }

    /// Renews an object's lease at the origins.
    pub(crate) async fn put_lease(&self, lease: &Lease) {
        let envelope: Bytes = lease.sign(&self.owner).into();
        self.origins.put_lease(&self.nodes[0].name, &lease.locator, envelope).await.unwrap();
    }

    /// Asks with curl: `-s` and the host resolved to the edge are given.
    pub(crate) async fn curl(&self, host: &str, path: &str, arguments: &[&str]) -> Curl {
        self.curl_at("http", self.edge.http, host, path, arguments).await
    }

    /// The same over TLS.
    pub(crate) async fn curl_secure(&self, host: &str, path: &str, arguments: &[&str]) -> Curl {
        self.curl_at("https", self.edge.https.unwrap(), host, path, arguments).await
    }

    async fn curl_at(&self, scheme: &str, at: SocketAddr, host: &str, path: &str, arguments: &[&str]) -> Curl {
        let (address, port) = (at.ip(), at.port());
        let head = tempfile::NamedTempFile::new().unwrap();
        let output = Command::new("curl")
            .args(["-sS", "--path-as-is", "--max-time", "20", "--resolve", &format!("{host}:{port}:{address}"), "-D"])
            .arg(head.path())
            .args(arguments)
            .arg(format!("{scheme}://{host}:{port}{path}"))
            .output()
            .await
            .unwrap();
        let head = fs::read_to_string(head.path()).unwrap();
        Curl { head, output }
    }

    /// Fetches an object by its name under the zone.
    pub(crate) async fn get(&self, stored: &Stored, path: &str, arguments: &[&str]) -> Curl {
        self.curl(&format!("{}.evernear.example", stored.label), path, arguments).await
    }

    /// Asks with dig; the first line is the rcode, then what it prints.
    pub(crate) async fn dig(&self, arguments: &[&str]) -> String {
        let dns = self.edge.dns.unwrap();
        let (address, port) = (dns.ip(), dns.port());
        let output = Command::new("dig")
            .args([&format!("@{address}"), "-p", &port.to_string(), "+tries=1", "+time=5"])
            .args(arguments)
            .output()
            .await
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Reads a page of the operator's.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let output = Command::new("curl").args(["-sS", &format!("http://{}{path}", self.edge.admin.unwrap())]).output();
        String::from_utf8(output.await.unwrap().stdout).unwrap()
    }

    /// Reads the edge's metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.admin("/metrics").await
    }

    /// The value of a counter.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").parse().unwrap()
    }
}

/// What curl says.
pub(crate) struct Curl {
    pub(crate) head: String,
    pub(crate) output: Output,
}

impl Curl {
    pub(crate) fn status(&self) -> u16 {
        let line = self
            .head
            .lines()
            .next()
            .unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&self.output.stderr)));
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.output.stdout
    }
}

pub(crate) fn label_of_nothing() -> String {
    Label::open(Capability::from_bytes([0xee; 32])).to_string()
}

/// The secret of the site's owner.
pub(crate) fn secret() -> OwnerSecret {
    OwnerSecret::from_bytes([7; 32])
}

fn blake3_of(bytes: &[u8]) -> [u8; 32] {
    *format::StripHash::of(bytes).as_bytes()
}

/// One engine for all tests of the process: each reserves address space for its pool.
pub(crate) fn engine() -> sandbox::Engine {
    static ENGINE: std::sync::OnceLock<sandbox::Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(|| sandbox::Engine::new(sandbox::EngineOptions::default()).unwrap()).clone()
}
