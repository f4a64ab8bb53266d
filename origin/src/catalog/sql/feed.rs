//! The change feed: one row for each change, numbered in the order of commits.
//!
//! A reader asks for what came after the last number it saw, so a smaller number must never become visible after a
//! larger one. A database's own sequence does not promise that: a transaction may draw 7 and commit after another drew
//! 8 and committed. Hence a number is drawn only by who holds [`Alone::Feed`], which ends with the transaction: after
//! its commit is visible. Changes therefore commit one after the other; it is asked for last, so that all other work
//! goes side by side.

use format::{
    NodeName,
    wire::{Change, ChangeKind, ChangePage},
};

use super::{
    Arg, Cells, Driver, Session, SqlCatalog, number,
    session::Alone,
    signed,
    wide::{WIDE_MAX, Wide, each},
};
use crate::catalog::CatalogError;

const TABLE: &str = "changes";
/// The second condition is that of the index on the orders of owners.
const TOLD: &str = r#"SELECT 1 FROM changes WHERE kind = $1 AND substr(kind, 1, 15) = '{"kind":"purge"' LIMIT 1"#;

static TELL: Wide = Wide::new(|count| {
    let told = each(count, |at| format!("(${}, ${})", 2 * at + 1, 2 * at + 2));
    format!(
        "WITH told (number, kind) AS (VALUES {told})
         INSERT INTO changes (kind) SELECT kind FROM told WHERE number >= 0 ORDER BY number RETURNING sequence"
    )
});

pub(super) const TRIM: &str = "DELETE FROM changes WHERE sequence <= $1";

/// Adds a change to the transaction that makes it, as the last thing before its commit, and trims the oldest beyond
/// what is kept.
pub(super) async fn tell<D: Driver>(write: &mut Session<D>, kind: &ChangeKind) -> Result<(), CatalogError> {
    tell_all(write, std::slice::from_ref(kind)).await
}

/// Does the same for several, in this order.
pub(super) async fn tell_all<D: Driver>(write: &mut Session<D>, kinds: &[ChangeKind]) -> Result<(), CatalogError> {
    let text = |kind: &ChangeKind| serde_json::to_string(kind).map_err(|_| CatalogError::Damaged { table: TABLE });
    let texts = kinds.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let [first, ..] = &texts[..] else { return Ok(()) };
    write.alone(Alone::Feed).await?;
    let mut newest = 0;
    for texts in texts.chunks(WIDE_MAX) {
        let (statement, width) = TELL.of(texts.len());
        let mut args: Vec<Arg<'_>> = Vec::with_capacity(2 * width);
        for at in 0..width {
            let text = texts.get(at);
            // What fills it up is not told.
            let number = if text.is_some() { i64::try_from(at).unwrap_or(i64::MAX) } else { -1 };
            args.extend([Arg::Number(number), text.unwrap_or(first).as_str().into()]);
        }
        for row in write.all(statement, &args).await? {
            newest = newest.max(row.number(0)?);
        }
    }
    let oldest = newest.saturating_sub(i64::from(write.changes_kept));
    write.run(TRIM, &[oldest.into()]).await?;
    Ok(())
}

/// Whether the feed still tells of just this order of an owner. Costs one look-up: an order may name hundreds of
/// objects.
pub(super) async fn is_told<D: Driver>(write: &mut Session<D>, kind: &ChangeKind) -> Result<bool, CatalogError> {
    let text = serde_json::to_string(kind).map_err(|_| CatalogError::Damaged { table: TABLE })?;
    write.alone(Alone::Feed).await?;
    Ok(write.first(TOLD, &[text.as_str().into()]).await?.is_some())
}

/// Numbers go on at the clock in milliseconds: above what any feed of this cluster reached by counting.
pub(super) async fn restart<D: Driver>(catalog: &SqlCatalog<D>, node: &NodeName) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    write.alone(Alone::Feed).await?;
    for statement in D::RENUMBER.iter().chain(&["DELETE FROM changes"]) {
        write.run(statement, &[]).await?;
    }
    tell(&mut write, &ChangeKind::Node { name: node.clone() }).await?;
    write.commit().await
}

pub(super) async fn newest<D: Driver>(catalog: &SqlCatalog<D>) -> Result<u64, CatalogError> {
    let row = catalog.reader().await?.one("SELECT coalesce(max(sequence), 0) FROM changes", &[]).await?;
    number(row.number(0)?, TABLE)
}

pub(super) async fn page<D: Driver>(
    catalog: &SqlCatalog<D>,
    since: u64,
    limit: usize,
) -> Result<ChangePage, CatalogError> {
    // One transaction, so that both answers are of one moment.
    let mut read = catalog.snapshot().await?;
    // Each a look-up at one end of the index; SQLite reads all rows for both in one SELECT.
    let ends =
        "SELECT coalesce((SELECT min(sequence) FROM changes), 0), coalesce((SELECT max(sequence) FROM changes), 0)";
    let row = read.one(ends, &[]).await?;
    let (oldest, newest): (u64, u64) = (number(row.number(0)?, TABLE)?, number(row.number(1)?, TABLE)?);
    // Behind what is kept, or ahead of it because the catalog was restored from an older copy.
    if since.saturating_add(1) < oldest || since > newest {
        return Ok(ChangePage { changes: Vec::new(), next: newest, reset: true });
    }
    let rows = read
        .all(
            "SELECT sequence, kind FROM changes WHERE sequence > $1 ORDER BY sequence LIMIT $2",
            &[signed(since).into(), signed(limit as u64).into()],
        )
        .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let sequence = number(row.number(0)?, TABLE)?;
        let text = row.text(1).map_err(|error| error.to_string());
        match text.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string())) {
            Ok(kind) => changes.push(Change { sequence, kind }),
            // It may tell of an erasure: who comes to it starts anew behind it, as behind what is no longer kept.
            Err(error) if changes.is_empty() => {
                tracing::error!(sequence, %error, "a change cannot be read: who follows the feed starts anew");
                return Ok(ChangePage { changes, next: newest, reset: true });
            }
            Err(_) => break,
        }
    }
    let next = changes.last().map_or(since, |change| change.sequence);
    Ok(ChangePage { changes, next, reset: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SqliteCatalog;

    #[tokio::test]
    async fn an_order_of_an_owner_is_looked_up_and_not_searched_for() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db"), 10).await.unwrap();
        let plan: &'static str = format!("EXPLAIN QUERY PLAN {TOLD}").leak();
        let rows = catalog.reader().await.unwrap().all(plan, &["x".into()]).await.unwrap();
        let plan: Vec<&str> = rows.iter().map(|row| row.text(3).unwrap()).collect();
        assert!(plan[0].starts_with("SEARCH") && plan[0].contains("changes_of_owners (kind=?)"), "{plan:?}");
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_read_is_passed_by_starting_anew() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db"), 10).await.unwrap();
        let names = ["o1", "o2", "o3"].map(|name| name.parse::<NodeName>().unwrap());
        for name in &names {
            let mut write = catalog.write().await.unwrap();
            tell(&mut write, &ChangeKind::Node { name: name.clone() }).await.unwrap();
            write.commit().await.unwrap();
        }
        let damage = "UPDATE changes SET kind = '{\"kind\":\"of a later version\"}' WHERE sequence = 2";
        catalog.writer().await.unwrap().run(damage, &[]).await.unwrap();
        let told = |page: &ChangePage| page.changes.iter().map(|change| change.sequence).collect::<Vec<_>>();
        let before = page(&catalog, 0, 9).await.unwrap();
        assert_eq!((told(&before), before.next, before.reset), (vec![1], 1, false));
        let at = page(&catalog, 1, 9).await.unwrap();
        assert_eq!((told(&at), at.next, at.reset), (vec![], 3, true));
        let behind = page(&catalog, 2, 9).await.unwrap();
        assert_eq!((told(&behind), behind.next, behind.reset), (vec![3], 3, false));
    }
}
