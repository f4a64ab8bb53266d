//! SQLite as a side of a move: one file, locked for this process.
//!
//! In SQLite's exclusive mode and with its rollback journal: a connection that leaves the log (WAL) finds out whether
//! another one is there, and what is new in a file is written once. Whoever opens the file next makes a log again.

use std::path::{Path, PathBuf};

use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Error, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use super::{
    Side,
    side::{LOOK_AGAIN, PATIENCE},
    table::{Cell, Column, Row, named},
};
use crate::catalog::{
    migrations,
    sql::{Cells, Driver},
    url::OpenError,
};

/// `SQLITE_BUSY`: the file is locked.
const BUSY: i32 = 5;
/// The bits of an error's code that say so.
const PRIMARY: i32 = 0xff;
/// Rows that are read ahead: one may have megabytes.
const READ_AHEAD: usize = 4;
/// Rows in one statement; a statement may have 32,766 arguments.
const ROWS_AT_ONCE: usize = 32;
/// Memory for pages, in KiB.
const CACHE: &str = "-65536";

impl Side for Sqlite {
    type Url = PathBuf;

    const TABLES: &'static str = "SELECT name FROM sqlite_master WHERE type = 'table'";
    const COLUMNS: &'static str = "SELECT name, type FROM pragma_table_info($1)";
    const DERIVED: &'static [(&'static str, &'static str)] = &[(
        "node_totals",
        "INSERT INTO node_totals (node, shards, shard_bytes)
         SELECT node, count(*), sum(shard_bytes) FROM shards GROUP BY node",
    )];
    // The row that AUTOINCREMENT counts in.
    const LAST_NUMBER: &'static str = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'";

    fn is_there(path: &PathBuf) -> bool {
        path.exists()
    }

    fn join(path: &PathBuf) -> BoxFuture<'_, Result<SqliteConnection, OpenError>> {
        async move {
            let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
            Ok(SqliteConnection::connect_with(&options).await?)
        }
        .boxed()
    }

    fn take(path: &PathBuf) -> BoxFuture<'_, Result<Option<SqliteConnection>, OpenError>> {
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match alone(path).await {
                    Ok(on) => return Ok(Some(on)),
                    Err(error) if !is_busy(&error) => return Err(error.into()),
                    Err(_) if Instant::now() > deadline => return Ok(None),
                    Err(_) => sleep(LOOK_AGAIN).await,
                }
            }
        }
        .boxed()
    }

    fn migrate(on: &mut SqliteConnection) -> BoxFuture<'_, Result<(), MigrateError>> {
        async move { migrations::sqlite().run_direct(None, on, false).await }.boxed()
    }

    fn strip(on: &mut SqliteConnection) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        async move {
            // Those that come with a table have no text.
            let all = "SELECT type, name, sql FROM sqlite_master
                WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY type, name";
            let mut back = Vec::new();
            for row in Self::rows(on, all.into_sql_str(), &[]).await? {
                let drop = format!("DROP {} {}", Cells::text(&row, 0)?, Cells::text(&row, 1)?);
                Self::run(on, AssertSqlSafe(drop).into_sql_str(), &[]).await?;
                back.push(Cells::text(&row, 2)?.to_owned());
            }
            Ok(back)
        }
        .boxed()
    }

    fn emptied(tables: &[&str]) -> Vec<String> {
        tables.iter().map(|table| format!("DELETE FROM {table}")).collect()
    }

    fn numbered(last: u64) -> Vec<String> {
        vec![
            "DELETE FROM sqlite_sequence WHERE name = 'changes'".to_owned(),
            format!("INSERT INTO sqlite_sequence (name, seq) VALUES ('changes', {last})"),
        ]
    }

    fn stream(on: &mut SqliteConnection, statement: SqlStr) -> BoxStream<'_, Result<SqliteRow, Error>> {
        sqlx::query(statement).fetch(on)
    }

    fn insert<'c>(
        on: &'c mut SqliteConnection,
        table: &'static str,
        columns: &'c [Column],
        rows: &'c [Row],
    ) -> BoxFuture<'c, Result<(), Error>> {
        async move {
            for rows in rows.chunks(ROWS_AT_ONCE) {
                let row = |at: usize| {
                    let places = (0..columns.len()).map(|column| format!("${}", at * columns.len() + column + 1));
                    format!("({})", places.collect::<Vec<_>>().join(", "))
                };
                let places = (0..rows.len()).map(row).collect::<Vec<_>>().join(", ");
                let statement = format!("INSERT INTO {table} ({}) VALUES {places}", named(columns));
                let mut query = sqlx::query(AssertSqlSafe(statement));
                for cell in rows.iter().flatten() {
                    query = match cell {
                        Cell::Number(number) => query.bind(*number),
                        Cell::Text(text) => query.bind(text.as_deref()),
                        Cell::Bytes(bytes) => query.bind(bytes.as_deref()),
                    };
                }
                query.execute(&mut *on).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// Opens the file alone, at once or not at all.
async fn alone(path: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Delete)
        .synchronous(SqliteSynchronous::Full)
        // Rows come in an order that fits, and all of them.
        .foreign_keys(false)
        .pragma("secure_delete", "ON")
        .pragma("cache_size", CACHE)
        .row_buffer_size(READ_AHEAD)
        .disable_statement_logging();
    let mut on = SqliteConnection::connect_with(&options).await?;
    // In this mode the lock outlives the transaction.
    for statement in ["BEGIN EXCLUSIVE", "COMMIT"] {
        Sqlite::run(&mut on, statement.into_sql_str(), &[]).await?;
    }
    Ok(on)
}

fn is_busy(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|said| said.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & PRIMARY == BUSY)
}
