//! The engine for many machines: one `PostgreSQL` database that all origins of a cluster reach.
//!
//! Writers run side by side, kept apart only where they decide about the same thing, by advisory locks that end with
//! the transaction. Who works through a queue skips what others have locked. Each origin keeps a few connections; a
//! call that finds the server gone fails at once or within seconds, and the next one connects anew. That the server is
//! away is no reason not to start: the first call that reaches it brings the schema up to date then.

use std::{io, time::Duration};

use futures::FutureExt;
use sqlx::{
    Connection, PgConnection, Postgres, SqlSafeStr, SqlStr,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use super::{
    CatalogId, migrations,
    moving::enter,
    sql::{Driver, Group, Late, SqlCatalog, Wide, driver, each},
    url::{Found, OpenError, PostgresUrl},
};

/// Connections of one origin. A server allows 100 by default, and ten origins should fit.
const CONNECTIONS: u32 = 8;
/// Longest wait for a free or a new connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// Longest wait for a sign of life of a connection: one whose server is gone without a word must not hold its place.
const PING: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked for a sign of life before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Longest wait for another process that migrates the schema.
const MIGRATION: Duration = Duration::from_secs(60);
/// What the server itself ends: below the deadline of a call, so that its reason is heard.
const SESSION: [(&str, &str); 3] =
    [("statement_timeout", "10s"), ("lock_timeout", "8s"), ("idle_in_transaction_session_timeout", "30s")];

static TRY_ALONE: Wide = Wide::new(|count| {
    let free =
        |at: usize| format!("CAST(CASE WHEN pg_try_advisory_xact_lock(${}) THEN 1 ELSE 0 END AS BIGINT)", at + 1);
    format!("SELECT {}", each(count, free))
});

/// The server's word that it starts or stops (`PostgreSQL`, appendix A, class 57).
const NOT_NOW: [&str; 3] = ["57P01", "57P02", "57P03"];

/// A catalog in a `PostgreSQL` database.
pub type PostgresCatalog = SqlCatalog<Postgres>;

impl PostgresCatalog {
    /// Connects and brings the schema up to date, or does so once the server is there. The feed keeps the newest
    /// `changes_kept` changes.
    ///
    /// # Errors
    /// [`OpenError`], but not when the server is away: then calls fail until it is back.
    pub async fn connect(url: &PostgresUrl, changes_kept: u32) -> Result<Self, OpenError> {
        Self::connect_known(url, changes_kept, None).await
    }

    /// The same, if it is the catalog of the id `noted`.
    pub(super) async fn connect_known(
        url: &PostgresUrl,
        changes_kept: u32,
        noted: Option<CatalogId>,
    ) -> Result<Self, OpenError> {
        let options = url.options()?.application_name("evernear");
        let session = options.clone().options(SESSION);
        let late = match timeout(MIGRATION, migrate(&options, noted)).await {
            Err(_) => return Err(OpenError::Slow { seconds: MIGRATION.as_secs() }),
            Ok(Err(OpenError::Engine(error))) if is_away(&error) => {
                tracing::error!(%error, "the catalog's server is away; what needs it waits");
                Some(Late::new(move || {
                    let options = options.clone();
                    async move { migrate(&options, noted).await }.boxed()
                }))
            }
            Ok(done) => done.map(|()| None)?,
        };
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move { if about.idle_for < TRUSTED { Ok(true) } else { is_alive(connection).await } })
            })
            .after_release(|connection, _| Box::pin(is_alive(connection)))
            .after_connect(|connection, _| {
                let refused = |error| match error {
                    OpenError::Engine(said) => said,
                    error => sqlx::Error::Configuration(error.into()),
                };
                Box::pin(async move { enter(connection).await.map_err(refused) })
            })
            .connect_lazy_with(session);
        Ok(Self { writers: pool.clone(), readers: pool, changes_kept, clock: None, group: Group::default(), late })
    }
}

/// Brings the schema up to date, on a connection of its own, because that may take longer than any call should. The
/// migrator takes a lock.
async fn migrate(options: &PgConnectOptions, noted: Option<CatalogId>) -> Result<(), OpenError> {
    let mut connection = connect(options).await?;
    enter(&mut connection).await?;
    if let Some(noted) = noted {
        Found::check(identity(&mut connection).await?.as_deref(), noted)?;
    }
    // Not `run`: the compiler cannot show that its future may be sent.
    migrations::postgres().run_direct(None, &mut connection, false).await?;
    Ok(connection.close().await?)
}

/// Connects. A server that says nothing is away, as one that refuses.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let silent = |_| sqlx::Error::Io(io::ErrorKind::TimedOut.into());
    timeout(ACQUIRE, PgConnection::connect_with(options)).await.map_err(silent)?
}

/// Reads the id of a catalog that may have no tables.
async fn identity(connection: &mut PgConnection) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let is_there = "SELECT to_regclass('identity') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(is_there).fetch_one(&mut *connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT id FROM identity").fetch_optional(connection).await
}

/// Whether the server cannot be reached now, and may be later: not when it answers and refuses.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(said) => said.code().is_some_and(|code| NOT_NOW.contains(&&*code)),
        _ => false,
    }
}

/// Asks for a sign of life; also ends a transaction whose call was dropped. sqlx rolls back only one of which it heard
/// the beginning. Where there is none, a ROLLBACK alone would be a warning in the server's log.
async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match timeout(PING, sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection)).await {
        Ok(answer) => answer.map(|_| true),
        Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
    }
}

driver!(cells PgRow);

impl Driver for Postgres {
    // Each statement sees what was committed before it began: what is read after a lock was taken is what its last
    // holder left. Written out, because a server may have another default.
    const WRITE: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const READ: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    const ALONE: Option<&'static str> = Some("SELECT 1 FROM pg_advisory_xact_lock($1)");
    const ALONE_FOR: &'static str = "SELECT set_config('lock_timeout', $1, true)";
    const ALONE_AS_BEFORE: &'static str = "SET LOCAL lock_timeout TO DEFAULT";
    // Whoever folds at the same time has other rows. What is not committed yet stays for the next time.
    const FOLD: Option<&'static str> = Some(
        "WITH page AS (SELECT ctid FROM node_deltas LIMIT $1 FOR UPDATE SKIP LOCKED),
              gone AS (DELETE FROM node_deltas WHERE ctid = ANY(ARRAY(SELECT ctid FROM page))
                       RETURNING node, shards, shard_bytes)
         INSERT INTO node_counts AS c (node, shards, shard_bytes)
             SELECT node, CAST(sum(shards) AS BIGINT), CAST(sum(shard_bytes) AS BIGINT) FROM gone
             GROUP BY node ORDER BY node
         ON CONFLICT (node) DO UPDATE
             SET shards = c.shards + excluded.shards, shard_bytes = c.shard_bytes + excluded.shard_bytes",
    );
    // What was erased stays in pages until VACUUM and in the log until it is recycled; docs/operate/catalog.md says
    // what to do.
    const PURGE: Option<&'static str> = None;

    const RENUMBER: &'static [&'static str] = &["SELECT setval(pg_get_serial_sequence('changes', 'sequence'),
         (SELECT greatest(unixepoch_ms(), coalesce(max(sequence), 0) + 1) FROM changes))"];

    fn try_alone() -> Option<&'static Wide> {
        Some(&TRY_ALONE)
    }

    // Its server's clock is the one that all origins share.
    fn said(statement: &'static str, _now: Option<Duration>) -> SqlStr {
        statement.into_sql_str()
    }

    driver!(calls);
}
