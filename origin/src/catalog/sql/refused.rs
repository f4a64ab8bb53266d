//! The list of refused node certificates as the one row that carries it from node to node. Nodes judge it; here it is
//! bytes.

use bytes::Bytes;
use format::wire::ChangeKind;

use super::{Cells, Driver, SqlCatalog, feed};
use crate::catalog::CatalogError;

pub(super) async fn put<D: Driver>(catalog: &SqlCatalog<D>, number: u64, list: &Bytes) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    let statement =
        "INSERT INTO refused (one, list) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET list = excluded.list";
    write.run(statement, &[list[..].into()]).await?;
    feed::tell(&mut write, &ChangeKind::Refused { number }).await?;
    write.commit().await
}

pub(super) async fn read<D: Driver>(catalog: &SqlCatalog<D>) -> Result<Option<Bytes>, CatalogError> {
    let row = catalog.reader().await?.first("SELECT list FROM refused", &[]).await?;
    row.map(|row| Ok(Bytes::copy_from_slice(row.bytes(0)?))).transpose()
}
