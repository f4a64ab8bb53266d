//! The network, from its start to its end.

use std::{io, path::PathBuf, time::Duration};

use client::{Topology, Unwritable, causes};
use edge::Sockets;
use format::NodeName;
use origin::catalog::SqliteFile;
use sandbox::guard::ChildCommand;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    account::Account,
    catalog_place::CatalogChoice,
    clock::now,
    disks::{Around, Disks},
    home::Home,
    join_door::JoinDoor,
    keeper::look_after,
    lock::Lock,
    lost_catalog::{CatalogFault, all_aside},
    prepare::UpOptions,
    pulse::Wait,
    up_error::UpError,
};

/// How long it may take until the edge knows all origins.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(60);
const READY_PAUSE: Duration = Duration::from_millis(20);

/// A network that runs. Stop it with [`Up::stop`]; without that it ends as by a crash, which loses nothing.
pub struct Up {
    account: Account,
    edge: edge::Running,
    edge_down: watch::Sender<bool>,
    stop: CancellationToken,
    keeper: JoinHandle<Disks>,
    _lock: Lock,
}

impl Up {
    /// Starts the network and returns when files can be stored and read. Policies are compiled by `compiler`.
    ///
    /// # Errors
    /// [`UpError`]. What was made until then is used by the next start.
    pub async fn start(options: UpOptions, compiler: ChildCommand) -> Result<Self, UpError> {
        let state = options.state.clone();
        Box::pin(Self::begin(options, compiler)).await.map_err(|error| error.on_state_of(&state))
    }

    async fn begin(options: UpOptions, compiler: ChildCommand) -> Result<Self, UpError> {
        let (readers, wanted) = (options.readers.clone(), options.catalog.clone());
        let (mut home, lock, is_new) = client::offload(move || Home::open(&options, now())).await??;
        let is_away = place_catalog(&mut home, wanted, &readers).await?;
        // It tells where the catalog is.
        let join_door = match home.settings.nodes {
            Some(address) => Some(JoinDoor::open(address, home.admitting()).await?),
            None => None,
        };
        let mut disks = disks_of(&mut home, &readers)?;
        disks.settle().await;
        if disks.origins().is_empty() {
            let why = disks.states().filter_map(|(disk, why)| Some(format!("{} ({})", disk.path.display(), why?)));
            return Err(UpError::NoDisk { why: why.collect::<Vec<_>>().join(", ") });
        }
        let (edge_down, shutdown) = watch::channel(false);
        let started = home.start_edge(&disks, compiler.clone(), shutdown).await;
        let (mut edge, topology) = match started {
            Ok(started) => started,
            Err(error) => {
                disks.stop().await;
                return Err(error);
            }
        };
        // There is no successor to hand them to, and they would keep queues open that nobody serves.
        edge.sockets = Sockets::default();
        // A first start makes all certificates by this clock.
        let first_seen = if is_new { now() } else { 0 };
        let begun = async {
            match home.tell(&disks, first_seen).await {
                // Viewers are served where nothing can be written down, from the origins that the edge is told of here:
                // in a full catalog they cannot announce themselves. A first start has nothing to serve.
                Err(error) if !is_new && Unwritable::of(&error).is_some() => {
                    let error = causes(&error.on_state_of(&home.folders.state));
                    tracing::error!(error, "the state folder takes no write");
                    Ok(None)
                }
                told => {
                    let given = told?;
                    // Without the catalog nobody announces itself either, and a first start has one.
                    if !is_away {
                        know(&topology, disks.seats().map(|seat| seat.name.clone()).collect()).await?;
                    }
                    Ok::<_, UpError>(Some(given))
                }
            }
        };
        let told = match begun.await {
            Ok(told) => told,
            Err(error) => {
                edge_down.send_replace(true);
                edge.join().await;
                disks.stop().await;
                return Err(error);
            }
        };
        let agent = home.start_agent(compiler.clone()).await;
        let is_told = told.is_some();
        let given = told.unwrap_or_else(|| home.given(&disks));
        let damaged_catalogs = damaged_catalogs(home.folders.catalog()).await;
        let account = Account { damaged_catalogs, ..Account::of(&home, &disks, given, &edge, &agent, is_new) };
        let stop = CancellationToken::new();
        if let Some(door) = join_door {
            tokio::spawn(door.answer(stop.clone()));
        }
        let keeper = tokio::spawn(look_after(home, disks, is_told, (agent, compiler), stop.clone()));
        Ok(Self { account, edge, edge_down, stop, keeper, _lock: lock })
    }

    /// Says what runs where.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Stops the network. Uploads to the twin that are under way end first, as long as its configuration allows; then
    /// answers at the edge; then the origins, which both need. Without uploads it takes some seconds.
    pub async fn stop(self) {
        self.stop.cancel();
        let disks = self.keeper.await;
        self.edge_down.send_replace(true);
        self.edge.join().await;
        match disks {
            Ok(disks) => disks.stop().await,
            // It neither panics nor is aborted; if it did, the origins end with the process.
            Err(error) => tracing::error!(%error, "the origins are not stopped in order"),
        }
    }
}

/// Sees that the catalog is whole and where it is wanted, before any origin runs. Returns whether its server is away.
async fn place_catalog(
    home: &mut Home,
    wanted: Option<CatalogChoice>,
    readers: &watch::Sender<Wait>,
) -> Result<bool, UpError> {
    home.catalog_place().follow(readers).await?;
    // What was lost is made again where it was before it moves.
    if !disks_of(home, readers)?.save_catalog(now()).await? && wanted.is_some() {
        return Err(CatalogFault::Unwhole { path: home.folders.catalog() }.into());
    }
    Ok(home.catalog_place().settle(wanted, readers).await?)
}

/// Returns the disks, of which none is in yet.
fn disks_of(home: &mut Home, readers: &watch::Sender<Wait>) -> Result<Disks, UpError> {
    let around = Around {
        network: home.settings.network.clone(),
        host: home.settings.host(),
        catalog: home.catalog_place().known()?,
        unfinished: home.folders.unfinished_catalog(),
        keys: home.keys.clone(),
        readers: readers.clone(),
    };
    Ok(Disks::new(around, home.settings.disks.clone()))
}

/// Finds the damaged catalogs that were set aside, and tells of each.
async fn damaged_catalogs(catalog: PathBuf) -> Vec<PathBuf> {
    let look = move || SqliteFile::at(&catalog).and_then(|file| all_aside(&file));
    let found = client::offload(look).await.map_err(io::Error::other).flatten().unwrap_or_else(|error| {
        tracing::warn!(%error, "nobody knows whether damaged catalogs were set aside");
        Vec::new()
    });
    for path in &found {
        tracing::warn!(
            path = %path.display(),
            "a damaged catalog was set aside, which opens what was erased since: delete it once all disks are there and policies are published"
        );
    }
    found
}

/// Waits until the edge knows these origins.
async fn know(topology: &Topology, origins: Vec<NodeName>) -> Result<(), UpError> {
    let deadline = Instant::now() + READY_DEADLINE;
    loop {
        let known = topology.snapshot();
        // A seed that was not heard of yet was never seen. One on a full disk has no capacity.
        let is_known = |name: &NodeName| known.iter().any(|node| node.name == *name && node.seen > 0);
        let missing: Vec<_> = origins.iter().filter(|name| !is_known(name)).map(ToString::to_string).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(UpError::Silent { missing });
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
}
