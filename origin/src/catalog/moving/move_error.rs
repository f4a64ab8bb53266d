//! Why a catalog is not moved.

use format::NodeName;
use sqlx::Error;

use crate::catalog::url::{OpenError, PasswordInUrl};

/// Why a catalog is not moved. The source may be used as before, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A password is in a URL.
    #[error(transparent)]
    Password(#[from] PasswordInUrl),
    /// Both are one.
    #[error("the catalog is at {place} already; name another database to move it to")]
    Same {
        /// The database.
        place: String,
    },
    /// A database cannot be opened.
    #[error("the database {place} cannot be opened")]
    Open {
        /// The database.
        place: String,
        /// The cause.
        source: OpenError,
    },
    /// Others use it.
    #[error("the database {place} is in use: stop all origins on it, and `evernear up`{}", heard(nodes))]
    InUse {
        /// The database.
        place: String,
        /// Origins that were heard of within the last minute.
        nodes: Vec<NodeName>,
    },
    /// There is nothing to move.
    #[error("there is no catalog at {place}: nothing was ever filed there")]
    NoCatalog {
        /// The database.
        place: String,
    },
    /// It is not whole.
    #[error(
        "the catalog at {place} is being made again from the disks: start `evernear up` until it is whole, then move it"
    )]
    Unwhole {
        /// The database.
        place: String,
    },
    /// The target has something else.
    #[error(
        "the database {place} has another catalog, or tables of another program, and was left as it is; name an empty database"
    )]
    Taken {
        /// The database.
        place: String,
    },
    /// The source was moved elsewhere.
    #[error("the catalog of {place} has moved to {to}: move it from there")]
    Gone {
        /// The source.
        place: String,
        /// Where it is.
        to: String,
    },
    /// The source is not whole.
    #[error("the catalog at {place} is not whole: its move from {from} was cut short. Run that one again")]
    Unfinished {
        /// The source.
        place: String,
        /// Where it comes from.
        from: String,
    },
    /// The tables of both are not the same.
    #[error(
        "the columns of the table {table} are not the same in both databases; this program does not fit one of them"
    )]
    Schema {
        /// The table.
        table: &'static str,
    },
    /// The rows of a table do not go over.
    #[error("the rows of the table {table} cannot be moved; nothing was changed, and another try begins anew")]
    Rows {
        /// The table.
        table: &'static str,
        /// The cause.
        source: Error,
    },
    /// What was read back is not what was written.
    #[error("the copy of the table {table} is not what was read; nothing was changed. Does a disk or the memory fail?")]
    Differs {
        /// The table.
        table: &'static str,
    },
    /// An engine failed.
    #[error("the database {place} does not do what it is asked; try again: what was done is gone on with")]
    Engine {
        /// The database.
        place: String,
        /// The cause.
        source: Error,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

fn heard(nodes: &[NodeName]) -> String {
    match nodes {
        [] => String::new(),
        nodes => {
            let names = nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!(". Heard of within the last minute: {}", names.join(", "))
        }
    }
}
