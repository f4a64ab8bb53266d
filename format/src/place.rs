//! Places: the location of a node or a viewer, the names of nodes, and the domains that an owner may want or refuse.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits::{DOMAIN_NAME_BYTES_MAX, NODE_NAME_BYTES_MAX};

/// Why a text is not a name or a place. The fault lies with the author of the configuration or the command.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlaceError {
    /// Not a country code.
    #[error("{found:?} is not an ISO 3166-1 alpha-2 country code in capitals, such as BE")]
    Country {
        /// The text, cut at 80 characters.
        found: String,
    },
    /// Not a node name.
    #[error("{found:?} is not a node name: 1 to {NODE_NAME_BYTES_MAX} of a-z, 0-9 and inner hyphens")]
    NodeName {
        /// The text, cut at 80 characters.
        found: String,
    },
    /// Not a domain.
    #[error("{found:?} is not a place: use country:BE, region:eu-west, zone:bru1, operator:acme or datacentre:bru-dc2")]
    Domain {
        /// The text, cut at 80 characters.
        found: String,
    },
    /// Not the name of a region, zone, operator or datacentre.
    #[error("{found:?} is not a name of a place: 1 to {DOMAIN_NAME_BYTES_MAX} of a-z, 0-9 and hyphens")]
    Name {
        /// The text, cut at 80 characters.
        found: String,
    },
    /// A coordinate out of range.
    #[error("latitude {latitude} or longitude {longitude} is out of range (degrees, -90..90 and -180..180)")]
    Coordinates {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
    },
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// An ISO 3166-1 alpha-2 country code; `ZZ` stands for unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country is not known.
    pub const UNKNOWN: Self = Self(*b"ZZ");

    /// Returns the two letters packed into one number, the form that policies see: first << 8 | second, or 0 for
    /// unknown.
    #[must_use]
    pub fn packed(self) -> u16 {
        if self == Self::UNKNOWN { 0 } else { u16::from_be_bytes(self.0) }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.0.map(char::from);
        write!(f, "{a}{b}")
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Country {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([*a, *b])),
            _ => Err(PlaceError::Country { found: cut(text) }),
        }
    }
}

text_serde!(Country);

/// The name of a node: one DNS label, unique in its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Box<str>);

impl NodeName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let symbols = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ok = (1..=NODE_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(symbols)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok { Ok(Self(text.into())) } else { Err(PlaceError::NodeName { found: cut(text) }) }
    }
}

text_serde!(NodeName);

/// The location of a node or a viewer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The country.
    pub country: Country,
    /// The operator's name of the region, for example `eu-west`.
    pub region: String,
    /// The failure domain: one fire, flood or cut cable takes everything in it away together.
    pub zone: String,
    /// The company that runs the node: one bankruptcy, court order or stolen password takes all its nodes away
    /// together. Empty if not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operator: String,
    /// The building. Empty if not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datacentre: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

impl Place {
    /// Checks names and coordinates, both from the configuration and from foreign bytes.
    ///
    /// # Errors
    /// [`PlaceError`] with the offending text or coordinates.
    pub fn check(&self) -> Result<(), PlaceError> {
        let known = [&self.operator, &self.datacentre].into_iter().filter(|name| !name.is_empty());
        for name in [&self.region, &self.zone].into_iter().chain(known) {
            if !is_domain_name(name) {
                return Err(PlaceError::Name { found: cut(name) });
            }
        }
        if !(-90.0..=90.0).contains(&self.latitude) || !(-180.0..=180.0).contains(&self.longitude) {
            return Err(PlaceError::Coordinates { latitude: self.latitude, longitude: self.longitude });
        }
        Ok(())
    }

    /// Returns the great-circle distance in kilometres (haversine formula, mean Earth radius 6,371 km).
    #[must_use]
    pub fn kilometres_to(&self, other: &Self) -> f64 {
        let [lat_a, lat_b] = [self.latitude, other.latitude].map(f64::to_radians);
        let half_lat = (lat_b - lat_a) / 2.0;
        let half_lon = (other.longitude - self.longitude).to_radians() / 2.0;
        let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
        2.0 * 6371.0 * h.sqrt().clamp(0.0, 1.0).asin()
    }
}

fn is_domain_name(text: &str) -> bool {
    (1..=DOMAIN_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A set of places that an owner may want or refuse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// `country:BE`.
    Country(Country),
    /// `region:eu-west`.
    Region(String),
    /// `zone:bru1`.
    Zone(String),
    /// `operator:acme`.
    Operator(String),
    /// `datacentre:bru-dc2`.
    Datacentre(String),
}

impl Domain {
    /// Returns whether shards may lie at a place. It must be in none of `refused`, and in one of `wanted` unless that
    /// is empty.
    #[must_use]
    pub fn allow(wanted: &[Self], refused: &[Self], place: &Place) -> bool {
        let is_in = |domains: &[Self]| domains.iter().any(|domain| domain.holds(place));
        (wanted.is_empty() || is_in(wanted)) && !is_in(refused)
    }

    /// Returns whether a place is in the domain.
    #[must_use]
    pub fn holds(&self, place: &Place) -> bool {
        match self {
            Self::Country(country) => *country == place.country,
            Self::Region(region) => *region == place.region,
            Self::Zone(zone) => *zone == place.zone,
            Self::Operator(operator) => *operator == place.operator,
            Self::Datacentre(datacentre) => *datacentre == place.datacentre,
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Country(country) => write!(f, "country:{country}"),
            Self::Region(region) => write!(f, "region:{region}"),
            Self::Zone(zone) => write!(f, "zone:{zone}"),
            Self::Operator(operator) => write!(f, "operator:{operator}"),
            Self::Datacentre(datacentre) => write!(f, "datacentre:{datacentre}"),
        }
    }
}

impl FromStr for Domain {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.split_once(':') {
            Some(("country", code)) => code.parse().map(Self::Country),
            Some(("region", name)) if is_domain_name(name) => Ok(Self::Region(name.to_owned())),
            Some(("zone", name)) if is_domain_name(name) => Ok(Self::Zone(name.to_owned())),
            Some(("operator", name)) if is_domain_name(name) => Ok(Self::Operator(name.to_owned())),
            Some(("datacentre", name)) if is_domain_name(name) => Ok(Self::Datacentre(name.to_owned())),
            _ => Err(PlaceError::Domain { found: cut(text) }),
        }
    }
}

text_serde!(Domain);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_great_circles() {
        let at = |latitude, longitude| Place {
            country: Country::UNKNOWN,
            region: "r".into(),
            zone: "z".into(),
            operator: String::new(),
            datacentre: String::new(),
            latitude,
            longitude,
        };
        let (brussels, tokyo) = (at(50.85, 4.35), at(35.68, 139.69));
        assert!((brussels.kilometres_to(&tokyo) - 9450.0).abs() < 50.0);
        assert!(brussels.kilometres_to(&brussels) < 1e-6);
        assert!((at(0.0, 0.0).kilometres_to(&at(0.0, 180.0)) - 20015.0).abs() < 1.0);
        assert!(at(91.0, 0.0).check().is_err() && at(f64::NAN, 0.0).check().is_err());
    }

    #[test]
    fn names_have_one_spelling() {
        assert_eq!("BE".parse::<Country>().map(Country::packed), Ok(0x4245));
        for bad in ["be", "B", "BEL", "B1", ""] {
            assert!(bad.parse::<Country>().is_err(), "{bad}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", &"a".repeat(33)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        for good in ["country:BE", "region:eu-west", "zone:bru1", "operator:acme", "datacentre:bru-dc2"] {
            assert_eq!(good.parse::<Domain>().map(|d| d.to_string()).as_deref(), Ok(good));
        }
        assert!("planet:earth".parse::<Domain>().is_err() && "zone:".parse::<Domain>().is_err());
    }

    #[test]
    fn what_is_not_known_is_not_written_and_lies_in_no_place_of_its_kind() {
        let text = r#"{"country":"BE","region":"eu","zone":"z","latitude":50.0,"longitude":4.0}"#;
        let place: Place = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&place).unwrap(), text);
        let known = Place { operator: "acme".into(), datacentre: "dc1".into(), ..place.clone() };
        for domain in ["operator:acme", "datacentre:dc1"].map(|text| text.parse::<Domain>().unwrap()) {
            assert!(domain.holds(&known) && !domain.holds(&place));
        }
        assert!(place.check().is_ok() && known.check().is_ok());
        assert!(Place { operator: "Acme".into(), ..place }.check().is_err());
        assert_eq!(serde_json::from_str::<Place>(&serde_json::to_string(&known).unwrap()).unwrap(), known);
    }
}
