//! Reading a few strips of a shard: the proof at once, the strips piece by piece as the reader takes them.

use bytes::Bytes;
use format::{ListProof, ObjectId, StripList, StripeIndex, limits::SHARD_READ_STRIPS_MAX};

use super::{Store, StoreError, held::Held};

/// Bytes of one piece: large enough for a disk, small enough that a slow reader holds little memory.
const PIECE_BYTES: u64 = 1 << 20;

/// Strips that are being read.
#[derive(Debug)]
pub struct Slice {
    held: Held,
    proof: ListProof,
    at: u64,
    left: u64,
}

impl Store {
    /// Finds strips of a shard and proves them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn slice(&self, object: &ObjectId, column: usize, first: u64, count: u64) -> Result<Slice, StoreError> {
        let no_shard = || StoreError::NoShard { object: *object, column };
        let mut held = self.held(object, column)?.ok_or_else(no_shard)?;
        let public = held.public(object)?.ok_or_else(no_shard)?;
        let strips = public.column_strips(column);
        let outside = StoreError::Range { first, count, strips };
        let end = first.checked_add(count).filter(|end| *end <= strips && (1..=SHARD_READ_STRIPS_MAX).contains(&count));
        let Some(end) = end else { return Err(outside) };

        let list = held.list()?.ok_or_else(no_shard)?;
        if held.strips_bytes != public.shard_bytes(column) {
            return Err(held.damaged());
        }
        let list = StripList::from_bytes(list).filter(|list| list.len() as u64 == strips);
        let range = usize::try_from(first).ok().zip(usize::try_from(end).ok());
        let proof = list.zip(range).and_then(|(list, (first, end))| list.prove(first..end));
        let Some(proof) = proof else { return Err(held.damaged()) };
        let at = public.shard_offset(StripeIndex(first));
        let left = public.shard_offset(StripeIndex(end)) - at;
        Ok(Slice { held, proof, at, left })
    }
}

impl Slice {
    /// Returns the proof of all strips of the slice.
    #[must_use]
    pub fn proof(&self) -> &ListProof {
        &self.proof
    }

    /// Returns the bytes not read yet.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.left
    }

    /// Reads the next piece, at most 1 MiB; none at the end.
    ///
    /// # Errors
    /// [`StoreError`]; what was read before is not the whole slice then.
    pub fn piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let length = usize::try_from(self.left.min(PIECE_BYTES)).expect("a piece is 1 MiB at most");
        if length == 0 {
            return Ok(None);
        }
        let piece = self.held.strips(self.at, length, 0)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(Some(piece))
    }
}
