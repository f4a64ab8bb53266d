//! The configuration of an edge: one TOML file, every field documented, checked whole before a port opens.
//!
//! Unknown keys are errors. `edge.sample.toml` beside this crate is a working file and a test.

mod cache;
mod config_error;
mod dns;
mod door;
mod http;
mod https;
mod peers;
mod places;
mod serving;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use client::{IdentityFiles, TracesConfig};
use format::{NodeAddress, NodeName, Place, wire};
use serde::Deserialize;

use self::config_error::check_bounds;
pub use self::https::CertificateFiles;
pub use self::{
    cache::{CacheConfig, DiskConfig},
    config_error::ConfigError,
    dns::{DnsConfig, RefusedName},
    http::HttpConfig,
    https::{AcmeConfig, HttpsConfig},
    peers::PeersConfig,
    places::{PlacesConfig, PrefixPlace},
    serving::{DenylistConfig, LinksConfig},
};
use crate::zone::Zone;

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

/// An origin to begin with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The name in its certificate.
    pub name: NodeName,
    /// Its node API: `HOST:PORT`. A name is resolved at each connection.
    pub address: NodeAddress,
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
        check_bounds(&[("reread_seconds", self.reread_seconds, 1..=3600, "from 1 to 3600")])?;
        self.dns.check()?;
        self.http.check()?;
        self.cache.check()?;
        self.places.check()?;
        self.https.as_ref().map_or(Ok(()), HttpsConfig::check)?;
        self.denylist.as_ref().map_or(Ok(()), DenylistConfig::check)?;
        self.peers.as_ref().map_or(Ok(()), PeersConfig::check)?;
        if self.public.is_empty() && self.http.listen.ip().is_unspecified() {
            return Err(ConfigError::Public);
        }
        if self.dns.listen.is_none() && self.https.as_ref().is_some_and(|https| https.acme.is_some()) {
            return Err(ConfigError::Proof);
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

    /// Returns the names of the zone's name servers.
    #[must_use]
    pub fn nameservers(&self) -> Vec<String> {
        match &*self.dns.nameservers {
            [] => vec![format!("ns1.{}", self.zone)],
            named => named.to_vec(),
        }
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

fn default_reread_seconds() -> u64 {
    10
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
            ("\nwrite_seconds = 30", "\nwrite_seconds = 0"),
            ("\nidle_seconds = 60", "\nidle_seconds = 3601"),
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
    fn a_definite_listener_is_its_own_public_address() {
        let text = SAMPLE
            .replace("public = [\"192.0.2.1\", \"2001:db8::1\"]", "")
            .replace("listen = \"0.0.0.0:80\"", "listen = \"127.0.0.9:80\"");
        assert_eq!(Config::from_toml(&text).unwrap().public_addresses(), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
    }
}
