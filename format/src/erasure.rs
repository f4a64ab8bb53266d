//! The erasure code: systematic Vandermonde Reed-Solomon over GF(2^8), polynomial 0x11d. The bytes on the wire are
//! frozen; the engine behind [`Erasure`] may change. A test compares a second engine with it byte for byte.
//!
//! No engine notices a corrupt strip. The caller verifies the hash of every strip first.

use rayon::prelude::*;
use reed_solomon_erasure::galois_8;

use crate::Redundancy;

/// Bytes of each strip coded at a time. 24 such pieces (16+8) take 384 KiB of an L2 cache, and the pieces of a stripe
/// are spread over the cores.
const PIECE_BYTES: usize = 16 * 1024;

/// Why strips could not be coded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErasureError {
    /// There are fewer strips than data columns. Ask more nodes.
    #[error("{have} strips where {need} are needed")]
    TooFew {
        /// Strips present.
        have: usize,
        /// Strips needed.
        need: usize,
    },
    /// The strips differ in length, or their number is not the code's. The caller is at fault.
    #[error("strips of a stripe must be {columns} of one length")]
    Shape {
        /// Columns of the code.
        columns: usize,
    },
}

/// An engine for the frozen wire code with k data and m parity columns.
pub trait Erasure: Send + Sync {
    /// Computes all m parity strips from k data strips of equal length.
    ///
    /// # Errors
    /// [`ErasureError::Shape`].
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError>;

    /// Fills in every missing data strip of a stripe of k + m columns from any k strips present.
    ///
    /// # Errors
    /// [`ErasureError`].
    fn recover_data(&self, strips: &mut [Option<Vec<u8>>]) -> Result<(), ErasureError>;

    /// Fills in every missing strip, data and parity.
    ///
    /// # Errors
    /// [`ErasureError`].
    fn recover_all(&self, strips: &mut [Option<Vec<u8>>]) -> Result<(), ErasureError>;
}

/// The engine in use: reed-solomon-erasure with SIMD.
pub struct ReedSolomon {
    redundancy: Redundancy,
    /// None without parity: there is nothing to compute.
    code: Option<galois_8::ReedSolomon>,
}

impl ReedSolomon {
    /// Prepares the code. Costs the inversion of a k x k matrix, and its product with the k + m rows of another.
    #[must_use]
    pub fn new(redundancy: Redundancy) -> Self {
        let (k, m) = (redundancy.data(), redundancy.parity());
        let code = || galois_8::ReedSolomon::new(k, m).expect("a Redundancy is in the bounds of the code");
        Self { redundancy, code: (m > 0).then(code) }
    }

    fn check(&self, strips: &[Option<Vec<u8>>]) -> Result<(), ErasureError> {
        let columns = self.redundancy.columns();
        let mut lengths = strips.iter().flatten().map(Vec::len);
        let Some(first) = lengths.next() else {
            return Err(ErasureError::TooFew { have: 0, need: self.redundancy.data() });
        };
        if strips.len() != columns || first == 0 || lengths.any(|length| length != first) {
            return Err(ErasureError::Shape { columns });
        }
        let have = strips.iter().flatten().count();
        let need = self.redundancy.data();
        if have < need { Err(ErasureError::TooFew { have, need }) } else { Ok(()) }
    }
}

impl Erasure for ReedSolomon {
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError> {
        let shape = ErasureError::Shape { columns: self.redundancy.columns() };
        let length = data.first().map_or(0, |strip| strip.len());
        if data.iter().any(|strip| strip.len() != length) || parity.iter().any(|strip| strip.len() != length) {
            return Err(shape);
        }
        let Some(code) = &self.code else {
            return if data.len() == 1 && parity.is_empty() { Ok(()) } else { Err(shape) };
        };
        let mut rows: Vec<_> = parity.iter_mut().map(|strip| strip.chunks_mut(PIECE_BYTES)).collect();
        let pieces: Vec<Vec<&mut [u8]>> =
            (0..length.div_ceil(PIECE_BYTES)).map(|_| rows.iter_mut().filter_map(Iterator::next).collect()).collect();
        pieces.into_par_iter().enumerate().try_for_each(|(index, mut parity)| {
            let start = index * PIECE_BYTES;
            let end = (start + PIECE_BYTES).min(length);
            let data: Vec<&[u8]> = data.iter().map(|strip| &strip[start..end]).collect();
            code.encode_sep(&data, &mut parity).map_err(|_| shape.clone())
        })
    }

    fn recover_data(&self, strips: &mut [Option<Vec<u8>>]) -> Result<(), ErasureError> {
        self.check(strips)?;
        let shape = ErasureError::Shape { columns: self.redundancy.columns() };
        self.code.as_ref().map_or(Ok(()), |code| code.reconstruct_data(strips).map_err(|_| shape))
    }

    fn recover_all(&self, strips: &mut [Option<Vec<u8>>]) -> Result<(), ErasureError> {
        self.check(strips)?;
        let shape = ErasureError::Shape { columns: self.redundancy.columns() };
        self.code.as_ref().map_or(Ok(()), |code| code.reconstruct(strips).map_err(|_| shape))
    }
}
