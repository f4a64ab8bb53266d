//! Countries as places: continent, and a point near which most of its people live.
//!
//! Most address databases give a country and no coordinates; steering then measures from this point. Within half a
//! degree of nothing in particular: it decides which continent's edge is near, not which street's.

use format::{Country, Place};
use serde::Deserialize;

use Continent::{Africa, Antarctica, Asia, Europe, NorthAmerica, Oceania, SouthAmerica};

/// A point on the globe, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinates {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// A continent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Continent {
    Africa,
    Antarctica,
    Asia,
    Europe,
    NorthAmerica,
    Oceania,
    SouthAmerica,
}

impl Coordinates {
    /// Returns the coordinates of a node.
    #[must_use]
    pub fn of(place: &Place) -> Self {
        Self { latitude: place.latitude, longitude: place.longitude }
    }

    /// Returns the great-circle distance in kilometres (haversine formula).
    #[must_use]
    pub fn kilometres_to(self, place: &Place) -> f64 {
        let from = Place { latitude: self.latitude, longitude: self.longitude, ..place.clone() };
        from.kilometres_to(place)
    }
}

/// Sorted by code. Degrees north, degrees east.
#[rustfmt::skip]
const COUNTRIES: [([u8; 2], Continent, f64, f64); 249] = [
    (*b"AD", Europe, 42.5, 1.6), (*b"AE", Asia, 24.0, 54.0), (*b"AF", Asia, 34.0, 66.0),
    (*b"AG", NorthAmerica, 17.1, -61.8), (*b"AI", NorthAmerica, 18.2, -63.1), (*b"AL", Europe, 41.0, 20.0),
    (*b"AM", Asia, 40.1, 44.6), (*b"AO", Africa, -12.0, 17.0), (*b"AQ", Antarctica, -77.8, 166.7),
    (*b"AR", SouthAmerica, -34.6, -62.0), (*b"AS", Oceania, -14.3, -170.7), (*b"AT", Europe, 47.8, 14.5),
    (*b"AU", Oceania, -33.0, 147.0), (*b"AW", NorthAmerica, 12.5, -70.0), (*b"AX", Europe, 60.1, 20.0),
    (*b"AZ", Asia, 40.4, 48.0), (*b"BA", Europe, 44.0, 18.0), (*b"BB", NorthAmerica, 13.1, -59.6),
    (*b"BD", Asia, 23.8, 90.3), (*b"BE", Europe, 50.8, 4.5), (*b"BF", Africa, 12.4, -1.6),
    (*b"BG", Europe, 42.7, 25.0), (*b"BH", Asia, 26.1, 50.5), (*b"BI", Africa, -3.4, 29.9),
    (*b"BJ", Africa, 7.5, 2.4), (*b"BL", NorthAmerica, 17.9, -62.8), (*b"BM", NorthAmerica, 32.3, -64.8),
    (*b"BN", Asia, 4.9, 114.9), (*b"BO", SouthAmerica, -17.0, -66.0), (*b"BQ", NorthAmerica, 12.2, -68.3),
    (*b"BR", SouthAmerica, -18.0, -47.0), (*b"BS", NorthAmerica, 25.0, -77.4), (*b"BT", Asia, 27.5, 90.0),
    (*b"BV", Antarctica, -54.4, 3.4), (*b"BW", Africa, -23.0, 25.0), (*b"BY", Europe, 53.7, 28.0),
    (*b"BZ", NorthAmerica, 17.5, -88.5), (*b"CA", NorthAmerica, 46.0, -77.0), (*b"CC", Asia, -12.2, 96.8),
    (*b"CD", Africa, -4.0, 20.0), (*b"CF", Africa, 5.0, 19.0), (*b"CG", Africa, -3.0, 15.5),
    (*b"CH", Europe, 47.0, 8.0), (*b"CI", Africa, 6.5, -5.0), (*b"CK", Oceania, -21.2, -159.8),
    (*b"CL", SouthAmerica, -33.5, -71.0), (*b"CM", Africa, 4.5, 11.0), (*b"CN", Asia, 33.0, 113.0),
    (*b"CO", SouthAmerica, 5.0, -74.5), (*b"CR", NorthAmerica, 10.0, -84.0), (*b"CU", NorthAmerica, 22.5, -80.5),
    (*b"CV", Africa, 15.0, -23.6), (*b"CW", NorthAmerica, 12.2, -69.0), (*b"CX", Asia, -10.5, 105.6),
    (*b"CY", Europe, 35.0, 33.2), (*b"CZ", Europe, 50.0, 15.0), (*b"DE", Europe, 51.0, 10.0),
    (*b"DJ", Africa, 11.6, 43.0), (*b"DK", Europe, 55.8, 11.0), (*b"DM", NorthAmerica, 15.4, -61.4),
    (*b"DO", NorthAmerica, 18.8, -70.2), (*b"DZ", Africa, 36.0, 3.0), (*b"EC", SouthAmerica, -1.5, -79.0),
    (*b"EE", Europe, 59.0, 25.5), (*b"EG", Africa, 30.0, 31.0), (*b"EH", Africa, 25.0, -13.5),
    (*b"ER", Africa, 15.3, 39.0), (*b"ES", Europe, 40.2, -3.5), (*b"ET", Africa, 9.0, 39.0),
    (*b"FI", Europe, 61.5, 25.0), (*b"FJ", Oceania, -18.0, 178.0), (*b"FK", SouthAmerica, -51.7, -58.5),
    (*b"FM", Oceania, 6.9, 158.2), (*b"FO", Europe, 62.0, -6.8), (*b"FR", Europe, 47.5, 2.5),
    (*b"GA", Africa, 0.0, 10.5), (*b"GB", Europe, 52.5, -1.3), (*b"GD", NorthAmerica, 12.1, -61.7),
    (*b"GE", Asia, 42.0, 44.0), (*b"GF", SouthAmerica, 4.5, -52.5), (*b"GG", Europe, 49.5, -2.6),
    (*b"GH", Africa, 6.5, -1.0), (*b"GI", Europe, 36.1, -5.4), (*b"GL", NorthAmerica, 64.2, -51.7),
    (*b"GM", Africa, 13.4, -16.0), (*b"GN", Africa, 10.0, -12.0), (*b"GP", NorthAmerica, 16.2, -61.5),
    (*b"GQ", Africa, 2.0, 10.0), (*b"GR", Europe, 38.5, 23.0), (*b"GS", Antarctica, -54.3, -36.5),
    (*b"GT", NorthAmerica, 14.8, -90.5), (*b"GU", Oceania, 13.4, 144.8), (*b"GW", Africa, 12.0, -15.4),
    (*b"GY", SouthAmerica, 6.5, -58.2), (*b"HK", Asia, 22.3, 114.2), (*b"HM", Antarctica, -53.1, 73.5),
    (*b"HN", NorthAmerica, 14.5, -87.0), (*b"HR", Europe, 45.5, 16.0), (*b"HT", NorthAmerica, 18.8, -72.4),
    (*b"HU", Europe, 47.3, 19.3), (*b"ID", Asia, -6.5, 108.0), (*b"IE", Europe, 53.3, -7.0),
    (*b"IL", Asia, 32.0, 34.9), (*b"IM", Europe, 54.2, -4.5), (*b"IN", Asia, 21.0, 78.0),
    (*b"IO", Asia, -7.3, 72.4), (*b"IQ", Asia, 33.0, 44.0), (*b"IR", Asia, 34.5, 52.0),
    (*b"IS", Europe, 64.3, -21.0), (*b"IT", Europe, 43.0, 12.0), (*b"JE", Europe, 49.2, -2.1),
    (*b"JM", NorthAmerica, 18.1, -77.0), (*b"JO", Asia, 31.8, 36.0), (*b"JP", Asia, 35.6, 138.5),
    (*b"KE", Africa, -1.0, 37.0), (*b"KG", Asia, 42.0, 74.5), (*b"KH", Asia, 11.8, 105.0),
    (*b"KI", Oceania, 1.4, 173.0), (*b"KM", Africa, -11.8, 43.4), (*b"KN", NorthAmerica, 17.3, -62.7),
    (*b"KP", Asia, 39.2, 126.0), (*b"KR", Asia, 37.0, 127.4), (*b"KW", Asia, 29.3, 47.9),
    (*b"KY", NorthAmerica, 19.3, -81.3), (*b"KZ", Asia, 46.0, 73.0), (*b"LA", Asia, 18.0, 103.0),
    (*b"LB", Asia, 33.9, 35.7), (*b"LC", NorthAmerica, 13.9, -61.0), (*b"LI", Europe, 47.1, 9.5),
    (*b"LK", Asia, 7.0, 80.2), (*b"LR", Africa, 6.5, -10.3), (*b"LS", Africa, -29.4, 28.0),
    (*b"LT", Europe, 55.0, 24.0), (*b"LU", Europe, 49.7, 6.1), (*b"LV", Europe, 56.9, 24.5),
    (*b"LY", Africa, 32.0, 15.0), (*b"MA", Africa, 33.0, -7.0), (*b"MC", Europe, 43.7, 7.4),
    (*b"MD", Europe, 47.2, 28.6), (*b"ME", Europe, 42.6, 19.2), (*b"MF", NorthAmerica, 18.1, -63.1),
    (*b"MG", Africa, -19.0, 47.0), (*b"MH", Oceania, 7.1, 171.2), (*b"MK", Europe, 41.8, 21.6),
    (*b"ML", Africa, 13.0, -7.0), (*b"MM", Asia, 19.0, 96.0), (*b"MN", Asia, 47.9, 106.5),
    (*b"MO", Asia, 22.2, 113.5), (*b"MP", Oceania, 15.2, 145.7), (*b"MQ", NorthAmerica, 14.6, -61.0),
    (*b"MR", Africa, 18.0, -15.0), (*b"MS", NorthAmerica, 16.7, -62.2), (*b"MT", Europe, 35.9, 14.4),
    (*b"MU", Africa, -20.2, 57.6), (*b"MV", Asia, 4.2, 73.5), (*b"MW", Africa, -14.0, 34.2),
    (*b"MX", NorthAmerica, 20.0, -100.0), (*b"MY", Asia, 3.5, 102.0), (*b"MZ", Africa, -20.0, 35.0),
    (*b"NA", Africa, -22.5, 17.0), (*b"NC", Oceania, -22.0, 166.0), (*b"NE", Africa, 13.5, 5.0),
    (*b"NF", Oceania, -29.0, 168.0), (*b"NG", Africa, 8.0, 6.0), (*b"NI", NorthAmerica, 12.3, -86.0),
    (*b"NL", Europe, 52.2, 5.2), (*b"NO", Europe, 60.5, 10.0), (*b"NP", Asia, 27.8, 85.0),
    (*b"NR", Oceania, -0.5, 166.9), (*b"NU", Oceania, -19.0, -169.9), (*b"NZ", Oceania, -38.5, 175.5),
    (*b"OM", Asia, 23.0, 58.0), (*b"PA", NorthAmerica, 8.9, -79.7), (*b"PE", SouthAmerica, -11.0, -76.5),
    (*b"PF", Oceania, -17.6, -149.5), (*b"PG", Oceania, -7.0, 146.0), (*b"PH", Asia, 13.5, 122.0),
    (*b"PK", Asia, 31.0, 72.0), (*b"PL", Europe, 51.8, 19.3), (*b"PM", NorthAmerica, 46.8, -56.2),
    (*b"PN", Oceania, -25.1, -130.1), (*b"PR", NorthAmerica, 18.3, -66.3), (*b"PS", Asia, 31.9, 35.1),
    (*b"PT", Europe, 39.5, -8.5), (*b"PW", Oceania, 7.4, 134.5), (*b"PY", SouthAmerica, -25.3, -57.0),
    (*b"QA", Asia, 25.3, 51.4), (*b"RE", Africa, -21.1, 55.5), (*b"RO", Europe, 45.5, 25.5),
    (*b"RS", Europe, 44.4, 20.7), (*b"RU", Europe, 55.7, 43.0), (*b"RW", Africa, -2.0, 30.0),
    (*b"SA", Asia, 24.5, 44.0), (*b"SB", Oceania, -9.4, 160.0), (*b"SC", Africa, -4.7, 55.5),
    (*b"SD", Africa, 15.0, 32.0), (*b"SE", Europe, 59.0, 16.0), (*b"SG", Asia, 1.3, 103.8),
    (*b"SH", Africa, -16.0, -5.7), (*b"SI", Europe, 46.1, 14.7), (*b"SJ", Europe, 78.2, 15.6),
    (*b"SK", Europe, 48.6, 19.0), (*b"SL", Africa, 8.4, -12.3), (*b"SM", Europe, 43.9, 12.5),
    (*b"SN", Africa, 14.6, -16.5), (*b"SO", Africa, 3.0, 45.5), (*b"SR", SouthAmerica, 5.7, -55.2),
    (*b"SS", Africa, 6.0, 31.0), (*b"ST", Africa, 0.3, 6.7), (*b"SV", NorthAmerica, 13.7, -89.0),
    (*b"SX", NorthAmerica, 18.0, -63.1), (*b"SY", Asia, 34.5, 37.0), (*b"SZ", Africa, -26.4, 31.4),
    (*b"TC", NorthAmerica, 21.8, -72.2), (*b"TD", Africa, 12.5, 16.0), (*b"TF", Antarctica, -49.3, 69.5),
    (*b"TG", Africa, 7.0, 1.1), (*b"TH", Asia, 14.5, 101.0), (*b"TJ", Asia, 38.6, 69.5),
    (*b"TK", Oceania, -9.2, -171.8), (*b"TL", Asia, -8.7, 125.8), (*b"TM", Asia, 38.0, 59.0),
    (*b"TN", Africa, 36.0, 10.0), (*b"TO", Oceania, -21.2, -175.2), (*b"TR", Asia, 39.8, 32.0),
    (*b"TT", NorthAmerica, 10.5, -61.3), (*b"TV", Oceania, -8.5, 179.2), (*b"TW", Asia, 24.3, 121.0),
    (*b"TZ", Africa, -6.5, 37.0), (*b"UA", Europe, 49.0, 31.0), (*b"UG", Africa, 1.0, 32.5),
    (*b"UM", Oceania, 19.3, 166.6), (*b"US", NorthAmerica, 39.0, -93.0), (*b"UY", SouthAmerica, -34.2, -56.0),
    (*b"UZ", Asia, 40.5, 67.0), (*b"VA", Europe, 41.9, 12.5), (*b"VC", NorthAmerica, 13.2, -61.2),
    (*b"VE", SouthAmerica, 9.5, -67.0), (*b"VG", NorthAmerica, 18.4, -64.6), (*b"VI", NorthAmerica, 18.3, -64.8),
    (*b"VN", Asia, 16.0, 107.0), (*b"VU", Oceania, -17.0, 168.0), (*b"WF", Oceania, -13.3, -176.2),
    (*b"WS", Oceania, -13.8, -172.0), (*b"YE", Asia, 15.0, 45.0), (*b"YT", Africa, -12.8, 45.2),
    (*b"ZA", Africa, -28.0, 27.0), (*b"ZM", Africa, -14.0, 28.3), (*b"ZW", Africa, -18.5, 30.5),
];

/// Returns the continent of a country and a point in it; none for codes that are no country.
#[must_use]
pub(crate) fn country(code: Country) -> Option<(Continent, Coordinates)> {
    let letters = code.packed().to_be_bytes();
    let at = COUNTRIES.binary_search_by_key(&letters, |(code, ..)| *code).ok()?;
    let (_, continent, latitude, longitude) = COUNTRIES[at];
    Some((continent, Coordinates { latitude, longitude }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_on_the_globe() {
        assert!(COUNTRIES.is_sorted_by_key(|(code, ..)| *code));
        for (code, _, latitude, longitude) in COUNTRIES {
            assert!(code.iter().all(u8::is_ascii_uppercase));
            assert!((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude));
        }
    }

    #[test]
    fn unknown_countries_have_no_place() {
        assert!(country(Country::UNKNOWN).is_none());
        assert!(country("XX".parse().unwrap()).is_none());
        assert_eq!(country("JP".parse().unwrap()).map(|(continent, _)| continent), Some(Asia));
    }
}
