//! Repair seen from outside: tickets in, health and the queue out, a node emptied by its operator.

use std::sync::{Arc, atomic::Ordering};

use axum::{Json, extract::State, http::StatusCode};
use format::{
    Locator, NodeName, ObjectId,
    wire::{Drain, DrainPage, GivenUp, ObjectHealth, RepairStatus, Retried, Ticket},
};
use serde::Deserialize;

use super::{
    Refusal,
    extract::{Announcer, InPath, InQuery, Reader, Sent, Writer},
};
use crate::{catalog::Revival, node::Node, repair};

/// A ticket or a drain in JSON.
const SMALL_BYTES_MAX: usize = 1024;
/// Repairs given up that a status names.
const GIVEN_UP_MAX: usize = 20;
/// Reasons that a status names.
const OBSTACLES_MAX: usize = 5;

/// The query of an outlook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outlook {
    /// From the object after this; absent: from the first.
    after: Option<ObjectId>,
}

/// Takes a reader's word. Whoever may announce itself may give it: it is verified before anything comes of it.
pub(super) async fn report(
    State(node): State<Arc<Node>>,
    Announcer(peer): Announcer,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let body = node.small_body(sent, SMALL_BYTES_MAX).await?;
    let ticket = read_ticket(&body)?;
    node.catalog.report(&peer.name, &ticket).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a ticket; foreign bytes.
pub(crate) fn read_ticket(body: &[u8]) -> Result<Ticket, Refusal> {
    let ticket: Ticket =
        serde_json::from_slice(body).map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))?;
    let bounds = (format::limits::COLUMNS_MAX, format::limits::STRIPES_MAX);
    if ticket.column >= bounds.0 || ticket.stripe >= bounds.1 {
        return Err(Refusal::wrong(StatusCode::BAD_REQUEST, "no object has such a column or stripe"));
    }
    Ok(ticket)
}

pub(super) async fn health(
    State(node): State<Arc<Node>>,
    _: Reader,
    InPath(locator): InPath<Locator>,
) -> Result<Json<ObjectHealth>, Refusal> {
    let record = node.catalog.record(&locator).await?;
    let record = record.ok_or_else(|| Refusal::not_found("no record is filed under this locator"))?;
    if record.lease.erased || record.sealed.is_none() {
        return Err(Refusal::wrong(StatusCode::GONE, "the object was erased"));
    }
    Ok(Json(repair::health(&node, &record).await?))
}

pub(super) async fn status(State(node): State<Arc<Node>>, _: Reader) -> Result<Json<RepairStatus>, Refusal> {
    let queue = node.catalog.repair_queue().await?;
    let dead = node.catalog.dead_repairs(GIVEN_UP_MAX).await?;
    Ok(Json(RepairStatus {
        waiting: queue.waiting,
        running: queue.running,
        dead: queue.dead,
        balancing: queue.balancing,
        waiting_bytes: queue.waiting_bytes,
        running_bytes: queue.running_bytes,
        repaired_bytes: node.metrics.repair_written_bytes.get(),
        repair_read_bytes: node.metrics.repair_read_bytes.get(),
        scrubbed_since: if node.reconciled.load(Ordering::Relaxed) { node.metrics.scrubbed_since.get() } else { 0 },
        given_up: dead
            .into_iter()
            .map(|dead| GivenUp { object: dead.object, attempts: dead.attempts, error: dead.error })
            .collect(),
        obstacles: node.catalog.repair_obstacles(OBSTACLES_MAX).await?,
        survey: node.survey(),
    }))
}

pub(super) async fn retry(State(node): State<Arc<Node>>, Writer(_): Writer) -> Result<Json<Retried>, Refusal> {
    Ok(Json(Retried { objects: node.catalog.revive_repairs(Revival::Operator).await? }))
}

/// Says what becomes of a node's shards when it is emptied, so that its operator knows before.
pub(super) async fn outlook(
    State(node): State<Arc<Node>>,
    _: Reader,
    InPath(name): InPath<NodeName>,
    InQuery(Outlook { after }): InQuery<Outlook>,
) -> Result<Json<DrainPage>, Refusal> {
    Ok(Json(repair::outlook(&node, &name, after.as_ref()).await?))
}

/// Empties this node, or fills it again. Only its own certificate may say so: its operator has it.
pub(super) async fn drain(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InPath(name): InPath<NodeName>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let body = node.small_body(sent, SMALL_BYTES_MAX).await?;
    let ask: Drain = serde_json::from_slice(&body).map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))?;
    if name != node.config.name || peer.name != name {
        return Err(Refusal::wrong(
            StatusCode::FORBIDDEN,
            "a node is emptied by itself: use its own address and its own certificate",
        ));
    }
    node.drain(ask.draining).await?;
    Ok(StatusCode::NO_CONTENT)
}
