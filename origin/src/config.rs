//! What an operator chooses. Read from TOML, unknown keys refused, checked whole before a port opens.
//! `origin.sample.toml` shows every key; a test reads it.

mod bucket;
mod mounts;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{IdentityError, IdentityFiles, KeyFileError, TracesConfig, tls::Identity};
use format::{NodeAddress, NodeName, Place, PlaceError, limits::ORIGIN_ANNOUNCE_SECONDS_MAX};
use serde::Deserialize;

pub use self::{
    bucket::{BucketConfig, BucketUrl, BucketUrlError},
    mounts::mount_point,
};
use crate::{
    catalog::CatalogUrl,
    store::{Bucket, OWN_NAMES},
};

/// Configuration files are small; a larger file is not one.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// The configuration of one origin.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name, as in its certificate. No default.
    pub name: NodeName,
    /// Address and port of the node API; port 0 takes a free one. No default.
    pub listen: SocketAddr,
    /// `HOST:PORT` under which other nodes reach the node API; they resolve a name at each connection. Absent: the
    /// address listened on, which must then be a concrete one.
    pub advertise: Option<NodeAddress>,
    /// Address and port where `/health`, `/ready` and `/metrics` are answered in clear, not for the public. Absent:
    /// only the node API tells them, to nodes of the cluster.
    pub admin: Option<SocketAddr>,
    /// Folder of all the node keeps; made when it is not there. No default.
    pub data_dir: PathBuf,
    /// The object store that shards lie in. Absent: they lie in `data_dir`. What lay there before is read as long as it
    /// is there.
    pub bucket: Option<BucketConfig>,
    /// Where the catalog is: `sqlite:///absolute/path`, one file for all origins of one machine, or
    /// `postgres://USER@HOST/DATABASE`, one database for all origins. No default.
    pub catalog: CatalogUrl,
    /// Bytes that shards may take in all. Absent: all of the file system but its reserve of 5 %; with a bucket there is
    /// no default, because an object store does not say how much it takes.
    pub capacity_bytes: Option<u64>,
    /// Where the node is. No default.
    pub place: Place,
    /// Files of the node's certificate. Absent: the program that embeds the origin brings an identity itself.
    pub tls: Option<IdentityFiles>,
    /// The collector that is told of calls, by OpenTelemetry. Absent: none is.
    pub traces: Option<TracesConfig>,
    /// Bounds. Absent: the defaults of each.
    #[serde(default)]
    pub limits: Limits,
}

/// Bounds an operator may choose; every one must be above zero unless it says otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue. Absent: 1,024.
    pub connections_max: u32,
    /// Requests at once on one connection. Absent: 128.
    pub streams_max: u32,
    /// Calls into the disk at once; more wait. Absent: 32.
    pub disk_calls_max: u32,
    /// Bytes of request bodies in memory at once, of one caller at most an eighth; more wait. At least 32 MiB. Absent:
    /// 512 MiB.
    pub bodies_bytes_max: u64,
    /// Upload sessions at once, of one caller at most as many as it leaves free. When all are open, one that was unused
    /// for 30 seconds gives way to a caller who has fewer. Absent: 1,024.
    pub uploads_max: u32,
    /// Seconds after which an upload session that got no cells is dropped, over restarts of the node. Within this time
    /// an interrupted upload goes on where it was. Absent: 86,400 (24 hours).
    pub upload_idle_seconds: u64,
    /// Percent of the capacity that uploads may take whose caller has been gone for 30 seconds. Of more, and when
    /// shards need their room or others their place, those go first whose caller holds the most. Absent: 10.
    pub resting_uploads_percent: u8,
    /// Seconds a caller has to finish the TLS handshake. Absent: 10.
    pub handshake_seconds: u64,
    /// Seconds a request has until its answer begins, and one more for each KiB of its body; at least 40, because a
    /// caller may wait 30 for changes. A commit has one more for each 4 MiB of its shard. Absent: 60.
    pub request_seconds: u64,
    /// Seconds that requests under way have to end when the node stops. Absent: 10.
    pub drain_seconds: u64,
    /// Seconds between the erasure of an object and the removal of its shards; zero removes them at the next sweep.
    /// Absent: 86,400 (24 hours).
    pub erase_grace_seconds: u64,
    /// Seconds between sweeps for idle uploads and dead shards. Absent: 60.
    pub sweep_seconds: u64,
    /// Seconds between announcements of this node, at most 10: one that misses four of these counts as silent, and
    /// uploads pass it over. Absent: 10.
    pub announce_seconds: u64,
    /// Seconds between looks at the files of `tls`, whose new certificate counts without a restart. Absent: 10.
    pub reread_seconds: u64,
    /// Seconds without a word after which a node counts as down and its shards as lost, so that a restart moves
    /// nothing; at least three announcements. Absent: 900 (15 minutes).
    pub down_seconds: u64,
    /// Seconds between walks over all objects to find what needs repair, and over the own ones to find what is surplus.
    /// Absent: 3,600.
    pub scan_seconds: u64,
    /// Objects that this node repairs at once; zero leaves repair to others. Absent: 2.
    pub repairs_max: u32,
    /// Bytes that one repair reads in a second. Absent: 67,108,864 (64 MiB); zero for as fast as it goes.
    pub repair_bytes_per_second: u64,
    /// Percent of its capacity by which what a node keeps may differ from the mean of all nodes before shards move from
    /// fuller to emptier nodes, until none differs by more than half of it; zero moves none. Counts at the node that
    /// scans. Absent: 10.
    pub balance_percent: u8,
    /// Such moves that wait or run at once in the cluster. Absent: 64.
    pub balance_moves_max: u32,
    /// Seconds within which every shard is hashed again. Absent: 1,209,600 (14 days).
    pub scrub_seconds: u64,
    /// Newest changes that the feed keeps; a reader further behind starts anew. Absent: 100,000.
    pub changes_kept: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            streams_max: 128,
            disk_calls_max: 32,
            bodies_bytes_max: 512 << 20,
            uploads_max: 1024,
            upload_idle_seconds: 24 * 3600,
            resting_uploads_percent: 10,
            handshake_seconds: 10,
            request_seconds: 60,
            drain_seconds: 10,
            erase_grace_seconds: 24 * 3600,
            sweep_seconds: 60,
            announce_seconds: ORIGIN_ANNOUNCE_SECONDS_MAX,
            reread_seconds: 10,
            down_seconds: 900,
            scan_seconds: 3600,
            repairs_max: 2,
            repair_bytes_per_second: 64 << 20,
            balance_percent: 10,
            balance_moves_max: 64,
            scrub_seconds: 14 * 24 * 3600,
            changes_kept: 100_000,
        }
    }
}

/// Smallest budget for bodies: two of the largest.
const BODIES_BYTES_MIN: u64 = 32 << 20;
const _: () = assert!(format::limits::RECORD_BYTES_MAX + format::limits::SHARD_BODY_BYTES_MAX <= 32 << 20);
/// Shortest request: the longest wait for changes, and some time to answer.
const REQUEST_SECONDS_MIN: u64 = format::limits::CHANGES_WAIT_SECONDS_MAX as u64 + 10;

impl<'de> Deserialize<'de> for CatalogUrl {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a configuration cannot be used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("{path} is larger than 64 KiB, which no configuration, certificate or key is")]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// The text is not this configuration.
    #[error("the configuration does not read")]
    Toml(#[from] toml::de::Error),
    /// The place is out of bounds.
    #[error("the place is out of bounds")]
    Place(#[from] PlaceError),
    /// A bound is too small.
    #[error("limits.{key} is {found}, and must be at least {min}")]
    Limit {
        /// The key.
        key: &'static str,
        /// What was given.
        found: u64,
        /// The least that works.
        min: u64,
    },
    /// A bound is too large.
    #[error("limits.{key} is {found}, and must be at most {max}")]
    LimitAbove {
        /// The key.
        key: &'static str,
        /// What was given.
        found: u64,
        /// The most that works.
        max: u64,
    },
    /// Nobody said how much of the object store is for this node.
    #[error("an object store does not say how much it takes; write capacity_bytes")]
    Capacity,
    /// The object store cannot be asked as it is written.
    #[error("[bucket] cannot be used")]
    Bucket {
        /// The cause.
        source: object_store::Error,
    },
    /// A file of keys does not read. What is wrong in it is not told, because it would be told in logs.
    #[error("{path} is no file of keys; write access_key_id = \"..\" and secret_access_key = \"..\"")]
    Keys {
        /// The file.
        path: PathBuf,
    },
    /// Two doors want one port.
    #[error("`listen` ({listen}) and `admin` ({admin}) are the same port; give one of them another")]
    Ports {
        /// That of the node API.
        listen: SocketAddr,
        /// That of the operator.
        admin: SocketAddr,
    },
    /// Other nodes cannot connect to "any address".
    #[error("{address} is no address that other nodes can reach; write advertise = \"HOST:PORT\"")]
    Advertise {
        /// The address.
        address: NodeAddress,
    },
    /// The catalog's file lies where the node keeps something else.
    #[error("{} is the node's own, and cannot be the catalog; name another file", path.display())]
    CatalogFile {
        /// The file.
        path: PathBuf,
    },
    /// The file system of `data_dir` is not mounted.
    #[error(
        "{} is a file system of its own by /etc/fstab, and it is not mounted: `data_dir` would lie on another disk, empty; \
         mount it", path.display()
    )]
    NotMounted {
        /// Where it is to be mounted.
        path: PathBuf,
    },
    /// The files of the certificate are not named.
    #[error("the configuration names no certificate; add [tls] with authority, certificate and key")]
    NoTls,
    /// The certificate cannot be used.
    #[error("the identity of [tls] cannot be used")]
    Identity(#[from] IdentityError),
    /// The file of the keys cannot be read, or everybody can.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::from_toml(&read_text(path)?)
    }

    /// Reads the identity from the files that `tls` names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn identity(&self) -> Result<Identity, ConfigError> {
        Ok(self.tls.as_ref().ok_or(ConfigError::NoTls)?.read()?)
    }

    /// Returns the object store that shards lie in, not asked yet. Called on the runtime that shall ask it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn bucket(&self) -> Result<Option<Bucket>, ConfigError> {
        let Some(bucket) = &self.bucket else { return Ok(None) };
        let (store, prefix) = bucket.client()?;
        Ok(Some(Bucket::new(store, bucket.url.to_string(), prefix, self.name.to_string())))
    }

    /// Returns where other nodes reach this one when it listens on `local`.
    #[must_use]
    pub fn advertised(&self, local: SocketAddr) -> NodeAddress {
        self.advertise.clone().unwrap_or_else(|| local.into())
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        self.place.check()?;
        let advertised = self.advertised(self.listen);
        if advertised.ip().is_some_and(|ip| ip.is_unspecified()) {
            return Err(ConfigError::Advertise { address: advertised });
        }
        let is_same = |admin: &SocketAddr| {
            let (one, other) = (self.listen.ip(), admin.ip());
            let overlap = one == other || one.is_unspecified() || other.is_unspecified();
            overlap && self.listen.port() == admin.port() && admin.port() != 0
        };
        if let Some(admin) = self.admin.filter(is_same) {
            return Err(ConfigError::Ports { listen: self.listen, admin });
        }
        if let CatalogUrl::Sqlite(path) = &self.catalog
            && let Ok(inside) = path.strip_prefix(&self.data_dir)
            && inside.iter().next().is_some_and(|first| OWN_NAMES.iter().any(|name| first == *name))
        {
            return Err(ConfigError::CatalogFile { path: path.clone() });
        }
        if self.bucket.is_some() && self.capacity_bytes.is_none() {
            return Err(ConfigError::Capacity);
        }
        self.limits.check()
    }

    /// Checks that the file system is there that the data folder is to lie on.
    pub(crate) fn check_mounted(&self) -> Result<(), ConfigError> {
        mounts::missing(&self.data_dir).map_or(Ok(()), |path| Err(ConfigError::NotMounted { path }))
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("connections_max", self.connections_max.into(), 1),
            ("streams_max", self.streams_max.into(), 1),
            ("disk_calls_max", self.disk_calls_max.into(), 1),
            ("bodies_bytes_max", self.bodies_bytes_max, BODIES_BYTES_MIN),
            ("uploads_max", self.uploads_max.into(), 1),
            ("upload_idle_seconds", self.upload_idle_seconds, 1),
            ("handshake_seconds", self.handshake_seconds, 1),
            ("request_seconds", self.request_seconds, REQUEST_SECONDS_MIN),
            ("drain_seconds", self.drain_seconds, 1),
            ("sweep_seconds", self.sweep_seconds, 1),
            ("announce_seconds", self.announce_seconds, 1),
            ("reread_seconds", self.reread_seconds, 1),
            ("down_seconds", self.down_seconds, self.announce_seconds.saturating_mul(3)),
            ("scan_seconds", self.scan_seconds, 1),
            ("balance_moves_max", self.balance_moves_max.into(), 1),
            ("scrub_seconds", self.scrub_seconds, 4),
            ("changes_kept", self.changes_kept.into(), 1),
        ];
        if let Some((key, found, min)) = bounds.into_iter().find(|(_, found, min)| found < min) {
            return Err(ConfigError::Limit { key, found, min });
        }
        let most = [
            ("announce_seconds", self.announce_seconds, ORIGIN_ANNOUNCE_SECONDS_MAX),
            ("resting_uploads_percent", self.resting_uploads_percent.into(), 100),
        ];
        match most.into_iter().find(|(_, found, max)| found > max) {
            Some((key, found, max)) => Err(ConfigError::LimitAbove { key, found, max }),
            None => Ok(()),
        }
    }

    pub(crate) fn upload_idle(&self) -> Duration {
        Duration::from_secs(self.upload_idle_seconds)
    }

    pub(crate) fn repair_rate(&self) -> Option<u64> {
        Some(self.repair_bytes_per_second).filter(|rate| *rate > 0)
    }

    /// The time a pass over all shards shall take: traffic may put off its end by a third.
    pub(crate) fn scrub_pass(&self) -> Duration {
        Duration::from_secs(self.scrub_seconds) / 4 * 3
    }

    pub(crate) fn request(&self) -> Duration {
        Duration::from_secs(self.request_seconds)
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > CONFIG_BYTES_MAX { Err(ConfigError::Large { path: path.to_owned() }) } else { Ok(text) }
}
