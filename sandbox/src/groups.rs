//! Named groups of countries, as versioned data.
//!
//! Group data is part of a decision's identity: a cache of decisions must be dropped when [`VERSION`] changes. These
//! tables were written from general knowledge and have not been checked against their sources. An owner with a legal
//! duty must list the countries. This is not legal advice.

use crate::country::CountryCode;

/// The version grows with each change of any table below.
pub const VERSION: u32 = 1;

/// A named group and its members, sorted, two letters each.
struct Group {
    name: &'static str,
    /// Groups whose members also belong to this group.
    includes: &'static [&'static str],
    members: &'static [&'static [u8; 2]],
}

const GROUPS: &[Group] = &[
    // European Union since 2020-02-01: 27 members.
    Group {
        name: "eu",
        includes: &[],
        members: &[
            b"AT", b"BE", b"BG", b"CY", b"CZ", b"DE", b"DK", b"EE", b"ES", b"FI", b"FR", b"GR", b"HR", b"HU", b"IE",
            b"IT", b"LT", b"LU", b"LV", b"MT", b"NL", b"PL", b"PT", b"RO", b"SE", b"SI", b"SK",
        ],
    },
    // European Economic Area.
    Group { name: "eea", includes: &["eu"], members: &[b"IS", b"LI", b"NO"] },
    // European Free Trade Association.
    Group { name: "efta", includes: &[], members: &[b"CH", b"IS", b"LI", b"NO"] },
    // Schengen area without Cyprus and Ireland. Bulgaria and Romania are full members (since 2025-01-01).
    Group {
        name: "schengen",
        includes: &[],
        members: &[
            b"AT", b"BE", b"BG", b"CH", b"CZ", b"DE", b"DK", b"EE", b"ES", b"FI", b"FR", b"GR", b"HR", b"HU", b"IS",
            b"IT", b"LI", b"LT", b"LU", b"LV", b"MT", b"NL", b"NO", b"PL", b"PT", b"RO", b"SE", b"SI", b"SK",
        ],
    },
    // Places where personal data of the EEA may lie without further safeguards: the EEA, and the adequacy decisions
    // under Article 45 GDPR, of which Brazil (EU) 2026/179 is the newest. Canada's covers commercial organisations
    // only. The United States are left out: their decision covers certified organisations, which a country code cannot
    // show.
    Group {
        name: "gdpr-adequate",
        includes: &["eea"],
        members: &[
            b"AD", b"AR", b"BR", b"CA", b"CH", b"FO", b"GB", b"GG", b"IL", b"IM", b"JE", b"JP", b"KR", b"NZ", b"UY",
        ],
    },
    // Comprehensive country programmes of the US Office of Foreign Assets Control. Syria's ended on 2025-06-30. The
    // occupied regions of Ukraine are not countries: ask for the subdivision.
    Group { name: "ofac", includes: &[], members: &[b"CU", b"IR", b"KP"] },
    Group { name: "five-eyes", includes: &[], members: &[b"AU", b"CA", b"GB", b"NZ", b"US"] },
];

/// Returns whether `country` is in the built-in group `name`. An unknown group has no members.
#[must_use]
pub fn contains(name: &str, country: CountryCode) -> bool {
    members(name).is_some_and(|mut members| members.any(|member| member == country))
}

/// Returns the members of the built-in group `name` in no particular order, or `None` if there is no such group.
#[must_use]
pub fn members(name: &str) -> Option<Box<dyn Iterator<Item = CountryCode>>> {
    let group = GROUPS.iter().find(|group| group.name == name)?;
    let own = group.members.iter().filter_map(|letters| CountryCode::from_letters(**letters));
    let included = group.includes.iter().filter_map(|name| members(name)).flatten();
    Some(Box::new(own.chain(included)))
}

/// Returns the names of all built-in groups.
pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().map(|group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str) -> usize {
        members(name).map_or(0, Iterator::count)
    }

    #[test]
    fn groups_have_the_members_the_treaties_name() {
        assert_eq!((count("eu"), count("eea"), count("schengen"), count("gdpr-adequate")), (27, 30, 29, 45));
        assert!(names().all(|name| count(name) > 2));
    }

    #[test]
    fn membership_follows_includes() {
        let is_in = |name, country: &str| contains(name, country.parse().expect("a country"));
        assert!(is_in("eea", "DE") && is_in("eea", "NO") && !is_in("eu", "NO"));
        assert!(is_in("gdpr-adequate", "NO") && !is_in("gdpr-adequate", "US"));
        assert!(!is_in("no-such-group", "DE") && !contains("eu", CountryCode::UNKNOWN));
    }

    #[test]
    fn tables_are_sorted_and_their_includes_exist() {
        for group in GROUPS {
            assert!(group.members.is_sorted() && group.includes.iter().all(|name| members(name).is_some()));
            assert!(members(group.name).into_iter().flatten().all(CountryCode::is_assigned), "{}", group.name);
        }
    }
}
