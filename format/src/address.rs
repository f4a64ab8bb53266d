//! The address of a node's API: a host and a port. The host is an IP address or a DNS name, which whoever connects
//! resolves anew each time. It is where a node is, never who it is: that its certificate proves.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::place::text_serde;

/// Maximum bytes of a host name (RFC 1035 section 2.3.4, without the length octets).
const HOST_BYTES_MAX: usize = 253;
/// Maximum bytes of one label of it.
const LABEL_BYTES_MAX: usize = 63;

/// A text that is no address of a node. The fault lies with the author of the configuration or the announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no address of a node: write HOST:PORT, such as o1.example.org:7400, 192.0.2.1:7400 or [2001:db8::1]:7400"
)]
pub struct AddressError {
    /// The text, cut at 80 characters.
    pub found: String,
}

/// Where a node's API listens: `HOST:PORT`, in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

impl NodeAddress {
    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the IP address; none for a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }

    /// Returns the name to resolve; none for an IP address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }
}

impl From<SocketAddr> for NodeAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for NodeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let wrong = || AddressError { found: text.chars().take(80).collect() };
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        // `u16` alone would take "+7400".
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_port && *port != 0).ok_or_else(wrong)?;
        if is_host_name(name) {
            Ok(Self { host: Host::Name(name.to_ascii_lowercase().into()), port })
        } else {
            Err(wrong())
        }
    }
}

text_serde!(NodeAddress);

/// Returns whether a text is a DNS name of a host. Underscores are taken, because container networks give such names.
fn is_host_name(name: &str) -> bool {
    let rooted = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is a number is a mistyped IPv4 address, and resolvers take it for one.
    let ends_in_number = rooted.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    rooted.len() <= HOST_BYTES_MAX && rooted.split('.').all(is_label) && !ends_in_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, spelling) in [
            ("192.0.2.1:7400", "192.0.2.1:7400"),
            ("[2001:DB8:0::1]:7400", "[2001:db8::1]:7400"),
            ("O1.Example.org:7400", "o1.example.org:7400"),
            ("o1:1", "o1:1"),
            ("my_origin.local.:65535", "my_origin.local.:65535"),
            ("1st.example:7400", "1st.example:7400"),
        ] {
            let address: NodeAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), spelling);
            assert_eq!(address.to_string().parse(), Ok(address.clone()));
            assert_eq!(
                serde_json::from_str::<NodeAddress>(&serde_json::to_string(&address).unwrap()).unwrap(),
                address
            );
            assert_ne!(address.ip().is_some(), address.name().is_some());
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let (longest, too_long) = ("a.".repeat(126) + "a", "a.".repeat(126) + "ab");
        assert!(format!("{longest}:1").parse::<NodeAddress>().is_ok());
        assert!(format!("{}:1", "a".repeat(63)).parse::<NodeAddress>().is_ok());
        for bad in [
            "",
            ":",
            ":7400",
            "localhost",
            "o1:",
            "o1:0",
            "o1:65536",
            "o1:+1",
            "o1:x",
            "o1 :1",
            "-o1:1",
            "o1-:1",
            "o..1:1",
            ".o1:1",
            "2001:db8::1:7400x",
            "2001:db8::1",
            "192.0.2:7400",
            "192.0.2.256:7400",
            "https://o1:7400",
            "o1/x:1",
            "ö1:1",
            "user@o1:1",
            &format!("{too_long}:1"),
            &format!("{}:1", "a".repeat(64)),
        ] {
            assert!(bad.parse::<NodeAddress>().is_err(), "{bad}");
        }
        let said = "localhost".parse::<NodeAddress>().unwrap_err().to_string();
        assert!(said.contains("\"localhost\" is no address") && said.contains("HOST:PORT"), "{said}");
    }
}
