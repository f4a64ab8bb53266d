//! Uploads of encoded objects: drives [`Scatter`] over a [`Transport`], with one bounded queue (lane) for each column.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use format::{
    Cell, Domain, EncodedStripe, Lease, NodeName, Record, RecordError, Redundancy, Sealed, rendezvous, wire::NodeEntry,
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Placement, PlacementAsk, PlacementError, Topology, Transport, TransportError,
    placement::{list, place},
    scatter::{Scatter, ScatterLost},
};

/// Number of strips that may wait for one node. An upload holds these and the stripe being encoded in memory.
const LANE_STRIPS: usize = 2;
/// A node that does not take a strip for this long has failed, as long as enough others continue.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the quorum is durable, the stragglers have this long to become durable too. Then the record is filed without
/// them.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// Copies of the record of an inline object. The record contains the object's bytes, so there are as many copies as the
/// smallest sharded objects have shards.
const INLINE_COPIES: usize = 4;

/// Why an upload failed. Nothing was acknowledged, and origins collect shards that are already stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// No placement was found: there are too few nodes, or the places and caps leave too little room.
    #[error("the object cannot be placed")]
    Placement(#[from] PlacementError),
    /// Too many origins failed.
    #[error("too few shards could be stored: {}", list(failed))]
    Lost {
        /// How many.
        source: ScatterLost,
        /// How each origin failed that did.
        failed: Vec<TransportError>,
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
    /// The losses that the spread survives; `None` for inline objects.
    pub spread: Option<Placement>,
}

struct Lane {
    cells: mpsc::Sender<(u64, Cell)>,
    task: JoinHandle<Result<String, TransportError>>,
}

/// One upload: an object on its way to its origins.
///
/// Dropping it abandons the upload, and origins collect the sessions.
pub struct Uploader {
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    ask: PlacementAskBase,
    sharded: Option<Sharded>,
}

/// A [`PlacementAsk`] without the redundancy, which is known only with the first stripe.
#[derive(Debug, Clone)]
struct PlacementAskBase {
    seed: [u8; 32],
    wanted: Vec<Domain>,
    refused: Vec<Domain>,
    caps: Vec<format::Cap>,
    preferences: BTreeMap<NodeName, u8>,
}

struct Sharded {
    placement: Placement,
    scatter: Scatter,
    lanes: Vec<Option<Lane>>,
    failed: Vec<TransportError>,
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
        Self { transport, topology, ask, sharded: None }
    }

    /// Limits the columns in one place.
    #[must_use]
    pub fn with_caps(mut self, caps: Vec<format::Cap>) -> Self {
        self.ask.caps = caps;
        self
    }

    /// Prefers some nodes over others: the chance of a node is multiplied by its number, out of 255.
    #[must_use]
    pub fn with_preferences(mut self, preferences: BTreeMap<NodeName, u8>) -> Self {
        self.ask.preferences = preferences;
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
        let placement = place(&ask, &self.topology.snapshot())?;
        let lane = |(column, node): (usize, &NodeName)| {
            Some(Lane::open(self.transport.clone(), node.clone(), column, redundancy.columns()))
        };
        let lanes = placement.nodes.iter().enumerate().map(lane).collect();
        Ok(Sharded { placement, scatter: Scatter::new(redundancy), lanes, failed: Vec::new() })
    }

    /// Makes the shards durable and files the record. Returns once the quorum, k + ceil(m / 2) columns, and enough
    /// copies of the record are durable. Stragglers had `STRAGGLERS` to join.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn commit(self, sealed: &Sealed, lease_envelope: Bytes) -> Result<Receipt, UploadError> {
        let Self { transport, topology, sharded, .. } = self;
        let (placement, spread, durable) = match sharded {
            None => (Vec::new(), None, 0),
            Some(mut sharded) => {
                sharded.commit(&transport, sealed).await?;
                let durable = sharded.scatter.count_durable();
                (sharded.durable_placement(), Some(sharded.placement), durable)
            }
        };
        let record =
            Record::new(sealed.public.clone(), Some(sealed.sealed.clone()), lease_envelope, placement.clone())?;
        let nodes = record_holders(&record, &topology.origins());
        let records = file_record(&*transport, &record, &nodes).await?;
        Ok(Receipt { placement, durable, records, spread })
    }
}

impl Lane {
    fn open(transport: Arc<dyn Transport>, node: NodeName, column: usize, columns: usize) -> Self {
        let (cells, mut waiting) = mpsc::channel::<(u64, Cell)>(LANE_STRIPS);
        let task = tokio::spawn(async move {
            let upload = transport.create_upload(&node, column, columns).await?;
            while let Some((first, cell)) = waiting.recv().await {
                if let Err(error) = transport.append(&node, &upload, first, &[cell]).await {
                    // The session is useless now. If the node is down, it collects the session itself.
                    let _ = transport.abort(&node, &upload).await;
                    return Err(error);
                }
            }
            Ok(upload)
        });
        Self { cells, task }
    }
}

impl Sharded {
    async fn send(&mut self, stripe: EncodedStripe) -> Result<(), UploadError> {
        let index = stripe.index.0;
        let hand = |(column, cell): (usize, Cell)| {
            let lane = self.lanes[column].as_ref().map(|lane| lane.cells.clone());
            async move {
                let Some(lane) = lane else { return (column, true) };
                let handed = timeout(PATIENCE, lane.send((index, cell))).await;
                (column, matches!(handed, Ok(Ok(()))))
            }
        };
        let handed = join_all(stripe.into_cells().enumerate().map(hand)).await;
        for (column, ok) in handed {
            if !ok {
                self.fail(column).await?;
            }
        }
        Ok(())
    }

    /// Gives up a column whose lane takes nothing any more.
    async fn fail(&mut self, column: usize) -> Result<(), UploadError> {
        let Some(Lane { cells, task }) = self.lanes[column].take() else { return Ok(()) };
        let node = &self.placement.nodes[column];
        // A lane whose queue is closed has ended, and says why. Any other one is stuck.
        let error = match cells.is_closed() {
            true => task.await.ok().and_then(Result::err).unwrap_or_else(|| unfinished(node)),
            false => TransportError::TimedOut { node: node.clone() },
        };
        self.lose(column, error)
    }

    fn lose(&mut self, column: usize, error: TransportError) -> Result<(), UploadError> {
        let lost = self.scatter.failed(column);
        if lost.is_ok() {
            tracing::warn!(node = %self.placement.nodes[column], column, %error, "a shard was not stored");
        }
        self.failed.push(error);
        lost.map_err(|source| UploadError::Lost { source, failed: std::mem::take(&mut self.failed) })
    }

    async fn commit(&mut self, transport: &Arc<dyn Transport>, sealed: &Sealed) -> Result<(), UploadError> {
        let mut commits = FuturesUnordered::new();
        for (column, lane) in self.lanes.iter_mut().enumerate() {
            let Some(Lane { cells, task }) = lane.take() else { continue };
            drop(cells);
            let (transport, node) = (transport.clone(), self.placement.nodes[column].clone());
            let public = sealed.public.encoded().clone();
            // The commit is a task of its own, so a straggler continues after the acknowledgement.
            commits.push(tokio::spawn(async move {
                let committed = async {
                    let upload = task.await.map_err(|_| unfinished(&node))??;
                    transport.commit(&node, &upload, column, public).await
                };
                (column, committed.await)
            }));
        }
        let mut until = None;
        while !self.scatter.is_settled() {
            let straggling = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(Ok((column, committed))) = commits.next() => match committed {
                    Ok(()) => self.scatter.durable(column),
                    Err(error) => self.lose(column, error)?,
                },
                () = straggling => break,
                else => break,
            }
            if self.scatter.may_acknowledge() && until.is_none() {
                until = Some(Instant::now() + STRAGGLERS);
            }
        }
        Ok(())
    }

    fn durable_placement(&self) -> Vec<Option<NodeName>> {
        let durable = |(column, node): (usize, &NodeName)| self.scatter.is_durable(column).then(|| node.clone());
        self.placement.nodes.iter().enumerate().map(durable).collect()
    }
}

fn unfinished(node: &NodeName) -> TransportError {
    TransportError::Unreachable { node: node.clone(), reason: "its lane was cancelled".to_owned() }
}

/// Returns the origins that hold a record besides those with shards: the first m + 1 in the locator's rendezvous order,
/// so that the record survives the same losses as the shards. The record of an inline object contains the object's
/// bytes, so the owner's places apply to it as to shards.
#[must_use]
pub fn record_homes<'a>(record: &Record, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let redundancy = record.public.redundancy();
    let copies = redundancy.map_or(INLINE_COPIES, |redundancy| redundancy.parity() + 1);
    let Lease { wanted, refused, .. } = &record.lease;
    let allowed = origins.iter().filter(|node| redundancy.is_some() || Domain::allow(wanted, refused, &node.place));
    let mut homes = rendezvous::order(record.locator().as_bytes(), allowed.map(|node| &node.name));
    homes.truncate(copies);
    homes
}

/// Returns all origins that hold a record: its homes and the nodes with shards.
#[must_use]
pub fn record_holders(record: &Record, origins: &[NodeEntry]) -> BTreeSet<NodeName> {
    record_homes(record, origins).into_iter().chain(record.placement.iter().flatten()).cloned().collect()
}

async fn file_record(
    transport: &dyn Transport,
    record: &Record,
    nodes: &BTreeSet<NodeName>,
) -> Result<usize, UploadError> {
    let need = nodes.len() / 2 + 1;
    let (locator, bytes) = (record.locator(), Bytes::from(record.encode()));
    let puts = nodes.iter().map(|node| transport.put_record(node, &locator, bytes.clone()));
    let failed: Vec<_> = join_all(puts).await.into_iter().filter_map(Result::err).collect();
    let (asked, stored) = (nodes.len(), nodes.len() - failed.len());
    if stored < need { Err(UploadError::Record { stored, asked, need, failed }) } else { Ok(stored) }
}
