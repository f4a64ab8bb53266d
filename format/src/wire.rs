//! The node API: paths, JSON bodies and binary frames that origins, edges and twins exchange over HTTP/2.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `POST /v1/uploads` | | [`UploadCreated`] |
//! | `PUT /v1/uploads/{upload}?first=N` | [`frame_strips`] | 204 |
//! | `POST /v1/uploads/{upload}/commit?column=C` | public manifest | 204 once durable |
//! | `DELETE /v1/uploads/{upload}` | | 204 |
//! | `GET /v1/shards/{object}/{column}?first=S&count=N` | | [`ShardSlice`] |
//! | `GET`, `PUT /v1/records/{locator}` | record | record, 204 |
//! | `PUT /v1/leases/{locator}` | lease envelope | 204 |
//! | `GET /v1/records?after=L&owner=O` | | [`LocatorPage`] |
//! | `GET`, `PUT /v1/policies/{owner}/{name}` | policy envelope | policy envelope, 204 |
//! | `GET`, `PUT /v1/blobs/{blob}` | blob | blob, 204 |
//! | `GET`, `PUT /v1/notes/{note}` | [`Note`], by edges alone | [`Note`], 204; 409 when another version is held |
//! | `POST /v1/purges` | [`Purge`](crate::Purge) envelope | 204 |
//! | `GET /v1/nodes`, `PUT /v1/nodes/{name}` | [`NodeEntry`] | list of [`NodeEntry`], 204 |
//! | `PUT /v1/nodes/{name}/drain` | [`Drain`], by the node's own certificate | 204 |
//! | `GET /v1/nodes/{name}/drain?after=O` | | [`DrainPage`] |
//! | `GET /v1/changes?since=N&wait=S` | | [`ChangePage`] |
//! | `PUT /v1/tickets` | [`Ticket`] | 204 |
//! | `GET /v1/records/{locator}/health` | | [`ObjectHealth`] |
//! | `GET /v1/repairs` | | [`RepairStatus`] |
//! | `POST /v1/repairs/retry` | | [`Retried`] |
//! | `GET /health`, `GET /metrics` | | |
//!
//! Errors are [`ApiError`] with the matching HTTP status.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use crate::{
    ListProof, Locator, NodeName, ObjectId, OwnerId, Place, PolicyName,
    limits::{PROOF_BYTES_MAX, STRIP_BYTES_MAX},
};

/// Version of the object format; first byte of the authenticated data.
pub const FORMAT_VERSION: u8 = 1;
/// What the error answers say about whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The request was wrong; sending it again will not help.
    Caller,
    /// The node failed; another node, or later, may do.
    Node,
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What happened and what to do, for people.
    pub error: String,
    /// Whose fault it was.
    pub fault: Fault,
}

/// The answer to a new upload session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadCreated {
    /// The session, for the paths of its appends and its commit.
    pub upload: String,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Stores shards.
    Origin,
    /// Answers viewers.
    Edge,
    /// Acts for an owner.
    Twin,
}

impl Role {
    /// Returns the word of certificates and of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
            Self::Twin => "twin",
        }
    }
}

/// A node as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The name in its certificate.
    pub name: NodeName,
    /// What it is.
    pub role: Role,
    /// Where its node API listens; none for edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Addresses that viewers reach; empty for origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<IpAddr>,
    /// Where it is.
    pub place: Place,
    /// Bytes of its disk that shards may use.
    pub capacity_bytes: u64,
    /// Bytes of these that are free.
    pub free_bytes: u64,
    /// How full it is, 0 to 100, coarse.
    pub load: u8,
    /// Its operator wants it empty: it takes no new shards, and those it has move away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Seconds since 1970 when it last said so, by the catalog's clock; zero in its own report.
    #[serde(default)]
    pub seen: u64,
}

/// Whether a node is to be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// True empties it, false fills it again.
    pub draining: bool,
}

/// So many objects, and the bytes of their shards that are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Bytes of shards.
    pub bytes: u64,
}

impl Amount {
    /// Counts one more object.
    pub fn add(&mut self, bytes: u64) {
        *self += Self { objects: 1, bytes };
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Why shards stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The reason, for an operator.
    pub why: String,
    /// What it keeps back.
    #[serde(flatten)]
    pub amount: Amount,
}

/// One page of the objects that have shards on a node, and what becomes of these when the node is emptied with the
/// nodes that there are now, whether it is being emptied or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPage {
    /// Other nodes can take them.
    pub moving: Amount,
    /// Other nodes have them; those here are removed soon.
    pub moved: Amount,
    /// Nobody can take them.
    pub stuck: Vec<Obstacle>,
    /// Bytes of all shards on the node, those of erased objects among them.
    pub held_bytes: u64,
    /// What to ask `after` next; none at the end.
    pub next: Option<ObjectId>,
}

/// What the edges of a zone share, sealed by them: origins keep it and cannot read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// One more than the version it replaces; 1 is the first.
    pub version: u64,
    /// Base64 of at most [`NOTE_BYTES_MAX`](crate::limits::NOTE_BYTES_MAX) bytes, padded (RFC 4648 section 4).
    #[serde(with = "base64")]
    pub sealed: Bytes,
}

mod base64 {
    use bytes::Bytes;
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}

/// A reader's word that a node sent a wrong strip: a hint, until somebody read that strip and saw it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The node.
    pub node: NodeName,
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
    /// The stripe; of several bad ones of one shard the first that was reported.
    pub stripe: u64,
}

/// How one column of an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnState {
    /// It lies well.
    Healthy,
    /// It can be read and is to move: its node is to be emptied, or the lease or the spread forbids the place.
    Displaced,
    /// No node that is up has it.
    Lost,
    /// It has no bytes: the object is too short to fill it.
    Empty,
}

/// One column of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnHealth {
    /// How it is.
    pub state: ColumnState,
    /// The nodes that hold it, by the catalog; those that are down among them.
    pub nodes: Vec<NodeName>,
    /// Bytes of its shard.
    pub bytes: u64,
}

/// How an object is, by what the catalog knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHealth {
    /// The object.
    pub object: ObjectId,
    /// `data+parity`; none for an object inside its record, which has no columns.
    pub redundancy: Option<String>,
    /// Columns that may still go before the object cannot be read; below zero it cannot.
    pub margin: i32,
    /// The columns in order.
    pub columns: Vec<ColumnHealth>,
    /// Why it is to be repaired now: `scan`, `ticket`, `drain` or `place`; none when it need not be.
    pub repair: Option<String>,
}

/// What there is to repair, and what the asked node did of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Objects that wait.
    pub waiting: u64,
    /// Objects under repair, at all nodes.
    pub running: u64,
    /// Objects given up.
    pub dead: u64,
    /// Objects among these that are well and move only so that nodes are filled alike.
    #[serde(default)]
    pub balancing: u64,
    /// Bytes of the shards that wait to be made or moved.
    pub waiting_bytes: u64,
    /// Bytes of the shards under repair, what is done of them included.
    #[serde(default)]
    pub running_bytes: u64,
    /// Bytes of shards this node made or moved since it started.
    pub repaired_bytes: u64,
    /// Bytes of shards it read for that.
    #[serde(default)]
    pub repair_read_bytes: u64,
    /// Every shard that the catalog says is on this node was hashed after this second since 1970; zero before its first
    /// whole scrub, and from its start until it has compared disk and catalog.
    pub scrubbed_since: u64,
    /// Why repairs were given up, at most 20 of them.
    pub given_up: Vec<GivenUp>,
    /// Why repairs have not worked so far, those that were given up among them, at most 5, the most frequent first.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
    /// What this node's last whole walk over all objects counted; none when others walk.
    #[serde(default)]
    pub survey: Option<Survey>,
}

/// What one walk over all objects counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// When the walk ended, seconds since 1970 by the catalog's clock.
    pub ended: u64,
    /// Objects by their margin: columns that may still go before the object cannot be read; below zero it cannot.
    pub objects: BTreeMap<i32, u64>,
    /// Bytes of all columns that can be read, each counted once.
    pub stored_bytes: u64,
}

/// A repair that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The object.
    pub object: ObjectId,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last time failed.
    pub error: String,
}

/// How many repairs that were given up wait again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Objects.
    pub objects: u64,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum ChangeKind {
    /// A record was stored or its lease renewed.
    Record {
        /// Its locator.
        locator: Locator,
    },
    /// An object was erased.
    Erased {
        /// Its locator.
        locator: Locator,
    },
    /// A policy has a new version.
    Policy {
        /// Its owner.
        owner: OwnerId,
        /// Its name.
        name: PolicyName,
    },
    /// An owner purges an object, or all of its objects, from the edges' caches.
    Purge {
        /// Who ordered it.
        owner: OwnerId,
        /// The object; all of the owner when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locator: Option<Locator>,
        /// Whether the bytes held go, or only what is known about them.
        hard: bool,
        /// Seconds since 1970 when it was signed.
        issued: u64,
    },
    /// A node is new or moved.
    Node {
        /// Its name.
        name: NodeName,
    },
}

/// One entry of the change feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Grows by at least one with every change.
    pub sequence: u64,
    /// What changed.
    #[serde(flatten)]
    pub kind: ChangeKind,
}

/// One page of the change feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePage {
    /// Changes after `since`, oldest first.
    pub changes: Vec<Change>,
    /// What to ask `since` next.
    pub next: u64,
    /// The feed no longer reaches back to `since`: forget everything held and start from `next`.
    pub reset: bool,
}

/// One page of an owner's locators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatorPage {
    /// Locators in order.
    pub locators: Vec<Locator>,
    /// What to ask `after` next; none at the end.
    pub next: Option<Locator>,
}

/// Why a body is not the frame it should be. The fault is the sender's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body ends early or late.
    #[error("the body is {found} bytes long where {expected} were announced")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes announced.
        expected: usize,
    },
    /// An announced length is over its bound.
    #[error("a part of {found} bytes is announced where at most {max} are allowed")]
    TooLong {
        /// Bytes announced.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
}

/// Writes strips for an append: each as length u32 ‖ bytes. Returned as parts so that no strip is copied.
#[must_use]
pub fn frame_strips(strips: &[Bytes]) -> Vec<Bytes> {
    let mut parts = Vec::with_capacity(strips.len() * 2);
    for strip in strips {
        let length = u32::try_from(strip.len()).unwrap_or(u32::MAX);
        parts.push(Bytes::copy_from_slice(&length.to_le_bytes()));
        parts.push(strip.clone());
    }
    parts
}

/// Reads the body of an append without copying.
///
/// # Errors
/// [`FrameError`].
pub fn read_strips(mut body: Bytes) -> Result<Vec<Bytes>, FrameError> {
    let mut strips = Vec::new();
    while !body.is_empty() {
        let strip = take_part(&mut body, STRIP_BYTES_MAX)?;
        strips.push(strip);
    }
    Ok(strips)
}

fn take_part(body: &mut Bytes, max: usize) -> Result<Bytes, FrameError> {
    let have = body.len();
    let announced = body.try_get_u32_le().map_err(|_| FrameError::Length { found: have, expected: 4 })?;
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > max {
        return Err(FrameError::TooLong { found: length, max });
    }
    if length > body.len() {
        return Err(FrameError::Length { found: body.len(), expected: length });
    }
    Ok(body.split_to(length))
}

/// The answer to a shard read: proof length u32 ‖ proof ‖ strips back to back.
#[derive(Debug, Clone)]
pub struct ShardSlice {
    /// Proves the strips' hashes under the shard's root.
    pub proof: ListProof,
    /// The strips.
    pub strips: Vec<Bytes>,
}

impl ShardSlice {
    /// Writes what comes before the strips.
    #[must_use]
    pub fn head(proof: &ListProof) -> Bytes {
        let length = u32::try_from(proof.as_bytes().len()).unwrap_or(u32::MAX);
        [&length.to_le_bytes()[..], proof.as_bytes()].concat().into()
    }

    /// Reads an answer whose strips have these lengths, without copying the strips.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn read(mut body: Bytes, lengths: &[usize]) -> Result<Self, FrameError> {
        let proof = take_part(&mut body, PROOF_BYTES_MAX)?;
        let proof = ListProof::from_bytes(proof.to_vec())
            .ok_or(FrameError::TooLong { found: proof.len(), max: PROOF_BYTES_MAX })?;
        let expected: usize = lengths.iter().sum();
        if body.len() != expected {
            return Err(FrameError::Length { found: body.len(), expected });
        }
        let strips = lengths.iter().map(|length| body.split_to(*length)).collect();
        Ok(Self { proof, strips })
    }
}
