//! The row of `moves`: that a catalog is in another database, or not whole yet, so that no origin uses it.

use std::array::TryFromSliceError;

use sqlx::{Error, SqlSafeStr};

use super::{Side, held::tables};
use crate::catalog::{CatalogId, sql::Cells, url::OpenError};

/// What a database says of a catalog that may not be used in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which catalog.
    pub id: CatalogId,
    /// Which move: both databases of it have the same number.
    pub number: [u8; 16],
    /// Whether it left or comes.
    pub way: Way,
    /// The other database, as a URL without a password.
    pub place: String,
}

/// Which way a catalog goes, seen from a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To another one: what is left here is a copy of that moment.
    To,
    /// From another one: until the move ends, that one counts.
    From,
}

impl Mark {
    /// Reads the mark of a database, if it has one. `tables` are those that it has.
    pub(super) async fn read<D: Side>(on: &mut D::Connection, tables: &[String]) -> Result<Option<Self>, Error> {
        if !tables.iter().any(|table| table == "moves") {
            return Ok(None);
        }
        let rows = D::rows(on, "SELECT id, move, gone, place FROM moves".into_sql_str(), &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let number = |at| sixteen(row.bytes(at)?);
        Ok(Some(Self {
            id: CatalogId(number(0)?),
            number: number(1)?,
            way: if row.number(2)? == 0 { Way::From } else { Way::To },
            place: row.text(3)?.to_owned(),
        }))
    }

    /// Puts the mark in the place of the id, in a transaction.
    pub(super) async fn put<D: Side>(&self, on: &mut D::Connection) -> Result<(), Error> {
        let gone = i64::from(self.way == Way::To);
        let put = "INSERT INTO moves (one, id, move, gone, place) VALUES (1, $1, $2, $3, $4)";
        let args = [(&self.id.0[..]).into(), (&self.number[..]).into(), gone.into(), self.place.as_str().into()];
        clear::<D>(on).await?;
        D::run(on, put.into_sql_str(), &args).await.map(drop)
    }

    /// Puts the id in the place of the mark, in a transaction.
    pub(super) async fn take<D: Side>(on: &mut D::Connection, id: CatalogId) -> Result<(), Error> {
        let put = "INSERT INTO identity (one, id) VALUES (1, $1)";
        clear::<D>(on).await?;
        D::run(on, put.into_sql_str(), &[(&id.0[..]).into()]).await.map(drop)
    }
}

async fn clear<D: Side>(on: &mut D::Connection) -> Result<(), Error> {
    for statement in ["DELETE FROM identity", "DELETE FROM moves"] {
        D::run(on, statement.into_sql_str(), &[]).await?;
    }
    Ok(())
}

/// Reads an id or a number back.
pub(super) fn sixteen(bytes: &[u8]) -> Result<[u8; 16], Error> {
    bytes.try_into().map_err(|error: TryFromSliceError| Error::Decode(Box::new(error)))
}

/// Refuses a database whose catalog is elsewhere or not whole. Before its id is asked for: it has none.
///
/// # Errors
/// [`OpenError::Moved`], [`OpenError::Unfinished`].
pub(in crate::catalog) async fn refuse_moved<D: Side>(on: &mut D::Connection) -> Result<(), OpenError> {
    let tables = tables::<D>(on).await?;
    match Mark::read::<D>(on, &tables).await? {
        None => Ok(()),
        Some(Mark { way: Way::To, place, .. }) => Err(OpenError::Moved { place }),
        Some(Mark { way: Way::From, place, .. }) => Err(OpenError::Unfinished { place }),
    }
}
