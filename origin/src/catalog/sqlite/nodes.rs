//! The nodes of the cluster as rows.

use format::wire::{ChangeKind, NodeEntry};
use sqlx::Row;

use super::{SqliteCatalog, feed, unsigned};
use crate::catalog::{Applied, CatalogError, Refused};

const TABLE: &str = "nodes";

pub(super) async fn announce(catalog: &SqliteCatalog, entry: &NodeEntry) -> Result<Applied, CatalogError> {
    let mut write = catalog.begin().await?;
    let held = sqlx::query("SELECT entry FROM nodes WHERE name = ?")
        .bind(entry.name.as_str())
        .fetch_optional(&mut *write)
        .await?;
    let held = held.map(|row| read(row.try_get(0)?)).transpose()?;
    if let Some(held) = held.as_ref().filter(|held| held.role != entry.role) {
        return Err(Refused::OtherRole { held: held.role }.into());
    }
    let text = serde_json::to_string(entry).map_err(|_| CatalogError::Damaged { table: TABLE })?;
    sqlx::query(
        "INSERT INTO nodes (name, entry, seen) VALUES (?, ?, unixepoch())
         ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, seen = excluded.seen",
    )
    .bind(entry.name.as_str())
    .bind(text)
    .execute(&mut *write)
    .await?;
    let moved = held.is_none_or(|held| topology(&held) != topology(entry));
    if moved {
        feed::tell(catalog, &mut write, &ChangeKind::Node { name: entry.name.clone() }).await?;
    }
    write.commit().await?;
    Ok(if moved { Applied::Stored } else { Applied::Unchanged })
}

/// What readers plan by; how full a node is changes with every beat and is no news.
fn topology(entry: &NodeEntry) -> NodeEntry {
    NodeEntry { capacity_bytes: 0, free_bytes: 0, load: 0, seen: 0, ..entry.clone() }
}

pub(super) async fn list(catalog: &SqliteCatalog) -> Result<Vec<NodeEntry>, CatalogError> {
    let rows = sqlx::query("SELECT entry, seen FROM nodes ORDER BY name").fetch_all(&catalog.readers).await?;
    rows.iter().map(|row| Ok(NodeEntry { seen: unsigned(row.try_get(1)?, TABLE)?, ..read(row.try_get(0)?)? })).collect()
}

fn read(text: &str) -> Result<NodeEntry, CatalogError> {
    serde_json::from_str(text).map_err(|_| CatalogError::Damaged { table: TABLE })
}
