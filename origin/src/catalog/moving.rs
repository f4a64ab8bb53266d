//! A catalog's move to another database, on the same engine or the other one.
//!
//! ```text
//! take both alone    no origin is on them, and none can come
//! copy               each table in pages into one transaction, and back out of it to compare; then commit:
//!                    the target says that it comes from the source, and has no id
//! let go             the source says that it is gone to the target, and has no id any more
//! arrive             the target has the id
//! ```
//!
//! Keeps true: at every moment one of the two may be used, or none ([`plan`]). A move that is cut short before the
//! source lets go has changed nothing that counts, and the next one begins anew; after it, the next one ends it. The id
//! stays, and so do the numbers of the feed: whoever follows it goes on. What counts rows is counted anew.
//!
//! Memory is bounded by a page of each side, whatever the catalog has.

mod copy;
mod held;
mod mark;
mod move_error;
mod plan;
mod postgres;
mod side;
mod sqlite;
mod table;

use std::path::Path;

use sqlx::{Connection, Postgres, Sqlite};

use self::{
    copy::{Told, copy_all},
    held::{Held, standing, within},
    plan::Step,
};
pub(super) use self::{mark::refuse_moved, postgres::enter, side::Side};
pub use self::{
    mark::{Mark, Way},
    move_error::MoveError,
    plan::Standing,
};
use super::{
    CatalogId,
    sqlite::check_file,
    url::{CatalogUrl, OpenError},
};

/// The file that `evernear up` keeps beside a catalog that it makes again, until that is whole.
pub const UNFINISHED: &str = "catalog.unfinished";

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// What is done now.
    pub stage: Stage,
    /// Rows that are done, of this stage and of those before.
    pub rows: u64,
    /// Rows of all stages: each is copied and then compared.
    pub of: u64,
}

/// A stage of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Rows go over.
    Copying,
    /// They are read back and compared.
    Comparing,
    /// The target has all, durable, and nobody may use it.
    Copied,
    /// Nobody may use the source any more.
    Left,
}

/// What a move did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The catalog's id, as before.
    pub id: CatalogId,
    /// The tables and how many rows each has; none where all was copied by a move before this one.
    pub tables: Vec<(&'static str, u64)>,
}

/// Moves a catalog. Both databases are held alone meanwhile. `tell` hears how far it is. Dropped, or killed, at any
/// moment it has happened, or another one brings it to its end.
///
/// # Errors
/// [`MoveError`].
pub async fn move_catalog(
    from: &CatalogUrl,
    to: &CatalogUrl,
    mut tell: impl FnMut(Moving) + Send,
) -> Result<Moved, MoveError> {
    let places = [from.without_password()?, to.without_password()?];
    if places[0] == places[1] || is_one_file(from, to) {
        return Err(MoveError::Same { place: places[0].clone() });
    }
    let [from_place, to_place] = places;
    if let CatalogUrl::Sqlite(file) = from
        && file.with_file_name(UNFINISHED).exists()
    {
        return Err(MoveError::Unwhole { place: from_place });
    }
    for (url, place) in [(from, &from_place), (to, &to_place)] {
        check_log(url).map_err(|source| MoveError::Open { place: place.clone(), source })?;
    }
    let tell = &mut tell;
    match (from, to) {
        (CatalogUrl::Sqlite(from), CatalogUrl::Sqlite(to)) => {
            run::<Sqlite, Sqlite>((from, from_place), (to, to_place), tell).await
        }
        (CatalogUrl::Sqlite(from), CatalogUrl::Postgres(to)) => {
            run::<Sqlite, Postgres>((from, from_place), (to, to_place), tell).await
        }
        (CatalogUrl::Postgres(from), CatalogUrl::Sqlite(to)) => {
            run::<Postgres, Sqlite>((from, from_place), (to, to_place), tell).await
        }
        (CatalogUrl::Postgres(from), CatalogUrl::Postgres(to)) => {
            run::<Postgres, Postgres>((from, from_place), (to, to_place), tell).await
        }
    }
}

/// Looks at what is in a database, also while origins use it. Changes nothing.
///
/// # Errors
/// [`OpenError`], also where a server is away.
pub async fn look(url: &CatalogUrl) -> Result<Standing, OpenError> {
    check_log(url)?;
    async fn at<D: Side>(url: &D::Url) -> Result<Standing, OpenError> {
        let mut on = D::join(url).await?;
        let standing = standing::<D>(&mut on).await;
        on.close().await?;
        Ok(standing?)
    }
    match url {
        CatalogUrl::Sqlite(path) if !path.exists() => Ok(Standing::Blank),
        CatalogUrl::Sqlite(path) => at::<Sqlite>(path).await,
        CatalogUrl::Postgres(url) => at::<Postgres>(url).await,
    }
}

/// Refuses a file whose log may have all there is: SQLite removes it beside an empty file.
fn check_log(url: &CatalogUrl) -> Result<(), OpenError> {
    match url {
        CatalogUrl::Sqlite(file) => check_file(file, None),
        CatalogUrl::Postgres(_) => Ok(()),
    }
}

fn is_one_file(from: &CatalogUrl, to: &CatalogUrl) -> bool {
    let file = |url: &CatalogUrl| match url {
        CatalogUrl::Sqlite(path) => Path::canonicalize(path).ok(),
        CatalogUrl::Postgres(_) => None,
    };
    file(from).is_some_and(|it| file(to) == Some(it))
}

async fn run<S: Side, T: Side>(
    (from, from_place): (&S::Url, String),
    (to, to_place): (&T::Url, String),
    tell: &mut (dyn FnMut(Moving) + Send),
) -> Result<Moved, MoveError> {
    if !S::is_there(from) {
        return Err(MoveError::NoCatalog { place: from_place });
    }
    let mut source = Held::<S>::take(from, from_place).await?;
    let stands = source.standing().await?;
    // Before the other one is made or touched.
    plan::leaving(&stands, &source.place)?;
    let mut target = Held::<T>::take(to, to_place).await?;
    let step = plan::next(&stands, &target.standing().await?, &source.place, &target.place)?;
    let mut tables = Vec::new();
    if let Step::Copy(id) = step {
        let mut number = [0; 16];
        getrandom::fill(&mut number)?;
        source.migrate().await?;
        target.migrate().await?;
        let come = Mark { id, number, way: Way::From, place: source.place.clone() };
        let mut told = Told { tell, rows: 0, of: 0 };
        tables = copy_all(&mut source, &mut target, &come, &mut told).await?;
        told.is_at(Stage::Copied);
        let gone = Mark { way: Way::To, place: target.place.clone(), ..come };
        source.begin(S::WRITE).await?;
        within(gone.put::<S>(&mut source.on)).await.map_err(|error| source.failed(error))?;
        source.commit().await?;
        told.is_at(Stage::Left);
    }
    if let Step::Copy(id) | Step::Finish(id) = step {
        target.begin(T::WRITE).await?;
        within(Mark::take::<T>(&mut target.on, id)).await.map_err(|error| target.failed(error))?;
        target.commit().await?;
    }
    target.close().await;
    source.close().await;
    Ok(Moved { id: step.id(), tables })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use testing::postgres::Server;

    use super::{
        held::{MIGRATIONS, tables},
        table::TABLES,
        *,
    };
    use crate::catalog::{PostgresCatalog, SqliteCatalog};

    /// Asks an engine for its tables, and compares them with those that a move knows.
    async fn assert_all_known<D: Side>(url: &D::Url, own: &[&str]) {
        let mut on = D::join(url).await.unwrap();
        let there: BTreeSet<String> = tables::<D>(&mut on).await.unwrap().into_iter().collect();
        let derived = D::DERIVED.iter().map(|(name, _)| *name);
        let known = TABLES.iter().map(|table| table.name).chain(derived).chain(["identity", "moves", MIGRATIONS]);
        assert_eq!(there, known.chain(own.iter().copied()).map(str::to_owned).collect());
    }

    /// A table that a migration brings and nobody moves would be lost without a word.
    #[tokio::test]
    async fn every_table_of_each_engine_is_moved_or_counted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        SqliteCatalog::open(&path, 10).await.unwrap();
        assert_all_known::<Sqlite>(&path, &["sqlite_sequence"]).await;
        let url = Server::shared().database().parse().unwrap();
        PostgresCatalog::connect(&url, 10).await.unwrap();
        assert_all_known::<Postgres>(&url, &[]).await;
    }
}
