//! Unsigned numbers of 64 bits, seven bits in a byte, the lowest first.
//!
//! Place in the flow: lengths in CARs, the numbers of CIDs, and all of protobuf. Own code: the crate `unsigned-varint`
//! 0.8 drops bits of a tenth byte above its lowest, so that one number has many spellings.
//! Keeps true: each number has one spelling, the shortest.
//! Source: <https://github.com/multiformats/unsigned-varint>, with protobuf's ten bytes in place of nine.

use crate::limits::VARINT_BYTES_MAX;

/// Why bytes do not begin with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// It goes on behind the end.
    CutOff,
    /// It is longer than it must be, or over 64 bits.
    Malformed,
}

/// Reads the number at the front; returns what follows as well.
pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, &[u8]), VarintError> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().enumerate().take(VARINT_BYTES_MAX) {
        let is_last = byte & 0x80 == 0;
        // Of the tenth byte only one bit is left. A last byte of 0 says nothing.
        if (index + 1 == VARINT_BYTES_MAX && byte > 1) || (is_last && byte == 0 && index > 0) {
            return Err(VarintError::Malformed);
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if is_last {
            return Ok((number, &bytes[index + 1..]));
        }
    }
    Err(VarintError::CutOff)
}

/// Writes a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(0x80 | low(number));
        number >>= 7;
    }
    out.push(low(number));
}

/// Returns the bytes that a number takes.
pub(crate) const fn length(number: u64) -> usize {
    let bits = (u64::BITS - number.leading_zeros()) as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

fn low(number: u64) -> u8 {
    u8::try_from(number & 0x7f).expect("seven bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_as_many_bytes_as_said_and_is_read_again() {
        for number in (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(out.len(), length(number), "{number}");
            assert_eq!(decode(&[&out[..], &[7]].concat()), Ok((number, &[7][..])));
            for cut in 0..out.len() {
                assert_eq!(decode(&out[..cut]), Err(VarintError::CutOff));
            }
        }
    }

    #[test]
    fn a_number_has_one_spelling_and_64_bits() {
        let nine = [0xff; 9];
        let tenth = |byte: u8| [&nine[..], &[byte]].concat();
        assert_eq!(decode(&tenth(1)), Ok((u64::MAX, &[][..])));
        for bad in [&b"\x80\x00"[..], &tenth(0), &tenth(2), &tenth(3), &tenth(0x81), &[0x80; 11]] {
            assert_eq!(decode(bad), Err(VarintError::Malformed), "{bad:?}");
        }
    }
}
