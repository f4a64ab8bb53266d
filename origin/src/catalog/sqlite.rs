//! The embedded engine: one SQLite file, shared by the origins of one machine.
//!
//! WAL, so that readers never wait for the writer; `synchronous=FULL`, so that a commit survives power loss; every write
//! starts with `BEGIN IMMEDIATE`, so that what it read is what it overwrites, whichever process came first. One connection
//! writes and a few read. Methods are cancel safe: a dropped transaction rolls back.

mod feed;
mod nodes;
mod policies;
mod records;
mod shards;

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Lease, Locator, NodeName, OwnerId, PolicyManifest, PolicyName, Record,
    wire::{ChangePage, NodeEntry},
};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Applied, Catalog, CatalogError, ShardRow, ShardTotals};

/// Longest wait for another process that writes, and for a free connection.
const BUSY: Duration = Duration::from_secs(5);
/// Longest wait for another process that migrates the file.
const MIGRATION: Duration = Duration::from_secs(30);
/// Connections that read; more than cores only queue inside SQLite.
const READERS: u32 = 4;

/// Why a catalog file cannot be opened. The operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The lock beside the file cannot be had.
    #[error(
        "the lock {path} beside the catalog cannot be taken; is its folder writable, does another program hold it?"
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause; none when another process held it for too long.
        source: Option<std::io::Error>,
    },
    /// The file is no catalog, or cannot be opened.
    #[error("the catalog file cannot be opened")]
    Engine(#[from] sqlx::Error),
    /// The schema is not one this program can bring up to date: it was written by a newer one, or edited.
    #[error("the catalog's schema does not fit this program")]
    Migration(#[from] MigrateError),
}

/// A catalog in one SQLite file.
pub struct SqliteCatalog {
    writer: SqlitePool,
    readers: SqlitePool,
    changes_kept: u32,
}

impl SqliteCatalog {
    /// Opens or creates the file and brings its schema up to date. The feed keeps the newest `changes_kept` changes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(path: &Path, changes_kept: u32) -> Result<Self, OpenError> {
        // SQLite cannot serialise "is the schema there?" and "make it" for us: two processes that start together would both try.
        let _migrating = lock(path).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            // A destroyed manifest is overwritten with zeros, not merely unlinked from its page.
            .pragma("secure_delete", "ON");
        let pool = || SqlitePoolOptions::new().acquire_timeout(BUSY).idle_timeout(None).max_lifetime(None);
        let writer = pool().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("./migrations").run(&writer).await?;
        let readers = pool().max_connections(READERS).connect_with(options.pragma("query_only", "ON")).await?;
        Ok(Self { writer, readers, changes_kept })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Takes the lock beside the file; it opens again when the returned file is dropped, also by a crash.
async fn lock(path: &Path) -> Result<File, OpenError> {
    let path = path.with_extension("lock");
    let failed = |source| OpenError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(Some(e)))?;
    let deadline = tokio::time::Instant::now() + MIGRATION;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(Some(source))),
            Err(std::fs::TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(failed(None)),
        }
    }
}

/// Reads a 32-byte identifier back.
fn id(bytes: &[u8], table: &'static str) -> Result<[u8; 32], CatalogError> {
    bytes.try_into().map_err(|_| CatalogError::Damaged { table })
}

/// Reads a number back that was stored from an unsigned one.
fn unsigned(number: i64, table: &'static str) -> Result<u64, CatalogError> {
    u64::try_from(number).map_err(|_| CatalogError::Damaged { table })
}

/// Stores what may be anything: above 2^63 a bound is as good as none.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn put_record(&self, record: &Record) -> Result<Applied, CatalogError> {
        records::put(self, record).await
    }

    async fn put_lease(&self, lease: &Lease, envelope: &Bytes) -> Result<Applied, CatalogError> {
        records::renew(self, lease, envelope).await
    }

    async fn record(&self, locator: &Locator) -> Result<Option<Record>, CatalogError> {
        records::read(self, locator).await
    }

    async fn locators(
        &self,
        owner: &OwnerId,
        after: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Locator>, CatalogError> {
        records::list(self, owner, after, limit).await
    }

    async fn place_shard(&self, shard: &ShardRow) -> Result<(), CatalogError> {
        shards::place(self, shard).await
    }

    async fn forget_shard(&self, shard: &ShardRow, grace: Duration) -> Result<(), CatalogError> {
        shards::forget(self, shard, grace).await
    }

    async fn dead_shards(&self, node: &NodeName, grace: Duration, limit: usize) -> Result<Vec<ShardRow>, CatalogError> {
        shards::dead(self, node, grace, limit).await
    }

    async fn shard_totals(&self, node: &NodeName) -> Result<ShardTotals, CatalogError> {
        shards::totals(self, node).await
    }

    async fn put_policy(&self, manifest: &PolicyManifest, envelope: &Bytes) -> Result<Applied, CatalogError> {
        policies::put(self, manifest, envelope).await
    }

    async fn policy(&self, owner: &OwnerId, name: &PolicyName) -> Result<Option<Bytes>, CatalogError> {
        policies::read(self, owner, name).await
    }

    async fn put_blob(&self, id: &BlobId, blob: &Bytes) -> Result<(), CatalogError> {
        policies::put_blob(self, id, blob).await
    }

    async fn blob(&self, id: &BlobId) -> Result<Option<Bytes>, CatalogError> {
        policies::read_blob(self, id).await
    }

    async fn announce(&self, entry: &NodeEntry) -> Result<Applied, CatalogError> {
        nodes::announce(self, entry).await
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

    async fn purge(&self) -> Result<(), CatalogError> {
        // Busy readers only make it do less; the next call catches up.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await?;
        Ok(())
    }

    async fn close(&self) {
        // The writer last: the last connection to close folds the log into the file, which a reader may not.
        self.readers.close().await;
        self.writer.close().await;
    }
}
