//! Strips of a shard as a node sent them, proven under the shard's root before use.

use bytes::Bytes;
use format::{PublicManifest, StripeIndex, verify_strip, wire::ShardSlice};

use crate::{Bug, ShardAsk, planted};

/// Returns the requested strips if the body proves each of them under the column's root, else `None`. Costs CPU time
/// for hashing all their bytes.
#[must_use]
pub fn verify_slice(public: &PublicManifest, ask: ShardAsk, body: Bytes) -> Option<Vec<Bytes>> {
    let stripes = ask.first..ask.first.checked_add(ask.count)?;
    let lengths: Option<Vec<usize>> = stripes.clone().map(|stripe| public.strip_bytes(StripeIndex(stripe))).collect();
    let slice = ShardSlice::read(body, &lengths?).ok()?;
    if planted(Bug::StripCheck) {
        return Some(slice.strips);
    }
    let count = usize::try_from(public.column_strips(ask.column)).ok()?;
    let range = usize::try_from(stripes.start).ok()?..usize::try_from(stripes.end).ok()?;
    let hashes = slice.proof.verify(public.root(ask.column)?, count, range).ok()?;
    let all = hashes.len() == slice.strips.len()
        && slice.strips.iter().zip(&hashes).all(|(strip, hash)| verify_strip(strip, hash));
    all.then_some(slice.strips)
}
