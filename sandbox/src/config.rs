//! The owner's parameters of a policy, read from TOML.
//!
//! Flow: the signed TOML text -> [`Config::parse`] once, on load -> [`Config::check`] against what the component
//! declares -> look-ups by the guest through the host. The caller hashes the text itself to identify a config.
//! Invariant: a value is never taken for something that the owner did not write. If the guest asks for another type
//! than the value has, [`WrongType`] ends the run; only a missing key counts as absent.
//!
//! | TOML | what it is |
//! |---|---|
//! | `ttl = 60`, `note = "hi"`, `strict = true` | a number (u32), a text, a truth |
//! | `ids = [1, 2]`, `hosts = ["a", "b"]` | a set of numbers, a set of texts; an empty list is either |
//! | `X-allow = ["DE", "eu"]`, also `X-deny`, `X-countries` | a set of countries, built-in groups and "unknown", spelling checked |
//! | `[[X]]` with `glob`, `number` | ordered path rules |
//! | `[[header-set]]` with `name = "value"` | header sets, bit n of a decision's `header-sets` |
//! | `[[target]]` with `url` | redirect targets |
//! | `[[rate-class]]` with `requests`, `seconds` | rate classes, counted from 1 |

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::country::CountryCode;
use crate::glob::{Glob, GlobError};
use crate::headers::{Header, HeaderError, VALUE_BYTES_MAX};
use crate::keys::Keys;

mod parse;

pub(crate) use parse::{is_of_countries, is_of_tables};

/// Maximum bytes of a config.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Maximum bytes of a key. Errors name keys, and a log line must stay short.
pub(crate) const KEY_BYTES_MAX: usize = 64;
/// Maximum number of rules. Each new path is matched against every rule in turn.
const RULES_MAX: usize = 256;

const HEADER_SET: &str = "header-set";
const TARGET: &str = "target";
const RATE_CLASS: &str = "rate-class";

/// The parameters of one link of a policy.
#[derive(Debug, Default)]
pub struct Config {
    entries: BTreeMap<Box<str>, Value>,
}

/// A rate limit: how often a viewer may send requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateClass {
    /// Requests allowed in one window.
    pub requests: u32,
    /// Length of the window in seconds.
    pub seconds: u32,
}

/// Why a config cannot be used. The owner is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is too long.
    #[error("config has {bytes} bytes, at most {TEXT_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
    /// The text is not TOML, or a key appears twice.
    #[error("config is not TOML (line {line})")]
    NotToml {
        /// The line of the first mistake, counted from 1.
        line: usize,
        /// The parser's message.
        source: toml::de::Error,
    },
    /// A key is too long.
    #[error("the key {start}... has more than {KEY_BYTES_MAX} bytes")]
    Key {
        /// The beginning of the key.
        start: String,
    },
    /// The component does not have this key.
    #[error("{key} is none of the component's keys ({}){}", all(known), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
        /// All keys that the component declares.
        known: Vec<String>,
    },
    /// A key is useless without another one.
    #[error("{key} says nothing without {other}; add {other}, or leave {key} out")]
    Alone {
        /// The key.
        key: String,
        /// The missing key.
        other: String,
    },
    /// A refusal cannot say this status.
    #[error(
        "{key} is {number}; a refusal says 400 to 499, but neither 404 (to hide the object, write hide = true and leave \
         {key} out) nor 412 or 416, which are answers to conditions and ranges"
    )]
    Refusal {
        /// The key.
        key: String,
        /// The number given.
        number: u32,
    },
    /// What is hidden says no status.
    #[error("{key} says nothing where hide is true: what is hidden is not found (404); leave one of them out")]
    Hidden {
        /// The key.
        key: String,
    },
    /// A value has the wrong type.
    #[error("{key} is {found}; it must be {expected}")]
    Type {
        /// The key.
        key: String,
        /// The expected type.
        expected: Cow<'static, str>,
        /// The type found.
        found: &'static str,
    },
    /// A list or table has members that do not belong there.
    #[error("{key} is not {expected}")]
    Shape {
        /// The key.
        key: String,
        /// The expected members.
        expected: &'static str,
    },
    /// A number is too small or too large.
    #[error("{key} is {number}; it must be {least} to {most}")]
    Number {
        /// The key.
        key: String,
        /// The number given.
        number: i64,
        /// The smallest allowed.
        least: u32,
        /// The largest allowed.
        most: u32,
    },
    /// A text cannot be the value of a response header.
    #[error(
        "{key} is no value of a header; those are printable ASCII, at most {VALUE_BYTES_MAX} bytes, without blanks at the ends"
    )]
    HeaderValue {
        /// The key.
        key: String,
    },
    /// A country or group is misspelt.
    #[error(
        "{key} holds {member:?}, which is neither a country like \"DE\", nor \"unknown\", nor one of the groups {groups}{}",
        did_you_mean(nearest.as_deref())
    )]
    Country {
        /// The key.
        key: String,
        /// The beginning of the member.
        member: String,
        /// The member that was probably meant.
        nearest: Option<&'static str>,
        /// All groups.
        groups: String,
    },
    /// A deny list is empty, so it refuses nobody.
    #[error("{key} is an empty list, which refuses nobody; leave it out, or say whom it refuses")]
    RefusesNobody {
        /// The key.
        key: String,
    },
    /// A header or rule would hide an earlier one, or be hidden by it.
    #[error("{key} has {member:?} twice")]
    Twice {
        /// The key.
        key: String,
        /// The member that appears twice.
        member: String,
    },
    /// A glob is too long.
    #[error("{key} has a bad glob {glob:?}")]
    Glob {
        /// The key.
        key: String,
        /// The beginning of the glob.
        glob: String,
        /// Why it is refused.
        source: GlobError,
    },
    /// A header may not be set.
    #[error("header-set {set} cannot be used")]
    Header {
        /// The header set, counted from 0.
        set: usize,
        /// Why it is refused.
        source: HeaderError,
    },
    /// A list is too long.
    #[error("{key} has {count} members, at most {limit} are allowed")]
    TooMany {
        /// The key.
        key: String,
        /// Members found.
        count: usize,
        /// Members allowed.
        limit: usize,
    },
}

/// A guest asked for a key as one type, but the config has it as another. The owner or the policy's author is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found} and was asked for as {asked}")]
pub struct WrongType {
    /// The key.
    pub key: Box<str>,
    /// The type that the guest asked for.
    pub asked: &'static str,
    /// The type in the config.
    pub found: &'static str,
}

/// The value of a key.
#[derive(Debug)]
pub(crate) enum Value {
    Number(u32),
    Text(Box<str>),
    Truth(bool),
    /// An empty list. It serves as a list of numbers, texts or rules.
    Nothing,
    /// Sorted.
    Numbers(Vec<u32>),
    /// Sorted.
    Texts(Vec<Box<str>>),
    /// Sorted, with groups expanded.
    Countries(Vec<CountryCode>),
    Rules(Vec<(Glob, u32)>),
    HeaderSets(Vec<Vec<Header>>),
    Targets(Vec<Box<str>>),
    RateClasses(Vec<RateClass>),
}

type Asked<T> = Result<T, WrongType>;

impl Config {
    /// Reads a config.
    ///
    /// # Errors
    /// [`ConfigError`]. The owner must fix the config.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ConfigError::TooLong { bytes: text.len() });
        }
        let table: toml::Table = text.parse().map_err(|source| parse::not_toml(text, source))?;
        let entry = |(key, value): (String, toml::Value)| {
            let value = parse::value(&key, &value)?;
            Ok((Box::from(key), value))
        };
        let config = Self { entries: table.into_iter().map(entry).collect::<Result<_, _>>()? };
        config.check_rules()?;
        Ok(config)
    }

    /// Checks that the config has only keys that its component declares, each with a value of the declared type.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self, keys: &Keys) -> Result<(), ConfigError> {
        keys.check(self)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// A compiled glob takes 4 KiB, so the rules of all lists together are bounded too.
    fn check_rules(&self) -> Result<(), ConfigError> {
        let rules = self.entries.values().map(|value| match value {
            Value::Rules(rules) => rules.len(),
            _ => 0,
        });
        let count = rules.sum();
        if count > RULES_MAX {
            return Err(ConfigError::TooMany {
                key: "all lists of rules together".to_owned(),
                count,
                limit: RULES_MAX,
            });
        }
        Ok(())
    }

    /// Returns the number under `key`.
    ///
    /// # Errors
    /// [`WrongType`] if `key` has another type.
    pub fn number(&self, key: &str) -> Asked<Option<u32>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(other) => Err(other.is_not("a whole number", key)),
        }
    }

    /// Returns the text under `key`.
    ///
    /// # Errors
    /// Same as [`Self::number`].
    pub fn text(&self, key: &str) -> Asked<Option<&str>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(other.is_not("a text", key)),
        }
    }

    /// Returns whether `key` is `true` or a list, even an empty one. So a policy can distinguish an empty list
    /// ("nobody") from a missing key ("not stated").
    ///
    /// # Errors
    /// Same as [`Self::number`].
    pub fn truth(&self, key: &str) -> Asked<bool> {
        match self.entries.get(key) {
            None => Ok(false),
            Some(Value::Truth(truth)) => Ok(*truth),
            Some(other @ (Value::Number(_) | Value::Text(_))) => Err(other.is_not("true, false or a list", key)),
            Some(_) => Ok(true),
        }
    }

    /// Returns whether `member` is in the set `key`. A member is a number or a packed country.
    ///
    /// # Errors
    /// Same as [`Self::number`].
    pub fn has(&self, key: &str, member: u32) -> Asked<bool> {
        match self.entries.get(key) {
            None | Some(Value::Nothing) => Ok(false),
            Some(Value::Numbers(numbers)) => Ok(numbers.binary_search(&member).is_ok()),
            Some(Value::Countries(countries)) => {
                Ok(countries.binary_search_by_key(&member, |country| country.packed().into()).is_ok())
            }
            Some(other) => Err(other.is_not("a list of whole numbers or of countries", key)),
        }
    }

    /// Returns whether `country` is in the set of countries `key`.
    ///
    /// # Errors
    /// Same as [`Self::number`].
    pub fn has_country(&self, key: &str, country: CountryCode) -> Asked<bool> {
        match self.entries.get(key) {
            None => Ok(false),
            Some(Value::Countries(countries)) => Ok(countries.binary_search(&country).is_ok()),
            Some(other) => Err(other.is_not("a list of countries", key)),
        }
    }

    /// Returns whether `member` is in the set of texts `key`.
    ///
    /// # Errors
    /// Same as [`Self::number`].
    pub fn has_text(&self, key: &str, member: &str) -> Asked<bool> {
        match self.entries.get(key) {
            None | Some(Value::Nothing) => Ok(false),
            Some(Value::Texts(texts)) => Ok(texts.binary_search_by(|text| (**text).cmp(member)).is_ok()),
            Some(other) => Err(other.is_not("a list of texts", key)),
        }
    }

    /// Returns the number of the first rule in `key` whose glob matches `path`.
    ///
    /// # Errors
    /// Same as [`Self::number`].
    pub fn path_rule(&self, key: &str, path: &str) -> Asked<Option<u32>> {
        match self.entries.get(key) {
            None | Some(Value::Nothing) => Ok(None),
            Some(Value::Rules(rules)) => {
                Ok(rules.iter().find(|(glob, _)| glob.matches(path)).map(|(_, number)| *number))
            }
            Some(other) => Err(other.is_not("a list of rules", key)),
        }
    }

    /// Returns header set `n` (bit n of a decision).
    #[must_use]
    pub fn header_set(&self, n: usize) -> Option<&[Header]> {
        match self.entries.get(HEADER_SET) {
            Some(Value::HeaderSets(sets)) => sets.get(n).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Returns redirect target `n`: an absolute URL or a path.
    #[must_use]
    pub fn target(&self, n: u16) -> Option<&str> {
        match self.entries.get(TARGET) {
            Some(Value::Targets(targets)) => targets.get(usize::from(n)).map(|target| &**target),
            _ => None,
        }
    }

    /// Returns rate class `n`, counted from 1.
    #[must_use]
    pub fn rate_class(&self, n: u8) -> Option<RateClass> {
        match self.entries.get(RATE_CLASS) {
            Some(Value::RateClasses(classes)) => classes.get(usize::from(n).checked_sub(1)?).copied(),
            _ => None,
        }
    }
}

impl Value {
    /// Returns the type for an error message, as in "ttl is a text".
    pub(crate) fn found(&self) -> &'static str {
        match self {
            Self::Number(_) => "a whole number",
            Self::Text(_) => "a text",
            Self::Truth(_) => "true or false",
            Self::Nothing => "an empty list",
            Self::Numbers(_) => "a list of whole numbers",
            Self::Texts(_) => "a list of texts",
            Self::Countries(_) => "a list of countries",
            Self::Rules(_) => "a list of rules",
            Self::HeaderSets(_) | Self::Targets(_) | Self::RateClasses(_) => "a list of tables",
        }
    }

    fn is_not(&self, asked: &'static str, key: &str) -> WrongType {
        WrongType { key: key.into(), asked, found: self.found() }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

fn all(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { known.join(", ") }
}
