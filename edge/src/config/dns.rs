//! The DNS door, as configured.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;

use super::config_error::{ConfigError, check_bounds};
use crate::zone::Zone;

/// The DNS door.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// UDP and TCP address. Absent: DNS is not answered, and viewers are led here by other means.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
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

impl DnsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let names = self.nameservers.iter().map(|name| ("dns.nameservers", name));
        for (field, name) in names.chain(self.mailbox.iter().map(|name| ("dns.mailbox", name))) {
            Zone::parse(name).map_err(|source| ConfigError::Name { field, source })?;
        }
        let (all, of_one) = (self.connections_max as u64, self.connections_per_address_max as u64);
        check_bounds(&[
            ("dns.idle_seconds", self.idle_seconds, 1..=300, "from 1 to 300"),
            ("dns.connections_max", all, 1..=1 << 20, "from 1 to 1048576"),
            ("dns.connections_per_address_max", of_one, 1..=1 << 20, "from 1 to 1048576"),
        ])
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

fn default_dns_connections_max() -> usize {
    1024
}

fn default_dns_connections_per_address_max() -> usize {
    32
}

fn default_idle_seconds() -> u64 {
    5
}
