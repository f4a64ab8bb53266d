//! Reading a few cells of a shard: the proof at once, the cells piece by piece as the reader takes them.

use std::ops::Range;

use bytes::Bytes;
use format::{ListProof, ObjectId, RowHash, limits::SHARD_READ_STRIPS_MAX};

use super::{
    Store, StoreError,
    cells::{CellList, END_BYTES, HASH_BYTES, read_ends},
    held::Held,
    tree::{RowTree, RowsPart},
};

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

        let part = match self.trees.find(object) {
            Some(tree) => held.listed(&tree, first..end, cells)?,
            None => {
                let list = held.list(&public)?;
                // Only the right list is kept of: it would tell of damage for ever.
                if let Some(list) = list.as_ref().filter(|list| Some(&list.rows().root()) == public.root()) {
                    self.trees.keep(object, list.rows());
                }
                list.map(|list| Part::of(&list, first..end).ok_or_else(|| held.damaged())).transpose()?
            }
        };
        let Part { proof, bytes, ends } = part.ok_or_else(no_shard)?;
        // A wrong place in the list is damage of the list alone, which this node mends; a reader would call the strips
        // wrong. In an object store a look would cost as much as the read.
        if !held.is_remote() {
            for (hash, range) in &ends {
                held.check_place(*hash, range, column, public.row_columns())?;
            }
        }
        let (at, left) = (bytes.start, bytes.end - bytes.start);
        Ok(Slice { held, proof, at, left })
    }
}

/// What the list says of a few cells.
struct Part {
    proof: ListProof,
    /// Where they lie.
    bytes: Range<u64>,
    /// The rows of the first and of the last of them, and where these lie.
    ends: [(RowHash, Range<u64>); 2],
}

impl Part {
    /// Takes it out of a whole list; none when that does not have them all.
    fn of(list: &CellList, cells: Range<u64>) -> Option<Self> {
        let rows = usize::try_from(cells.start).ok()?..usize::try_from(cells.end).ok()?;
        let end = |cell: u64| Some((list.row(cell)?, list.range(cell..cell + 1)?));
        let (proof, bytes) = (list.rows().prove(rows)?, list.range(cells.clone())?);
        Some(Self { proof, bytes, ends: [end(cells.start)?, end(cells.end.checked_sub(1)?)?] })
    }
}

impl Held {
    /// Reads what a list of `count` entries says of a few cells; of the list no more than that takes. None when there
    /// is no list beside the shard.
    fn listed(&mut self, tree: &RowTree, cells: Range<u64>, count: u64) -> Result<Option<Part>, StoreError> {
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let rows = size(cells.start)..size(cells.end);
        let wanted = tree.part(&rows).ok_or_else(|| self.damaged())?;
        let Some(part) = self.list_part(wanted.start as u64, wanted.len())? else { return Ok(None) };
        let RowsPart { proof, ends: [first, last] } = tree.prove(&rows, &part).ok_or_else(|| self.damaged())?;
        // The end of the cell before the first is where that begins.
        let from = cells.start.saturating_sub(1);
        let at = count * HASH_BYTES as u64 + from * END_BYTES as u64;
        let Some(ends) = self.list_part(at, size(cells.end - from) * END_BYTES)? else { return Ok(None) };
        let mut ends = read_ends(&ends);
        if cells.start == 0 {
            ends.insert(0, 0);
        }
        if !ends.is_sorted() || ends.last().is_none_or(|last| *last > self.cells_bytes) {
            return Err(self.damaged());
        }
        let [start, first_end, last_start, end] = [ends[0], ends[1], ends[ends.len() - 2], ends[ends.len() - 1]];
        Ok(Some(Part { proof, bytes: start..end, ends: [(first, start..first_end), (last, last_start..end)] }))
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

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use testing::Sample;

    use super::*;
    use crate::store::RealDisk;

    /// 132 stripes, more than a whole list is read of each time.
    #[test]
    fn a_read_of_one_cell_takes_little_of_a_long_list() {
        let sample = Sample::of(1, [1; 32], &vec![0; 132 << 20]);
        let (public, column) = (&sample.sealed.public, 0);
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), Arc::new(RealDisk)).unwrap());
        let mut draft = store.draft("upload", column, sample.columns.len()).unwrap();
        let cells = &sample.columns[column];
        cells.chunks(64).enumerate().for_each(|(at, part)| draft.append(at as u64 * 64, part).unwrap());
        draft.keep_as_files(&super::super::ShardId { object: sample.id(), column }, public).unwrap();
        let read = |first: u64, count: u64| {
            let mut slice = store.slice(&sample.id(), column, first, count)?;
            let rows = usize::try_from(first).unwrap()..usize::try_from(first + count).unwrap();
            let proof = slice.proof().verify(public.root().unwrap(), cells.len(), rows.clone()).unwrap();
            assert!(cells[rows.clone()].iter().zip(proof).all(|(cell, hash)| cell.row.hash() == hash));
            let bytes = slice.piece()?.unwrap();
            assert_eq!(bytes.len(), cells[rows].iter().map(format::Cell::size).sum::<usize>());
            Ok::<_, StoreError>(())
        };
        for (first, count) in [(0, 1), (0, 64), (127, 2), (131, 1), (68, 64)] {
            read(first, count).unwrap();
        }
        // What a read does not look at may be anything: the hashes of the first group, and the ends of the first cells.
        let path = store.list_path(&sample.id(), column);
        let whole = fs::read(&path).unwrap();
        let hashes = cells.len() * HASH_BYTES;
        let mut changed = whole.clone();
        changed[..4096].fill(7);
        changed[hashes..hashes + 127 * END_BYTES].fill(7);
        fs::write(&path, &changed).unwrap();
        read(131, 1).unwrap();
        read(128, 4).unwrap();
        assert!(matches!(read(127, 1), Err(StoreError::Damaged { .. })));
        let mut changed = whole.clone();
        changed[hashes + 131 * END_BYTES] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(matches!(read(131, 1), Err(StoreError::Damaged { .. })), "another end");
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(read(131, 1), Err(StoreError::Damaged { .. })), "a list that is cut");
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(131, 1), Err(StoreError::NoShard { .. })));
        fs::write(&path, &whole).unwrap();
        read(131, 1).unwrap();
    }
}
