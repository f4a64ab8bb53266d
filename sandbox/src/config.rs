//! The owner's parameters of a policy, read from TOML.
//!
//! Flow: the signed TOML text -> [`Config::parse`] once, on load -> [`Config::check`] against what the component
//! declares -> look-ups by the guest through the host. The hash that identifies a config is taken by the caller from
//! the text itself. Keeps true: what the owner wrote is never taken for something else. A value of another type than
//! the guest asks for is [`WrongType`], which ends the run; only a key that is not there is absent.
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

/// Longest config in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest key in bytes: errors name keys, and a log has lines.
pub(crate) const KEY_BYTES_MAX: usize = 64;
/// Most rules: each is matched in turn against every new path.
const RULES_MAX: usize = 256;

const HEADER_SET: &str = "header-set";
const TARGET: &str = "target";
const RATE_CLASS: &str = "rate-class";

/// The parameters of one link of a policy.
#[derive(Debug, Default)]
pub struct Config {
    entries: BTreeMap<Box<str>, Value>,
}

/// How often a viewer may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateClass {
    /// So many requests ...
    pub requests: u32,
    /// ... in so many seconds.
    pub seconds: u32,
}

/// A config that cannot be used: the owner's fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Too long.
    #[error("config has {bytes} bytes, at most {TEXT_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not TOML, or a key stands there twice.
    #[error("config is not TOML (line {line})")]
    NotToml {
        /// The line of the first mistake, counted from 1.
        line: usize,
        /// What the parser says.
        source: toml::de::Error,
    },
    /// A key that is too long.
    #[error("the key {start}... has more than {KEY_BYTES_MAX} bytes")]
    Key {
        /// How it begins.
        start: String,
    },
    /// A key that the component does not have.
    #[error("{key} is none of the component's keys ({}){}", all(known), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// What was most likely meant.
        nearest: Option<String>,
        /// All keys that the component declares.
        known: Vec<String>,
    },
    /// A key that counts only beside another.
    #[error("{key} says nothing without {other}; add {other}, or leave {key} out")]
    Alone {
        /// The key.
        key: String,
        /// The key that is missing.
        other: String,
    },
    /// A value of another type than belongs there.
    #[error("{key} is {found}; it must be {expected}")]
    Type {
        /// The key.
        key: String,
        /// What stands there in a good config.
        expected: Cow<'static, str>,
        /// What stands there in this one.
        found: &'static str,
    },
    /// A list or table with members that do not belong there.
    #[error("{key} is not {expected}")]
    Shape {
        /// The key.
        key: String,
        /// What stands there in a good config.
        expected: &'static str,
    },
    /// A number that is too small or too large.
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
    /// A text that no response header can have.
    #[error(
        "{key} is no value of a header; those are printable ASCII, at most {VALUE_BYTES_MAX} bytes, without blanks at the ends"
    )]
    HeaderValue {
        /// The key.
        key: String,
    },
    /// A misspelt country or group.
    #[error(
        "{key} holds {member:?}, which is neither a country like \"DE\", nor \"unknown\", nor one of the groups {groups}{}",
        did_you_mean(nearest.as_deref())
    )]
    Country {
        /// The key.
        key: String,
        /// How the member given begins.
        member: String,
        /// What was most likely meant.
        nearest: Option<&'static str>,
        /// All groups.
        groups: String,
    },
    /// A list that refuses nobody.
    #[error("{key} is an empty list, which refuses nobody; leave it out, or say whom it refuses")]
    RefusesNobody {
        /// The key.
        key: String,
    },
    /// A header or rule that would hide, or be hidden by, one before it.
    #[error("{key} has {member:?} twice")]
    Twice {
        /// The key.
        key: String,
        /// What is there twice.
        member: String,
    },
    /// A glob that is too long.
    #[error("{key} has a bad glob {glob:?}")]
    Glob {
        /// The key.
        key: String,
        /// How the glob begins.
        glob: String,
        /// Why it is bad.
        source: GlobError,
    },
    /// A header that may not be set.
    #[error("header-set {set} cannot be used")]
    Header {
        /// Which one, counted from 0.
        set: usize,
        /// Why.
        source: HeaderError,
    },
    /// A list that is too long.
    #[error("{key} has {count} members, at most {limit} are allowed")]
    TooMany {
        /// The key.
        key: String,
        /// Members given.
        count: usize,
        /// Most allowed.
        limit: usize,
    },
}

/// A guest asked for a key as one type, and the config has it as another: the owner's fault or the author's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found} and was asked for as {asked}")]
pub struct WrongType {
    /// The key.
    pub key: Box<str>,
    /// What it was asked for as.
    pub asked: &'static str,
    /// What it is.
    pub found: &'static str,
}

/// What stands under a key.
#[derive(Debug)]
pub(crate) enum Value {
    Number(u32),
    Text(Box<str>),
    Truth(bool),
    /// An empty list: of numbers, texts or rules, as one asks for it.
    Nothing,
    /// Sorted.
    Numbers(Vec<u32>),
    /// Sorted.
    Texts(Vec<Box<str>>),
    /// Sorted, groups expanded.
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
    /// See [`ConfigError`]; all of them are the owner's to mend.
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

    /// Checks that the config has only keys that its component declares, each with what belongs there.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self, keys: &Keys) -> Result<(), ConfigError> {
        keys.check(self)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// A glob takes 4 KiB, so the rules of all lists together have a bound too.
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

    /// The number of `key`.
    ///
    /// # Errors
    /// [`WrongType`], here and below, when `key` is something else.
    pub fn number(&self, key: &str) -> Asked<Option<u32>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(other) => Err(other.is_not("a whole number", key)),
        }
    }

    /// The text of `key`.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn text(&self, key: &str) -> Asked<Option<&str>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(other.is_not("a text", key)),
        }
    }

    /// Whether `key` is `true`, or any list, even an empty one: so a policy tells "nobody" from "not said".
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn truth(&self, key: &str) -> Asked<bool> {
        match self.entries.get(key) {
            None => Ok(false),
            Some(Value::Truth(truth)) => Ok(*truth),
            Some(other @ (Value::Number(_) | Value::Text(_))) => Err(other.is_not("true, false or a list", key)),
            Some(_) => Ok(true),
        }
    }

    /// Whether `member` is in the set `key`: a number, or a packed country.
    ///
    /// # Errors
    /// As [`Self::number`].
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

    /// Whether `country` is in the set of countries `key`.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn has_country(&self, key: &str, country: CountryCode) -> Asked<bool> {
        match self.entries.get(key) {
            None => Ok(false),
            Some(Value::Countries(countries)) => Ok(countries.binary_search(&country).is_ok()),
            Some(other) => Err(other.is_not("a list of countries", key)),
        }
    }

    /// Whether `member` is in the set of texts `key`.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn has_text(&self, key: &str, member: &str) -> Asked<bool> {
        match self.entries.get(key) {
            None | Some(Value::Nothing) => Ok(false),
            Some(Value::Texts(texts)) => Ok(texts.binary_search_by(|text| (**text).cmp(member)).is_ok()),
            Some(other) => Err(other.is_not("a list of texts", key)),
        }
    }

    /// The number of the first rule of `key` whose glob matches `path`.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn path_rule(&self, key: &str, path: &str) -> Asked<Option<u32>> {
        match self.entries.get(key) {
            None | Some(Value::Nothing) => Ok(None),
            Some(Value::Rules(rules)) => {
                Ok(rules.iter().find(|(glob, _)| glob.matches(path)).map(|(_, number)| *number))
            }
            Some(other) => Err(other.is_not("a list of rules", key)),
        }
    }

    /// Header set `n` (bit n of a decision).
    #[must_use]
    pub fn header_set(&self, n: usize) -> Option<&[Header]> {
        match self.entries.get(HEADER_SET) {
            Some(Value::HeaderSets(sets)) => sets.get(n).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Redirect target `n`: an absolute URL or a path.
    #[must_use]
    pub fn target(&self, n: u16) -> Option<&str> {
        match self.entries.get(TARGET) {
            Some(Value::Targets(targets)) => targets.get(usize::from(n)).map(|target| &**target),
            _ => None,
        }
    }

    /// Rate class `n`, counted from 1.
    #[must_use]
    pub fn rate_class(&self, n: u8) -> Option<RateClass> {
        match self.entries.get(RATE_CLASS) {
            Some(Value::RateClasses(classes)) => classes.get(usize::from(n).checked_sub(1)?).copied(),
            _ => None,
        }
    }
}

impl Value {
    /// Its type, as an error says it: "ttl is a text".
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
