//! Leases that end by themselves: the record dies as if its owner had erased it, but under the lease it has.

use bytes::Bytes;
use format::{Lease, Locator, ObjectId};

use super::{Cells, Driver, SqlCatalog, id, records, session::Alone, signed};
use crate::catalog::CatalogError;

const TABLE: &str = "records";

/// Ends the leases that are due, at most `limit`, each in a transaction of its own: none waits for many, and a crash in
/// between leaves whole ones.
pub(super) async fn expire<D: Driver>(catalog: &SqlCatalog<D>, limit: usize) -> Result<u64, CatalogError> {
    let limit = signed(limit as u64);
    read_ends(catalog, limit).await?;
    let rows = catalog
        .reader()
        .await?
        .all(
            "SELECT locator FROM records
             WHERE erased_at IS NULL AND ends_at > 0 AND ends_at <= unixepoch() ORDER BY ends_at LIMIT $1",
            &[limit.into()],
        )
        .await?;
    let mut expired = 0;
    for row in rows {
        expired += u64::from(end(catalog, &Locator(id(row.bytes(0)?, TABLE)?)).await?);
    }
    Ok(expired)
}

/// Ends one lease, unless it was renewed or ended since it was looked up; then false.
async fn end<D: Driver>(catalog: &SqlCatalog<D>, locator: &Locator) -> Result<bool, CatalogError> {
    let mut write = catalog.write().await?;
    write.alone(Alone::Record(&locator.0)).await?;
    let ended = write
        .first(
            "UPDATE records SET sealed = NULL, erased_at = unixepoch()
             WHERE locator = $1 AND erased_at IS NULL AND ends_at > 0 AND ends_at <= unixepoch() RETURNING object",
            &[(&locator.0).into()],
        )
        .await?;
    let Some(row) = ended else { return Ok(false) };
    records::bury(&mut write, locator, &ObjectId(id(row.bytes(0)?, TABLE)?)).await?;
    write.commit().await?;
    Ok(true)
}

/// Reads the end out of leases that were filed before there was a column for it.
async fn read_ends<D: Driver>(catalog: &SqlCatalog<D>, limit: i64) -> Result<(), CatalogError> {
    let statement = "SELECT locator, lease, lease_version FROM records WHERE ends_at IS NULL LIMIT $1";
    let rows = catalog.reader().await?.all(statement, &[limit.into()]).await?;
    for row in rows {
        let envelope = Bytes::copy_from_slice(row.bytes(1)?);
        let lease = client::offload(move || Lease::open(&envelope)).await;
        // A lease that does not verify ends nothing; reading its record says that it is damaged.
        let ends_at = lease.ok().and_then(Result::ok).map_or(0, |lease| records::end(&lease.retention));
        let statement = "UPDATE records SET ends_at = $1 WHERE locator = $2 AND lease_version = $3";
        let args = [ends_at.into(), row.bytes(0)?.into(), row.number(2)?.into()];
        catalog.writer().await?.run(statement, &args).await?;
    }
    Ok(())
}
