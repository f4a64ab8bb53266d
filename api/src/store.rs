//! What the API remembers: tokens, which upload came by which of them, sessions of the console, and an audit log, in
//! one SQLite file beside the owner's index. Names, labels and keys are not in it; the index has them, encrypted.
//!
//! WAL and `synchronous=FULL`: what was acknowledged survives a power cut. One task writes; writes that wait share a
//! transaction (group commit). Commands that make tokens use the file beside a twin that runs.

/// What begins a statement that counts what a token (`$1`) has together with those that it made, and with its maker's:
/// all that descend from one that the owner made, as `lineage.rs` says it.
macro_rules! family {
    () => {
        "WITH RECURSIVE above (id, maker) AS (
             SELECT id, maker FROM tokens WHERE id = $1
             UNION SELECT up.id, up.maker FROM tokens AS up JOIN above ON up.id = above.maker WHERE NOT up.links),
         family (id, links) AS (
             SELECT id, links FROM tokens WHERE id IN (SELECT id FROM above
                 WHERE maker IS NULL OR maker IN (SELECT id FROM tokens WHERE links))
             UNION SELECT made.id, made.links FROM tokens AS made JOIN family ON made.maker = family.id
             WHERE NOT family.links) "
    };
}

/// What an upload in several requests counts for its token, where it does: `quota::counted` in SQL.
macro_rules! length_counted {
    () => {
        "max(length, 512)"
    };
}

mod migrations;
mod reads;
mod writes;

use std::{
    future::ready,
    path::{Path, PathBuf},
    time::Duration,
};

use client::Unwritable;
use format::{Locator, PolicyName};
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use twin::Batch;

use crate::{
    lived::Lived,
    session::SecretHash,
    token::{Grant, TokenHash, TokenId},
};

/// The file, in the owner's state folder.
pub const STORE_FILE: &str = "api.sqlite";
/// Longest wait for another process that writes, and for a free connection.
const BUSY: Duration = Duration::from_secs(5);
/// Connections that read; more than cores only queue inside SQLite.
const READERS: u32 = 4;
/// Writes that wait for the writer; who comes later waits to be let in.
const WAITING_MAX: usize = 1024;

/// Pins, and for each token uploads in several requests that are not stored.
pub(crate) const PINS_MAX: u64 = 100_000;
pub(crate) const RESUMABLES_MAX: u64 = 10_000;

/// What one token, or one address, may have of what all share: half of it, so that others always find room.
pub(crate) fn share(max: u64) -> u64 {
    max.div_ceil(2)
}

/// Parts of CARs: of one DAG, which is put together of all of them, and for each token.
pub(crate) const PARTS_OF_DAG_MAX: u64 = 1000;
pub(crate) const PARTS_MAX: u64 = 10_000;

/// What SQLite says when no page more can be written, and when none can (<https://www.sqlite.org/rescode.html>). The
/// low byte of a code is what it is about.
const SQLITE_FULL: u32 = 13;
const SQLITE_READ_ONLY: u32 = 8;
/// What it says of a file that is damaged, or none of its own.
const SQLITE_DAMAGED: [u32; 2] = [11, 26];

/// Why the store cannot be read or written; the twin's machine is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("the folder {} cannot be used for the API's file", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("the file of tokens and uploads cannot be read or written")]
    Sqlite(#[source] sqlx::Error),
    /// Its disk takes no write; the operator's to mend.
    #[error("the disk of the file of tokens and uploads {disk}")]
    Unwritable {
        /// Why.
        disk: Unwritable,
    },
    /// A write failed.
    #[error("the file of tokens and uploads cannot be written: {reason}")]
    Unwritten {
        /// What SQLite says.
        reason: String,
    },
    /// It is no file of SQLite's, or parts of it do not read.
    #[error("{}, the file of tokens and uploads, is damaged", path.display())]
    NoDatabase {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// A later version of this program wrote it.
    #[error("a later version of this program wrote {}, the file of tokens and uploads", path.display())]
    Later {
        /// Which.
        path: PathBuf,
    },
    /// The file was edited.
    #[error("the file of tokens and uploads cannot be brought up to date")]
    Migration(#[from] MigrateError),
    /// What stands in it is none of ours.
    #[error("the table {table} of the API's file is damaged")]
    Damaged {
        /// Which table.
        table: &'static str,
    },
    /// A token that counts has this name.
    #[error("there is a token called {name:?}; end it first, or choose another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The token that makes another was ended a moment ago.
    #[error("the token that makes this one was ended")]
    MakerEnded,
    /// A one-time link was opened before, or too late.
    #[error("the link signed somebody in already, or is older than ten minutes; `evernear twin console` makes another")]
    Spent,
    /// Somebody ended it meanwhile.
    #[error("it was erased or given up meanwhile")]
    Gone,
    /// A part of a resumable upload belongs to another one already, or is gone.
    #[error("the upload {batch} is a part of another one already, or was given up")]
    Taken {
        /// The part.
        batch: Batch,
    },
    /// The token has as many as it may have.
    #[error("a token, with those that it made, may have {max} {what}; remove some")]
    Share {
        /// How many.
        max: u64,
        /// Of what.
        what: &'static str,
    },
    /// The DAG came in as many parts as it may.
    #[error("the parts of a DAG that is not whole are {max} at most; delete its CID, and send larger ones")]
    Parts {
        /// How many.
        max: u64,
    },
    /// The writer ended.
    #[error("the twin is stopping")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match primary_code(&error) {
            Some(SQLITE_FULL) => Self::Unwritable { disk: Unwritable::Full },
            Some(SQLITE_READ_ONLY) => Self::Unwritable { disk: Unwritable::ReadOnly },
            _ => Self::Sqlite(error),
        }
    }
}

impl StoreError {
    /// Says what it means when this file is opened.
    fn of_file(self, path: PathBuf) -> Self {
        match self {
            Self::Migration(MigrateError::VersionMissing(_)) => Self::Later { path },
            Self::Sqlite(source)
            | Self::Migration(MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _))
                if primary_code(&source).is_some_and(|code| SQLITE_DAMAGED.contains(&code)) =>
            {
                Self::NoDatabase { path, source }
            }
            error => error,
        }
    }
}

/// Returns what an error of SQLite's is about.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error().and_then(|said| said.code()?.parse::<u32>().ok());
    code.map(|code| code & 0xff)
}

/// One change of the store.
#[derive(Clone)]
pub(crate) enum Write {
    Token(Grant, TokenHash),
    /// Ends a token, those that it made, and who is signed in by one of them, at a time in seconds since 1970.
    Revoke(TokenId, u64),
    /// A link signs in, once.
    Key {
        hash: SecretHash,
        token: TokenId,
        now: u64,
        expires: u64,
    },
    /// A browser is signed in, by a token or by a key that counts no more from then on.
    Session {
        hash: SecretHash,
        token: TokenId,
        created: u64,
        expires: u64,
        key: Option<SecretHash>,
    },
    /// It signed out.
    EndSession(SecretHash),
    /// A policy was published, as its owner wrote it.
    Policy {
        name: PolicyName,
        version: u64,
        source: String,
    },
    /// An upload begins.
    Begin {
        batch: Batch,
        token: TokenId,
        created_ms: u64,
        source: Source,
        title: Option<String>,
    },
    /// Parts of it are durable in the spool.
    Partial {
        batch: Batch,
        token: TokenId,
        bytes: u64,
        cid: String,
        /// When it came, in seconds that were seen to pass.
        arrived: u64,
    },
    /// It has another title from now on.
    Title {
        batch: Batch,
        title: String,
    },
    /// It was stored: from now on it is acknowledged, and what it was made of is no more.
    Keep {
        batch: Batch,
        locator: Locator,
        bytes: u64,
        dag: Option<(String, u64)>,
        made_of: MadeOf,
    },
    /// An upload in several requests begins. Whole ones that it is made of are its parts from now on.
    Resumable {
        row: Box<Resumable>,
        parts: Vec<Batch>,
    },
    /// So much of it is durable.
    Offset {
        batch: Batch,
        offset: u64,
    },
    /// It is whole and cannot be stored now.
    Failed {
        batch: Batch,
        fault: Fault,
        /// When it expires at the soonest if it was not refused before.
        expires: u64,
    },
    /// It is given up, with its parts.
    DropResumable(Batch),
    /// There is a pin, perhaps instead of another.
    Pin {
        row: Box<PinRow>,
        token: TokenId,
        instead: Option<Batch>,
    },
    /// There is one no more.
    Unpin(Batch),
    /// Nothing of it is left.
    Drop(Batch),
    /// So much time was seen to pass.
    Lived(Lived),
    Audit(Line),
}

/// What an upload was made of beside its own request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MadeOf {
    /// Nothing.
    Request,
    /// Parts of CARs that came before.
    Cars(Vec<Batch>),
    /// An upload in several requests, and its parts.
    Resumable(Batch),
}

/// Bytes that a write made count no more for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) token: TokenId,
    /// Of its quota.
    pub(crate) stored: u64,
    /// Of the spool.
    pub(crate) spooled: u64,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who.
    pub token: TokenId,
    /// What: method and route.
    pub action: String,
    /// Of which object, where it is one.
    pub subject: Option<Locator>,
    /// Of which token or policy, by its name, where it is one.
    pub about: Option<String>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Bytes that were stored.
    pub bytes: u64,
}

/// How an upload came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By a path of our own.
    Files,
    /// As the bytes of a file.
    Blob,
    /// As a form.
    Form,
    /// As a CAR.
    Car,
    /// As metadata with files.
    Metadata,
}

impl Source {
    const ALL: [Self; 5] = [Self::Files, Self::Blob, Self::Form, Self::Car, Self::Metadata];

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Files => 0,
            Self::Blob => 1,
            Self::Form => 2,
            Self::Car => 3,
            Self::Metadata => 4,
        }
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|source| i64::from(source.number()) == number)
    }
}

/// An upload as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its batch in the index.
    pub batch: Batch,
    /// By which token.
    pub token: TokenId,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// How it came.
    pub source: Source,
    /// Bytes that it counts for its token: those of its files, and 512 at least for each of its objects; of one that is
    /// not whole, of what lies in the spool.
    pub bytes: u64,
    /// Its top; none while it is not whole.
    pub locator: Option<Locator>,
    /// The CID of its DAG.
    pub cid: Option<String>,
    /// Bytes of all blocks of the DAG.
    pub dag_bytes: u64,
    /// What its owner calls it, where that is not the name of the object.
    pub title: Option<String>,
    /// The name of its token.
    pub token_name: String,
}

/// An upload in several requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resumable {
    /// Names it, and its folder in the spool.
    pub(crate) batch: Batch,
    pub(crate) token: TokenId,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Seconds that were seen to pass.
    pub(crate) expires: u64,
    /// Bytes that there will be, and that are durable.
    pub(crate) length: u64,
    pub(crate) offset: u64,
    /// `Upload-Metadata` and `Upload-Concat` as they came.
    pub(crate) metadata: Option<String>,
    pub(crate) concat: Option<String>,
    /// Fields with wishes.
    pub(crate) wishes: Vec<(String, String)>,
    /// The object that it became.
    pub(crate) locator: Option<Locator>,
    /// The upload that it is a part of.
    pub(crate) final_of: Option<Batch>,
    /// What kept it from being stored, as often as it was tried.
    pub(crate) tries: u32,
    pub(crate) fault: Option<Fault>,
}

/// Why a whole upload is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: String,
    /// When it is tried again, in seconds that were seen to pass.
    pub(crate) due: u64,
    /// Whether it is given up once it expires.
    pub(crate) refused: bool,
}

impl Resumable {
    pub(crate) fn is_whole(&self) -> bool {
        self.offset == self.length
    }

    /// Whether it is given up once it expires, although it is whole.
    pub(crate) fn is_refused(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.refused)
    }

    /// Whether it is one of the parts of another, or waits to be.
    pub(crate) fn is_part(&self) -> bool {
        self.concat.as_deref() == Some("partial")
    }

    /// Whether nobody can go on with it after so many seconds that were seen to pass. What came whole is kept until it
    /// is stored, unless that is refused; a part goes with the upload that it belongs to.
    pub(crate) fn has_expired(&self, lived: u64) -> bool {
        let waits = self.is_whole() && !self.is_part() && !self.is_refused();
        self.expires <= lived && self.final_of.is_none() && (self.locator.is_some() || !waits)
    }
}

/// A pin, with what can be said of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinRow {
    pub(crate) id: Batch,
    /// Milliseconds since 1970; no two pins have the same.
    pub(crate) created_ms: u64,
    pub(crate) cid: String,
    /// As it came, in JSON.
    pub(crate) pin: String,
    pub(crate) status: PinStatus,
}

/// Which pins a list is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinAsk {
    /// Empty: all.
    pub(crate) cids: Vec<String>,
    pub(crate) statuses: Vec<PinStatus>,
    /// Times in milliseconds, both exclusive.
    pub(crate) before_ms: Option<u64>,
    pub(crate) after_ms: Option<u64>,
}

/// Whether what is pinned is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PinStatus {
    /// All of it.
    Pinned,
    /// Parts of it.
    Pinning,
    /// Nothing.
    Failed,
}

impl PinStatus {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Pinning => "pinning",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn of(word: &str) -> Option<Self> {
        [Self::Pinned, Self::Pinning, Self::Failed].into_iter().find(|status| status.word() == word)
    }
}

/// A write and whom to tell.
type Job = (Write, oneshot::Sender<Result<Vec<Freed>, StoreError>>);

/// The open store.
pub struct Store {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    task: JoinHandle<()>,
}

/// Returns how connections are kept. One to a file does not break while nobody uses it. But SQLite ends a transaction
/// by itself where the disk is full or fails, which the library does not notice: it would refuse every other on that
/// connection, so the connection is replaced.
fn pool() -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().acquire_timeout(BUSY).idle_timeout(None).max_lifetime(None);
    let is_usable = |connection: &SqliteConnection| !connection.is_in_transaction();
    pool.test_before_acquire(false).before_acquire(move |it, _| Box::pin(ready(Ok(is_usable(it)))))
}

impl Store {
    /// Opens or makes the file in the owner's state folder.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(STORE_FILE);
        let made = path.clone();
        let prepared = tokio::task::spawn_blocking(move || private(&made)).await.map_err(|_| StoreError::Closed)?;
        prepared.map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        Self::open_file(&path).await.map_err(|error| error.of_file(path))
    }

    async fn open_file(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true);
        let writer = pool().max_connections(1).connect_with(options.clone()).await?;
        migrations::all().run(&writer).await?;
        let readers = pool().max_connections(READERS).connect_with(options.pragma("query_only", "ON")).await?;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(writes::run(writer, waiting));
        Ok(Self { jobs, readers, task })
    }

    /// Makes a change durable. Returns what counts no more by it.
    pub(crate) async fn write(&self, write: Write) -> Result<Vec<Freed>, StoreError> {
        let (tell, told) = oneshot::channel();
        self.jobs.send((write, tell)).await.map_err(|_| StoreError::Closed)?;
        told.await.map_err(|_| StoreError::Closed)?
    }

    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add(&self, grant: Grant, hash: TokenHash) -> Result<(), StoreError> {
        self.write(Write::Token(grant, hash)).await.map(drop)
    }

    /// Ends a token from `now` on, seconds since 1970, and those that it made, theirs too. What they stored stays. The
    /// token of links alone leaves those that were made by it: to sign browsers out stops no program.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(&self, token: TokenId, now: u64) -> Result<(), StoreError> {
        self.write(Write::Revoke(token, now)).await.map(drop)
    }

    /// Closes the file, after all that waits to be written.
    pub async fn close(self) {
        drop(self.jobs);
        // The writer ends with its last job; one that panicked has nothing to end.
        let _ = self.task.await;
        self.readers.close().await;
    }
}

/// Makes the file, for this user alone: SQLite makes its side files with the mode of the file itself.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    std::fs::File::options().create(true).truncate(false).write(true).mode(0o600).open(path).map(drop)
}

#[cfg(test)]
mod tests;
