//! What the edges of a zone know together of its certificate, and the note at the origins in which it lies sealed.
//!
//! Each version follows the one before it, or is refused: so one edge at a time orders, and none writes over another's
//! word.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{Topology, Transport, TransportError};
use format::{NodeName, NoteId, Place, limits::NOTE_BYTES_MAX, wire::Note};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    secret::{SealKey, ZoneSecret},
    zone::Zone,
};

/// What an edge keeps for itself is no longer than a note and its version.
pub(super) const PACKED_BYTES_MAX: usize = NOTE_BYTES_MAX + size_of::<u64>();
/// Origins asked for one call, the nearest first.
const ORIGINS_ASKED_MAX: usize = 3;
/// One origin among several that are asked at once answers by then; a successor has the time for two tries.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// What the edges share.
#[derive(Clone, Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct Shared {
    /// The directory of the authority that the account is with.
    pub(super) directory: String,
    /// The account's credentials as instant-acme writes them, JSON; empty before the first order.
    pub(super) account: String,
    /// Values of `_acme-challenge` while an order is under way.
    #[zeroize(skip)]
    pub(super) challenges: Vec<String>,
    /// The newest certificate.
    pub(super) certified: Option<Certified>,
    /// Who orders, and until when nobody else does.
    #[zeroize(skip)]
    pub(super) holder: Option<Holder>,
    /// When somebody has to act, seconds since 1970.
    pub(super) due: u64,
    /// When the certificate is to be renewed, seconds since 1970; 0: not known yet.
    pub(super) renew_at: u64,
    /// Orders that failed since the last that did not.
    pub(super) failures: u32,
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct Certified {
    /// The directory of the authority that gave it.
    pub(super) directory: String,
    pub(super) chain: String,
    pub(super) key: String,
}

/// An edge at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Holder {
    pub(super) edge: NodeName,
    /// Seconds since 1970.
    pub(super) until: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, challenges, holder, due, renew_at, failures, .. } = self;
        let mut it = f.debug_struct("Shared");
        it.field("directory", directory).field("challenges", challenges).field("holder", holder);
        it.field("due", due).field("renew_at", renew_at).field("failures", failures).finish_non_exhaustive()
    }
}

/// Why the note cannot be had or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoteError {
    /// No origin answered.
    #[error("no origin could be asked for the note of the zone's edges")]
    Origins(#[from] TransportError),
    /// One did not answer in time.
    #[error("an origin took more than {} s for the note of the zone's edges", ASK_DEADLINE.as_secs())]
    Slow,
    /// There is none to ask.
    #[error("no origin is known")]
    NoOrigin,
    /// Another secret sealed it, or the bytes were changed.
    #[error("the note of the zone's edges does not open: `https.secret` is not the same at all of them")]
    Sealed,
    /// The system gives no random numbers.
    #[error("the note cannot be sealed")]
    Unsealed,
}

/// Where the note lies.
pub(super) struct Board {
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    place: Place,
    id: NoteId,
    key: SealKey,
}

impl Board {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        topology: Arc<Topology>,
        place: Place,
        secret: &ZoneSecret,
        zone: &Zone,
    ) -> Self {
        let zone = zone.as_str().as_bytes();
        let id = NoteId(secret.derive("evernear 2026 v1 edge note id", zone));
        Self { transport, topology, place, id, key: secret.key("evernear 2026 v1 edge note key", zone) }
    }

    /// Reads the newest note that opens, of those that the nearest origins have, and its version; version 0 and nothing
    /// in it when there is none.
    pub(super) async fn read(&self) -> Result<(u64, Shared), NoteError> {
        // One origin that has another note, or says that there is none, keeps no certificate from being renewed.
        let newest =
            |one: Result<(u64, Shared), NoteError>, other: Result<(u64, Shared), NoteError>| match (&one, &other) {
                (Ok((had, _)), Ok((has, _))) if has > had => other,
                (Err(_), _) => other,
                _ => one,
            };
        self.read_all().await.into_iter().fold(Err(NoteError::NoOrigin), newest)
    }

    /// Reads the note of each of the nearest origins, all at once; as [`Self::read`].
    pub(super) async fn read_all(&self) -> Vec<Result<(u64, Shared), NoteError>> {
        join_all(self.nearest().map(|node| async move {
            match timeout(ASK_DEADLINE, self.transport.note(&node, &self.id)).await {
                Ok(Ok(None)) => Ok((0, Shared::default())),
                Ok(Ok(Some(note))) => Ok((note.version, self.open(&note)?)),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(NoteError::Slow),
            }
        }))
        .await
    }

    /// Writes the note as `version`. False: another edge was first.
    pub(super) async fn write(&self, version: u64, shared: &Shared) -> Result<bool, NoteError> {
        let note = self.seal(version, shared)?;
        let mut last = NoteError::NoOrigin;
        for node in self.nearest() {
            match self.transport.put_note(&node, &self.id, &note).await {
                Ok(written) => return Ok(written),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Returns a version as an edge keeps it for itself: its number in 8 bytes (little endian), then the note as it
    /// lies at the origins.
    ///
    /// # Errors
    /// [`NoteError::Unsealed`].
    pub(super) fn pack(&self, version: u64, shared: &Shared) -> Result<Vec<u8>, NoteError> {
        let note = self.seal(version, shared)?;
        Ok([&version.to_le_bytes()[..], &note.sealed].concat())
    }

    /// Opens what [`Self::pack`] made.
    ///
    /// # Errors
    /// [`NoteError::Sealed`].
    pub(super) fn unpack(&self, packed: &[u8]) -> Result<(u64, Shared), NoteError> {
        let (version, sealed) = packed.split_first_chunk().ok_or(NoteError::Sealed)?;
        let note = Note { version: u64::from_le_bytes(*version), sealed: Bytes::copy_from_slice(sealed) };
        Ok((note.version, self.open(&note)?))
    }

    fn nearest(&self) -> impl Iterator<Item = NodeName> {
        self.topology.origins_by_distance(&self.place).into_iter().take(ORIGINS_ASKED_MAX)
    }

    fn seal(&self, version: u64, shared: &Shared) -> Result<Note, NoteError> {
        let plain = Zeroizing::new(serde_json::to_vec(shared).expect("it has only JSON types"));
        let sealed = self.key.seal(&version.to_le_bytes(), &plain).ok_or(NoteError::Unsealed)?;
        Ok(Note { version, sealed: Bytes::from(sealed) })
    }

    fn open(&self, note: &Note) -> Result<Shared, NoteError> {
        let plain = self.key.open(&note.version.to_le_bytes(), &note.sealed).ok_or(NoteError::Sealed)?;
        serde_json::from_slice(&plain).map_err(|_| NoteError::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use testing::MemoryTransport;

    use super::*;

    fn board(secret: u8) -> Board {
        let topology = Arc::new(Topology::new(vec![]));
        let config = crate::config::Config::from_toml(include_str!("../../../edge.sample.toml")).unwrap();
        let transport = Arc::new(MemoryTransport::new(&[]));
        Board::new(transport, topology, config.place, &ZoneSecret::of([secret; 32]), &config.zone)
    }

    #[test]
    fn a_note_opens_with_the_secret_and_under_its_version_alone() {
        let certified =
            Certified { directory: String::new(), chain: "chain".to_owned(), key: "the key of the zone".to_owned() };
        let mut shared = Shared::default();
        (shared.certified, shared.due) = (Some(certified), 7);
        let note = board(1).seal(3, &shared).unwrap();
        assert!(!note.sealed.windows(11).any(|part| part == b"the key of "));
        let opened = board(1).open(&note).unwrap();
        assert_eq!((opened.due, opened.certified.as_ref().unwrap().key.as_str()), (7, "the key of the zone"));
        assert!(matches!(board(2).open(&note), Err(NoteError::Sealed)));
        assert!(matches!(board(1).open(&Note { version: 4, ..note.clone() }), Err(NoteError::Sealed)));
        let packed = board(1).pack(3, &shared).unwrap();
        assert_eq!(board(1).unpack(&packed).map(|(version, shared)| (version, shared.due)).unwrap(), (3, 7));
        assert!(matches!(board(2).unpack(&packed), Err(NoteError::Sealed)));
        for cut in [0, 7, 8, packed.len() - 1] {
            assert!(matches!(board(1).unpack(&packed[..cut]), Err(NoteError::Sealed)), "{cut}");
        }
        assert_ne!(board(1).id, board(2).id);
        assert!(!format!("{opened:?}").contains("the key"));
    }

    #[tokio::test]
    async fn without_an_origin_nothing_is_read() {
        assert!(matches!(board(1).read().await, Err(NoteError::NoOrigin)));
    }
}
