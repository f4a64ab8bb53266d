//! The list of refused node certificates at an origin. Each keeps its own copy on its disk, verified; the catalog and
//! its feed only carry it to the others. So nobody holds it back from all: not a catalog that was restored or that
//! somebody writes to, and no single node.

use bytes::Bytes;
use client::RefusedListError;

use crate::{catalog::CatalogError, node::Node};

/// Why a list that somebody brought is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BringError {
    /// The bringer is at fault.
    #[error(transparent)]
    List(#[from] RefusedListError),
    /// The bringer is late.
    #[error("the list of refused certificates has number {found}, and number {held} is held; sign one above that")]
    Old {
        /// Its number.
        found: u64,
        /// The number of the list held.
        held: u64,
    },
}

/// Takes up a list that somebody brought. The same list again is fine: its sender did not hear the answer, or goes from
/// node to node.
pub(crate) async fn bring(node: &Node, der: Bytes) -> Result<(), BringError> {
    let membership = node.membership.as_ref().ok_or(RefusedListError::Signature)?;
    let list = membership.open_refused(der)?;
    let held = membership.refused();
    if list.number() < held.number() || (list.number() == held.number() && list != *held) {
        return Err(BringError::Old { found: list.number(), held: held.number() });
    }
    membership.take_up(list).await;
    // Whether the catalog is there or not: this node refuses from now on, and files the list with its next
    // announcement.
    if let Err(error) = agree(node).await {
        tracing::warn!(%error, "the list of refused certificates is not in the catalog yet");
    }
    Ok(())
}

/// Brings the list held here and the one in the catalog to the newer of both.
pub(crate) async fn agree(node: &Node) -> Result<(), CatalogError> {
    let Some(membership) = &node.membership else { return Ok(()) };
    let filed = node.catalog.refused().await?.map(|der| membership.open_refused(der));
    let held = membership.refused();
    match filed {
        Some(Ok(list)) if list.number() >= held.number() => {
            membership.take_up(list).await;
        }
        filed => {
            if let Some(Err(error)) = filed {
                tracing::error!(%error, "the catalog's list of refused certificates does not count");
            }
            if held.number() > 0 {
                node.catalog.put_refused(held.number(), held.der()).await?;
                node.feed.written();
            }
        }
    }
    Ok(())
}
