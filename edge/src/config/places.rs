//! Where viewers are, as configured.

use std::path::PathBuf;

use format::Country;
use serde::Deserialize;

use super::config_error::{ConfigError, check_bounds};
use crate::net::Net;

/// Most prefixes written by hand; more belong in a database.
const PREFIXES_MAX: u64 = 4096;

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

impl PlacesConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let prefixes = self.prefix.len() as u64;
        check_bounds(&[("places.prefix (entries)", prefixes, 0..=PREFIXES_MAX, "at most 4096; use a database")])
    }
}
