//! Reading a few cells of a shard: the proof at once, the cells piece by piece as the reader takes them.

use bytes::Bytes;
use format::{ListProof, ObjectId, limits::SHARD_READ_STRIPS_MAX};

use super::{Store, StoreError, held::Held};

/// Bytes of one piece: large enough for a disk, small enough that a slow reader holds little memory.
const PIECE_BYTES: u64 = 1 << 20;

/// Cells that are being read.
#[derive(Debug)]
pub struct Slice {
    held: Held,
    proof: ListProof,
    at: u64,
    left: u64,
}

impl Store {
    /// Finds cells of a shard and proves their rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn slice(&self, object: &ObjectId, column: usize, first: u64, count: u64) -> Result<Slice, StoreError> {
        let no_shard = || StoreError::NoShard { object: *object, column };
        let mut held = self.held(object, column)?.ok_or_else(no_shard)?;
        let public = held.public(object)?.ok_or_else(no_shard)?;
        let cells = public.stripes();
        let outside = StoreError::Range { first, count, cells };
        let end = first.checked_add(count).filter(|end| *end <= cells && (1..=SHARD_READ_STRIPS_MAX).contains(&count));
        let Some(end) = end else { return Err(outside) };

        let list = held.list(&public)?.ok_or_else(no_shard)?;
        let range = usize::try_from(first).ok().zip(usize::try_from(end).ok());
        let proof = range.and_then(|(first, end)| list.rows().prove(first..end));
        let (Some(proof), Some(bytes)) = (proof, list.range(first..end)) else { return Err(held.damaged()) };
        // A wrong place in the list is damage of the list alone, which this node mends; a reader would call the strips
        // wrong. In an object store a look would cost as much as the read.
        if !held.is_remote() {
            for cell in [first, end - 1] {
                held.check_place(&list, cell, column, public.row_columns())?;
            }
        }
        let (at, left) = (bytes.start, bytes.end - bytes.start);
        Ok(Slice { held, proof, at, left })
    }
}

impl Slice {
    /// Returns the proof of all rows of the slice.
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
        let piece = self.held.cells(self.at, length, 0)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(Some(piece))
    }
}
