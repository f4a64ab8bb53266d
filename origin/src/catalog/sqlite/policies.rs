//! Policies and their blobs as rows.

use bytes::Bytes;
use format::{BlobId, OwnerId, PolicyManifest, PolicyName, wire::ChangeKind};
use sqlx::Row;

use super::{SqliteCatalog, feed, unsigned};
use crate::catalog::{
    Applied, CatalogError,
    rule::{Refused, Verdict, judge_sequence, storable},
};

pub(super) async fn put(
    catalog: &SqliteCatalog,
    manifest: &PolicyManifest,
    envelope: &Bytes,
) -> Result<Applied, CatalogError> {
    let (owner, name) = (&manifest.owner.0[..], manifest.name.as_str());
    let mut write = catalog.begin().await?;
    let held = sqlx::query("SELECT sequence, envelope FROM policies WHERE owner = ? AND name = ?")
        .bind(owner)
        .bind(name)
        .fetch_optional(&mut *write)
        .await?;
    let held = match &held {
        None => None,
        Some(row) => Some((unsigned(row.try_get(0)?, "policies")?, row.try_get::<&[u8], _>(1)?)),
    };
    if judge_sequence(held, manifest.sequence, envelope)? == Verdict::Same {
        return Ok(Applied::Unchanged);
    }
    sqlx::query(
        "INSERT INTO policies (owner, name, sequence, envelope) VALUES (?, ?, ?, ?)
         ON CONFLICT (owner, name) DO UPDATE SET sequence = excluded.sequence, envelope = excluded.envelope
         WHERE excluded.sequence > policies.sequence",
    )
    .bind(owner)
    .bind(name)
    .bind(storable(manifest.sequence)?)
    .bind(&envelope[..])
    .execute(&mut *write)
    .await?;
    sqlx::query("DELETE FROM policy_blobs WHERE owner = ? AND name = ?")
        .bind(owner)
        .bind(name)
        .execute(&mut *write)
        .await?;
    for blob in manifest.links.iter().flat_map(|link| [link.component, link.config]) {
        let known =
            sqlx::query("SELECT 1 FROM blobs WHERE blob = ?").bind(&blob.0[..]).fetch_optional(&mut *write).await?;
        if known.is_none() {
            return Err(Refused::NoBlob { policy: manifest.name.clone(), blob }.into());
        }
        sqlx::query("INSERT OR IGNORE INTO policy_blobs (owner, name, blob) VALUES (?, ?, ?)")
            .bind(owner)
            .bind(name)
            .bind(&blob.0[..])
            .execute(&mut *write)
            .await?;
    }
    let change = ChangeKind::Policy { owner: manifest.owner, name: manifest.name.clone() };
    feed::tell(catalog, &mut write, &change).await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

pub(super) async fn read(
    catalog: &SqliteCatalog,
    owner: &OwnerId,
    name: &PolicyName,
) -> Result<Option<Bytes>, CatalogError> {
    let row = sqlx::query("SELECT envelope FROM policies WHERE owner = ? AND name = ?")
        .bind(&owner.0[..])
        .bind(name.as_str())
        .fetch_optional(&catalog.readers)
        .await?;
    row.map(|row| Ok(Bytes::from(row.try_get::<Vec<u8>, _>(0)?))).transpose()
}

pub(super) async fn put_blob(catalog: &SqliteCatalog, id: &BlobId, blob: &Bytes) -> Result<(), CatalogError> {
    let mut write = catalog.begin().await?;
    sqlx::query("INSERT OR IGNORE INTO blobs (blob, bytes) VALUES (?, ?)")
        .bind(&id.0[..])
        .bind(&blob[..])
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(())
}

pub(super) async fn read_blob(catalog: &SqliteCatalog, id: &BlobId) -> Result<Option<Bytes>, CatalogError> {
    let row =
        sqlx::query("SELECT bytes FROM blobs WHERE blob = ?").bind(&id.0[..]).fetch_optional(&catalog.readers).await?;
    row.map(|row| Ok(Bytes::from(row.try_get::<Vec<u8>, _>(0)?))).transpose()
}
