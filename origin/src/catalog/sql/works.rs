//! Work that one origin at a time does, and how far it came: the next holder goes on there.

use std::time::Duration;

use bytes::Bytes;
use format::NodeName;

use super::{Cells, Driver, SqlCatalog, milliseconds};
use crate::catalog::{AHEAD_MAX, CatalogError};

pub(super) async fn take<D: Driver>(
    catalog: &SqlCatalog<D>,
    name: &str,
    holder: &NodeName,
    hold: Duration,
) -> Result<Option<Bytes>, CatalogError> {
    let row = catalog
        .writer()
        .await?
        .first(
            "INSERT INTO works (name, reached, holder, held_until_ms) VALUES ($1, $2, $3, unixepoch_ms() + $4)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until_ms = excluded.held_until_ms
             WHERE works.holder = excluded.holder
                OR works.held_until_ms NOT BETWEEN unixepoch_ms() + 1 AND unixepoch_ms() + $5
             RETURNING reached",
            &[
                name.into(),
                (&[][..]).into(),
                holder.as_str().into(),
                milliseconds(hold).into(),
                milliseconds(AHEAD_MAX).into(),
            ],
        )
        .await?;
    row.map(|row| Ok(Bytes::copy_from_slice(row.bytes(0)?))).transpose()
}

pub(super) async fn keep<D: Driver>(
    catalog: &SqlCatalog<D>,
    name: &str,
    holder: &NodeName,
    hold: Duration,
    cursor: &[u8],
) -> Result<bool, CatalogError> {
    let kept = catalog
        .writer()
        .await?
        .run(
            "UPDATE works SET reached = $1, held_until_ms = unixepoch_ms() + $2 WHERE name = $3 AND holder = $4",
            &[cursor.into(), milliseconds(hold).into(), name.into(), holder.as_str().into()],
        )
        .await?;
    Ok(kept == 1)
}
