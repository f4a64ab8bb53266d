//! The tree over a long list of rows: with it in memory, proving a few rows reads the part of the list that they are
//! in, and not all of it, which for an object of a TiB is 40 MiB for each cell.
//!
//! The same proofs as those of [`RowList::prove`]: values of groups of 128 rows are kept, all above is merged.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use blake3::{
    CHUNK_LEN, Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root},
};
use format::{ListProof, ObjectId, RowHash, RowList};

const HASH_BYTES: usize = 32;
/// Bytes of the list that one kept value stands for. A power of two of chunks, so that each is a subtree of its own.
const GROUP_BYTES: usize = 4 * CHUNK_LEN;
const _: () = assert!(GROUP_BYTES.is_power_of_two() && GROUP_BYTES.is_multiple_of(HASH_BYTES));
/// Trees that are kept, of 256 KiB at most each.
const TREES_MAX: usize = 64;

/// The tree over a list.
#[derive(Debug)]
pub(super) struct RowTree {
    /// Bytes of the list.
    bytes: usize,
    groups: Vec<ChainingValue>,
}

impl RowTree {
    /// Makes the tree over a list. None: it is short, and read whole.
    fn of(list: &RowList) -> Option<Self> {
        let bytes = list.as_bytes();
        let value = |(number, group): (usize, &[u8])| value_of(group, number * GROUP_BYTES);
        let groups = || bytes.chunks(GROUP_BYTES).enumerate().map(value).collect();
        (bytes.len() > GROUP_BYTES).then(|| Self { bytes: bytes.len(), groups: groups() })
    }

    /// Returns the part of the list that a proof of these rows needs. None when they are not in it.
    pub(super) fn part(&self, rows: &Range<usize>) -> Option<Range<usize>> {
        let is_inside = !rows.is_empty() && rows.end <= self.bytes / HASH_BYTES;
        let start = rows.start * HASH_BYTES / GROUP_BYTES * GROUP_BYTES;
        let end = (rows.end * HASH_BYTES).next_multiple_of(GROUP_BYTES).min(self.bytes);
        is_inside.then_some(start..end)
    }

    /// Proves rows by their [`Self::part`] of the list. None when that is not what the tree was made of.
    pub(super) fn prove(&self, rows: &Range<usize>, part: &[u8]) -> Option<RowsPart> {
        let at = self.part(rows)?;
        let mut groups = part.chunks(GROUP_BYTES).zip((at.start..).step_by(GROUP_BYTES));
        if part.len() != at.len() || !groups.all(|(group, at)| value_of(group, at) == self.groups[at / GROUP_BYTES]) {
            return None;
        }
        let wanted = rows.start * HASH_BYTES..rows.end * HASH_BYTES;
        let mut out = Vec::new();
        self.write(0..self.bytes, &wanted, (part, at.start), &mut out);
        let hash = |row: usize| {
            let bytes = part.get(row * HASH_BYTES - at.start..)?.first_chunk()?;
            Some(RowHash(*bytes))
        };
        Some(RowsPart { proof: ListProof::from_bytes(out)?, ends: [hash(rows.start)?, hash(rows.end - 1)?] })
    }

    fn write(&self, node: Range<usize>, wanted: &Range<usize>, part: (&[u8], usize), out: &mut Vec<u8>) {
        if node.end <= wanted.start || wanted.end <= node.start {
            out.extend_from_slice(&self.value(node));
        } else if node.len() <= GROUP_BYTES {
            let bytes = &part.0[node.start - part.1..node.end - part.1];
            write_group(bytes, node.start, wanted, out);
        } else {
            let middle = node.start + split(node.len());
            self.write(node.start..middle, wanted, part, out);
            self.write(middle..node.end, wanted, part, out);
        }
    }

    fn value(&self, node: Range<usize>) -> ChainingValue {
        if node.len() <= GROUP_BYTES {
            return self.groups[node.start / GROUP_BYTES];
        }
        let middle = node.start + split(node.len());
        merge_subtrees_non_root(&self.value(node.start..middle), &self.value(middle..node.end), Mode::Hash)
    }
}

/// What a proof is sent with.
pub(super) struct RowsPart {
    pub(super) proof: ListProof,
    /// The hashes of the first and of the last row.
    pub(super) ends: [RowHash; 2],
}

fn write_group(bytes: &[u8], start: usize, wanted: &Range<usize>, out: &mut Vec<u8>) {
    if start + bytes.len() <= wanted.start || wanted.end <= start {
        out.extend_from_slice(&value_of(bytes, start));
    } else if bytes.len() <= CHUNK_LEN {
        out.extend_from_slice(bytes);
    } else {
        let (left, right) = bytes.split_at(split(bytes.len()));
        write_group(left, start, wanted, out);
        write_group(right, start + left.len(), wanted, out);
    }
}

fn split(bytes: usize) -> usize {
    usize::try_from(left_subtree_len(bytes as u64)).expect("a part is no longer than the whole")
}

fn value_of(bytes: &[u8], start: usize) -> ChainingValue {
    Hasher::new().set_input_offset(start as u64).update(bytes).finalize_non_root()
}

/// The trees of the objects that were read last.
#[derive(Debug, Default)]
pub(super) struct Trees(Mutex<Vec<(ObjectId, Arc<RowTree>)>>);

impl Trees {
    /// Returns the tree of an object.
    pub(super) fn find(&self, object: &ObjectId) -> Option<Arc<RowTree>> {
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = trees.iter().position(|(held, _)| held == object)?;
        // The one that was used last is at the end.
        trees[at..].rotate_left(1);
        trees.last().map(|(_, tree)| tree.clone())
    }

    /// Keeps the tree of a long list, which must be the object's: all of its columns have the same.
    pub(super) fn keep(&self, object: &ObjectId, list: &RowList) {
        let Some(tree) = RowTree::of(list) else { return };
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.retain(|(held, _)| held != object);
        if trees.len() == TREES_MAX {
            trees.remove(0);
        }
        trees.push((*object, Arc::new(tree)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: usize) -> RowList {
        let mut list = RowList::default();
        (0..rows).for_each(|row| list.push(RowHash::of(&row.to_le_bytes())));
        list
    }

    #[test]
    fn proofs_are_those_of_the_whole_list_and_need_little_of_it() {
        for rows in [129, 256, 257, 1000, 4096, 40_001] {
            let list = list(rows);
            let tree = RowTree::of(&list).unwrap();
            for range in [0..1, 127..129, rows / 2..rows / 2 + 1, rows - 64..rows, rows - 1..rows, 0..64] {
                let part = tree.part(&range).unwrap();
                assert!(part.len() <= 2 * GROUP_BYTES, "{rows} {range:?}: {part:?}");
                let mut bytes = list.as_bytes()[part].to_vec();
                let proven = tree.prove(&range, &bytes).unwrap();
                assert_eq!(Some(&proven.proof), list.prove(range.clone()).as_ref(), "{rows} {range:?}");
                assert_eq!(proven.ends.map(Some), [range.start, range.end - 1].map(|row| list.hash(row)));
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                assert!(tree.prove(&range, &bytes).is_none(), "it is not the list");
            }
            assert!(tree.part(&(5..5)).is_none() && tree.part(&(rows..rows + 1)).is_none());
        }
        assert!(RowTree::of(&list(128)).is_none());
    }

    #[test]
    fn the_trees_of_what_is_read_are_kept_and_few() {
        let (trees, list) = (Trees::default(), list(129));
        let object = |number: usize| ObjectId([u8::try_from(number).unwrap(); 32]);
        (0..TREES_MAX).for_each(|number| trees.keep(&object(number), &list));
        assert!(trees.find(&object(0)).is_some());
        trees.keep(&object(TREES_MAX), &list);
        assert!(trees.find(&object(0)).is_some() && trees.find(&object(1)).is_none());
        assert_eq!(trees.0.lock().unwrap().len(), TREES_MAX);
    }
}
