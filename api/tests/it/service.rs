//! A twin that runs, and callers with tokens.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use api::{Api, Grant, Maker, RATE_DEFAULT, Running, Scope, StartError, Store, Token};
use client::{Topology, Transport};
use format::{OwnerSecret, Place, Profile};
use sandbox::guard::ChildCommand;
use tempfile::TempDir;
use testing::{MemoryTransport, node};
use tokio_util::sync::CancellationToken;
use twin::{ApiConfig, Index, Network, Twin, TwinConfig};

use crate::client::Client;

const ORIGINS: usize = 8;

/// A twin with an API.
pub(crate) struct Service {
    pub(crate) memory: Arc<MemoryTransport>,
    pub(crate) network: Arc<Network>,
    pub(crate) twin: Arc<Twin>,
    pub(crate) address: SocketAddr,
    pub(crate) state: PathBuf,
    pub(crate) token: String,
    compiler: ChildCommand,
    running: Option<Running>,
    stop: CancellationToken,
    _folder: Option<TempDir>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts one whose configuration is changed.
    pub(crate) async fn with(change: impl FnOnce(&mut ApiConfig)) -> Self {
        Self::over(|memory| memory, change).await
    }

    /// Starts one whose policies are compiled by a program with an argument, which has so long for it.
    pub(crate) async fn compiled_by(program: &str, argument: &str, deadline: Duration) -> Self {
        let compiler = ChildCommand { program: program.into(), arguments: vec![argument.into()], deadline };
        Self::made_of(|memory| memory, |_| {}, compiler).await
    }

    /// Starts one over another transport.
    pub(crate) async fn over<T: Transport>(
        wrap: impl FnOnce(Arc<MemoryTransport>) -> Arc<T>,
        change: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        Self::made_of(wrap, change, no_compiler()).await
    }

    async fn made_of<T: Transport>(
        wrap: impl FnOnce(Arc<MemoryTransport>) -> Arc<T>,
        change: impl FnOnce(&mut ApiConfig),
        compiler: ChildCommand,
    ) -> Self {
        let place = |at: usize| Place { operator: format!("op{at}"), ..testing::place(&format!("z{at}")) };
        let nodes: Vec<_> = (0..ORIGINS).map(|at| node(&format!("o{at}"), place(at))).collect();
        let memory = Arc::new(MemoryTransport::new(&nodes));
        let network = Network::new(wrap(memory.clone()), Arc::new(Topology::new(nodes)), place(0));
        let network = Arc::new(network.with_patience(Duration::ZERO));
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let secret = OwnerSecret::from_bytes([1; 32]);
        let index = Index::open(state.join("index"), &secret).unwrap();
        let twin = Arc::new(Twin::new(&secret, index, network.clone()));
        let mut config = config();
        change(&mut config.api);
        let stop = CancellationToken::new();
        let running = Api::start(&config, &state, twin.clone(), compiler.clone(), stop.clone()).await.unwrap();
        let (address, running, _folder) = (running.local_addr, Some(running), Some(folder));
        let token = String::new();
        let mut it = Self { memory, network, twin, address, state, token, compiler, running, stop, _folder };
        it.token = it.token("admin", Scope::Admin, |_| {}).await;
        it
    }

    /// Makes a token.
    pub(crate) async fn token(&self, name: &str, scope: Scope, change: impl FnOnce(&mut Grant)) -> String {
        let token = Token::draw(getrandom).unwrap();
        let mut grant = Grant {
            id: token.id(),
            name: name.to_owned(),
            scope,
            created: 1,
            expires: None,
            revoked: None,
            quota_bytes: None,
            rate: 100 * RATE_DEFAULT,
            maker: Maker::Owner,
        };
        change(&mut grant);
        // As a command beside the running twin does.
        let store = Store::open(&self.state).await.unwrap();
        store.add(grant, token.hash()).await.unwrap();
        store.close().await;
        token.expose().to_string()
    }

    /// Returns a caller with the first token.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address, Some(self.token.clone()))
    }

    /// Returns a caller with another token, or none.
    pub(crate) fn client_with(&self, token: Option<&str>) -> Client {
        Client::new(self.address, token.map(str::to_owned))
    }

    /// Returns the API that runs.
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Stops it in order.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.stopped().await.unwrap();
        }
    }

    /// Has it store in another profile what wishes for none.
    pub(crate) fn set_profile(&self, profile: &str) {
        self.running.as_ref().unwrap().set_profile(profile.parse().unwrap());
    }

    /// Starts it again on the same folder.
    pub(crate) async fn start_again(&mut self) {
        self.stop = CancellationToken::new();
        let running = Api::start(&config(), &self.state, self.twin.clone(), self.compiler.clone(), self.stop.clone())
            .await
            .unwrap();
        (self.address, self.running) = (running.local_addr, Some(running));
    }

    /// Opens the owner's index, as a command beside the twin does.
    pub(crate) fn index(&self) -> Index {
        Index::open(self.twin_index(), &OwnerSecret::from_bytes([1; 32])).unwrap()
    }

    /// Deletes the owner's index, as where only the rest came back from a backup. It must be stopped.
    pub(crate) fn lose_index(&mut self) {
        std::fs::remove_file(self.twin_index()).unwrap();
        let secret = OwnerSecret::from_bytes([1; 32]);
        self.twin = Arc::new(Twin::new(&secret, self.index(), self.network.clone()));
    }

    fn twin_index(&self) -> PathBuf {
        self.state.join("index")
    }

    /// Starts another on the same folder.
    pub(crate) async fn second(&self) -> Result<Running, StartError> {
        Api::start(&config(), &self.state, self.twin.clone(), self.compiler.clone(), CancellationToken::new()).await
    }

    /// Opens the file of tokens and uploads, as a program that looks into it.
    pub(crate) async fn file(&self) -> sqlx::SqlitePool {
        sqlx::SqlitePool::connect(&format!("sqlite://{}", self.state.join(api::STORE_FILE).display())).await.unwrap()
    }

    /// Has so many seconds pass for what waits in the spool. It must be stopped.
    pub(crate) async fn pass(&self, seconds: i64) {
        let file = self.file().await;
        let passed = sqlx::query("UPDATE lived SET seconds = seconds + $1").bind(seconds).execute(&file).await.unwrap();
        assert_eq!(passed.rows_affected(), 1);
        file.close().await;
    }

    /// Returns the bytes that lie in the spool.
    pub(crate) fn spooled_bytes(&self) -> u64 {
        let files = self.spooled().into_iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
        files.map(|file| file.unwrap().metadata().map_or(0, |it| it.len())).sum()
    }

    /// Returns the uploads that wait in the spool.
    pub(crate) fn spooled(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.state.join("spool")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Reads an object as any reader of its label does.
    pub(crate) async fn read(&self, label: &str, path: &[&str]) -> Option<Vec<u8>> {
        let label: format::Label = label.parse().unwrap();
        let path: Vec<String> = path.iter().map(|it| (*it).to_owned()).collect();
        let found = self.network.find(label.capability(), &path).await.ok()?;
        let whole = 0..found.object.length();
        Some(self.network.read(&found, whole, Vec::new(), std::path::Path::new("memory")).await.ok()?.0)
    }
}

/// No policy is compiled in most tests.
pub(crate) fn no_compiler() -> ChildCommand {
    ChildCommand { program: "/nonexistent".into(), arguments: Vec::new(), deadline: Duration::from_secs(1) }
}

fn getrandom(bytes: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

pub(crate) fn config() -> TwinConfig {
    let api = ApiConfig { listen: "127.0.0.1:0".parse().unwrap(), drain_seconds: 10, ..ApiConfig::default() };
    let text = "profile = \"small-cluster\"\n[identity]\nauthority = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n\
                [[node]]\nname = \"o0\"\naddress = \"127.0.0.1:1\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twin.toml");
    std::fs::write(&path, text).unwrap();
    let config = TwinConfig::read(&path).unwrap();
    assert_eq!(config.profile, Profile::SmallCluster);
    TwinConfig { api, ..config }
}
