//! An invitation: one word that a person carries to a second machine, so that it may join as a node. Pure.
//!
//! ```text
//! evj_ and base64url, without padding, of
//!   version      1 byte, 1
//!   role         1 byte: 1 origin, 2 edge
//!   door        18 bytes: IPv6 address, that of IPv4 mapped into it, and port, big-endian
//!   authority   32 bytes: SHA-256 of the authority's certificate
//!   secret      32 bytes
//!   check        4 bytes: the first of BLAKE3 of all before
//! ```
//!
//! Whoever has it may join once, in that role. Only a hash of the secret is kept where it was made.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use client::tls::Fingerprint;
use data_encoding::BASE64URL_NOPAD;
use format::wire::Role;
use zeroize::{Zeroize, Zeroizing};

const PREFIX: &str = "evj_";
const VERSION: u8 = 1;
const SECRET_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;
const BYTES: usize = 1 + 1 + 16 + 2 + 32 + SECRET_BYTES + CHECK_BYTES;
const CONTEXT: &str = "evernear 2026 v1 invitation";

/// What proves that its holder was invited. It is wiped from memory.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

/// An invitation as its holder has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Where the door of the network is.
    pub door: SocketAddr,
    /// What the machine is to be.
    pub role: Role,
    /// The certificate of the network's authority.
    pub authority: Fingerprint,
    pub(crate) secret: Secret,
}

/// A text that is no invitation; whoever typed it is at fault. It does not say what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It is something else.
    #[error("an invitation begins with `{PREFIX}`; `evernear node invite` prints one where `evernear up` runs")]
    Other,
    /// A part of it was lost, or changed.
    #[error("this invitation is damaged: copy all of it, in one word, as `evernear node invite` printed it")]
    Damaged,
    /// Another version of the program made it.
    #[error(
        "this invitation is of version {found}, and this program reads version {VERSION}; use the program that printed it"
    )]
    Version {
        /// Its version.
        found: u8,
    },
}

impl Secret {
    /// Draws one from a source of random bytes.
    pub(crate) fn draw<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        fill(&mut bytes[..])?;
        Ok(Self(bytes))
    }

    /// Returns what is kept of it, under a context of its own.
    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash(blake3::derive_key(CONTEXT, &self.0[..]))
    }

    pub(crate) fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut kept = Zeroizing::new([0; SECRET_BYTES]);
        (bytes.len() == SECRET_BYTES).then(|| kept.copy_from_slice(bytes))?;
        Some(Self(kept))
    }
}

/// What is kept of a secret. Whoever reads it can do nothing with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretHash(pub(crate) [u8; 32]);

impl Invitation {
    /// Returns the word for its holder.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
        bytes.extend([VERSION, if self.role == Role::Origin { 1 } else { 2 }]);
        let ip = match self.door.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        bytes.extend(ip.octets());
        bytes.extend(self.door.port().to_be_bytes());
        bytes.extend(self.authority.0);
        bytes.extend(self.secret.expose());
        let check = check(&bytes);
        bytes.extend(check);
        let mut coded = BASE64URL_NOPAD.encode(&bytes);
        let word = Zeroizing::new(format!("{PREFIX}{coded}"));
        coded.zeroize();
        word
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({} at {})", self.role.as_str(), self.door)
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        use InvitationError::{Damaged, Other, Version};
        let coded = text.strip_prefix(PREFIX).ok_or(Other)?;
        // The version is told first: another one may be longer.
        let first = coded.get(..4).and_then(|first| BASE64URL_NOPAD.decode(first.as_bytes()).ok()).ok_or(Damaged)?;
        if first[0] != VERSION {
            return Err(Version { found: first[0] });
        }
        // Nothing of a longer text is decoded.
        let has_length = coded.len() == BASE64URL_NOPAD.encode_len(BYTES);
        let decoded = has_length.then(|| BASE64URL_NOPAD.decode(coded.as_bytes()).ok()).flatten();
        let bytes = Zeroizing::new(decoded.ok_or(Damaged)?);
        let (body, end) = bytes.split_at(BYTES - CHECK_BYTES);
        if check(body) != end {
            return Err(Damaged);
        }
        let role = match body[1] {
            1 => Role::Origin,
            2 => Role::Edge,
            _ => return Err(Damaged),
        };
        let (door, rest) = body[2..].split_first_chunk::<18>().ok_or(Damaged)?;
        let (authority, secret) = rest.split_first_chunk::<32>().ok_or(Damaged)?;
        let (ip, port) = door.split_first_chunk::<16>().ok_or(Damaged)?;
        let ip = Ipv6Addr::from(*ip).to_canonical();
        let door = SocketAddr::new(ip, port.iter().fold(0, |port, byte| port << 8 | u16::from(*byte)));
        let secret = Secret::from_slice(secret).ok_or(Damaged)?;
        Ok(Self { door, role, authority: Fingerprint(*authority), secret })
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample(door: &str, role: Role) -> Invitation {
        let secret = Secret::from_slice(&[7; 32]).unwrap();
        Invitation { door: door.parse().unwrap(), role, authority: Fingerprint([9; 32]), secret }
    }

    #[test]
    fn what_was_printed_is_read_and_no_letter_of_it_may_change() {
        for (door, role) in [("192.0.2.1:7499", Role::Edge), ("[2001:db8::1]:1", Role::Origin)] {
            let invitation = sample(door, role);
            let word = invitation.expose();
            assert_eq!(word.parse::<Invitation>().unwrap(), invitation);
            assert!(
                word.len() < 128 && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
                "{}",
                *word
            );
            for at in 0..word.len() {
                let mut changed = word.as_bytes().to_vec();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(changed.parse::<Invitation>().is_err(), "{at}");
                assert!(word[..at].parse::<Invitation>().is_err() && word[at + 1..].parse::<Invitation>().is_err());
            }
            assert!(format!("{}x", *word).parse::<Invitation>().is_err());
        }
    }

    #[test]
    fn a_wrong_word_is_told_apart_from_a_damaged_one_and_a_later_one() {
        let word = sample("192.0.2.1:7499", Role::Edge).expose();
        assert_eq!("evn_AAAA".parse::<Invitation>(), Err(InvitationError::Other));
        for cut in ["evj_", "evj_AQ", &word[..40], "evj_AQ\u{e4}\u{e4}\u{e4}"] {
            assert_eq!(cut.parse::<Invitation>(), Err(InvitationError::Damaged), "{cut}");
        }
        assert_eq!("evj_AgAA".parse::<Invitation>(), Err(InvitationError::Version { found: 2 }));
    }

    #[test]
    fn its_secret_is_not_shown_and_its_hash_is_another() {
        let invitation = sample("192.0.2.1:7499", Role::Edge);
        assert_eq!(format!("{invitation:?}"), "Invitation(edge at 192.0.2.1:7499)");
        assert_ne!(invitation.secret.hash().0, *invitation.secret.expose());
    }
}
