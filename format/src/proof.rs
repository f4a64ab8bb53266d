//! An object's list of row hashes and the proofs that a few of them belong under its root.
//!
//! The root is plain BLAKE3 of the list. BLAKE3 is a tree over 1 KiB chunks (BLAKE3 paper, section 2.1), so the hashes
//! of a few rows are proven by their chunks and the chaining values beside the path: a range read of a large object
//! costs 1 to 4 KiB of proof instead of the whole list of up to 32 MiB. This is what Bao does; the list is short, so
//! the proof is built from the list itself and no tree is stored.

use std::ops::Range;

use blake3::{
    CHUNK_LEN, Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root},
};

use crate::{Root, RowHash, limits::PROOF_BYTES_MAX};

const HASH_BYTES: usize = 32;

/// The row hashes of one object, in stripe order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowList(Vec<u8>);

impl RowList {
    /// Takes the stored form: 32 bytes a row. None when the length is no multiple of that.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        bytes.len().is_multiple_of(HASH_BYTES).then_some(Self(bytes))
    }

    /// Returns the stored form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds the next row's hash.
    pub fn push(&mut self, hash: RowHash) {
        self.0.extend_from_slice(&hash.0);
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / HASH_BYTES
    }

    /// Returns whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the hash of a row.
    #[must_use]
    pub fn hash(&self, index: usize) -> Option<RowHash> {
        let bytes = self.0.get(index * HASH_BYTES..(index + 1) * HASH_BYTES)?;
        bytes.try_into().ok().map(RowHash)
    }

    /// Returns the object's root: BLAKE3 of the list.
    #[must_use]
    pub fn root(&self) -> Root {
        Root(*blake3::hash(&self.0).as_bytes())
    }

    /// Proves the hashes of `rows`, which must lie in the list. Costs one pass over the list (1 GB/s and more).
    ///
    /// Returns `None` if the range is empty or not in the list.
    #[must_use]
    pub fn prove(&self, rows: Range<usize>) -> Option<ListProof> {
        if rows.is_empty() || rows.end > self.len() {
            return None;
        }
        let wanted = rows.start * HASH_BYTES..rows.end * HASH_BYTES;
        let mut out = Vec::new();
        write_node(&self.0, 0, &wanted, &mut out);
        Some(ListProof(out))
    }
}

/// A Merkle proof: the chunks that contain the requested hashes and the chaining values beside them, in the order of a
/// walk from the left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListProof(Vec<u8>);

/// Why a proof does not hold. The node that sent it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The asked range is empty or not in the list.
    #[error("rows {first}..{end} are not in a list of {count}")]
    Range {
        /// First row asked.
        first: usize,
        /// End of the range.
        end: usize,
        /// Rows in the list.
        count: usize,
    },
    /// The proof is too short or too long for the range.
    #[error("the proof has another length than this range needs")]
    Length,
    /// The proof leads to another root than the object's.
    #[error("the proof leads to another root")]
    Root,
}

impl ListProof {
    /// Takes the wire form. Returns `None` if it is longer than any proof.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= PROOF_BYTES_MAX).then_some(Self(bytes))
    }

    /// Returns the wire form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks the proof against a root of a list of `count` rows and returns the hashes of `rows`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, root: &Root, count: usize, rows: Range<usize>) -> Result<Vec<RowHash>, ProofError> {
        if rows.is_empty() || rows.end > count {
            return Err(ProofError::Range { first: rows.start, end: rows.end, count });
        }
        let wanted = rows.start * HASH_BYTES..rows.end * HASH_BYTES;
        let mut reader = Reader { proof: &self.0, wanted: &wanted, hashes: Vec::with_capacity(rows.len()) };
        let found = reader.root(count * HASH_BYTES)?;
        if !reader.proof.is_empty() {
            return Err(ProofError::Length);
        }
        // Hashes are public, so the comparison need not be constant time.
        if found == *root { Ok(reader.hashes) } else { Err(ProofError::Root) }
    }
}

fn overlaps(start: usize, len: usize, wanted: &Range<usize>) -> bool {
    start < wanted.end && wanted.start < start + len
}

fn split(len: usize) -> usize {
    usize::try_from(left_subtree_len(len as u64)).expect("a part of a slice is no longer than the slice")
}

fn write_node(list: &[u8], start: usize, wanted: &Range<usize>, out: &mut Vec<u8>) {
    if !overlaps(start, list.len(), wanted) {
        out.extend_from_slice(&subtree(list, start));
    } else if list.len() <= CHUNK_LEN {
        out.extend_from_slice(list);
    } else {
        let (left, right) = list.split_at(split(list.len()));
        write_node(left, start, wanted, out);
        write_node(right, start + left.len(), wanted, out);
    }
}

fn subtree(bytes: &[u8], start: usize) -> ChainingValue {
    Hasher::new().set_input_offset(start as u64).update(bytes).finalize_non_root()
}

struct Reader<'p> {
    proof: &'p [u8],
    wanted: &'p Range<usize>,
    hashes: Vec<RowHash>,
}

impl Reader<'_> {
    fn root(&mut self, len: usize) -> Result<Root, ProofError> {
        if len <= CHUNK_LEN {
            let chunk = self.chunk(0, len)?;
            return Ok(Root(*blake3::hash(chunk).as_bytes()));
        }
        let left_len = split(len);
        let left = self.node(0, left_len)?;
        let right = self.node(left_len, len - left_len)?;
        Ok(Root(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()))
    }

    fn node(&mut self, start: usize, len: usize) -> Result<ChainingValue, ProofError> {
        if !overlaps(start, len, self.wanted) {
            let (value, rest) = self.proof.split_first_chunk().ok_or(ProofError::Length)?;
            self.proof = rest;
            return Ok(*value);
        }
        if len <= CHUNK_LEN {
            let chunk = self.chunk(start, len)?;
            return Ok(subtree(chunk, start));
        }
        let left_len = split(len);
        let left = self.node(start, left_len)?;
        let right = self.node(start + left_len, len - left_len)?;
        Ok(merge_subtrees_non_root(&left, &right, Mode::Hash))
    }

    fn chunk(&mut self, start: usize, len: usize) -> Result<&[u8], ProofError> {
        let (chunk, rest) = self.proof.split_at_checked(len).ok_or(ProofError::Length)?;
        self.proof = rest;
        let from = self.wanted.start.max(start) - start;
        let to = self.wanted.end.min(start + len) - start;
        for hash in chunk[from..to].chunks_exact(HASH_BYTES) {
            self.hashes.push(RowHash(hash.try_into().expect("chunks_exact gives 32 bytes")));
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(count: usize) -> RowList {
        let mut list = RowList::default();
        (0..count).for_each(|i| list.push(RowHash::of(&i.to_le_bytes())));
        list
    }

    proptest! {
        #[test]
        fn proves_any_range_and_refuses_any_flipped_bit(count in 1usize..300, a in 0usize..300, b in 0usize..300, bit in any::<usize>()) {
            let (list, a, b) = (list(count), a % count, b % count);
            let range = a.min(b)..a.max(b) + 1;
            let proof = list.prove(range.clone()).unwrap();
            let hashes = proof.verify(&list.root(), count, range.clone()).unwrap();
            prop_assert!(hashes.iter().zip(range.clone()).all(|(hash, i)| list.hash(i) == Some(*hash)));
            prop_assert_eq!(hashes.len(), range.len());
            let mut bad = proof.as_bytes().to_vec();
            let bit = bit % (bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(ListProof(bad).verify(&list.root(), count, range.clone()).is_err());
            for wrong in [proof.0[1..].to_vec(), [&proof.0[..], &[0]].concat()] {
                prop_assert!(ListProof(wrong).verify(&list.root(), count, range.clone()).is_err());
            }
        }
    }

    #[test]
    fn the_longest_proof_fits_its_bound() {
        let count = 40_000;
        let list = list(count);
        let most = usize::try_from(crate::limits::SHARD_READ_STRIPS_MAX).unwrap();
        for first in [0, 1, 31, 32, 16_383, 20_000, count - most] {
            let proof = list.prove(first..first + most).unwrap();
            assert!(proof.as_bytes().len() <= PROOF_BYTES_MAX);
            assert!(proof.verify(&list.root(), count, first..first + most).is_ok());
        }
        assert_eq!(list.prove(5..5), None);
        assert_eq!(list.prove(0..count + 1), None);
    }
}
