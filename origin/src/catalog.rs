//! The catalog: records, leases, placement, policies, blobs, nodes, the change feed, and the work that origins share,
//! behind one trait.
//!
//! Every engine keeps the same promises, written down once in the conformance suite `tests/it/catalog.rs`: a lease's
//! version only grows, a record that was erased or whose lease ended never shows sealed bytes again (but one that ended
//! yields to a renewed lease when a catalog is made again), and a change is in the feed exactly when what it tells of
//! is committed. Reads of shards and of records that lie on a disk do not depend on it.

mod migrations;
mod moving;
mod postgres;
mod rule;
mod sql;
mod sqlite;
mod sqlite_file;
mod url;
mod work;

use std::{fmt, str::FromStr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::{DecodeError, DecodeKind, HEXLOWER};
use format::{
    BlobId, Lease, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyManifest, PolicyName, Purge, Record,
    wire::{ChangePage, NodeEntry, Note, Obstacle, Ticket},
};
use sqlx::migrate::MigrateError;

pub use self::{
    moving::{Mark, MoveError, Moved, Moving, Stage, Standing, UNFINISHED, Way, look, move_catalog},
    postgres::PostgresCatalog,
    rule::Refused,
    sql::Clock,
    sqlite::{SqliteCatalog, is_lost_sqlite},
    sqlite_file::SqliteFile,
    url::{CatalogUrl, CatalogUrlError, Found, OpenError, PasswordInUrl, PostgresUrl},
    work::{
        AHEAD_MAX, ATTEMPTS_MAX, CURSOR_BYTES_MAX, DeadRepair, ERROR_CHARS_MAX, GIVEN_UP_REST, LOCATORS_MAX,
        MARGIN_LAST, OBJECTS_MAX, ObjectPage, ObjectRow, PAGE_BYTES_MAX, RETRY_PAUSE, Repair, RepairAsk, RepairCause,
        RepairEnd, RepairQueue, Revival, TICKETS_MAX, TICKETS_PER_READER_MAX, UnknownCause,
    },
};

/// Notes of all edges together: a zone has one.
pub const NOTES_MAX: usize = 256;

/// Which catalog it is: random bytes that are as old as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogId(pub [u8; 16]);

impl FromStr for CatalogId {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let length = |_| DecodeError { position: 0, kind: DecodeKind::Length };
        Ok(Self(HEXLOWER.decode(text.as_bytes())?.try_into().map_err(length)?))
    }
}

impl fmt::Display for CatalogId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The catalog now says what the write asked. Of records, policies and nodes the feed tells.
    Stored,
    /// The catalog said so, or better, before: the same write came twice.
    Unchanged,
}

/// A record as it is filed.
#[derive(Debug, Clone)]
pub struct Filed {
    /// The record.
    pub record: Record,
    /// The newest change of the feed that it shows. Later ones may tell of it again.
    pub sequence: u64,
    /// The second since 1970 at which the first record under its locator came; 0: before that was noted.
    pub filed_at: u64,
}

/// A shard on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRow {
    /// The node.
    pub node: NodeName,
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
    /// Bytes of the shard.
    pub bytes: u64,
}

/// What a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardTotals {
    /// Shards.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What became of a look at dead shards of nodes that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abandoned {
    /// Shards that are forgotten.
    pub shards: u64,
    /// The last object that was looked at; none: there are no more.
    pub after: Option<ObjectId>,
}

/// Why the catalog did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The write breaks a rule; the writer's fault.
    #[error("the catalog refuses the write")]
    Refused(#[from] Refused),
    /// The engine failed or was too busy; try again later.
    #[error("{}", unavailable(.0))]
    Unavailable(#[from] sqlx::Error),
    /// One that was away when it was opened is not the one that it should be, and was left as it is.
    #[error("the catalog {found}, and catalog {noted} was looked for")]
    Other {
        /// The catalog looked for.
        noted: CatalogId,
        /// What it is.
        found: Found,
    },
    /// A row cannot be read back; an operator must restore the catalog.
    #[error("the catalog holds a damaged row in {table}")]
    Damaged {
        /// The table.
        table: &'static str,
    },
}

impl CatalogError {
    /// Returns whether the catalog's disk takes no write, until somebody makes room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Unavailable(error) if is_full(error))
    }
}

/// Of a catalog that is opened late.
impl From<OpenError> for CatalogError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Other { noted, found } => Self::Other { noted, found },
            OpenError::Engine(said)
            | OpenError::Migration(MigrateError::Execute(said) | MigrateError::ExecuteMigration(said, _)) => {
                Self::Unavailable(said)
            }
            error => Self::Unavailable(sqlx::Error::Configuration(error.into())),
        }
    }
}

/// `SQLITE_FULL`, `SQLITE_IOERR_SHMSIZE`, and the class of `disk_full` in `PostgreSQL`.
fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| matches!(it.code().as_deref(), Some("13" | "4874" | "53100")))
}

fn unavailable(error: &sqlx::Error) -> &'static str {
    if is_full(error) { "the disk of the catalog is full" } else { "the catalog is not available" }
}

/// The database of a cluster. Methods end in bounded time; one that is dropped has either happened or not, never half.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Files a record, or renews the lease of one that is filed. Of that nothing else changes: its manifests and where
    /// its columns lie are signed by nobody, so who sends them later does not know better.
    ///
    /// # Errors
    /// [`Refused`] when the held lease is newer, the object or its sealed manifest is another, the sealed manifest is
    /// left out, or the record was erased.
    async fn put_record(&self, record: &Record) -> Result<Applied, CatalogError>;

    /// Files a copy from a disk, for a catalog that is made again: as [`Self::put_record`], but a record that died by
    /// the end of its lease yields to a later lease. The owner renewed it in time, and the disk with the earlier lease
    /// did not hear of it. A lease that has ended is filed, and [`Self::expire`] ends it.
    ///
    /// `since` is the second since 1970 at which the copy's record was filed first. What was filed later under its
    /// locator for another owner or object gives way to it: whoever knows a locator may file something of their own
    /// while it is missing here.
    ///
    /// # Errors
    /// As [`Self::put_record`].
    async fn restore_record(&self, record: &Record, since: u64) -> Result<Applied, CatalogError>;

    /// Renews the lease of a filed record. `lease` is what was verified in `envelope`.
    ///
    /// # Errors
    /// As [`Self::put_record`], and [`Refused::NoRecord`].
    async fn put_lease(&self, lease: &Lease, envelope: &Bytes) -> Result<Applied, CatalogError>;

    /// Notes where the columns of a living record lie now, of which it is a hint: the rows of shards count more.
    async fn move_columns(&self, locator: &Locator, placement: &[Option<NodeName>]) -> Result<Applied, CatalogError>;

    /// Returns a record with the placement last known.
    async fn record(&self, locator: &Locator) -> Result<Option<Record>, CatalogError> {
        Ok(self.filed(locator).await?.map(|filed| filed.record))
    }

    /// The same, with the place in the feed at which it was so.
    async fn filed(&self, locator: &Locator) -> Result<Option<Filed>, CatalogError>;

    /// Returns living locators, of one owner or of all, in order, at most `limit`, from the one after `after`.
    async fn locators(
        &self,
        owner: Option<&OwnerId>,
        after: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Locator>, CatalogError>;

    /// Ends the leases that were past their expiry at the second `now` since 1970, at most `limit`, and returns how
    /// many: the sealed manifest is destroyed, the record becomes a tombstone under the lease it has, and the feed
    /// tells of an erasure. Nothing ends before the second until which it is promised to be kept. Fewer than `limit`:
    /// no more are due.
    ///
    /// `now` is what the catalog's clock said when its caller trusted it: a clock that is set after that ends nothing.
    /// So are the seconds of the methods below that destroy.
    async fn expire(&self, now: u64, limit: usize) -> Result<u64, CatalogError>;

    /// Returns a living object.
    async fn object(&self, object: &ObjectId) -> Result<Option<ObjectRow>, CatalogError>;

    /// Returns living objects that have columns, in order of their ids from the one after `after`; those that lie
    /// inline in their manifests have none. At most `limit` and at most [`OBJECTS_MAX`].
    async fn objects(&self, after: Option<&ObjectId>, limit: usize) -> Result<ObjectPage, CatalogError>;

    /// Returns those living objects of which a node holds a shard, as [`Self::objects`] does.
    async fn objects_on(
        &self,
        node: &NodeName,
        after: Option<&ObjectId>,
        limit: usize,
    ) -> Result<ObjectPage, CatalogError>;

    /// Notes that a shard is durable on a node.
    async fn place_shard(&self, shard: &ShardRow) -> Result<(), CatalogError>;

    /// Notes that a node no longer holds a shard, unless it was committed again after the second `before`.
    async fn forget_shard(&self, shard: &ShardRow, before: u64) -> Result<(), CatalogError>;

    /// Notes that a node's shard was found corrupt or missing: the row goes at once, however young.
    async fn lose_shard(&self, shard: &ShardRow) -> Result<(), CatalogError>;

    /// Returns shards of a node all of whose records were erased by the second `before`, in order of object and column,
    /// at most `limit`, from the one after `after`. A shard that was committed later is not among them: its record may
    /// be on its way.
    async fn dead_shards(
        &self,
        node: &NodeName,
        before: u64,
        after: Option<(ObjectId, usize)>,
        limit: usize,
    ) -> Result<Vec<ShardRow>, CatalogError>;

    /// Forgets shards as [`Self::dead_shards`] names them of nodes that are silent since the second `silent` or that
    /// nobody announces. Looks at `limit` dead objects, from the one after `after`. A node that comes back with them
    /// after all notes them again. Those of which no record tells any more that they are dead stay noted.
    async fn abandon_shards(
        &self,
        before: u64,
        silent: u64,
        after: Option<&ObjectId>,
        limit: usize,
    ) -> Result<Abandoned, CatalogError>;

    /// Puts together what was counted of nodes' shards, so that [`Self::shard_totals`] reads little: a million counts
    /// at most, the next call goes on.
    async fn fold(&self) -> Result<(), CatalogError>;

    /// Returns what the catalog believes a node to hold, in order of object and column, at most `limit`, from the one
    /// after `after`.
    async fn shards_on(
        &self,
        node: &NodeName,
        after: Option<(ObjectId, usize)>,
        limit: usize,
    ) -> Result<Vec<ShardRow>, CatalogError>;

    /// Returns what a node holds.
    async fn shard_totals(&self, node: &NodeName) -> Result<ShardTotals, CatalogError>;

    /// Asks for an object's repair. An object waits once: of two asks the lower margin counts, and with it the repair
    /// begins anew; so it does when an object that could not be read can be read again. One that was given up stays so
    /// until then, or [`Self::revive_repairs`], or, if it was not begun more than [`ATTEMPTS_MAX`] times,
    /// [`GIVEN_UP_REST`] later; one that is hopeless stays so until
    /// something else is to be done than to make the same columns, or an operator says so. Erasing the object takes it
    /// out.
    async fn queue_repair(&self, repair: &RepairAsk) -> Result<Applied, CatalogError>;

    /// Takes the repair of the lowest margin, to which each attempt so far adds one, of those the one that waits
    /// longest, that is due and that nobody holds. Margins below zero come last. It is `holder`'s alone for `hold`.
    async fn take_repair(&self, holder: &NodeName, hold: Duration) -> Result<Option<Repair>, CatalogError>;

    /// Holds on to a repair for another `hold` from now. False: another holder has it now, or it is gone; stop.
    async fn keep_repair(&self, object: &ObjectId, holder: &NodeName, hold: Duration) -> Result<bool, CatalogError>;

    /// Says how a repair ended. The word of one who lost the hold changes nothing.
    async fn end_repair(&self, object: &ObjectId, holder: &NodeName, end: &RepairEnd) -> Result<(), CatalogError>;

    /// Counts the repairs; reads the whole queue.
    async fn repair_queue(&self) -> Result<RepairQueue, CatalogError>;

    /// Returns repairs given up, the oldest first, at most `limit`.
    async fn dead_repairs(&self, limit: usize) -> Result<Vec<DeadRepair>, CatalogError>;

    /// Returns the repair of an object, if it was given up.
    async fn dead_repair(&self, object: &ObjectId) -> Result<Option<DeadRepair>, CatalogError>;

    /// Returns why repairs have not worked so far, those given up among them, the most frequent reason first, at most
    /// `limit`.
    async fn repair_obstacles(&self, limit: usize) -> Result<Vec<Obstacle>, CatalogError>;

    /// Lets repairs that were given up, or that rest after a failure, be due again, and returns how many.
    async fn revive_repairs(&self, by: Revival<'_>) -> Result<u64, CatalogError>;

    /// Notes a reader's word of a bad shard; several about one shard are one, and the first reader's.
    ///
    /// # Errors
    /// [`Refused::TooManyTickets`] at [`TICKETS_MAX`], of one reader at [`TICKETS_PER_READER_MAX`].
    async fn report(&self, reader: &NodeName, ticket: &Ticket) -> Result<Applied, CatalogError>;

    /// Takes tickets that nobody holds, the oldest first, at most `limit`. They are `holder`'s alone for `hold`, then
    /// anyone's again unless [`Self::end_ticket`] came before.
    async fn take_tickets(&self, holder: &NodeName, hold: Duration, limit: usize) -> Result<Vec<Ticket>, CatalogError>;

    /// Removes a ticket that was looked into.
    async fn end_ticket(&self, ticket: &Ticket) -> Result<(), CatalogError>;

    /// Takes named work for `hold` and returns the cursor that its last holder left; empty at first. None while another
    /// holder has it; one that holds it already takes it again, as a node that restarted does.
    async fn take_work(&self, name: &str, holder: &NodeName, hold: Duration) -> Result<Option<Bytes>, CatalogError>;

    /// Holds on to named work for another `hold` from now and leaves a cursor of at most [`CURSOR_BYTES_MAX`]; a hold
    /// of zero lets go. False: another holder has it now, and the cursor is not kept; stop.
    async fn keep_work(
        &self,
        name: &str,
        holder: &NodeName,
        hold: Duration,
        cursor: &[u8],
    ) -> Result<bool, CatalogError>;

    /// Files a policy whose manifest was verified in `envelope`.
    ///
    /// # Errors
    /// [`Refused`] when the held sequence is not lower or a blob is missing.
    async fn put_policy(&self, manifest: &PolicyManifest, envelope: &Bytes) -> Result<Applied, CatalogError>;

    /// Returns the envelope of a policy's newest version.
    async fn policy(&self, owner: &OwnerId, name: &PolicyName) -> Result<Option<Bytes>, CatalogError>;

    /// Lets the feed tell of an owner's order, object for object; of objects that are not known here it tells nothing,
    /// nor twice of one order.
    ///
    /// # Errors
    /// [`Refused::OtherOwner`] when one of the objects is another's; then the feed tells nothing of the order.
    async fn tell_purge(&self, purge: &Purge) -> Result<Applied, CatalogError>;

    /// Files a blob whose hash was checked.
    async fn put_blob(&self, id: &BlobId, blob: &Bytes) -> Result<(), CatalogError>;

    /// Returns a blob.
    async fn blob(&self, id: &BlobId) -> Result<Option<Bytes>, CatalogError>;

    /// Files a note of the edges in place of the version before it; version 1 where there is none.
    ///
    /// # Errors
    /// [`Refused::OtherNote`] when another version is held, [`Refused::TooManyNotes`] when [`NOTES_MAX`] notes are.
    async fn put_note(&self, id: &NoteId, note: &Note) -> Result<(), CatalogError>;

    /// Returns a note.
    async fn note(&self, id: &NoteId) -> Result<Option<Note>, CatalogError>;

    /// Files a list of refused node certificates in place of the one before, and tells of its number. Nodes judge which
    /// list counts, so that nobody who writes here can take one back.
    async fn put_refused(&self, number: u64, list: &Bytes) -> Result<(), CatalogError>;

    /// Returns the list of refused node certificates as it was filed, unverified.
    async fn refused(&self) -> Result<Option<Bytes>, CatalogError>;

    /// Notes what a node says of itself. The feed tells only of what readers plan by: a new node, or a moved one.
    ///
    /// # Errors
    /// [`Refused::OtherRole`] when the name is taken.
    async fn announce(&self, entry: &NodeEntry) -> Result<Applied, CatalogError>;

    /// Takes edges off the list that are silent since the second `silent`, and returns how many. They hold nothing; one
    /// that comes back is new. Origins stay: what they hold is noted under their names.
    async fn forget_edges(&self, silent: u64) -> Result<u64, CatalogError>;

    /// Returns all nodes in order of their names.
    async fn nodes(&self) -> Result<Vec<NodeEntry>, CatalogError>;

    /// Returns the changes after `since`, at most `limit`; at once, also when there are none.
    async fn changes(&self, since: u64, limit: usize) -> Result<ChangePage, CatalogError>;

    /// Returns the sequence of the newest change; zero before the first.
    async fn newest_change(&self) -> Result<u64, CatalogError>;

    /// Empties the feed and numbers what follows above everything before, so that everybody who follows it starts anew.
    /// For a catalog made again: its numbers would begin anew too, and who saw higher ones would miss what hides below.
    /// `node` is who did it; the feed tells that it is news.
    async fn restart_feed(&self, node: &NodeName) -> Result<(), CatalogError>;

    /// Returns which catalog this is: a copy has the same id, one that was made anew another.
    async fn identity(&self) -> Result<CatalogId, CatalogError>;

    /// Returns the catalog's clock, seconds since 1970: what [`NodeEntry::seen`] is measured by.
    async fn now(&self) -> Result<u64, CatalogError>;

    /// Drops what the engine's own files (its log) still hold of erased records. Best effort; called now and then.
    async fn purge(&self) -> Result<(), CatalogError>;

    /// Ends all connections. Calls after it fail.
    async fn close(&self);
}
