//! The keys that a component's configuration may have, with their types, as the component itself declares them.
//!
//! Flow: custom section `evernear:config` of the component or of its core modules -> [`Keys::parse`] at admission ->
//! [`Config::check`], which every chain requires. It decodes foreign bytes and cannot panic.
//!
//! The section is text with one key on each line: `KEY: TYPE`, or `KEY: TYPE with OTHER` for a key that is useless
//! without another. Empty lines are ignored, so a component without keys declares one empty line.
//!
//! | type | TOML |
//! |---|---|
//! | `number`, `number 400..=499` | `ttl = 60`, both ends included |
//! | `text`, `header-value` | `note = "hi"`, printable ASCII that a response header can have |
//! | `refusal` | `status = 451`: what a refusal may say, with a key `hide` of type `truth` beside it for 404 |
//! | `truth` | `strict = true` |
//! | `numbers`, `texts` | `ids = [1, 2]`, `hosts = ["a", "b"]` |
//! | `countries` | `X-allow = ["DE", "eu"]`, also `X-deny`, `X-countries`: these ends of keys and this type go together |
//! | `rules` | `[[X]]` with `glob`, `number` |
//! | `tables` | `[[header-set]]`, `[[target]]`, `[[rate-class]]`: these keys and this type go together |

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use crate::config::{Config, ConfigError, KEY_BYTES_MAX, Value, is_of_countries, is_of_tables};
use crate::headers;
use crate::nearest::nearest;

/// The custom section that declares keys.
pub(crate) const SECTION: &str = "evernear:config";
/// The key by which a policy hides what it refuses.
const HIDE: &str = "hide";
/// Maximum bytes of a declaration.
const DECLARATION_BYTES_MAX: usize = 16 * 1024;
const KEYS_MAX: usize = 256;
/// Maximum number of letters of a bad line in an error.
const SHOWN_LETTERS_MAX: usize = 80;

/// All keys that a component's configuration may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<Box<str>, Declared>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    expected: Expected,
    /// The key without which this one is useless.
    with: Option<Box<str>>,
}

/// The type that a component expects under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Number(RangeInclusive<u32>),
    /// The status of a refusal.
    Refusal,
    Text,
    HeaderValue,
    Truth,
    Numbers,
    Texts,
    Countries,
    Rules,
    Tables,
}

/// Why a declaration cannot be read. The component's author is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The declaration is too long, or has too many keys.
    #[error("it has {bytes} bytes and {keys} keys, at most {DECLARATION_BYTES_MAX} and {KEYS_MAX} are allowed")]
    TooLong {
        /// Bytes found.
        bytes: usize,
        /// Keys read so far.
        keys: usize,
    },
    /// The declaration is not UTF-8.
    #[error("it is not text")]
    NotText,
    /// A line is not a valid declaration.
    #[error("its line {line:?} is wrong: {reason}")]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A refusal's status is declared, but not how to hide.
    #[error("it declares {key}: refusal, but not {HIDE}: truth")]
    Hide {
        /// The key.
        key: Box<str>,
    },
    /// A key requires another key that is not declared.
    #[error("it declares {key} with {other}, but no {other}")]
    With {
        /// The key.
        key: Box<str>,
        /// The other key.
        other: Box<str>,
    },
}

impl Keys {
    /// Reads a declaration.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(section: &[u8]) -> Result<Self, KeysError> {
        let mut keys: BTreeMap<Box<str>, Declared> = BTreeMap::new();
        if section.len() > DECLARATION_BYTES_MAX {
            return Err(KeysError::TooLong { bytes: section.len(), keys: 0 });
        }
        let text = std::str::from_utf8(section).map_err(|_| KeysError::NotText)?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let wrong = |reason| KeysError::Line { line: line.chars().take(SHOWN_LETTERS_MAX).collect(), reason };
            let (key, declared) = parse_line(line).map_err(wrong)?;
            if keys.insert(Box::from(key), declared).is_some() {
                return Err(wrong("the key was declared before"));
            }
            if keys.len() > KEYS_MAX {
                return Err(KeysError::TooLong { bytes: section.len(), keys: keys.len() });
            }
        }
        for (key, declared) in &keys {
            if let Some(other) = declared.with.as_ref().filter(|other| !keys.contains_key(*other)) {
                return Err(KeysError::With { key: key.clone(), other: other.clone() });
            }
            let hides = keys.get(HIDE).is_some_and(|declared| declared.expected == Expected::Truth);
            if declared.expected == Expected::Refusal && !hides {
                return Err(KeysError::Hide { key: key.clone() });
            }
        }
        Ok(Self(keys))
    }

    /// Returns the keys, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|key| &**key)
    }

    /// Checks that `config` has only declared keys, each with a value of its type.
    pub(crate) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        for (key, value) in config.entries() {
            let declared = self.0.get(key).ok_or_else(|| self.unknown(key))?;
            declared.expected.check(key, value)?;
            if let Some(other) = &declared.with
                && config.entries().all(|(key, _)| *key != **other)
            {
                return Err(ConfigError::Alone { key: key.to_owned(), other: String::from(&**other) });
            }
            if declared.expected == Expected::Refusal
                && config.entries().any(|(key, value)| key == HIDE && matches!(value, Value::Truth(true)))
            {
                return Err(ConfigError::Hidden { key: key.to_owned() });
            }
        }
        Ok(())
    }

    fn unknown(&self, key: &str) -> ConfigError {
        ConfigError::UnknownKey {
            key: key.to_owned(),
            nearest: nearest(key, self.names()).map(str::to_owned),
            known: self.names().map(str::to_owned).collect(),
        }
    }
}

impl Expected {
    fn check(&self, key: &str, value: &Value) -> Result<(), ConfigError> {
        match (self, value) {
            (Self::Number(range), Value::Number(number)) if !range.contains(number) => Err(ConfigError::Number {
                key: key.to_owned(),
                number: (*number).into(),
                least: *range.start(),
                most: *range.end(),
            }),
            (Self::Refusal, Value::Number(number)) if !is_refusal(*number) => {
                Err(ConfigError::Refusal { key: key.to_owned(), number: *number })
            }
            (Self::HeaderValue, Value::Text(text)) if !headers::is_value(text) => {
                Err(ConfigError::HeaderValue { key: key.to_owned() })
            }
            (Self::Number(_) | Self::Refusal, Value::Number(_))
            | (Self::Text | Self::HeaderValue, Value::Text(_))
            | (Self::Truth, Value::Truth(_))
            | (Self::Numbers, Value::Numbers(_) | Value::Nothing)
            | (Self::Texts, Value::Texts(_) | Value::Nothing)
            | (Self::Countries, Value::Countries(_))
            | (Self::Rules, Value::Rules(_) | Value::Nothing)
            | (Self::Tables, Value::HeaderSets(_) | Value::Targets(_) | Value::RateClasses(_)) => Ok(()),
            _ => {
                Err(ConfigError::Type { key: key.to_owned(), expected: self.to_string().into(), found: value.found() })
            }
        }
    }
}

/// Formats the type for an error message, as in "it must be a whole number".
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number(range) if *range.end() < u32::MAX => {
                return write!(f, "a whole number, {} to {}", range.start(), range.end());
            }
            Self::Number(_) => "a whole number",
            Self::Refusal => "a whole number, 400 to 499",
            Self::Text => "a text",
            Self::HeaderValue => "a text that a response header can have",
            Self::Truth => "true or false",
            Self::Numbers => "a list of whole numbers",
            Self::Texts => "a list of texts",
            Self::Countries => "a list of countries and groups, such as [\"DE\", \"eu\"]",
            Self::Rules => "a list of rules, each with glob and number",
            Self::Tables => "a list of tables",
        })
    }
}

/// Whether a refusal may say this status. What is hidden is hidden by [`HIDE`]: 404 with the headers of a refusal would
/// tell that something is there. The verdict refuses the two that depend on conditions and ranges.
fn is_refusal(status: u32) -> bool {
    matches!(status, 400..=499) && !matches!(status, 404 | 412 | 416)
}

/// Reads `KEY: TYPE` or `KEY: TYPE with OTHER`.
fn parse_line(line: &str) -> Result<(&str, Declared), &'static str> {
    let (key, declared) = line.split_once(": ").ok_or("write `KEY: TYPE`")?;
    let (expected, with) = match declared.split_once(" with ") {
        Some((expected, other)) => (expected, Some(Box::from(other))),
        None => (declared, None),
    };
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(is_key) {
        return Err("a key has 1 to 64 letters, digits, dashes and underscores");
    }
    let expected = parse_type(expected)?;
    if (expected == Expected::Countries) != is_of_countries(key) {
        return Err("keys that end in -allow, -deny or -countries are `countries`, and no others are");
    }
    if (expected == Expected::Tables) != is_of_tables(key) {
        return Err("header-set, target and rate-class are `tables`, and no others are");
    }
    Ok((key, Declared { expected, with }))
}

fn parse_type(text: &str) -> Result<Expected, &'static str> {
    Ok(match text {
        "number" => Expected::Number(0..=u32::MAX),
        "refusal" => Expected::Refusal,
        "text" => Expected::Text,
        "header-value" => Expected::HeaderValue,
        "truth" => Expected::Truth,
        "numbers" => Expected::Numbers,
        "texts" => Expected::Texts,
        "countries" => Expected::Countries,
        "rules" => Expected::Rules,
        "tables" => Expected::Tables,
        _ => {
            let range = text.strip_prefix("number ").and_then(|range| range.split_once("..="));
            let ends = range.and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?)));
            let (least, most): (u32, u32) = ends.ok_or("it has no type that this program knows")?;
            if least > most {
                return Err("the range is empty");
            }
            Expected::Number(least..=most)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_type_and_no_line_is_a_declaration_of_no_keys() {
        let text = "ttl: number\nstatus: refusal\nhide: truth\nslot: number 0..=255 with number\nnumber: number\n\nnote: text\n\
                    csp: header-value\nstrict: truth\nids: numbers\nhosts: texts\nx-deny: countries\npaths: rules\ntarget: tables\n";
        let keys = Keys::parse(text.as_bytes()).expect("each line is right");
        assert_eq!(keys.names().count(), 13);
        assert_eq!(Keys::parse(b"\n"), Ok(Keys::default()));
    }

    #[test]
    fn a_wrong_line_is_refused_with_the_line() {
        for line in [
            "ttl",
            "ttl:number",
            ": number",
            "t t: number",
            "ttl: nummer",
            "ttl: number 5..=4",
            "ttl: number 0..=4294967296",
            "x-allow: texts",
            "blocked: countries",
            "target: texts",
            "tables: tables",
        ] {
            let error = Keys::parse(format!("good: text\n{line}\n").as_bytes()).expect_err(line);
            assert!(matches!(&error, KeysError::Line { line: found, .. } if found == line), "{error}");
        }
        assert!(matches!(Keys::parse(b"a: text\na: number"), Err(KeysError::Line { .. })));
        assert!(matches!(Keys::parse(b"a: text with b"), Err(KeysError::With { .. })));
        for without in ["status: refusal", "status: refusal\nhide: number"] {
            assert_eq!(Keys::parse(without.as_bytes()), Err(KeysError::Hide { key: "status".into() }), "{without}");
        }
        assert_eq!(Keys::parse(b"a: \xff"), Err(KeysError::NotText));
    }

    #[test]
    fn takes_256_keys_of_64_letters_and_no_more() {
        let keys = |count: usize| (0..count).map(|at| format!("{at}: text\n")).collect::<String>();
        assert!(Keys::parse(keys(256).as_bytes()).is_ok());
        assert!(matches!(Keys::parse(keys(257).as_bytes()), Err(KeysError::TooLong { keys: 257, .. })));
        let key = |letters: usize| format!("{}: text", "k".repeat(letters));
        assert!(Keys::parse(key(64).as_bytes()).is_ok() && Keys::parse(key(65).as_bytes()).is_err());
        assert!(Keys::parse("\n".repeat(16_384).as_bytes()).is_ok());
        assert!(matches!(Keys::parse("\n".repeat(16_385).as_bytes()), Err(KeysError::TooLong { .. })));
    }
}
