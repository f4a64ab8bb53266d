//! What the SQL engines have in common, which is nearly all: tables of the same names, and statements written once.
//!
//! A statement is plain SQL that both engines understand, with `$1` for its arguments. An engine is a [`Driver`]: how
//! its transactions begin and how it keeps writers apart. Two words of a statement are not everybody's, and the drivers
//! see to them: `unixepoch()` and `unixepoch_ms()`, the database's clock, and `FOR UPDATE`, also with `SKIP LOCKED`.
//!
//! Every call has a deadline. Methods are cancel safe: a dropped transaction rolls back.

mod driver;
mod expiry;
mod feed;
mod group;
mod late;
mod look;
mod nodes;
mod notes;
mod objects;
#[cfg(test)]
mod plans;
mod policies;
mod purges;
mod records;
mod refused;
mod repairs;
mod session;
mod shards;
mod tickets;
mod wide;
mod works;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Lease, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyManifest, PolicyName, Purge, Record,
    wire::{ChangePage, NodeEntry, Note, Obstacle, Ticket},
};
use sqlx::{Database, Pool};

pub(super) use self::{
    driver::{Arg, Cells, Driver, driver},
    group::Group,
    late::Late,
    session::Session,
    wide::{Wide, each},
};
use super::{
    Abandoned, Applied, Catalog, CatalogError, CatalogId, DeadRepair, Filed, ObjectPage, ObjectRow, Repair, RepairAsk,
    RepairEnd, RepairQueue, Revival, ShardRow, ShardTotals,
};

/// A catalog in an SQL database.
pub struct SqlCatalog<D: Database> {
    pub(super) writers: Pool<D>,
    pub(super) readers: Pool<D>,
    /// Newest changes that the feed keeps.
    pub(super) changes_kept: u32,
    /// None: the engine's own.
    pub(super) clock: Option<Clock>,
    /// Writes that wait for a transaction.
    pub(super) group: Group,
    /// What is to be done before the first call; none where the opening did it.
    pub(super) late: Option<Late>,
}

/// Tells the time since 1970 in the engine's stead.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Reads a 32-byte identifier back.
fn id(bytes: &[u8], table: &'static str) -> Result<[u8; 32], CatalogError> {
    bytes.try_into().map_err(|_| CatalogError::Damaged { table })
}

/// Reads a number back that was stored from a smaller or an unsigned one.
fn number<T: TryFrom<i64>>(number: i64, table: &'static str) -> Result<T, CatalogError> {
    T::try_from(number).map_err(|_| CatalogError::Damaged { table })
}

/// Reads a name back.
fn parse<T: std::str::FromStr>(text: &str, table: &'static str) -> Result<T, CatalogError> {
    text.parse().map_err(|_| CatalogError::Damaged { table })
}

/// Stores what may be anything: above 2^63 a bound is as good as none.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Stores a length of time as milliseconds.
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2).min(i64::MAX / 2)
}

#[async_trait]
impl<D: Driver> Catalog for SqlCatalog<D> {
    async fn put_record(&self, record: &Record) -> Result<Applied, CatalogError> {
        records::put(self, record).await
    }

    async fn restore_record(&self, record: &Record, since: u64) -> Result<Applied, CatalogError> {
        records::restore(self, record, since).await
    }

    async fn put_lease(&self, lease: &Lease, envelope: &Bytes) -> Result<Applied, CatalogError> {
        records::put_lease(self, lease, envelope).await
    }

    async fn move_columns(&self, locator: &Locator, placement: &[Option<NodeName>]) -> Result<Applied, CatalogError> {
        records::move_columns(self, locator, placement).await
    }

    async fn filed(&self, locator: &Locator) -> Result<Option<Filed>, CatalogError> {
        records::read(self, locator).await
    }

    async fn locators(
        &self,
        owner: Option<&OwnerId>,
        after: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Locator>, CatalogError> {
        records::list(self, owner, after, limit).await
    }

    async fn expire(&self, now: u64, limit: usize) -> Result<u64, CatalogError> {
        expiry::expire(self, now, limit).await
    }

    async fn object(&self, object: &ObjectId) -> Result<Option<ObjectRow>, CatalogError> {
        objects::read(self, object).await
    }

    async fn objects(&self, after: Option<&ObjectId>, limit: usize) -> Result<ObjectPage, CatalogError> {
        objects::page(self, after, limit).await
    }

    async fn objects_on(
        &self,
        node: &NodeName,
        after: Option<&ObjectId>,
        limit: usize,
    ) -> Result<ObjectPage, CatalogError> {
        objects::page_on(self, node, after, limit).await
    }

    async fn place_shard(&self, shard: &ShardRow) -> Result<(), CatalogError> {
        shards::place(self, shard).await
    }

    async fn forget_shard(&self, shard: &ShardRow, before: u64) -> Result<(), CatalogError> {
        shards::forget(self, shard, before).await
    }

    async fn lose_shard(&self, shard: &ShardRow) -> Result<(), CatalogError> {
        shards::lose(self, shard).await
    }

    async fn dead_shards(
        &self,
        node: &NodeName,
        before: u64,
        after: Option<(ObjectId, usize)>,
        limit: usize,
    ) -> Result<Vec<ShardRow>, CatalogError> {
        shards::dead(self, node, before, after, limit).await
    }

    async fn abandon_shards(
        &self,
        before: u64,
        silent: u64,
        after: Option<&ObjectId>,
        limit: usize,
    ) -> Result<Abandoned, CatalogError> {
        shards::abandon(self, before, silent, after, limit).await
    }

    async fn fold(&self) -> Result<(), CatalogError> {
        shards::fold(self).await
    }

    async fn shards_on(
        &self,
        node: &NodeName,
        after: Option<(ObjectId, usize)>,
        limit: usize,
    ) -> Result<Vec<ShardRow>, CatalogError> {
        shards::list(self, node, after, limit).await
    }

    async fn shard_totals(&self, node: &NodeName) -> Result<ShardTotals, CatalogError> {
        shards::totals(self, node).await
    }

    async fn queue_repair(&self, repair: &RepairAsk) -> Result<Applied, CatalogError> {
        repairs::queue(self, repair).await
    }

    async fn take_repair(&self, holder: &NodeName, hold: Duration) -> Result<Option<Repair>, CatalogError> {
        repairs::take(self, holder, hold).await
    }

    async fn keep_repair(&self, object: &ObjectId, holder: &NodeName, hold: Duration) -> Result<bool, CatalogError> {
        repairs::keep(self, object, holder, hold).await
    }

    async fn end_repair(&self, object: &ObjectId, holder: &NodeName, end: &RepairEnd) -> Result<(), CatalogError> {
        repairs::end(self, object, holder, end).await
    }

    async fn repair_queue(&self) -> Result<RepairQueue, CatalogError> {
        repairs::count(self).await
    }

    async fn dead_repairs(&self, limit: usize) -> Result<Vec<DeadRepair>, CatalogError> {
        repairs::dead(self, limit).await
    }

    async fn dead_repair(&self, object: &ObjectId) -> Result<Option<DeadRepair>, CatalogError> {
        repairs::dead_of(self, object).await
    }

    async fn repair_obstacles(&self, limit: usize) -> Result<Vec<Obstacle>, CatalogError> {
        repairs::obstacles(self, limit).await
    }

    async fn revive_repairs(&self, by: Revival<'_>) -> Result<u64, CatalogError> {
        repairs::revive(self, by).await
    }

    async fn report(&self, reader: &NodeName, ticket: &Ticket) -> Result<Applied, CatalogError> {
        tickets::report(self, reader, ticket).await
    }

    async fn take_tickets(&self, holder: &NodeName, hold: Duration, limit: usize) -> Result<Vec<Ticket>, CatalogError> {
        tickets::take(self, holder, hold, limit).await
    }

    async fn end_ticket(&self, ticket: &Ticket) -> Result<(), CatalogError> {
        tickets::end(self, ticket).await
    }

    async fn take_work(&self, name: &str, holder: &NodeName, hold: Duration) -> Result<Option<Bytes>, CatalogError> {
        works::take(self, name, holder, hold).await
    }

    async fn keep_work(
        &self,
        name: &str,
        holder: &NodeName,
        hold: Duration,
        cursor: &[u8],
    ) -> Result<bool, CatalogError> {
        works::keep(self, name, holder, hold, cursor).await
    }

    async fn put_policy(&self, manifest: &PolicyManifest, envelope: &Bytes) -> Result<Applied, CatalogError> {
        policies::put(self, manifest, envelope).await
    }

    async fn policy(&self, owner: &OwnerId, name: &PolicyName) -> Result<Option<Bytes>, CatalogError> {
        policies::read(self, owner, name).await
    }

    async fn tell_purge(&self, purge: &Purge) -> Result<Applied, CatalogError> {
        purges::tell(self, purge).await
    }

    async fn put_blob(&self, id: &BlobId, blob: &Bytes) -> Result<(), CatalogError> {
        policies::put_blob(self, id, blob).await
    }

    async fn blob(&self, id: &BlobId) -> Result<Option<Bytes>, CatalogError> {
        policies::read_blob(self, id).await
    }

    async fn put_note(&self, id: &NoteId, note: &Note) -> Result<(), CatalogError> {
        notes::put(self, id, note).await
    }

    async fn note(&self, id: &NoteId) -> Result<Option<Note>, CatalogError> {
        notes::read(self, id).await
    }

    async fn put_refused(&self, number: u64, list: &Bytes) -> Result<(), CatalogError> {
        refused::put(self, number, list).await
    }

    async fn refused(&self) -> Result<Option<Bytes>, CatalogError> {
        refused::read(self).await
    }

    async fn announce(&self, entry: &NodeEntry) -> Result<Applied, CatalogError> {
        nodes::announce(self, entry).await
    }

    async fn forget_edges(&self, silent: u64) -> Result<u64, CatalogError> {
        nodes::forget_edges(self, silent).await
    }

    async fn nodes(&self) -> Result<Vec<NodeEntry>, CatalogError> {
        nodes::list(self).await
    }

    async fn changes(&self, since: u64, limit: usize) -> Result<ChangePage, CatalogError> {
        feed::page(self, since, limit).await
    }

    async fn newest_change(&self) -> Result<u64, CatalogError> {
        feed::newest(self).await
    }

    async fn restart_feed(&self, node: &NodeName) -> Result<(), CatalogError> {
        feed::restart(self, node).await
    }

    async fn identity(&self) -> Result<CatalogId, CatalogError> {
        let row = self.reader().await?.one("SELECT id FROM identity", &[]).await?;
        Ok(CatalogId(row.bytes(0)?.try_into().map_err(|_| CatalogError::Damaged { table: "identity" })?))
    }

    async fn now(&self) -> Result<u64, CatalogError> {
        let row = self.reader().await?.one("SELECT unixepoch()", &[]).await?;
        number(row.number(0)?, "clock")
    }

    async fn purge(&self) -> Result<(), CatalogError> {
        let Some(statement) = D::PURGE else { return Ok(()) };
        self.writer().await?.run(statement, &[]).await?;
        Ok(())
    }

    async fn close(&self) {
        // The writers last: of SQLite the last connection to close folds the log into the file, which a reader may not.
        self.readers.close().await;
        self.writers.close().await;
    }
}
