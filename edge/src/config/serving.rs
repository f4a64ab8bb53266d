//! What an edge serves beside what owners say: signed links, and what an operator does not serve. As configured.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;

/// Links that owners sign, for policies that ask for a token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinksConfig {
    /// The zone's secret, as in [`super::HttpsConfig::secret`]; `evernear edge link-key` derives an owner's key from
    /// it.
    pub secret: PathBuf,
}

/// What an operator does not serve.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenylistConfig {
    /// Lists in the compact denylist format (IPIP-383); where two differ, the later one counts. They are looked
    /// at every [`super::Config::reread_seconds`].
    pub files: Vec<PathBuf>,
    /// What viewers are told: 410, or 451 where a law is the reason (RFC 7725). Absent: 410.
    #[serde(default = "default_denied_status")]
    pub status: u16,
}

impl DenylistConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.status {
            410 | 451 => Ok(()),
            found => Err(ConfigError::Bound { field: "denylist.status", found: found.into(), bound: "410 or 451" }),
        }
    }
}

fn default_denied_status() -> u16 {
    410
}
