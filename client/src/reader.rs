//! Verified reads: a capability becomes an opened object, and a stripe becomes plaintext blocks. The reader drives
//! [`Gather`] over a [`Transport`]. Every strip is proven under its root before it is used.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use format::{
    BlockIndex, Cell, DecodeError, Locator, NodeName, Object, OpenError, Place, Record, StripeIndex, wire::NodeEntry,
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{
    sync::Semaphore,
    task::JoinError,
    time::{Instant, sleep, timeout},
};

use crate::{
    Topology, Transport, TransportError,
    gather::{Gather, Progress, Source},
    offload::offload,
    pace::{Expectation, Pace, kilometres},
    transport::ShardAsk,
};

mod calls;
mod fetch;
mod link;
mod options;
mod records;

use calls::Calls;
use fetch::Fetched;
pub use fetch::Near;
use link::{Link, Room};
pub use options::{Bottleneck, ReaderOptions};
pub use records::{Known, RECORD_NODES_MAX, Shown};

/// The expected time of a strip on a shelf, and the time after which its disk is doubted like a node.
const SHELF_TIME: Duration = Duration::from_millis(2);
const SHELF_DOUBTED_AFTER: Duration = Duration::from_millis(50);

/// Maximum number of reports of wrong strips under way at once.
const REPORTS_MAX: usize = 8;

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Most nodes have no record under this locator. The viewer's link is wrong, or the object is very new.
    #[error("no node knows an object {locator}")]
    NotFound {
        /// The locator.
        locator: Locator,
    },
    /// No node gave the record, and too few said that there is none. Try again.
    #[error("too few nodes could be asked for the record of {locator}")]
    Unavailable {
        /// The locator.
        locator: Locator,
        /// The last failure.
        source: Option<TransportError>,
    },
    /// Most nodes have no record that is as new as one seen before. Its nodes are behind, or hold news back: try again.
    #[error("the nodes have only older records of {locator} than one that was seen before")]
    Old {
        /// The locator.
        locator: Locator,
    },
    /// No node has a record that opens. Erased objects are reported so too.
    #[error("the record does not open")]
    Open(#[from] OpenError),
    /// Too few strips are intact and reachable. The nodes are at fault: try again.
    #[error("stripe {} is lost for now: {have} of {need} strips can be had", stripe.0)]
    Lost {
        /// The stripe.
        stripe: StripeIndex,
        /// Strips available.
        have: usize,
        /// Strips needed.
        need: usize,
        /// Strips of nodes that did not answer, and may soon.
        silent: usize,
    },
    /// The nodes are too slow. Try again.
    #[error("stripe {} did not arrive in time", stripe.0)]
    TooSlow {
        /// The stripe.
        stripe: StripeIndex,
    },
    /// The strips are as they were written but do not give a block. Whoever stored the object is at fault.
    #[error("the object is broken as it was stored")]
    Decode(#[from] DecodeError),
    /// The program ends before the strips are decoded.
    #[error("stripe {} was not decoded, as this program is ending", stripe.0)]
    Ending {
        /// The stripe.
        stripe: StripeIndex,
        /// Why the decoding did not finish.
        source: JoinError,
    },
}

/// Blocks of one stripe, and the cost of reading them.
#[derive(Debug, Clone, Default)]
pub struct StripeRead {
    /// The requested blocks as plaintext, in column order.
    pub blocks: Vec<(BlockIndex, Bytes)>,
    /// Distinct nodes whose strips were used.
    pub nodes: BTreeSet<NodeName>,
    /// Bytes of strips received from these nodes, used or not.
    pub bytes: u64,
    /// Bytes of strips that an edge nearby brought.
    pub neighbour_bytes: u64,
    /// Whether strips had to be recovered.
    pub recovered: bool,
    /// Nodes that sent wrong bytes, each with the column.
    pub wrong: Vec<(NodeName, usize)>,
}

/// Reads objects from the nearest nodes.
pub struct Reader {
    transport: Arc<dyn Transport>,
    topology: Arc<Topology>,
    here: Place,
    options: ReaderOptions,
    pace: Pace,
    /// Present where it may be the bottleneck.
    link: Option<Link>,
    reports: Arc<Semaphore>,
    calls: Calls,
}

impl Reader {
    /// Makes a reader. `here` is its own place.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, topology: Arc<Topology>, here: Place, options: ReaderOptions) -> Self {
        Self {
            transport,
            topology,
            here,
            options,
            pace: Pace::default(),
            link: (options.bottleneck == Bottleneck::Link).then(Link::new),
            reports: Arc::new(Semaphore::new(REPORTS_MAX)),
            calls: Calls::default(),
        }
    }

    /// Returns the transport.
    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Returns the topology.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Reads blocks of one stripe. `columns` are data columns in ascending order. If too few strips are where
    /// `placement` says, other copies of the record are asked for the new places of the shards. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn blocks(
        &self,
        object: &Arc<Object>,
        placement: &[Option<NodeName>],
        stripe: StripeIndex,
        columns: &[usize],
    ) -> Result<StripeRead, ReadError> {
        self.blocks_near(Near::default(), object, placement, stripe, columns).await
    }

    /// Like [`Self::blocks`], but tries what is nearer before the nodes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn blocks_near(
        &self,
        near: Near<'_>,
        object: &Arc<Object>,
        placement: &[Option<NodeName>],
        stripe: StripeIndex,
        columns: &[usize],
    ) -> Result<StripeRead, ReadError> {
        let deadline = self.options.stripe_deadline;
        let gathered = timeout(deadline, async {
            match self.gather(near, object, placement, stripe, columns).await {
                Err(lost @ ReadError::Lost { .. }) => match self.moved(object, placement).await {
                    Some(moved) => self.gather(near, object, &moved, stripe, columns).await,
                    None => Err(lost),
                },
                gathered => gathered,
            }
        });
        let (mut read, cells) = gathered.await.map_err(|_| ReadError::TooSlow { stripe })??;
        read.recovered = columns.iter().any(|column| cells[*column].is_none());
        let (object, columns) = (object.clone(), columns.to_vec());
        let decoded = offload(move || decode(&object, stripe, &columns, cells));
        read.blocks = decoded.await.map_err(|source| ReadError::Ending { stripe, source })??;
        Ok(read)
    }

    /// Asks all nodes that should have the record for the present places of the shards. Returns `None` if no copy has a
    /// new one. A copy may be as old as the placement in hand, so any different place is preferred: a wrong one costs a
    /// fetch, never a wrong byte.
    async fn moved(&self, object: &Object, placement: &[Option<NodeName>]) -> Option<Vec<Option<NodeName>>> {
        let locator = object.locator();
        let asked = self.record_nodes(&locator).into_iter().map(async |(node, _)| {
            let copy = timeout(self.options.record_deadline, self.transport.record(&node, &locator)).await;
            let record = Record::decode(&copy.ok()?.ok()??).ok()?;
            (record.public.id() == object.public().id()).then_some(record.placement)
        });
        let mut moved = placement.to_vec();
        for told in join_all(asked).await.into_iter().flatten() {
            for ((column, now), before) in told.into_iter().enumerate().zip(placement) {
                if now.is_some() && now != *before {
                    moved[column] = now;
                }
            }
        }
        (moved != placement).then_some(moved)
    }

    async fn gather(
        &self,
        near: Near<'_>,
        object: &Arc<Object>,
        placement: &[Option<NodeName>],
        stripe: StripeIndex,
        columns: &[usize],
    ) -> Result<(StripeRead, Vec<Option<Cell>>), ReadError> {
        let Some(geometry) = object.geometry().filter(|geometry| stripe.0 < geometry.stripes()) else {
            return Err(DecodeError::OutOfRange { block: BlockIndex(stripe.0) }.into());
        };
        let need = geometry.columns(stripe);
        if let Some(column) = columns.iter().find(|column| **column >= need) {
            return Err(DecodeError::OutOfRange { block: geometry.block(stripe, *column) }.into());
        }
        let ask = |column| ShardAsk { object: object.public().id(), column, first: stripe.0, count: 1 };
        let is_held = |column| near.shelf.is_some_and(|shelf| shelf.holds(&ask(column)));
        let held: Vec<bool> = (0..placement.len()).map(is_held).collect();
        let mut gather = Gather::new(need, columns, self.sources(near, object, placement, stripe, &held));
        let mut read = StripeRead::default();
        let mut cells = vec![None; object.public().columns()];
        let fetch = |column: usize| {
            let node = placement.get(column).cloned().flatten();
            self.fetch(near, object.clone(), node, ask(column))
        };
        let (mut fetches, mut waiting) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut rooms: Vec<Option<Room<'_>>> = held.iter().map(|_| None).collect();
        let mut silent = 0;
        // On a link that nobody knows yet, all nodes are late.
        let can_judge = self.link.as_ref().is_none_or(Link::is_known);
        let start = Instant::now();
        loop {
            for column in gather.fetch(start.elapsed()) {
                match &self.link {
                    // What replaces a late strip does not wait for the place that this one has.
                    Some(link) if !held[column] && gather.late().next().is_none() => {
                        gather.waits(column);
                        waiting.push(async move { (column, link.room().await) });
                    }
                    _ => fetches.push(fetch(column)),
                }
            }
            match gather.progress() {
                Progress::Direct | Progress::Decode => {
                    let late = gather.late().filter(|column| can_judge && !held[*column]);
                    for node in late.filter_map(|column| placement.get(column)?.as_ref()) {
                        self.pace.late(node, Instant::now());
                    }
                    return Ok((read, cells));
                }
                Progress::Lost { have, need } => return Err(ReadError::Lost { stripe, have, need, silent }),
                Progress::Waiting => {}
            }
            let nap = gather.wake_at().map_or(self.options.stripe_deadline, |at| at.saturating_sub(start.elapsed()));
            tokio::select! {
                biased;
                Some((column, node, fetched)) = fetches.next() => {
                    rooms[column] = None;
                    match fetched {
                        Fetched::Strip(cell) => {
                            read.bytes += cell.size() as u64;
                            read.nodes.extend(node);
                            cells[column] = Some(cell);
                            gather.arrived(column);
                            // The link brings strips, so the late ones are their nodes' fault and take no places.
                            gather.late().for_each(|late| rooms[late] = None);
                        }
                        Fetched::Brought(cell) => {
                            read.neighbour_bytes += cell.size() as u64;
                            cells[column] = Some(cell);
                            gather.arrived(column);
                        }
                        Fetched::Held(cell) => {
                            cells[column] = Some(cell);
                            gather.arrived(column);
                        }
                        Fetched::Wrong => {
                            read.wrong.extend(node.map(|node| (node, column)));
                            gather.failed(column);
                        }
                        Fetched::Silent => {
                            silent += 1;
                            gather.failed(column);
                        }
                        Fetched::Absent => gather.failed(column),
                    }
                },
                Some((column, room)) = waiting.next() => {
                    rooms[column] = Some(room);
                    if let Some(node) = &placement[column] {
                        let expectation = self.expect(node, &self.topology.snapshot());
                        gather.begins(column, start.elapsed(), expectation.doubted_after);
                    }
                    fetches.push(fetch(column));
                }
                () = sleep(nap) => {}
            }
        }
    }

    fn sources(
        &self,
        near: Near<'_>,
        object: &Object,
        placement: &[Option<NodeName>],
        stripe: StripeIndex,
        held: &[bool],
    ) -> Vec<Source> {
        let nodes = self.topology.snapshot();
        let source = |(column, node): (usize, &Option<NodeName>)| {
            if stripe.0 >= object.public().column_strips(column) {
                return None;
            }
            if held[column] {
                return Some(Source { column, expected: SHELF_TIME, doubted_after: SHELF_DOUBTED_AFTER });
            }
            let Expectation { expected, mut doubted_after } = self.expect(node.as_ref()?, &nodes);
            // The node is asked once the neighbour had its time.
            if near.neighbour.is_some() {
                doubted_after += self.neighbour_patience(doubted_after);
            }
            Some(Source { column, expected, doubted_after })
        };
        placement.iter().enumerate().filter_map(source).collect()
    }

    /// Returns what is expected now of a node that is one of `nodes`, as far as is known.
    fn expect(&self, node: &NodeName, nodes: &[NodeEntry]) -> Expectation {
        let entry = nodes.iter().find(|entry| entry.name == *node);
        let far = kilometres(&self.here, entry);
        let Expectation { expected, doubted_after } = self.pace.expect(node, far, Instant::now());
        let beside = self.link.as_ref().map_or(Duration::ZERO, Link::doubted_after);
        Expectation { expected, doubted_after: doubted_after.max(beside) }
    }
}

fn nonsense(node: &NodeName, reason: &str) -> TransportError {
    TransportError::Nonsense { node: node.clone(), reason: reason.to_owned() }
}

/// Decodes the wanted columns of a stripe from proven cells; those that are missing are recovered from the others.
fn decode(
    object: &Object,
    stripe: StripeIndex,
    columns: &[usize],
    cells: Vec<Option<Cell>>,
) -> Result<Vec<(BlockIndex, Bytes)>, DecodeError> {
    let out = DecodeError::OutOfRange { block: BlockIndex(stripe.0) };
    let geometry = object.geometry().ok_or(out.clone())?;
    let block = |column: usize, strip: Option<&[u8]>| {
        let index = geometry.block(stripe, column);
        let strip = strip.ok_or(DecodeError::OutOfRange { block: index })?;
        Ok((index, Bytes::from(object.decode(index, strip)?)))
    };
    let is_there = |column: &usize| cells.get(*column).is_some_and(Option::is_some);
    if columns.iter().all(is_there) {
        let strip = |column: usize| cells[column].as_ref().and_then(|cell| cell.strip.as_deref());
        return columns.iter().map(|column| block(*column, strip(*column))).collect();
    }
    // All are proven under one root, so each has the same row.
    let row = cells.iter().flatten().next().ok_or(out)?.row.clone();
    let mut strips: Vec<Option<Vec<u8>>> =
        cells.into_iter().map(|cell| cell.and_then(|cell| cell.strip).map(Vec::from)).collect();
    object.recover(stripe, &row, &mut strips)?;
    columns.iter().map(|column| block(*column, strips[*column].as_deref())).collect()
}
