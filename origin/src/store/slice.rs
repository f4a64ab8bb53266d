//! Reading a few strips of a shard: the proof at once, the strips piece by piece as the reader takes them.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use bytes::Bytes;
use format::{
    ListProof, ObjectId, PublicManifest, StripList, StripeIndex,
    limits::{PUBLIC_MANIFEST_BYTES_MAX, SHARD_READ_STRIPS_MAX, STRIPES_MAX},
};

use super::{Store, StoreError, failed, open, read};

/// Bytes of one piece: large enough for a disk, small enough that a slow reader holds little memory.
const PIECE_BYTES: u64 = 1 << 20;

/// Largest list: one hash for each strip a shard can have.
#[expect(clippy::cast_possible_truncation, reason = "32 MiB")]
pub(super) const LIST_BYTES_MAX: usize = STRIPES_MAX as usize * 32;

/// Strips that are being read.
#[derive(Debug)]
pub struct Slice {
    file: File,
    path: PathBuf,
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
        let path = self.shard_path(object, column);
        let no_shard = || StoreError::NoShard { object: *object, column };
        let file = open(&path)?.ok_or_else(no_shard)?;
        let public = self.public(object)?.ok_or_else(no_shard)?;
        let strips = public.column_strips(column);
        let outside = StoreError::Range { first, count, strips };
        let end = first.checked_add(count).filter(|end| *end <= strips && (1..=SHARD_READ_STRIPS_MAX).contains(&count));
        let Some(end) = end else { return Err(outside) };

        let list_path = self.list_path(object, column);
        let list = read(&list_path, LIST_BYTES_MAX)?.ok_or_else(no_shard)?;
        let length = file.metadata().map_err(failed("measure", &path))?.len();
        if length != public.shard_bytes(column) {
            return Err(StoreError::Damaged { path });
        }
        let list = StripList::from_bytes(list).filter(|list| list.len() as u64 == strips);
        let range = usize::try_from(first).ok().zip(usize::try_from(end).ok());
        let proof = list.zip(range).and_then(|(list, (first, end))| list.prove(first..end));
        let proof = proof.ok_or(StoreError::Damaged { path: list_path })?;
        let at = public.shard_offset(StripeIndex(first));
        Ok(Slice { file, path, proof, at, left: public.shard_offset(StripeIndex(end)) - at })
    }

    /// Returns the public manifest of an object of which a shard is, or was, here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn public(&self, object: &ObjectId) -> Result<Option<PublicManifest>, StoreError> {
        let path = self.public_path(object);
        let Some(bytes) = read(&path, PUBLIC_MANIFEST_BYTES_MAX)? else { return Ok(None) };
        match PublicManifest::decode(bytes.into()) {
            Ok(public) if public.id() == *object => Ok(Some(public)),
            _ => Err(StoreError::Damaged { path }),
        }
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
        let mut piece = vec![0; length];
        self.file.read_exact_at(&mut piece, self.at).map_err(failed("read", &self.path))?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(Some(piece.into()))
    }
}
