//! Orders of owners to the edges' caches: nothing is kept of them but what the feed tells.

use format::{Locator, Purge, Purged, wire::ChangeKind};

use super::{Cells, Driver, SqlCatalog, feed, id};
use crate::catalog::{Applied, CatalogError, rule::Refused};

pub(super) async fn tell<D: Driver>(catalog: &SqlCatalog<D>, purge: &Purge) -> Result<Applied, CatalogError> {
    let about = |locator| ChangeKind::Purge { owner: purge.owner, locator, hard: purge.hard, issued: purge.issued };
    let orders: Vec<ChangeKind> = match &purge.what {
        // Keys of owners cost nothing: edges hear of those who have something here.
        Purged::All if has_any(catalog, purge).await? => vec![about(None)],
        Purged::All => vec![],
        Purged::Objects(objects) => {
            let mut orders = Vec::with_capacity(objects.len());
            for object in objects {
                if is_owned(catalog, purge, object).await? {
                    orders.push(about(Some(*object)));
                }
            }
            orders
        }
    };
    let mut write = catalog.write().await?;
    let mut applied = Applied::Unchanged;
    for order in orders {
        // The owner tells several nodes, which may share this catalog.
        if !feed::is_told(&mut write, &order).await? {
            feed::tell(&mut write, &order).await?;
            applied = Applied::Stored;
        }
    }
    write.commit().await?;
    Ok(applied)
}

/// Whether an object of the owner is here that was not erased, of which edges heard.
async fn has_any<D: Driver>(catalog: &SqlCatalog<D>, purge: &Purge) -> Result<bool, CatalogError> {
    let statement = "SELECT 1 FROM records WHERE owner = $1 AND erased_at IS NULL LIMIT 1";
    Ok(catalog.reader().await?.first(statement, &[(&purge.owner.0).into()]).await?.is_some())
}

/// Whether the object is the owner's; false too when nothing is known of it.
async fn is_owned<D: Driver>(catalog: &SqlCatalog<D>, purge: &Purge, object: &Locator) -> Result<bool, CatalogError> {
    let statement = "SELECT owner FROM records WHERE locator = $1";
    let Some(row) = catalog.reader().await?.first(statement, &[(&object.0).into()]).await? else { return Ok(false) };
    let held = format::OwnerId(id(row.bytes(0)?, "records")?);
    if held == purge.owner { Ok(true) } else { Err(Refused::OtherOwner { held }.into()) }
}
