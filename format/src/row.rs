//! A row: the hashes of all strips of one stripe. `strip_bytes u32 ‖ hash of column 0 ‖ ... ‖ hash of column k+m-1`.
//!
//! Whoever reads a strip gets its row with it, under the object's root. So a strip that is read and the same strip
//! recovered from others are compared with one hash, and an object has one content, whoever reads which of its strips.
//! Without rows an owner could seal one content in the data columns and another in the parity.

use bytes::Bytes;

use crate::{
    RowHash, StripHash,
    limits::{COLUMNS_MAX, STRIP_BYTES_MAX, STRIP_HEADER_BYTES, TAG_BYTES},
    wire::FrameError,
};

const LENGTH_BYTES: usize = size_of::<u32>();
const HASH_BYTES: usize = 32;
/// What stands for the strip of a column that the tail leaves empty.
const ABSENT: [u8; HASH_BYTES] = [0; HASH_BYTES];

/// Returns the bytes of a row of an object of so many columns.
#[must_use]
pub const fn row_bytes(columns: usize) -> usize {
    LENGTH_BYTES + HASH_BYTES * columns
}

/// Largest row.
pub const ROW_BYTES_MAX: usize = row_bytes(COLUMNS_MAX);

/// The hashes of all strips of one stripe. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(Bytes);

impl Row {
    /// Makes the row of a stripe whose strips are all of `strip_bytes`; a column without a strip has no hash.
    pub(crate) fn new(strip_bytes: usize, hashes: &[Option<StripHash>]) -> Self {
        let strip_bytes = u32::try_from(strip_bytes).expect("a strip is at most 256 KiB and some");
        let mut row = Vec::with_capacity(row_bytes(hashes.len()));
        row.extend_from_slice(&strip_bytes.to_le_bytes());
        for hash in hashes {
            row.extend_from_slice(hash.as_ref().map_or(&ABSENT[..], |hash| hash.as_bytes()));
        }
        Self(row.into())
    }

    /// Takes the row at the beginning of `body`, without copying it.
    ///
    /// # Errors
    /// [`FrameError`] when the body ends early, or no strip can have the length that the row says.
    pub fn take(body: &mut Bytes, columns: usize) -> Result<Self, FrameError> {
        let expected = row_bytes(columns);
        if body.len() < expected {
            return Err(FrameError::Length { found: body.len(), expected });
        }
        let row = Self(body.split_to(expected));
        let found = row.strip_bytes();
        if found <= STRIP_HEADER_BYTES + TAG_BYTES || found > STRIP_BYTES_MAX {
            return Err(FrameError::Strip { found });
        }
        Ok(row)
    }

    /// Returns the encoded row.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns the bytes of each strip of the stripe.
    #[must_use]
    pub fn strip_bytes(&self) -> usize {
        let length = self.0.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// Returns the columns of the object.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.0.len().saturating_sub(LENGTH_BYTES) / HASH_BYTES
    }

    /// Returns the hash of a column's strip; none when the stripe has no strip there.
    #[must_use]
    pub fn strip(&self, column: usize) -> Option<StripHash> {
        let at = LENGTH_BYTES + column * HASH_BYTES;
        let hash = self.0.get(at..at + HASH_BYTES)?.try_into().ok()?;
        (hash != ABSENT).then_some(StripHash(hash))
    }

    /// Returns whether the stripe has a strip in every column.
    #[must_use]
    pub fn is_full(&self) -> bool {
        (0..self.columns()).all(|column| self.strip(column).is_some())
    }

    /// Returns the hash of the row: its entry in the object's list.
    #[must_use]
    pub fn hash(&self) -> RowHash {
        RowHash::of(&self.0)
    }

    /// Returns whether `strip` is what this row says of a column. Costs one hash over the strip.
    #[must_use]
    pub fn proves(&self, column: usize, strip: Option<&[u8]>) -> bool {
        self.strip(column) == strip.map(StripHash::of)
    }
}

/// One strip with the row it belongs to: what uploads carry, shards consist of and reads return. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The row of the stripe.
    pub row: Row,
    /// The strip; none when the stripe has no strip in this column.
    pub strip: Option<Bytes>,
}

impl Cell {
    /// Takes the cell of a column at the beginning of `body`, without copying it: `row ‖ strip`. Nothing is hashed.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn take(body: &mut Bytes, columns: usize, column: usize) -> Result<Self, FrameError> {
        let row = Row::take(body, columns)?;
        if row.strip(column).is_none() {
            return Ok(Self { row, strip: None });
        }
        let expected = row.strip_bytes();
        if body.len() < expected {
            return Err(FrameError::Length { found: body.len(), expected });
        }
        Ok(Self { row, strip: Some(body.split_to(expected)) })
    }

    /// Returns its bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.row.0.len() + self.strip.as_ref().map_or(0, Bytes::len)
    }

    /// Returns whether the strip is the one of the row. Costs one hash over the strip.
    #[must_use]
    pub fn is_intact(&self, column: usize) -> bool {
        self.row.proves(column, self.strip.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_its_row_and_its_strip() {
        let strip = vec![7; 40];
        let row = Row::new(40, &[Some(StripHash::of(&strip)), None, Some(StripHash([9; 32]))]);
        assert_eq!((row.strip_bytes(), row.columns(), row.as_bytes().len()), (40, 3, row_bytes(3)));
        assert_eq!([0, 1, 2, 3].map(|column| row.strip(column).is_some()), [true, false, true, false]);
        let mut body = Bytes::from([&row.as_bytes()[..], &strip, row.as_bytes(), b"rest"].concat());
        let first = Cell::take(&mut body, 3, 0).unwrap();
        let empty = Cell::take(&mut body, 3, 1).unwrap();
        assert_eq!((first.size(), empty.size(), &body[..]), (row_bytes(3) + 40, row_bytes(3), &b"rest"[..]));
        assert!(first.is_intact(0) && !first.is_intact(1) && !first.is_intact(2) && empty.is_intact(1));
        assert_eq!(Cell::take(&mut body, 3, 0), Err(FrameError::Length { found: 4, expected: row_bytes(3) }));
        let mut cut = Bytes::from([&row.as_bytes()[..], &strip[..39]].concat());
        assert_eq!(Cell::take(&mut cut, 3, 0), Err(FrameError::Length { found: 39, expected: 40 }));
        for wrong in [0, 24, STRIP_BYTES_MAX + 1] {
            let mut body = Row::new(wrong, &[None]).0;
            assert_eq!(Row::take(&mut body, 1), Err(FrameError::Strip { found: wrong }));
        }
    }
}
