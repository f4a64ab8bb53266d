//! The zone whose labels are objects, and how a host name or a DNS name is read against it. At the root, since the
//! configuration and the faults name it.

use std::{fmt, str::FromStr};

use format::{Label, LabelError};
use serde::{Deserialize, Serialize};

/// A DNS name in lower case, without the final dot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(Box<str>);

/// A text that is no DNS name: the operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a DNS name: labels of 1 to 63 letters, digits and inner hyphens, at most 190 bytes in all")]
pub struct ZoneError {
    /// What was given, cut at 80 characters.
    pub found: String,
}

/// RFC 1035 allows 253; `_prefix.` and a label of 60 must fit in front.
const ZONE_BYTES_MAX: usize = 190;
const LABEL_BYTES_MAX: usize = 63;
/// Every edge answers here too, whatever its zone: browsers resolve it to the machine they run on (RFC 6761 section
/// 6.3).
pub(crate) const LOCALHOST: &str = "localhost";

/// What a host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// The zone itself.
    Apex,
    /// An object.
    Object(Label),
    /// Inside the zone, but no label.
    Malformed(LabelError),
    /// Another zone's name.
    Elsewhere,
}

impl Zone {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ZoneError`].
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() <= ZONE_BYTES_MAX && name.split('.').all(label) {
            Ok(Self(name.into()))
        } else {
            Err(ZoneError { found: text.chars().take(80).collect() })
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the host of a request, which may carry a port and a final dot, in any case.
    #[must_use]
    pub fn read_host(&self, authority: &str) -> HostName {
        let host = strip_port(authority);
        let host = host.strip_suffix('.').unwrap_or(host);
        let (before, is_ours) = match self.strip(host) {
            Some(before) => (Some(before), true),
            None => (strip_zone(host, LOCALHOST), false),
        };
        match before.map(|before| (before, Label::parse(before.as_bytes()))) {
            None => HostName::Elsewhere,
            Some(("", _)) => HostName::Apex,
            Some((_, Ok(label))) => HostName::Object(label),
            Some((_, Err(error))) if is_ours => HostName::Malformed(error),
            // More likely a name of another zone than a misspelt label: here it is the zone that should be looked at.
            Some((_, Err(_))) => HostName::Elsewhere,
        }
    }

    /// Returns whether a host is one of those that every edge has beside its zone's, and no authority certifies.
    pub(crate) fn is_beside(&self, authority: &str) -> bool {
        let host = strip_port(authority);
        let host = host.strip_suffix('.').unwrap_or(host);
        self.strip(host).is_none() && strip_zone(host, LOCALHOST).is_some()
    }

    /// Returns what stands before the zone, empty for the zone itself, or none for another zone's name.
    #[must_use]
    pub fn strip<'h>(&self, host: &'h str) -> Option<&'h str> {
        strip_zone(host, &self.0)
    }
}

fn strip_zone<'h>(host: &'h str, zone: &str) -> Option<&'h str> {
    let start = host.len().checked_sub(zone.len())?;
    let (before, end) = host.split_at_checked(start)?;
    if !end.eq_ignore_ascii_case(zone) {
        return None;
    }
    if before.is_empty() { Some("") } else { before.strip_suffix('.').filter(|label| !label.is_empty()) }
}

fn strip_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(text: String) -> Result<Self, ZoneError> {
        Self::parse(&text)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        Self::parse(text)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use format::Capability;

    use super::*;

    #[test]
    fn hosts_of_any_spelling_name_one_object() {
        let zone = Zone::parse("Evernear.Example.").unwrap();
        let label = Label::open(Capability::from_bytes([9; 32]));
        for host in [
            format!("{label}.evernear.example"),
            format!("{label}.EVERNEAR.example."),
            format!("{label}.evernear.example:8080"),
            format!("{}.localhost:80", label.to_string().to_uppercase()),
        ] {
            assert_eq!(zone.read_host(&host), HostName::Object(label.clone()), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_told_apart() {
        let zone = Zone::parse("evernear.example").unwrap();
        assert_eq!(zone.read_host("evernear.example:80"), HostName::Apex);
        assert_eq!(zone.read_host("localhost"), HostName::Apex);
        assert!(
            zone.is_beside("x.LOCALHOST.:80") && !zone.is_beside("x.evernear.example") && !zone.is_beside("example")
        );
        assert!(!Zone::parse("cdn.localhost").unwrap().is_beside("x.cdn.localhost"));
        for elsewhere in
            ["", "example", "xevernear.example", ".evernear.example", "evernear.example.com", "[::1]:80", "é.de"]
        {
            assert_eq!(zone.read_host(elsewhere), HostName::Elsewhere, "{elsewhere}");
        }
        assert!(matches!(zone.read_host("www.evernear.example"), HostName::Malformed(LabelError::Length { .. })));
        let label = Label::open(Capability::from_bytes([9; 32]));
        assert!(matches!(zone.read_host(&format!("a.{label}.evernear.example")), HostName::Malformed(_)));
        // The label is good, or there is none; the zone is wrong.
        for elsewhere in [format!("{label}.cdn.localhost:80"), "cdn.localhost".into(), format!("{label}.example:80")] {
            assert_eq!(zone.read_host(&elsewhere), HostName::Elsewhere, "{elsewhere}");
        }
    }

    #[test]
    fn zones_are_names() {
        for bad in ["", ".", "-a.b", "a..b", "a b", "ä.de", &"a.".repeat(100)] {
            assert!(Zone::parse(bad).is_err(), "{bad}");
        }
    }
}
