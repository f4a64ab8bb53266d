//! What a machine that joins and the door say to each other: one request and one answer, each a length of four bytes,
//! big-endian, and so many bytes of JSON. Unknown keys are refused.
//!
//! The secret crosses the connection, because the door has proven by then that it is the one of the invitation.

use std::io;

use data_encoding::HEXLOWER;
use format::{NodeAddress, NodeName, wire::Role};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

use crate::invitation::Secret;

/// Longest request, in bytes. One with a request for an ML-DSA-65 certificate has 8 KiB.
pub(crate) const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// Longest answer, in bytes: a list of refused certificates of 256 KiB in hex, and some KiB.
pub(crate) const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Most origins that an answer names. More are learnt from these.
pub(crate) const SEEDS_MAX: usize = 64;

/// What a machine asks for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Proves that it was invited.
    pub(crate) secret: Secret,
    /// What it is to be.
    pub(crate) role: Role,
    /// A request for the certificate of its key, in PEM.
    pub(crate) certificate: String,
}

/// What the door answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// It is a node of the network.
    Admitted(Box<Admitted>),
    /// It is not.
    Refused(Refusal),
}

/// All that a new node needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admitted {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its certificate, in PEM.
    pub(crate) certificate: String,
    /// The authority's, in PEM.
    pub(crate) authority: String,
    /// The list of certificates that the network refuses, DER in hex. Absent: none was ever refused.
    #[serde(default)]
    pub(crate) refused: Option<String>,
    /// The zone of all names.
    pub(crate) zone: String,
    /// Origins to begin with.
    pub(crate) seeds: Vec<SeedEntry>,
    /// The URL of the catalog, for an origin alone. Its password is where `PostgreSQL`'s programs look for it.
    #[serde(default)]
    pub(crate) catalog: Option<String>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.catalog.zeroize();
    }
}

/// An origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeedEntry {
    pub(crate) name: NodeName,
    pub(crate) address: NodeAddress,
}

/// Why a machine is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// No invitation has this secret, or it was revoked.
    #[error("this network has no such invitation, or it was revoked; `evernear node invite` there prints another")]
    Unknown,
    /// Its time is over.
    #[error("this invitation has ended; `evernear node invite` there prints another")]
    Expired,
    /// Another key was admitted by it.
    #[error(
        "this invitation was used, by another key; was it you? `evernear node invitations` there says for which node. `evernear node invite` prints another"
    )]
    Used,
    /// It is for another role.
    #[error("this invitation is for another role; `evernear node invite --role` there prints one for this")]
    Role,
    /// What was sent is no request.
    #[error("the network does not understand this program; use the same version on both machines")]
    Malformed,
    /// The network has no catalog that another machine reaches.
    #[error("the catalog of this network answers on its machine alone; `evernear up --catalog` there moves it")]
    Catalog,
    /// The network's edges share a secret.
    #[error(
        "everybody reads from this network, at a zone whose edges share a secret; no edge joins it by an invitation"
    )]
    Public,
    /// The door cannot do its work.
    #[error(
        "the network cannot write down who joins; the log of `evernear up` there says why. Then the same command again"
    )]
    Unable,
}

/// Writes one message and sends it.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let body = Zeroizing::new(serde_json::to_vec(message)?);
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(&body).await?;
    to.flush().await
}

/// Receives one message of so many bytes at most; what is longer is not read.
///
/// # Errors
/// Those of the connection; [`io::ErrorKind::InvalidData`] for a message that is too long.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// Reads a request; none is anything else.
pub(crate) fn request(bytes: &[u8]) -> Option<Request> {
    serde_json::from_slice(bytes).ok()
}

/// Reads an answer; none is anything else.
pub(crate) fn answer(bytes: &[u8]) -> Option<Answer> {
    let answer = serde_json::from_slice(bytes).ok()?;
    match &answer {
        Answer::Admitted(admitted) if admitted.seeds.len() > SEEDS_MAX || admitted.seeds.is_empty() => None,
        _ => Some(answer),
    }
}

/// Hashes and secrets are lower-case hex.
fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<[u8; 32]>, D::Error> {
    struct Hex;
    impl de::Visitor<'_> for Hex {
        type Value = Zeroizing<[u8; 32]>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("64 lower-case hex digits")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let mut bytes = Zeroizing::new([0; 32]);
            let is_hex = text.len() == 64 && HEXLOWER.decode_mut(text.as_bytes(), &mut bytes[..]).is_ok();
            // What was sent may be a secret, so it is not shown.
            is_hex.then_some(bytes).ok_or_else(|| E::custom("expected 64 lower-case hex digits"))
        }
    }
    from.deserialize_str(Hex)
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        hex(from).map(|bytes| Self::from_slice(&bytes[..]).expect("a hash and a secret have 32 bytes"))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Zeroizing::new(HEXLOWER.encode(self.expose())))
    }
}

/// Hashes in files.
pub(crate) mod hash {
    use super::{Deserializer, HEXLOWER, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        super::hex(from).map(|bytes| *bytes)
    }
}

/// Feeds bytes of a stranger to the decoders of this protocol and of invitations. What is read is written and read the
/// same.
pub fn fuzz(bytes: &[u8]) {
    if let Some(read) = request(bytes) {
        let written = serde_json::to_vec(&read).expect("it was read");
        assert!(request(&written).is_some_and(|again| again.secret == read.secret && again.role == read.role));
        let _ = client::tls::Requested::read(&read.certificate);
    }
    if let Some(read) = answer(bytes) {
        assert_eq!(answer(&serde_json::to_vec(&read).expect("it was read")), Some(read));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(invitation) = text.parse::<crate::Invitation>()
    {
        assert_eq!(*invitation.expose(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(seeds: usize) -> Answer {
        let seed = |n| SeedEntry { name: format!("o{n}").parse().unwrap(), address: "192.0.2.1:7500".parse().unwrap() };
        Answer::Admitted(Box::new(Admitted {
            name: "edge1".parse().unwrap(),
            certificate: "c".into(),
            authority: "a".into(),
            refused: None,
            zone: "localhost".into(),
            seeds: (0..seeds).map(seed).collect(),
            catalog: None,
        }))
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let asked =
            Request { secret: Secret::from_slice(&[7; 32]).unwrap(), role: Role::Edge, certificate: "x".into() };
        let text = serde_json::to_string(&asked).unwrap();
        assert!(request(text.as_bytes()).unwrap().secret == asked.secret);
        for (from, to) in
            [("\"role\"", "\"rule\""), ("0707", "07"), ("0707", "070G"), ("}", ",\"more\":1}"), ("edge", "lord")]
        {
            assert!(text.contains(from) && request(text.replacen(from, to, 1).as_bytes()).is_none(), "{to}");
        }
        for told in [admitted(1), admitted(SEEDS_MAX), Answer::Refused(Refusal::Used)] {
            assert_eq!(answer(&serde_json::to_vec(&told).unwrap()), Some(told));
        }
        for wrong in [admitted(0), admitted(SEEDS_MAX + 1)] {
            assert_eq!(answer(&serde_json::to_vec(&wrong).unwrap()), None);
        }
    }

    #[tokio::test]
    async fn a_long_message_is_refused_by_its_length_alone() {
        let (mut one, mut other) = tokio::io::duplex(64);
        one.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let refused = receive(&mut other, REQUEST_BYTES_MAX).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        send(&mut one, &"ok").await.unwrap();
        assert_eq!(**receive(&mut other, 4).await.unwrap(), *b"\"ok\"");
    }

    #[test]
    fn every_seed_of_the_corpus_is_survived() {
        testing::replay("join", fuzz);
    }
}
