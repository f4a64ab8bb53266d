//! Response headers that an owner may set, in the config or by an effect.
//!
//! Invariant: an owner can neither break the framing of a response nor set a header that the edge sets itself.

/// Maximum bytes of a name and of a value. An effect has at most 1 KiB in all.
const NAME_BYTES_MAX: usize = 64;
pub(crate) const VALUE_BYTES_MAX: usize = 960;

/// Names reserved for the edge: framing and hop-by-hop fields (RFC 9110 section 7.6.1), the representation that it
/// verified, lifetimes, which the verdict says (RFC 9213 has more fields for them), its own diagnostics, and cookies,
/// which no object ever sets.
const RESERVED: [&str; 30] = [
    "accept-ranges",
    "age",
    "alt-svc",
    "cache-control",
    "cache-status",
    "cdn-cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-authenticate",
    "proxy-connection",
    "proxy-status",
    "repr-digest",
    "server-timing",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "x-request-id",
];

/// A response header: a lower-case name and a printable value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    name: Box<str>,
    value: Box<str>,
}

/// Why a header may not be set. The owner is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The name has characters other than letters, digits and hyphens, or is too long.
    #[error("{name:?} is no header name of at most {NAME_BYTES_MAX} letters, digits and dashes")]
    Name {
        /// The name, cut at the maximum length.
        name: String,
    },
    /// The value has bytes other than printable ASCII, has blanks at its ends, or is too long.
    #[error("value of header {name} is not printable ASCII of at most {VALUE_BYTES_MAX} bytes")]
    Value {
        /// The header's name.
        name: String,
    },
    /// The edge sets this header itself.
    #[error("header {name} belongs to the edge; leave it out")]
    Reserved {
        /// The header's name.
        name: String,
    },
}

impl Header {
    /// Checks name and value, and turns the name into lower case.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn new(name: &str, value: &str) -> Result<Self, HeaderError> {
        let name = checked_name(name)?;
        if !is_value(value) {
            return Err(HeaderError::Value { name: name.into() });
        }
        Ok(Self { name, value: value.into() })
    }

    /// Returns the name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Returns whether a header can have this value.
pub(crate) fn is_value(value: &str) -> bool {
    let is_printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_printable && value.len() <= VALUE_BYTES_MAX && value.trim() == value
}

/// Checks a header name that an owner may set or drop, and turns it into lower case.
pub(crate) fn checked_name(name: &str) -> Result<Box<str>, HeaderError> {
    let is_token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_token || name.len() > NAME_BYTES_MAX {
        return Err(HeaderError::Name { name: name.chars().take(NAME_BYTES_MAX).collect() });
    }
    let name = name.to_ascii_lowercase();
    if RESERVED.binary_search(&name.as_str()).is_ok() {
        return Err(HeaderError::Reserved { name });
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_break_the_framing() {
        assert!(RESERVED.is_sorted());
        for (name, value) in [
            ("Content-Length", "1"),
            ("X-Request-Id", "1"),
            ("x\r\ny", "1"),
            ("", "1"),
            ("x", "a\r\nb"),
            ("x", " a"),
            ("x", "ä"),
        ] {
            assert!(Header::new(name, value).is_err(), "{name:?}");
        }
        assert_eq!(
            Header::new("X-Frame-Options", "DENY").map(|header| header.name.to_string()),
            Ok("x-frame-options".into())
        );
    }

    #[test]
    fn takes_the_longest_name_and_value_and_no_longer() {
        let (name, value) = ("n".repeat(NAME_BYTES_MAX), "v".repeat(VALUE_BYTES_MAX));
        assert!(Header::new(&name, &value).is_ok());
        assert!(Header::new(&format!("{name}n"), &value).is_err() && Header::new(&name, &format!("{value}v")).is_err());
    }
}
