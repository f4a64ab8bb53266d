//! Records and leases as rows. The lease's version is compared and swapped in one statement inside one transaction.

use bytes::Bytes;
use format::{Lease, Locator, NodeName, ObjectId, OwnerId, PublicManifest, Record, wire::ChangeKind};
use sqlx::{Row, Sqlite, Transaction};

use super::{SqliteCatalog, feed, id, signed, unsigned};
use crate::catalog::{
    Applied, CatalogError,
    rule::{Held, Refused, Verdict, judge, storable},
};

const TABLE: &str = "records";

pub(super) async fn put(catalog: &SqliteCatalog, record: &Record) -> Result<Applied, CatalogError> {
    let placement = encode_placement(&record.placement)?;
    let mut write = catalog.begin().await?;
    let Some((held, now)) = held(&mut write, &record.locator()).await? else {
        insert(&mut write, record, &placement).await?;
        return finish(catalog, write, &record.lease).await;
    };
    if held.object != record.public.id() {
        return Err(Refused::OtherObject { held: held.object }.into());
    }
    let verdict = judge(&held, &record.lease, &record.lease_envelope, now)?;
    if verdict == Verdict::Same {
        return replace_placement(catalog, write, &record.locator(), &placement).await;
    }
    swap(&mut write, &record.lease, &record.lease_envelope, verdict).await?;
    sqlx::query("UPDATE records SET placement = ? WHERE locator = ?")
        .bind(&placement)
        .bind(&record.locator().0[..])
        .execute(&mut *write)
        .await?;
    finish(catalog, write, &record.lease).await
}

pub(super) async fn renew(catalog: &SqliteCatalog, lease: &Lease, envelope: &Bytes) -> Result<Applied, CatalogError> {
    let mut write = catalog.begin().await?;
    let (held, now) = held(&mut write, &lease.locator).await?.ok_or(Refused::NoRecord)?;
    let verdict = judge(&held, lease, envelope, now)?;
    if verdict == Verdict::Same {
        return Ok(Applied::Unchanged);
    }
    swap(&mut write, lease, envelope, verdict).await?;
    finish(catalog, write, lease).await
}

/// Reads what is held, and the database's clock.
async fn held(
    write: &mut Transaction<'static, Sqlite>,
    locator: &Locator,
) -> Result<Option<(Held, u64)>, CatalogError> {
    let row = sqlx::query(
        "SELECT object, owner, lease_version, lease, keep_until, erased_at IS NOT NULL, unixepoch() FROM records WHERE locator = ?",
    )
    .bind(&locator.0[..])
    .fetch_optional(&mut **write)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let held = Held {
        object: ObjectId(id(row.try_get(0)?, TABLE)?),
        owner: OwnerId(id(row.try_get(1)?, TABLE)?),
        version: unsigned(row.try_get(2)?, TABLE)?,
        envelope: row.try_get(3)?,
        keep_until: unsigned(row.try_get(4)?, TABLE)?,
        erased: row.try_get(5)?,
    };
    Ok(Some((held, unsigned(row.try_get(6)?, TABLE)?)))
}

async fn insert(
    write: &mut Transaction<'static, Sqlite>,
    record: &Record,
    placement: &str,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO records (locator, object, owner, public, sealed, lease, lease_version, keep_until, placement, erased_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, CASE WHEN ? THEN unixepoch() END)",
    )
    .bind(&record.locator().0[..])
    .bind(&record.public.id().0[..])
    .bind(&record.lease.owner.0[..])
    .bind(&record.public.encoded()[..])
    .bind(record.sealed.as_deref())
    .bind(&record.lease_envelope[..])
    .bind(storable(record.lease.version)?)
    .bind(signed(record.lease.retention.keep_until))
    .bind(placement)
    .bind(record.lease.erased)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Compare and swap: the row changes only while its version is lower than the new one.
async fn swap(
    write: &mut Transaction<'static, Sqlite>,
    lease: &Lease,
    envelope: &Bytes,
    verdict: Verdict,
) -> Result<(), CatalogError> {
    let erase = verdict == Verdict::Erase;
    let version = storable(lease.version)?;
    let done = sqlx::query(
        "UPDATE records SET lease = ?1, lease_version = ?2, keep_until = ?3,
             sealed = CASE WHEN ?4 THEN NULL ELSE sealed END,
             erased_at = CASE WHEN ?4 THEN coalesce(erased_at, unixepoch()) ELSE erased_at END
         WHERE locator = ?5 AND lease_version < ?2",
    )
    .bind(&envelope[..])
    .bind(version)
    .bind(signed(lease.retention.keep_until))
    .bind(erase)
    .bind(&lease.locator.0[..])
    .execute(&mut **write)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Refused::Older { held: lease.version, asked: lease.version }.into())
    }
}

/// The same lease with another placement: a shard moved. Readers look it up again only when they hear of it.
async fn replace_placement(
    catalog: &SqliteCatalog,
    mut write: Transaction<'static, Sqlite>,
    locator: &Locator,
    placement: &str,
) -> Result<Applied, CatalogError> {
    let done =
        sqlx::query("UPDATE records SET placement = ?1 WHERE locator = ?2 AND placement <> ?1 AND erased_at IS NULL")
            .bind(placement)
            .bind(&locator.0[..])
            .execute(&mut *write)
            .await?;
    if done.rows_affected() == 0 {
        return Ok(Applied::Unchanged);
    }
    feed::tell(catalog, &mut write, &ChangeKind::Record { locator: *locator }).await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

async fn finish(
    catalog: &SqliteCatalog,
    mut write: Transaction<'static, Sqlite>,
    lease: &Lease,
) -> Result<Applied, CatalogError> {
    let locator = lease.locator;
    let change = if lease.erased { ChangeKind::Erased { locator } } else { ChangeKind::Record { locator } };
    feed::tell(catalog, &mut write, &change).await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

pub(super) async fn read(catalog: &SqliteCatalog, locator: &Locator) -> Result<Option<Record>, CatalogError> {
    let damaged = || CatalogError::Damaged { table: TABLE };
    let mut read = catalog.readers.begin().await?;
    let row = sqlx::query("SELECT public, sealed, lease, placement, object FROM records WHERE locator = ?")
        .bind(&locator.0[..])
        .fetch_optional(&mut *read)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let public: Vec<u8> = row.try_get(0)?;
    let sealed: Option<Vec<u8>> = row.try_get(1)?;
    let lease: Vec<u8> = row.try_get(2)?;
    let mut placement: Vec<Option<NodeName>> = serde_json::from_str(row.try_get(3)?).map_err(|_| damaged())?;
    let shards = sqlx::query("SELECT shard_column, node FROM shards WHERE object = ? ORDER BY shard_column, node")
        .bind(row.try_get::<&[u8], _>(4)?)
        .fetch_all(&mut *read)
        .await?;
    let mut known: Vec<Vec<NodeName>> = vec![Vec::new(); placement.len()];
    for shard in shards {
        let column = usize::try_from(shard.try_get::<i64, _>(0)?).map_err(|_| damaged())?;
        let node = shard.try_get::<&str, _>(1)?.parse().map_err(|_| damaged())?;
        if let Some(nodes) = known.get_mut(column) {
            nodes.push(node);
        }
    }
    for (hint, nodes) in placement.iter_mut().zip(known) {
        if hint.as_ref().is_none_or(|hint| !nodes.contains(hint)) {
            *hint = nodes.into_iter().next().or_else(|| hint.take());
        }
    }
    let public = PublicManifest::decode(public.into()).map_err(|_| damaged())?;
    let record = Record::new(public, sealed.map(Bytes::from), lease.into(), placement).map_err(|_| damaged())?;
    Ok(Some(record))
}

pub(super) async fn list(
    catalog: &SqliteCatalog,
    owner: &OwnerId,
    after: Option<&Locator>,
    limit: usize,
) -> Result<Vec<Locator>, CatalogError> {
    let rows = sqlx::query(
        "SELECT locator FROM records WHERE owner = ? AND locator > ? AND erased_at IS NULL ORDER BY locator LIMIT ?",
    )
    .bind(&owner.0[..])
    .bind(after.map_or(&[][..], |after| &after.0[..]))
    .bind(signed(limit as u64))
    .fetch_all(&catalog.readers)
    .await?;
    rows.iter().map(|row| Ok(Locator(id(row.try_get(0)?, TABLE)?))).collect()
}

fn encode_placement(placement: &[Option<NodeName>]) -> Result<String, CatalogError> {
    serde_json::to_string(placement).map_err(|_| CatalogError::Damaged { table: TABLE })
}
