//! The owner's parameters of a policy, read from TOML.
//!
//! Flow: the signed TOML text -> [`Config::parse`] once, on load -> look-ups by the guest through the host. The hash that
//! identifies a config is taken by the caller from the text itself. A decoder of foreign bytes: nothing here can panic.
//!
//! | TOML | what it is |
//! |---|---|
//! | `ttl = 60`, `note = "hi"`, `strict = true` | a number (u32), a text, a truth |
//! | `ids = [1, 2]`, `hosts = ["a", "b"]` | a set of numbers, a set of texts |
//! | `X-allow = ["DE", "eu"]`, also `X-deny`, `X-countries` | a set of countries, built-in groups and "unknown", spelling checked |
//! | `[[X]]` with `glob`, `number` | ordered path rules |
//! | `[[header-set]]` with `name = "value"` | header sets, bit n of a decision's `header-sets` |
//! | `[[target]]` with `url` | redirect targets |
//! | `[[rate-class]]` with `requests`, `seconds` | rate classes, counted from 1 |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use toml::Value as Toml;

use crate::country::CountryCode;
use crate::glob::{Glob, GlobError};
use crate::groups;
use crate::headers::{Header, HeaderError};

/// Longest config in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most rules: each is matched in turn against every new path.
const RULES_MAX: usize = 256;
/// One bit of `header-sets` each.
const HEADER_SETS_MAX: usize = 32;
const TARGETS_MAX: usize = 1024;
/// `rate-class` is a byte, and 0 means none.
const RATE_CLASSES_MAX: usize = 255;

/// Ends of keys whose texts are countries: there a typing error must not pass for a text.
const COUNTRY_SUFFIXES: [&str; 3] = ["-allow", "-deny", "-countries"];

/// The parameters of one link of a policy.
#[derive(Debug, Default)]
pub struct Config {
    entries: BTreeMap<Box<str>, Entry>,
    header_sets: Vec<Vec<Header>>,
    targets: Vec<Box<str>>,
    rate_classes: Vec<RateClass>,
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
    /// Not TOML.
    #[error("config is not TOML (line {line})")]
    NotToml {
        /// The line of the first mistake, counted from 1.
        line: usize,
        /// What the parser says.
        source: toml::de::Error,
    },
    /// A value of a sort that no policy can ask for.
    #[error("{key} is not {expected}")]
    Shape {
        /// The key.
        key: String,
        /// What stands there in a good config.
        expected: &'static str,
    },
    /// A number outside 0..=4294967295.
    #[error("{key} is {number}; numbers are 0 to 4294967295")]
    Number {
        /// The key.
        key: String,
        /// The number given.
        number: i64,
    },
    /// A misspelt country or group.
    #[error(
        "{key} holds {member:?}, which is neither a country like \"DE\", nor \"unknown\", nor one of the groups {groups}"
    )]
    Country {
        /// The key.
        key: String,
        /// The member given.
        member: String,
        /// All groups.
        groups: String,
    },
    /// A glob that is too long.
    #[error("{key} has a bad glob {glob:?}")]
    Glob {
        /// The key.
        key: String,
        /// The glob.
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

#[derive(Debug)]
struct Entry {
    value: Value,
    /// Whether a run ever asked for it.
    read: AtomicBool,
}

#[derive(Debug)]
enum Value {
    Number(u32),
    Text(Box<str>),
    Truth(bool),
    /// Sorted.
    Numbers(Vec<u32>),
    /// Sorted.
    Texts(Vec<Box<str>>),
    /// Sorted, groups expanded.
    Countries(Vec<CountryCode>),
    Rules(Vec<(Glob, u32)>),
}

impl Config {
    /// Reads a config.
    ///
    /// # Errors
    /// See [`ConfigError`]; all of them are the owner's to mend.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ConfigError::TooLong { bytes: text.len() });
        }
        let table: toml::Table = text.parse().map_err(|source| not_toml(text, source))?;
        let mut config = Self::default();
        for (key, value) in table {
            match key.as_str() {
                "header-set" => config.header_sets = tables(&key, &value, HEADER_SETS_MAX, header_set)?,
                "target" => config.targets = tables(&key, &value, TARGETS_MAX, target)?,
                "rate-class" => config.rate_classes = tables(&key, &value, RATE_CLASSES_MAX, rate_class)?,
                _ => {
                    let entry = Entry { value: parse_value(&key, value)?, read: AtomicBool::new(false) };
                    config.entries.insert(key.into(), entry);
                }
            }
        }
        config.check_rules()?;
        Ok(config)
    }

    /// A glob takes 4 KiB, so the rules of all lists together have a bound too.
    fn check_rules(&self) -> Result<(), ConfigError> {
        let rules = self.entries.values().map(|entry| match &entry.value {
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
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u32> {
        match self.value(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text of `key`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether `key` is `true`, or a set or a list of rules, even an empty one: so a policy tells "nobody" from "not said".
    #[must_use]
    pub fn truth(&self, key: &str) -> bool {
        match self.value(key) {
            Some(Value::Truth(truth)) => *truth,
            Some(Value::Numbers(_) | Value::Texts(_) | Value::Countries(_) | Value::Rules(_)) => true,
            Some(Value::Number(_) | Value::Text(_)) | None => false,
        }
    }

    /// Whether `member` is in the set `key`: a number, or a packed country.
    #[must_use]
    pub fn has(&self, key: &str, member: u32) -> bool {
        match self.value(key) {
            Some(Value::Numbers(numbers)) => numbers.binary_search(&member).is_ok(),
            Some(Value::Countries(countries)) => {
                countries.binary_search_by_key(&member, |country| country.packed().into()).is_ok()
            }
            _ => false,
        }
    }

    /// Whether `country` is in the set of countries `key`.
    #[must_use]
    pub fn has_country(&self, key: &str, country: CountryCode) -> bool {
        match self.value(key) {
            Some(Value::Countries(countries)) => countries.binary_search(&country).is_ok(),
            _ => false,
        }
    }

    /// Whether `member` is in the set of texts `key`.
    #[must_use]
    pub fn has_text(&self, key: &str, member: &str) -> bool {
        match self.value(key) {
            Some(Value::Texts(texts)) => texts.binary_search_by(|text| (**text).cmp(member)).is_ok(),
            _ => false,
        }
    }

    /// The number of the first rule of `key` whose glob matches `path`.
    #[must_use]
    pub fn path_rule(&self, key: &str, path: &str) -> Option<u32> {
        match self.value(key)? {
            Value::Rules(rules) => rules.iter().find(|(glob, _)| glob.matches(path)).map(|(_, number)| *number),
            _ => None,
        }
    }

    /// Header set `n` (bit n of a decision).
    #[must_use]
    pub fn header_set(&self, n: usize) -> Option<&[Header]> {
        self.header_sets.get(n).map(Vec::as_slice)
    }

    /// Redirect target `n`: an absolute URL or a path.
    #[must_use]
    pub fn target(&self, n: u16) -> Option<&str> {
        self.targets.get(usize::from(n)).map(|target| &**target)
    }

    /// Rate class `n`, counted from 1.
    #[must_use]
    pub fn rate_class(&self, n: u8) -> Option<RateClass> {
        self.rate_classes.get(usize::from(n).checked_sub(1)?).copied()
    }

    /// Keys that no run has asked for so far. After the owner's tests ran, they are most likely misspelt.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| !entry.read.load(Relaxed)).map(|(key, _)| &**key)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        let entry = self.entries.get(key)?;
        // Looked at before it is written: a shared cache line that is only read stays with every core.
        if !entry.read.load(Relaxed) {
            entry.read.store(true, Relaxed);
        }
        Some(&entry.value)
    }
}

fn not_toml(text: &str, source: toml::de::Error) -> ConfigError {
    let before = source.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    ConfigError::NotToml { line, source }
}

fn shape(key: &str, expected: &'static str) -> ConfigError {
    ConfigError::Shape { key: key.to_owned(), expected }
}

fn parse_value(key: &str, value: Toml) -> Result<Value, ConfigError> {
    match value {
        Toml::Integer(number) => Ok(Value::Number(number_u32(key, number)?)),
        Toml::String(text) => Ok(Value::Text(text.into())),
        Toml::Boolean(truth) => Ok(Value::Truth(truth)),
        Toml::Array(members) => parse_array(key, &members),
        Toml::Float(_) | Toml::Datetime(_) | Toml::Table(_) => {
            Err(shape(key, "a whole number, a text, true or false, a list, or [[rules]] with glob and number"))
        }
    }
}

fn parse_array(key: &str, members: &[Toml]) -> Result<Value, ConfigError> {
    let is_countries = COUNTRY_SUFFIXES.iter().any(|suffix| key.ends_with(suffix));
    match members.first() {
        None if is_countries => Ok(Value::Countries(Vec::new())),
        None => Ok(Value::Texts(Vec::new())),
        Some(Toml::Integer(_)) => {
            let numbers = members.iter().map(|member| match member {
                Toml::Integer(number) => number_u32(key, *number),
                _ => Err(shape(key, "a list of whole numbers only")),
            });
            let mut numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            numbers.sort_unstable();
            Ok(Value::Numbers(numbers))
        }
        Some(Toml::String(_)) => {
            let texts = members.iter().map(|member| member.as_str().ok_or_else(|| shape(key, "a list of texts only")));
            let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
            if is_countries {
                return countries(key, &texts);
            }
            texts.sort_unstable();
            Ok(Value::Texts(texts.into_iter().map(Box::from).collect()))
        }
        Some(Toml::Table(_)) => parse_rules(key, members),
        Some(Toml::Float(_) | Toml::Datetime(_) | Toml::Boolean(_) | Toml::Array(_)) => {
            Err(shape(key, "a list of whole numbers, of texts, or of rules with glob and number"))
        }
    }
}

fn countries(key: &str, members: &[&str]) -> Result<Value, ConfigError> {
    let mut countries = Vec::new();
    for member in members {
        if let Some(group) = groups::members(member) {
            countries.extend(group);
        } else if let Ok(country) = member.parse() {
            countries.push(country);
        } else {
            let groups = groups::names().collect::<Vec<_>>().join(", ");
            return Err(ConfigError::Country { key: key.to_owned(), member: (*member).to_owned(), groups });
        }
    }
    countries.sort_unstable();
    countries.dedup();
    Ok(Value::Countries(countries))
}

fn parse_rules(key: &str, members: &[Toml]) -> Result<Value, ConfigError> {
    const EXPECTED: &str = "a list of rules, each with a text `glob` and a whole `number` and nothing else";
    if members.len() > RULES_MAX {
        return Err(ConfigError::TooMany { key: key.to_owned(), count: members.len(), limit: RULES_MAX });
    }
    let rules = members.iter().map(|member| {
        let fields = member.as_table().filter(|table| table.len() == 2);
        let glob = fields.and_then(|table| table.get("glob")?.as_str());
        let number = fields.and_then(|table| table.get("number")?.as_integer());
        let (Some(pattern), Some(number)) = (glob, number) else {
            return Err(shape(key, EXPECTED));
        };
        let glob = Glob::new(pattern).map_err(|source| ConfigError::Glob {
            key: key.to_owned(),
            glob: pattern.to_owned(),
            source,
        })?;
        Ok((glob, number_u32(key, number)?))
    });
    Ok(Value::Rules(rules.collect::<Result<_, _>>()?))
}

fn number_u32(key: &str, number: i64) -> Result<u32, ConfigError> {
    u32::try_from(number).map_err(|_| ConfigError::Number { key: key.to_owned(), number })
}

/// Reads one of the reserved lists of tables; `read` gets each table with its index.
fn tables<T>(
    key: &str,
    value: &Toml,
    limit: usize,
    read: impl Fn(usize, &toml::Table) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let members = value.as_array().ok_or_else(|| shape(key, "a list of tables; write [[...]]"))?;
    if members.len() > limit {
        return Err(ConfigError::TooMany { key: key.to_owned(), count: members.len(), limit });
    }
    let read = |(at, member): (usize, &Toml)| match member {
        Toml::Table(table) => read(at, table),
        _ => Err(shape(key, "a list of tables; write [[...]]")),
    };
    members.iter().enumerate().map(read).collect()
}

fn header_set(set: usize, table: &toml::Table) -> Result<Vec<Header>, ConfigError> {
    let headers = table.iter().map(|(name, value)| {
        let value = value.as_str().ok_or_else(|| shape("header-set", "a table of header names and texts"))?;
        Header::new(name, value).map_err(|source| ConfigError::Header { set, source })
    });
    headers.collect()
}

fn target(_: usize, table: &toml::Table) -> Result<Box<str>, ConfigError> {
    let url = Some(table).filter(|table| table.len() == 1).and_then(|table| table.get("url")?.as_str());
    let is_target = |url: &&str| {
        (url.starts_with("https://") || url.starts_with("http://") || (url.starts_with('/') && !url.starts_with("//")))
            && url.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
    };
    let url = url.filter(is_target).ok_or_else(|| {
        shape("target", "a list of tables with only a `url`, absolute (https, http) or a path, in printable ASCII")
    })?;
    Ok(url.into())
}

fn rate_class(_: usize, table: &toml::Table) -> Result<RateClass, ConfigError> {
    const KEY: &str = "rate-class";
    let number = |name| match table.get(name) {
        Some(Toml::Integer(number)) if table.len() == 2 && *number > 0 => number_u32(KEY, *number),
        _ => Err(shape(KEY, "a list of tables with only `requests` and `seconds`, whole numbers above 0")),
    };
    Ok(RateClass { requests: number("requests")?, seconds: number("seconds")? })
}
