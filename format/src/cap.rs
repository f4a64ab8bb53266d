//! Caps: the owner's limit on how many columns of an object may lie in one place of a given level.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::Place;

/// A level of places (failure domains), widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A country.
    Country,
    /// An operator's region.
    Region,
    /// A company that runs nodes: one bankruptcy, court order or stolen password takes all of them away together.
    Operator,
    /// A building.
    Datacentre,
    /// A failure domain: one fire, flood or cut cable takes everything in it away together.
    Zone,
    /// One node. It never holds two columns of an object, whatever a cap says.
    Node,
}

impl Level {
    /// All levels, widest first.
    pub const ALL: [Self; 6] = [Self::Country, Self::Region, Self::Operator, Self::Datacentre, Self::Zone, Self::Node];

    /// Returns the name of the level.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Region => "region",
            Self::Operator => "operator",
            Self::Datacentre => "datacentre",
            Self::Zone => "zone",
            Self::Node => "node",
        }
    }

    /// Returns the name of the place of this level that contains `place`. The name is empty if it is not known, and
    /// always for nodes, which have names of their own. All unknown places count as one place.
    #[must_use]
    pub fn of(self, place: &Place) -> Cow<'_, str> {
        match self {
            Self::Country => place.country.to_string().into(),
            Self::Region => place.region.as_str().into(),
            Self::Operator => place.operator.as_str().into(),
            Self::Datacentre => place.datacentre.as_str().into(),
            Self::Zone => place.zone.as_str().into(),
            Self::Node => "".into(),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A limit on the columns of one object in one place of a level. Written as `zone=2`: at most 2 columns in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cap {
    /// The kind of place.
    pub level: Level,
    /// Most columns of one object in one place. With zero, no object can be placed.
    pub columns_max: u8,
}

/// Why a text is not a cap. The fault lies with the author of the command or the lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a cap: use country, region, operator, datacentre, zone or node and a number from 1 to 255, such as zone=2"
)]
pub struct CapError {
    /// The text, cut at 40 characters.
    pub found: String,
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.level, self.columns_max)
    }
}

impl FromStr for Cap {
    type Err = CapError;

    fn from_str(text: &str) -> Result<Self, CapError> {
        let read = || {
            let (level, columns) = text.split_once('=')?;
            let level = Level::ALL.into_iter().find(|known| known.as_str() == level)?;
            let cap = Self { level, columns_max: columns.parse().ok().filter(|columns| *columns > 0)? };
            // A cap has one spelling: no sign, no leading zero.
            (cap.to_string() == text).then_some(cap)
        };
        read().ok_or_else(|| CapError { found: text.chars().take(40).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_have_one_spelling() {
        for level in Level::ALL {
            for columns_max in [1, 2, 255] {
                let cap = Cap { level, columns_max };
                assert_eq!(cap.to_string().parse(), Ok(cap));
            }
        }
        for bad in [
            "", "zone", "zone=", "zone=0", "zone=256", "zone=-1", "zone=+1", "zone=01", "zone=1 ", "planet=1", "Zone=1",
        ] {
            assert!(bad.parse::<Cap>().is_err(), "{bad}");
        }
    }
}
