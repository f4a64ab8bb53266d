//! Uploads of encoded objects: drives [`Scatter`] over a [`Transport`], with one bounded queue (lane) for each column.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use format::{
    Cap, Cell, Domain, EncodedStripe, Lease, Level, NodeName, Record, RecordError, Redundancy, Sealed, rendezvous,
    wire::NodeEntry,
};
use futures::{FutureExt, StreamExt, future::Shared, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, error::Elapsed, sleep, timeout_at},
};

use crate::{
    Placement, PlacementAsk, PlacementError, Topology, Transport, TransportError,
    placement::{list, place, zone_columns_best},
    reader::RECORD_NODES_MAX,
    scatter::{Scatter, ScatterLost},
    topology::silent,
};

/// Number of strips that may wait for one node. An upload holds these, the stripe being encoded, and [`KEPT_CELLS`] for
/// each node at its beginning in memory.
const LANE_STRIPS: usize = 2;
/// Cells that a lane keeps after they were sent. While these are all, another node can take the place of one that
/// fails.
const KEPT_CELLS: usize = 4;
/// Nodes that are tried in place of one, for one column.
const OTHERS_MAX: usize = 3;
/// A straggler that does not take a strip for this long has failed, or for three times as long as the quorum ever took,
/// when that is more: over a slow uplink all take their time.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_FACTOR: u32 = 3;
/// Columns that take nothing for this long, while fewer than the quorum did, have failed.
const STALLED: Duration = Duration::from_secs(120);
/// Pauses before a call that failed is made again, doubled each time: 16 seconds in all, the calls themselves aside.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LAST: Duration = Duration::from_secs(8);
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

/// One column on its way to its node.
struct Lane {
    cells: mpsc::Sender<(u64, Cell)>,
    /// Takes the public manifest once all cells are there.
    commit: oneshot::Sender<Bytes>,
    /// Ends once the shard is durable.
    task: JoinHandle<Result<(), TransportError>>,
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
    caps: Vec<Cap>,
    preferences: BTreeMap<NodeName, u8>,
}

struct Sharded {
    spread: Arc<Mutex<Spread>>,
    scatter: Scatter,
    lanes: Vec<Option<Lane>>,
    failed: Vec<TransportError>,
    /// The longest that the quorum took for a stripe.
    pace: Duration,
}

/// The nodes of the columns, and what another choice must keep to.
struct Spread {
    ask: PlacementAsk,
    nodes: Arc<Vec<NodeEntry>>,
    placement: Placement,
}

impl Spread {
    /// Places all columns, on nodes that are probably gone only where the caps leave no other. The cap of zones is that
    /// of all nodes, so what is gone brings no columns closer together, unless too few would be durable otherwise.
    fn new(mut ask: PlacementAsk, topology: &Topology) -> Result<Self, PlacementError> {
        let nodes = topology.snapshot();
        ask.last = silent(&nodes);
        let mut placement = place(&ask, &nodes)?;
        let up = placement.nodes.iter().filter(|node| !ask.last.contains(*node)).count();
        if up < ask.redundancy.quorum() {
            let excluded = ask.last.clone();
            placement = place(&PlacementAsk { excluded, ..ask.clone() }, &nodes).unwrap_or(placement);
        }
        if !ask.caps.iter().any(|cap| cap.level == Level::Zone) {
            let columns_max = placement.per_zone.max(zone_columns_best(ask.redundancy));
            ask.caps.push(Cap { level: Level::Zone, columns_max: u8::try_from(columns_max).unwrap_or(u8::MAX) });
        }
        Ok(Self { ask, nodes, placement })
    }

    /// Finds another node for a column whose node failed. Returns `None` if no other is within the owner's places and
    /// caps.
    fn replace(&mut self, column: usize) -> Option<NodeName> {
        self.ask.excluded.insert(self.placement.nodes[column].clone());
        self.ask.held = self.placement.nodes.iter().cloned().map(Some).collect();
        self.ask.held[column] = None;
        self.placement = place(&self.ask, &self.nodes).ok()?;
        Some(self.placement.nodes[column].clone())
    }
}

fn lock(spread: &Mutex<Spread>) -> MutexGuard<'_, Spread> {
    spread.lock().unwrap_or_else(PoisonError::into_inner)
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
        let spread = Spread::new(ask, &self.topology)?;
        let nodes = spread.placement.nodes.clone();
        let spread = Arc::new(Mutex::new(spread));
        let columns = redundancy.columns();
        let filling = |(column, node): (usize, NodeName)| {
            let (transport, spread) = (self.transport.clone(), spread.clone());
            Some(Filling { transport, spread, node, column, columns, kept: Some(Vec::new()) }.start())
        };
        let lanes = nodes.into_iter().enumerate().map(filling).collect();
        Ok(Sharded { spread, scatter: Scatter::new(redundancy), lanes, failed: Vec::new(), pace: Duration::ZERO })
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
                sharded.commit(sealed).await?;
                let (durable, spread) = (sharded.scatter.count_durable(), lock(&sharded.spread).placement.clone());
                (sharded.durable_placement(), Some(spread), durable)
            }
        };
        let record =
            Record::new(sealed.public.clone(), Some(sealed.sealed.clone()), lease_envelope, placement.clone())?;
        let records = file_record(&transport, &record, &topology).await?;
        Ok(Receipt { placement, durable, records, spread })
    }
}

/// The public manifest, which a lane gets when all its cells are there; an error once the upload was given up.
type Public = Shared<oneshot::Receiver<Bytes>>;

/// What fills a shard.
struct Filling {
    transport: Arc<dyn Transport>,
    spread: Arc<Mutex<Spread>>,
    node: NodeName,
    column: usize,
    columns: usize,
    /// The cells that were sent, while they are few.
    kept: Option<Vec<Cell>>,
}

impl Filling {
    fn start(self) -> Lane {
        let (cells, waiting) = mpsc::channel(LANE_STRIPS);
        let (commit, public) = oneshot::channel();
        Lane { cells, commit, task: tokio::spawn(self.run(waiting, public.shared())) }
    }

    /// Fills the shard at the node, or, as long as all of it is kept, at another one; where there is no other, at the
    /// same once more.
    async fn run(mut self, mut waiting: mpsc::Receiver<(u64, Cell)>, public: Public) -> Result<(), TransportError> {
        let (mut is_again, mut others) = (false, 0..OTHERS_MAX);
        loop {
            let Err(error) = self.fill(&mut waiting, &public).await else { return Ok(()) };
            // Once the column or the upload was given up, the manifest never comes.
            let is_given_up = matches!(public.clone().now_or_never(), Some(Err(_)));
            if self.kept.is_none() || is_given_up {
                return Err(error);
            }
            let next = others.next().and_then(|_| lock(&self.spread).replace(self.column));
            match next {
                Some(next) => {
                    tracing::info!(node = %self.node, %next, column = self.column, %error, "another origin takes a shard");
                    self.node = next;
                }
                None if error.is_retryable() && !is_again => {
                    is_again = true;
                    sleep(AGAIN_FIRST).await;
                }
                None => return Err(error),
            }
        }
    }

    async fn fill(&mut self, waiting: &mut mpsc::Receiver<(u64, Cell)>, public: &Public) -> Result<(), TransportError> {
        let upload = self.transport.create_upload(&self.node, self.column, self.columns).await?;
        let filled = self.send(&upload, waiting, public).await;
        if filled.is_err() {
            // The session is useless now. If the node is down, it collects the session itself.
            let (transport, node) = (self.transport.clone(), self.node.clone());
            tokio::spawn(async move { transport.abort(&node, &upload).await });
        }
        filled
    }

    async fn send(
        &mut self,
        upload: &str,
        waiting: &mut mpsc::Receiver<(u64, Cell)>,
        public: &Public,
    ) -> Result<(), TransportError> {
        for (first, cell) in (0..).zip(self.kept.iter().flatten()) {
            self.transport.append(&self.node, upload, first, std::slice::from_ref(cell)).await?;
        }
        while let Some((first, cell)) = waiting.recv().await {
            match &mut self.kept {
                Some(kept) if kept.len() < KEPT_CELLS => kept.push(cell.clone()),
                kept => *kept = None,
            }
            self.again(|| self.transport.append(&self.node, upload, first, std::slice::from_ref(&cell))).await?;
        }
        let public = public.clone().await.map_err(|_| unfinished(&self.node))?;
        self.again(|| self.transport.commit(&self.node, upload, self.column, public.clone())).await
    }

    /// Makes a call again that an interruption of the network may have failed, once no other node can take over because
    /// the first cells are no longer kept. A node takes what comes twice once.
    async fn again<F: Future<Output = Result<(), TransportError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<(), TransportError> {
        let mut pause = AGAIN_FIRST;
        loop {
            match call().await {
                Err(error) if error.is_retryable() && self.kept.is_none() && pause <= AGAIN_LAST => {
                    tracing::debug!(node = %self.node, column = self.column, %error, "a call is made again");
                    sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
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
        let mut until = began + STALLED;
        while let Ok(Some((column, ok))) = timeout_at(until, handing.next()).await {
            open.remove(&column);
            if !ok {
                self.fail(column).await?;
                continue;
            }
            handed += 1;
            let now = Instant::now();
            if handed < quorum {
                until = now + STALLED;
            } else if handed == quorum {
                self.pace = self.pace.max(now - began);
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
        lost.map_err(|source| UploadError::Lost { source, failed: std::mem::take(&mut self.failed) })
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
            // Lanes are tasks of their own, so a straggler continues after the acknowledgement.
            commits.push(async move { (column, task.await.unwrap_or_else(|_| Err(unfinished(&node)))) });
        }
        let mut until = None;
        while !self.scatter.is_settled() {
            let Ok(Some((column, committed))) = by(until, commits.next()).await else { break };
            match committed {
                Ok(()) => self.scatter.durable(column),
                Err(error) => self.lose(column, error)?,
            }
            if self.scatter.may_acknowledge() && until.is_none() {
                until = Some(Instant::now() + STRAGGLERS);
            }
        }
        Ok(())
    }

    fn durable_placement(&self) -> Vec<Option<NodeName>> {
        let durable = |(column, node): (usize, &NodeName)| self.scatter.is_durable(column).then(|| node.clone());
        lock(&self.spread).placement.nodes.iter().enumerate().map(durable).collect()
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
    let copies = record.public.redundancy().map_or(INLINE_COPIES, |redundancy| redundancy.parity() + 1);
    let mut homes = record_order(record, origins);
    homes.truncate(copies);
    homes
}

/// Returns all origins that may hold a record, in the locator's rendezvous order.
fn record_order<'a>(record: &Record, origins: &'a [NodeEntry]) -> Vec<&'a NodeName> {
    let is_sharded = record.public.redundancy().is_some();
    let Lease { wanted, refused, .. } = &record.lease;
    let allowed = origins.iter().filter(|node| is_sharded || Domain::allow(wanted, refused, &node.place));
    rendezvous::order(record.locator().as_bytes(), allowed.map(|node| &node.name))
}

/// Returns all origins that hold a record: its homes and the nodes with shards.
#[must_use]
pub fn record_holders(record: &Record, origins: &[NodeEntry]) -> BTreeSet<NodeName> {
    record_homes(record, origins).into_iter().chain(record.placement.iter().flatten()).cloned().collect()
}

/// Files a record at its holders. A home that does not take it is made up for by the next of the locator's order, as
/// far as readers ask; one that is probably gone comes last. Once more than half have it, the others have `STRAGGLERS`
/// to join. Returns how many took it.
///
/// # Errors
/// [`UploadError::Record`] when half of them or more did not.
pub async fn file_record(
    transport: &Arc<dyn Transport>,
    record: &Record,
    topology: &Topology,
) -> Result<usize, UploadError> {
    let origins = topology.origins();
    let (silent, homes) = (silent(&origins), record_homes(record, &origins).len());
    // Readers ask no further than this.
    let order = record_order(record, &origins).into_iter().take(RECORD_NODES_MAX.max(homes)).cloned();
    let (up, gone): (Vec<_>, Vec<_>) = order.partition(|node| !silent.contains(node));
    let mut order = up.into_iter().chain(gone);
    let mut asked: BTreeSet<NodeName> = order.by_ref().take(homes).collect();
    asked.extend(record.placement.iter().flatten().cloned());
    let need = asked.len() / 2 + 1;

    let (locator, bytes) = (record.locator(), Bytes::from(record.encode()));
    // Tasks, so that a straggler continues after the acknowledgement.
    let put = |node: NodeName| {
        let (transport, bytes) = (transport.clone(), bytes.clone());
        tokio::spawn(async move { transport.put_record(&node, &locator, bytes).await })
    };
    let mut puts: FuturesUnordered<_> = asked.iter().cloned().map(put).collect();
    let (mut stored, mut failed, mut until) = (0, Vec::new(), None);
    while let Ok(Some(filed)) = by(until, puts.next()).await {
        match filed {
            Ok(Ok(())) => stored += 1,
            Ok(Err(error)) => {
                failed.push(error);
                if let Some(next) = order.by_ref().find(|node| asked.insert(node.clone())) {
                    puts.push(put(next));
                }
            }
            Err(_) => {}
        }
        if stored >= need && until.is_none() {
            until = Some(Instant::now() + STRAGGLERS);
        }
    }
    let asked = asked.len();
    if stored < need { Err(UploadError::Record { stored, asked, need, failed }) } else { Ok(stored) }
}

/// Waits for what comes, to the end of a deadline if there is one.
async fn by<F: Future>(until: Option<Instant>, coming: F) -> Result<F::Output, Elapsed> {
    match until {
        Some(until) => timeout_at(until, coming).await,
        None => Ok(coming.await),
    }
}
