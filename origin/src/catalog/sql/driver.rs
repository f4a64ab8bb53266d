//! What tells one SQL engine from another, and the few types that go in and out of a statement.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Database, Error, SqlStr};

use super::wide::Wide;

/// A value on its way into a statement.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    /// A number, time or count.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(&'a str),
    /// Bytes, or none.
    Bytes(Option<&'a [u8]>),
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Arg<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl<'a> From<&'a [u8; 32]> for Arg<'a> {
    fn from(id: &'a [u8; 32]) -> Self {
        Self::Bytes(Some(id))
    }
}

/// The columns of a row by their place in the statement. Each call fails when the column is of another type.
pub trait Cells: Send + Sync {
    /// Returns a number.
    fn number(&self, at: usize) -> Result<i64, Error>;
    /// Returns a number that may be absent.
    fn maybe_number(&self, at: usize) -> Result<Option<i64>, Error>;
    /// Returns a text.
    fn text(&self, at: usize) -> Result<&str, Error>;
    /// Returns a text that may be absent.
    fn maybe_text(&self, at: usize) -> Result<Option<&str>, Error>;
    /// Returns bytes.
    fn bytes(&self, at: usize) -> Result<&[u8], Error>;
    /// Returns bytes that may be absent.
    fn maybe_bytes(&self, at: usize) -> Result<Option<&[u8]>, Error>;
}

/// One SQL engine. Public only because it bounds a public type; nobody outside can name it.
pub trait Driver: Database<Row: Cells> {
    /// Begins a transaction that writes. What it has read after [`Self::ALONE`] is what it overwrites.
    const WRITE: &'static str;
    /// Begins a transaction whose reads are all of one moment.
    const READ: &'static str;
    /// Keeps others who ask for the same number out until the transaction ends; none when all writers are kept apart
    /// anyway.
    const ALONE: Option<&'static str>;
    /// Returns what tries the same for several numbers, `$1` and on, and waits for none: one row with 1 for each that
    /// was free, else 0.
    fn try_alone() -> Option<&'static Wide>;
    /// Says how long this transaction waits for [`Self::ALONE`] from now on, in milliseconds.
    const ALONE_FOR: &'static str;
    /// Says that it waits as long as before.
    const ALONE_AS_BEFORE: &'static str;
    /// Brings what writers count aside, so that none waits for another, into the sums, at most `$1` rows of it, and
    /// writes none when there is nothing more; none where they count in one place.
    const FOLD: Option<&'static str>;
    /// Drops what the engine's own files still hold of erased rows; none when it has no such call.
    const PURGE: Option<&'static str>;

    /// Lets the numbers of changes go on at the clock in milliseconds or, if that is more, beyond a gap, so that nobody
    /// has seen the number before the next. Run before the changes are removed.
    const RENUMBER: &'static [&'static str];

    /// Says a statement in the engine's own words. `now`, the time since 1970 when the catalog was given a clock, takes
    /// the place of the engine's own.
    fn said(statement: &'static str, now: Option<Duration>) -> SqlStr;

    /// Runs a statement and returns its rows.
    fn rows<'c>(
        on: &'c mut Self::Connection,
        statement: SqlStr,
        args: &'c [Arg<'c>],
    ) -> BoxFuture<'c, Result<Vec<Self::Row>, Error>>;

    /// Runs a statement and returns how many rows it wrote.
    fn run<'c>(
        on: &'c mut Self::Connection,
        statement: SqlStr,
        args: &'c [Arg<'c>],
    ) -> BoxFuture<'c, Result<u64, Error>>;
}

/// Implements [`Cells`] for a row, and writes the two calls of a [`Driver`], which differ in types alone: sqlx asks for
/// bounds on them that would have to be repeated at every function.
macro_rules! driver {
    (cells $row:ty) => {
        impl $crate::catalog::sql::Cells for $row {
            fn number(&self, at: usize) -> Result<i64, sqlx::Error> {
                sqlx::Row::try_get(self, at)
            }

            fn maybe_number(&self, at: usize) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, at)
            }

            fn text(&self, at: usize) -> Result<&str, sqlx::Error> {
                sqlx::Row::try_get(self, at)
            }

            fn maybe_text(&self, at: usize) -> Result<Option<&str>, sqlx::Error> {
                sqlx::Row::try_get(self, at)
            }

            fn bytes(&self, at: usize) -> Result<&[u8], sqlx::Error> {
                sqlx::Row::try_get(self, at)
            }

            fn maybe_bytes(&self, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
                sqlx::Row::try_get(self, at)
            }
        }
    };
    (calls) => {
        fn rows<'c>(
            on: &'c mut Self::Connection,
            statement: sqlx::SqlStr,
            args: &'c [$crate::catalog::sql::Arg<'c>],
        ) -> futures::future::BoxFuture<'c, Result<Vec<Self::Row>, sqlx::Error>> {
            Box::pin(async move { driver!(bind statement, args).fetch_all(on).await })
        }

        fn run<'c>(
            on: &'c mut Self::Connection,
            statement: sqlx::SqlStr,
            args: &'c [$crate::catalog::sql::Arg<'c>],
        ) -> futures::future::BoxFuture<'c, Result<u64, sqlx::Error>> {
            Box::pin(async move { Ok(driver!(bind statement, args).execute(on).await?.rows_affected()) })
        }
    };
    (bind $statement:ident, $args:ident) => {{
        let mut query = sqlx::query::<Self>($statement);
        for arg in $args {
            query = match *arg {
                $crate::catalog::sql::Arg::Number(number) => query.bind(number),
                $crate::catalog::sql::Arg::Flag(flag) => query.bind(flag),
                $crate::catalog::sql::Arg::Text(text) => query.bind(text),
                $crate::catalog::sql::Arg::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}
pub(in crate::catalog) use driver;
