//! Converts TOML values into the values of a config.
//!
//! Invariants: each error names its key, and no piece of the owner's text in an error is longer than a line.

use std::borrow::Cow;

use toml::{Table, Value as Toml};

use super::{ConfigError, HEADER_SET, KEY_BYTES_MAX, RATE_CLASS, RULES_MAX, RateClass, TARGET, Value};
use crate::country::CountryCode;
use crate::glob::Glob;
use crate::groups;
use crate::headers::Header;
use crate::nearest::nearest;
use crate::path::canonical_glob;

/// Each header set is one bit of `header-sets`.
const HEADER_SETS_MAX: usize = 32;
const TARGETS_MAX: usize = 1024;
/// `rate-class` is a byte, and 0 means none.
const RATE_CLASSES_MAX: usize = 255;
/// Maximum number of letters of an owner's text in an error.
const SHOWN_LETTERS_MAX: usize = 64;

/// Suffixes of keys whose texts are countries. A typing error there must not pass as an ordinary text.
const COUNTRY_SUFFIXES: [&str; 3] = ["-allow", "-deny", "-countries"];
/// The suffix of keys whose empty list would let everybody pass.
const DENY_SUFFIX: &str = "-deny";
/// Common wrong codes, each with its code in ISO 3166-1.
const COUNTRY_ALIASES: [(&str, &str); 2] = [("UK", "GB"), ("EL", "GR")];

type Parsed<T> = Result<T, ConfigError>;

/// Returns whether `key` is always a list of countries.
pub(crate) fn is_of_countries(key: &str) -> bool {
    COUNTRY_SUFFIXES.iter().any(|suffix| key.ends_with(suffix))
}

/// Returns whether `key` is always one of the lists that decisions refer to.
pub(crate) fn is_of_tables(key: &str) -> bool {
    matches!(key, HEADER_SET | TARGET | RATE_CLASS)
}

pub(super) fn not_toml(text: &str, source: toml::de::Error) -> ConfigError {
    let before = source.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    ConfigError::NotToml { line, source }
}

pub(super) fn value(key: &str, value: &Toml) -> Parsed<Value> {
    if key.len() > KEY_BYTES_MAX {
        return Err(ConfigError::Key { start: shown(key) });
    }
    match (key, value) {
        (HEADER_SET, _) => Ok(Value::HeaderSets(tables(key, value, HEADER_SETS_MAX, header_set)?)),
        (TARGET, _) => Ok(Value::Targets(tables(key, value, TARGETS_MAX, target)?)),
        (RATE_CLASS, _) => Ok(Value::RateClasses(tables(key, value, RATE_CLASSES_MAX, rate_class)?)),
        _ if is_of_countries(key) => countries(key, value),
        (_, Toml::Integer(number)) => Ok(Value::Number(number_u32(key, *number)?)),
        (_, Toml::String(text)) => Ok(Value::Text(text.as_str().into())),
        (_, Toml::Boolean(truth)) => Ok(Value::Truth(*truth)),
        (_, Toml::Array(members)) => array(key, members),
        (_, Toml::Float(_) | Toml::Datetime(_) | Toml::Table(_)) => Err(wrong_type(
            key,
            "a whole number, a text, true or false, a list, or [[rules]] with glob and number",
            value,
        )),
    }
}

fn shape(key: &str, expected: &'static str) -> ConfigError {
    ConfigError::Shape { key: key.to_owned(), expected }
}

fn wrong_type(key: &str, expected: &'static str, found: &Toml) -> ConfigError {
    let found = match found {
        Toml::Integer(_) => "a whole number",
        Toml::String(_) => "a text",
        Toml::Boolean(_) => "true or false",
        Toml::Float(_) => "a number with a fraction",
        Toml::Datetime(_) => "a date or time",
        Toml::Table(_) => "a single table",
        Toml::Array(_) => "a list of something else",
    };
    ConfigError::Type { key: key.to_owned(), expected: expected.into(), found }
}

/// Returns the part of an owner's text that an error shows.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_LETTERS_MAX).collect()
}

fn array(key: &str, members: &[Toml]) -> Parsed<Value> {
    match members.first() {
        None => Ok(Value::Nothing),
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
            texts.sort_unstable();
            Ok(Value::Texts(texts.into_iter().map(Box::from).collect()))
        }
        Some(Toml::Table(_)) => rules(key, members),
        Some(Toml::Float(_) | Toml::Datetime(_) | Toml::Boolean(_) | Toml::Array(_)) => {
            Err(shape(key, "a list of whole numbers, of texts, or of rules with glob and number"))
        }
    }
}

fn countries(key: &str, value: &Toml) -> Parsed<Value> {
    const EXPECTED: &str = "a list of countries and groups, such as [\"DE\", \"eu\"]";
    let members = value.as_array().ok_or_else(|| wrong_type(key, EXPECTED, value))?;
    if members.is_empty() && key.ends_with(DENY_SUFFIX) {
        return Err(ConfigError::RefusesNobody { key: key.to_owned() });
    }
    let mut countries = Vec::new();
    for member in members {
        let member = member.as_str().ok_or_else(|| shape(key, EXPECTED))?;
        if let Some(group) = groups::members(member) {
            countries.extend(group);
        } else if let Some(country) = assigned(member) {
            countries.push(country);
        } else {
            return Err(ConfigError::Country {
                key: key.to_owned(),
                member: shown(member),
                nearest: meant(member),
                groups: groups::names().collect::<Vec<_>>().join(", "),
            });
        }
    }
    countries.sort_unstable();
    countries.dedup();
    Ok(Value::Countries(countries))
}

/// Parses a country code. A viewer may have any two letters, but an owner who writes an unassigned code has made a
/// mistake.
fn assigned(member: &str) -> Option<CountryCode> {
    member.parse().ok().filter(|country: &CountryCode| *country == CountryCode::UNKNOWN || country.is_assigned())
}

/// Returns the country or group that a wrong member probably means.
fn meant(member: &str) -> Option<&'static str> {
    let member = shown(member.trim());
    let (upper, lower) = (member.to_ascii_uppercase(), member.to_ascii_lowercase());
    let alias = COUNTRY_ALIASES.into_iter().find_map(|(alias, code)| (alias == upper).then_some(code));
    let country = || CountryCode::assigned().find(|code| *code == upper);
    let group = || nearest(&lower, groups::names());
    groups::names().find(|name| *name == lower).or(alias).or_else(country).or_else(group)
}

fn rules(key: &str, members: &[Toml]) -> Parsed<Value> {
    const EXPECTED: &str = "a list of rules, each with a text `glob` and a whole `number` and nothing else";
    check_count(key, members.len(), RULES_MAX)?;
    let mut rules: Vec<(Glob, u32)> = Vec::with_capacity(members.len());
    let mut globs: Vec<Cow<'_, str>> = Vec::with_capacity(members.len());
    for member in members {
        let fields = member.as_table().filter(|table| table.len() == 2);
        let glob = fields.and_then(|table| table.get("glob")?.as_str());
        let number = fields.and_then(|table| table.get("number")?.as_integer());
        let (Some(pattern), Some(number)) = (glob, number) else {
            return Err(shape(key, EXPECTED));
        };
        let glob = Glob::new(pattern).map_err(|source| ConfigError::Glob {
            key: key.to_owned(),
            glob: shown(pattern),
            source,
        })?;
        let spelt = canonical_glob(pattern);
        if globs.contains(&spelt) {
            return Err(ConfigError::Twice { key: key.to_owned(), member: pattern.to_owned() });
        }
        globs.push(spelt);
        rules.push((glob, number_u32(key, number)?));
    }
    Ok(Value::Rules(rules))
}

fn number_u32(key: &str, number: i64) -> Parsed<u32> {
    u32::try_from(number).map_err(|_| ConfigError::Number { key: key.to_owned(), number, least: 0, most: u32::MAX })
}

fn check_count(key: &str, count: usize, limit: usize) -> Parsed<()> {
    if count > limit { Err(ConfigError::TooMany { key: key.to_owned(), count, limit }) } else { Ok(()) }
}

/// Reads one of the reserved lists of tables. `read` gets each table with its index.
fn tables<T>(key: &str, value: &Toml, limit: usize, read: impl Fn(usize, &Table) -> Parsed<T>) -> Parsed<Vec<T>> {
    const EXPECTED: &str = "a list of tables; write [[...]]";
    let members = value.as_array().ok_or_else(|| wrong_type(key, EXPECTED, value))?;
    check_count(key, members.len(), limit)?;
    let read = |(at, member): (usize, &Toml)| match member {
        Toml::Table(table) => read(at, table),
        _ => Err(shape(key, EXPECTED)),
    };
    members.iter().enumerate().map(read).collect()
}

fn header_set(set: usize, table: &Table) -> Parsed<Vec<Header>> {
    let mut headers: Vec<Header> = Vec::with_capacity(table.len());
    for (name, value) in table {
        let value = value.as_str().ok_or_else(|| shape(HEADER_SET, "a table of header names and texts"))?;
        let header = Header::new(name, value).map_err(|source| ConfigError::Header { set, source })?;
        if headers.iter().any(|before| before.name() == header.name()) {
            return Err(ConfigError::Twice { key: HEADER_SET.to_owned(), member: header.name().to_owned() });
        }
        headers.push(header);
    }
    Ok(headers)
}

fn target(_: usize, table: &Table) -> Parsed<Box<str>> {
    let url = Some(table).filter(|table| table.len() == 1).and_then(|table| table.get("url")?.as_str());
    let is_target = |url: &&str| {
        (url.starts_with("https://") || url.starts_with("http://") || (url.starts_with('/') && !url.starts_with("//")))
            && url.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
    };
    let url = url.filter(is_target).ok_or_else(|| {
        shape(TARGET, "a list of tables with only a `url`, absolute (https, http) or a path, in printable ASCII")
    })?;
    Ok(url.into())
}

fn rate_class(_: usize, table: &Table) -> Parsed<RateClass> {
    let number = |name| match table.get(name) {
        Some(Toml::Integer(number)) if table.len() == 2 && *number > 0 => number_u32(RATE_CLASS, *number),
        _ => Err(shape(RATE_CLASS, "a list of tables with only `requests` and `seconds`, whole numbers above 0")),
    };
    Ok(RateClass { requests: number("requests")?, seconds: number("seconds")? })
}
