//! What the two engines do each in its own way when a catalog moves.

use std::time::Duration;

use futures::{future::BoxFuture, stream::BoxStream};
use sqlx::{Error, SqlStr, migrate::MigrateError};

use super::table::{Column, Row};
use crate::catalog::{sql::Driver, url::OpenError};

/// How long others have to go: a server hears some time later that a process ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether they did.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An engine as one side of a move.
pub(in crate::catalog) trait Side: Driver {
    /// Where a database of it is.
    type Url: Send + Sync;
    /// Returns the names of all tables.
    const TABLES: &'static str;
    /// Returns name and type of each column of the table `$1`.
    const COLUMNS: &'static str;
    /// The tables that have nothing of their own, and what fills each anew; empty where nothing must.
    const DERIVED: &'static [(&'static str, &'static str)];
    /// Returns the last number that the feed used; zero before the first.
    const LAST_NUMBER: &'static str;

    /// Returns whether there can be something at a place: a file that is not there is not made.
    fn is_there(url: &Self::Url) -> bool;

    /// Connects as others do.
    fn join(url: &Self::Url) -> BoxFuture<'_, Result<Self::Connection, OpenError>>;

    /// Connects alone, until the connection ends. None: others are connected, and stayed so for a while.
    fn take(url: &Self::Url) -> BoxFuture<'_, Result<Option<Self::Connection>, OpenError>>;

    /// Brings the schema up to date.
    fn migrate(on: &mut Self::Connection) -> BoxFuture<'_, Result<(), MigrateError>>;

    /// Removes for this transaction what would count rows a second time, or is made faster at once than row by row.
    /// Returns the statements that bring it back.
    fn strip(on: &mut Self::Connection) -> BoxFuture<'_, Result<Vec<String>, Error>>;

    /// Returns the statements that empty tables.
    fn emptied(tables: &[&str]) -> Vec<String>;

    /// Returns the statements that let the feed's numbers go on after the last one that was used.
    fn numbered(last: u64) -> Vec<String>;

    /// Reads rows one after the other, a few ahead of whoever takes them.
    fn stream(on: &mut Self::Connection, statement: SqlStr) -> BoxStream<'_, Result<Self::Row, Error>>;

    /// Writes rows.
    fn insert<'c>(
        on: &'c mut Self::Connection,
        table: &'static str,
        columns: &'c [Column],
        rows: &'c [Row],
    ) -> BoxFuture<'c, Result<(), Error>>;
}
