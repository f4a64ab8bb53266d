//! Living objects in order of their ids, as scans and repairs see them: manifest, lease and shards put together.

use bytes::Bytes;
use format::{Lease, Locator, NodeName, ObjectId, PublicManifest};

use super::{Arg, Cells, Driver, Session, SqlCatalog, id, number, parse, records::after_id, signed};
use crate::catalog::{
    CatalogError, ObjectPage, ObjectRow,
    work::{LOCATORS_MAX, OBJECTS_MAX, PAGE_BYTES_MAX},
};

const TABLE: &str = "records";

pub(super) async fn read<D: Driver>(
    catalog: &SqlCatalog<D>,
    object: &ObjectId,
) -> Result<Option<ObjectRow>, CatalogError> {
    let mut read = catalog.snapshot().await?;
    match find(&mut read, object).await? {
        Some(found) => Ok(Some(found.open()?)),
        None => Ok(None),
    }
}

/// Living objects that have shards: small ones lie in their manifests and have no columns to place.
pub(super) async fn page<D: Driver>(
    catalog: &SqlCatalog<D>,
    after: Option<&ObjectId>,
    limit: usize,
) -> Result<ObjectPage, CatalogError> {
    let statement = "SELECT DISTINCT object FROM records
        WHERE object > $1 AND erased_at IS NULL AND placement <> '[]' ORDER BY object LIMIT $2";
    collect(catalog, statement, &[after_id(after.map(|after| &after.0))], limit).await
}

pub(super) async fn page_on<D: Driver>(
    catalog: &SqlCatalog<D>,
    node: &NodeName,
    after: Option<&ObjectId>,
    limit: usize,
) -> Result<ObjectPage, CatalogError> {
    let statement = "SELECT DISTINCT object FROM shards
        WHERE node = $2 AND object > $1
          AND EXISTS (SELECT 1 FROM records r WHERE r.object = shards.object AND r.erased_at IS NULL)
        ORDER BY object LIMIT $3";
    collect(catalog, statement, &[after_id(after.map(|after| &after.0)), node.as_str().into()], limit).await
}

/// Puts the objects together whose ids a statement returns; its last argument is how many.
async fn collect<D: Driver>(
    catalog: &SqlCatalog<D>,
    statement: &'static str,
    args: &[Arg<'_>],
    limit: usize,
) -> Result<ObjectPage, CatalogError> {
    let limit = limit.clamp(1, OBJECTS_MAX);
    let mut read = catalog.snapshot().await?;
    let args: Vec<_> = args.iter().copied().chain([signed(limit as u64).into()]).collect();
    let rows = read.all(statement, &args).await?;
    let (mut found, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    let mut last = None;
    for row in &rows {
        let object = ObjectId(id(row.bytes(0)?, TABLE)?);
        match find(&mut read, &object).await {
            Ok(one) => found.extend(one),
            Err(error @ CatalogError::Damaged { .. }) => left_out(&object, &error),
            Err(error) => return Err(error),
        }
        last = Some(object);
        bytes += found.last().map_or(0, |one: &Found| one.public.len() + one.lease.len());
        if bytes > PAGE_BYTES_MAX {
            break;
        }
    }
    let next = last.filter(|_| bytes > PAGE_BYTES_MAX || rows.len() == limit);
    drop(read);
    // Verifying the leases of a page takes tens of milliseconds.
    let objects = client::offload(move || found.into_iter().filter_map(Found::open_or_log).collect());
    let objects = objects.await.map_err(|_| CatalogError::Damaged { table: TABLE })?;
    Ok(ObjectPage { objects, next })
}

/// An object as its rows have it, not verified yet.
struct Found {
    object: ObjectId,
    public: Bytes,
    lease: Bytes,
    locators: Vec<Locator>,
    shards: Vec<(usize, NodeName)>,
}

async fn find<D: Driver>(read: &mut Session<D>, object: &ObjectId) -> Result<Option<Found>, CatalogError> {
    let key = [Arg::from(&object.0)];
    // The manifest of one alone: with many locators of a large object all of them would be too much.
    let statement = "SELECT public, lease FROM records WHERE object = $1 AND erased_at IS NULL
        ORDER BY lease_version DESC, locator LIMIT 1";
    let Some(row) = read.first(statement, &key).await? else { return Ok(None) };
    let statement = "SELECT locator FROM records WHERE object = $1 AND erased_at IS NULL
        ORDER BY lease_version DESC, locator LIMIT $2";
    let locators = read.all(statement, &[key[0], signed(LOCATORS_MAX as u64).into()]).await?;
    let statement = "SELECT shard_column, node FROM shards WHERE object = $1
        ORDER BY shard_column, committed_at DESC, node";
    let shards = read.all(statement, &key).await?;
    Ok(Some(Found {
        object: *object,
        public: Bytes::copy_from_slice(row.bytes(0)?),
        lease: Bytes::copy_from_slice(row.bytes(1)?),
        locators: locators
            .iter()
            .map(|row| Ok(Locator(id(row.bytes(0)?, TABLE)?)))
            .collect::<Result<_, CatalogError>>()?,
        shards: shards
            .iter()
            .map(|row| Ok((number(row.number(0)?, "shards")?, parse(row.text(1)?, "shards")?)))
            .collect::<Result<_, CatalogError>>()?,
    }))
}

impl Found {
    fn open(self) -> Result<ObjectRow, CatalogError> {
        let damaged = || CatalogError::Damaged { table: TABLE };
        let public = PublicManifest::decode(self.public).map_err(|_| damaged())?;
        let lease = Lease::open(&self.lease).map_err(|_| damaged())?;
        if public.id() != self.object || lease.owner != public.owner() {
            return Err(damaged());
        }
        // Of several records of one object each wants its own parity, and only one of their leases is here: then all of
        // it stays.
        let public = if self.locators.len() == 1 { public.under(lease.profile) } else { public };
        Ok(ObjectRow { public, lease, locators: self.locators, shards: self.shards })
    }

    fn open_or_log(self) -> Option<ObjectRow> {
        let object = self.object;
        self.open().inspect_err(|error| left_out(&object, error)).ok()
    }
}

fn left_out(object: &ObjectId, error: &CatalogError) {
    tracing::error!(%object, %error, "an object is left out of a page");
}
