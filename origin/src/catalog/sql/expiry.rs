//! Leases that end by themselves: the record dies as if its owner had erased it, but under the lease it has.

use bytes::Bytes;
use format::{Lease, Locator, ObjectId, wire::ChangeKind};

use super::{Cells, Driver, SqlCatalog, feed, id, records, session::Alone, signed};
use crate::catalog::CatalogError;

const TABLE: &str = "records";

/// Leases that are due.
pub(super) const DUE: &str = "SELECT locator FROM records
    WHERE erased_at IS NULL AND ends_at > 0 AND ends_at <= $1 ORDER BY ends_at LIMIT $2";
/// Ends one lease, if it is still due, by the second at which it is: a clock that was set since gives what is dead
/// neither less of its grace nor more. The sum keeps the index of ends out: where a planner believes that few leases
/// are due, it would search all that are for this one.
pub(super) const END: &str = "UPDATE records SET sealed = NULL, erased_at = $2
    WHERE locator = $1 AND erased_at IS NULL AND ends_at + 0 > 0 AND ends_at + 0 <= $2
    RETURNING CASE WHEN placement <> '[]' THEN object END";
/// Leases that were filed before there was a column for their end.
pub(super) const UNREAD: &str = "SELECT locator, lease, lease_version FROM records WHERE ends_at IS NULL LIMIT $1";

/// Ends the leases that are due, at most `limit`, each in a transaction of its own: none waits for many, and a crash in
/// between leaves whole ones.
pub(super) async fn expire<D: Driver>(catalog: &SqlCatalog<D>, now: u64, limit: usize) -> Result<u64, CatalogError> {
    let (now, limit) = (signed(now), signed(limit as u64));
    read_ends(catalog, limit).await?;
    let rows = catalog.reader().await?.all(DUE, &[now.into(), limit.into()]).await?;
    let mut expired = 0;
    for row in rows {
        expired += u64::from(end(catalog, &Locator(id(row.bytes(0)?, TABLE)?), now).await?);
    }
    Ok(expired)
}

/// Ends one lease, unless it was renewed or ended since it was looked up; then false.
async fn end<D: Driver>(catalog: &SqlCatalog<D>, locator: &Locator, now: i64) -> Result<bool, CatalogError> {
    let mut write = catalog.write().await?;
    write.alone(Alone::Record(&locator.0)).await?;
    let ended = write.first(END, &[(&locator.0).into(), now.into()]).await?;
    let Some(row) = ended else { return Ok(false) };
    if let Some(object) = row.maybe_bytes(0)? {
        records::bury(&mut write, &ObjectId(id(object, TABLE)?), now).await?;
    }
    feed::tell(&mut write, &ChangeKind::Erased { locator: *locator }).await?;
    write.commit().await?;
    Ok(true)
}

/// Reads the end out of leases that were filed before there was a column for it.
async fn read_ends<D: Driver>(catalog: &SqlCatalog<D>, limit: i64) -> Result<(), CatalogError> {
    let rows = catalog.reader().await?.all(UNREAD, &[limit.into()]).await?;
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
