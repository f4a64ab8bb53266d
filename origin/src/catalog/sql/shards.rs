//! Which node holds which shard, as rows.
//!
//! Shards of dead objects are few among all, so they are found by the objects: one is noted when a record of it dies,
//! or when a shard of it comes after that, and forgotten with its last shard.

use format::{NodeName, ObjectId};

use super::{Arg, Cells, Driver, Session, SqlCatalog, id, number, parse, signed};
use crate::catalog::{Abandoned, CatalogError, ShardRow, ShardTotals};

const TABLE: &str = "shards";
/// Rows that are folded by one statement, far below a server's deadline, and statements of one call.
const FOLD_ROWS: usize = 10_000;
const FOLDS: usize = 100;

pub(super) async fn place<D: Driver>(catalog: &SqlCatalog<D>, shard: &ShardRow) -> Result<(), CatalogError> {
    let [node, object, column] = key(shard);
    let mut write = catalog.write().await?;
    // The row is locked also where it is there: whoever forgets the last other shard waits, and then sees this one.
    let late = "INSERT INTO dead_objects (object)
        SELECT $1 WHERE EXISTS (SELECT 1 FROM records r WHERE r.object = $1 AND r.erased_at IS NOT NULL)
        ON CONFLICT (object) DO UPDATE SET since = dead_objects.since";
    write.run(late, &[object]).await?;
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

/// Notes that a record of an object has died or gave way to another, at the second `since`, in the transaction that
/// brings it.
pub(super) async fn died<D: Driver>(write: &mut Session<D>, object: &ObjectId, since: i64) -> Result<(), CatalogError> {
    let statement = "INSERT INTO dead_objects (object, since) VALUES ($1, $2)
        ON CONFLICT (object) DO UPDATE SET since = excluded.since";
    write.run(statement, &[(&object.0).into(), since.into()]).await?;
    Ok(())
}

pub(super) const LOCK_DEAD: &str = "SELECT object FROM dead_objects WHERE object = $1 FOR UPDATE";

/// Waits for whoever places a shard of a dead object. Before any of its shards is forgotten: all take the locks in this
/// order.
async fn lock_dead<D: Driver>(write: &mut Session<D>, object: Arg<'_>) -> Result<(), CatalogError> {
    write.first(LOCK_DEAD, &[object]).await.map(drop)
}

pub(super) const FORGET_DEAD: &str = "DELETE FROM dead_objects
    WHERE object = $1 AND NOT EXISTS (SELECT 1 FROM shards s WHERE s.object = $1)";

/// Forgets that an object is dead of which no node has a shard.
async fn forget_dead<D: Driver>(write: &mut Session<D>, object: Arg<'_>) -> Result<(), CatalogError> {
    write.run(FORGET_DEAD, &[object]).await?;
    Ok(())
}

pub(super) const FORGET: &str = "DELETE FROM shards
    WHERE node = $1 AND object = $2 AND shard_column = $3 AND committed_at <= $4";

pub(super) async fn forget<D: Driver>(
    catalog: &SqlCatalog<D>,
    shard: &ShardRow,
    before: u64,
) -> Result<(), CatalogError> {
    let [node, object, column] = key(shard);
    let mut write = catalog.write().await?;
    lock_dead(&mut write, object).await?;
    write.run(FORGET, &[node, object, column, signed(before).into()]).await?;
    forget_dead(&mut write, object).await?;
    write.commit().await
}

pub(super) async fn lose<D: Driver>(catalog: &SqlCatalog<D>, shard: &ShardRow) -> Result<(), CatalogError> {
    let statement = "DELETE FROM shards WHERE node = $1 AND object = $2 AND shard_column = $3";
    let mut write = catalog.write().await?;
    lock_dead(&mut write, key(shard)[1]).await?;
    write.run(statement, &key(shard)).await?;
    forget_dead(&mut write, key(shard)[1]).await?;
    write.commit().await
}

/// Brings what writers of shards counted aside into the sums, a page after the other.
pub(super) async fn fold<D: Driver>(catalog: &SqlCatalog<D>) -> Result<(), CatalogError> {
    let Some(statement) = D::FOLD else { return Ok(()) };
    for _ in 0..FOLDS {
        if catalog.writer().await?.run(statement, &[signed(FOLD_ROWS as u64).into()]).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Nodes that have shards and were silent for long, or that nobody announces. What is read is one row for each node,
/// and what was counted since the last fold.
const GONE: &str = "SELECT t.node FROM node_totals t LEFT JOIN nodes n ON n.name = t.node
    WHERE t.shards > 0 AND coalesce(n.seen, 0) <= $1 ORDER BY t.node";
/// An object without a record gave way to another, and nothing but the row of its death says so to a node that comes
/// back.
pub(super) const ABANDON: &str = "DELETE FROM shards WHERE node = $1 AND object = $2 AND shard_column = $3
    AND EXISTS (SELECT 1 FROM records r WHERE r.object = $2 AND r.erased_at IS NOT NULL)";

pub(super) async fn abandon<D: Driver>(
    catalog: &SqlCatalog<D>,
    before: u64,
    silent: u64,
    after: Option<&ObjectId>,
    limit: usize,
) -> Result<Abandoned, CatalogError> {
    let gone = catalog.reader().await?.all(GONE, &[signed(silent).into()]).await?;
    let mut abandoned = Abandoned::default();
    if gone.is_empty() {
        return Ok(abandoned);
    }
    let first = after.map_or(&[][..], |after| &after.0[..]);
    let objects = catalog.reader().await?.all(DEAD_OBJECTS, &[first.into(), signed(limit as u64).into()]).await?;
    let Some(last) = objects.last() else { return Ok(abandoned) };
    let last = ObjectId(id(last.bytes(0)?, "dead_objects")?);
    for node in gone {
        let node: NodeName = parse(node.text(0)?, "node_totals")?;
        let args = [node.as_str().into(), signed(before).into(), first.into(), (&last.0).into()];
        let rows = catalog.reader().await?.all(ABANDONED, &args).await?;
        for row in rows {
            let shard = read(&row, &node)?;
            let mut write = catalog.write().await?;
            lock_dead(&mut write, key(&shard)[1]).await?;
            abandoned.shards += write.run(ABANDON, &key(&shard)).await?;
            forget_dead(&mut write, key(&shard)[1]).await?;
            write.commit().await?;
        }
    }
    abandoned.after = Some(last).filter(|_| objects.len() == limit);
    Ok(abandoned)
}

/// De-duplicated uploads share shards: one living record keeps them all. Objects without any record are left alone,
/// unless it gave way to another: their record may have been lost, and what is not known to be dead is kept. The join
/// in this order, whatever an engine thinks of it.
pub(super) const DEAD: &str = "SELECT s.object, s.shard_column, s.shard_bytes FROM dead_objects d CROSS JOIN shards s
    WHERE d.object >= $3 AND s.node = $1 AND s.object = d.object AND (s.object, s.shard_column) > ($3, $4)
      AND s.committed_at <= $2 AND d.since <= $2
      AND NOT EXISTS (SELECT 1 FROM records r WHERE r.object = d.object AND r.erased_at IS NULL)
    ORDER BY d.object, s.shard_column LIMIT $5";

/// A page of the dead, whoever has shards of them.
pub(super) const DEAD_OBJECTS: &str = "SELECT object FROM dead_objects WHERE object > $1 ORDER BY object LIMIT $2";

/// The same as [`DEAD`] of those that [`ABANDON`] takes, among such a page.
pub(super) const ABANDONED: &str =
    "SELECT s.object, s.shard_column, s.shard_bytes FROM dead_objects d CROSS JOIN shards s
    WHERE d.object > $3 AND d.object <= $4 AND s.node = $1 AND s.object = d.object
      AND s.committed_at <= $2 AND d.since <= $2
      AND NOT EXISTS (SELECT 1 FROM records r WHERE r.object = d.object AND r.erased_at IS NULL)
      AND EXISTS (SELECT 1 FROM records r WHERE r.object = d.object AND r.erased_at IS NOT NULL)
    ORDER BY d.object, s.shard_column";

pub(super) async fn dead<D: Driver>(
    catalog: &SqlCatalog<D>,
    node: &NodeName,
    before: u64,
    after: Option<(ObjectId, usize)>,
    limit: usize,
) -> Result<Vec<ShardRow>, CatalogError> {
    let [object, column] = position(after.as_ref());
    let args = [node.as_str().into(), signed(before).into(), object, column, signed(limit as u64).into()];
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
    use std::time::Duration;

    use testing::postgres::Server;

    use super::*;
    use crate::catalog::{PostgresCatalog, PostgresUrl, SqliteCatalog};

    /// Everything was before it.
    const FUTURE: u64 = 1 << 40;

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
        let dead = async || dead(&catalog, &row(0).node, FUTURE, None, 9).await.unwrap();
        for column in 0..2 {
            place(&catalog, &row(column)).await.unwrap();
        }
        assert_eq!((noted().await, dead().await.len()), (0, 0));
        super::super::records::put(&catalog, &sample.record(&sample.erasure(1), &row(0).node)).await.unwrap();
        assert_eq!((noted().await, dead().await.len()), (1, 2));
        forget(&catalog, &row(0), FUTURE).await.unwrap();
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
        assert_eq!(super::super::expiry::expire(&catalog, FUTURE, 9).await.unwrap(), 1);
        assert_eq!(noted().await, 1);
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_dead_since_the_second_that_was_trusted_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db"), 10).await.unwrap();
        let (ended, node) = (testing::Sample::new(1, 40_000), "o1".parse().unwrap());
        let over = format::Lease { retention: format::Retention { keep_until: 0, expires: 1 }, ..ended.lease(1) };
        super::super::records::restore(&catalog, &ended.record(&over, &node), 1).await.unwrap();
        assert_eq!(super::super::expiry::expire(&catalog, 1_000, 9).await.unwrap(), 1);
        let since = "SELECT d.since, r.erased_at FROM dead_objects d, records r";
        let row = catalog.reader().await.unwrap().one(since, &[]).await.unwrap();
        assert_eq!((row.number(0).unwrap(), row.number(1).unwrap()), (1_000, 1_000));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_places_a_shard_waits_for_no_other_on_its_node() {
        let url: PostgresUrl = Server::shared().database().parse().unwrap();
        let catalog = PostgresCatalog::connect(&url, 9).await.unwrap();
        let node: NodeName = "o1".parse().unwrap();
        let row = |byte| ShardRow { node: node.clone(), object: ObjectId([byte; 32]), column: 0, bytes: 9 };
        let totals = async || totals(&catalog, &node).await.unwrap();
        place(&catalog, &row(1)).await.unwrap();
        let mut busy = catalog.write().await.unwrap();
        let statement = "INSERT INTO shards (node, object, shard_column, shard_bytes, committed_at)
            VALUES ($1, $2, $3, 7, 1)";
        busy.run(statement, &key(&row(2))).await.unwrap();
        let free = async {
            place(&catalog, &row(3)).await.unwrap();
            place(&catalog, &ShardRow { bytes: 10, ..row(3) }).await.unwrap();
            lose(&catalog, &row(1)).await.unwrap();
            // Nor does who folds.
            fold(&catalog).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(5), free).await.expect("it waits for nobody's commit");
        assert_eq!(totals().await, ShardTotals { shards: 1, bytes: 10 });
        busy.commit().await.unwrap();
        assert_eq!(totals().await, ShardTotals { shards: 2, bytes: 17 });
        let rows = async |table: &'static str| {
            let row = catalog.reader().await.unwrap().one(table, &[]).await.unwrap();
            row.number(0).unwrap()
        };
        let all = async || fold(&catalog).await.unwrap();
        tokio::join!(all(), all(), all());
        assert_eq!(rows("SELECT count(*) FROM node_deltas").await, 0);
        assert_eq!(
            (totals().await, rows("SELECT count(*) FROM node_counts").await),
            (ShardTotals { shards: 2, bytes: 17 }, 1)
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn counts_are_folded_a_page_at_a_time_and_keep_their_sums() {
        let url: PostgresUrl = Server::shared().database().parse().unwrap();
        let catalog = PostgresCatalog::connect(&url, 9).await.unwrap();
        let rows = FOLD_ROWS as u64 + 1;
        let counted = "INSERT INTO node_deltas (node, shards, shard_bytes)
            SELECT 'o' || (i % 2), 1, 3 FROM generate_series(1, CAST($1 AS BIGINT)) i";
        catalog.writer().await.unwrap().run(counted, &[signed(rows).into()]).await.unwrap();
        let left = async || {
            let row = catalog.reader().await.unwrap().one("SELECT count(*) FROM node_deltas", &[]).await.unwrap();
            row.number(0).unwrap()
        };
        let page = [signed(FOLD_ROWS as u64).into()];
        let statement = <sqlx::Postgres as Driver>::FOLD.unwrap();
        assert_eq!(catalog.writer().await.unwrap().run(statement, &page).await.unwrap(), 2);
        assert_eq!(left().await, 1);
        catalog.writer().await.unwrap().run(counted, &[signed(rows).into()]).await.unwrap();
        fold(&catalog).await.unwrap();
        assert_eq!(left().await, 0);
        let mut sum = 0;
        for node in ["o0", "o1"] {
            let totals = totals(&catalog, &node.parse().unwrap()).await.unwrap();
            assert_eq!(totals.bytes, 3 * totals.shards);
            sum += totals.shards;
        }
        assert_eq!(sum, 2 * rows);
    }
}
