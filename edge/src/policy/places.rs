//! Where viewers are: address -> country, continent, coordinates, and how far around the address that answer holds.
//!
//! Prefixes written by hand win over the database. The table is read once at start and never changes.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use format::Country;
use serde::Deserialize;

use super::gazetteer;
pub use super::gazetteer::{Continent, Coordinates};
use crate::{
    config::{PlacesConfig, PrefixPlace},
    net::common_bits,
};

pub use crate::net::{Net, NetError};

/// What is known of where a viewer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewerPlace {
    /// The country, or unknown.
    pub country: Country,
    /// The continent, if known.
    pub continent: Option<Continent>,
    /// The point to measure from, if known.
    pub coordinates: Option<Coordinates>,
    /// The autonomous system; 0 for unknown.
    pub asn: u32,
}

/// A place and the prefix for all of whose addresses it is the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Located {
    /// The place.
    pub place: ViewerPlace,
    /// Bits of the address that the answer depends on, in the address's own family.
    pub prefix: u8,
}

/// Why the place table cannot be used; the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// The database does not open.
    #[error("the place database {path} does not open")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: maxminddb::MaxMindDbError,
    },
}

impl ViewerPlace {
    /// Nothing known.
    pub const UNKNOWN: Self = Self { country: Country::UNKNOWN, continent: None, coordinates: None, asn: 0 };

    /// Returns what a country alone tells.
    #[must_use]
    pub fn of_country(country: Country) -> Self {
        match gazetteer::country(country) {
            None => Self { country, ..Self::UNKNOWN },
            Some((continent, coordinates)) => {
                Self { country, continent: Some(continent), coordinates: Some(coordinates), asn: 0 }
            }
        }
    }
}

/// Prefixes and the database behind them.
pub struct PlaceTable {
    /// Longest first.
    prefixes: Vec<(Net, ViewerPlace)>,
    database: Option<maxminddb::Reader<Vec<u8>>>,
}

/// What we read of a database entry; city databases have all of it, country ones one of the codes.
#[derive(Deserialize, Default)]
struct DatabaseEntry {
    country_code: Option<String>,
    country: Option<DatabaseCountry>,
    location: Option<DatabaseLocation>,
    autonomous_system_number: Option<u32>,
}

#[derive(Deserialize)]
struct DatabaseCountry {
    iso_code: Option<String>,
}

#[derive(Deserialize)]
struct DatabaseLocation {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl PlaceTable {
    /// Reads the table that a configuration describes. Reads the whole database file into memory.
    ///
    /// # Errors
    /// [`PlacesError`].
    pub fn load(config: &PlacesConfig) -> Result<Self, PlacesError> {
        let database = config.database.as_deref().map(open).transpose()?;
        let mut prefixes: Vec<_> = config.prefix.iter().map(|entry| (entry.prefix, entry.place())).collect();
        prefixes.sort_by_key(|(net, _)| std::cmp::Reverse(net.length()));
        Ok(Self { prefixes, database })
    }

    /// Returns where an address is. Costs a scan of the prefixes and one look-up, about 1 us.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Located {
        let address = address.to_canonical();
        // A longer prefix beside the address makes the answer hold for less than the prefix it was found under.
        let beside = self.prefixes.iter().filter(|(net, _)| !net.holds(address));
        let beside =
            beside.filter_map(|(net, _)| common_bits(net.address(), address)).map(|bits| bits + 1).max().unwrap_or(0);
        let (place, prefix) = match self.prefixes.iter().find(|(net, _)| net.holds(address)) {
            Some((net, place)) => (*place, net.length()),
            None => self.look_up(address).unwrap_or((ViewerPlace::UNKNOWN, 0)),
        };
        Located { place, prefix: prefix.max(beside) }
    }

    fn look_up(&self, address: IpAddr) -> Option<(ViewerPlace, u8)> {
        let found = self.database.as_ref()?.lookup(address).ok()?;
        let prefix = found.network().ok()?.prefix();
        let entry: DatabaseEntry = found.decode().ok().flatten().unwrap_or_default();
        Some((entry.place(), prefix))
    }
}

fn open(path: &Path) -> Result<maxminddb::Reader<Vec<u8>>, PlacesError> {
    maxminddb::Reader::open_readfile(path).map_err(|source| PlacesError::Database { path: path.to_owned(), source })
}

fn on_the_globe(latitude: Option<f64>, longitude: Option<f64>) -> Option<Coordinates> {
    let (latitude, longitude) = (latitude?, longitude?);
    let on = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    on.then_some(Coordinates { latitude, longitude })
}

impl DatabaseEntry {
    fn place(self) -> ViewerPlace {
        let code = self.country_code.or(self.country.and_then(|country| country.iso_code));
        let country = code.and_then(|code| code.parse().ok()).unwrap_or(Country::UNKNOWN);
        let mut place = ViewerPlace::of_country(country);
        place.asn = self.autonomous_system_number.unwrap_or(0);
        if let Some(point) = self.location.and_then(|location| on_the_globe(location.latitude, location.longitude)) {
            place.coordinates = Some(point);
        }
        place
    }
}

impl PrefixPlace {
    fn place(&self) -> ViewerPlace {
        let mut place = ViewerPlace::of_country(self.country);
        if let Some(point) = on_the_globe(self.latitude, self.longitude) {
            place.coordinates = Some(point);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(prefixes: &[(&str, &str)]) -> PlaceTable {
        let prefix = |(prefix, country): &(&str, &str)| PrefixPlace {
            prefix: prefix.parse().unwrap(),
            country: country.parse().unwrap(),
            latitude: None,
            longitude: None,
        };
        PlaceTable::load(&PlacesConfig { database: None, prefix: prefixes.iter().map(prefix).collect() }).unwrap()
    }

    fn at(table: &PlaceTable, address: &str) -> (String, u8) {
        let located = table.locate(address.parse().unwrap());
        (located.place.country.to_string(), located.prefix)
    }

    #[test]
    fn the_longest_prefix_wins_and_the_scope_tells_it_apart_from_its_neighbours() {
        let table = table(&[("10.0.0.0/8", "BE"), ("10.1.0.0/16", "JP"), ("2001:db8::/32", "US")]);
        assert_eq!(at(&table, "10.1.2.3"), ("JP".into(), 16));
        assert_eq!(at(&table, "::ffff:10.1.2.3"), ("JP".into(), 16));
        // 10.1.0.0/16 and 10.200.0.0 part at bit 9, so the answer for the latter holds for a /9.
        assert_eq!(at(&table, "10.200.0.0"), ("BE".into(), 9));
        assert_eq!(at(&table, "10.0.255.255"), ("BE".into(), 16));
        assert_eq!(at(&table, "11.0.0.0"), ("ZZ".into(), 8));
        assert_eq!(at(&table, "2001:db8::1"), ("US".into(), 32));
    }

    #[test]
    fn an_empty_table_knows_nothing_of_everything() {
        let table = table(&[]);
        assert_eq!(table.locate("8.8.8.8".parse().unwrap()), Located { place: ViewerPlace::UNKNOWN, prefix: 0 });
    }
}
