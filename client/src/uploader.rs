//! Uploads of encoded objects: drives [`Scatter`] over a [`Transport`], with one bounded queue (lane) for each column.

mod filing;
mod lane;
mod spread;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use format::{
    Cap, Domain, EncodedStripe, Lease, NodeName, Record, RecordError, Redundancy, Sealed,
    limits::{BODY_BYTES_PER_SECOND_MIN, STRIP_BYTES_MAX, SYNC_BYTES_PER_SECOND_MIN},
    wire::NodeEntry,
};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    task::AbortHandle,
    time::{Instant, error::Elapsed, timeout_at},
};

pub use self::{
    filing::{INLINE_COPIES, Told, file_record, inline_homes, record_holders, record_homes, tell_all},
    lane::Note,
};
use self::{
    lane::{Filling, LANE_STRIPS, Lane, unfinished},
    spread::{Spread, lock},
};
use crate::{
    Placement, PlacementAsk, PlacementError, Topology, Transport, TransportError,
    placement::{list, zones_lost_at_most},
    scatter::{Scatter, ScatterLost},
};

/// A straggler that does not take a strip for this long has failed, or for three times as long as the quorum lately
/// took, when that is more: over a slow uplink all take their time. A restart of a node takes less.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_FACTOR: u32 = 3;
/// Columns that take nothing for this long, beyond what a strip takes over the slowest way, while fewer than the quorum
/// did, have failed.
const STALLED: Duration = Duration::from_secs(120);
const SLOWEST_STRIP: Duration = Duration::from_secs(STRIP_BYTES_MAX as u64 / BODY_BYTES_PER_SECOND_MIN);
/// After the quorum is durable, the stragglers have this long to become durable too. Then the record is filed without
/// them.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// Why an upload failed. Nothing was acknowledged. Another attempt goes on with the sessions of this one, if somebody
/// noted them.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// No placement was found: there are too few nodes, or the places and caps leave too little room.
    #[error("the object cannot be placed")]
    Placement(#[from] PlacementError),
    /// Too many origins failed.
    #[error("too few shards could be stored: {}{}", list(failed), silence(silent_zones))]
    Lost {
        /// How many.
        source: ScatterLost,
        /// How each origin failed that did.
        failed: Vec<TransportError>,
        /// Zones of which no origin was heard of lately, so that none there could take over.
        silent_zones: BTreeSet<String>,
    },
    /// Too few origins took the record.
    #[error("{stored} of {asked} origins took the record where {need} must: {}", list(failed))]
    Record {
        /// Origins that took it.
        stored: usize,
        /// Origins asked.
        asked: usize,
        /// Origins needed.
        need: usize,
        /// How each origin failed that did.
        failed: Vec<TransportError>,
    },
    /// Enough origins took the record, but one holds a later lease of the same owner, by which readers go: its catalog
    /// was restored from an older backup, and its own copy was not.
    #[error("{node} holds a later lease of the same object, version {}{}", lease.version, if lease.erased { ", which ends it" } else { "" })]
    Outlived {
        /// The origin.
        node: NodeName,
        /// What it holds.
        lease: Box<Lease>,
    },
    /// The parts of the record do not match. The caller is at fault.
    #[error("the record does not fit its object")]
    Inconsistent(#[from] RecordError),
}

/// What an upload made durable.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The node of each durable column; `None` where it failed.
    pub placement: Vec<Option<NodeName>>,
    /// Number of durable columns.
    pub durable: usize,
    /// Number of copies of the record.
    pub records: usize,
    /// Where the columns were meant to lie; `None` for inline objects.
    pub spread: Option<Placement>,
    /// Whole zones that may be lost now, whichever they are: of the columns that are durable, not of all; `None` for
    /// inline objects.
    pub zones_survived: Option<usize>,
}

/// A session at a node, for one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The node.
    pub node: NodeName,
    /// Its name for the upload.
    pub upload: String,
}

/// What an earlier attempt to store the same object left behind: the same bytes under the same key, so that every cell
/// is what it was.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// The last session of each column that has one.
    pub sessions: Vec<Option<Session>>,
    /// The public manifest, if nodes were asked to commit.
    pub public: Option<Bytes>,
}

/// One upload: an object on its way to its origins.
///
/// Dropping it abandons the upload. Origins end its sessions by themselves, unless somebody goes on with them.
pub struct Uploader {
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    ask: PlacementAskBase,
    earlier: Earlier,
    note: Option<Note>,
    sharded: Option<Sharded>,
}

/// A [`PlacementAsk`] without the redundancy, which is known only with the first stripe.
#[derive(Debug, Clone)]
struct PlacementAskBase {
    seed: [u8; 32],
    wanted: Vec<Domain>,
    refused: Vec<Domain>,
    caps: Vec<Cap>,
    preferences: BTreeMap<NodeName, u8>,
}

struct Sharded {
    spread: Arc<Mutex<Spread>>,
    scatter: Scatter,
    lanes: Vec<Option<Lane>>,
    /// The lanes that were told to commit, until the upload is acknowledged.
    committing: Vec<AbortHandle>,
    failed: Vec<TransportError>,
    /// How long the quorum took for a stripe, of late.
    pace: Duration,
    /// Whether somebody goes on with the sessions later.
    is_noted: bool,
}

impl Drop for Sharded {
    /// Lanes whose sessions nobody goes on with end by themselves, and end these. Others would only keep up whoever
    /// goes on, also those that commit: they hold whatever hears of sessions.
    fn drop(&mut self) {
        if self.is_noted {
            self.lanes.iter().flatten().for_each(|lane| lane.task.abort());
            self.committing.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Uploader {
    /// Begins an upload. `seed` is 32 random bytes that determine the draw of nodes.
    #[must_use]
    pub fn begin(
        transport: Arc<dyn Transport>,
        topology: Arc<Topology>,
        seed: [u8; 32],
        wanted: Vec<Domain>,
        refused: Vec<Domain>,
    ) -> Self {
        let ask = PlacementAskBase { seed, wanted, refused, caps: Vec::new(), preferences: BTreeMap::new() };
        Self { transport, topology, ask, earlier: Earlier::default(), note: None, sharded: None }
    }

    /// Limits the columns in one place.
    #[must_use]
    pub fn with_caps(mut self, caps: Vec<Cap>) -> Self {
        self.ask.caps = caps;
        self
    }

    /// Prefers some nodes over others: the chance of a node is multiplied by its number, out of 255.
    #[must_use]
    pub fn with_preferences(mut self, preferences: BTreeMap<NodeName, u8>) -> Self {
        self.ask.preferences = preferences;
        self
    }

    /// Goes on where an earlier attempt at the same object ended: what nodes hold already is not sent again.
    #[must_use]
    pub fn going_on(mut self, earlier: Earlier) -> Self {
        self.earlier = earlier;
        self
    }

    /// Tells of each session that is opened, so that another attempt can go on with it. Sessions are then not ended
    /// when the upload fails.
    #[must_use]
    pub fn noting(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }

    /// Hands a stripe to its nodes and waits while their queues are full (backpressure). Not cancel safe: a stripe that
    /// is only partly handed out is lost.
    ///
    /// # Errors
    /// [`UploadError::Placement`] on the first stripe; [`UploadError::Lost`] if too many nodes failed.
    pub async fn send(&mut self, stripe: EncodedStripe) -> Result<(), UploadError> {
        let mut sharded = match self.sharded.take() {
            Some(sharded) => sharded,
            None => self.open(stripe.redundancy)?,
        };
        let sent = sharded.send(stripe).await;
        self.sharded = Some(sharded);
        sent
    }

    fn open(&self, redundancy: Redundancy) -> Result<Sharded, UploadError> {
        let PlacementAskBase { seed, wanted, refused, caps, preferences } = self.ask.clone();
        let ask = PlacementAsk { wanted, refused, caps, preferences, ..PlacementAsk::new(redundancy, seed) };
        let spread = Spread::new(ask, &self.topology, &self.earlier.sessions)?;
        let nodes = spread.placement.nodes.clone();
        let spread = Arc::new(Mutex::new(spread));
        let columns = redundancy.columns();
        let filling = |(column, node): (usize, NodeName)| {
            let session = self.earlier.sessions.get(column).and_then(Option::as_ref);
            let earlier = session.filter(|session| session.node == node).map(|session| session.upload.clone());
            let (transport, spread, note) = (self.transport.clone(), spread.clone(), self.note.clone());
            let committed = self.earlier.public.clone();
            Some(Filling { transport, spread, node, column, columns, earlier, committed, note }.start())
        };
        let lanes = nodes.into_iter().enumerate().map(filling).collect();
        let (scatter, pace, is_noted) = (Scatter::new(redundancy), Duration::ZERO, self.note.is_some());
        let (committing, failed) = (Vec::new(), Vec::new());
        Ok(Sharded { spread, scatter, lanes, committing, failed, pace, is_noted })
    }

    /// Makes the shards durable and files the record. Returns once the quorum, k + ceil(m / 2) columns, and enough
    /// copies of the record are durable. Stragglers had `STRAGGLERS` to join.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn commit(self, sealed: &Sealed, lease_envelope: Bytes) -> Result<Receipt, UploadError> {
        let Self { transport, topology, mut sharded, .. } = self;
        let (placement, spread, durable) = match &mut sharded {
            None => (Vec::new(), None, 0),
            Some(sharded) => {
                sharded.commit(sealed).await?;
                let (durable, spread) = (sharded.scatter.count_durable(), lock(&sharded.spread).placement.clone());
                (sharded.durable_placement(), Some(spread), durable)
            }
        };
        let record = Record::new(sealed.public.clone(), Some(sealed.sealed.clone()), lease_envelope, placement)?;
        let records = file_record(&transport, &record, &topology).await?.nodes.len();
        // From here on it is acknowledged, and stragglers go on.
        sharded.iter_mut().for_each(|sharded| sharded.committing.clear());
        Ok(Receipt { durable, spread, ..Receipt::of(&record, records, &topology.snapshot()) })
    }
}

impl Receipt {
    /// Returns the receipt of an object that nodes hold, by its record and the number of copies of that. Where its
    /// columns were meant to lie nobody knows any more.
    #[must_use]
    pub fn of(record: &Record, records: usize, nodes: &[NodeEntry]) -> Self {
        let durable = record.placement.iter().flatten().count();
        let zones_survived = record.public.redundancy().map(|redundancy| {
            let holders = record.placement.iter().flatten();
            zones_lost_at_most(holders, nodes, durable.saturating_sub(redundancy.data()))
        });
        Self { placement: record.placement.clone(), durable, records, spread: None, zones_survived }
    }
}

impl Sharded {
    async fn send(&mut self, stripe: EncodedStripe) -> Result<(), UploadError> {
        let (index, quorum) = (stripe.index.0, stripe.redundancy.quorum());
        let mut handing = FuturesUnordered::new();
        let mut open = BTreeSet::new();
        for (column, cell) in stripe.into_cells().enumerate() {
            if let Some(lane) = &self.lanes[column] {
                let cells = lane.cells.clone();
                open.insert(column);
                handing.push(async move { (column, cells.send((index, cell)).await.is_ok()) });
            }
        }
        let (began, mut handed) = (Instant::now(), 0);
        let mut until = began + STALLED + SLOWEST_STRIP;
        while let Ok(Some((column, ok))) = timeout_at(until, handing.next()).await {
            open.remove(&column);
            if !ok {
                self.fail(column).await?;
                continue;
            }
            handed += 1;
            let now = Instant::now();
            if handed < quorum {
                until = now + STALLED + SLOWEST_STRIP;
            } else if handed == quorum {
                // One slow stripe is forgotten in the course of the next few.
                self.pace = (now - began).max(self.pace * 3 / 4);
                until = now + PATIENCE.max(self.pace * PATIENCE_FACTOR);
            }
        }
        drop(handing);
        for column in open {
            self.fail(column).await?;
        }
        Ok(())
    }

    /// Gives up a column whose lane takes nothing any more.
    async fn fail(&mut self, column: usize) -> Result<(), UploadError> {
        let Some(Lane { cells, task, .. }) = self.lanes[column].take() else { return Ok(()) };
        let node = self.node(column);
        // A lane whose queue is closed has ended, and says why. Any other one is stuck.
        let error = match cells.is_closed() {
            true => task.await.ok().and_then(Result::err).unwrap_or_else(|| unfinished(&node)),
            false => TransportError::TimedOut { node },
        };
        self.lose(column, error)
    }

    fn lose(&mut self, column: usize, error: TransportError) -> Result<(), UploadError> {
        let lost = self.scatter.failed(column);
        if lost.is_ok() {
            tracing::warn!(node = %self.node(column), column, %error, "a shard was not stored");
        }
        self.failed.push(error);
        lost.map_err(|source| {
            let (failed, silent_zones) = (std::mem::take(&mut self.failed), lock(&self.spread).silent_zones());
            UploadError::Lost { source, failed, silent_zones }
        })
    }

    fn node(&self, column: usize) -> NodeName {
        lock(&self.spread).placement.nodes[column].clone()
    }

    async fn commit(&mut self, sealed: &Sealed) -> Result<(), UploadError> {
        let mut commits = FuturesUnordered::new();
        for column in 0..self.lanes.len() {
            let Some(Lane { cells, commit, task }) = self.lanes[column].take() else { continue };
            drop(cells);
            // A lane that has ended does not take it, and says why.
            let _ = commit.send(sealed.public.encoded().clone());
            let node = self.node(column);
            self.committing.push(task.abort_handle());
            // Lanes are tasks of their own, so a straggler continues after the acknowledgement.
            commits.push(async move { (column, task.await.unwrap_or_else(|_| Err(unfinished(&node)))) });
        }
        // What waits in the queues, and the disks, have the time of the slowest.
        let bytes = (0..self.lanes.len()).map(|column| sealed.public.shard_bytes(column)).max().unwrap_or_default();
        let queued = SLOWEST_STRIP * u32::try_from(LANE_STRIPS + 1).unwrap_or(u32::MAX);
        let sync = Duration::from_secs(bytes / SYNC_BYTES_PER_SECOND_MIN);
        let mut until = Instant::now() + STALLED + queued + sync * 2;
        let mut is_acknowledged = false;
        while !self.scatter.is_settled() {
            let Ok(Some((column, committed))) = timeout_at(until, commits.next()).await else { break };
            match committed {
                Ok(()) => self.scatter.durable(column),
                Err(error) => self.lose(column, error)?,
            }
            if self.scatter.may_acknowledge() && !is_acknowledged {
                (is_acknowledged, until) = (true, Instant::now() + STRAGGLERS);
            }
        }
        let open: Vec<_> = (0..self.lanes.len()).filter(|column| self.scatter.is_open(*column)).collect();
        if is_acknowledged {
            for column in open {
                tracing::warn!(node = %self.node(column), column, "a shard is not durable yet");
            }
            return Ok(());
        }
        for column in open {
            self.lose(column, TransportError::TimedOut { node: self.node(column) })?;
        }
        Ok(())
    }

    fn durable_placement(&self) -> Vec<Option<NodeName>> {
        let durable = |(column, node): (usize, &NodeName)| self.scatter.is_durable(column).then(|| node.clone());
        lock(&self.spread).placement.nodes.iter().enumerate().map(durable).collect()
    }
}

fn silence(zones: &BTreeSet<String>) -> String {
    if zones.is_empty() { String::new() } else { format!("; no origin was heard of lately in zone {}", list(zones)) }
}

/// Waits for what comes, to the end of a deadline if there is one.
async fn by<F: Future>(until: Option<Instant>, coming: F) -> Result<F::Output, Elapsed> {
    match until {
        Some(until) => timeout_at(until, coming).await,
        None => Ok(coming.await),
    }
}
