//! Countries as people name them on a command line: only codes that a country has.

use anyhow::ensure;
use format::Country;
use sandbox::CountryCode;

/// Reads a country. For clap: the error is shown beside the option.
pub(crate) fn parse(text: &str) -> anyhow::Result<Country> {
    let country = text.parse()?;
    check(country)?;
    Ok(country)
}

/// Refuses a code that no country has: what it is to allow or refuse would be nobody.
pub(crate) fn check(country: Country) -> anyhow::Result<()> {
    let is_assigned = country.to_string().parse().is_ok_and(CountryCode::is_assigned);
    ensure!(is_assigned, "no country has the ISO 3166-1 code {country}; the United Kingdom is GB, Greece is GR");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_a_country_has_are_taken() {
        for code in ["BE", "GB", "XK"] {
            assert_eq!(parse(code).unwrap().to_string(), code);
        }
        for code in ["UK", "EU", "XX", "be", "BEL", "unknown", ""] {
            assert!(parse(code).is_err(), "{code}");
        }
    }
}
