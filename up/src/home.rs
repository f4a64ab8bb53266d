//! All that a network has beside its disks, and what it makes of that: keys, owner, edge, twin, and what it tells them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use client::{HttpTransport, IdentityError, IdentityFiles, Membership, Topology, causes};
use edge::{Edge, Parts, Sockets};
use format::{Country, NodeName, OwnerId, wire::Role};
use futures::future::join_all;
use sandbox::guard::ChildCommand;
use tokio::sync::watch;

use crate::{
    agent::{Agent, AgentFault},
    catalog_place::CatalogPlace,
    clock,
    disk::settings_on,
    disks::Disks,
    exchange::{SEEDS_MAX, SeedEntry},
    folders::Folders,
    invitations::Invitations,
    join_door::Admitting,
    keys::Keys,
    lock::{Lock, NoLock},
    loss,
    owner::{self, Wanted},
    prepare::{UpOptions, prepare},
    public::{self, Public},
    settings::{BYTES_MAX, Given, Listen, Seat, Settings},
    up_error::UpError,
};

/// The zone of all names where there is no other. Browsers and curl lead every name in it to this machine (RFC 6761
/// section 6.3).
const ZONE: &str = "localhost";
/// The name of the edge.
pub(crate) const EDGE: &str = "edge";
/// How often the time is written down.
const SEEN_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long copies of the settings may take.
const COPY_DEADLINE: Duration = Duration::from_secs(5);

/// All that the network has beside its disks.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) folders: Folders,
    pub(crate) settings: Settings,
    identity: IdentityFiles,
    pub(crate) owner: OwnerId,
    pub(crate) has_key_file: bool,
    pub(crate) keys: Arc<Keys>,
}

impl Home {
    /// Takes the lock, decides what the network is made of, and makes keys and owner. Blocks on the disk.
    pub(crate) fn open(options: &UpOptions, now: u64) -> Result<(Self, Lock, bool), UpError> {
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

    /// Returns where the catalog is.
    pub(crate) fn catalog_place(&mut self) -> CatalogPlace<'_> {
        CatalogPlace { folders: &self.folders, settings: &mut self.settings }
    }

    pub(crate) async fn start_edge(
        &self,
        disks: &Disks,
        compiler: ChildCommand,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(edge::Running, Arc<Topology>), UpError> {
        let (keys, folders, is_public) = (self.keys.clone(), self.folders.clone(), self.settings.public.is_some());
        let (files, secret) = client::offload(move || {
            let secret = is_public.then(|| public::secret_file(&folders)).transpose()?;
            Ok::<_, UpError>((keys.files(&edge_name(), Role::Edge, SystemTime::now())?, secret))
        })
        .await??;
        let identity = files.read()?;
        let config = self.edge_config(disks, files, secret)?;
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

    /// Returns what the door for nodes goes by.
    pub(crate) fn admitting(&self) -> Admitting {
        let seed = |seat: &Seat| SeedEntry { name: seat.name.clone(), address: self.settings.address(seat).into() };
        Admitting {
            invitations: Invitations::at(self.folders.invitations()),
            keys: self.keys.clone(),
            zone: ZONE,
            is_public: self.settings.public.is_some(),
            seeds: self.settings.seats().take(SEEDS_MAX).map(seed).collect(),
            catalog: self.settings.shared_catalog(),
            refused: AtomicU64::new(0),
        }
    }

    /// Starts the owner's twin; none where it is to be off.
    pub(crate) async fn start_agent(&self, compiler: ChildCommand) -> Result<Option<Agent>, AgentFault> {
        let Some(listen) = self.settings.twin.and_then(Listen::address) else { return Ok(None) };
        let started = Agent::start(&self.folders.state, listen, compiler).await;
        if let Err(error) = &started {
            tracing::warn!(why = causes(error), "the twin is left out");
        }
        started.map(Some)
    }

    fn edge_config(
        &self,
        disks: &Disks,
        files: IdentityFiles,
        secret: Option<PathBuf>,
    ) -> Result<edge::Config, edge::StartError> {
        let Settings { http, dns, .. } = self.settings;
        let public = match http.ip() {
            any if any.is_unspecified() && self.settings.nodes.is_some() => {
                format!("public = [\"{}\"]\n", self.settings.host())
            }
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
            text += &format!("[[seeds]]\nname = \"{}\"\naddress = \"{}\"\n", seat.name, self.settings.address(seat));
        }
        let mut config = edge::Config::from_toml(&text)?;
        (config.state_dir, config.tls) = (Some(self.folders.edge()), Some(files));
        if let Some((public, secret)) = self.settings.public.as_ref().zip(secret) {
            (config.zone, config.public) = (public.zone.clone(), public.addresses.clone());
            // A browser that finds the record insists on port 443.
            config.dns.https_records = public.https.port() == 443;
            config.https = Some(public.https(secret));
        }
        Ok(config)
    }

    /// Returns what fits the disks that are in, where the owner chooses nothing else.
    pub(crate) fn given(&self, disks: &Disks) -> Given {
        let local = || {
            let port = match self.settings.http.port() {
                80 => String::new(),
                port => format!(":{port}"),
            };
            format!("http://{{label}}.{ZONE}{port}/{{name}}")
        };
        let url = self.settings.public.as_ref().map_or_else(local, Public::url);
        Given { url, profile: loss::profile(&disks.origins()).to_string() }
    }

    /// Tells twin.toml of the disks that are in: their origins, and the profile that fits. Returns what it then has of
    /// what the owner may choose. Remembered first, so that a crash in between leaves no doubt who wrote what. `seen`
    /// is a time that is believed, in seconds since 1970, or zero.
    pub(crate) async fn tell(&mut self, disks: &Disks, seen: u64) -> Result<Given, UpError> {
        let given = self.given(disks);
        let below = |file: &PathBuf| file.strip_prefix(&self.folders.state).unwrap_or(file).to_owned();
        let IdentityFiles { authority, certificate, key } = &self.identity;
        let identity = IdentityFiles { authority: below(authority), certificate: below(certificate), key: below(key) };
        let seats = self.settings.seats();
        let nodes = seats.map(|seat| (seat.name.clone(), self.settings.address(seat).to_string())).collect();
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

    /// Returns whether a time is to be written down, for starts to be compared with.
    pub(crate) fn is_time_old(&self, believed: u64) -> bool {
        believed.saturating_sub(self.settings.seen) > SEEN_EVERY.as_secs()
    }

    /// Gives each node whose certificate ends soon another, unless the clock cannot be right. Blocks on the disk.
    pub(crate) fn renew(&self) -> Result<(), UpError> {
        clock::check(clock::now(), self.settings.seen)?;
        let origins = self.settings.seats().map(|seat| (seat.name.clone(), Role::Origin));
        for (name, role) in origins.chain([(edge_name(), Role::Edge), (twin_name(), Role::Twin)]) {
            self.keys.files(&name, role, SystemTime::now())?;
        }
        Ok(())
    }
}

fn edge_name() -> NodeName {
    EDGE.parse().expect("it is a name")
}

fn twin_name() -> NodeName {
    "me".parse().expect("it is a name")
}
