//! The nodes of the cluster as rows.

use format::wire::{ChangeKind, NodeEntry, Role};

use super::{Cells, Driver, SqlCatalog, feed, number, session::Alone, signed};
use crate::catalog::{Applied, CatalogError, Refused};

const TABLE: &str = "nodes";

pub(super) async fn announce<D: Driver>(catalog: &SqlCatalog<D>, entry: &NodeEntry) -> Result<Applied, CatalogError> {
    let mut write = catalog.write().await?;
    let name = entry.name.as_str();
    write.alone(Alone::Node(name)).await?;
    let held = write.first("SELECT entry FROM nodes WHERE name = $1", &[name.into()]).await?;
    // One that cannot be read is written anew, or the node would never be announced again.
    let held = held.and_then(|row| row.text(0).ok().and_then(|text| read(text).ok()));
    if let Some(held) = held.as_ref().filter(|held| held.role != entry.role) {
        return Err(Refused::OtherRole { held: held.role }.into());
    }
    let text = serde_json::to_string(entry).map_err(|_| CatalogError::Damaged { table: TABLE })?;
    write
        .run(
            "INSERT INTO nodes (name, entry, seen) VALUES ($1, $2, unixepoch())
             ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, seen = excluded.seen",
            &[name.into(), text.as_str().into()],
        )
        .await?;
    let moved = held.is_none_or(|held| topology(&held) != topology(entry));
    if moved {
        feed::tell(&mut write, &ChangeKind::Node { name: entry.name.clone() }).await?;
    }
    write.commit().await?;
    Ok(if moved { Applied::Stored } else { Applied::Unchanged })
}

/// What readers plan by; how full a node is changes with every beat and is no news.
fn topology(entry: &NodeEntry) -> NodeEntry {
    NodeEntry { capacity_bytes: 0, free_bytes: 0, load: 0, seen: 0, ..entry.clone() }
}

/// One that announces itself meanwhile stays.
pub(super) async fn forget_edges<D: Driver>(catalog: &SqlCatalog<D>, silent: u64) -> Result<u64, CatalogError> {
    let silent = signed(silent).into();
    let old = "SELECT name, entry FROM nodes WHERE seen <= $1";
    let forget = "DELETE FROM nodes WHERE name = $2 AND seen <= $1";
    let mut forgotten = 0;
    for row in catalog.reader().await?.all(old, &[silent]).await? {
        // One that cannot be read may be an origin's, and keeps no other on the list.
        if row.text(1).is_ok_and(|text| read(text).is_ok_and(|entry| entry.role == Role::Edge)) {
            forgotten += catalog.writer().await?.run(forget, &[silent, row.text(0)?.into()]).await?;
        }
    }
    Ok(forgotten)
}

pub(super) async fn list<D: Driver>(catalog: &SqlCatalog<D>) -> Result<Vec<NodeEntry>, CatalogError> {
    let rows = catalog.reader().await?.all("SELECT entry, seen FROM nodes ORDER BY name", &[]).await?;
    rows.iter().map(|row| Ok(NodeEntry { seen: number(row.number(1)?, TABLE)?, ..read(row.text(0)?)? })).collect()
}

fn read(text: &str) -> Result<NodeEntry, CatalogError> {
    serde_json::from_str(text).map_err(|_| CatalogError::Damaged { table: TABLE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SqliteCatalog;

    #[tokio::test]
    async fn an_entry_that_cannot_be_read_keeps_no_silent_edge_on_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db"), 10).await.unwrap();
        let edge = |name: &str| NodeEntry { role: Role::Edge, ..testing::node(name, testing::place("bru1")) };
        for name in ["e1", "e2", "e3"] {
            announce(&catalog, &edge(name)).await.unwrap();
        }
        let spoil = "UPDATE nodes SET entry = '{' WHERE name = 'e1'";
        catalog.writer().await.unwrap().run(spoil, &[]).await.unwrap();
        assert_eq!(forget_edges(&catalog, 1 << 40).await.unwrap(), 2);
    }
}
