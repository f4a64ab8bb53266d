//! Cells of a shard as a node sent them, proven under the object's root before anybody uses them.

use bytes::Bytes;
use format::{Cell, PublicManifest, StripeIndex, wire::ShardSlice};

use crate::{Bug, ShardAsk, planted};

/// Returns the asked cells if the body proves each of them under the object's root. CPU work on all their bytes.
#[must_use]
pub fn verify_slice(public: &PublicManifest, ask: ShardAsk, body: Bytes) -> Option<Vec<Cell>> {
    let most = usize::try_from(ask.count).ok()?;
    let ShardSlice { proof, cells } = ShardSlice::read(body, public.row_columns(), ask.column, most).ok()?;
    let stripes = ask.first..ask.first.checked_add(ask.count)?;
    if cells.len() as u64 != ask.count {
        return None;
    }
    if planted(Bug::StripCheck) {
        return Some(cells);
    }
    let [first, end, count] =
        [stripes.start, stripes.end, public.stripes()].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    let rows = proof.verify(public.root()?, count, first..end).ok()?;
    let is_proven = |((stripe, cell), row): ((u64, &Cell), &format::RowHash)| {
        cell.row.hash() == *row && public.fits(StripeIndex(stripe), &cell.row) && cell.is_intact(ask.column)
    };
    stripes.zip(&cells).zip(&rows).all(is_proven).then_some(cells)
}
