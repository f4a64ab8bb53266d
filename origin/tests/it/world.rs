//! Running origins on loopback, with callers of every role.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{
    HttpTransport, Topology,
    tls::{Authority, Identity, server_name},
};
use format::{
    NodeName,
    wire::{NodeEntry, Role},
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use origin::{Config, Origin, Running};
use tempfile::TempDir;
use testing::{origin_config, place};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
    pub(crate) stop: CancellationToken,
    pub(crate) nodes: Vec<NodeEntry>,
    running: Vec<Option<(Running, CancellationToken)>>,
    settings: String,
    /// Whose the nodes are, in order; of those beyond, and of one whose name is empty, nobody says it.
    operators: Vec<&'static str>,
}

impl World {
    /// Starts so many origins on one catalog; `settings` are lines of their `[limits]`.
    pub(crate) async fn start(origins: usize, settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), origins, settings).await
    }

    /// The same in a folder where others may have run before.
    pub(crate) async fn start_in(dir: TempDir, origins: usize, settings: &str) -> Self {
        Self::start_as(dir, &vec![""; origins], settings).await
    }

    /// Starts an origin of each of these operators.
    pub(crate) async fn start_of(operators: &[&'static str], settings: &str) -> Self {
        Self::start_as(tempfile::tempdir().unwrap(), operators, settings).await
    }

    async fn start_as(dir: TempDir, operators: &[&'static str], settings: &str) -> Self {
        let mut world = Self {
            dir,
            authority: Authority::create().unwrap(),
            stop: CancellationToken::new(),
            nodes: Vec::new(),
            running: Vec::new(),
            settings: settings.to_owned(),
            operators: operators.to_vec(),
        };
        for _ in operators {
            world.add_node().await;
        }
        world
    }

    /// Starts one more origin.
    pub(crate) async fn add_node(&mut self) {
        let number = self.nodes.len() + 1;
        self.nodes.push(self.entry(&format!("o{number}"), Role::Origin, None));
        self.running.push(None);
        self.start_node(number).await;
    }

    /// Starts a node that is not running, on what its folder holds.
    pub(crate) async fn start_node(&mut self, number: usize) {
        let name = self.name(number);
        let (stop, identity) = (self.stop.child_token(), self.identity(name.as_str(), Role::Origin));
        let config = self.config(name.as_str(), &self.settings);
        let running = Origin::start(config, identity, stop.clone()).await.unwrap();
        self.nodes[number - 1].address = Some(running.local_addr.into());
        self.running[number - 1] = Some((running, stop));
    }

    /// Gives all nodes other settings, from their next starts on.
    pub(crate) fn set(&mut self, settings: &str) {
        settings.clone_into(&mut self.settings);
    }

    /// Stops one node.
    pub(crate) async fn stop_node(&mut self, number: usize) {
        let (running, stop) = self.running[number - 1].take().expect("the node runs");
        stop.cancel();
        timeout(DEADLINE, running.stopped()).await.expect("an origin stops in time").unwrap();
    }

    pub(crate) fn config(&self, name: &str, settings: &str) -> Config {
        let (data, catalog) = (self.data_dir(name), self.dir.path().join("catalog.db"));
        let number = name.strip_prefix('o').and_then(|number| number.parse::<usize>().ok());
        let operator = number.and_then(|number| self.operators.get(number - 1)).copied().unwrap_or_default();
        let catalog = format!("sqlite://{}", catalog.display());
        let text = origin_config(name, &data, &catalog, settings) + &format!("operator = \"{operator}\"\n");
        Config::from_toml(&text).unwrap()
    }

    pub(crate) fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn identity(&self, name: &str, role: Role) -> Identity {
        let issued = self.authority.issue(&name.parse().unwrap(), role).unwrap();
        Identity::from_pem(self.authority.certificate_pem(), &issued.certificate, &issued.key).unwrap()
    }

    pub(crate) fn entry(&self, name: &str, role: Role, address: Option<format::NodeAddress>) -> NodeEntry {
        NodeEntry { role, address, ..testing::node(name, place("z")) }
    }

    pub(crate) fn name(&self, number: usize) -> NodeName {
        self.nodes[number - 1].name.clone()
    }

    /// The running origin of a number.
    pub(crate) fn origin(&self, number: usize) -> &Running {
        &self.running[number - 1].as_ref().expect("the node runs").0
    }

    /// A caller of some name and role.
    pub(crate) fn caller(&self, name: &str, role: Role) -> HttpTransport {
        HttpTransport::new(&self.identity(name, role), Arc::new(Topology::new(self.nodes.clone()))).unwrap()
    }

    /// One raw call to the first origin.
    pub(crate) async fn raw(&self, caller: &Identity, method: &str, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        let node = &self.nodes[0];
        let tcp = TcpStream::connect(node.address.as_ref().unwrap().to_string()).await.unwrap();
        let connector = TlsConnector::from(caller.client_config().unwrap());
        let tls = connector.connect(server_name(&node.name, Role::Origin), tcp).await.unwrap();
        let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", node.name))
            .body(Full::new(body))
            .unwrap();
        let response = timeout(DEADLINE, send.send_request(request)).await.unwrap().unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        driver.abort();
        (status, body)
    }

    /// Stops all origins and waits for their end.
    pub(crate) async fn end(self) -> TempDir {
        self.stop.cancel();
        for (running, _) in self.running.into_iter().flatten() {
            timeout(DEADLINE, running.stopped()).await.expect("an origin stops in time").unwrap();
        }
        self.dir
    }
}
