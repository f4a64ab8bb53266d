//! The HTTP door, as configured.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    time::Duration,
};

use serde::Deserialize;

use super::config_error::{ConfigError, check_bounds};
use crate::net::Net;

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
    /// Seconds for which a viewer may take nothing of an answer; a write of many bytes has one more for each 2 KiB, and
    /// one that waits for others on its connection as many times this as there are. Absent: 30.
    #[serde(default = "default_write_seconds")]
    pub write_seconds: u64,
    /// Seconds after which a connection without a request is closed. Absent: 60.
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: u64,
    /// Threads that serve viewers, from 1 to 1,024. Absent: one for each core of the machine.
    #[serde(default)]
    pub workers: Option<usize>,
}

impl HttpConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (all, of_one) = (self.connections_max as u64, self.connections_per_address_max as u64);
        check_bounds(&[
            ("http.header_seconds", self.header_seconds, 1..=300, "from 1 to 300"),
            ("http.write_seconds", self.write_seconds, 1..=300, "from 1 to 300"),
            ("http.idle_seconds", self.idle_seconds, 1..=3600, "from 1 to 3600"),
            ("http.workers", self.workers() as u64, 1..=1024, "from 1 to 1024"),
            ("http.connections_max", all, 1..=1 << 20, "from 1 to 1048576"),
            ("http.connections_per_address_max", of_one, 1..=1 << 20, "from 1 to 1048576"),
        ])
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    pub(crate) fn header_deadline(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    pub(crate) fn write_deadline(&self) -> Duration {
        Duration::from_secs(self.write_seconds)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// Whether connections from here begin with a PROXY header.
    pub(crate) fn is_balancer(&self, address: IpAddr) -> bool {
        self.balancers.iter().any(|net| net.holds(address.to_canonical()))
    }
}

fn default_connections_max() -> usize {
    8192
}

fn default_connections_per_address_max() -> usize {
    512
}

fn default_header_seconds() -> u64 {
    10
}

fn default_write_seconds() -> u64 {
    30
}

fn default_idle_seconds() -> u64 {
    60
}
