//! Records and leases as rows. The lease's version is compared and swapped in one statement inside one transaction.

use std::collections::BTreeSet;

use bytes::Bytes;
use format::{Lease, Locator, NodeName, ObjectId, OwnerId, PublicManifest, Record, Retention, wire::ChangeKind};

use super::{
    Arg, Cells, Driver, Session, SqlCatalog, feed,
    group::{self, Write},
    id, look, number, parse, repairs,
    session::{Alone, Single},
    shards, signed,
};
use crate::{
    catalog::{
        Applied, CatalogError, Filed,
        rule::{Held, Refused, Verdict, check_end, judge, judge_first, judge_record, storable},
    },
    leases,
};

const TABLE: &str = "records";

pub(super) async fn put<D: Driver>(catalog: &SqlCatalog<D>, record: &Record) -> Result<Applied, CatalogError> {
    group::write(catalog, Write::Record(Box::new(record.clone()))).await
}

pub(super) async fn put_lease<D: Driver>(
    catalog: &SqlCatalog<D>,
    lease: &Lease,
    envelope: &Bytes,
) -> Result<Applied, CatalogError> {
    group::write(catalog, Write::Lease(Box::new(lease.clone()), envelope.clone())).await
}

/// What the write of a record or lease changed.
pub(super) struct Written {
    /// What the feed is to tell.
    pub(super) change: ChangeKind,
    /// Objects with columns of which a record died or gave way. They are to be buried ([`bury`]).
    pub(super) died: BTreeSet<ObjectId>,
}

impl Written {
    fn of(locator: &Locator, verdict: Verdict, died: impl IntoIterator<Item = ObjectId>) -> Self {
        let (locator, is_end) = (*locator, verdict == Verdict::Erase);
        let change = if is_end { ChangeKind::Erased { locator } } else { ChangeKind::Record { locator } };
        Self { change, died: died.into_iter().collect() }
    }
}

/// Files a record that its owner sends, or one that lay on a disk `since` some second. Of one from a disk also a lease
/// that has ended is filed, and the end of leases takes it. `found` is what is held, and `now` the database's clock.
/// Returns what changed; nothing: all was so before. What is sent is refused before anything is written.
pub(super) async fn file<D: Driver>(
    write: &mut Session<D>,
    (found, now): (Option<&Held>, u64),
    record: &Record,
    since: Option<u64>,
) -> Result<Option<Written>, CatalogError> {
    let locator = record.locator();
    let died = |verdict| (verdict == Verdict::Erase && record.public.columns() > 0).then(|| record.public.id());
    let verdict = match found {
        None => judge_first(record, now)?,
        Some(held) => match judge_record(held, record, now) {
            Err(refused) if came_first(since, held, &refused) => {
                let verdict = judge_first(record, now)?;
                tracing::warn!(%locator, %refused, "who filed it later gives way to the copy on a disk");
                write.run("DELETE FROM records WHERE locator = $1", &[(&locator.0).into()]).await?;
                insert(write, record, verdict, since.unwrap_or(now)).await?;
                let gave_way = held.has_columns.then_some(held.object);
                return Ok(Some(Written::of(&locator, verdict, gave_way.into_iter().chain(died(verdict)))));
            }
            verdict => verdict?,
        },
    };
    if verdict == Verdict::Renew && since.is_none() {
        check_end(&record.lease, now)?;
    }
    let Some(held) = found else {
        insert(write, record, verdict, since.unwrap_or(now).min(now)).await?;
        return Ok(Some(Written::of(&locator, verdict, died(verdict))));
    };
    let fills = record.sealed.is_some() && held.sealed.as_deref() != record.sealed.as_deref();
    if verdict == Verdict::Same && !fills {
        return Ok(None);
    }
    if verdict != Verdict::Same {
        swap(write, &record.lease, &record.lease_envelope, verdict).await?;
    }
    if fills {
        let statement = "UPDATE records SET sealed = $1 WHERE locator = $2 AND erased_at IS NULL";
        write.run(statement, &[Arg::Bytes(record.sealed.as_deref()), (&locator.0).into()]).await?;
    }
    Ok(Some(Written::of(&locator, verdict, died(verdict))))
}

/// Whether a copy on a disk was there before the record of another owner or object that the catalog holds.
fn came_first(since: Option<u64>, held: &Held, refused: &Refused) -> bool {
    matches!(refused, Refused::OtherOwner { .. } | Refused::OtherObject { .. })
        && since.is_some_and(|since| since < held.filed_at)
}

pub(super) async fn restore<D: Driver>(
    catalog: &SqlCatalog<D>,
    record: &Record,
    since: u64,
) -> Result<Applied, CatalogError> {
    lower_filed(catalog, record, since).await?;
    // A lease that ended after it was filed is on the disks; what it ended stays known as that.
    let asked = Write::Record(Box::new(record.clone()));
    if look::known(&mut catalog.reader().await?, &[&asked]).await? == [true] {
        return Ok(Applied::Unchanged);
    }
    let mut write = catalog.write().await?;
    write.alone(Alone::Record(&record.locator().0)).await?;
    let (held, now) = look::held(&mut write, &[record.locator()]).await?;
    match file(&mut write, (held.get(&record.locator()), now), record, Some(since)).await {
        Ok(None) => Ok(Applied::Unchanged),
        Ok(Some(Written { change, died })) => {
            for object in &died {
                bury(&mut write, object, signed(now)).await?;
            }
            finish(write, &change).await
        }
        Err(CatalogError::Refused(Refused::Erased)) => {
            drop(write);
            revive(catalog, record).await
        }
        Err(error) => Err(error),
    }
}

/// Lets the earlier of two times of one record count, whichever disk is read first.
async fn lower_filed<D: Driver>(catalog: &SqlCatalog<D>, record: &Record, since: u64) -> Result<(), CatalogError> {
    let (locator, object, owner) = (record.locator(), record.public.id(), record.lease.owner);
    let args = [(&locator.0).into(), (&object.0).into(), (&owner.0).into(), signed(since).into()];
    let is_later = "SELECT 1 FROM records WHERE locator = $1 AND object = $2 AND owner = $3 AND filed_at > $4";
    if catalog.reader().await?.first(is_later, &args).await?.is_none() {
        return Ok(());
    }
    let lower = "UPDATE records SET filed_at = $4 WHERE locator = $1 AND object = $2 AND owner = $3 AND filed_at > $4";
    let mut write = catalog.write().await?;
    write.run(lower, &args).await?;
    write.commit().await
}

/// Brings back a record that died by the end of an earlier lease.
async fn revive<D: Driver>(catalog: &SqlCatalog<D>, record: &Record) -> Result<Applied, CatalogError> {
    let (lease, object) = (&record.lease, record.public.id());
    let held = read(catalog, &lease.locator).await?.map(|filed| filed.record).filter(|held| {
        // The owner of both is the one that the public manifest names.
        let is_of_it = object == held.public.id() && (record.public.is_name() || lease.manifest == held.lease.manifest);
        let is_later = is_of_it && lease.version > held.lease.version;
        is_later && !held.lease.erased && record.sealed.is_some()
    });
    let held = held.ok_or(Refused::Erased)?;
    let mut write = catalog.write().await?;
    write.alone(Alone::Record(&lease.locator.0)).await?;
    let statement = "UPDATE records
        SET lease = $1, lease_version = $2, keep_until = $3, ends_at = $4, sealed = $5, erased_at = NULL
        WHERE locator = $6 AND lease = $7 AND erased_at IS NOT NULL";
    let args = [
        record.lease_envelope[..].into(),
        storable(lease.version)?.into(),
        signed(lease.retention.keep_until).into(),
        end(&lease.retention).into(),
        Arg::Bytes(record.sealed.as_deref()),
        (&lease.locator.0).into(),
        held.lease_envelope[..].into(),
    ];
    if write.run(statement, &args).await? == 0 {
        return Err(Refused::Erased.into());
    }
    finish(write, &ChangeKind::Record { locator: lease.locator }).await
}

/// Notes where the columns of a living record lie now. Readers look it up again only when they hear of it.
pub(super) async fn move_columns<D: Driver>(
    catalog: &SqlCatalog<D>,
    locator: &Locator,
    placement: &[Option<NodeName>],
) -> Result<Applied, CatalogError> {
    let placement = encode_placement(placement)?;
    let mut write = catalog.write().await?;
    write.alone(Alone::Record(&locator.0)).await?;
    let statement = "UPDATE records SET placement = $1 WHERE locator = $2 AND placement <> $1 AND erased_at IS NULL";
    if write.run(statement, &[placement.as_str().into(), (&locator.0).into()]).await? == 0 {
        return Ok(Applied::Unchanged);
    }
    feed::tell(&mut write, &ChangeKind::Record { locator: *locator }).await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

/// Renews the lease of a filed record. Returns what changed; nothing: all was so before. What is refused is refused
/// before anything is written.
pub(super) async fn renew<D: Driver>(
    write: &mut Session<D>,
    (found, now): (Option<&Held>, u64),
    lease: &Lease,
    envelope: &Bytes,
) -> Result<Option<Written>, CatalogError> {
    let held = found.ok_or(Refused::NoRecord)?;
    let verdict = judge(held, lease, envelope, now)?;
    if verdict == Verdict::Same {
        return Ok(None);
    }
    if verdict == Verdict::Renew {
        check_end(lease, now)?;
    }
    swap(write, lease, envelope, verdict).await?;
    let died = (verdict == Verdict::Erase && held.has_columns).then_some(held.object);
    Ok(Some(Written::of(&lease.locator, verdict, died)))
}

/// Returns the second at which a lease ends by itself; zero for never.
pub(super) fn end(retention: &Retention) -> i64 {
    retention.end().map_or(0, signed)
}

async fn insert<D: Driver>(
    write: &mut Session<D>,
    record: &Record,
    verdict: Verdict,
    filed_at: u64,
) -> Result<(), CatalogError> {
    let (lease, placement) = (&record.lease, encode_placement(&record.placement)?);
    write
        .run(
            "INSERT INTO records
                 (locator, object, owner, public, sealed, lease, lease_version, keep_until, ends_at, placement, erased_at,
                  filed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $11 THEN unixepoch() END, $12)",
            &[
                (&lease.locator.0).into(),
                (&record.public.id().0).into(),
                (&lease.owner.0).into(),
                record.public.encoded()[..].into(),
                Arg::Bytes(record.sealed.as_deref()),
                record.lease_envelope[..].into(),
                storable(lease.version)?.into(),
                signed(lease.retention.keep_until).into(),
                end(&lease.retention).into(),
                placement.as_str().into(),
                (verdict == Verdict::Erase).into(),
                signed(filed_at).into(),
            ],
        )
        .await?;
    Ok(())
}

/// Compare and swap: the row changes only while its version is lower than the new one.
async fn swap<D: Driver>(
    write: &mut Session<D>,
    lease: &Lease,
    envelope: &Bytes,
    verdict: Verdict,
) -> Result<(), CatalogError> {
    let swapped = write
        .run(
            "UPDATE records SET lease = $1, lease_version = $2, keep_until = $3, ends_at = $4,
                 sealed = CASE WHEN $5 THEN NULL ELSE sealed END,
                 erased_at = CASE WHEN $5 THEN coalesce(erased_at, unixepoch()) ELSE erased_at END
             WHERE locator = $6 AND lease_version < $2",
            &[
                envelope[..].into(),
                storable(lease.version)?.into(),
                signed(lease.retention.keep_until).into(),
                end(&lease.retention).into(),
                (verdict == Verdict::Erase).into(),
                (&lease.locator.0).into(),
            ],
        )
        .await?;
    if swapped == 1 { Ok(()) } else { Err(Refused::Older { held: lease.version, asked: lease.version }.into()) }
}

async fn finish<D: Driver>(mut write: Session<D>, change: &ChangeKind) -> Result<Applied, CatalogError> {
    feed::tell(&mut write, change).await?;
    write.commit().await?;
    Ok(Applied::Stored)
}

/// Writes what follows from the death of a record whose object has columns, in the transaction that brings it. One that
/// lies inline is never repaired, and no node has a shard of it with which its row among the dead would go. It died at
/// the second `since`.
///
/// Several records have one object, so nothing keeps others from these rows but the rows' own locks: whoever buries
/// several does it in the order of the objects, and after all else but the feed, so that none wait in a circle.
pub(super) async fn bury<D: Driver>(write: &mut Session<D>, object: &ObjectId, since: i64) -> Result<(), CatalogError> {
    // Of two that erase the last two records at once, the second waits here and then sees what the first did.
    shards::died(write, object, since).await?;
    repairs::forget_erased(write, object).await
}

pub(super) async fn read<D: Driver>(catalog: &SqlCatalog<D>, locator: &Locator) -> Result<Option<Filed>, CatalogError> {
    let damaged = || CatalogError::Damaged { table: TABLE };
    let mut read = catalog.reader().await?;
    let statement = "SELECT public, sealed, lease, placement, object, erased_at,
            (SELECT coalesce(max(sequence), 0) FROM changes), filed_at
        FROM records WHERE locator = $1";
    let Some(row) = read.first(statement, &[(&locator.0).into()]).await? else { return Ok(None) };
    let mut placement: Vec<Option<NodeName>> = serde_json::from_str(row.text(3)?).map_err(|_| damaged())?;
    // Objects that lie inline have none. Later than the row, so the record shows the change that was read with it, and
    // maybe more; the other way round it would lack what it says it shows.
    if !placement.is_empty() {
        correct(&mut read, row.bytes(4)?, &mut placement).await?;
    }
    drop(read);
    let public = PublicManifest::decode(Bytes::copy_from_slice(row.bytes(0)?)).map_err(|_| damaged())?;
    let sealed = row.maybe_bytes(1)?.map(Bytes::copy_from_slice);
    let is_dead = row.maybe_number(5)?.is_some();
    if public.id().0[..] != *row.bytes(4)? || (sealed.is_none() && !is_dead) {
        return Err(damaged());
    }
    let envelope = Bytes::copy_from_slice(row.bytes(2)?);
    let lease = leases::open(&envelope).map_err(|_| damaged())?;
    let record = Record::of_verified(public, sealed, (lease, envelope), placement).map_err(|_| damaged())?;
    let (sequence, filed_at) = (number(row.number(6)?, TABLE)?, number(row.number(7)?, TABLE)?);
    Ok(Some(Filed { record, sequence, filed_at }))
}

/// Corrects where the columns of an object are by the rows of its shards.
async fn correct<D: Driver>(
    read: &mut Single<D>,
    object: &[u8],
    placement: &mut [Option<NodeName>],
) -> Result<(), CatalogError> {
    let statement = "SELECT shard_column, node FROM shards WHERE object = $1 ORDER BY shard_column, node";
    let mut known: Vec<Vec<NodeName>> = vec![Vec::new(); placement.len()];
    for shard in read.all(statement, &[object.into()]).await? {
        let column: usize = number(shard.number(0)?, TABLE)?;
        if let Some(nodes) = known.get_mut(column) {
            nodes.push(parse(shard.text(1)?, TABLE)?);
        }
    }
    for (hint, nodes) in placement.iter_mut().zip(known) {
        if hint.as_ref().is_none_or(|hint| !nodes.contains(hint)) {
            *hint = nodes.into_iter().next().or_else(|| hint.take());
        }
    }
    Ok(())
}

pub(super) async fn list<D: Driver>(
    catalog: &SqlCatalog<D>,
    owner: Option<&OwnerId>,
    after: Option<&Locator>,
    limit: usize,
) -> Result<Vec<Locator>, CatalogError> {
    let (after, limit) = (after_id(after.map(|after| &after.0)), signed(limit as u64).into());
    let mut reader = catalog.reader().await?;
    let rows = match owner {
        Some(owner) => {
            let statement = "SELECT locator FROM records
                             WHERE locator > $1 AND erased_at IS NULL AND owner = $3 ORDER BY locator LIMIT $2";
            reader.all(statement, &[after, limit, (&owner.0).into()]).await?
        }
        None => {
            let statement =
                "SELECT locator FROM records WHERE locator > $1 AND erased_at IS NULL ORDER BY locator LIMIT $2";
            reader.all(statement, &[after, limit]).await?
        }
    };
    rows.iter().map(|row| Ok(Locator(id(row.bytes(0)?, TABLE)?))).collect()
}

/// What a page begins after: nothing sorts before the empty string.
pub(super) fn after_id(after: Option<&[u8; 32]>) -> Arg<'_> {
    Arg::Bytes(Some(after.map_or(&[][..], |after| &after[..])))
}

fn encode_placement(placement: &[Option<NodeName>]) -> Result<String, CatalogError> {
    serde_json::to_string(placement).map_err(|_| CatalogError::Damaged { table: TABLE })
}
