//! Which node holds which shard, as rows.

use std::time::Duration;

use format::{NodeName, ObjectId};
use sqlx::Row;

use super::{SqliteCatalog, id, signed, unsigned};
use crate::catalog::{CatalogError, ShardRow, ShardTotals};

const TABLE: &str = "shards";

pub(super) async fn place(catalog: &SqliteCatalog, shard: &ShardRow) -> Result<(), CatalogError> {
    let mut write = catalog.begin().await?;
    sqlx::query(
        "INSERT INTO shards (node, object, shard_column, shard_bytes, committed_at) VALUES (?, ?, ?, ?, unixepoch())
         ON CONFLICT (node, object, shard_column) DO UPDATE SET committed_at = excluded.committed_at",
    )
    .bind(shard.node.as_str())
    .bind(&shard.object.0[..])
    .bind(signed(shard.column as u64))
    .bind(signed(shard.bytes))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(())
}

pub(super) async fn forget(catalog: &SqliteCatalog, shard: &ShardRow, grace: Duration) -> Result<(), CatalogError> {
    let mut write = catalog.begin().await?;
    sqlx::query(
        "DELETE FROM shards WHERE node = ? AND object = ? AND shard_column = ? AND committed_at + ? <= unixepoch()",
    )
    .bind(shard.node.as_str())
    .bind(&shard.object.0[..])
    .bind(signed(shard.column as u64))
    .bind(signed(grace.as_secs()))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(())
}

pub(super) async fn dead(
    catalog: &SqliteCatalog,
    node: &NodeName,
    grace: Duration,
    limit: usize,
) -> Result<Vec<ShardRow>, CatalogError> {
    let grace = signed(grace.as_secs());
    // De-duplicated uploads share shards: one living record keeps them all. Objects without any record are left alone: their
    // record may have been lost, and what is not known to be dead is kept.
    let rows = sqlx::query(
        "SELECT object, shard_column, shard_bytes FROM shards
         WHERE node = ?1 AND committed_at + ?2 <= unixepoch()
           AND EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object AND r.erased_at IS NOT NULL)
           AND NOT EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object
                           AND (r.erased_at IS NULL OR r.erased_at + ?2 > unixepoch()))
         LIMIT ?3",
    )
    .bind(node.as_str())
    .bind(grace)
    .bind(signed(limit as u64))
    .fetch_all(&catalog.readers)
    .await?;
    let mut dead = Vec::with_capacity(rows.len());
    for row in rows {
        dead.push(ShardRow {
            node: node.clone(),
            object: ObjectId(id(row.try_get(0)?, TABLE)?),
            column: usize::try_from(row.try_get::<i64, _>(1)?).map_err(|_| CatalogError::Damaged { table: TABLE })?,
            bytes: unsigned(row.try_get(2)?, TABLE)?,
        });
    }
    Ok(dead)
}

pub(super) async fn totals(catalog: &SqliteCatalog, node: &NodeName) -> Result<ShardTotals, CatalogError> {
    let row = sqlx::query("SELECT count(*), coalesce(sum(shard_bytes), 0) FROM shards WHERE node = ?")
        .bind(node.as_str())
        .fetch_one(&catalog.readers)
        .await?;
    Ok(ShardTotals { shards: unsigned(row.try_get(0)?, TABLE)?, bytes: unsigned(row.try_get(1)?, TABLE)? })
}
