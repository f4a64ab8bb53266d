//! Rebuilding lost strips from other strips of their stripe. It needs only the public manifest and no key, so a
//! repairer can do it.
//!
//! The code is linear: every strip is a sum of k others, each times a constant of the field. The constants for a choice
//! of sources are found once, by letting the engine recover unit vectors. Then each lost strip costs k passes over its
//! bytes, and only lost strips are computed.

use bytes::Bytes;
use rayon::prelude::*;
use reed_solomon_erasure::galois_8;

use crate::{Cell, Erasure, ErasureError, PublicManifest, ReedSolomon, Row, StripeIndex};

/// Bytes of a strip computed at a time. Such a piece stays in the L1 or L2 cache while its sources pass by.
const PIECE_BYTES: usize = 16 * 1024;

/// Why strips cannot be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// The object has no shards or no such columns. The caller is at fault.
    #[error("the object has {columns} columns, and not all of those named")]
    Columns {
        /// Columns of the object.
        columns: usize,
    },
    /// The object has no such stripe. The caller is at fault.
    #[error("the object has no stripe {}", stripe.0)]
    Stripe {
        /// The stripe.
        stripe: StripeIndex,
    },
    /// There are too few strips, or their lengths differ.
    #[error("the strips cannot be made again")]
    Erasure(#[from] ErasureError),
    /// A strip that was made is not the one of the row: the owner stored no codeword, and nobody can repair it.
    #[error("the strips of stripe {} contradict each other; whoever stored the object broke it", stripe.0)]
    Inconsistent {
        /// The stripe.
        stripe: StripeIndex,
    },
}

/// Rebuilds strips of the `lost` columns from strips of k `sources`, for any stripe of one object.
#[derive(Debug)]
pub struct Rebuild {
    public: PublicManifest,
    sources: Vec<usize>,
    /// The constants of each lost column, one for each source.
    lost: Vec<(usize, Vec<u8>)>,
}

impl Rebuild {
    /// Finds the constants. `sources` must be exactly k distinct columns. Costs the inversion of two k x k
    /// matrices: that of the code, and that of the sources.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub fn new(public: PublicManifest, sources: &[usize], lost: &[usize]) -> Result<Self, RebuildError> {
        let unknown = RebuildError::Columns { columns: public.columns() };
        let Some(redundancy) = public.redundancy() else { return Err(unknown) };
        let (k, columns) = (redundancy.data(), redundancy.columns());
        if sources.iter().chain(lost).any(|column| *column >= columns) {
            return Err(unknown);
        }
        let mut units: Vec<Option<Vec<u8>>> = vec![None; columns];
        for (place, source) in sources.iter().take(k).enumerate() {
            let mut unit = vec![0; k];
            unit[place] = 1;
            units[*source] = Some(unit);
        }
        let have = units.iter().flatten().count();
        if have != k || sources.len() != k {
            return Err(ErasureError::TooFew { have, need: k }.into());
        }
        ReedSolomon::new(redundancy).recover_all(&mut units)?;
        let lost = lost.iter().filter_map(|column| Some((*column, units[*column].clone()?))).collect();
        Ok(Self { public, sources: sources.to_vec(), lost })
    }

    /// Makes the lost cells of one stripe from `strips` that its `row` proves, which stand in the order of the sources;
    /// a source that the tail leaves empty has none. Returns each lost column with its cell, in the order asked for.
    ///
    /// CPU work of k passes over each lost strip, spread over the cores, and a hash over it: what comes out is what the
    /// row says, or an error.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub fn stripe(
        &self,
        stripe: StripeIndex,
        row: &Row,
        strips: &[Option<Bytes>],
    ) -> Result<Vec<(usize, Cell)>, RebuildError> {
        if stripe.0 >= self.public.stripes() {
            return Err(RebuildError::Stripe { stripe });
        }
        let strip_bytes = row.strip_bytes();
        let has_strip = |column: usize| stripe.0 < self.public.column_strips(column);
        let fits = |(source, strip): (&usize, &Option<Bytes>)| match strip {
            Some(strip) => strip.len() == strip_bytes,
            None => !has_strip(*source),
        };
        if strips.len() != self.sources.len() || !self.sources.iter().zip(strips).all(fits) {
            return Err(ErasureError::Shape { columns: self.public.columns() }.into());
        }
        if !self.public.fits(stripe, row) {
            return Err(RebuildError::Inconsistent { stripe });
        }
        let cell = |(column, factors): &(usize, Vec<u8>)| {
            let strip = has_strip(*column).then(|| combine(factors, strips, strip_bytes));
            let cell = Cell { row: row.clone(), strip };
            if cell.is_intact(*column) { Ok((*column, cell)) } else { Err(RebuildError::Inconsistent { stripe }) }
        };
        self.lost.iter().map(cell).collect()
    }
}

/// Returns the sum of all strips, each times its factor.
fn combine(factors: &[u8], strips: &[Option<Bytes>], strip_bytes: usize) -> Bytes {
    let mut sum = vec![0; strip_bytes];
    sum.par_chunks_mut(PIECE_BYTES).enumerate().for_each(|(index, piece)| {
        let start = index * PIECE_BYTES;
        for (factor, strip) in factors.iter().zip(strips) {
            if let (1.., Some(strip)) = (*factor, strip) {
                galois_8::mul_slice_xor(*factor, &strip[start..start + piece.len()], piece);
            }
        }
    });
    sum.into()
}
