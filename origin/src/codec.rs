//! The self-test of a start: does this machine compute hashes and parity as all others do?
//!
//! A miscompiled or broken SIMD path would make shards that no other node can use, and would call good ones damaged.
//! The expected hashes were computed by another implementation, from section 3 of `docs/format.md` alone.

use format::{Erasure, Redundancy, ReedSolomon};

/// Bytes of a test strip: more than one piece of the engine, and an end that no SIMD register fits.
const STRIP_BYTES: usize = 16_421;
/// BLAKE3 of nothing; from the test vectors of its authors.
const HASH_OF_NOTHING: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
/// Data columns, parity columns, and BLAKE3 of all strips of a stripe back to back.
const STRIPES: [(usize, usize, &str); 4] = [
    (1, 2, "15127ef94ea1819db4e18b37b3c722ee0ba9159030ad92e1c1610fb886d245b1"),
    (4, 2, "92650578df8ac6916a25ee6a3fe63e263b6cc39806ef72eb7c0f1b3b7d104e77"),
    (16, 8, "2102dfd1943a6796b36795e9e8f9f9fdb2dd7cec2bb1fe307279a1b2507078db"),
    (20, 12, "0d929a50c0b7a03251c46a0982a841ce447f1227187ec7d7f5af2849be2ce079"),
];

/// This machine or this build computes wrongly; it must not hold anybody's data. Another machine or build may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecFault {
    /// Hashes come out wrong.
    #[error("BLAKE3 gives wrong hashes on this machine; replace the machine or the program")]
    Hash,
    /// Parity comes out wrong.
    #[error("{data}+{parity} gives wrong parity on this machine; replace the machine or the program")]
    Parity {
        /// Data columns.
        data: usize,
        /// Parity columns.
        parity: usize,
    },
    /// Lost strips come back wrong.
    #[error("{data}+{parity} recovers wrong strips on this machine; replace the machine or the program")]
    Recovery {
        /// Data columns.
        data: usize,
        /// Parity columns.
        parity: usize,
    },
}

/// Tests the machine; some milliseconds of CPU.
///
/// # Errors
/// [`CodecFault`].
pub(crate) fn prove() -> Result<(), CodecFault> {
    prove_with(ReedSolomon::new)
}

fn prove_with<E: Erasure>(engine: impl Fn(Redundancy) -> E) -> Result<(), CodecFault> {
    if blake3::hash(b"").to_hex().as_str() != HASH_OF_NOTHING {
        return Err(CodecFault::Hash);
    }
    for (data, parity, expected) in STRIPES {
        let wrong = CodecFault::Parity { data, parity };
        let engine = engine(Redundancy::new(data, parity).map_err(|_| wrong)?);
        let mut strips: Vec<Vec<u8>> = (0..data).map(strip).collect();
        let mut sums = vec![vec![0; STRIP_BYTES]; parity];
        let sources: Vec<&[u8]> = strips.iter().map(Vec::as_slice).collect();
        let mut targets: Vec<&mut [u8]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
        engine.encode(&sources, &mut targets).map_err(|_| wrong)?;
        strips.extend(sums);
        if blake3::hash(&strips.concat()).to_hex().as_str() != expected {
            return Err(wrong);
        }
        // The first strips are lost: where there are enough, all of them data.
        let mut left: Vec<Option<Vec<u8>>> = strips.iter().cloned().map(Some).collect();
        left.iter_mut().take(parity).for_each(|strip| *strip = None);
        let recovered = engine.recover_all(&mut left);
        if recovered.is_err() || !left.iter().zip(&strips).all(|(left, strip)| left.as_ref() == Some(strip)) {
            return Err(CodecFault::Recovery { data, parity });
        }
    }
    Ok(())
}

/// Bytes that differ from strip to strip and from place to place.
fn strip(number: usize) -> Vec<u8> {
    let byte = |at: usize| (at * 31 + number * 17 + (at >> 8) * 7).to_le_bytes()[0];
    (0..STRIP_BYTES).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use format::ErasureError;

    use super::*;

    #[test]
    fn this_machine_computes_as_all_others() {
        assert_eq!(prove(), Ok(()));
    }

    /// An engine with one wrong bit, in parity or in what it recovers.
    struct Broken {
        engine: ReedSolomon,
        encodes: bool,
    }

    impl Erasure for Broken {
        fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError> {
            self.engine.encode(data, parity)?;
            parity[0][STRIP_BYTES - 1] ^= u8::from(!self.encodes);
            Ok(())
        }

        fn recover_data(&self, strips: &mut [Option<Vec<u8>>]) -> Result<(), ErasureError> {
            self.engine.recover_data(strips)
        }

        fn recover_all(&self, strips: &mut [Option<Vec<u8>>]) -> Result<(), ErasureError> {
            self.engine.recover_all(strips)?;
            strips.iter_mut().flatten().take(1).for_each(|strip| strip[0] ^= u8::from(self.encodes));
            Ok(())
        }
    }

    #[test]
    fn one_wrong_bit_is_noticed() {
        let broken = |encodes| prove_with(|redundancy| Broken { engine: ReedSolomon::new(redundancy), encodes });
        assert_eq!(broken(false), Err(CodecFault::Parity { data: 1, parity: 2 }));
        assert_eq!(broken(true), Err(CodecFault::Recovery { data: 1, parity: 2 }));
    }
}
