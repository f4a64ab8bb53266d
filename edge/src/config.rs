//! The configuration of an edge: one TOML file, every field documented, checked whole before a port opens.
//!
//! Unknown keys are errors. `edge.sample.toml` beside this crate is a working file and a test.

mod door;
mod peers;

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{IdentityFiles, TracesConfig};
use format::{Country, NodeAddress, NodeName, Place, wire};
use serde::Deserialize;

use peers::PeersConfig;

use crate::{
    net::Net,
    zone::{Zone, ZoneError},
};

/// Least room for ready answers: a worker of many has room for some of the longest heads.
const READY_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Least cache: below it one stripe of the widest profile evicts itself.
const CACHE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Least memory for strips: one stripe of sixteen.
const STRIPS_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Least disk: sixteen of its files.
const DISK_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Most prefixes written by hand; more belong in a database.
const PREFIXES_MAX: usize = 4096;

/// Everything an edge is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The edge's name, the one in its certificate.
    pub name: NodeName,
    /// Where the edge stands.
    pub place: Place,
    /// The zone whose labels are objects, for example `localhost` or `evernear.example`.
    pub zone: Zone,
    /// Addresses that DNS tells viewers. Absent: the address of `http.listen`, which then must be a definite one.
    #[serde(default)]
    pub public: Vec<IpAddr>,
    /// The DNS door.
    pub dns: DnsConfig,
    /// The HTTP door.
    pub http: HttpConfig,
    /// The same door over TLS. Absent: there is none, and a terminator stands in front.
    #[serde(default)]
    pub https: Option<HttpsConfig>,
    /// Signed links. Absent: a token is worth nothing.
    #[serde(default)]
    pub links: Option<LinksConfig>,
    /// What this edge does not serve, whatever owners say. Absent: nothing.
    #[serde(default)]
    pub denylist: Option<DenylistConfig>,
    /// Folder of what the edge remembers over a restart; made when it is not there: nodes, versions of policies,
    /// refused certificates, and, sealed, the certificate of `[https.acme]`. Absent: nothing is remembered, and an
    /// edge that starts while all its seeds are away serves nothing until one answers.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// Seconds between looks at files that may change while the edge runs: the certificate of `https` and the lists of
    /// `denylist`. Absent: 10.
    #[serde(default = "default_reread_seconds")]
    pub reread_seconds: u64,
    /// Where `/metrics`, `/health` and `/ready` are served; keep it off the public network. Absent: nowhere.
    #[serde(default)]
    pub admin: Option<SocketAddr>,
    /// The collector that is told of requests, by OpenTelemetry. Absent: none is.
    #[serde(default)]
    pub traces: Option<TracesConfig>,
    /// What is kept in memory. Absent: 256 MiB of blocks.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Strips for the other edges of the region, and by them. Absent: none, and all strips come from origins.
    #[serde(default)]
    pub peers: Option<PeersConfig>,
    /// Where viewers are. Absent: nobody knows, and everybody counts as being where this edge is.
    #[serde(default)]
    pub places: PlacesConfig,
    /// Files of the identity for talking to origins. Absent: whoever starts the edge brings its own transport.
    #[serde(default)]
    pub tls: Option<IdentityFiles>,
    /// Origins to ask first; the node list they give replaces this one. At least one.
    pub seeds: Vec<Seed>,
}

/// The DNS door.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// UDP and TCP address.
    pub listen: SocketAddr,
    /// Names of the zone's name servers, as in its parent zone. Absent: `ns1.ZONE`.
    #[serde(default)]
    pub nameservers: Vec<String>,
    /// Mailbox of the zone's keeper in the form of a name. Absent: `hostmaster.ZONE`.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// What a viewer is told whose place the owner's policy gives no edge at all. Absent: `nxdomain`.
    #[serde(default)]
    pub refused: RefusedName,
    /// Whether HTTPS records (RFC 9460) are published: where viewers reach TLS on port 443, for a browser that finds
    /// the record insists on it (RFC 9460 section 9.5). Absent: no.
    #[serde(default)]
    pub https_records: bool,
    /// TCP connections at one time; more are closed at once. Absent: 1,024.
    #[serde(default = "default_dns_connections_max")]
    pub connections_max: usize,
    /// TCP connections at one time from one address (IPv6: one /64). Absent: 32.
    #[serde(default = "default_dns_connections_per_address_max")]
    pub connections_per_address_max: usize,
    /// Seconds that a TCP connection may be silent: a question must be whole so long after the last answer, and an
    /// answer be read. Absent: 5 (RFC 7766 section 6.2.3: "on the order of seconds").
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: u64,
}

/// What DNS says of a name whose policy allows no edge for the viewer's place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusedName {
    /// The name does not exist there.
    #[default]
    Nxdomain,
    /// The nearest edges, which answer 451 over HTTP.
    Answer,
}

/// The HTTP door.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// HTTP/1.1 and HTTP/2 (prior knowledge) in clear.
    pub listen: SocketAddr,
    /// Prefixes of balancers, whose connections begin with a PROXY header (version 1 or 2) that names the viewer; so do
    /// theirs to `https.listen`. HTTP/3 is refused them: over UDP there is no such header. Absent: none, and nobody is
    /// believed.
    #[serde(default)]
    pub balancers: Vec<Net>,
    /// Connections at one time. At the limit one that waits for a request gives way. Absent: 8,192.
    #[serde(default = "default_connections_max")]
    pub connections_max: usize,
    /// Connections at one time from one address (IPv6: one /64). Absent: 512.
    #[serde(default = "default_connections_per_address_max")]
    pub connections_per_address_max: usize,
    /// Seconds until a connection that opened must have sent its PROXY header, and its first request's header. Absent:
    /// 10.
    #[serde(default = "default_header_seconds")]
    pub header_seconds: u64,
    /// Threads that serve viewers, from 1 to 1,024. Absent: one for each core of the machine.
    #[serde(default)]
    pub workers: Option<usize>,
}

impl DnsConfig {
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

impl HttpConfig {
    pub(crate) fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    pub(crate) fn header_deadline(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    /// Whether connections from here begin with a PROXY header.
    pub(crate) fn is_balancer(&self, address: IpAddr) -> bool {
        self.balancers.iter().any(|net| net.holds(address.to_canonical()))
    }
}

/// The HTTP door over TLS 1.3: HTTP/1.1, HTTP/2 and HTTP/3. TCP and UDP have connections to themselves, as many as
/// [`HttpConfig`] says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsConfig {
    /// TCP address.
    pub listen: SocketAddr,
    /// Certificates as PEM, the edge's own first: a wildcard of the zone. Read again every
    /// [`Config::reread_seconds`]. Absent: `acme` gets one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The key of the first, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The authority that certifies the zone. Absent: the files say.
    #[serde(default)]
    pub acme: Option<AcmeConfig>,
    /// A file of 64 hex digits, the same at all edges of the zone and nowhere else: it seals session tickets, and what
    /// edges leave with the origins for each other. Absent: sessions are resumed only where they began, and there is no
    /// `acme`.
    #[serde(default)]
    pub secret: Option<PathBuf>,
    /// Whether `http.listen` only sends viewers here. Absent: yes.
    #[serde(default = "default_redirect")]
    pub redirect: bool,
    /// The port that viewers reach, where it is not the one of `listen`. Absent: the one of `listen`.
    #[serde(default)]
    pub public_port: Option<u16>,
    /// Whether HTTP/3 is spoken too, on the UDP port of the same number. Absent: yes.
    #[serde(default = "default_http3")]
    pub http3: bool,
}

/// Links that owners sign, for policies that ask for a token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinksConfig {
    /// The zone's secret, as in [`HttpsConfig::secret`]; `evernear edge link-key` derives an owner's key from it.
    pub secret: PathBuf,
}

/// What an operator does not serve.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenylistConfig {
    /// Lists in the compact denylist format (IPIP-383); where two differ, the later one counts. They are looked
    /// at every [`Config::reread_seconds`].
    pub files: Vec<PathBuf>,
    /// What viewers are told: 410, or 451 where a law is the reason (RFC 7725). Absent: 410.
    #[serde(default = "default_denied_status")]
    pub status: u16,
}

/// A certificate authority that speaks ACME (RFC 8555). It asks the DNS door of any edge for proof, so the zone must be
/// delegated to the edges. Naming one agrees to its terms of service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// Its directory, for example `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// Where it may write to, for example `mailto:ops@evernear.example`. Absent: nowhere.
    #[serde(default)]
    pub contact: Option<String>,
    /// The PEM file of the root that its own HTTPS is trusted by. Absent: the system's roots.
    #[serde(default)]
    pub authority: Option<PathBuf>,
    /// The name it goes by in CAA records (RFC 8659), for example `letsencrypt.org`: then no other may certify the
    /// zone, nor may anybody but this account (RFC 8657). Absent: there is no such record.
    #[serde(default)]
    pub caa: Option<String>,
    /// Seconds between looks at what the zone's edges share: what one wrote, all have after so long and a round trip.
    /// The same at all edges of the zone, because who orders waits twice as long for the others to show the proof.
    /// Absent: 5.
    #[serde(default = "default_look_seconds")]
    pub look_seconds: u64,
    /// Seconds until the next order after one that failed, doubled with each failure up to four hours: authorities
    /// count them (Let's Encrypt: 5 an hour). Absent: 60.
    #[serde(default = "default_retry_seconds")]
    pub retry_seconds: u64,
}

/// The files of a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateFiles<'c> {
    pub(crate) certificate: &'c Path,
    pub(crate) key: &'c Path,
}

impl HttpsConfig {
    /// Returns the files, when it is they that hold the certificate.
    pub(crate) fn files(&self) -> Option<CertificateFiles<'_>> {
        Some(CertificateFiles { certificate: self.certificate.as_deref()?, key: self.key.as_deref()? })
    }

    fn check(&self) -> Result<(), ConfigError> {
        match (&self.certificate, &self.key, &self.acme) {
            (Some(_), Some(_), None) => {}
            (None, None, Some(_)) if self.secret.is_none() => return Err(ConfigError::Secret),
            (None, None, Some(acme)) => {
                if let Some(caa) = &acme.caa {
                    Zone::parse(caa).map_err(|source| ConfigError::Name { field: "https.acme.caa", source })?;
                }
            }
            _ => return Err(ConfigError::Certificate),
        }
        Ok(())
    }
}

/// What is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of decoded blocks. Absent: 256 MiB.
    #[serde(default = "default_block_bytes_max")]
    pub block_bytes_max: u64,
    /// Bytes of decoded blocks on their way from origins at one time; a fill beyond it waits. As many again may
    /// wait for viewers to take them. One owner's objects have at most half of what those of the others leave. Absent:
    /// 64 MiB.
    #[serde(default = "default_fill_bytes_max")]
    pub fill_bytes_max: u64,
    /// Objects kept open, with their records: one that takes more than 16 KiB counts once for each 16 KiB. Absent:
    /// 65,536.
    #[serde(default = "default_objects_max")]
    pub objects_max: u64,
    /// Bytes of answers that are ready, of all workers together: an answer to each target, at most 256 KiB of content
    /// apart, which counts among the blocks. One of a small file takes some 3 KiB. Absent: 256 MiB.
    #[serde(default = "default_ready_bytes_max")]
    pub ready_bytes_max: u64,
    /// Seconds after which a record is asked for again although nobody told of a change. Absent: 300.
    #[serde(default = "default_record_seconds")]
    pub record_seconds: u64,
    /// Seconds for which a name stays unknown once no node knew it. Absent: 5.
    #[serde(default = "default_unknown_seconds")]
    pub unknown_seconds: u64,
    /// What is kept on a disk under it. Absent: nothing.
    #[serde(default)]
    pub disk: Option<DiskConfig>,
}

/// What is kept on a local disk, as encrypted as origins have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// A folder of this edge alone; made if it is not there.
    pub path: PathBuf,
    /// Bytes of its files, at least 64 MiB.
    pub bytes_max: u64,
}

/// Where viewers are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacesConfig {
    /// A `MaxMind` database (`country_code`, or `country.iso_code` with `location`). Absent: only the prefixes count.
    #[serde(default)]
    pub database: Option<PathBuf>,
    /// Prefixes by hand; they win over the database, the longest over the shorter.
    #[serde(default)]
    pub prefix: Vec<PrefixPlace>,
}

/// A prefix and where its addresses are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixPlace {
    /// The prefix, for example `10.0.0.0/8`.
    pub prefix: Net,
    /// The country.
    pub country: Country,
    /// Degrees north. Absent: a point in the country; then `longitude` is absent too.
    #[serde(default)]
    pub latitude: Option<f64>,
    /// Degrees east.
    #[serde(default)]
    pub longitude: Option<f64>,
}

/// An origin to begin with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The name in its certificate.
    pub name: NodeName,
    /// Its node API: `HOST:PORT`. A name is resolved at each connection.
    pub address: NodeAddress,
}

/// Why a configuration cannot be used; the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("the configuration is not understood")]
    Toml(#[from] toml::de::Error),
    /// The place is out of range.
    #[error("`place` is wrong")]
    Place(#[from] format::PlaceError),
    /// A name server or mailbox is no name.
    #[error("`{field}` is no DNS name")]
    Name {
        /// The field.
        field: &'static str,
        /// Why.
        source: ZoneError,
    },
    /// A number is out of bounds.
    #[error("`{field}` is {found}, but must be {bound}")]
    Bound {
        /// The field.
        field: &'static str,
        /// What was given.
        found: u64,
        /// What is allowed.
        bound: &'static str,
    },
    /// No address to tell viewers.
    #[error("`public` is missing and `http.listen` is on every address; write the addresses that viewers reach")]
    Public,
    /// Nothing to tell other edges.
    #[error("`peers.address` is missing and `peers.listen` is on every address; write what the other edges reach")]
    PeerAddress,
    /// No certificate, or two.
    #[error("`https` needs either `certificate` and `key` or `acme`")]
    Certificate,
    /// Nothing to seal a certificate with.
    #[error("`https.acme` needs `https.secret`: the edges share the certificate sealed by it")]
    Secret,
    /// No origin to ask.
    #[error("`seeds` is empty; name at least one origin")]
    Seeds,
    /// Two doors in one place.
    #[error("`{first}` ({first_address}) and `{second}` ({second_address}) cannot both be had; give each its own port")]
    Shared {
        /// The one.
        first: &'static str,
        /// Its address.
        first_address: SocketAddr,
        /// The other.
        second: &'static str,
        /// Its address.
        second_address: SocketAddr,
    },
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types do not say. [`crate::Edge::start`] checks again, so that a configuration made in code
    /// counts too.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.place.check()?;
        for name in &self.dns.nameservers {
            Zone::parse(name).map_err(|source| ConfigError::Name { field: "dns.nameservers", source })?;
        }
        if let Some(mailbox) = &self.dns.mailbox {
            Zone::parse(mailbox).map_err(|source| ConfigError::Name { field: "dns.mailbox", source })?;
        }
        let disk_bytes = self.cache.disk.as_ref().map_or(DISK_BYTES_MIN, |disk| disk.bytes_max);
        let [strips, patience] = self.peers.as_ref().map_or_else(
            || [peers::default_strip_bytes_max(), peers::default_patience_ms()],
            |peers| [peers.strip_bytes_max, peers.patience_ms],
        );
        let acme = self.https.as_ref().and_then(|https| https.acme.as_ref());
        let [look, retry] = acme.map_or([1; 2], |acme| [acme.look_seconds, acme.retry_seconds]);
        let bounds = [
            ("reread_seconds", self.reread_seconds, 1..=3600, "from 1 to 3600"),
            ("dns.idle_seconds", self.dns.idle_seconds, 1..=300, "from 1 to 300"),
            ("http.header_seconds", self.http.header_seconds, 1..=300, "from 1 to 300"),
            ("https.acme.look_seconds", look, 1..=300, "from 1 to 300"),
            ("https.acme.retry_seconds", retry, 1..=14_400, "from 1 to 14400"),
            ("cache.block_bytes_max", self.cache.block_bytes_max, CACHE_BYTES_MIN..=u64::MAX, "at least 16 MiB"),
            ("cache.fill_bytes_max", self.cache.fill_bytes_max, CACHE_BYTES_MIN..=1 << 40, "from 16 MiB to 1 TiB"),
            ("cache.objects_max", self.cache.objects_max, 16..=u64::MAX, "at least 16"),
            ("cache.ready_bytes_max", self.cache.ready_bytes_max, READY_BYTES_MIN..=1 << 40, "from 16 MiB to 1 TiB"),
            ("cache.record_seconds", self.cache.record_seconds, 1..=86_400, "from 1 to 86400"),
            ("cache.unknown_seconds", self.cache.unknown_seconds, 1..=300, "from 1 to 300"),
            ("cache.disk.bytes_max", disk_bytes, DISK_BYTES_MIN..=u64::MAX, "at least 64 MiB"),
            ("peers.strip_bytes_max", strips, STRIPS_BYTES_MIN..=1 << 40, "from 4 MiB to 1 TiB"),
            ("peers.patience_ms", patience, 1..=10_000, "from 1 to 10000"),
            ("http.workers", self.http.workers() as u64, 1..=1024, "from 1 to 1024"),
            ("http.connections_max", self.http.connections_max as u64, 1..=1 << 20, "from 1 to 1048576"),
            ("dns.connections_max", self.dns.connections_max as u64, 1..=1 << 20, "from 1 to 1048576"),
            (
                "dns.connections_per_address_max",
                self.dns.connections_per_address_max as u64,
                1..=1 << 20,
                "from 1 to 1048576",
            ),
            (
                "http.connections_per_address_max",
                self.http.connections_per_address_max as u64,
                1..=1 << 20,
                "from 1 to 1048576",
            ),
            (
                "places.prefix (entries)",
                self.places.prefix.len() as u64,
                0..=PREFIXES_MAX as u64,
                "at most 4096; use a database",
            ),
        ];
        if let Some(status) =
            self.denylist.as_ref().map(|list| list.status).filter(|status| !matches!(status, 410 | 451))
        {
            return Err(ConfigError::Bound { field: "denylist.status", found: status.into(), bound: "410 or 451" });
        }
        for (field, found, range, bound) in bounds {
            if !range.contains(&found) {
                return Err(ConfigError::Bound { field, found, bound });
            }
        }
        if let Some(https) = &self.https {
            https.check()?;
        }
        if let Some(peers) = &self.peers {
            peers.check()?;
        }
        if self.public.is_empty() && self.http.listen.ip().is_unspecified() {
            return Err(ConfigError::Public);
        }
        if self.seeds.is_empty() {
            return Err(ConfigError::Seeds);
        }
        self.check_doors()
    }

    pub(crate) fn reread_every(&self) -> Duration {
        Duration::from_secs(self.reread_seconds)
    }

    /// Returns the addresses that viewers reach.
    #[must_use]
    pub fn public_addresses(&self) -> Vec<IpAddr> {
        if self.public.is_empty() { vec![self.http.listen.ip()] } else { self.public.clone() }
    }

    /// Returns the seeds as a first node list. Their places are not known yet, so they count as being where the edge
    /// is.
    #[must_use]
    pub fn seed_nodes(&self) -> Vec<wire::NodeEntry> {
        let entry = |seed: &Seed| wire::NodeEntry {
            name: seed.name.clone(),
            role: wire::Role::Origin,
            address: Some(seed.address.clone()),
            public: Vec::new(),
            place: self.place.clone(),
            capacity_bytes: 0,
            free_bytes: 0,
            load: 0,
            draining: false,
            seen: 0,
        };
        self.seeds.iter().map(entry).collect()
    }
}

impl CacheConfig {
    pub(crate) fn record_time(&self) -> Duration {
        Duration::from_secs(self.record_seconds)
    }

    pub(crate) fn unknown_time(&self) -> Duration {
        Duration::from_secs(self.unknown_seconds)
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            block_bytes_max: default_block_bytes_max(),
            fill_bytes_max: default_fill_bytes_max(),
            objects_max: default_objects_max(),
            ready_bytes_max: default_ready_bytes_max(),
            record_seconds: default_record_seconds(),
            unknown_seconds: default_unknown_seconds(),
            disk: None,
        }
    }
}

fn default_block_bytes_max() -> u64 {
    256 * 1024 * 1024
}

fn default_fill_bytes_max() -> u64 {
    64 * 1024 * 1024
}

fn default_objects_max() -> u64 {
    65_536
}

fn default_ready_bytes_max() -> u64 {
    256 * 1024 * 1024
}

fn default_record_seconds() -> u64 {
    300
}

fn default_unknown_seconds() -> u64 {
    5
}

fn default_reread_seconds() -> u64 {
    10
}

fn default_idle_seconds() -> u64 {
    5
}

fn default_header_seconds() -> u64 {
    10
}

fn default_look_seconds() -> u64 {
    5
}

fn default_retry_seconds() -> u64 {
    60
}

fn default_http3() -> bool {
    true
}

fn default_redirect() -> bool {
    true
}

fn default_dns_connections_max() -> usize {
    1024
}

fn default_dns_connections_per_address_max() -> usize {
    32
}

fn default_denied_status() -> u16 {
    410
}

fn default_connections_max() -> usize {
    8192
}

fn default_connections_per_address_max() -> usize {
    512
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../edge.sample.toml");

    #[test]
    fn the_sample_is_a_working_file() {
        let config = Config::from_toml(SAMPLE).unwrap();
        assert_eq!((config.name.as_str(), config.zone.as_str()), ("edge-brussels", "evernear.example"));
        assert_eq!(config.seed_nodes().len(), config.seeds.len());
        assert!(!config.places.prefix.is_empty());
    }

    #[test]
    fn unknown_keys_and_values_out_of_bounds_are_refused() {
        for (from, to) in [
            ("zone = ", "zones = "),
            ("evernear.example", "-evernear.example"),
            ("\ncountry = \"BE\"", "\ncountry = \"be\""),
            ("block_bytes_max = 268435456", "block_bytes_max = 1000"),
            ("ready_bytes_max = 268435456", "ready_bytes_max = 1000"),
            ("\nlatitude = 50.85", "\nlatitude = 150.85"),
            ("\nreread_seconds = 10", "\nreread_seconds = 0"),
            ("\nreread_seconds = 10", "\nreread_seconds = 3601"),
            ("\nidle_seconds = 5", "\nidle_seconds = 0"),
            ("\nheader_seconds = 10", "\nheader_seconds = 301"),
            ("prefix = \"10.0.0.0/8\"", "prefix = \"10.0.0.1/8\""),
            ("refused = \"nxdomain\"", "refused = \"servfail\""),
            ("key = \"/etc/evernear/evernear.example.key\"\n", ""),
            ("\n# [https.acme]\n# directory", "\n[https.acme]\ndirectory"),
            ("public = [\"192.0.2.1\", \"2001:db8::1\"]", ""),
        ] {
            assert!(SAMPLE.contains(from), "{from}");
            assert!(Config::from_toml(&SAMPLE.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn the_periods_of_acme_have_bounds() {
        let acme = |more: &str| {
            let acme = format!("secret = \"/s\"\n[https.acme]\ndirectory = \"https://ca.example\"\n{more}");
            let files = [
                "certificate = \"/etc/evernear/evernear.example.pem\"\n",
                "key = \"/etc/evernear/evernear.example.key\"\n",
            ];
            let without = |sample: String, line: &str| {
                assert!(sample.contains(line), "{line}");
                sample.replacen(line, "", 1)
            };
            let sample = files.into_iter().fold(SAMPLE.to_owned(), without);
            Config::from_toml(&sample.replacen("[cache]", &format!("{acme}\n[cache]"), 1))
        };
        let periods = |config: Config| config.https.unwrap().acme.map(|acme| (acme.look_seconds, acme.retry_seconds));
        assert_eq!(periods(acme("").unwrap()), Some((5, 60)));
        assert_eq!(periods(acme("look_seconds = 300\nretry_seconds = 14400").unwrap()), Some((300, 14_400)));
        for wrong in ["look_seconds = 0", "look_seconds = 301", "retry_seconds = 0", "retry_seconds = 14401"] {
            assert!(matches!(acme(wrong), Err(ConfigError::Bound { .. })), "{wrong}");
        }
    }

    #[test]
    fn two_doors_do_not_share_a_port() {
        let with = |from: &str, to: &str| {
            assert!(SAMPLE.contains(from), "{from}");
            Config::from_toml(&SAMPLE.replacen(from, to, 1))
        };
        let (admin, https) = ("admin = \"127.0.0.1:9100\"", "listen = \"0.0.0.0:443\"");
        for (from, to, says) in [
            (admin, "admin = \"127.0.0.1:80\"", "`http.listen` (0.0.0.0:80) and `admin` (127.0.0.1:80)"),
            (admin, "admin = \"127.0.0.1:443\"", "`https.listen`"),
            (admin, "admin = \"[::]:53\"", "`dns.listen`"),
            (https, "listen = \"0.0.0.0:80\"", "`http.listen`"),
            (https, "listen = \"0.0.0.0:53\"", "`dns.listen`"),
        ] {
            let refused = with(from, to).unwrap_err();
            assert!(
                matches!(refused, ConfigError::Shared { .. }) && refused.to_string().contains(says),
                "{to}: {refused}"
            );
        }
        for (from, to) in [(admin, "admin = \"[::1]:80\""), (https, "listen = \"0.0.0.0:0\"")] {
            with(from, to).unwrap();
        }
    }

    #[test]
    fn a_definite_listener_is_its_own_public_address() {
        let text = SAMPLE
            .replace("public = [\"192.0.2.1\", \"2001:db8::1\"]", "")
            .replace("listen = \"0.0.0.0:80\"", "listen = \"127.0.0.9:80\"");
        assert_eq!(Config::from_toml(&text).unwrap().public_addresses(), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
    }
}
