//! Which node holds which shard, as rows.
//!
//! Shards of dead objects are few among all, so they are found by the objects: one is noted when a record of it dies,
//! or when a shard of it comes after that, and forgotten with its last shard.

use std::time::Duration;

use format::{NodeName, ObjectId};

use super::{Arg, Cells, Driver, Session, SqlCatalog, id, number, parse, signed};
use crate::catalog::{CatalogError, ShardRow, ShardTotals};

const TABLE: &str = "shards";
/// Dead shards that are looked at in one step.
const PAGE: usize = 256;

pub(super) async fn place<D: Driver>(catalog: &SqlCatalog<D>, shard: &ShardRow) -> Result<(), CatalogError> {
    let [node, object, column] = key(shard);
    let mut write = catalog.write().await?;
    let late = "INSERT INTO dead_objects (object)
        SELECT $1 WHERE EXISTS (SELECT 1 FROM records r WHERE r.object = $1 AND r.erased_at IS NOT NULL)
        ON CONFLICT (object) DO NOTHING";
    write.run(late, &[object]).await?;
    // Last: a node's total is one row, which others who place shards there wait for until the commit.
    write
        .run(
            "INSERT INTO shards (node, object, shard_column, shard_bytes, committed_at) VALUES ($1, $2, $3, $4, unixepoch())
             ON CONFLICT (node, object, shard_column)
             DO UPDATE SET shard_bytes = excluded.shard_bytes, committed_at = excluded.committed_at",
            &[node, object, column, signed(shard.bytes).into()],
        )
        .await?;
    write.commit().await
}

/// Notes that a record of an object has died or gave way to another, in the transaction that brings it.
pub(super) async fn died<D: Driver>(write: &mut Session<D>, object: &ObjectId) -> Result<(), CatalogError> {
    let statement = "INSERT INTO dead_objects (object, since) VALUES ($1, unixepoch())
        ON CONFLICT (object) DO UPDATE SET since = excluded.since";
    write.run(statement, &[(&object.0).into()]).await?;
    Ok(())
}

pub(super) const FORGET_DEAD: &str = "DELETE FROM dead_objects
    WHERE object = $1 AND NOT EXISTS (SELECT 1 FROM shards s WHERE s.object = $1)";

/// Forgets that an object is dead of which no node has a shard.
async fn forget_dead<D: Driver>(write: &mut Session<D>, object: Arg<'_>) -> Result<(), CatalogError> {
    write.run(FORGET_DEAD, &[object]).await?;
    Ok(())
}

pub(super) const FORGET: &str = "DELETE FROM shards
    WHERE node = $1 AND object = $2 AND shard_column = $3 AND committed_at <= unixepoch() - $4";

pub(super) async fn forget<D: Driver>(
    catalog: &SqlCatalog<D>,
    shard: &ShardRow,
    grace: Duration,
) -> Result<(), CatalogError> {
    let [node, object, column] = key(shard);
    let mut write = catalog.write().await?;
    write.run(FORGET, &[node, object, column, seconds(grace)]).await?;
    forget_dead(&mut write, object).await?;
    write.commit().await
}

pub(super) async fn lose<D: Driver>(catalog: &SqlCatalog<D>, shard: &ShardRow) -> Result<(), CatalogError> {
    let statement = "DELETE FROM shards WHERE node = $1 AND object = $2 AND shard_column = $3";
    let mut write = catalog.write().await?;
    write.run(statement, &key(shard)).await?;
    forget_dead(&mut write, key(shard)[1]).await?;
    write.commit().await
}

/// Nodes that have shards and were silent for long, or that nobody announces. One row for each node is read.
const GONE: &str = "SELECT t.node FROM node_totals t LEFT JOIN nodes n ON n.name = t.node
    WHERE t.shards > 0 AND coalesce(n.seen, 0) <= unixepoch() - $1 ORDER BY t.node";
/// An object without a record gave way to another, and nothing but the row of its death says so to a node that comes
/// back.
pub(super) const ABANDON: &str = "DELETE FROM shards WHERE node = $1 AND object = $2 AND shard_column = $3
    AND EXISTS (SELECT 1 FROM records r WHERE r.object = $2 AND r.erased_at IS NOT NULL)";

pub(super) async fn abandon<D: Driver>(
    catalog: &SqlCatalog<D>,
    grace: Duration,
    silent: Duration,
    limit: usize,
) -> Result<u64, CatalogError> {
    let gone = catalog.reader().await?.all(GONE, &[seconds(silent)]).await?;
    let mut abandoned = 0;
    for node in gone {
        let (node, mut after) = (parse(node.text(0)?, "node_totals")?, None);
        loop {
            let shards = dead(catalog, &node, grace, after, PAGE).await?;
            for shard in &shards {
                if abandoned == limit {
                    return Ok(abandoned as u64);
                }
                let mut write = catalog.write().await?;
                abandoned += usize::from(write.run(ABANDON, &key(shard)).await? > 0);
                forget_dead(&mut write, key(shard)[1]).await?;
                write.commit().await?;
            }
            after = shards.last().map(|last| (last.object, last.column));
            if shards.len() < PAGE {
                break;
            }
        }
    }
    Ok(abandoned as u64)
}

/// De-duplicated uploads share shards: one living record keeps them all. Objects without any record are left alone,
/// unless it gave way to another: their record may have been lost, and what is not known to be dead is kept. The join
/// in this order, whatever an engine thinks of it.
pub(super) const DEAD: &str = "SELECT s.object, s.shard_column, s.shard_bytes FROM dead_objects d CROSS JOIN shards s
    WHERE d.object >= $3 AND s.node = $1 AND s.object = d.object AND (s.object, s.shard_column) > ($3, $4)
      AND s.committed_at <= unixepoch() - $2 AND d.since <= unixepoch() - $2
      AND NOT EXISTS (SELECT 1 FROM records r WHERE r.object = d.object AND r.erased_at IS NULL)
    ORDER BY d.object, s.shard_column LIMIT $5";

pub(super) async fn dead<D: Driver>(
    catalog: &SqlCatalog<D>,
    node: &NodeName,
    grace: Duration,
    after: Option<(ObjectId, usize)>,
    limit: usize,
) -> Result<Vec<ShardRow>, CatalogError> {
    let [object, column] = position(after.as_ref());
    let args = [node.as_str().into(), seconds(grace), object, column, signed(limit as u64).into()];
    let rows = catalog.reader().await?.all(DEAD, &args).await?;
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

/// Kept by triggers on every write of a shard.
pub(super) const TOTALS: &str = "SELECT shards, shard_bytes FROM node_totals WHERE node = $1";

pub(super) async fn totals<D: Driver>(catalog: &SqlCatalog<D>, node: &NodeName) -> Result<ShardTotals, CatalogError> {
    let row = catalog.reader().await?.first(TOTALS, &[node.as_str().into()]).await?;
    let Some(row) = row else { return Ok(ShardTotals::default()) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SqliteCatalog;

    #[tokio::test]
    async fn what_is_noted_of_the_dead_goes_with_their_last_shard() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db"), 10).await.unwrap();
        let sample = testing::Sample::new(1, 40_000);
        let row = |column| ShardRow { node: "o1".parse().unwrap(), object: sample.id(), column, bytes: 9 };
        let noted = async || {
            let row = catalog.reader().await.unwrap().one("SELECT count(*) FROM dead_objects", &[]).await.unwrap();
            row.number(0).unwrap()
        };
        let dead = async || dead(&catalog, &row(0).node, Duration::ZERO, None, 9).await.unwrap();
        for column in 0..2 {
            place(&catalog, &row(column)).await.unwrap();
        }
        assert_eq!((noted().await, dead().await.len()), (0, 0));
        super::super::records::put(&catalog, &sample.record(&sample.erasure(1), &row(0).node)).await.unwrap();
        assert_eq!((noted().await, dead().await.len()), (1, 2));
        forget(&catalog, &row(0), Duration::ZERO).await.unwrap();
        assert_eq!((noted().await, dead().await.len()), (1, 1));
        lose(&catalog, &row(1)).await.unwrap();
        assert_eq!((noted().await, dead().await.len()), (0, 0));
        // A commit that was under way when the object was erased.
        place(&catalog, &row(1)).await.unwrap();
        assert_eq!((noted().await, dead().await.len()), (1, 1));
        // What lies in its record has no shard with which the note would go.
        let [erased, renewed, ended] = [2, 3, 4].map(|seed| testing::Sample::new(seed, 9));
        let record = |sample: &testing::Sample, lease: format::Lease| sample.record(&lease, &row(0).node);
        super::super::records::put(&catalog, &record(&erased, erased.erasure(1))).await.unwrap();
        super::super::records::put(&catalog, &record(&renewed, renewed.lease(1))).await.unwrap();
        let erasure = renewed.erasure(2);
        super::super::records::put_lease(&catalog, &erasure, &renewed.sign(&erasure)).await.unwrap();
        let over = format::Lease { retention: format::Retention { keep_until: 0, expires: 1 }, ..ended.lease(1) };
        super::super::records::restore(&catalog, &record(&ended, over), 1).await.unwrap();
        assert_eq!(super::super::expiry::expire(&catalog, 9).await.unwrap(), 1);
        assert_eq!(noted().await, 1);
    }
}
