//! The places of the simulated world: sites of origins and edges, and the addresses of viewers in each country.

use format::Place;

/// A node's name and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// Name of the node, and of its zone.
    pub name: &'static str,
    /// Country code.
    pub country: &'static str,
    /// Region.
    pub region: &'static str,
    /// Who runs it.
    pub operator: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

const fn site(
    name: &'static str,
    [country, region, operator]: [&'static str; 3],
    latitude: f64,
    longitude: f64,
) -> Site {
    Site { name, country, region, operator, latitude, longitude }
}

/// Six origins, six zones, four continents, three operators.
pub const ORIGINS: [Site; 6] = [
    site("ghent", ["BE", "europe", "north"], 51.05, 3.72),
    site("milan", ["IT", "europe", "south"], 45.46, 9.19),
    site("virginia", ["US", "america", "north"], 39.04, -77.49),
    site("sao-paulo", ["BR", "america", "south"], -23.55, -46.63),
    site("tokyo", ["JP", "asia", "east"], 35.68, 139.69),
    site("nairobi", ["KE", "africa", "east"], -1.29, 36.82),
];

/// Three edges; the first is the one a browser on this machine reaches.
pub const EDGES: [Site; 3] = [
    site("edge-brussels", ["BE", "europe", "north"], 50.85, 4.35),
    site("edge-new-york", ["US", "america", "north"], 40.71, -74.01),
    site("edge-singapore", ["SG", "asia", "east"], 1.35, 103.82),
];

/// Viewers of one country: the network that DNS resolvers report for them, and the network from which they connect.
#[derive(Debug, Clone, Copy)]
pub struct Viewer {
    /// Country code.
    pub country: &'static str,
    /// Continent, for people.
    pub continent: &'static str,
    /// A documentation prefix (RFC 5737, RFC 2544) for EDNS client subnet.
    pub subnet: &'static str,
    /// A loopback prefix whose addresses are taken as that country's.
    pub prefix: &'static str,
    /// An address in it to connect from.
    pub address: &'static str,
}

/// Viewers on four continents. The place of every other address is unknown.
pub const VIEWERS: [Viewer; 4] = [
    Viewer {
        country: "DE",
        continent: "Europe",
        subnet: "192.0.2.0/24",
        prefix: "127.10.0.0/16",
        address: "127.10.0.1",
    },
    Viewer {
        country: "CA",
        continent: "America",
        subnet: "198.51.100.0/24",
        prefix: "127.20.0.0/16",
        address: "127.20.0.1",
    },
    Viewer {
        country: "AU",
        continent: "Oceania",
        subnet: "203.0.113.0/24",
        prefix: "127.30.0.0/16",
        address: "127.30.0.1",
    },
    Viewer {
        country: "KP",
        continent: "Asia",
        subnet: "198.18.0.0/24",
        prefix: "127.40.0.0/16",
        address: "127.40.0.1",
    },
];

impl Site {
    /// Returns the place of the site. No other site shares its zone or its building.
    ///
    /// # Panics
    /// Never: the tables above are tested.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            country: self.country.parse().expect("the tables hold country codes"),
            region: self.region.to_owned(),
            zone: self.name.to_owned(),
            operator: self.operator.to_owned(),
            datacentre: format!("{}-1", self.name),
            latitude: self.latitude,
            longitude: self.longitude,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_hold_places() {
        for site in ORIGINS.iter().chain(&EDGES) {
            site.place().check().unwrap();
            site.name.parse::<format::NodeName>().unwrap();
        }
    }
}
