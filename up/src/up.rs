//! The network, from its start to its end.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use client::{HttpTransport, IdentityError, IdentityFiles, Membership, Topology};
use edge::{Edge, Parts, Sockets};
use format::{Country, NodeName, OwnerId, wire::Role};
use futures::future::join_all;
use sandbox::guard::ChildCommand;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Account, DiskAccount},
    agent::{Agent, AgentFault, Retry},
    clock::{self, ClockFault, Witness},
    disk::settings_on,
    disks::{Around, Disks, causes},
    keys::{Keys, KeysError},
    lock::{Lock, NoLock},
    loss,
    owner::{self, OwnerFault, Wanted},
    ports,
    prepare::{Folders, UpOptions, prepare},
    settings::{BYTES_MAX, Given, Listen, Settings, SettingsError},
};

/// The zone of all names. Browsers and curl lead every name in it to this machine (RFC 6761 section 6.3).
const ZONE: &str = "localhost";
/// The name of the edge.
const EDGE: &str = "edge";
/// How often the disks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often certificates are looked at. A clock that was wrong for an hour may have had some made that do not count.
const RENEW_EVERY: Duration = Duration::from_secs(3600);
/// How often the time is written down.
const SEEN_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long it may take until the edge knows all origins.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long copies of the settings may take.
const COPY_DEADLINE: Duration = Duration::from_secs(5);
const READY_PAUSE: Duration = Duration::from_millis(20);

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another process runs it.
    #[error(
        "this network runs already{}: {} is its state folder. Use it from another terminal; to add a disk or change a port stop that process first",
        id.map_or_else(String::new, |id| format!(" in process {id}")), state.display()
    )]
    Running {
        /// The process.
        id: Option<u32>,
        /// The state folder.
        state: PathBuf,
    },
    /// A folder of the state cannot be made, or read.
    #[error("the folder {} cannot be used; name another by --state", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The state folder belongs to an owner in another cluster.
    #[error("{} is the configuration of an owner of another cluster; name a folder for the new network by --state", path.display())]
    OtherCluster {
        /// The configuration.
        path: PathBuf,
    },
    /// The network is there, and what it is made of is not known.
    #[error(
        "{} is lost, which says what this network is made of: put back a copy; each of its disks has one, DISK/evernear/up.toml",
        path.display()
    )]
    LostSettings {
        /// The settings.
        path: PathBuf,
    },
    /// A disk has newer settings.
    #[error(
        "{} is older than {}, which a later start left there: copy that over it. If it is right as it is, delete that copy", path.display(),
        newer.display()
    )]
    OldSettings {
        /// The settings.
        path: PathBuf,
        /// The copy.
        newer: PathBuf,
    },
    /// The clock cannot be right.
    #[error(transparent)]
    Clock(#[from] ClockFault),
    /// The settings cannot be used.
    #[error("the settings of this network cannot be used")]
    Settings(#[from] SettingsError),
    /// A folder that was named is no disk.
    #[error("{} cannot be a disk; name folders that are there and may be written", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A disk of another network.
    #[error(
        "{0} has the data of another network, in its folder `evernear`; name another folder, or start that network. If its state folder was lost: \
         put back owner.key and unlock.key, and {0}/evernear/up.toml as network/up.toml, into an empty one",
        path.display()
    )]
    ForeignDisk {
        /// The folder.
        path: PathBuf,
    },
    /// A disk of this network that it does not know.
    #[error(
        "{} is {disk} of this network, and network/up.toml has no such disk: it is older than the disk. Put back the newest copy; {0}/evernear/up.toml \
         is one", path.display()
    )]
    UnknownDisk {
        /// The folder.
        path: PathBuf,
        /// Its name.
        disk: String,
    },
    /// Nothing can be replaced there.
    #[error("no disk of this network lies at {}; --replace names the place of a lost one", path.display())]
    NoDiskThere {
        /// The folder.
        path: PathBuf,
    },
    /// Another disk of this network is in the place of a lost one.
    #[error("{} is {disk} of this network; put each disk where it was, or name where this one is now", path.display())]
    OtherDisk {
        /// The folder.
        path: PathBuf,
        /// Its name.
        disk: String,
    },
    /// No port is free for an origin.
    #[error(
        "no origin can listen on 127.0.0.1, from port 7500 on; which programs have these ports? `ss -ltnp` shows it"
    )]
    OriginPort {
        /// The cause.
        source: io::Error,
    },
    /// One disk lies in another.
    #[error("{} and {} are one disk; name folders of which none lies in another", path.display(), other.display())]
    Nested {
        /// The one named.
        path: PathBuf,
        /// The one known.
        other: PathBuf,
    },
    /// Too many disks.
    #[error("a network of one machine has at most {} disks", crate::settings::DISKS_MAX)]
    Disks,
    /// This machine, or this user, cannot listen there at all.
    #[error("{door} cannot listen on {address}; name another address by --{door}")]
    Address {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Another process listens there.
    #[error(
        "{} has {address}, where {door} was to be answered; end it, or name another address by --{door}",
        holder.as_deref().unwrap_or("another process")
    )]
    Taken {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// Who has it, as far as this user may see.
        holder: Option<String>,
    },
    /// Two doors on one port.
    #[error("port {port} stands there twice; name different ports by --http, --dns and --twin")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// Names below `localhost` do not lead there.
    #[error(
        "names below `localhost` lead to 127.0.0.1, and {address} is elsewhere; use 127.0.0.1:{port}, or 0.0.0.0:{port} for all addresses of \
         this machine", port = address.port()
    )]
    Elsewhere {
        /// The address.
        address: SocketAddr,
    },
    /// The authority or a certificate cannot be had.
    #[error("the keys of this network cannot be used")]
    Keys(#[from] KeysError),
    /// The owner cannot be had.
    #[error("the owner of this network cannot be used")]
    Owner(#[from] OwnerFault),
    /// No disk is there.
    #[error(
        "no disk of this network can be used: {why}. Bring one back; an empty folder at its place is taken for a new one, without what was stored"
    )]
    NoDisk {
        /// Each disk, and what is wrong.
        why: String,
    },
    /// The edge's identity cannot be used.
    #[error("the identity of the edge cannot be used")]
    Identity(#[from] IdentityError),
    /// The edge does not start.
    #[error("the edge does not start")]
    Edge(#[from] edge::StartError),
    /// The edge does not find the origins.
    #[error(
        "the edge did not find {} within {} seconds; is this machine very busy? try again", missing.join(", "), READY_DEADLINE.as_secs()
    )]
    Silent {
        /// The origins.
        missing: Vec<String>,
    },
    /// The disk of the state folder takes no write.
    #[error("the disk of the state folder {} {why}", path.display())]
    StateDisk {
        /// The state folder.
        path: PathBuf,
        /// Why.
        why: Unwritable,
        /// The write that failed.
        source: Box<UpError>,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// Work off the reactor did not come back.
    #[error("the start was cut short")]
    Lost(#[from] tokio::task::JoinError),
}

impl UpError {
    /// Returns the error as one of the disk of the state folder, where that is the cause, whatever failed first.
    fn on_state_of(self, state: &Path) -> Self {
        match Unwritable::of(&self) {
            // Those are of other folders, and one is told already.
            Some(why) if !matches!(self, Self::Disk { .. } | Self::StateDisk { .. }) => {
                Self::StateDisk { path: state.to_owned(), why, source: Box::new(self) }
            }
            _ => self,
        }
    }
}

/// A network that runs. Stop it with [`Up::stop`]; without that it ends as by a crash, which loses nothing.
pub struct Up {
    account: Account,
    edge: edge::Running,
    edge_down: watch::Sender<bool>,
    stop: CancellationToken,
    keeper: JoinHandle<Disks>,
    _lock: Lock,
}

/// All that the network has beside its disks.
#[derive(Clone)]
struct Home {
    folders: Folders,
    settings: Settings,
    identity: IdentityFiles,
    owner: OwnerId,
    has_key_file: bool,
    keys: Arc<Keys>,
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
        let readers = options.readers.clone();
        let (mut home, lock, is_new) = client::offload(move || Home::open(&options, now())).await??;
        let around = Around {
            network: home.settings.network.clone(),
            catalog: home.folders.catalog(),
            unfinished: home.folders.unfinished_catalog(),
            keys: home.keys.clone(),
            readers,
        };
        let mut disks = Disks::new(around, home.settings.disks.clone());
        let unwritten = |source| UpError::Folder { path: home.folders.state.clone(), source };
        disks.save_catalog().await.map_err(unwritten)?;
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
                    know(&topology, disks.seats().map(|seat| seat.name.clone()).collect()).await?;
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
        let account = home.account(&disks, given, &edge, &agent, is_new);
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keep(home, disks, is_told, (agent, compiler), stop.clone()));
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

impl Home {
    /// Takes the lock, decides what the network is made of, and makes keys and owner. Blocks on the disk.
    fn open(options: &UpOptions, now: u64) -> Result<(Self, Lock, bool), UpError> {
        let unusable = |source| UpError::Folder { path: options.state.clone(), source };
        let folders = Folders::of(&options.state).map_err(unusable)?;
        folders.make()?;
        let lock = Lock::take(&folders.lock()).map_err(|no| match no {
            NoLock::Held(id) => UpError::Running { id, state: folders.state.clone() },
            NoLock::Io(source) => UpError::Folder { path: folders.state.clone(), source },
        })?;
        let (settings, is_new) = prepare(&folders, options, now)?;
        let keys = Keys::open(folders.keys())?;
        let identity = keys.files(&twin_name(), Role::Twin, SystemTime::now())?;
        let (owner, has_key_file) = owner::make(&folders.state)?;
        let home = Self { folders, settings, identity, owner, has_key_file, keys: Arc::new(keys) };
        Ok((home, lock, is_new))
    }

    async fn start_edge(
        &self,
        disks: &Disks,
        compiler: ChildCommand,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(edge::Running, Arc<Topology>), UpError> {
        let keys = self.keys.clone();
        let files = client::offload(move || keys.files(&edge_name(), Role::Edge, SystemTime::now())).await??;
        let identity = files.read()?;
        let config = self.edge_config(disks, files)?;
        let topology = Arc::new(Topology::new(config.seed_nodes()));
        let list = self.folders.edge().join("refused.crl");
        let membership = Membership::new(&identity, Some(&list)).map_err(IdentityError::from)?;
        let transport = Arc::new(HttpTransport::of(membership.clone(), topology.clone()));
        let parts = Parts {
            transport,
            membership: Some(membership),
            topology: topology.clone(),
            engine: None,
            compiler: Some(compiler),
            sockets: Sockets::default(),
        };
        Ok((Edge::start(config, parts, shutdown).await?, topology))
    }

    /// Starts the owner's twin; none where it is to be off.
    async fn start_agent(&self, compiler: ChildCommand) -> Result<Option<Agent>, AgentFault> {
        let Some(listen) = self.settings.twin.and_then(Listen::address) else { return Ok(None) };
        let started = Agent::start(&self.folders.state, listen, compiler).await;
        if let Err(error) = &started {
            tracing::warn!(why = causes(error), "the twin is left out");
        }
        started.map(Some)
    }

    fn edge_config(&self, disks: &Disks, files: IdentityFiles) -> Result<edge::Config, edge::StartError> {
        let Settings { http, dns, .. } = self.settings;
        let public = match http.ip() {
            IpAddr::V4(any) if any.is_unspecified() => format!("public = [\"{}\"]\n", Ipv4Addr::LOCALHOST),
            IpAddr::V6(any) if any.is_unspecified() => format!("public = [\"{}\"]\n", Ipv6Addr::LOCALHOST),
            _ => String::new(),
        };
        let dns = match dns {
            Listen::At(address) => format!("listen = \"{address}\"\n"),
            Listen::Off => String::new(),
        };
        let mut text = format!(
            "name = \"{EDGE}\"\nzone = \"{ZONE}\"\n{public}[place]\ncountry = \"{}\"\nregion = \"here\"\nzone = \"edge\"\n\
             latitude = 0.0\nlongitude = 0.0\n[dns]\n{dns}[http]\nlisten = \"{http}\"\n",
            Country::UNKNOWN,
        );
        for seat in disks.seats() {
            text += &format!("[[seeds]]\nname = \"{}\"\naddress = \"{}\"\n", seat.name, ports::loopback(seat.port));
        }
        let mut config = edge::Config::from_toml(&text)?;
        (config.state_dir, config.tls) = (Some(self.folders.edge()), Some(files));
        Ok(config)
    }

    /// Returns what fits the disks that are in, where the owner chooses nothing else.
    fn given(&self, disks: &Disks) -> Given {
        let port = match self.settings.http.port() {
            80 => String::new(),
            port => format!(":{port}"),
        };
        let url = format!("http://{{label}}.{ZONE}{port}/{{name}}");
        Given { url, profile: loss::profile(&disks.origins()).to_string() }
    }

    /// Tells twin.toml of the disks that are in: their origins, and the profile that fits. Returns what it then has of
    /// what the owner may choose. Remembered first, so that a crash in between leaves no doubt who wrote what. `seen`
    /// is a time that is believed, in seconds since 1970, or zero.
    async fn tell(&mut self, disks: &Disks, seen: u64) -> Result<Given, UpError> {
        let given = self.given(disks);
        let below = |file: &PathBuf| file.strip_prefix(&self.folders.state).unwrap_or(file).to_owned();
        let IdentityFiles { authority, certificate, key } = &self.identity;
        let identity = IdentityFiles { authority: below(authority), certificate: below(certificate), key: below(key) };
        let seats = self.settings.seats();
        let nodes = seats.map(|seat| (seat.name.clone(), ports::loopback(seat.port).to_string())).collect();
        let wanted = Wanted { given: given.clone(), identity, has_key_file: self.has_key_file, nodes };
        let (mut settings, folders) = (self.settings.clone(), self.folders.clone());
        settings.seen = settings.seen.max(seen);
        let names = disks.names();
        for disk in settings.disks.iter_mut().filter(|disk| names.contains(&disk.name)) {
            disk.is_new = false;
        }
        if settings.given.last() != Some(&given) {
            settings.given.push(given.clone());
        }
        let write = move || {
            settings.keep(&folders.settings())?;
            let has = owner::write_config(&folders.twin_config(), &wanted, &settings.given)?;
            if settings.given.len() > 1 {
                settings.given = vec![given];
                settings.keep(&folders.settings())?;
            }
            Ok::<_, UpError>((settings, has))
        };
        let (settings, has) = client::offload(write).await??;
        self.settings = settings;
        self.copy_settings(disks).await;
        Ok(has)
    }

    /// Leaves a copy of the settings on each disk that is in: without them nobody knows whose the disks are. A disk
    /// that does not take it is looked at elsewhere.
    async fn copy_settings(&self, disks: &Disks) {
        let copy = async |path: PathBuf| {
            let from = self.folders.settings();
            let copy = client::offload(move || {
                let Some(text) = client::read_kept(&from, BYTES_MAX)? else { return Ok(()) };
                client::keep(&settings_on(&path), &text)
            });
            // Of one that does not answer a look at it says so.
            if let Ok(Ok(Err(error))) = tokio::time::timeout(COPY_DEADLINE, copy).await {
                tracing::warn!(%error, "a disk does not take a copy of the settings");
            }
        };
        join_all(disks.paths().into_iter().map(copy)).await;
    }

    fn account(
        &self,
        disks: &Disks,
        given: Given,
        edge: &edge::Running,
        agent: &Result<Option<Agent>, AgentFault>,
        is_new: bool,
    ) -> Account {
        let (origins, profile) = (disks.origins(), given.profile.parse().ok());
        let disk = |(disk, gone): (&crate::settings::Disk, Option<&crate::Gone>)| DiskAccount {
            name: disk.name.clone(),
            path: disk.path.clone(),
            mount: disk.mount.clone(),
            origins: disk.origins.iter().map(|seat| seat.name.to_string()).collect(),
            gone: gone.map(ToString::to_string),
        };
        Account {
            state: self.folders.state.clone(),
            owner: self.owner,
            has_key_file: self.has_key_file,
            http: edge.http,
            dns: edge.dns,
            twin: agent.as_ref().ok().and_then(|agent| Some(agent.as_ref()?.address())),
            twin_gone: agent
                .as_ref()
                .err()
                .map(|why| causes(why) + if why.may_pass() { ". It is tried again" } else { "" }),
            url: given.url,
            stores: profile.is_some_and(|profile| loss::stores(profile, &origins)),
            disks_survived: profile.map_or(0, |profile| loss::disks_survived(profile, &origins)),
            profile: given.profile,
            disks: disks.states().map(disk).collect(),
            is_new,
        }
    }

    /// Returns whether a time is to be written down, for starts to be compared with.
    fn is_time_old(&self, believed: u64) -> bool {
        believed.saturating_sub(self.settings.seen) > SEEN_EVERY.as_secs()
    }

    /// Gives each node whose certificate ends soon another, unless the clock cannot be right. Blocks on the disk.
    fn renew(&self) -> Result<(), UpError> {
        clock::check(now(), self.settings.seen)?;
        let origins = self.settings.seats().map(|seat| (seat.name.clone(), Role::Origin));
        for (name, role) in origins.chain([(edge_name(), Role::Edge), (twin_name(), Role::Twin)]) {
            self.keys.files(&name, role, SystemTime::now())?;
        }
        Ok(())
    }
}

/// Looks after the disks, and after what follows from them, until the network stops; then it stops the twin.
async fn keep(
    mut home: Home,
    mut disks: Disks,
    mut is_told: bool,
    (agent, compiler): (Result<Option<Agent>, AgentFault>, ChildCommand),
    stop: CancellationToken,
) -> Disks {
    let may_come = agent.as_ref().err().is_some_and(AgentFault::may_pass);
    let mut retry = may_come.then(|| Retry::first(Instant::now()));
    let mut agent = agent.ok().flatten();
    let (begun, mut witness) = (Instant::now(), Witness::begin(now()));
    let (mut renewed, mut said) = (begun, String::new());
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Some(is_news) = stop.run_until_cancelled(disks.look()).await else { break };
        let believed = witness.look(now(), begun.elapsed()).unwrap_or(0);
        is_told &= !is_news && !home.is_time_old(believed);
        if !is_told {
            match home.tell(&disks, believed).await {
                Ok(Given { profile, .. }) => {
                    is_told = true;
                    if let (Some(agent), Ok(profile)) = (&agent, profile.parse()) {
                        agent.set_profile(profile);
                    }
                    said.clear();
                }
                // It is tried again at the next look.
                Err(error) => {
                    let error = causes(&error.on_state_of(&home.folders.state));
                    if error != said {
                        tracing::error!(error, "twin.toml is not told which disks there are");
                    }
                    said = error;
                }
            }
        }
        if let Some(due) = retry.filter(|retry| retry.is_due(Instant::now())) {
            let Some(started) = stop.run_until_cancelled(Box::pin(home.start_agent(compiler.clone()))).await else {
                break;
            };
            retry = started.is_err().then(|| due.next(Instant::now()));
            if let Ok(Some(started)) = started {
                // It says the opposite of a warning, and is to be heard where that was.
                tracing::warn!(address = %started.address(), "the twin answers now");
                agent = Some(started);
            }
        }
        if renewed.elapsed() > RENEW_EVERY {
            renewed = Instant::now();
            let home = home.clone();
            if let Ok(Err(error)) = client::offload(move || home.renew()).await {
                tracing::error!(error = causes(&error), "certificates are not renewed");
            }
        }
    }
    if let Some(agent) = agent {
        agent.stop().await;
    }
    disks
}

/// Why a disk takes no write, which is nobody's fault and passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// No room is left, for this user at least.
    Full,
    /// It is mounted so that nothing can be written, or the system made it so after an error.
    ReadOnly,
}

impl Unwritable {
    /// Finds it among the causes of an error.
    fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Some(Self::Full),
            Some(io::ErrorKind::ReadOnlyFilesystem) => Some(Self::ReadOnly),
            _ => error.source().and_then(Self::of),
        }
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Full => "is full; free some space there",
            Self::ReadOnly => {
                "is read-only; mount it so that it can be written (`dmesg` tells whether an error made it so)"
            }
        })
    }
}

/// Returns seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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

fn edge_name() -> NodeName {
    EDGE.parse().expect("it is a name")
}

fn twin_name() -> NodeName {
    "me".parse().expect("it is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_disk_that_takes_no_write_is_named_whatever_failed_first() {
        let of = |kind: io::ErrorKind| {
            let source = SettingsError::Io { path: "/s/network/up.toml".into(), source: kind.into() };
            UpError::Settings(source).on_state_of(Path::new("/s")).to_string()
        };
        assert_eq!(of(io::ErrorKind::StorageFull), "the disk of the state folder /s is full; free some space there");
        assert!(of(io::ErrorKind::ReadOnlyFilesystem).contains("/s is read-only"));
        assert_eq!(of(io::ErrorKind::PermissionDenied), "the settings of this network cannot be used");
        let other = UpError::Disk { path: "/d".into(), source: io::ErrorKind::ReadOnlyFilesystem.into() };
        assert!(matches!(other.on_state_of(Path::new("/s")), UpError::Disk { .. }), "it is another disk");
    }
}
