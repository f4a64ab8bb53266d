//! Starting and stopping an origin. A process may run several.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, http::Request, response::Response};
use client::{
    HttpTransport, IdentityError, Membership, Topology, Traces, TracesError, Transport, TransportError, tls::Identity,
};
use format::{NodeAddress, NodeName, wire::Role};
use tokio::{
    net::TcpListener,
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    accept::accept,
    admin, api,
    catalog::{Catalog, CatalogError, CatalogId, CatalogUrl, Found, OpenError},
    codec::{self, CodecFault},
    config::{Config, ConfigError},
    copies::{self, RefreshError},
    node::{Node, Parts},
    peer::Peer,
    repair,
    scrub::{self, Scrubbed},
    store::{Disk, RealDisk, Rested, Store, StoreError},
    upkeep,
};

/// How long another node of the same name has to answer; one that is gone refuses at once.
const DOUBLE_DEADLINE: Duration = Duration::from_secs(3);

/// Why an origin does not start; the operator's to mend unless the cause says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine or the build computes wrongly.
    #[error("the self-test failed")]
    Codec(#[from] CodecFault),
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The certificate is not this node's, or nobody believes it.
    #[error("the node's certificate cannot be used")]
    Identity(#[from] IdentityError),
    /// A folder cannot be written.
    #[error("{}, the folder of {what}, cannot be written", path.display())]
    Folder {
        /// What lies in it.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The collector of traces cannot be told.
    #[error("`traces` cannot be used")]
    Traces(#[from] TracesError),
    /// The data folder or the object store cannot be used.
    #[error("the data folder or the object store cannot be used")]
    Store(#[from] StoreError),
    /// The catalog cannot be opened.
    #[error("the catalog cannot be opened")]
    Open(#[from] OpenError),
    /// The catalog does not answer.
    #[error("the catalog does not answer")]
    Catalog(#[from] CatalogError),
    /// The catalog is not the one that knows this disk.
    #[error(transparent)]
    OtherCatalog(#[from] StrangeCatalog),
    /// The port cannot be had.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Another process answers as this node.
    #[error(
        "{name} runs already at {address}: a name and its certificate are for one node; stop that one or issue another name"
    )]
    Double {
        /// The name of both.
        name: NodeName,
        /// Where the other one answers.
        address: NodeAddress,
    },
    /// A look at the disk did not come back.
    #[error("the data folder does not answer")]
    Lost,
}

/// Why the catalog is not taken for the one that knows the disk; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StrangeCatalog {
    /// It is another one.
    #[error(
        "the catalog {found}, and what lies in {} is known to catalog {noted}. Does `catalog` name the right \
         one? If that was lost, stop all origins and run `evernear catalog rebuild` for all of them before any starts: an \
         empty catalog would take the locators of what is stored here from whoever comes first", path.display()
    )]
    Other {
        /// The data folder.
        path: PathBuf,
        /// The catalog that it belongs to.
        noted: CatalogId,
        /// What the catalog that answers is.
        found: Found,
    },
    /// It knows nothing, and no note says which one knew the disk.
    #[error(
        "the catalog has no object, and {} has. Does `catalog` name the right one? If that was lost, stop all origins and \
         run `evernear catalog rebuild` for all of them before any starts", path.display()
    )]
    Empty {
        /// The data folder.
        path: PathBuf,
    },
    /// Nobody can say.
    #[error(
        "{} is damaged, the note of which catalog knows this disk. Make sure that `catalog` names the one that the other \
         origins use, remove this file and start the origin again: it notes that catalog. No rebuild is needed", path.display()
    )]
    Note {
        /// The note.
        path: PathBuf,
    },
}

impl From<RefreshError> for StartError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Catalog(error) => error.into(),
            RefreshError::Strange(error) => error.into(),
            RefreshError::Store(error) => error.into(),
            RefreshError::Lost(_) => Self::Lost,
        }
    }
}

/// The origin node.
pub struct Origin;

/// An origin that runs.
pub struct Running {
    /// Where it listens.
    pub local_addr: SocketAddr,
    /// Where it tells its operator of itself.
    pub admin: Option<SocketAddr>,
    node: Arc<Node>,
    router: Router,
    task: JoinHandle<()>,
}

/// What an origin finds around itself: everything it reaches that is not its own.
pub struct Surroundings {
    /// The disk under its folder.
    pub disk: Arc<dyn Disk>,
    /// The catalog it shares.
    pub catalog: Arc<dyn Catalog>,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
    /// The nodes it knows; kept up to date by it.
    pub topology: Arc<Topology>,
}

/// Where callers come in.
struct Door {
    listener: TcpListener,
    /// For the operator.
    admin: Option<TcpListener>,
    membership: Arc<Membership>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Why a pass over all shards broke off; ours, and it can be tried again.
#[derive(Debug, thiserror::Error)]
#[error("the scrub broke off")]
pub struct ScrubError(#[source] RefreshError);

impl Running {
    /// Waits until the origin has stopped, which its shutdown token begins: requests under way end first, as long as
    /// the configuration allows.
    ///
    /// # Errors
    /// [`JoinError`] when its main task panicked.
    pub async fn stopped(self) -> Result<(), JoinError> {
        // Nothing of the node may outlive its end: another may open the folder then.
        drop((self.node, self.router));
        self.task.await
    }

    /// Answers a call as if a connection with a certificate of this name and role had brought it.
    pub async fn answer(&self, name: NodeName, role: Role, mut call: Request<Body>) -> Response {
        call.extensions_mut().insert(Peer { name, role, gone: CancellationToken::new() });
        let Ok(answer) = self.router.clone().oneshot(call).await;
        answer
    }

    /// Hashes every shard again now, without rests, and deals with the damaged ones as the scrub in the background
    /// does.
    ///
    /// # Errors
    /// [`ScrubError`]; what was done until then stays done.
    pub async fn scrub(&self) -> Result<Scrubbed, ScrubError> {
        scrub::scrub_now(&self.node).await.map_err(ScrubError)
    }
}

/// What a check found.
pub struct Checked {
    /// The node's identity.
    pub identity: Identity,
    /// Whether another process listens where this node would.
    pub in_use: bool,
}

impl Origin {
    /// Checks all that a start would refuse and that needs no other machine: the configuration, every file that it
    /// names, the folders, the address. [`Self::start`] judges the identity by the same function. The catalog's server
    /// and the object store are not asked: a node starts without the first.
    ///
    /// # Errors
    /// [`StartError`]. An address that another process has is none: it may be the origin that runs with this
    /// configuration.
    pub fn check(config: &Config) -> Result<Checked, StartError> {
        config.check()?;
        let identity = config.identity()?;
        admit(config, &identity)?;
        config.bucket()?;
        let folder = |what, path: &Path| {
            let failed = |source| StartError::Folder { what, path: path.to_owned(), source };
            client::is_usable_folder(path).map_err(failed)
        };
        folder("`data_dir`", &config.data_dir)?;
        if let CatalogUrl::Sqlite(file) = &config.catalog {
            folder("`catalog`", file.parent().unwrap_or(Path::new("/")))?;
        }
        let is_taken =
            |address| client::is_port_taken(address).map_err(|source| StartError::Listen { address, source });
        let in_use = is_taken(config.listen)? | config.admin.map_or(Ok(false), is_taken)?;
        Ok(Checked { identity, in_use })
    }

    /// Starts an origin on the current runtime: checks configuration and machine, takes the data folder, opens the
    /// catalog, opens the port and announces the node. A catalog on a server that is away keeps it from the last only.
    /// It runs until `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: Config, identity: Identity, shutdown: CancellationToken) -> Result<Running, StartError> {
        Self::start_on(config, identity, shutdown, Arc::new(RealDisk)).await
    }

    /// As [`Self::start`], on another disk than the real one.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start_on(
        config: Config,
        identity: Identity,
        shutdown: CancellationToken,
        disk: Arc<dyn Disk>,
    ) -> Result<Running, StartError> {
        admit(&config, &identity)?;
        let list = config.data_dir.join("refused.crl");
        let membership = Membership::new(&identity, Some(&list)).map_err(IdentityError::from)?;
        client::offload(codec::prove).await.map_err(|_| StartError::Lost)??;
        let (store, rested) = open_store(&config, disk).await?;
        let noted = read_note(&store)?;
        let catalog = match config.catalog.open_known(config.limits.changes_kept, noted).await {
            Err(OpenError::Other { noted, found }) => {
                return Err(StrangeCatalog::Other { path: config.data_dir, noted, found }.into());
            }
            opened => opened?,
        };
        // Filled when the node announces itself.
        let topology = Arc::new(Topology::new(Vec::new()));
        let transport = Arc::new(HttpTransport::of(membership.clone(), topology.clone()).between_origins());
        learn_refused(&*catalog, &membership).await;
        refuse_double(&config, &*catalog, &membership).await?;
        let (listener, local_addr) = bind(config.listen).await?;
        let admin = match config.admin {
            Some(address) => Some(bind(address).await?.0),
            None => None,
        };
        let door = Door { listener, admin, membership: membership.clone() };
        let traces = config.traces.as_ref();
        let traces = traces.map(|traces| Traces::start(traces, "evernear-origin", &config.name)).transpose()?;
        let parts = Parts { store, rested, catalog, transport, membership: Some(membership), topology, traces };
        begin(config, parts, shutdown, local_addr, Some(door)).await
    }

    /// Starts an origin that has no door: only [`Running::answer`] brings calls to it. For tests with a network of
    /// their own.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start_within(
        config: Config,
        around: Surroundings,
        shutdown: CancellationToken,
    ) -> Result<Running, StartError> {
        config.check()?;
        let Surroundings { disk, catalog, transport, topology } = around;
        let (store, rested) = open_store(&config, disk).await?;
        let parts = Parts { store, rested, catalog, transport, membership: None, topology, traces: None };
        let local_addr = config.listen;
        begin(config, parts, shutdown, local_addr, None).await
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Judges a configuration and the identity that comes with it.
fn admit(config: &Config, identity: &Identity) -> Result<(), StartError> {
    config.check()?;
    config.check_mounted()?;
    identity.check(&config.name, Role::Origin, SystemTime::now())?;
    Ok(())
}

/// Takes up the catalog's list of refused certificates: whoever holds this node's stolen certificate, and answers by
/// it, must not keep the node with the new one from starting. Any other time is soon enough for what fails here.
async fn learn_refused(catalog: &dyn Catalog, membership: &Arc<Membership>) {
    let Ok(Ok(Some(filed))) = timeout(DOUBLE_DEADLINE, catalog.refused()).await else { return };
    if let Ok(list) = membership.open_refused(filed) {
        membership.take_up(list).await;
    }
}

/// Refuses to run beside another node of the same name: where the catalog last saw it, somebody else still answers with
/// its certificate. Before the own door opens, so that a node never meets itself; one that moved meets nobody.
async fn refuse_double(config: &Config, catalog: &dyn Catalog, membership: &Arc<Membership>) -> Result<(), StartError> {
    let name = &config.name;
    // A catalog that is away, or slow, keeps no node from serving reads.
    let Ok(Ok(nodes)) = timeout(DOUBLE_DEADLINE, catalog.nodes()).await else { return Ok(()) };
    let Some(seen) = nodes.into_iter().find(|node| node.name == *name) else { return Ok(()) };
    let Some(address) = seen.address.clone().filter(|address| *address != config.advertised(config.listen)) else {
        return Ok(());
    };
    let transport = HttpTransport::of(membership.clone(), Arc::new(Topology::new(vec![seen])));
    match timeout(DOUBLE_DEADLINE, transport.nodes(name)).await {
        // Whatever it says, it proved the name.
        Ok(Ok(_) | Err(TransportError::Refused { .. } | TransportError::Failed { .. })) => {
            Err(StartError::Double { name: name.clone(), address })
        }
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

async fn open_store(config: &Config, disk: Arc<dyn Disk>) -> Result<(Store, Vec<Rested>), StartError> {
    let (data_dir, bucket) = (config.data_dir.clone(), config.bucket()?);
    let open = move || {
        let store = Store::open(&data_dir, disk)?.with_bucket(bucket)?;
        let rested = store.rested()?;
        Ok::<_, StoreError>((store, rested))
    };
    Ok(client::offload(open).await.map_err(|_| StartError::Lost)??)
}

/// Announces the node and starts all its tasks.
async fn begin(
    config: Config,
    parts: Parts,
    shutdown: CancellationToken,
    local_addr: SocketAddr,
    door: Option<Door>,
) -> Result<Running, StartError> {
    let address = config.advertised(local_addr);
    // The node's own token: a start that fails cancels nobody else's.
    let node = Arc::new(Node::new(config, address, parts, shutdown.child_token()));
    let announced = async {
        node.recount().await?;
        upkeep::announce(&node).await.map(drop)?;
        Ok::<_, StartError>(())
    };
    match announced.await {
        // Reads need no catalog; what does, waits for it in the node's own tasks.
        Err(StartError::Catalog(CatalogError::Unavailable(error))) => {
            tracing::error!(%error, "the catalog is not available: only reads are served until it is");
        }
        Err(StartError::Catalog(CatalogError::Other { noted, found })) => {
            return Err(StrangeCatalog::Other { path: node.config.data_dir.clone(), noted, found }.into());
        }
        announced => announced?,
    }
    tracing::info!(node = %node.config.name, %local_addr, "origin started");
    let router = api::router(node.clone());
    let admin = door.as_ref().and_then(|door| door.admin.as_ref()?.local_addr().ok());
    let task = tokio::spawn(run(node.clone(), door.map(|door| (door, router.clone()))));
    Ok(Running { local_addr, admin, node, router, task })
}

/// Sees that the catalog is the one that knows what lies on the disk. A new disk takes the one that it finds. What is
/// found, or not, counts for writers until the next look.
pub(crate) async fn know_catalog(node: &Node) -> Result<(), RefreshError> {
    let looked = look_at_catalog(node).await;
    node.put_knows_catalog(looked.is_ok());
    looked
}

async fn look_at_catalog(node: &Node) -> Result<(), RefreshError> {
    let found = match node.catalog.identity().await {
        Err(CatalogError::Other { noted, found }) => {
            return Err(StrangeCatalog::Other { path: node.config.data_dir.clone(), noted, found }.into());
        }
        found => found?,
    };
    let noted = match node.catalog_id.get() {
        Some(known) => Some(*known),
        None => node.off_reactor(|store| read_note(store)).await??,
    };
    match noted {
        Some(noted) if noted != found => {
            let path = node.config.data_dir.clone();
            return Err(StrangeCatalog::Other { path, noted, found: Found::Id(found) }.into());
        }
        Some(_) => {}
        None => {
            let records = node.off_reactor(|store| store.records()).await??;
            if !records.is_empty() && node.catalog.locators(None, None, 1).await?.is_empty() {
                return Err(StrangeCatalog::Empty { path: node.config.data_dir.clone() }.into());
            }
            node.off_reactor(move |store| store.put_catalog_note(&found)).await??;
        }
    }
    node.catalog_id.get_or_init(|| found);
    Ok(())
}

/// Reads which catalog knows what lies on the disk.
fn read_note(store: &Store) -> Result<Option<CatalogId>, RefreshError> {
    match store.catalog_note() {
        Err(StoreError::Damaged { path }) => Err(StrangeCatalog::Note { path }.into()),
        read => Ok(read?),
    }
}

/// Runs all tasks of a node and ends when the last of them has.
async fn run(node: Arc<Node>, door: Option<(Door, Router)>) {
    let cut = CancellationToken::new();
    if let Some((Door { listener, admin, membership }, router)) = door {
        if let Some(admin) = admin {
            node.tasks.spawn(admin::serve(node.clone(), admin));
        }
        node.tasks.spawn(accept(node.clone(), listener, membership.clone(), router, cut.clone()));
        if let Some(files) = node.config.tls.clone() {
            let every = Duration::from_secs(node.config.limits.reread_seconds);
            let (followed, stop) = (membership.follow_files(files, every), node.stop.clone());
            node.tasks.spawn(async move { stop.run_until_cancelled_owned(followed).await });
        }
    }
    node.tasks.spawn(copies::follow(node.clone()));
    node.tasks.spawn(copies::complete_often(node.clone()));
    node.tasks.spawn(upkeep::announce_often(node.clone()));
    node.tasks.spawn(upkeep::sweep_often(node.clone()));
    repair::spawn(&node);
    node.tasks.spawn(scrub::scrub_often(node.clone()));
    let watched = node.clone();
    node.tasks.spawn(async move { watched.feed.run(&watched.stop).await });

    node.stop.cancelled().await;
    node.tasks.close();
    let drain = Duration::from_secs(node.config.limits.drain_seconds);
    if timeout(drain, node.tasks.wait()).await.is_err() {
        tracing::warn!(node = %node.config.name, "some requests did not end in time and are cut");
        cut.cancel();
        // What is left are calls into the disk; a disk that hangs must not keep the process.
        let _ = timeout(drain, node.tasks.wait()).await;
    }
    if let Some(traces) = &node.traces {
        traces.end().await;
    }
    node.catalog.close().await;
    tracing::info!(node = %node.config.name, "origin stopped");
}
