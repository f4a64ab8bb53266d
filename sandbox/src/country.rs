//! Countries as the contract packs them: two letters in sixteen bits.

use std::fmt;
use std::str::FromStr;

/// An ISO 3166-1 alpha-2 code, packed as first letter << 8 | second letter; 0 = unknown.
///
/// Any two upper-case letters are a code: the standard grows, and a policy must not refuse a country because this
/// program is older.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode(u16);

/// A text that is no country code: the writer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no country code; write two upper-case letters like \"DE\"")]
pub struct CountryCodeError {
    /// What was written.
    pub text: String,
}

impl CountryCode {
    /// The place could not be found out.
    pub const UNKNOWN: Self = Self(0);

    /// Packs two letters; `None` when they are not both in A..=Z.
    #[must_use]
    pub const fn from_letters(letters: [u8; 2]) -> Option<Self> {
        if letters[0].is_ascii_uppercase() && letters[1].is_ascii_uppercase() {
            Some(Self(u16::from_be_bytes(letters)))
        } else {
            None
        }
    }

    /// The packed number, as guests see it.
    #[must_use]
    pub const fn packed(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_be_bytes() {
            [0, 0] => f.pad("unknown"),
            letters => letters.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter))),
        }
    }
}

impl FromStr for CountryCode {
    type Err = CountryCodeError;

    fn from_str(text: &str) -> Result<Self, CountryCodeError> {
        if text == "unknown" {
            return Ok(Self::UNKNOWN);
        }
        <[u8; 2]>::try_from(text.as_bytes())
            .ok()
            .and_then(Self::from_letters)
            .ok_or_else(|| CountryCodeError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_letters_as_the_contract_says() {
        let germany: CountryCode = "DE".parse().expect("two letters");
        assert_eq!(germany.packed(), 0x4445);
        assert_eq!(germany.to_string(), "DE");
        assert_eq!(CountryCode::UNKNOWN.to_string(), "unknown");
    }

    #[test]
    fn refuses_what_is_not_two_upper_case_letters() {
        for text in ["", "D", "de", "DEU", "D1", "Ä"] {
            assert!(text.parse::<CountryCode>().is_err(), "{text}");
        }
    }
}
