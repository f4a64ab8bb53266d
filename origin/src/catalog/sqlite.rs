//! The embedded engine: one SQLite file, shared by the origins of one machine.
//!
//! WAL, so that readers never wait for the writer; `synchronous=FULL`, so that a commit survives power loss; every
//! write starts with `BEGIN IMMEDIATE`, so that what it read is what it overwrites, whichever process came first. One
//! connection writes and a few read. That nothing can be written is no reason not to start: the first call that finds
//! it possible brings the schema up to date then.

use std::{fs::File, future::ready, io, path::Path, time::Duration};

use futures::FutureExt;
use sqlx::{
    AssertSqlSafe, Connection, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use tokio::time::timeout;

use super::{
    CatalogId, migrations,
    moving::refuse_moved,
    sql::{Clock, Driver, Group, Late, SqlCatalog, Wide, driver},
    sqlite_file::SqliteFile,
    url::{Found, OpenError},
};

/// Longest wait for another process that writes, and for a free connection.
const BUSY: Duration = Duration::from_secs(5);
/// Longest wait for another process that migrates the file.
const MIGRATION: Duration = Duration::from_secs(30);
/// Connections that read; more than cores only queue inside SQLite.
const READERS: u32 = 4;
/// What SQLite says of a full disk: `SQLITE_FULL`, and `SQLITE_IOERR_SHMSIZE` where the index of its log has no room.
const FULL: [&str; 2] = ["13", "4874"];
/// What it says of a file that is none of its own, or is damaged: `SQLITE_NOTADB`, `SQLITE_CORRUPT`.
const DAMAGED: [u32; 2] = [26, 11];
/// The bits of an error's code that say so; those above say more.
const PRIMARY: u32 = 0xff;

/// A catalog in one SQLite file.
pub type SqliteCatalog = SqlCatalog<Sqlite>;

impl SqliteCatalog {
    /// Opens or creates the file and brings its schema up to date. The feed keeps the newest `changes_kept` changes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(path: &Path, changes_kept: u32) -> Result<Self, OpenError> {
        Self::open_by(path, changes_kept, None).await
    }

    /// The same by another clock than the machine's, if one is given: all who share the file go by the same.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_by(path: &Path, changes_kept: u32, clock: Option<Clock>) -> Result<Self, OpenError> {
        Self::open_as(path, changes_kept, clock, None).await
    }

    /// Opens the file if it is the catalog of the id `noted`.
    pub(super) async fn open_known(
        path: &Path,
        changes_kept: u32,
        noted: Option<CatalogId>,
    ) -> Result<Self, OpenError> {
        Self::open_as(path, changes_kept, None, noted).await
    }

    async fn open_as(
        path: &Path,
        changes_kept: u32,
        clock: Option<Clock>,
        noted: Option<CatalogId>,
    ) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            // A destroyed manifest is overwritten with zeros, not merely unlinked from its page.
            .pragma("secure_delete", "ON");
        let writers = pool().max_connections(1).connect_lazy_with(options.clone());
        let late = match migrate(path, &writers, noted).await {
            Err(error) if is_unwritable(&error) => {
                tracing::error!(%error, "the catalog's disk is full or read-only; what needs the catalog waits");
                let (path, writers) = (path.to_owned(), writers.clone());
                Some(Late::new(move || {
                    let (path, writers) = (path.clone(), writers.clone());
                    async move { migrate(&path, &writers, noted).await }.boxed()
                }))
            }
            Err(error) if engine(&error).is_some_and(is_damage) => {
                return Err(later_step(path).await.map_or(error, |step| OpenError::Later { step }));
            }
            migrated => migrated.map(|()| None)?,
        };
        let readers = pool().max_connections(READERS).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writers, readers, changes_kept, clock, group: Group::default(), late })
    }
}

/// Brings the schema up to date, of the catalog of the id `noted` alone, if one is given. SQLite cannot serialise "is
/// the schema there?" and "make it" for us: two processes that start together would both try.
async fn migrate(path: &Path, writers: &SqlitePool, noted: Option<CatalogId>) -> Result<(), OpenError> {
    match migrate_file(path, writers, noted).await {
        Err(error) if is_loss(&error) && SqliteFile::at(path).is_ok_and(|file| file.is_unwritable()) => {
            Err(OpenError::Unwritable(error.into()))
        }
        migrated => migrated,
    }
}

async fn migrate_file(path: &Path, writers: &SqlitePool, noted: Option<CatalogId>) -> Result<(), OpenError> {
    check_file(path, noted)?;
    let _migrating = lock(path).await?;
    let mut writer = writers.acquire().await?;
    refuse_moved::<Sqlite>(&mut writer).await?;
    if let Some(noted) = noted {
        Found::check(identity(&mut writer).await?.as_deref(), noted)?;
    }
    // Not `run`: the compiler cannot show that its future may be sent.
    Ok(migrations::sqlite().run_direct(None, &mut *writer, false).await?)
}

/// Refuses what SQLite is not to be asked for: it would make a catalog where one of the id `noted` was lost, or remove
/// a log that may have all that the catalog had.
pub(super) fn check_file(path: &Path, noted: Option<CatalogId>) -> Result<(), OpenError> {
    let unseen = |source| OpenError::Unseen { path: path.to_owned(), source };
    let file = SqliteFile::at(path).map_err(unseen)?;
    if let Some(log) = file.lone_log().map_err(unseen)? {
        return Err(OpenError::LoneLog { path: file.path().to_owned(), log });
    }
    match noted {
        Some(noted) if file.is_empty().map_err(unseen)? => Err(OpenError::Other { noted, found: Found::Empty }),
        _ => Ok(()),
    }
}

/// Whether it says that the catalog was lost. Whoever would make it again has to write.
fn is_loss(error: &OpenError) -> bool {
    matches!(error, OpenError::LoneLog { .. } | OpenError::Other { found: Found::Empty, .. })
        || engine(error).is_some_and(is_damage)
}

/// Whether the file cannot be written now, and may be later. Origins serve reads meanwhile, as where a server is away.
fn is_unwritable(error: &OpenError) -> bool {
    match error {
        OpenError::Unwritable(_) => true,
        OpenError::Lock { source: Some(source), .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
        error => engine(error)
            .and_then(sqlx::Error::as_database_error)
            .and_then(|said| said.code())
            .is_some_and(|code| FULL.contains(&&*code)),
    }
}

/// Returns what the engine said, also of a migration.
fn engine(error: &OpenError) -> Option<&sqlx::Error> {
    match error {
        OpenError::Engine(said)
        | OpenError::Migration(MigrateError::Execute(said) | MigrateError::ExecuteMigration(said, _)) => Some(said),
        _ => None,
    }
}

/// Returns how connections are kept. One to a file does not break while nobody uses it. But SQLite ends a transaction
/// by itself where the disk is full or fails, which the library does not notice: it would refuse every other on that
/// connection, so the connection is replaced.
fn pool() -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().acquire_timeout(BUSY).idle_timeout(None).max_lifetime(None);
    let is_usable = |connection: &SqliteConnection| !connection.is_in_transaction();
    pool.test_before_acquire(false).before_acquire(move |it, _| Box::pin(ready(Ok(is_usable(it)))))
}

/// Returns whether a file is there that is no catalog: it is no `SQLite` database, its list of tables does not read, or
/// it knows neither its id nor a record, as where its log was lost. Writes nothing into it. What else keeps it from
/// being read may pass, and counts as no loss; nor is a catalog lost that a later version of this program wrote in
/// words that this one's `SQLite` does not know.
pub async fn is_lost_sqlite(path: &Path) -> bool {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let look = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let found = is_blank(&mut connection).await;
        // Whoever moves the file is not to meet one that closes it.
        connection.close().await.and(found)
    };
    match timeout(BUSY, look).await {
        Ok(Ok(is_blank)) => is_blank,
        Ok(Err(said)) => is_damage(&said) && later_step(path).await.is_none(),
        Err(_) => false,
    }
}

/// Whether a database has neither the id of a catalog nor, as one of before there were ids, a record.
async fn is_blank(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if identity(connection).await?.is_some() {
        return Ok(false);
    }
    let has_records = has_table(connection, "records").await?;
    let any = "SELECT EXISTS (SELECT 1 FROM records)";
    Ok(!has_records || !sqlx::query_scalar::<_, bool>(any).fetch_one(connection).await?)
}

fn is_damage(said: &sqlx::Error) -> bool {
    let code = said.as_database_error().and_then(|said| said.code()?.parse::<u32>().ok());
    code.is_some_and(|code| DAMAGED.contains(&(code & PRIMARY)))
}

/// Returns the newest step of the schema that a file had, if this program does not know it. Reads a list of tables too
/// of which one is written in words of a later `SQLite`, which counts as damage otherwise.
async fn later_step(path: &Path) -> Option<i64> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).pragma("writable_schema", "ON");
    let look = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let newest = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await;
        connection.close().await.and(newest)
    };
    let newest: Option<i64> = timeout(BUSY, look).await.ok()?.ok()?;
    newest.filter(|step| *step > migrations::newest_of_sqlite())
}

/// Reads the id of a catalog that may have no tables.
async fn identity(connection: &mut SqliteConnection) -> Result<Option<Vec<u8>>, sqlx::Error> {
    if !has_table(connection, "identity").await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT id FROM identity").fetch_optional(connection).await
}

async fn has_table(connection: &mut SqliteConnection, name: &str) -> Result<bool, sqlx::Error> {
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1)";
    sqlx::query_scalar(is_there).bind(name).fetch_one(connection).await
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

driver!(cells SqliteRow);

impl Driver for Sqlite {
    const WRITE: &'static str = "BEGIN IMMEDIATE";
    const READ: &'static str = "BEGIN";
    // There is one writer.
    const ALONE: Option<&'static str> = None;
    const ALONE_FOR: &'static str = "";
    const ALONE_AS_BEFORE: &'static str = "";
    const FOLD: Option<&'static str> = None;
    // Busy readers only make it do less; the next call catches up.
    const PURGE: Option<&'static str> = Some("PRAGMA wal_checkpoint(TRUNCATE)");

    // The row that AUTOINCREMENT counts in.
    const RENUMBER: &'static [&'static str] = &[
        "DELETE FROM sqlite_sequence WHERE name = 'changes'",
        "INSERT INTO sqlite_sequence (name, seq)
         SELECT 'changes', max(unixepoch_ms(), coalesce(max(sequence), 0) + 1) FROM changes",
    ];

    fn try_alone() -> Option<&'static Wide> {
        None
    }

    fn said(statement: &'static str, now: Option<Duration>) -> SqlStr {
        in_words_of_sqlite(statement, now)
            .map_or_else(|| statement.into_sql_str(), |said| AssertSqlSafe(said).into_sql_str())
    }

    driver!(calls);
}

/// Says in SQLite's words what it has no words for: the clock in milliseconds, a given clock, and locks on rows, of
/// which one writer needs none. None when the statement is right as it is.
fn in_words_of_sqlite(statement: &str, now: Option<Duration>) -> Option<String> {
    const MILLISECONDS: &str = "unixepoch_ms()";
    const SECONDS: &str = "unixepoch()";
    const ROW_LOCK: &str = " FOR UPDATE";
    const OR_NONE: &str = " SKIP LOCKED";
    let is_strange = [MILLISECONDS, ROW_LOCK].iter().any(|word| statement.contains(word));
    if !is_strange && (now.is_none() || !statement.contains(SECONDS)) {
        return None;
    }
    let said = statement.replace(ROW_LOCK, "").replace(OR_NONE, "");
    Some(match now {
        Some(now) => {
            said.replace(MILLISECONDS, &now.as_millis().to_string()).replace(SECONDS, &now.as_secs().to_string())
        }
        None => said.replace(MILLISECONDS, "CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogError;

    #[tokio::test]
    async fn a_file_that_is_no_database_or_lost_its_first_page_or_its_log_is_lost_and_one_that_is_absent_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        assert!(!is_lost_sqlite(&path).await && !path.exists(), "it makes none");
        std::fs::write(&path, "").unwrap();
        assert!(is_lost_sqlite(&path).await);
        let catalog = SqliteCatalog::open(&path, 10).await.unwrap();
        assert!(!is_lost_sqlite(&path).await);
        crate::catalog::Catalog::close(&catalog).await;
        assert!(!is_lost_sqlite(&path).await);
        let whole = std::fs::read(&path).unwrap();
        // The header of the file, and that of the page that lists the tables (https://sqlite.org/fileformat.html).
        for at in [0, 100] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].fill(0xa5);
            std::fs::write(&path, bytes).unwrap();
            assert!(is_lost_sqlite(&path).await, "{at}");
        }
    }

    #[tokio::test]
    async fn a_file_whose_tables_lay_in_a_log_that_is_gone_is_lost_and_one_of_before_there_were_ids_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [path, copy] = ["catalog.sqlite", "copy.sqlite"].map(|name| folder.path().join(name));
        let catalog = SqliteCatalog::open(&path, 10).await.unwrap();
        std::fs::copy(&path, &copy).unwrap();
        assert!(std::fs::metadata(&copy).unwrap().len() > 0 && is_lost_sqlite(&copy).await);
        assert!(!is_lost_sqlite(&path).await);
        let run = async |statement: &'static str| sqlx::raw_sql(statement).execute(&catalog.writers).await.unwrap();
        run("DROP TABLE identity").await;
        assert!(is_lost_sqlite(&path).await, "nothing is in it");
        run("INSERT INTO records (locator, object, owner, public, lease, lease_version, keep_until, placement)
             VALUES (zeroblob(32), zeroblob(32), zeroblob(32), x'', x'', 1, 0, '[]')")
        .await;
        assert!(!is_lost_sqlite(&path).await);
    }

    #[tokio::test]
    async fn a_log_beside_a_file_that_is_missing_or_empty_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        let log = folder.path().join("catalog.sqlite-wal");
        let noted = Some(CatalogId([1; 16]));
        for is_there in [false, true] {
            if is_there {
                std::fs::write(&path, "").unwrap();
            }
            std::fs::write(&log, [7_u8; 5000]).unwrap();
            for noted in [None, noted] {
                let opened = SqliteCatalog::open_known(&path, 10, noted).await.map(drop);
                let Err(OpenError::LoneLog { path: file, log: found }) = &opened else { panic!("{opened:?}") };
                assert_eq!((file.exists(), &found.file_name()), (is_there, &log.file_name()));
                assert_eq!(std::fs::read(&log).unwrap(), [7; 5000]);
            }
            std::fs::remove_file(&log).unwrap();
            let opened = SqliteCatalog::open_known(&path, 10, noted).await.map(drop);
            assert!(matches!(opened, Err(OpenError::Other { found: Found::Empty, .. })), "{opened:?}");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "it is left as it was");
        SqliteCatalog::open(&path, 10).await.unwrap();
    }

    /// A table in words that this SQLite does not know is, to it, a damaged schema.
    #[tokio::test]
    async fn a_catalog_of_a_later_version_is_refused_as_that_and_is_not_damaged() {
        for (step, is_later) in [(migrations::newest_of_sqlite() + 1, true), (migrations::newest_of_sqlite(), false)] {
            for declared in ["CREATE TABLE later (a)", "CREATE TABLE later (a) IN_NEW_WORDS"] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("catalog.sqlite");
                let catalog = SqliteCatalog::open(&path, 10).await.unwrap();
                let run = async |statement: String| {
                    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&catalog.writers).await.unwrap();
                };
                let newest = "SELECT max(version) FROM _sqlx_migrations";
                run(format!("UPDATE _sqlx_migrations SET version = {step} WHERE version = ({newest})")).await;
                run("CREATE TABLE later (a); PRAGMA writable_schema = ON".to_owned()).await;
                run(format!("UPDATE sqlite_master SET sql = '{declared}' WHERE name = 'later'")).await;
                crate::catalog::Catalog::close(&catalog).await;
                let (opened, is_strange) = (SqliteCatalog::open(&path, 10).await, declared.contains("NEW"));
                match opened {
                    Err(OpenError::Later { step: found }) => assert!(is_later && found == step, "{declared}"),
                    Err(error) => assert!(!is_later && is_strange, "{step} {declared}: {error:?}"),
                    Ok(_) => assert!(!is_later && !is_strange, "{step} {declared}"),
                }
                assert_eq!(is_lost_sqlite(&path).await, is_strange && !is_later, "{step} {declared}");
            }
        }
    }

    #[tokio::test]
    async fn a_disk_that_was_full_takes_writes_again_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&folder.path().join("catalog.sqlite"), 10).await.unwrap();
        sqlx::query("CREATE TABLE filler (bytes BLOB)").execute(&catalog.writers).await.unwrap();
        let fill = async || {
            let mut transaction = catalog.writers.begin_with(Sqlite::WRITE).await?;
            sqlx::query("INSERT INTO filler VALUES (zeroblob(1000000))").execute(&mut *transaction).await?;
            transaction.commit().await
        };
        // The connection takes no page more than the file has, as on a full disk.
        sqlx::query("PRAGMA max_page_count = 1").execute(&catalog.writers).await.unwrap();
        let full = CatalogError::from(fill().await.unwrap_err());
        assert!(full.is_full());
        assert_eq!(full.to_string(), "the disk of the catalog is full");
        fill().await.unwrap();
    }
}
