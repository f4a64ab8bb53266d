//! Tickets: what readers say of bad shards, until somebody looked.

use std::time::Duration;

use format::{NodeName, ObjectId, wire::Ticket};

use super::{Arg, Cells, Driver, SqlCatalog, id, milliseconds, number, parse, session::Alone, signed};
use crate::catalog::{
    AHEAD_MAX, Applied, CatalogError, Refused,
    work::{TICKETS_MAX, TICKETS_PER_READER_MAX},
};

const TABLE: &str = "tickets";

pub(super) async fn report<D: Driver>(
    catalog: &SqlCatalog<D>,
    reader: &NodeName,
    ticket: &Ticket,
) -> Result<Applied, CatalogError> {
    let [node, object, column] = key(ticket);
    let mut write = catalog.write().await?;
    write.alone(Alone::Tickets).await?;
    let known = "SELECT 1 FROM tickets WHERE node = $1 AND object = $2 AND shard_column = $3";
    if write.first(known, &[node, object, column]).await?.is_some() {
        return Ok(Applied::Unchanged);
    }
    let count = "SELECT count(*), count(*) FILTER (WHERE reader = $1) FROM tickets";
    let waiting = write.one(count, &[reader.as_str().into()]).await?;
    for (at, max) in [TICKETS_MAX, TICKETS_PER_READER_MAX].into_iter().enumerate() {
        if number::<usize>(waiting.number(at)?, TABLE)? >= max {
            return Err(Refused::TooManyTickets { max }.into());
        }
    }
    write
        .run(
            "INSERT INTO tickets (node, object, shard_column, stripe, reader, reported_at_ms)
             VALUES ($1, $2, $3, $4, $5, unixepoch_ms())",
            &[node, object, column, signed(ticket.stripe).into(), reader.as_str().into()],
        )
        .await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

pub(super) async fn take<D: Driver>(
    catalog: &SqlCatalog<D>,
    holder: &NodeName,
    hold: Duration,
    limit: usize,
) -> Result<Vec<Ticket>, CatalogError> {
    let rows = catalog
        .writer()
        .await?
        .all(
            "WITH picked AS MATERIALIZED (
                 SELECT node AS picked_node, object AS picked_object, shard_column AS picked_column FROM tickets
                 WHERE held_until_ms NOT BETWEEN unixepoch_ms() + 1 AND unixepoch_ms() + $4
                 ORDER BY reported_at_ms, node, object, shard_column LIMIT $3 FOR UPDATE SKIP LOCKED)
             UPDATE tickets SET holder = $1, held_until_ms = unixepoch_ms() + $2
             FROM picked WHERE node = picked_node AND object = picked_object AND shard_column = picked_column
             RETURNING node, object, shard_column, stripe",
            &[
                holder.as_str().into(),
                milliseconds(hold).into(),
                signed(limit as u64).into(),
                milliseconds(AHEAD_MAX).into(),
            ],
        )
        .await?;
    let read = |row: &D::Row| {
        Ok(Ticket {
            node: parse(row.text(0)?, TABLE)?,
            object: ObjectId(id(row.bytes(1)?, TABLE)?),
            column: number(row.number(2)?, TABLE)?,
            stripe: number(row.number(3)?, TABLE)?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn end<D: Driver>(catalog: &SqlCatalog<D>, ticket: &Ticket) -> Result<(), CatalogError> {
    let statement = "DELETE FROM tickets WHERE node = $1 AND object = $2 AND shard_column = $3";
    catalog.writer().await?.run(statement, &key(ticket)).await?;
    Ok(())
}

fn key(ticket: &Ticket) -> [Arg<'_>; 3] {
    [ticket.node.as_str().into(), (&ticket.object.0).into(), signed(ticket.column as u64).into()]
}
