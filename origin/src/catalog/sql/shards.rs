//! Which node holds which shard, as rows.

use std::time::Duration;

use format::{NodeName, ObjectId};

use super::{Arg, Cells, Driver, SqlCatalog, id, number, signed};
use crate::catalog::{CatalogError, ShardRow, ShardTotals};

const TABLE: &str = "shards";

pub(super) async fn place<D: Driver>(catalog: &SqlCatalog<D>, shard: &ShardRow) -> Result<(), CatalogError> {
    let [node, object, column] = key(shard);
    catalog
        .writer()
        .await?
        .run(
            "INSERT INTO shards (node, object, shard_column, shard_bytes, committed_at) VALUES ($1, $2, $3, $4, unixepoch())
             ON CONFLICT (node, object, shard_column)
             DO UPDATE SET shard_bytes = excluded.shard_bytes, committed_at = excluded.committed_at",
            &[node, object, column, signed(shard.bytes).into()],
        )
        .await?;
    Ok(())
}

pub(super) async fn forget<D: Driver>(
    catalog: &SqlCatalog<D>,
    shard: &ShardRow,
    grace: Duration,
) -> Result<(), CatalogError> {
    let [node, object, column] = key(shard);
    catalog
        .writer()
        .await?
        .run(
            "DELETE FROM shards
             WHERE node = $1 AND object = $2 AND shard_column = $3 AND committed_at <= unixepoch() - $4",
            &[node, object, column, seconds(grace)],
        )
        .await?;
    Ok(())
}

pub(super) async fn lose<D: Driver>(catalog: &SqlCatalog<D>, shard: &ShardRow) -> Result<(), CatalogError> {
    let statement = "DELETE FROM shards WHERE node = $1 AND object = $2 AND shard_column = $3";
    catalog.writer().await?.run(statement, &key(shard)).await?;
    Ok(())
}

pub(super) async fn dead<D: Driver>(
    catalog: &SqlCatalog<D>,
    node: &NodeName,
    grace: Duration,
    after: Option<(ObjectId, usize)>,
    limit: usize,
) -> Result<Vec<ShardRow>, CatalogError> {
    let [object, column] = position(after.as_ref());
    // De-duplicated uploads share shards: one living record keeps them all. Objects without any record are left alone:
    // their record may have been lost, and what is not known to be dead is kept.
    let rows = catalog
        .reader()
        .await?
        .all(
            "SELECT object, shard_column, shard_bytes FROM shards
             WHERE node = $1 AND (object, shard_column) > ($3, $4) AND committed_at <= unixepoch() - $2
               AND EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object AND r.erased_at IS NOT NULL)
               AND NOT EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object
                               AND (r.erased_at IS NULL OR r.erased_at > unixepoch() - $2))
             ORDER BY object, shard_column LIMIT $5",
            &[node.as_str().into(), seconds(grace), object, column, signed(limit as u64).into()],
        )
        .await?;
    rows.iter().map(|row| read(row, node)).collect()
}

pub(super) async fn list<D: Driver>(
    catalog: &SqlCatalog<D>,
    node: &NodeName,
    after: Option<(ObjectId, usize)>,
    limit: usize,
) -> Result<Vec<ShardRow>, CatalogError> {
    let [object, column] = position(after.as_ref());
    let rows = catalog
        .reader()
        .await?
        .all(
            "SELECT object, shard_column, shard_bytes FROM shards
             WHERE node = $1 AND (object, shard_column) > ($2, $3) ORDER BY object, shard_column LIMIT $4",
            &[node.as_str().into(), object, column, signed(limit as u64).into()],
        )
        .await?;
    rows.iter().map(|row| read(row, node)).collect()
}

pub(super) async fn totals<D: Driver>(catalog: &SqlCatalog<D>, node: &NodeName) -> Result<ShardTotals, CatalogError> {
    let statement = "SELECT count(*), CAST(coalesce(sum(shard_bytes), 0) AS BIGINT) FROM shards WHERE node = $1";
    let row = catalog.reader().await?.one(statement, &[node.as_str().into()]).await?;
    Ok(ShardTotals { shards: number(row.number(0)?, TABLE)?, bytes: number(row.number(1)?, TABLE)? })
}

fn key(shard: &ShardRow) -> [Arg<'_>; 3] {
    [shard.node.as_str().into(), (&shard.object.0).into(), signed(shard.column as u64).into()]
}

/// Where a page begins.
fn position(after: Option<&(ObjectId, usize)>) -> [Arg<'_>; 2] {
    let (object, column) = after.map_or((&[][..], 0), |(object, column)| (&object.0[..], *column));
    [object.into(), signed(column as u64).into()]
}

/// A grace as seconds that can be taken from a time: above that every time is young.
fn seconds(grace: Duration) -> Arg<'static> {
    Arg::Number(signed(grace.as_secs()))
}

fn read(row: &impl Cells, node: &NodeName) -> Result<ShardRow, CatalogError> {
    Ok(ShardRow {
        node: node.clone(),
        object: ObjectId(id(row.bytes(0)?, TABLE)?),
        column: number(row.number(1)?, TABLE)?,
        bytes: number(row.number(2)?, TABLE)?,
    })
}
