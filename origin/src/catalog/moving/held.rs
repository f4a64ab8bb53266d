//! A database that is held alone, and what is asked of it.

use std::{io, time::Duration};

use format::{
    NodeName,
    wire::{NodeEntry, Role},
};
use sqlx::{AssertSqlSafe, Connection, Error, SqlSafeStr};

use super::{
    Mark, MoveError, Side, Standing,
    mark::sixteen,
    table::{Column, Kind, TABLES, Table},
};
use crate::catalog::{
    CatalogId,
    sql::{Arg, Cells},
    url::OpenError,
};

/// Longest wait for one step of an engine: an index over a large table takes minutes.
const STEP: Duration = Duration::from_secs(3600);
/// Longest wait for the names of those who use a database.
const NAMED_WITHIN: Duration = Duration::from_secs(10);
/// The table of sqlx's migrator: who has it has a schema that was made by steps.
pub(super) const MIGRATIONS: &str = "_sqlx_migrations";

/// A database that is held alone.
pub(super) struct Held<D: Side> {
    pub(super) place: String,
    pub(super) on: D::Connection,
}

impl<D: Side> Held<D> {
    pub(super) async fn take(url: &D::Url, place: String) -> Result<Self, MoveError> {
        match D::take(url).await {
            Ok(Some(on)) => Ok(Self { place, on }),
            Ok(None) => Err(MoveError::InUse { nodes: nodes_of::<D>(url).await, place }),
            Err(source) => Err(MoveError::Open { place, source }),
        }
    }

    pub(super) async fn migrate(&mut self) -> Result<(), MoveError> {
        let failed = |source: OpenError| MoveError::Open { place: self.place.clone(), source };
        match tokio::time::timeout(STEP, D::migrate(&mut self.on)).await {
            Ok(migrated) => migrated.map_err(|error| failed(error.into())),
            Err(_) => Err(failed(OpenError::Slow { seconds: STEP.as_secs() })),
        }
    }

    pub(super) async fn standing(&mut self) -> Result<Standing, MoveError> {
        within(standing::<D>(&mut self.on)).await.map_err(|error| self.failed(error))
    }

    pub(super) async fn begin(&mut self, statement: &'static str) -> Result<(), MoveError> {
        self.run(statement).await
    }

    pub(super) async fn commit(&mut self) -> Result<(), MoveError> {
        self.run("COMMIT").await
    }

    pub(super) async fn run(&mut self, statement: &str) -> Result<(), MoveError> {
        let statement = AssertSqlSafe(statement.to_owned()).into_sql_str();
        within(D::run(&mut self.on, statement, &[])).await.map(drop).map_err(|error| self.failed(error))
    }

    /// Returns a count, or a number of the feed.
    pub(super) async fn number(&mut self, statement: &str) -> Result<u64, MoveError> {
        let statement = AssertSqlSafe(statement.to_owned()).into_sql_str();
        let rows = within(D::rows(&mut self.on, statement, &[])).await.map_err(|error| self.failed(error))?;
        let number = rows.first().ok_or(Error::RowNotFound).and_then(|row| row.number(0));
        let number = number.and_then(|it| u64::try_from(it).map_err(|error| Error::Decode(Box::new(error))));
        number.map_err(|error| self.failed(error))
    }

    /// Returns the columns of a table in the order of their names; none where one is of a type that catalogs do not
    /// have.
    pub(super) async fn columns(&mut self, table: Table) -> Result<Vec<Column>, MoveError> {
        let args = [Arg::Text(table.name)];
        let rows = within(D::rows(&mut self.on, D::COLUMNS.into_sql_str(), &args)).await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let column =
            |row: &D::Row| Some(Column { name: row.text(0).ok()?.to_owned(), kind: Kind::of(row.text(1).ok()?)? });
        let mut columns = rows.iter().map(column).collect::<Option<Vec<_>>>().unwrap_or_default();
        columns.sort();
        Ok(columns)
    }

    /// Says which database it is that failed.
    pub(super) fn failed(&self, source: Error) -> MoveError {
        MoveError::Engine { place: self.place.clone(), source }
    }

    /// Lets others in again. What is committed is so.
    pub(super) async fn close(self) {
        if let Err(error) = self.on.close().await {
            tracing::warn!(place = self.place, %error, "a database was not left in order");
        }
    }
}

/// Reads what stands in a database.
pub(super) async fn standing<D: Side>(on: &mut D::Connection) -> Result<Standing, Error> {
    let tables = tables::<D>(on).await?;
    if tables.is_empty() {
        return Ok(Standing::Blank);
    }
    if let Some(mark) = Mark::read::<D>(on, &tables).await? {
        return Ok(Standing::Moved(mark));
    }
    if !["identity", MIGRATIONS].iter().all(|needed| tables.iter().any(|table| table == needed)) {
        return Ok(Standing::Foreign);
    }
    let mut is_empty = true;
    for table in TABLES.iter().filter(|table| tables.iter().any(|it| it == table.name)) {
        let any = AssertSqlSafe(format!("SELECT 1 FROM {} LIMIT 1", table.name)).into_sql_str();
        is_empty &= D::rows(on, any, &[]).await?.is_empty();
    }
    let rows = D::rows(on, "SELECT id FROM identity".into_sql_str(), &[]).await?;
    match rows.first() {
        _ if is_empty => Ok(Standing::Empty),
        Some(row) => Ok(Standing::Here(CatalogId(sixteen(row.bytes(0)?)?))),
        None => Ok(Standing::Foreign),
    }
}

/// Returns the tables of a database.
pub(super) async fn tables<D: Side>(on: &mut D::Connection) -> Result<Vec<String>, Error> {
    let rows = D::rows(on, D::TABLES.into_sql_str(), &[]).await?;
    rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}

/// Returns the origins that announced themselves lately, as far as the database says.
async fn nodes_of<D: Side>(url: &D::Url) -> Vec<NodeName> {
    let heard = async {
        let mut on = D::join(url).await.ok()?;
        let lately = "SELECT entry FROM nodes WHERE seen >= unixepoch() - 60 ORDER BY name";
        let rows = D::rows(&mut on, lately.into_sql_str(), &[]).await.ok()?;
        let entry = |row: &D::Row| serde_json::from_str::<NodeEntry>(row.text(0).ok()?).ok();
        let origins = rows.iter().filter_map(entry).filter(|entry| entry.role == Role::Origin);
        Some(origins.map(|entry| entry.name).collect())
    };
    tokio::time::timeout(NAMED_WITHIN, heard).await.ok().flatten().unwrap_or_default()
}

/// Waits for a step of an engine, but not for ever.
pub(super) async fn within<O>(call: impl Future<Output = Result<O, Error>>) -> Result<O, Error> {
    tokio::time::timeout(STEP, call).await.unwrap_or_else(|_| Err(Error::Io(io::ErrorKind::TimedOut.into())))
}
