//! Where the cells of a shard lie and what its rows hash to: the list beside a shard.
//!
//! `hash of row 0 ‖ hash of row 1 ‖ ... ‖ end of cell 0, u64 ‖ end of cell 1, u64 ‖ ...`. The hashes are proven by the
//! object's root. The ends are a hint that saves a walk from the beginning: whoever looks at a cell sees whether they
//! are right.

use std::ops::Range;

use format::{Cell, RowHash, RowList};

pub(super) const HASH_BYTES: usize = 32;
pub(super) const END_BYTES: usize = size_of::<u64>();

/// The list beside a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CellList {
    rows: RowList,
    /// Where each cell ends, from the beginning of the shard.
    ends: Vec<u64>,
}

/// Bytes of a list entry: the hash of a row and the end of a cell.
pub(super) const ENTRY_BYTES: usize = HASH_BYTES + END_BYTES;

/// Reads the ends of cells.
pub(super) fn read_ends(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(END_BYTES).map(|end| u64::from_le_bytes(end.try_into().expect("eight bytes"))).collect()
}

impl CellList {
    /// Takes the stored form; none when it is not that of a list.
    pub(super) fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let ends = read_ends(&bytes.split_off(bytes.len() / ENTRY_BYTES * HASH_BYTES));
        ends.is_sorted().then_some(Self { rows: RowList::from_bytes(bytes)?, ends })
    }

    /// Returns the stored form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.rows.as_bytes().to_vec();
        bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
        bytes
    }

    /// Adds the next cell.
    pub(super) fn push(&mut self, cell: &Cell) {
        self.ends.push(self.cells_bytes() + cell.size() as u64);
        self.rows.push(cell.row.hash());
    }

    /// Returns the number of cells.
    pub(super) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Returns the bytes of all cells.
    pub(super) fn cells_bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the hashes of the rows.
    pub(super) fn rows(&self) -> &RowList {
        &self.rows
    }

    /// Returns the hash of a row.
    pub(super) fn row(&self, cell: u64) -> Option<RowHash> {
        self.rows.hash(usize::try_from(cell).ok()?)
    }

    /// Returns where cells lie in the shard; none when it does not have them all.
    pub(super) fn range(&self, cells: Range<u64>) -> Option<Range<u64>> {
        let end = |cells: u64| match usize::try_from(cells).ok()?.checked_sub(1) {
            None => Some(0),
            Some(last) => self.ends.get(last).copied(),
        };
        Some(end(cells.start)?..end(cells.end)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_and_nothing_else_is_one() {
        let list = CellList { rows: RowList::from_bytes(vec![7; 96]).unwrap(), ends: vec![40, 80, 95] };
        let bytes = list.encode();
        assert_eq!(CellList::decode(bytes.clone()), Some(list.clone()));
        assert_eq!(
            (list.len(), list.cells_bytes(), list.range(1..3), list.range(0..0)),
            (3, 95, Some(40..95), Some(0..0))
        );
        assert_eq!((list.range(2..4), list.row(2), list.row(3)), (None, Some(RowHash([7; 32])), None));
        assert_eq!(CellList::decode(bytes[1..].to_vec()), None);
        let unsorted = CellList { ends: vec![40, 39, 95], ..list };
        assert_eq!(CellList::decode(unsorted.encode()), None);
        assert_eq!(CellList::decode(Vec::new()), Some(CellList::default()));
    }
}
