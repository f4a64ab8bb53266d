//! Where the catalog is, and how it is opened.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use sqlx::{
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{Catalog, CatalogId, PostgresCatalog, SqliteCatalog, postgres::is_away};

/// Where the catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogUrl {
    /// A file on this machine.
    Sqlite(PathBuf),
    /// A database server.
    Postgres(PostgresUrl),
}

/// The URL of a `PostgreSQL` database that reads well. It may hold a password: neither its debug form nor an error
/// shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

/// Not the URL of a catalog; the operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no catalog; write sqlite:///absolute/path or postgres://USER@HOST/DATABASE")]
pub struct CatalogUrlError;

/// A URL that others can read has a password; the operator's to take out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the catalog's URL has a password, and every user of this machine can read a command line: take it out, and put a line \
     HOST:PORT:DATABASE:USER:PASSWORD into ~/.pgpass (chmod 600), or name another such file in PGPASSFILE"
)]
pub struct PasswordInUrl;

/// Why a catalog cannot be opened; the operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The lock beside a file cannot be had.
    #[error(
        "the lock {path} beside the catalog cannot be taken; is its folder writable, does another program hold it?"
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause; none when another process held it for too long.
        source: Option<std::io::Error>,
    },
    /// The file is no catalog or cannot be opened, or the server cannot be reached or lets nobody in.
    #[error("the catalog's database cannot be opened")]
    Engine(#[from] sqlx::Error),
    /// It was moved to another database.
    #[error("the catalog has moved to {place}; name that one in its place")]
    Moved {
        /// Where it is, without a password.
        place: String,
    },
    /// It was not moved here whole.
    #[error("the catalog is not whole: its move from {place} was cut short; run that again (`evernear catalog move`)")]
    Unfinished {
        /// Where it comes from, without a password.
        place: String,
    },
    /// It is being moved.
    #[error("the catalog is held by `evernear catalog move`; start again when that has ended")]
    Moving,
    /// It is not the catalog that it should be, and was left as it is.
    #[error("the catalog {found}, and catalog {noted} was looked for")]
    Other {
        /// The catalog looked for.
        noted: CatalogId,
        /// What it is.
        found: Found,
    },
    /// There is no file, or an empty one, and a log lies beside it. Both were left as they are.
    #[error(
        "{} is missing or empty, and {} is there, its log, which may have all that the catalog had. Put back the file that the log belongs to. \
         Or move the log away, stop all origins and run `evernear catalog rebuild` for all of them before any starts", path.display(), log.display()
    )]
    LoneLog {
        /// The file.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// It was lost, which nobody can mend now: its disk is full or read-only.
    #[error("the catalog was lost, and cannot be made again while its disk is full or read-only")]
    Unwritable(#[source] Box<OpenError>),
    /// It cannot be seen what lies there.
    #[error("{} cannot be looked at", path.display())]
    Unseen {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A later version of this program wrote it. It was left as it is.
    #[error(
        "a later version of this program brought the catalog to step {step} of its schema, which this one does not know: run that one. \
         The way back is a backup of before"
    )]
    Later {
        /// The step.
        step: i64,
    },
    /// The schema is not one this program can bring up to date: it was edited.
    #[error("the catalog's schema does not fit this program")]
    Migration(#[source] MigrateError),
    /// The schema could not be brought up to date in time.
    #[error("the catalog's schema was not up to date after {seconds} s; does another program hold its lock?")]
    Slow {
        /// How long was waited.
        seconds: u64,
    },
}

/// What a catalog is that is not the one looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is not there, or nothing is in it yet.
    Empty,
    /// It is another one.
    Id(CatalogId),
}

impl fmt::Display for Found {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => to.write_str("is empty"),
            Self::Id(id) => write!(to, "has the id {id}"),
        }
    }
}

impl Found {
    /// Says what the id means that a catalog has, if any, where the one of the id `noted` is looked for.
    pub(super) fn check(id: Option<&[u8]>, noted: CatalogId) -> Result<(), OpenError> {
        let found = match id.and_then(|id| id.try_into().ok()) {
            Some(id) if id == noted.0 => return Ok(()),
            Some(id) => Self::Id(CatalogId(id)),
            None => Self::Empty,
        };
        Err(OpenError::Other { noted, found })
    }
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(step) => Self::Later { step },
            error => Self::Migration(error),
        }
    }
}

impl OpenError {
    /// Returns whether a server cannot be reached now, and may be later.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Engine(error) if is_away(error))
    }

    /// Returns whether a server did not believe who we are.
    #[must_use]
    pub fn is_password(&self) -> bool {
        // invalid_password, invalid_authorization_specification (PostgreSQL, appendix A).
        let Self::Engine(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| matches!(&*code, "28P01" | "28000"))
    }
}

impl CatalogUrl {
    /// Returns whether no other machine reaches it by this URL.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(url) => url.read().is_ok_and(|options| is_here(&options)),
        }
    }

    /// Returns the URL as text, for a place that others can read.
    ///
    /// # Errors
    /// [`PasswordInUrl`].
    pub fn without_password(&self) -> Result<String, PasswordInUrl> {
        match self {
            Self::Sqlite(path) => Ok(format!("sqlite://{}", path.display())),
            Self::Postgres(url) if url.has_password() => Err(PasswordInUrl),
            Self::Postgres(url) => Ok(url.0.clone()),
        }
    }

    /// Opens the catalog and brings its schema up to date. The feed keeps the newest `changes_kept` changes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, changes_kept: u32) -> Result<Arc<dyn Catalog>, OpenError> {
        self.open_known(changes_kept, None).await
    }

    /// The same, if it is the catalog of the id `noted`. Another one is left as it is: an empty one that got its tables
    /// would be taken for a catalog.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_known(&self, changes_kept: u32, noted: Option<CatalogId>) -> Result<Arc<dyn Catalog>, OpenError> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteCatalog::open_known(path, changes_kept, noted).await?),
            Self::Postgres(url) => Arc::new(PostgresCatalog::connect_known(url, changes_kept, noted).await?),
        })
    }
}

impl FromStr for CatalogUrl {
    type Err = CatalogUrlError;

    fn from_str(text: &str) -> Result<Self, CatalogUrlError> {
        match text.split_once("://") {
            Some(("sqlite", path)) if path.starts_with('/') && path.len() > 1 => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => text.parse().map(Self::Postgres),
            _ => Err(CatalogUrlError),
        }
    }
}

impl FromStr for PostgresUrl {
    type Err = CatalogUrlError;

    fn from_str(text: &str) -> Result<Self, CatalogUrlError> {
        let url = Self(text.to_owned());
        // A database of the user's name is what a missing one would mean; that would rather be a slip.
        url.read().ok().filter(|options| options.get_database().is_some()).ok_or(CatalogUrlError)?;
        Ok(url)
    }
}

/// Returns whether a server is reached over no network.
fn is_here(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1")
}

impl PostgresUrl {
    /// Returns how to connect. A server on another machine must prove its name, unless the URL itself says otherwise:
    /// `sslmode=prefer`, the default of the protocol's own library, sends records to whoever answers.
    pub(super) fn options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        let options = self.read()?;
        let is_here = is_here(&options);
        let is_chosen = self.0.contains("sslmode=") || self.0.contains("ssl-mode=");
        Ok(if is_here || is_chosen { options } else { options.ssl_mode(PgSslMode::VerifyFull) })
    }

    /// Returns whether the text has a password, or something in which one could hide.
    fn has_password(&self) -> bool {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before.split(['/', '#']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        let keys = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        user.contains(':') || keys.into_iter().any(|key| key == "password" || key.contains('%'))
    }

    fn read(&self) -> Result<PgConnectOptions, sqlx::Error> {
        self.0.parse()
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = self.read().ok();
        let (host, database) = read.as_ref().map_or(("", None), |read| (read.get_host(), read.get_database()));
        to.debug_struct("PostgresUrl").field("host", &host).field("database", &database).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(text: &str) -> PostgresUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_catalog_is_a_file_with_its_whole_path_or_a_database_with_a_name() {
        assert_eq!("sqlite:///a/b.db".parse(), Ok(CatalogUrl::Sqlite("/a/b.db".into())));
        for good in ["postgres://u:p@db:5432/evernear", "postgresql://u@%2Frun%2Fpostgresql/evernear"] {
            assert!(matches!(good.parse(), Ok(CatalogUrl::Postgres(_))), "{good}");
        }
        for bad in ["sqlite://a.db", "sqlite:///", "postgres://db", "postgres://db/", "mysql://u@db/x", "/a/b.db", ""] {
            assert_eq!(bad.parse::<CatalogUrl>(), Err(CatalogUrlError), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url: CatalogUrl = "postgres://me:sesame@db.example/evernear?password=sesame".parse().unwrap();
        let shown = format!("{url:?}");
        assert!(!shown.contains("sesame") && shown.contains("db.example"), "{shown}");
    }

    #[test]
    fn a_file_and_a_server_on_a_socket_are_of_this_machine() {
        for (text, is_here) in [
            ("sqlite:///a/b.db", true),
            ("postgres://u@localhost/x", true),
            ("postgres://u@%2Frun%2Fpostgresql/x", true),
            ("postgres://u@192.0.2.1/x", false),
            ("postgres://u@db.example/x", false),
        ] {
            assert_eq!(text.parse::<CatalogUrl>().unwrap().is_of_this_machine(), is_here, "{text}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_not_for_others_to_read() {
        let said = |text: &str| text.parse::<CatalogUrl>().unwrap().without_password();
        for text in ["sqlite:///a/b.db", "postgres://u@db:5432/x?sslmode=require", "postgres://u@%2Frun%2Fpostgresql/x"]
        {
            assert_eq!(said(text).as_deref(), Ok(text));
        }
        for text in [
            "postgres://u:p@db/x",
            "postgres://u:@db/x",
            "postgres://u@db/x?password=p",
            "postgres://u@db/x?a=b&p%61ssword=p",
        ] {
            assert_eq!(said(text), Err(PasswordInUrl), "{text}");
        }
    }

    #[test]
    fn a_server_elsewhere_must_prove_its_name() {
        let mode = |text| postgres(text).options().unwrap().get_ssl_mode();
        assert!(matches!(mode("postgres://u@db.example/x"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@192.0.2.1/x"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@db.example/x?sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("postgres://u@localhost/x"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://u@%2Frun%2Fpostgresql/x"), PgSslMode::Prefer));
    }
}
