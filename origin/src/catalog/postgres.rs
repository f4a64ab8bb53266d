//! The engine for many machines: one `PostgreSQL` database that all origins of a cluster reach.
//!
//! Writers run side by side, kept apart only where they decide about the same thing, by advisory locks that end with the
//! transaction. Who works through a queue skips what others have locked. Each origin keeps a few connections; a call that
//! finds the server gone fails at once or within seconds, and the next one connects anew.

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, Postgres,
    postgres::{PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use super::{
    sql::{Driver, SqlCatalog, driver},
    url::{OpenError, PostgresUrl},
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

/// A catalog in a `PostgreSQL` database.
pub type PostgresCatalog = SqlCatalog<Postgres>;

impl PostgresCatalog {
    /// Connects and brings the schema up to date. The feed keeps the newest `changes_kept` changes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn connect(url: &PostgresUrl, changes_kept: u32) -> Result<Self, OpenError> {
        let options = url.options()?.application_name("evernear");
        // On a connection of its own, because a migration may take longer than any call should. The migrator takes a lock.
        let migrate = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            sqlx::migrate!("./migrations/postgres").run(&mut connection).await?;
            connection.close().await?;
            Ok::<_, OpenError>(())
        };
        timeout(MIGRATION, migrate).await.map_err(|_| OpenError::Slow { seconds: MIGRATION.as_secs() })??;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move { if about.idle_for < TRUSTED { Ok(true) } else { is_alive(connection).await } })
            })
            .after_release(|connection, _| Box::pin(is_alive(connection)))
            .connect_with(options.options(SESSION))
            .await?;
        Ok(Self { writers: pool.clone(), readers: pool, changes_kept })
    }
}

/// Asks for a sign of life; also lets a transaction that was dropped roll back.
async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match timeout(PING, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

driver!(cells PgRow);

impl Driver for Postgres {
    // Each statement sees what was committed before it began: what is read after a lock was taken is what its last holder
    // left. Written out, because a server may have another default.
    const WRITE: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const READ: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    const ALONE: Option<&'static str> = Some("SELECT 1 FROM pg_advisory_xact_lock($1)");
    // What was erased stays in pages until VACUUM and in the log until it is recycled; docs/operate.md says what to do.
    const PURGE: Option<&'static str> = None;

    const RENUMBER: &'static [&'static str] = &["SELECT setval(pg_get_serial_sequence('changes', 'sequence'),
         (SELECT greatest(unixepoch_ms(), coalesce(max(sequence), 0) + 1) FROM changes))"];

    driver!(calls with std::convert::identity);
}
