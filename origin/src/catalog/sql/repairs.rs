//! The repair queue: one row for each object that lacks shards, taken by risk; each attempt that failed counts like a
//! column more, so that objects whose repair always fails hold no place before the others. What cannot be read comes
//! last: it waits for nodes that come back.

use std::time::Duration;

use format::{
    NodeName, ObjectId,
    wire::{Amount, Obstacle},
};

use super::{Arg, Cells, Driver, Session, SqlCatalog, id, milliseconds, number, parse, signed};
use crate::catalog::{
    AHEAD_MAX, ATTEMPTS_MAX, Applied, CatalogError, DeadRepair, GIVEN_UP_REST, RETRY_PAUSE, Repair, RepairAsk,
    RepairEnd, RepairQueue, Revival, work::ERROR_CHARS_MAX,
};

const TABLE: &str = "repairs";
/// Repairs that are revived by one statement.
const REVIVED: usize = 1_000;

pub(super) async fn queue<D: Driver>(catalog: &SqlCatalog<D>, ask: &RepairAsk) -> Result<Applied, CatalogError> {
    let (object, target) = (&ask.object.0, ask.target.as_ref());
    let mut write = catalog.write().await?;
    // An ask that comes while somebody repairs is counted: what it tells of may have been lost after they looked.
    let held = "UPDATE repairs SET asks = asks + 1 WHERE object = $1 AND holder IS NOT NULL";
    let counted = write.run(held, &[object.into()]).await?;
    // The riskier ask replaces the safer one, begins anew and is due at once, also when the safer one was given up: why
    // that failed says nothing of what was lost since. So does one of an object that can be read again, which waited
    // behind all that can, and one of other work than what is hopeless. One that was given up rests a while; half of
    // its attempts stay, so that one that always fails is soon given up again.
    let written = write
        .run(
            "INSERT INTO repairs (object, margin, lost_bytes, cause, target_column, target_node, asked_at_ms)
             VALUES ($1, $2, $3, $4, CASE WHEN $5 >= 0 THEN $5 END, CASE WHEN $5 >= 0 THEN $6 END, unixepoch_ms())
             ON CONFLICT (object) DO UPDATE SET
                 margin = excluded.margin, lost_bytes = excluded.lost_bytes, cause = excluded.cause,
                 target_column = excluded.target_column, target_node = excluded.target_node,
                 attempts = CASE WHEN excluded.margin = repairs.margin AND repairs.unmakable IS NULL
                     THEN (repairs.attempts + 1) / 2 ELSE 0 END,
                 not_before_ms = 0, dead_at_ms = NULL
             WHERE excluded.margin < repairs.margin OR (repairs.margin < 0 AND excluded.margin >= 0)
                 OR (repairs.dead_at_ms IS NOT NULL AND repairs.unmakable <> $7)
                 OR (repairs.unmakable IS NULL AND repairs.attempts <= $9
                     AND repairs.dead_at_ms <= unixepoch_ms() - $8)",
            &[
                object.into(),
                i64::from(ask.margin).into(),
                signed(ask.bytes).into(),
                ask.cause.as_str().into(),
                target.map_or(-1, |(column, _)| signed(*column as u64)).into(),
                target.map_or("", |(_, node)| node.as_str()).into(),
                joined(&ask.only_lost).as_str().into(),
                milliseconds(GIVEN_UP_REST).into(),
                i64::from(ATTEMPTS_MAX).into(),
            ],
        )
        .await?;
    write.commit().await?;
    Ok(if counted + written == 0 { Applied::Unchanged } else { Applied::Stored })
}

/// Writes columns as text; none as an empty one.
fn joined(columns: &[usize]) -> String {
    columns.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

pub(super) async fn take<D: Driver>(
    catalog: &SqlCatalog<D>,
    holder: &NodeName,
    hold: Duration,
) -> Result<Option<Repair>, CatalogError> {
    let row = catalog
        .writer()
        .await?
        .first(
            "WITH picked AS MATERIALIZED (
                 SELECT object AS picked_object FROM repairs
                 WHERE dead_at_ms IS NULL AND not_before_ms NOT BETWEEN unixepoch_ms() + 1 AND unixepoch_ms() + $3
                   AND held_until_ms NOT BETWEEN unixepoch_ms() + 1 AND unixepoch_ms() + $3
                 ORDER BY margin < 0, margin + attempts, asked_at_ms, object LIMIT 1 FOR UPDATE SKIP LOCKED)
             UPDATE repairs SET holder = $1, held_until_ms = unixepoch_ms() + $2, attempts = attempts + 1, asks_taken = asks
             FROM picked WHERE object = picked_object
             RETURNING object, margin, lost_bytes, cause, attempts, target_column, target_node, error,
                 failed_by, unmakable",
            &[holder.as_str().into(), milliseconds(hold).into(), milliseconds(AHEAD_MAX).into()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Repair {
        object: ObjectId(id(row.bytes(0)?, TABLE)?),
        margin: number(row.number(1)?, TABLE)?,
        bytes: number(row.number(2)?, TABLE)?,
        cause: parse(row.text(3)?, TABLE)?,
        attempts: number(row.number(4)?, TABLE)?,
        target: match (row.maybe_number(5)?, row.maybe_text(6)?) {
            (Some(column), Some(node)) => Some((number(column, TABLE)?, parse(node, TABLE)?)),
            _ => None,
        },
        error: row.maybe_text(7)?.map(str::to_owned),
        failed_by: row.maybe_text(8)?.map(|name| parse(name, TABLE)).transpose()?,
        unmakable: {
            let columns = row.maybe_text(9)?.into_iter().flat_map(|columns| columns.split(','));
            columns.map(|column| parse(column, TABLE)).collect::<Result<_, _>>()?
        },
    }))
}

pub(super) async fn keep<D: Driver>(
    catalog: &SqlCatalog<D>,
    object: &ObjectId,
    holder: &NodeName,
    hold: Duration,
) -> Result<bool, CatalogError> {
    // Also when the time was over: as long as nobody else took it, nothing was lost.
    let kept = catalog
        .writer()
        .await?
        .run(
            "UPDATE repairs SET held_until_ms = unixepoch_ms() + $1 WHERE object = $2 AND holder = $3",
            &[milliseconds(hold).into(), (&object.0).into(), holder.as_str().into()],
        )
        .await?;
    Ok(kept == 1)
}

pub(super) async fn end<D: Driver>(
    catalog: &SqlCatalog<D>,
    object: &ObjectId,
    holder: &NodeName,
    end: &RepairEnd,
) -> Result<(), CatalogError> {
    let (object, holder) = (&object.0, holder.as_str());
    let mut write = catalog.write().await?;
    match end {
        RepairEnd::Done => {
            // The removal first: it waits for who asks in this moment, and the rest then sees that they did.
            let done = "DELETE FROM repairs WHERE object = $1 AND holder = $2 AND asks = asks_taken";
            write.run(done, &[object.into(), holder.into()]).await?;
            let again =
                "UPDATE repairs SET holder = NULL, held_until_ms = 0, not_before_ms = 0, attempts = 0, error = NULL
                WHERE object = $1 AND holder = $2";
            write.run(again, &[object.into(), holder.into()]).await?;
        }
        RepairEnd::Again { error, after } => {
            let statement = "UPDATE repairs SET failed_by = holder, failed_at_ms = unixepoch_ms(), holder = NULL,
                held_until_ms = 0, error = $3, not_before_ms = unixepoch_ms() + $4 WHERE object = $1 AND holder = $2";
            let error = cut(error);
            let args = [object.into(), holder.into(), error.as_str().into(), milliseconds(*after).into()];
            write.run(statement, &args).await?;
        }
        RepairEnd::Dead { error } | RepairEnd::Hopeless { error, .. } => {
            let error = cut(error);
            let statement = "UPDATE repairs SET failed_by = holder, failed_at_ms = unixepoch_ms(), holder = NULL,
                held_until_ms = 0, error = $3, dead_at_ms = unixepoch_ms(), unmakable = nullif($4, '')
                WHERE object = $1 AND holder = $2";
            let unmakable = if let RepairEnd::Hopeless { lost, .. } = end { joined(lost) } else { String::new() };
            let args = [object.into(), holder.into(), error.as_str().into(), unmakable.as_str().into()];
            write.run(statement, &args).await?;
        }
    }
    write.commit().await
}

/// Keeps the head of an error. `PostgreSQL` takes no zero byte in a text.
fn cut(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect()
}

pub(super) async fn count<D: Driver>(catalog: &SqlCatalog<D>) -> Result<RepairQueue, CatalogError> {
    let row = catalog
        .reader()
        .await?
        .one(
            "SELECT count(*) FILTER (WHERE dead_at_ms IS NULL AND held_until_ms <= unixepoch_ms()),
                 count(*) FILTER (WHERE dead_at_ms IS NULL AND held_until_ms > unixepoch_ms()),
                 count(*) FILTER (WHERE dead_at_ms IS NOT NULL),
                 CAST(coalesce(sum(lost_bytes) FILTER (WHERE dead_at_ms IS NULL AND held_until_ms <= unixepoch_ms()), 0)
                      AS BIGINT),
                 CAST(coalesce(sum(lost_bytes) FILTER (WHERE dead_at_ms IS NULL AND held_until_ms > unixepoch_ms()), 0)
                      AS BIGINT),
                 count(*) FILTER (WHERE dead_at_ms IS NULL AND cause = 'balance')
             FROM repairs",
            &[],
        )
        .await?;
    Ok(RepairQueue {
        waiting: number(row.number(0)?, TABLE)?,
        running: number(row.number(1)?, TABLE)?,
        dead: number(row.number(2)?, TABLE)?,
        waiting_bytes: number(row.number(3)?, TABLE)?,
        running_bytes: number(row.number(4)?, TABLE)?,
        balancing: number(row.number(5)?, TABLE)?,
    })
}

pub(super) async fn dead<D: Driver>(catalog: &SqlCatalog<D>, limit: usize) -> Result<Vec<DeadRepair>, CatalogError> {
    let statement = "SELECT object, attempts, error FROM repairs
        WHERE dead_at_ms IS NOT NULL ORDER BY dead_at_ms, object LIMIT $1";
    let rows = catalog.reader().await?.all(statement, &[signed(limit as u64).into()]).await?;
    rows.iter().map(read_dead).collect()
}

pub(super) async fn dead_of<D: Driver>(
    catalog: &SqlCatalog<D>,
    object: &ObjectId,
) -> Result<Option<DeadRepair>, CatalogError> {
    let statement = "SELECT object, attempts, error FROM repairs WHERE object = $1 AND dead_at_ms IS NOT NULL";
    let row = catalog.reader().await?.first(statement, &[(&object.0).into()]).await?;
    row.as_ref().map(read_dead).transpose()
}

fn read_dead(row: &impl Cells) -> Result<DeadRepair, CatalogError> {
    Ok(DeadRepair {
        object: ObjectId(id(row.bytes(0)?, TABLE)?),
        attempts: number(row.number(1)?, TABLE)?,
        error: row.maybe_text(2)?.unwrap_or_default().to_owned(),
    })
}

pub(super) async fn obstacles<D: Driver>(catalog: &SqlCatalog<D>, limit: usize) -> Result<Vec<Obstacle>, CatalogError> {
    let statement = "SELECT error, count(*), CAST(sum(lost_bytes) AS BIGINT) FROM repairs WHERE error IS NOT NULL
        GROUP BY error ORDER BY count(*) DESC, error LIMIT $1";
    let rows = catalog.reader().await?.all(statement, &[signed(limit as u64).into()]).await?;
    let read = |row: &D::Row| {
        let amount = Amount { objects: number(row.number(1)?, TABLE)?, bytes: number(row.number(2)?, TABLE)? };
        Ok(Obstacle { why: row.text(0)?.to_owned(), amount })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn revive<D: Driver>(catalog: &SqlCatalog<D>, by: Revival<'_>) -> Result<u64, CatalogError> {
    // Rows in the order of the objects, as whoever erases several takes them: none wait in a circle.
    const NODE: &str = "WITH picked AS MATERIALIZED (
            SELECT object AS picked_object FROM repairs
            WHERE object > $1 AND (dead_at_ms IS NOT NULL OR (holder IS NULL AND not_before_ms > unixepoch_ms()))
            ORDER BY object LIMIT $2 FOR UPDATE)
        UPDATE repairs SET dead_at_ms = NULL, attempts = 0, not_before_ms = 0
        FROM picked WHERE object = picked_object RETURNING object";
    // Half of the attempts stay: who says so again and again gains no turn before others, and few attempts.
    const LEASE: &str = "UPDATE repairs SET dead_at_ms = NULL, not_before_ms = 0,
            attempts = CASE WHEN dead_at_ms IS NULL THEN attempts ELSE (attempts + 1) / 2 END
        WHERE (dead_at_ms IS NOT NULL OR (holder IS NULL AND not_before_ms > unixepoch_ms())) AND object = $1";
    const OPERATOR: &str = "WITH picked AS MATERIALIZED (
            SELECT object AS picked_object FROM repairs
            WHERE object > $1 AND (dead_at_ms IS NOT NULL OR (holder IS NULL AND not_before_ms > unixepoch_ms()
                AND not_before_ms > failed_at_ms + $3))
            ORDER BY object LIMIT $2 FOR UPDATE)
        UPDATE repairs SET dead_at_ms = NULL, not_before_ms = failed_at_ms + $3, unmakable = NULL,
            attempts = CASE WHEN dead_at_ms IS NULL THEN attempts ELSE (attempts + 1) / 2 END
        FROM picked WHERE object = picked_object RETURNING object";
    let (page, pause) = (signed(REVIVED as u64).into(), milliseconds(RETRY_PAUSE).into());
    match by {
        Revival::Node => revive_all(catalog, NODE, &[page]).await,
        Revival::Lease(object) => catalog.writer().await?.run(LEASE, &[(&object.0).into()]).await,
        Revival::Operator => revive_all(catalog, OPERATOR, &[page, pause]).await,
    }
}

/// Runs a statement that revives a page of repairs, until one is not full. Who waits for a row of them waits for a
/// page, and where the server cuts one off, those before it are revived.
async fn revive_all<D: Driver>(
    catalog: &SqlCatalog<D>,
    statement: &'static str,
    args: &[Arg<'_>],
) -> Result<u64, CatalogError> {
    let (mut revived, mut last) = (0, Vec::new());
    loop {
        let args: Vec<_> = [last.as_slice().into()].into_iter().chain(args.iter().copied()).collect();
        let rows = catalog.writer().await?.all(statement, &args).await?;
        revived += rows.len() as u64;
        if rows.len() < REVIVED {
            return Ok(revived);
        }
        // They come in no order.
        let mut objects = Vec::with_capacity(rows.len());
        for row in &rows {
            objects.push(row.bytes(0)?);
        }
        last = objects.into_iter().max().unwrap_or_default().to_vec();
    }
}

pub(super) const FORGET_ERASED: &str = "DELETE FROM repairs WHERE object = $1
    AND NOT EXISTS (SELECT 1 FROM records r WHERE r.object = $1 AND r.erased_at IS NULL)";

/// Takes an object out of the queue once its last living record is gone.
pub(super) async fn forget_erased<D: Driver>(write: &mut Session<D>, object: &ObjectId) -> Result<(), CatalogError> {
    write.run(FORGET_ERASED, &[(&object.0).into()]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;
    use crate::catalog::{RepairCause, SqliteCatalog};

    #[tokio::test]
    async fn a_repair_that_was_given_up_is_tried_again_when_it_has_rested() {
        let dir = tempfile::tempdir().unwrap();
        let seconds = Arc::new(AtomicU64::new(1_000_000));
        let told = seconds.clone();
        let clock = Arc::new(move || Duration::from_secs(told.load(Ordering::Relaxed)));
        let catalog = SqliteCatalog::open_by(&dir.path().join("catalog.db"), 10, Some(clock)).await.unwrap();
        let (o1, hold) = ("o1".parse::<NodeName>().unwrap(), Duration::from_secs(30));
        let (object, cause) = (ObjectId([1; 32]), RepairCause::Scan);
        let ask = RepairAsk { object, margin: 1, bytes: 1, cause, target: None, only_lost: vec![2] };
        queue(&catalog, &ask).await.unwrap();
        let attempts = async || take(&catalog, &o1, hold).await.unwrap().map(|repair| repair.attempts);
        assert_eq!(attempts().await, Some(1));
        let dead = RepairEnd::Dead { error: "no room".to_owned() };
        end(&catalog, &object, &o1, &dead).await.unwrap();
        assert_eq!(dead_of(&catalog, &object).await.unwrap().unwrap().error, "no room");
        seconds.fetch_add(GIVEN_UP_REST.as_secs() - 1, Ordering::Relaxed);
        assert_eq!(queue(&catalog, &ask).await.unwrap(), Applied::Unchanged);
        assert_eq!(attempts().await, None);
        seconds.fetch_add(1, Ordering::Relaxed);
        assert_eq!(queue(&catalog, &ask).await.unwrap(), Applied::Stored);
        assert_eq!(dead_of(&catalog, &object).await.unwrap(), None);
        assert_eq!(attempts().await, Some(2), "half of its attempts stay");
        // What nobody can make again does not come back by itself.
        let hopeless = RepairEnd::Hopeless { error: "broken".to_owned(), lost: vec![2] };
        end(&catalog, &object, &o1, &hopeless).await.unwrap();
        seconds.fetch_add(2 * GIVEN_UP_REST.as_secs(), Ordering::Relaxed);
        assert_eq!(queue(&catalog, &ask).await.unwrap(), Applied::Unchanged);

        // Nor does one that ended each process that made it.
        let (object, hold) = (ObjectId([2; 32]), Duration::ZERO);
        let ask = RepairAsk { object, ..ask };
        queue(&catalog, &ask).await.unwrap();
        for attempts in 1..=ATTEMPTS_MAX + 1 {
            assert_eq!(take(&catalog, &o1, hold).await.unwrap().map(|it| it.attempts), Some(attempts));
        }
        end(&catalog, &object, &o1, &dead).await.unwrap();
        seconds.fetch_add(2 * GIVEN_UP_REST.as_secs(), Ordering::Relaxed);
        assert_eq!(queue(&catalog, &ask).await.unwrap(), Applied::Unchanged);
        assert!(dead_of(&catalog, &object).await.unwrap().is_some());
    }
}
