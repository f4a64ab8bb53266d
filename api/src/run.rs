//! Starts and ends the API, in a process of its own or inside another.

use std::{
    fs::{File, TryLockError},
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use axum::Router;
use edge::{Certificate, CertificateError, CertificateFiles, Terminator};
use format::Profile;
use sandbox::guard::ChildCommand;
use tokio::{net::TcpListener, task::JoinError, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use twin::{ApiConfig, Twin, TwinConfig};

use crate::{
    Placer, console, door,
    link::{self, Link, LinkError, url_of},
    routes,
    service::{Parts, Service},
    spool::Spool,
    store::{Store, StoreError},
    wishes::{Defaults, SharedDefaults},
};

/// Held by the process that answers for a state folder; says where.
pub(crate) const LOCK_FILE: &str = "api.lock";

/// How often the files of the certificate are looked at.
const REREAD_EVERY: Duration = Duration::from_secs(10);
const LOCK_TRIES: usize = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The API of a twin.
pub struct Api;

/// An API that runs.
pub struct Running {
    /// Where it listens.
    pub local_addr: SocketAddr,
    /// Where this machine reaches it: by TLS under the first of `hosts` that its certificate is for, or else the
    /// certificate's first name.
    pub url: String,
    service: Weak<Service>,
    defaults: SharedDefaults,
    task: JoinHandle<()>,
}

/// Why the API does not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A twin answers for this state folder already; its operator must choose one.
    #[error("another twin runs on {}; stop it, or name another folder with --state", path.display())]
    Runs {
        /// The state folder.
        path: PathBuf,
    },
    /// The state folder cannot be used.
    #[error("the state folder {} cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file of tokens and uploads does not open.
    #[error("the API's file does not open")]
    Store(#[from] StoreError),
    /// TLS cannot be spoken.
    #[error("the certificate of the twin cannot be used: `certificate` and `key` in [api] of twin.toml name it")]
    Certificate(#[from] CertificateError),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on; `listen` in [api] of twin.toml, or --listen, names another")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

impl Api {
    /// Starts to answer for a twin, whose state lies in `state`, until `stop` is cancelled. Policies that say where
    /// uploads may lie are compiled by `compiler`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &TwinConfig,
        state: &Path,
        twin: Arc<Twin>,
        compiler: ChildCommand,
        stop: CancellationToken,
    ) -> Result<Running, StartError> {
        let address = config.api.listen;
        let store = Store::open(state).await?;
        let mut lock = lock_soon(state).await?;
        let parts = store.partial().await?.into_iter().map(|upload| upload.batch);
        let going_on = parts.chain(store.spooled().await?).collect();
        let folder = state.to_owned();
        let spool = tokio::task::spawn_blocking(move || Spool::open(&folder, &going_on)).await;
        let spool = spool.map_err(|_| StoreError::Closed)?;
        let spool = spool.map_err(|source| StartError::Folder { path: state.to_owned(), source })?;
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let tls = tls(&config.api).await?;
        let url = url_of(local_addr, tls.as_ref().map(|tls| name_in_links(&config.api.hosts, tls.certificate())));
        let folder = |source| StartError::Folder { path: state.to_owned(), source };
        lock.set_len(0).and_then(|()| writeln!(lock, "{url}")).map_err(folder)?;
        tokio::task::spawn_blocking(console::prepare).await.map_err(|_| StoreError::Closed)?;
        let defaults = SharedDefaults::new(Defaults { profile: config.profile, policy: config.policy.clone() });
        let parts = Parts {
            spool,
            twin,
            url: config.url.clone(),
            defaults: defaults.clone(),
            placer: Placer::new(config.place.clone(), compiler),
            config: ApiConfig { listen: local_addr, ..config.api.clone() },
            store,
            // Its own token: an API that ends by itself stops nobody else.
            stop: stop.child_token(),
        };
        let service = Service::new(parts).await?;
        if tls.is_none() && !local_addr.ip().is_loopback() {
            tracing::warn!(%local_addr, "tokens reach the API in clear: name a certificate in [api], or put what speaks TLS in front");
        }
        tracing::info!(%local_addr, "the twin's API started");
        let router = routes::router(service.clone());
        let weak = Arc::downgrade(&service);
        let task = tokio::spawn(run(service, door::Listening { listener, tls }, router, lock));
        Ok(Running { local_addr, url, service: weak, defaults, task })
    }
}

impl Running {
    /// Makes a link that signs one browser into the console as an admin, within ten minutes.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn link(&self) -> Result<Link, LinkError> {
        let service = self.service.upgrade().ok_or(StoreError::Closed)?;
        link::draw(&service.store, &self.url).await
    }

    /// Stores in this profile, from the next upload on, what wishes for none.
    pub fn set_profile(&self, profile: Profile) {
        self.defaults.set_profile(profile);
    }

    /// Waits until the API has stopped, which its token begins: uploads under way end first, as long as the
    /// configuration allows.
    ///
    /// # Errors
    /// [`JoinError`] when its main task panicked.
    pub async fn stopped(self) -> Result<(), JoinError> {
        self.task.await
    }
}

/// Takes the state folder for this process. Who looks whether a twin runs holds the file for a moment.
async fn lock_soon(state: &Path) -> Result<File, StartError> {
    for _ in 0..LOCK_TRIES {
        match lock(state) {
            Err(StartError::Runs { .. }) => tokio::time::sleep(LOCK_PAUSE).await,
            done => return done,
        }
    }
    lock(state)
}

/// Takes the state folder for this process, until the file is dropped.
fn lock(state: &Path) -> Result<File, StartError> {
    let folder = |source| StartError::Folder { path: state.to_owned(), source };
    let open = File::options().create(true).truncate(false).write(true).open(state.join(LOCK_FILE));
    let file = open.map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Runs { path: state.to_owned() }),
        Err(TryLockError::Error(source)) => Err(folder(source)),
    }
}

/// Reads the certificate, if the configuration names one.
async fn tls(config: &ApiConfig) -> Result<Option<Arc<Terminator>>, StartError> {
    let Some(files) = files(config) else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || Certificate::new(Some(&files))).await;
    let certificate = read.map_err(|_| StoreError::Closed)??;
    Ok(Some(Arc::new(Terminator::new(Arc::new(certificate), &["http/1.1"])?)))
}

/// Returns the name by which the twin is reached: the operator's word, where the certificate is for it. A certificate
/// may be for names that lead elsewhere.
fn name_in_links(hosts: &[String], certificate: &Certificate) -> Option<String> {
    hosts.iter().find(|host| certificate.is_for(host)).cloned().or_else(|| certificate.name())
}

fn files(config: &ApiConfig) -> Option<CertificateFiles> {
    Some(CertificateFiles { certificate: config.certificate.clone()?, key: config.key.clone()? })
}

/// Takes up a certificate that was renewed in its files, until the twin stops.
async fn follow(service: Arc<Service>, certificate: Arc<Certificate>, files: CertificateFiles) {
    // What it finds is logged; there are no metrics here.
    let followed = certificate.follow_files(files, REREAD_EVERY, |_| {});
    service.stop.run_until_cancelled(followed).await;
}

async fn run(service: Arc<Service>, door: door::Listening, router: Router, lock: File) {
    if let Some((tls, files)) = door.tls.as_ref().zip(files(&service.config)) {
        service.tasks.spawn(follow(service.clone(), tls.certificate().clone(), files));
    }
    service.tasks.spawn(door::accept(service.clone(), door, router));
    service.tasks.spawn(service.clone().sweep_often());
    service.tasks.spawn(service.clone().reconcile_often());
    service.tasks.spawn(service.clone().end_removals_often());
    service.tasks.spawn(service.clone().watch_tokens());
    service.stop.cancelled().await;
    service.tasks.close();
    let drain = service.config.drain();
    if timeout(drain, service.tasks.wait()).await.is_err() {
        tracing::warn!("some uploads did not end in time and are cut");
        service.cut.cancel();
        // What is left tells nodes that an upload is no more; the next start does what this one cannot.
        let _ = timeout(drain, service.tasks.wait()).await;
    }
    match Arc::try_unwrap(service) {
        Ok(service) => service.store.close().await,
        // Somebody hangs on a node. What they write is durable by itself.
        Err(_) => tracing::warn!("the API's file is left open by a request that does not end"),
    }
    drop(lock);
    tracing::info!("the twin's API stopped");
}
