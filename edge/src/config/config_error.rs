//! Why a configuration cannot be used.

use std::{net::SocketAddr, ops::RangeInclusive};

use crate::zone::ZoneError;

/// Why a configuration cannot be used; the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("the configuration is not understood")]
    Toml(#[from] toml::de::Error),
    /// The place is out of range.
    #[error("`place` is wrong")]
    Place(#[from] format::PlaceError),
    /// A name server or mailbox is no name.
    #[error("`{field}` is no DNS name")]
    Name {
        /// The field.
        field: &'static str,
        /// Why.
        source: ZoneError,
    },
    /// A number is out of bounds.
    #[error("`{field}` is {found}, but must be {bound}")]
    Bound {
        /// The field.
        field: &'static str,
        /// What was given.
        found: u64,
        /// What is allowed.
        bound: &'static str,
    },
    /// No address to tell viewers.
    #[error("`public` is missing and `http.listen` is on every address; write the addresses that viewers reach")]
    Public,
    /// Nothing to tell other edges.
    #[error("`peers.address` is missing and `peers.listen` is on every address; write what the other edges reach")]
    PeerAddress,
    /// No certificate, or two.
    #[error("`https` needs either `certificate` and `key` or `acme`")]
    Certificate,
    /// Nothing to seal a certificate with.
    #[error("`https.acme` needs `https.secret`: the edges share the certificate sealed by it")]
    Secret,
    /// Nothing to prove a zone by.
    #[error("`https.acme` needs `dns.listen`: the authority asks the edges' own DNS")]
    Proof,
    /// No origin to ask.
    #[error("`seeds` is empty; name at least one origin")]
    Seeds,
    /// Two doors in one place.
    #[error("`{first}` ({first_address}) and `{second}` ({second_address}) cannot both be had; give each its own port")]
    Shared {
        /// The one.
        first: &'static str,
        /// Its address.
        first_address: SocketAddr,
        /// The other.
        second: &'static str,
        /// Its address.
        second_address: SocketAddr,
    },
}

/// A number that has bounds: its field, what was given, what is allowed, and the same in words.
pub(super) type Bounded = (&'static str, u64, RangeInclusive<u64>, &'static str);

/// Refuses the first of these numbers that is out of its bounds.
pub(super) fn check_bounds(numbers: &[Bounded]) -> Result<(), ConfigError> {
    match numbers.iter().find(|(_, found, range, _)| !range.contains(found)) {
        None => Ok(()),
        Some(&(field, found, _, bound)) => Err(ConfigError::Bound { field, found, bound }),
    }
}
