//! The folder of a node that joined: its key, what the door gave, and its configuration.
//!
//! ```text
//! state folder/node/
//!   lock                        held while a machine joins
//!   node.key                    made first; it never leaves this machine
//!   authority.pem, NAME.pem     what the door gave
//!   edge.toml, origin.toml      the configuration: from then on whoever runs the node changes it
//!   joined.toml                 written last: all else is there
//!   state, data                 what the node keeps
//! ```

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use client::{
    IdentityFiles, read_key_file,
    tls::{Fingerprint, NodeKey},
};
use data_encoding::HEXLOWER;
use format::{Country, NodeName, Place, wire::Role};
use serde::{Deserialize, Serialize};

use crate::{
    exchange::{self, Admitted, SeedEntry},
    folders::Folders,
    invitation::SecretHash,
    join::{JoinError, JoinOptions, Joined},
    keys::private_folder,
    lock::{Lock, NoLock},
    ports::{self, Kind},
};

const VERSION: u32 = 1;
/// Largest file that is read here, in bytes.
const BYTES_MAX: usize = 64 * 1024;
/// Where an edge answers HTTP when nobody says otherwise, and an origin its node API: the first free port from here on.
const HTTP_PORT: u16 = 8080;
const NODE_PORT: u16 = 7500;

/// The record of what this machine is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marker {
    version: u32,
    pub(crate) name: NodeName,
    pub(crate) role: Role,
    #[serde(with = "exchange::hash")]
    pub(crate) invitation: [u8; 32],
}

/// The folder of the node.
#[derive(Clone)]
pub(crate) struct NodeFolder(PathBuf);

impl Marker {
    /// Says what a machine has become by an invitation.
    pub(crate) fn new(name: NodeName, role: Role, invitation: SecretHash) -> Self {
        Self { version: VERSION, name, role, invitation: invitation.0 }
    }
}

impl NodeFolder {
    pub(crate) fn of(state: &Path) -> Result<Self, JoinError> {
        let unusable = |source| JoinError::Io { path: state.to_owned(), source };
        Ok(Self(Folders::of(state).map_err(unusable)?.node()))
    }

    /// Makes the folder, for this user alone, and takes its lock.
    pub(crate) fn open(&self) -> Result<Lock, JoinError> {
        let unusable = |source| JoinError::Io { path: self.0.clone(), source };
        private_folder(&self.0).map_err(unusable)?;
        Lock::take(&self.0.join("lock")).map_err(|no| match no {
            NoLock::Held(_) => JoinError::Running { path: self.0.clone() },
            NoLock::Io(source) => unusable(source),
        })
    }

    pub(crate) fn marker(&self) -> Result<Option<Marker>, JoinError> {
        let path = self.0.join("joined.toml");
        let Some(text) = read(&path)? else { return Ok(None) };
        match toml::from_str::<Marker>(&text) {
            Ok(marker) if marker.version == VERSION => Ok(Some(marker)),
            _ => Err(JoinError::Damaged { path }),
        }
    }

    /// Returns the key, which is made when it is not there.
    pub(crate) fn key(&self) -> Result<NodeKey, JoinError> {
        let path = self.0.join("node.key");
        if path.exists() {
            return Ok(NodeKey::from_pem(&read_key_file(&path)?)?);
        }
        let key = NodeKey::create()?;
        keep(&path, key.pem())?;
        Ok(key)
    }

    fn identity(&self, name: &NodeName) -> IdentityFiles {
        IdentityFiles {
            authority: self.0.join("authority.pem"),
            certificate: self.0.join(format!("{name}.pem")),
            key: self.0.join("node.key"),
        }
    }

    fn config(&self, role: Role) -> PathBuf {
        self.0.join(format!("{}.toml", role.as_str()))
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn write(&self, marker: &Marker, admitted: &Admitted, config: &str) -> Result<(), JoinError> {
        let files = self.identity(&marker.name);
        keep(&files.authority, &admitted.authority)?;
        keep(&files.certificate, &admitted.certificate)?;
        if let Some(list) = &admitted.refused
            && marker.role == Role::Edge
            && let Ok(list) = HEXLOWER.decode(list.as_bytes())
        {
            let path = self.state().join("refused.crl");
            client::keep(&path, &list).map_err(|source| JoinError::Io { path, source })?;
        }
        let path = self.config(marker.role);
        let role = marker.role.as_str();
        keep(
            &path,
            &format!(
                "# Written by `evernear join`; change it from now on. {role}.sample.toml shows every key.\n{config}"
            ),
        )?;
        let path = self.0.join("joined.toml");
        let text = toml::to_string(marker).map_err(|error| unwritten(&path, error))?;
        keep(&path, &format!("# Written by `evernear join`: what this machine is.\n{text}"))
    }

    pub(crate) fn joined(&self, marker: &Marker, is_new: bool) -> Result<Joined, JoinError> {
        let files = self.identity(&marker.name);
        let shown = |path: &Path| Ok::<_, JoinError>(Fingerprint::of_pem(&read(path)?.unwrap_or_default())?);
        Ok(Joined {
            name: marker.name.clone(),
            role: marker.role,
            config: self.config(marker.role),
            certificate: shown(&files.certificate)?,
            authority: shown(&files.authority)?,
            is_new,
        })
    }

    pub(crate) fn edge_config(
        &self,
        admitted: &Admitted,
        options: &JoinOptions,
        local: IpAddr,
    ) -> Result<String, JoinError> {
        let listen = match options.listen {
            Some(listen) => listen,
            None => free(ports::loopback(HTTP_PORT))?,
        };
        let public = if listen.ip().is_unspecified() { vec![local] } else { Vec::new() };
        let (files, state_dir) = (self.identity(&admitted.name), self.state());
        let file = EdgeFile {
            name: &admitted.name,
            zone: &admitted.zone,
            public,
            state_dir: &state_dir,
            place: place(&admitted.name, options.zone.as_deref()),
            dns: Off {},
            http: Http { listen },
            tls: Tls::of(&files),
            seeds: &admitted.seeds,
        };
        let text = toml::to_string(&file).map_err(|error| unwritten(&self.config(Role::Edge), error))?;
        edge::Config::from_toml(&text).map_err(|error| JoinError::Edge(Box::new(error)))?;
        Ok(text)
    }

    /// None if no catalog came.
    pub(crate) fn origin_config(
        &self,
        admitted: &Admitted,
        options: &JoinOptions,
        local: IpAddr,
    ) -> Option<Result<String, JoinError>> {
        let catalog = admitted.catalog.as_deref()?;
        let write = || {
            let listen = match options.listen {
                Some(listen) => listen,
                None => free(SocketAddr::new(local, NODE_PORT))?,
            };
            let data_dir = match &options.disk {
                Some(disk) => {
                    let disk = std::path::absolute(disk);
                    let disk = disk.map_err(|source| JoinError::Io { path: self.0.clone(), source })?;
                    disk.join("evernear").join(admitted.name.as_str())
                }
                None => self.0.join("data"),
            };
            let files = self.identity(&admitted.name);
            let file = OriginFile {
                name: &admitted.name,
                listen,
                advertise: listen.ip().is_unspecified().then(|| SocketAddr::new(local, listen.port())),
                data_dir: &data_dir,
                catalog,
                place: place(&admitted.name, options.zone.as_deref()),
                tls: Tls::of(&files),
            };
            let text = toml::to_string(&file).map_err(|error| unwritten(&self.config(Role::Origin), error))?;
            origin::Config::from_toml(&text).map_err(|error| JoinError::Origin(Box::new(error)))?;
            Ok(text)
        };
        Some(write())
    }
}

#[derive(Serialize)]
struct EdgeFile<'a> {
    name: &'a NodeName,
    zone: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    public: Vec<IpAddr>,
    state_dir: &'a Path,
    place: Place,
    dns: Off,
    http: Http,
    tls: Tls<'a>,
    seeds: &'a [SeedEntry],
}

#[derive(Serialize)]
struct OriginFile<'a> {
    name: &'a NodeName,
    listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<SocketAddr>,
    data_dir: &'a Path,
    catalog: &'a str,
    place: Place,
    tls: Tls<'a>,
}

/// A door that is off.
#[derive(Serialize)]
struct Off {}

#[derive(Serialize)]
struct Http {
    listen: SocketAddr,
}

#[derive(Serialize)]
struct Tls<'a> {
    authority: &'a Path,
    certificate: &'a Path,
    key: &'a Path,
}

impl<'a> Tls<'a> {
    fn of(files: &'a IdentityFiles) -> Self {
        Self { authority: &files.authority, certificate: &files.certificate, key: &files.key }
    }
}

/// Where a node is of which nothing is said: in a zone of its own, so that shards of one object lie on it and
/// elsewhere.
fn place(name: &NodeName, zone: Option<&str>) -> Place {
    Place {
        country: Country::UNKNOWN,
        region: "here".to_owned(),
        zone: zone.unwrap_or(name.as_str()).to_owned(),
        operator: String::new(),
        datacentre: String::new(),
        latitude: 0.0,
        longitude: 0.0,
    }
}

fn free(first: SocketAddr) -> Result<SocketAddr, JoinError> {
    let unusable = |source| JoinError::Listen { address: first, source };
    let free = ports::free_from(first, Kind::Tcp, |_| false).map_err(unusable)?;
    free.ok_or_else(|| unusable(io::ErrorKind::AddrInUse.into()))
}

fn read(path: &Path) -> Result<Option<String>, JoinError> {
    let io = |source| JoinError::Io { path: path.to_owned(), source };
    let bytes = client::read_kept(path, BYTES_MAX).map_err(io)?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|error| io(io::Error::other(error)))).transpose()
}

fn keep(path: &Path, text: &str) -> Result<(), JoinError> {
    client::keep(path, text.as_bytes()).map_err(|source| JoinError::Io { path: path.to_owned(), source })
}

fn unwritten(path: &Path, error: toml::ser::Error) -> JoinError {
    JoinError::Io { path: path.to_owned(), source: io::Error::other(error) }
}
