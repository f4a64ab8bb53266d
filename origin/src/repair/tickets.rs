//! Readers' words that a node sent a wrong strip. A word is only a hint: the strip is read from that node again and
//! judged under its root, so that nobody can take a shard away by talking.

use std::{sync::Arc, time::Duration};

use client::{ShardAsk, TransportError, verify_slice};
use format::wire::Ticket;

use super::HOLD;
use crate::{
    catalog::{CatalogError, RepairCause, ShardRow},
    node::Node,
    upkeep::pause,
};

/// Between looks for tickets.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Tickets looked into at a time; each costs one read of one strip.
const TICKETS: usize = 16;

/// Looks into tickets until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    while pause(LOOK_EVERY, &node.stop).await {
        if let Err(error) = step(&node).await {
            tracing::warn!(%error, "tickets cannot be looked into");
        }
    }
}

async fn step(node: &Arc<Node>) -> Result<(), CatalogError> {
    for ticket in node.catalog.take_tickets(&node.config.name, HOLD, TICKETS).await? {
        let is_true = match proves_true(node, &ticket).await {
            // The other tickets must not wait for it; who reads the shard again reports it again.
            Err(error @ CatalogError::Damaged { .. }) => {
                tracing::warn!(object = %ticket.object, %error, "a ticket cannot be looked into, and goes");
                false
            }
            proven => proven?,
        };
        if is_true {
            node.metrics.failed("ticket");
            let Ticket { node: at, object, column, .. } = ticket.clone();
            super::lost(node, &ShardRow { node: at, object, column, bytes: 0 }, RepairCause::Ticket).await?;
        }
        node.catalog.end_ticket(&ticket).await?;
    }
    Ok(())
}

/// Whether the node really has not, or not rightly, what the catalog says. A node that cannot be reached is the scan's
/// matter.
async fn proves_true(node: &Arc<Node>, ticket: &Ticket) -> Result<bool, CatalogError> {
    let Some(row) = node.catalog.object(&ticket.object).await? else { return Ok(false) };
    let known = row.shards.iter().any(|(column, at)| *column == ticket.column && *at == ticket.node);
    if !known || ticket.stripe >= row.public.column_strips(ticket.column) {
        return Ok(false);
    }
    let ask = ShardAsk { object: ticket.object, column: ticket.column, first: ticket.stripe, count: 1 };
    match node.transport.read_shard(&ticket.node, ask).await {
        Ok(body) => Ok(verify_slice(&row.public, ask, body).is_none()),
        Err(TransportError::Refused { status: 404, .. } | TransportError::Nonsense { .. }) => Ok(true),
        Err(_) => Ok(false),
    }
}
