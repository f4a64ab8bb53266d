//! The change feed: one row for each change, numbered in the order of commits because only one transaction writes at a time.

use format::wire::{Change, ChangeKind, ChangePage};
use sqlx::{Row, Sqlite, Transaction};

use super::{SqliteCatalog, signed, unsigned};
use crate::catalog::CatalogError;

const TABLE: &str = "changes";

/// Adds a change to the transaction that makes it and trims the oldest beyond what is kept.
pub(super) async fn tell(
    catalog: &SqliteCatalog,
    write: &mut Transaction<'static, Sqlite>,
    kind: &ChangeKind,
) -> Result<(), CatalogError> {
    let text = serde_json::to_string(kind).map_err(|_| CatalogError::Damaged { table: TABLE })?;
    let row = sqlx::query("INSERT INTO changes (kind) VALUES (?) RETURNING sequence")
        .bind(text)
        .fetch_one(&mut **write)
        .await?;
    let newest: i64 = row.try_get(0)?;
    sqlx::query("DELETE FROM changes WHERE sequence <= ?")
        .bind(newest.saturating_sub(i64::from(catalog.changes_kept)))
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(super) async fn newest(catalog: &SqliteCatalog) -> Result<u64, CatalogError> {
    let row = sqlx::query("SELECT coalesce(max(sequence), 0) FROM changes").fetch_one(&catalog.readers).await?;
    unsigned(row.try_get(0)?, TABLE)
}

pub(super) async fn page(catalog: &SqliteCatalog, since: u64, limit: usize) -> Result<ChangePage, CatalogError> {
    // One transaction, so that both answers are of one moment.
    let mut read = catalog.readers.begin().await?;
    let row = sqlx::query("SELECT coalesce(min(sequence), 0), coalesce(max(sequence), 0) FROM changes")
        .fetch_one(&mut *read)
        .await?;
    let (oldest, newest) = (unsigned(row.try_get(0)?, TABLE)?, unsigned(row.try_get(1)?, TABLE)?);
    // Behind what is kept, or ahead of it because the catalog was restored from an older copy.
    if since.saturating_add(1) < oldest || since > newest {
        return Ok(ChangePage { changes: Vec::new(), next: newest, reset: true });
    }
    let rows = sqlx::query("SELECT sequence, kind FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?")
        .bind(signed(since))
        .bind(signed(limit as u64))
        .fetch_all(&mut *read)
        .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let kind: &str = row.try_get(1)?;
        let kind = serde_json::from_str(kind).map_err(|_| CatalogError::Damaged { table: TABLE })?;
        changes.push(Change { sequence: unsigned(row.try_get(0)?, TABLE)?, kind });
    }
    let next = changes.last().map_or(since, |change| change.sequence);
    Ok(ChangePage { changes, next, reset: false })
}
