//! Puts what lies on an origin's disk back into the catalog: after the catalog was lost, or replaced by an older copy.
//!
//! A disk has the shards and copies of their records, whose leases their owners signed. Filing a copy is what a twin
//! does when it uploads, so the rules are the same: the highest version wins whatever comes first, and what was erased
//! stays so. What merely ended does not: another disk may have the lease that the owner renewed in time, so leases end
//! after all disks were read.
//!
//! Of two copies of other owners or objects the older one counts: a locator is no secret, and whoever knows one may
//! have filed something of their own while the owner's record was missing. Of two with other sealed manifests the first
//! is filed, as nobody can tell here which is the damaged one. All stay on their disks: whoever has the name asks one
//! node after the other until a copy opens. Running it twice, or over a catalog that lacks nothing, changes nothing but
//! the numbers of the feed. Policies lie on no disk of an origin: their owners publish them again.

use std::{collections::BTreeMap, sync::Arc};

use format::{Locator, NodeName};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::{
    catalog::{Applied, Catalog, CatalogError, OpenError, Refused, ShardRow},
    config::{Config, ConfigError},
    store::{HeldShard, RealDisk, ShardId, Store, StoreError},
};

/// Calls at once.
const CALLS: usize = 8;
/// Shards compared in one step.
const PAGE: usize = 1_000;
/// Leases ended in one step.
const EXPIRED: usize = 100;

/// What a rebuild found on one origin's disk and did about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rebuilt {
    /// Records that the catalog lacked or held in an older version.
    pub records_filed: u64,
    /// Records that it held already.
    pub records_known: u64,
    /// Copies that it refused: it holds a newer version, or knows that the object was erased.
    pub records_older: u64,
    /// Copies whose owners or manifests are others than those filed under their names, and no younger. One of the two
    /// is damaged or was forged.
    pub records_other: u64,
    /// Copies that cannot be read, do not verify, or lack what opens their objects; other origins have more.
    pub records_damaged: u64,
    /// Shards that the catalog did not know to be here.
    pub shards_filed: u64,
    /// Shards that it knew.
    pub shards_known: u64,
    /// Shards that it believed to be here, and that are not.
    pub shards_gone: u64,
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// What was done.
    pub done: Rebuilt,
    /// Copies of records on the disk; zero until they are counted.
    pub records: u64,
}

/// Why a rebuild stopped. What it did until then stays, and another run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The configuration cannot be used; the operator's to mend.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The data folder or the object store cannot be used, or the origin still runs on it; the operator's to mend.
    #[error("the origin's data folder or object store cannot be used")]
    Store(#[from] StoreError),
    /// The catalog cannot be opened; the operator's to mend.
    #[error("the catalog cannot be opened")]
    Open(#[from] OpenError),
    /// The catalog does not answer; run it again.
    #[error("the catalog does not take what is on the disk")]
    Catalog(#[from] CatalogError),
    /// A look at the disk did not come back; ours.
    #[error("a look at the disk did not come back")]
    Lost,
}

/// Rebuilds the catalog that a configuration names from the disk that it names. The origin must not run; others may.
/// After the last of them comes [`end_leases`].
///
/// # Errors
/// [`RebuildError`].
pub async fn rebuild(config: &Config) -> Result<Rebuilt, RebuildError> {
    rebuild_telling(config, |_| {}).await
}

/// The same, and calls `tell` after each record and each page of shards.
///
/// # Errors
/// [`RebuildError`].
pub async fn rebuild_telling(config: &Config, tell: impl Fn(&Progress) + Sync) -> Result<Rebuilt, RebuildError> {
    config.check_mounted()?;
    let (data_dir, bucket) = (config.data_dir.clone(), config.bucket()?);
    let open = move || Store::open(&data_dir, Arc::new(RealDisk))?.with_bucket(bucket);
    let store = Arc::new(off_reactor(open).await?);
    let catalog = config.catalog.open(config.limits.changes_kept).await?;
    // Before anything is filed: whoever followed the old feed starts anew instead of taking the new numbers for old
    // ones.
    catalog.restart_feed(&config.name).await?;
    let mut progress = Progress::default();
    file_records(&store, &*catalog, &mut progress, &tell).await?;
    file_shards(&store, &*catalog, &config.name, &mut progress, &tell).await?;
    let done = progress.done;
    // Only now may the origin start on this catalog.
    let id = catalog.identity().await?;
    off_reactor(move || store.put_catalog_note(&id)).await?;
    catalog.close().await;
    tracing::info!(node = %config.name, ?done, "the catalog has what is on this disk");
    Ok(done)
}

/// Ends the leases that are over in the catalog that a configuration names.
///
/// # Errors
/// [`RebuildError`].
pub async fn end_leases(config: &Config) -> Result<(), RebuildError> {
    let catalog = config.catalog.open(config.limits.changes_kept).await?;
    // A lease that ended by itself has the same text as before: the disk cannot tell, the clock can.
    let now = catalog.now().await?;
    while catalog.expire(now, EXPIRED).await? == EXPIRED as u64 {}
    catalog.close().await;
    Ok(())
}

async fn file_records(
    store: &Arc<Store>,
    catalog: &dyn Catalog,
    progress: &mut Progress,
    tell: &(impl Fn(&Progress) + Sync),
) -> Result<(), RebuildError> {
    let held = store.clone();
    let locators = off_reactor(move || held.records()).await?;
    progress.records = locators.len() as u64;
    tracing::info!(records = locators.len(), "filing copies of records");
    let mut filed = stream::iter(locators).map(|locator| file_record(store, catalog, locator)).buffer_unordered(CALLS);
    while let Some(outcome) = filed.try_next().await? {
        let done = &mut progress.done;
        *match outcome {
            Outcome::Filed => &mut done.records_filed,
            Outcome::Known => &mut done.records_known,
            Outcome::Older => &mut done.records_older,
            Outcome::Other => &mut done.records_other,
            Outcome::Damaged => &mut done.records_damaged,
        } += 1;
        tell(progress);
    }
    Ok(())
}

enum Outcome {
    Filed,
    Known,
    Older,
    Other,
    Damaged,
}

async fn file_record(store: &Arc<Store>, catalog: &dyn Catalog, locator: Locator) -> Result<Outcome, RebuildError> {
    let held = store.clone();
    let (record, since) = match off_reactor(move || held.filed_record(&locator)).await {
        Ok(Some(found)) => found,
        // Nothing removes copies; a name that is no file any more is as one that does not read.
        Ok(None) => return Ok(left_out(&locator)),
        Err(RebuildError::Store(error)) if error.is_of_one_file() => return Ok(left_out(&locator)),
        Err(error) => return Err(error),
    };
    Ok(match catalog.restore_record(&record, since).await {
        Ok(Applied::Stored) => Outcome::Filed,
        Ok(Applied::Unchanged) => Outcome::Known,
        Err(CatalogError::Refused(refused @ Refused::NoManifest)) => {
            tracing::warn!(%locator, %refused, "the copy of a record is left out");
            Outcome::Damaged
        }
        Err(CatalogError::Refused(
            refused @ (Refused::OtherOwner { .. } | Refused::OtherObject { .. } | Refused::OtherManifest),
        )) => {
            tracing::warn!(%locator, %refused, "of two copies of a record one is damaged or was forged");
            Outcome::Other
        }
        Err(CatalogError::Refused(refused)) => {
            tracing::debug!(%locator, %refused, "the catalog knows better");
            Outcome::Older
        }
        Err(error) => return Err(error.into()),
    })
}

fn left_out(locator: &Locator) -> Outcome {
    tracing::warn!(%locator, "the copy of a record cannot be read or does not verify, and is left out");
    Outcome::Damaged
}

/// Brings the catalog's rows of this node in line with its disk, a window of names at a time.
async fn file_shards(
    store: &Arc<Store>,
    catalog: &dyn Catalog,
    node: &NodeName,
    progress: &mut Progress,
    tell: &(impl Fn(&Progress) + Sync),
) -> Result<(), RebuildError> {
    let mut after: Option<ShardId> = None;
    loop {
        let held = store.clone();
        let held = off_reactor(move || held.shards(after.as_ref(), PAGE)).await?;
        let rows = catalog.shards_on(node, after.map(|after| (after.object, after.column)), PAGE).await?;
        let window = Window::of(&held, &rows, PAGE);
        let done = &mut progress.done;
        done.shards_known += window.known;
        done.shards_filed += window.missing.len() as u64;
        done.shards_gone += window.gone.len() as u64;
        let place = |HeldShard { shard: ShardId { object, column }, bytes }| async move {
            catalog.place_shard(&ShardRow { node: node.clone(), object, column, bytes }).await
        };
        stream::iter(window.missing).map(place).buffer_unordered(CALLS).try_collect::<()>().await?;
        for row in &window.gone {
            catalog.lose_shard(row).await?;
        }
        tell(progress);
        match window.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// What disk and catalog say of one stretch of names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Window {
    /// Both have them.
    known: u64,
    /// On the disk alone.
    missing: Vec<HeldShard>,
    /// In the catalog alone.
    gone: Vec<ShardRow>,
    /// Where the next stretch begins; none when both ended.
    next: Option<ShardId>,
}

impl Window {
    /// Compares two pages in order, each of at most `page` entries after the same name: as far as both reach.
    fn of(held: &[HeldShard], rows: &[ShardRow], page: usize) -> Self {
        let name = |row: &ShardRow| ShardId { object: row.object, column: row.column };
        let ends = [
            held.last().map(|held| held.shard).filter(|_| held.len() == page),
            rows.last().map(name).filter(|_| rows.len() == page),
        ];
        let next = ends.into_iter().flatten().min();
        let is_inside = |shard: &ShardId| next.is_none_or(|next| *shard <= next);
        let mut rows: BTreeMap<ShardId, &ShardRow> =
            rows.iter().map(|row| (name(row), row)).filter(|(shard, _)| is_inside(shard)).collect();
        let mut window = Self { next, ..Self::default() };
        for held in held.iter().filter(|held| is_inside(&held.shard)) {
            match rows.remove(&held.shard) {
                Some(row) if row.bytes == held.bytes => window.known += 1,
                // Also a row of another length, which the disk overrules.
                _ => window.missing.push(*held),
            }
        }
        window.gone = rows.into_values().cloned().collect();
        window
    }
}

async fn off_reactor<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, RebuildError> {
    Ok(client::offload(look).await.map_err(|_| RebuildError::Lost)??)
}

#[cfg(test)]
mod tests {
    use format::ObjectId;

    use super::*;

    fn held(object: u8, column: usize) -> HeldShard {
        HeldShard { shard: ShardId { object: ObjectId([object; 32]), column }, bytes: 10 }
    }

    fn row(object: u8, column: usize) -> ShardRow {
        ShardRow { node: "o1".parse().unwrap(), object: ObjectId([object; 32]), column, bytes: 10 }
    }

    #[test]
    fn a_window_ends_where_the_shorter_page_ends() {
        let (disk, rows) = ([held(1, 0), held(1, 2), held(4, 0)], [row(1, 0), row(1, 1), row(2, 0), row(3, 0)]);
        let all = Window::of(&disk, &rows, 9);
        assert_eq!((all.known, all.next), (1, None));
        assert_eq!((all.missing, all.gone), (disk[1..].to_vec(), rows[1..].to_vec()));
        // Both pages are full: the disk's ends at (4, 0), the catalog's at (2, 0).
        let cut = Window::of(&disk, &rows[..3], 3);
        assert_eq!((cut.known, cut.next), (1, Some(ShardId { object: ObjectId([2; 32]), column: 0 })));
        assert_eq!((cut.missing, cut.gone), (vec![disk[1]], rows[1..3].to_vec()));
        assert_eq!(Window::of(&[], &[], 3), Window::default());
        // A row of another length is written again.
        let longer = HeldShard { bytes: 11, ..held(1, 0) };
        assert_eq!(Window::of(&[longer], &rows[..1], 9), Window { missing: vec![longer], ..Window::default() });
    }
}
