//! Fetching one strip: from a shelf, from an edge nearby, else from its node. Whatever comes is proven under the
//! object's root before it counts, whoever sent it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use format::{Cell, NodeName, Object, PublicManifest, wire::Ticket};
use tokio::time::{Instant, timeout};

use super::Reader;
use crate::{Shelf, TransportError, offload::offload, pace::Failure, slice::verify_slice, transport::ShardAsk};

/// Maximum number of nodes tried for a report of a wrong strip.
const REPORT_NODES_MAX: usize = 2;

/// Where strips may be had before their nodes are asked.
#[derive(Clone, Copy, Default)]
pub struct Near<'n> {
    /// A cache of this machine.
    pub shelf: Option<&'n dyn Shelf>,
    /// An edge that brings strips from nodes for all edges near it.
    pub neighbour: Option<&'n NodeName>,
}

/// What came of a fetch.
pub(super) enum Fetched {
    Strip(Cell),
    /// From the shelf.
    Held(Cell),
    /// From the neighbour.
    Brought(Cell),
    /// The node answered with something that is not the strip.
    Wrong,
    /// The node failed, and may answer later.
    Silent,
    /// The strip is not available: the node has none, or no node is known.
    Absent,
}

impl Reader {
    pub(super) async fn fetch(
        &self,
        near: Near<'_>,
        object: Arc<Object>,
        node: Option<NodeName>,
        ask: ShardAsk,
    ) -> (usize, Option<NodeName>, Fetched) {
        let (column, public) = (ask.column, object.public());
        if let Some((cell, _)) = from_shelf(near.shelf, public, ask).await {
            return (column, node, Fetched::Held(cell));
        }
        let Some(node) = node else { return (column, node, Fetched::Absent) };
        if let Some(neighbour) = near.neighbour
            && let Some(cell) = self.ask_neighbour(neighbour, near.shelf, public, &node, ask).await
        {
            return (column, Some(node), Fetched::Brought(cell));
        }
        let fetched = match self.ask_node(near.shelf, public, &node, ask).await {
            Ok((cell, _)) => {
                // So it could have been brought.
                if let Some(neighbour) = near.neighbour {
                    self.pace.in_vain(neighbour, Instant::now());
                }
                Fetched::Strip(cell)
            }
            Err(None) => Fetched::Wrong,
            Err(Some(error)) => {
                self.pace.failed(&node, Failure::Silent, Instant::now());
                if matches!(error, TransportError::Refused { status: 404, .. }) {
                    self.report(Ticket { node: node.clone(), object: ask.object, column, stripe: ask.first });
                }
                if error.is_retryable() { Fetched::Silent } else { Fetched::Absent }
            }
        };
        (column, Some(node), fetched)
    }

    /// Reads one strip for a neighbour who knows no more of the object than its public manifest, and returns it as its
    /// node answered, with its proof: from the shelf, or from `node`. No other neighbour is asked. Returns `None` if
    /// the node does not give it, or is late, while those who ask have patience still, or not `within` the time that
    /// they tell: a slow node makes no neighbour look slow. Cancel safe.
    pub async fn strip(
        &self,
        shelf: Option<&dyn Shelf>,
        public: &PublicManifest,
        node: &NodeName,
        ask: ShardAsk,
        within: Option<Duration>,
    ) -> Option<Bytes> {
        if let Some((_, body)) = from_shelf(shelf, public, ask).await {
            return Some(body);
        }
        let doubted_after = self.expect(node, &self.topology.snapshot()).doubted_after;
        let patience = doubted_after + self.options.neighbour_patience / 2;
        match timeout(within.map_or(patience, |within| within.min(patience)), self.ask_node(shelf, public, node, ask))
            .await
            .ok()?
        {
            Ok((_, body)) => Some(body),
            // What a node refuses the neighbour may have made up, so that this reader does without the node.
            Err(error) => {
                if error.is_some_and(|error| error.is_retryable()) {
                    self.pace.failed(node, Failure::Silent, Instant::now());
                }
                None
            }
        }
    }

    /// Returns whether a node failed, lied or was late, so that others are asked in its place for a while.
    #[must_use]
    pub fn leaves_out(&self, node: &NodeName) -> bool {
        self.pace.distrusts(node, Instant::now())
    }

    /// Returns how long a neighbour has for a strip whose node is doubted after `doubted_after`: it may have to ask
    /// that node itself.
    pub(super) fn neighbour_patience(&self, doubted_after: Duration) -> Duration {
        doubted_after + self.options.neighbour_patience
    }

    /// Asks a neighbour for a strip. Returns `None` if it does not give it in time; then the node is asked.
    async fn ask_neighbour(
        &self,
        neighbour: &NodeName,
        shelf: Option<&dyn Shelf>,
        public: &PublicManifest,
        node: &NodeName,
        ask: ShardAsk,
    ) -> Option<Cell> {
        let doubted_after = self.expect(node, &self.topology.snapshot()).doubted_after;
        let patience = self.neighbour_patience(doubted_after);
        // It is not late while the way to it is made, which takes several round trips and goes on without this reader.
        // What is asked of the node meanwhile counts all the same, so a neighbour that nobody reaches is left out.
        let reached = timeout(patience, self.transport.reach(neighbour)).await.ok()?;
        let start = Instant::now();
        let answer = match reached {
            Ok(()) => {
                // The rest is for the way, so that a slow node makes no neighbour look slow.
                let within = patience.saturating_sub(self.options.neighbour_patience / 2);
                timeout(patience, self.transport.strip(neighbour, public.encoded(), ask, node, within)).await
            }
            Err(error) => Ok(Err(error)),
        };
        let (took, now) = (start.elapsed(), Instant::now());
        let body = match answer {
            Ok(Ok(body)) => body,
            Ok(Err(TransportError::Nonsense { .. })) => Bytes::new(),
            Ok(Err(error)) => {
                tracing::debug!(%neighbour, %node, %error, "a neighbour did not bring a strip");
                // One that says so is there: it is busy, or the node failed. Whether that is so the node shows.
                if error.status().is_none() {
                    self.pace.failed(neighbour, Failure::Silent, now);
                }
                return None;
            }
            Err(_) => {
                self.pace.late(neighbour, now);
                return None;
            }
        };
        match prove(public, ask, body.clone()).await {
            Some(cell) => {
                self.pace.answered(neighbour, took);
                self.pace.brought(neighbour);
                offer(shelf, ask, &body, start);
                Some(cell)
            }
            None => {
                let wrong = self.pace.failed(neighbour, Failure::Wrong, now);
                let ShardAsk { column, first: stripe, .. } = ask;
                tracing::warn!(%neighbour, column, stripe, wrong, "a neighbour sent a wrong strip");
                None
            }
        }
    }

    /// Asks the node of a strip. Returns the cell, and the answer that it was in; else the error, or none where the
    /// answer was not the strip.
    async fn ask_node(
        &self,
        shelf: Option<&dyn Shelf>,
        public: &PublicManifest,
        node: &NodeName,
        ask: ShardAsk,
    ) -> Result<(Cell, Bytes), Option<TransportError>> {
        let ShardAsk { object, column, first: stripe, .. } = ask;
        // Until the shelf has the answer, so that nobody who comes meanwhile asks again.
        let call = self.calls.join(&self.transport, node, ask);
        let answer = timeout(self.options.strip_deadline, call.answer()).await.ok().flatten();
        let answer = answer.ok_or_else(|| Some(TransportError::TimedOut { node: node.clone() }))?;
        let body = match &answer.body {
            Ok(body) => body.clone(),
            // More than was asked for, like any other answer that is not the strip. It proves nothing, so it is wrong.
            Err(TransportError::Nonsense { .. }) => Bytes::new(),
            Err(error) => {
                tracing::debug!(%node, column, %error, "a strip could not be fetched");
                return Err(Some(error.clone()));
            }
        };
        match prove(public, ask, body.clone()).await {
            Some(cell) => {
                if answer.is_first() {
                    self.pace.answered(node, answer.took);
                    if let Some(link) = &self.link {
                        link.arrived(answer.took);
                    }
                }
                offer(shelf, ask, &body, answer.begun);
                Ok((cell, body))
            }
            None => {
                if answer.is_first() {
                    let wrong = self.pace.failed(node, Failure::Wrong, Instant::now());
                    tracing::warn!(%node, column, stripe, wrong, "a node sent a wrong strip");
                    self.report(Ticket { node: node.clone(), object, column, stripe });
                }
                Err(None)
            }
        }
    }

    /// Reports a wrong or missing strip to an origin, in the background. If too many reports are under way, this one is
    /// dropped: the next reader of the strip reports it again.
    fn report(&self, ticket: Ticket) {
        let Ok(permit) = self.reports.clone().try_acquire_owned() else { return };
        let (transport, origins) = (self.transport.clone(), self.topology.origins_by_distance(&self.here));
        tokio::spawn(async move {
            // The node itself is not asked, because it may be lying.
            for node in origins.iter().filter(|node| **node != ticket.node).take(REPORT_NODES_MAX) {
                match transport.report(node, &ticket).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(%node, %error, "a wrong strip could not be reported"),
                }
            }
            drop(permit);
        });
    }
}

/// Returns the cell that a shelf has, and the answer that it was in.
async fn from_shelf(shelf: Option<&dyn Shelf>, public: &PublicManifest, ask: ShardAsk) -> Option<(Cell, Bytes)> {
    let shelf = shelf?;
    let body = shelf.get(&ask).await?;
    let cell = prove(public, ask, body.clone()).await;
    if cell.is_none() {
        shelf.wrong(&ask);
    }
    Some((cell?, body))
}

fn offer(shelf: Option<&dyn Shelf>, ask: ShardAsk, body: &Bytes, begun: Instant) {
    if let Some(shelf) = shelf {
        shelf.offer(&ask, body, begun.into_std());
    }
}

/// Returns the cell of an answer, if the object's root proves it.
async fn prove(public: &PublicManifest, ask: ShardAsk, body: Bytes) -> Option<Cell> {
    let public = public.clone();
    let verified = offload(move || verify_slice(&public, ask, body)).await;
    verified.ok().flatten()?.into_iter().next()
}
