//! Bringing strips for the other edges of the region, and having them bring some.

use std::{net::SocketAddr, time::Duration};

use format::NodeAddress;
use serde::Deserialize;

use super::config_error::{ConfigError, check_bounds};

/// Least memory for strips: one stripe of sixteen.
const STRIPS_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Bringing strips for the other edges of the region.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersConfig {
    /// Where the other edges are answered, over TLS with the certificates of `[tls]`.
    pub listen: SocketAddr,
    /// What the other edges connect to: HOST:PORT. Absent: the address of `listen`, which then must be a definite one.
    #[serde(default)]
    pub address: Option<NodeAddress>,
    /// Bytes of strips kept in memory for them, as encrypted as origins have them. Absent: 64 MiB.
    #[serde(default = "default_strip_bytes_max")]
    pub strip_bytes_max: u64,
    /// Milliseconds that another edge has for a strip, beside the time after which the origin itself is late. Then the
    /// origin is asked. Absent: 100.
    #[serde(default = "default_patience_ms")]
    pub patience_ms: u64,
}

impl PeersConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.address.is_none() && self.listen.ip().is_unspecified() {
            return Err(ConfigError::PeerAddress);
        }
        check_bounds(&[
            ("peers.strip_bytes_max", self.strip_bytes_max, STRIPS_BYTES_MIN..=1 << 40, "from 4 MiB to 1 TiB"),
            ("peers.patience_ms", self.patience_ms, 1..=10_000, "from 1 to 10000"),
        ])
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }
}

fn default_strip_bytes_max() -> u64 {
    64 * 1024 * 1024
}

fn default_patience_ms() -> u64 {
    100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const SAMPLE: &str = include_str!("../../edge.sample.toml");

    fn with(peers: &str) -> Result<Config, ConfigError> {
        Config::from_toml(&SAMPLE.replacen("[cache]", &format!("[peers]\n{peers}\n[cache]"), 1))
    }

    #[test]
    fn other_edges_are_told_an_address_that_they_can_reach() {
        let peers = with("listen = \"127.0.0.9:7402\"").unwrap().peers.unwrap();
        assert_eq!((peers.strip_bytes_max, peers.patience()), (64 << 20, Duration::from_millis(100)));
        assert!(matches!(with("listen = \"0.0.0.0:7402\""), Err(ConfigError::PeerAddress)));
        with("listen = \"0.0.0.0:7402\"\naddress = \"e1.example.org:7402\"").unwrap();
    }

    #[test]
    fn the_bounds_of_peers_hold_and_their_port_is_their_own() {
        for wrong in ["patience_ms = 0", "patience_ms = 10001", "strip_bytes_max = 4194303"] {
            let refused = with(&format!("listen = \"127.0.0.9:7402\"\n{wrong}"));
            assert!(matches!(refused, Err(ConfigError::Bound { .. })), "{wrong}");
        }
        with("listen = \"127.0.0.9:7402\"\npatience_ms = 10000\nstrip_bytes_max = 4194304").unwrap();
        assert!(matches!(with("listen = \"127.0.0.1:9100\""), Err(ConfigError::Shared { .. })), "the operator's port");
    }
}
