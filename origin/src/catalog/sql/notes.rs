//! What edges share, as rows: each version replaces the one before it and no other.

use bytes::Bytes;
use format::{NoteId, wire::Note};

use super::{Cells, Driver, SqlCatalog, number};
use crate::catalog::{
    CatalogError, NOTES_MAX,
    rule::{Refused, storable},
};

pub(super) async fn put<D: Driver>(catalog: &SqlCatalog<D>, id: &NoteId, note: &Note) -> Result<(), CatalogError> {
    let statement = if note.version == 1 {
        "INSERT INTO notes (note, version, sealed)
         SELECT $1, $2, $3 WHERE (SELECT count(*) FROM notes) < $4
         ON CONFLICT DO NOTHING"
    } else {
        "UPDATE notes SET version = $2, sealed = $3 WHERE note = $1 AND version = $2 - 1 AND $4 > 0"
    };
    let version = storable(note.version)?;
    let most = i64::try_from(NOTES_MAX).unwrap_or(i64::MAX);
    let written = catalog
        .writer()
        .await?
        .run(statement, &[(&id.0).into(), version.into(), note.sealed[..].into(), most.into()])
        .await?;
    match written {
        1 => Ok(()),
        _ if note.version == 1 && read(catalog, id).await?.is_none() => {
            Err(Refused::TooManyNotes { max: NOTES_MAX }.into())
        }
        _ => Err(Refused::OtherNote.into()),
    }
}

pub(super) async fn read<D: Driver>(catalog: &SqlCatalog<D>, id: &NoteId) -> Result<Option<Note>, CatalogError> {
    let statement = "SELECT version, sealed FROM notes WHERE note = $1";
    let row = catalog.reader().await?.first(statement, &[(&id.0).into()]).await?;
    row.map(|row| {
        let (version, sealed) = (number(row.number(0)?, "notes")?, Bytes::copy_from_slice(row.bytes(1)?));
        Ok(Note { version, sealed })
    })
    .transpose()
}
