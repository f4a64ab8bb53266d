//! `PostgreSQL` as a side of a move: a database, held by a lock that every origin shares while it is connected.

use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Error, PgConnection, Postgres, SqlSafeStr, SqlStr, migrate::MigrateError,
    postgres::PgRow,
};
use tokio::time::{Instant, sleep};

use super::{
    Side, refuse_moved,
    side::{LOOK_AGAIN, PATIENCE},
    table::{Cell, Column, Row, named},
};
use crate::catalog::{
    migrations,
    postgres::connect,
    sql::{Cells, Driver},
    url::{OpenError, PostgresUrl},
};

/// The number of the lock, in ASCII: whoever is connected shares it, and a move has it alone.
const IN_USE: i64 = i64::from_be_bytes(*b"evernear");
/// A copy takes as long as it takes; what hangs is noticed on this side.
const SESSION: [(&str, &str); 3] =
    [("statement_timeout", "0"), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "0")];
/// How COPY's binary format begins (`PostgreSQL`, COPY, file formats): its signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// How it ends.
const TRAILER: i16 = -1;
/// The length of what is not there.
const NULL: i32 = -1;

/// Lets an origin's connection in, for as long as it lasts: not while the catalog is on its way, nor after it left.
///
/// # Errors
/// [`OpenError`].
pub(in crate::catalog) async fn enter(on: &mut PgConnection) -> Result<(), OpenError> {
    if !try_lock(on, "SELECT pg_try_advisory_lock_shared($1)").await? {
        return Err(OpenError::Moving);
    }
    refuse_moved::<Postgres>(on).await
}

async fn try_lock(on: &mut PgConnection, statement: &'static str) -> Result<bool, Error> {
    sqlx::query_scalar(statement).bind(IN_USE).fetch_one(on).await
}

impl Side for Postgres {
    type Url = PostgresUrl;

    const TABLES: &'static str = "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = current_schema()";
    const COLUMNS: &'static str = "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT)
        FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1";
    const DERIVED: &'static [(&'static str, &'static str)] = &[
        (
            "node_counts",
            "INSERT INTO node_counts (node, shards, shard_bytes)
             SELECT node, count(*), CAST(sum(shard_bytes) AS BIGINT) FROM shards GROUP BY node",
        ),
        ("node_deltas", ""),
    ];
    const LAST_NUMBER: &'static str = "SELECT coalesce(
        pg_sequence_last_value(CAST(pg_get_serial_sequence('changes', 'sequence') AS regclass)), 0)";

    fn is_there(_: &PostgresUrl) -> bool {
        true
    }

    fn join(url: &PostgresUrl) -> BoxFuture<'_, Result<PgConnection, OpenError>> {
        async move {
            let options = url.options()?.application_name("evernear catalog").options(SESSION);
            Ok(connect(&options.disable_statement_logging()).await?)
        }
        .boxed()
    }

    fn take(url: &PostgresUrl) -> BoxFuture<'_, Result<Option<PgConnection>, OpenError>> {
        async move {
            let mut on = Self::join(url).await?;
            let deadline = Instant::now() + PATIENCE;
            while !try_lock(&mut on, "SELECT pg_try_advisory_lock($1)").await? {
                if Instant::now() > deadline {
                    return Ok(None);
                }
                sleep(LOOK_AGAIN).await;
            }
            Ok(Some(on))
        }
        .boxed()
    }

    fn migrate(on: &mut PgConnection) -> BoxFuture<'_, Result<(), MigrateError>> {
        async move { migrations::postgres().run_direct(None, on, false).await }.boxed()
    }

    fn strip(on: &mut PgConnection) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        async move {
            let counted = "SELECT DISTINCT CAST(tgrelid::regclass AS TEXT) FROM pg_trigger
                WHERE NOT tgisinternal AND tgrelid IN
                    (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)";
            let mut back = Vec::new();
            for row in Self::rows(on, counted.into_sql_str(), &[]).await? {
                let table = Cells::text(&row, 0)?;
                let disable = format!("ALTER TABLE {table} DISABLE TRIGGER USER");
                Self::run(on, AssertSqlSafe(disable).into_sql_str(), &[]).await?;
                back.push(format!("ALTER TABLE {table} ENABLE TRIGGER USER"));
            }
            Ok(back)
        }
        .boxed()
    }

    // Not DELETE: what was erased would stay in dead rows.
    fn emptied(tables: &[&str]) -> Vec<String> {
        vec![format!("TRUNCATE {}", tables.join(", "))]
    }

    fn numbered(last: u64) -> Vec<String> {
        let (number, is_used) = (last.max(1), last > 0);
        vec![format!("SELECT setval(pg_get_serial_sequence('changes', 'sequence'), {number}, {is_used})")]
    }

    fn stream(on: &mut PgConnection, statement: SqlStr) -> BoxStream<'_, Result<PgRow, Error>> {
        sqlx::query(statement).fetch(on)
    }

    /// By COPY: it takes the numbers of changes as they are.
    fn insert<'c>(
        on: &'c mut PgConnection,
        table: &'static str,
        columns: &'c [Column],
        rows: &'c [Row],
    ) -> BoxFuture<'c, Result<(), Error>> {
        async move {
            let written = written(rows)?;
            let statement = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", named(columns));
            let mut copy = on.copy_in_raw(&statement).await?;
            copy.send(written).await?;
            copy.finish().await?;
            Ok(())
        }
        .boxed()
    }
}

/// Writes rows in COPY's binary format: each says how many cells it has, and each cell how many bytes.
fn written(rows: &[Row]) -> Result<Vec<u8>, Error> {
    let wide = |error: std::num::TryFromIntError| Error::Encode(Box::new(error));
    let mut text = HEADER.to_vec();
    for row in rows {
        text.extend(i16::try_from(row.len()).map_err(wide)?.to_be_bytes());
        for cell in row {
            let number;
            let content = match cell {
                Cell::Number(it) => {
                    number = it.map(i64::to_be_bytes);
                    number.as_ref().map(|it| &it[..])
                }
                Cell::Text(it) => it.as_deref().map(str::as_bytes),
                Cell::Bytes(it) => it.as_deref(),
            };
            let length = content.map_or(Ok(NULL), |content| i32::try_from(content.len()).map_err(wide))?;
            text.extend(length.to_be_bytes());
            text.extend(content.unwrap_or_default());
        }
    }
    text.extend(TRAILER.to_be_bytes());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_copy_reads_them() {
        let row = vec![Cell::Number(Some(-2)), Cell::Text(None), Cell::Bytes(Some(b"ab".to_vec()))];
        let body = [
            &[0, 3][..],
            &[0, 0, 0, 8],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe],
            &[0xff; 4],
            &[0, 0, 0, 2],
            b"ab",
            &[0xff; 2],
        ];
        assert_eq!(written(&[row]).unwrap(), [HEADER, &body.concat()].concat());
        assert_eq!(HEADER.len(), 19);
    }
}
