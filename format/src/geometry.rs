//! The location of each byte of an object: blocks, stripes, columns, and the tail rule. Pure arithmetic.

use std::{fmt, ops::Range, str::FromStr};

use crate::limits::{BLOCK_BYTES, COLUMNS_MAX, STRIPES_MAX, TAIL_COLUMN_BYTES, TAIL_ROUND_BYTES};

/// Data and parity columns of an object (k+m). Each stripe survives the loss of any `parity` strips. Without parity
/// there is one column alone (1+0), for a disk that something below keeps twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Redundancy {
    data: u8,
    parity: u8,
}

/// Why two numbers are not a redundancy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedundancyError {
    /// There is no data column, or several without parity, or more columns than the code has.
    #[error(
        "redundancy {data}+{parity} is out of bounds: 1+0, or at least 1+1, at most 256 columns, at most 255 of either"
    )]
    Bounds {
        /// Data columns asked.
        data: usize,
        /// Parity columns asked.
        parity: usize,
    },
    /// The text is not of the form `k+m`.
    #[error("redundancy is written data+parity, for example 4+2")]
    Spelling,
}

impl Redundancy {
    /// Takes k data and m parity columns.
    ///
    /// # Errors
    /// [`RedundancyError::Bounds`].
    pub fn new(data: usize, parity: usize) -> Result<Self, RedundancyError> {
        let out = RedundancyError::Bounds { data, parity };
        if data == 0 || (parity == 0 && data > 1) || data.saturating_add(parity) > COLUMNS_MAX {
            return Err(out);
        }
        match (u8::try_from(data), u8::try_from(parity)) {
            (Ok(data), Ok(parity)) => Ok(Self { data, parity }),
            _ => Err(out),
        }
    }

    pub(crate) const fn of(data: u8, parity: u8) -> Self {
        Self { data, parity }
    }

    /// Returns k.
    #[must_use]
    pub fn data(self) -> usize {
        usize::from(self.data)
    }

    /// Returns m.
    #[must_use]
    pub fn parity(self) -> usize {
        usize::from(self.parity)
    }

    /// Returns k + m.
    #[must_use]
    pub fn columns(self) -> usize {
        self.data() + self.parity()
    }

    /// Returns the write quorum, k + ceil(m / 2): the number of columns that must be durable before an upload is
    /// acknowledged.
    #[must_use]
    pub fn quorum(self) -> usize {
        self.data() + self.parity().div_ceil(2)
    }
}

impl fmt::Display for Redundancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl FromStr for Redundancy {
    type Err = RedundancyError;

    fn from_str(text: &str) -> Result<Self, RedundancyError> {
        let (data, parity) = text.split_once('+').ok_or(RedundancyError::Spelling)?;
        let (Ok(data), Ok(parity)) = (data.parse(), parity.parse()) else { return Err(RedundancyError::Spelling) };
        let redundancy = Self::new(data, parity)?;
        // Numbers also parse with a plus sign or leading zeros, but in a signed lease a redundancy has one spelling.
        if redundancy.to_string() == text { Ok(redundancy) } else { Err(RedundancyError::Spelling) }
    }
}

/// The index of a block: `stripe * k + column`. It is also the block's nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u64);

/// A stripe's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StripeIndex(pub u64);

/// The part of a byte range that lies in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSlice {
    /// The block.
    pub block: BlockIndex,
    /// The requested bytes inside the block.
    pub within: Range<usize>,
}

/// The layout of an object: its plaintext length, spread over k data columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    data: u64,
    length: u64,
}

impl Geometry {
    /// Lays out `length` plaintext bytes, at least one. Returns `None` if that takes more than [`STRIPES_MAX`] stripes.
    #[must_use]
    pub fn new(redundancy: Redundancy, length: u64) -> Option<Self> {
        let it = Self { data: u64::from(redundancy.data), length };
        (length > 0 && length <= STRIPES_MAX * it.stripe_bytes()).then_some(it)
    }

    /// Returns the plaintext bytes of a full stripe.
    fn stripe_bytes(self) -> u64 {
        self.data * BLOCK_BYTES as u64
    }

    /// Returns the plaintext length.
    #[must_use]
    pub fn length(self) -> u64 {
        self.length
    }

    /// Returns the number of stripes, at least one.
    #[must_use]
    pub fn stripes(self) -> u64 {
        self.length.div_ceil(self.stripe_bytes())
    }

    /// Returns the number of blocks, at least one.
    #[must_use]
    pub fn blocks(self) -> u64 {
        (self.stripes() - 1) * self.data + self.tail_columns() as u64
    }

    /// Returns the data columns that the last stripe fills (k').
    #[must_use]
    pub fn tail_columns(self) -> usize {
        tail_columns(self.tail_bytes(), self.data)
    }

    fn tail_bytes(self) -> u64 {
        self.length - (self.stripes() - 1) * self.stripe_bytes()
    }

    /// Returns the data columns that a stripe fills.
    #[must_use]
    pub fn columns(self, stripe: StripeIndex) -> usize {
        if stripe.0.checked_add(1) == Some(self.stripes()) {
            self.tail_columns()
        } else {
            usize::try_from(self.data).unwrap_or(COLUMNS_MAX)
        }
    }

    /// Returns the stripe and the column of a block.
    #[must_use]
    pub fn place(self, block: BlockIndex) -> (StripeIndex, usize) {
        let column = usize::try_from(block.0 % self.data).unwrap_or(COLUMNS_MAX);
        (StripeIndex(block.0 / self.data), column)
    }

    /// Returns the block at a stripe and column.
    #[must_use]
    pub fn block(self, stripe: StripeIndex, column: usize) -> BlockIndex {
        BlockIndex(stripe.0 * self.data + column as u64)
    }

    /// Returns whether a block is the object's last.
    #[must_use]
    pub fn is_last(self, block: BlockIndex) -> bool {
        block.0.checked_add(1) == Some(self.blocks())
    }

    /// Returns the plaintext range of a block. The range is empty past the end of the object.
    #[must_use]
    pub fn range(self, block: BlockIndex) -> Range<u64> {
        let (stripe, column) = self.place(block);
        let stripe_start = stripe.0.saturating_mul(self.stripe_bytes());
        let size = if stripe.0.checked_add(1) == Some(self.stripes()) {
            tail_block_bytes(self.tail_bytes(), self.tail_columns())
        } else {
            BLOCK_BYTES as u64
        };
        let start = stripe_start.saturating_add(column as u64 * size).min(self.length);
        start..(start + size).min(self.length)
    }

    /// Returns the plaintext bytes of a block.
    #[must_use]
    pub fn block_bytes(self, block: BlockIndex) -> usize {
        let range = self.range(block);
        usize::try_from(range.end - range.start).unwrap_or(BLOCK_BYTES)
    }

    /// Returns the block that contains a plaintext offset. The offset must be below the length.
    #[must_use]
    pub fn block_at(self, offset: u64) -> BlockIndex {
        let stripe = StripeIndex(offset / self.stripe_bytes());
        let within = offset % self.stripe_bytes();
        let size = if stripe.0.checked_add(1) == Some(self.stripes()) {
            tail_block_bytes(self.tail_bytes(), self.tail_columns())
        } else {
            BLOCK_BYTES as u64
        };
        BlockIndex(stripe.0 * self.data + within / size)
    }

    /// Cuts a plaintext range, clamped to the length, into the slices of its blocks, in order.
    pub fn slices(self, range: Range<u64>) -> impl Iterator<Item = BlockSlice> {
        let end = range.end.min(self.length);
        let mut at = range.start.min(end);
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let block = self.block_at(at);
            let held = self.range(block);
            let stop = held.end.min(end);
            let within = offset_in(at, &held)..offset_in(stop, &held);
            at = stop;
            Some(BlockSlice { block, within })
        })
    }
}

fn offset_in(at: u64, block: &Range<u64>) -> usize {
    usize::try_from(at - block.start).unwrap_or(BLOCK_BYTES)
}

/// The tail rule: `clamp(ceil(bytes / 64 KiB), 1, k)` columns.
fn tail_columns(bytes: u64, data: u64) -> usize {
    usize::try_from(bytes.div_ceil(TAIL_COLUMN_BYTES as u64).clamp(1, data)).unwrap_or(COLUMNS_MAX)
}

/// Returns the bytes of every tail block except the last, which gets the rest.
fn tail_block_bytes(bytes: u64, columns: usize) -> u64 {
    let exact = bytes.div_ceil(columns as u64);
    exact.next_multiple_of(TAIL_ROUND_BYTES as u64).min(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn geometry(data: usize, length: u64) -> Geometry {
        Geometry::new(Redundancy::new(data, 1).unwrap(), length).unwrap()
    }

    proptest! {
        #[test]
        fn blocks_tile_the_plaintext(data in 1usize..=32, length in 1u64..40_000_000) {
            let it = geometry(data, length);
            let mut at = 0;
            for block in (0..it.blocks()).map(BlockIndex) {
                let range = it.range(block);
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at && range.end - at <= BLOCK_BYTES as u64);
                prop_assert_eq!(it.block_at(range.start), block);
                prop_assert_eq!(it.block_at(range.end - 1), block);
                let (stripe, column) = it.place(block);
                prop_assert_eq!(it.block(stripe, column), block);
                prop_assert!(column < it.columns(stripe));
                at = range.end;
            }
            prop_assert_eq!(at, length);
            prop_assert_eq!(it.range(BlockIndex(it.blocks() + 40)).count(), 0);
        }

        #[test]
        fn slices_are_exactly_the_range(length in 1u64..9_000_000, a in 0u64..9_500_000, b in 0u64..9_500_000) {
            let it = geometry(4, length);
            let range = a.min(b)..a.max(b);
            let mut at = range.start.min(length);
            for slice in it.slices(range.clone()) {
                prop_assert_eq!(it.range(slice.block).start + slice.within.start as u64, at);
                at += slice.within.len() as u64;
            }
            prop_assert_eq!(at, range.end.min(length));
        }
    }

    #[test]
    fn a_block_past_every_end_is_empty() {
        for (data, block) in [(1, u64::MAX), (1, u64::MAX - 1), (32, u64::MAX)] {
            let (it, block) = (geometry(data, 300_000), BlockIndex(block));
            assert_eq!((it.range(block).count(), it.block_bytes(block), it.is_last(block)), (0, 0, false));
            assert!(it.columns(it.place(block).0) <= data);
        }
    }

    #[test]
    fn the_tail_rule_at_its_edges() {
        const KIB: u64 = 1024;
        for (length, columns) in
            [(1, 1), (64 * KIB, 1), (64 * KIB + 1, 2), (128 * KIB, 2), (256 * KIB, 4), (1024 * KIB, 4)]
        {
            assert_eq!(geometry(4, length).tail_columns(), columns, "{length}");
        }
        let full = geometry(4, 1024 * KIB);
        assert_eq!((full.stripes(), full.block_bytes(BlockIndex(3))), (1, BLOCK_BYTES));
        let next = geometry(4, 1024 * KIB + 1);
        assert_eq!((next.stripes(), next.tail_columns(), next.block_bytes(BlockIndex(4))), (2, 1, 1));
    }

    #[test]
    fn redundancy_is_bounded_and_spelled_one_way() {
        assert_eq!("16+8".parse(), Redundancy::new(16, 8));
        assert_eq!(Redundancy::new(16, 8).unwrap().quorum(), 20);
        assert_eq!(Redundancy::new(1, 3).unwrap().quorum(), 3);
        assert_eq!(Redundancy::new(1, 0).unwrap().quorum(), 1);
        for bad in ["", "4", "4+", "+2", "0+1", "0+0", "2+0", "200+57", "256+0", "-1+2", "04+2", "4++2"] {
            assert!(bad.parse::<Redundancy>().is_err(), "{bad}");
        }
        let most = Redundancy::new(4, 2).unwrap();
        assert!(Geometry::new(most, STRIPES_MAX << 20).is_some());
        assert!(Geometry::new(most, (STRIPES_MAX << 20) + 1).is_none() && Geometry::new(most, 0).is_none());
    }
}
