//! Prefixes of addresses. At the root, since configuration, doors and policies all name them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::Deserialize;

/// An address prefix, with no bits set beyond its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Net {
    address: IpAddr,
    length: u8,
}

/// A text that is no prefix: the operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not an address prefix such as 10.0.0.0/8 with all bits beyond its length zero")]
pub struct NetError {
    /// What was given, cut at 80 characters.
    pub found: String,
}

impl Net {
    /// Makes a prefix; none when it is longer than the address, or the address has bits beyond it.
    pub(crate) fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= width(address) && cut(address, length) == address).then_some(Self { address, length })
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn length(&self) -> u8 {
        self.length
    }

    /// Returns whether the prefix holds an address of its family.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        common_bits(self.address, address).is_some_and(|bits| bits >= self.length)
    }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError { found: text.chars().take(80).collect() };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        Self::new(address, length).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Net {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Bits of an address of this family.
pub(crate) fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Clears all bits beyond `length`.
#[must_use]
pub(crate) fn cut(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// Returns the network of an address, of which one site may use any other too: a /24, or of IPv6 a /56.
#[must_use]
pub(crate) fn network(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    cut(address, if address.is_ipv4() { 24 } else { 56 })
}

/// Leading bits that two addresses share; none when they are of different families.
pub(crate) fn common_bits(a: IpAddr, b: IpAddr) -> Option<u8> {
    let bits = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return None,
    };
    Some(u8::try_from(bits).expect("an address has at most 128 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_one_spelling() {
        for bad in ["10.0.0.1/8", "10.0.0.0", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/-1", ""] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
        for good in ["0.0.0.0/0", "::/0", "1.2.3.4/32"] {
            assert_eq!(good.parse::<Net>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn addresses_are_cut_to_their_network() {
        for (address, cut) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2ff:3::1", "2001:db8:1:200::"),
        ] {
            assert_eq!(network(address.parse().unwrap()).to_string(), cut);
        }
        assert_eq!(cut("192.0.2.77".parse().unwrap(), 0).to_string(), "0.0.0.0");
    }
}
