//! The closed vocabularies of the contract (kinds, outcomes, ...) with the names that WIT gives them.
//!
//! The enums are the generated ones, so the contract and the code cannot diverge. The exhaustive matches here fail to
//! compile if a case is added. The names are used in traces, test vectors and error messages.

use std::fmt;
use std::str::FromStr;

pub use crate::bindings::evernear::policy::types::{
    ContentKind, ContinentCode as Continent, HttpMethod as Method, Marks, NetworkKind, Outcome, RefererState, Tier,
    TokenState,
};

/// A word is not in a vocabulary. The writer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no {vocabulary}; known are {known}")]
pub struct UnknownName {
    /// The word.
    pub name: String,
    /// The vocabulary in which it was looked up.
    pub vocabulary: &'static str,
    /// All names of the vocabulary, separated by commas.
    pub known: String,
}

macro_rules! names {
    ($type:ident, $vocabulary:literal, { $($case:ident = $name:literal),+ $(,)? }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($type::$case => $name),+ })
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                match name {
                    $($name => Ok($type::$case),)+
                    _ => Err(UnknownName {
                        name: name.to_owned(),
                        vocabulary: $vocabulary,
                        known: [$($name),+].join(", "),
                    }),
                }
            }
        }
    };
}

names!(Continent, "continent", {
    Unknown = "unknown", Africa = "africa", Antarctica = "antarctica", Asia = "asia", Europe = "europe",
    NorthAmerica = "north-america", Oceania = "oceania", SouthAmerica = "south-america",
});
names!(ContentKind, "kind of content", {
    Other = "other", Html = "html", Image = "image", Video = "video", Audio = "audio", Script = "script", Style = "style",
    Font = "font", Model3d = "model3d", Archive = "archive", Document = "document", Manifest = "manifest", Data = "data",
});
names!(Method, "method", { Get = "get", Head = "head", Other = "other" });
names!(TokenState, "token state", {
    Absent = "absent", Valid = "valid", Expired = "expired", NotYet = "not-yet", Forged = "forged",
    WrongScope = "wrong-scope",
});
names!(RefererState, "referer state", {
    Absent = "absent", SameSite = "same-site", Listed = "listed", Other = "other",
});
names!(NetworkKind, "kind of network", {
    Unknown = "unknown", Residential = "residential", Business = "business", Mobile = "mobile", Hosting = "hosting",
    Vpn = "vpn", Tor = "tor", BotVerified = "bot-verified",
});
names!(Outcome, "outcome", {
    Allow = "allow", Deny = "deny", Redirect = "redirect", Challenge = "challenge", Hide = "hide",
    Unavailable = "unavailable",
});
names!(Tier, "tier", { None = "none", Memory = "memory", Disk = "disk" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_what_they_name() {
        for name in ["other", "model3d", "data"] {
            assert_eq!(name.parse::<ContentKind>().map(|kind| kind.to_string()).as_deref(), Ok(name));
        }
        let error = "gone".parse::<Outcome>().expect_err("no such outcome");
        assert_eq!(
            error.to_string(),
            "\"gone\" is no outcome; known are allow, deny, redirect, challenge, hide, unavailable"
        );
    }
}
