//! Countries as the contract packs them: two letters in sixteen bits.

use std::fmt;
use std::str::FromStr;

/// An ISO 3166-1 alpha-2 code, packed as first letter << 8 | second letter. 0 means unknown.
///
/// Any two upper-case letters are a valid code. The standard grows, and a policy must not refuse a viewer's country
/// because this program is older. Owners may only write codes that pass [`CountryCode::is_assigned`], because any other
/// is a typing error there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode(u16);

/// The officially assigned codes of ISO 3166-1 (249 since South Sudan in 2011), and XK, which address databases use for
/// Kosovo. Written from general knowledge, as the groups were.
const ASSIGNED: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO \
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW \
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// A text is not a country code. The writer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no country code; write two upper-case letters like \"DE\"")]
pub struct CountryCodeError {
    /// The text.
    pub text: String,
}

impl CountryCode {
    /// The country is unknown.
    pub const UNKNOWN: Self = Self(0);

    /// Packs two letters. Returns `None` unless both are in A..=Z.
    #[must_use]
    pub const fn from_letters(letters: [u8; 2]) -> Option<Self> {
        if letters[0].is_ascii_uppercase() && letters[1].is_ascii_uppercase() {
            Some(Self(u16::from_be_bytes(letters)))
        } else {
            None
        }
    }

    /// Returns the codes assigned to countries, sorted.
    pub(crate) fn assigned() -> impl Iterator<Item = &'static str> {
        ASSIGNED.split(' ')
    }

    /// Returns whether the code is assigned to a country. `UK` and `EU` look like codes but are not.
    #[must_use]
    pub fn is_assigned(self) -> bool {
        let letters = self.0.to_be_bytes();
        Self::assigned().any(|code| code.as_bytes() == letters)
    }

    /// Returns the packed number, as guests see it.
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
    fn assigned_codes_are_those_of_the_standard_and_kosovo() {
        let assigned: Vec<&str> = CountryCode::assigned().collect();
        assert!(assigned.len() == 250 && assigned.is_sorted());
        let is_assigned = |code: &str| code.parse::<CountryCode>().expect("two letters").is_assigned();
        assert!(assigned.iter().all(|code| is_assigned(code)) && is_assigned("XK"));
        for code in ["UK", "EU", "EL", "AP", "ZZ", "AA", "SU"] {
            assert!(!is_assigned(code), "{code}");
        }
    }

    #[test]
    fn refuses_what_is_not_two_upper_case_letters() {
        for text in ["", "D", "de", "DEU", "D1", "Ä"] {
            assert!(text.parse::<CountryCode>().is_err(), "{text}");
        }
    }
}
