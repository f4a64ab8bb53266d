//! The node API: paths, JSON bodies and binary frames that origins, edges and twins exchange over HTTP/2.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `POST /v1/uploads?column=C&columns=N` | | [`UploadCreated`] |
//! | `GET /v1/uploads/{upload}` | | [`UploadHeld`] |
//! | `PUT /v1/uploads/{upload}?first=N` | [`frame_cells`] | 204; 409 when the node does not have N cells |
//! | `POST /v1/uploads/{upload}/commit?column=C` | public manifest | 204 once durable; 409 when cells are missing |
//! | `DELETE /v1/uploads/{upload}` | | 204 |
//! | `GET /v1/shards/{object}/{column}?first=S&count=N` | | [`ShardSlice`] |
//! | [`StripPath`], at edges, by edges alone | | [`ShardSlice`] of one strip |
//! | `GET`, `PUT /v1/records/{locator}` | record | record, 204 |
//! | `PUT /v1/leases/{locator}` | lease envelope | 204 |
//! | `GET /v1/records?after=L&owner=O` | | [`LocatorPage`]; by edges also without an owner: of all |
//! | `GET`, `PUT /v1/policies/{owner}/{name}` | policy envelope | policy envelope, 204 |
//! | `GET`, `PUT /v1/blobs/{blob}` | blob | blob, 204 |
//! | `GET`, `PUT /v1/notes/{note}` | [`Note`], by edges alone | [`Note`], 204; 409 when another version is held |
//! | `POST /v1/purges` | [`Purge`](crate::Purge) envelope | 204 |
//! | `GET /v1/nodes`, `PUT /v1/nodes/{name}` | [`NodeEntry`] | list of [`NodeEntry`], 204 |
//! | `GET /v1/refused?after=N`, `PUT /v1/refused` | list of refused certificates (CRL in DER) | the list, or 404 when none is above N; 204, or 409 for an older one |
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

use std::{collections::BTreeMap, net::IpAddr};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use crate::{
    Cell, ListProof, Locator, NodeAddress, NodeName, ObjectId, OwnerId, Place, PolicyName,
    limits::{ANNOUNCEMENTS_MISSED, EDGE_ANNOUNCE_SECONDS, ORIGIN_ANNOUNCE_SECONDS_MAX, PROOF_BYTES_MAX},
};

mod strip_path;

pub use strip_path::{StripPath, WITHIN_MS};

/// Version of the object format; first byte of the authenticated data.
pub const FORMAT_VERSION: u8 = 1;
/// Whose fault an error answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The request was wrong. Sending it again does not help.
    Caller,
    /// The node failed. Another node may succeed, or this one later.
    Node,
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What happened and what to do about it, for people.
    pub error: String,
    /// Whose fault it was.
    pub fault: Fault,
}

/// The answer to a new upload session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadCreated {
    /// The session id, part of the paths of its appends and its commit.
    pub upload: String,
}

/// What a node has of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadHeld {
    /// The cells that it has, from the first on: the next append begins here.
    pub cells: u64,
}

/// The role of a node.
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
    /// Returns the role's name in certificates and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
            Self::Twin => "twin",
        }
    }

    /// Returns after how many seconds without an announcement a node of this role counts as silent. It is the only rule
    /// of that for twins, edges and origins.
    #[must_use]
    pub const fn silent_seconds(self) -> u64 {
        ANNOUNCEMENTS_MISSED
            * match self {
                Self::Origin => ORIGIN_ANNOUNCE_SECONDS_MAX,
                Self::Edge | Self::Twin => EDGE_ANNOUNCE_SECONDS,
            }
    }
}

/// A node as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The name in its certificate.
    pub name: NodeName,
    /// Its role.
    pub role: Role,
    /// The address of its node API; `None` for edges that bring no strips for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<NodeAddress>,
    /// The addresses that viewers connect to; empty for origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<IpAddr>,
    /// Where it is.
    pub place: Place,
    /// Bytes of its disk that shards may use.
    pub capacity_bytes: u64,
    /// Free bytes of that capacity.
    pub free_bytes: u64,
    /// How busy it is, 0 to 100, coarse. Origins count the memory for request bodies in use; edges count open
    /// connections.
    pub load: u8,
    /// Its operator is emptying it: it takes no new shards, and the shards it has move away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// When it last announced itself, in seconds since 1970 by the catalog's clock. Zero in its own report.
    #[serde(default)]
    pub seen: u64,
}

impl NodeEntry {
    /// Returns whether the node is silent: probably gone. It is measured against the newest announcement in the same
    /// list, so a list that grows old as a whole accuses nobody.
    #[must_use]
    pub fn is_silent(&self, newest: u64) -> bool {
        newest.saturating_sub(self.seen) > self.role.silent_seconds()
    }

    /// Returns the newest announcement in a list; zero in an empty one.
    #[must_use]
    pub fn newest(nodes: &[Self]) -> u64 {
        nodes.iter().map(|node| node.seen).max().unwrap_or(0)
    }
}

/// An order to empty a node (drain) or to end that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// True: empty the node. False: the node takes shards again.
    pub draining: bool,
}

/// A number of objects, and the bytes of the shards in question.
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

/// A reason why shards stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The reason, for an operator.
    pub why: String,
    /// The objects and bytes that it keeps back.
    #[serde(flatten)]
    pub amount: Amount,
}

/// One page of the objects with shards on a node, and what would become of these shards if the node were emptied now.
/// The node need not be draining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPage {
    /// Other nodes can take these.
    pub moving: Amount,
    /// Other nodes already have these. The copies here are removed soon.
    pub moved: Amount,
    /// No node can take these.
    pub stuck: Vec<Obstacle>,
    /// Bytes of all shards on the node, including those of erased objects.
    pub held_bytes: u64,
    /// The value of `after` for the next page; `None` on the last page.
    pub next: Option<ObjectId>,
}

/// Data that the edges of a zone share. The edges seal it; origins store it and cannot read it.
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

/// A reader's report that a node sent a wrong strip. It is a hint until a node has read that strip and found the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The node.
    pub node: NodeName,
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
    /// The stripe. If several strips of one shard are bad, the first one reported.
    pub stripe: u64,
}

/// The state of one column of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnState {
    /// The column can be read and lies where it should.
    Healthy,
    /// The column can be read but must move: its node is being emptied, or the lease or the spread forbids the place.
    Displaced,
    /// No node that is up has the column.
    Lost,
    /// The column has no bytes, because the object is too short to fill it.
    Empty,
}

/// One column of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnHealth {
    /// Its state.
    pub state: ColumnState,
    /// The nodes that hold it according to the catalog, including nodes that are down.
    pub nodes: Vec<NodeName>,
    /// Bytes of its shard.
    pub bytes: u64,
}

/// The state of an object according to the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHealth {
    /// The object.
    pub object: ObjectId,
    /// `data+parity`; `None` for an inline object, which has no columns.
    pub redundancy: Option<String>,
    /// How many more columns may be lost before the object becomes unreadable. Below zero it is unreadable.
    pub margin: i32,
    /// The columns in order.
    pub columns: Vec<ColumnHealth>,
    /// Why the object must be repaired now: `scan`, `ticket`, `drain` or `place`; `None` if it need not be.
    pub repair: Option<String>,
}

/// The repair queue, and what the asked node has done of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Objects that wait for repair.
    pub waiting: u64,
    /// Objects under repair, at all nodes.
    pub running: u64,
    /// Objects whose repair was given up.
    pub dead: u64,
    /// Objects among the waiting and the running that are healthy and move only to fill nodes evenly.
    #[serde(default)]
    pub balancing: u64,
    /// Bytes of the shards that wait to be rebuilt or moved.
    pub waiting_bytes: u64,
    /// Bytes of the shards under repair, including the part already done.
    #[serde(default)]
    pub running_bytes: u64,
    /// Bytes of shards that this node rebuilt or moved since it started.
    pub repaired_bytes: u64,
    /// Bytes of shards that it read for those repairs.
    #[serde(default)]
    pub repair_read_bytes: u64,
    /// The second since 1970 after which this node hashed every shard that it holds according to the catalog. Zero
    /// before the end of its first whole scrub, and after each start until it has compared disk and catalog.
    pub scrubbed_since: u64,
    /// Repairs that were given up, at most 20, with the reason.
    pub given_up: Vec<GivenUp>,
    /// Why repairs have failed so far, including repairs that were given up: at most 5 reasons, most frequent first.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
    /// The counts of this node's last whole walk over all objects; `None` if other nodes do the walking.
    #[serde(default)]
    pub survey: Option<Survey>,
}

/// The counts of one walk over all objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// When the walk ended, in seconds since 1970 by the catalog's clock.
    pub ended: u64,
    /// Objects by margin: how many more columns may be lost before the object becomes unreadable. Below zero it is
    /// unreadable.
    pub objects: BTreeMap<i32, u64>,
    /// Bytes of all readable columns, each counted once.
    pub stored_bytes: u64,
}

/// A repair that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The object.
    pub object: ObjectId,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: String,
}

/// The number of given-up repairs that wait again.
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
        /// The owner who ordered it.
        owner: OwnerId,
        /// The object, or absent for all objects of the owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locator: Option<Locator>,
        /// True: the cached bytes are dropped. False: only what is known about them is.
        hard: bool,
        /// When it was signed, in seconds since 1970.
        issued: u64,
    },
    /// The list of refused node certificates has a new version.
    Refused {
        /// Its number.
        number: u64,
    },
    /// A node is new or has moved.
    Node {
        /// Its name.
        name: NodeName,
    },
}

/// One entry of the change feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The position in the feed. It grows by at least one with every change.
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
    /// The value of `since` for the next request.
    pub next: u64,
    /// The feed no longer reaches back to `since`. Whatever is held may have changed and is to be looked up again; go
    /// on from `next`.
    pub reset: bool,
}

/// One page of an owner's locators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatorPage {
    /// Locators in order.
    pub locators: Vec<Locator>,
    /// The value of `after` for the next page; `None` on the last page.
    pub next: Option<Locator>,
}

/// Why a body is not a valid frame. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body is shorter or longer than announced.
    #[error("the body is {found} bytes long where {expected} were announced")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes announced.
        expected: usize,
    },
    /// There are more cells than may come at once.
    #[error("more than {max} cells come at once")]
    TooMany {
        /// Cells allowed.
        max: usize,
    },
    /// A row announces strips of a length that no strip has.
    #[error("strips of {found} bytes are announced, which no strip has")]
    Strip {
        /// Bytes announced.
        found: usize,
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

/// Writes cells for an append, back to back. Returned as parts so that no strip is copied.
#[must_use]
pub fn frame_cells(cells: &[Cell]) -> Vec<Bytes> {
    cells.iter().flat_map(|cell| [Some(cell.row.as_bytes().clone()), cell.strip.clone()]).flatten().collect()
}

/// Reads at most `max` cells of a column that fill `body`, without copying them. Nothing is hashed.
///
/// # Errors
/// [`FrameError`].
pub fn read_cells(mut body: Bytes, columns: usize, column: usize, max: usize) -> Result<Vec<Cell>, FrameError> {
    let mut cells = Vec::new();
    while !body.is_empty() {
        if cells.len() == max {
            return Err(FrameError::TooMany { max });
        }
        cells.push(Cell::take(&mut body, columns, column)?);
    }
    Ok(cells)
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

/// The answer to a shard read: proof length u32 ‖ proof ‖ cells back to back.
#[derive(Debug, Clone)]
pub struct ShardSlice {
    /// Proves the hashes of the cells' rows under the object's root.
    pub proof: ListProof,
    /// The cells.
    pub cells: Vec<Cell>,
}

impl ShardSlice {
    /// Writes what comes before the cells.
    #[must_use]
    pub fn head(proof: &ListProof) -> Bytes {
        let length = u32::try_from(proof.as_bytes().len()).unwrap_or(u32::MAX);
        [&length.to_le_bytes()[..], proof.as_bytes()].concat().into()
    }

    /// Reads an answer with at most `max` cells of a column, without copying the strips. Nothing is hashed.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn read(mut body: Bytes, columns: usize, column: usize, max: usize) -> Result<Self, FrameError> {
        let proof = take_part(&mut body, PROOF_BYTES_MAX)?;
        let proof = ListProof::from_bytes(proof.to_vec())
            .ok_or(FrameError::TooLong { found: proof.len(), max: PROOF_BYTES_MAX })?;
        Ok(Self { proof, cells: read_cells(body, columns, column, max)? })
    }
}
