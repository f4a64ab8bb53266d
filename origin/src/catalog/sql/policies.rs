//! Policies and their blobs as rows.

use bytes::Bytes;
use format::{BlobId, OwnerId, PolicyManifest, PolicyName, wire::ChangeKind};

use super::{Cells, Driver, SqlCatalog, feed, number, session::Alone};
use crate::catalog::{
    Applied, CatalogError,
    rule::{Refused, Verdict, judge_sequence, storable},
};

pub(super) async fn put<D: Driver>(
    catalog: &SqlCatalog<D>,
    manifest: &PolicyManifest,
    envelope: &Bytes,
) -> Result<Applied, CatalogError> {
    let (owner, name) = (&manifest.owner.0, manifest.name.as_str());
    let mut write = catalog.write().await?;
    write.alone(Alone::Policy(owner, name)).await?;
    let held = write
        .first("SELECT sequence, envelope FROM policies WHERE owner = $1 AND name = $2", &[owner.into(), name.into()])
        .await?;
    let held = match &held {
        None => None,
        Some(row) => Some((number(row.number(0)?, "policies")?, row.bytes(1)?)),
    };
    if judge_sequence(held, manifest.sequence, envelope)? == Verdict::Same {
        return Ok(Applied::Unchanged);
    }
    write
        .run(
            "INSERT INTO policies (owner, name, sequence, envelope) VALUES ($1, $2, $3, $4)
             ON CONFLICT (owner, name) DO UPDATE SET sequence = excluded.sequence, envelope = excluded.envelope
             WHERE excluded.sequence > policies.sequence",
            &[owner.into(), name.into(), storable(manifest.sequence)?.into(), envelope[..].into()],
        )
        .await?;
    write.run("DELETE FROM policy_blobs WHERE owner = $1 AND name = $2", &[owner.into(), name.into()]).await?;
    for blob in manifest.links.iter().flat_map(|link| [link.component, link.config]) {
        if write.first("SELECT 1 FROM blobs WHERE blob = $1", &[(&blob.0).into()]).await?.is_none() {
            return Err(Refused::NoBlob { policy: manifest.name.clone(), blob }.into());
        }
        write
            .run(
                "INSERT INTO policy_blobs (owner, name, blob) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                &[owner.into(), name.into(), (&blob.0).into()],
            )
            .await?;
    }
    let change = ChangeKind::Policy { owner: manifest.owner, name: manifest.name.clone() };
    feed::tell(&mut write, &change).await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

pub(super) async fn read<D: Driver>(
    catalog: &SqlCatalog<D>,
    owner: &OwnerId,
    name: &PolicyName,
) -> Result<Option<Bytes>, CatalogError> {
    let row = catalog
        .reader()
        .await?
        .first(
            "SELECT envelope FROM policies WHERE owner = $1 AND name = $2",
            &[(&owner.0).into(), name.as_str().into()],
        )
        .await?;
    row.map(|row| Ok(Bytes::copy_from_slice(row.bytes(0)?))).transpose()
}

pub(super) async fn put_blob<D: Driver>(
    catalog: &SqlCatalog<D>,
    id: &BlobId,
    blob: &Bytes,
) -> Result<(), CatalogError> {
    let statement = "INSERT INTO blobs (blob, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    catalog.writer().await?.run(statement, &[(&id.0).into(), blob[..].into()]).await?;
    Ok(())
}

pub(super) async fn read_blob<D: Driver>(catalog: &SqlCatalog<D>, id: &BlobId) -> Result<Option<Bytes>, CatalogError> {
    let statement = "SELECT bytes FROM blobs WHERE blob = $1";
    let row = catalog.reader().await?.first(statement, &[(&id.0).into()]).await?;
    row.map(|row| Ok(Bytes::copy_from_slice(row.bytes(0)?))).transpose()
}
