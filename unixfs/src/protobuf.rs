//! As much of protobuf's wire format as dag-pb and UnixFS need: varints, and fields of them or of bytes.
//!
//! Place in the flow: under [`crate::node`] and [`crate::data`]. Own code because a canonical dag-pb node has its
//! fields in descending order, which no generator of protobuf code writes, and because what is read is borrowed. Keeps
//! true: a length beyond the input allocates nothing, and each number has one spelling, the shortest.

use crate::varint;

/// Why bytes are not protobuf, or not the message that was expected. Who made the block is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// A number ends early, is longer than it must be, or is above 64 bits.
    #[error("a number is cut off, too big, or not as short as it can be")]
    Varint,
    /// A field is longer than what is left.
    #[error("a field is longer than the rest of the message")]
    Length,
    /// No message here has a field of this type.
    #[error("wire type {wire_type} is unknown")]
    WireType {
        /// As it stands in the message.
        wire_type: u64,
    },
    /// A field has another type than it should, is there twice, or is unknown.
    #[error("field {field} is unexpected here")]
    Field {
        /// Its number.
        field: u64,
    },
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Uint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, of which no message here makes use.
    Fixed,
}

/// The fields of a message: number and value, in the order they lie in.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), ProtobufError> {
        let key = number(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Uint(number(&mut self.0)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = number(&mut self.0)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            wire_type => return Err(ProtobufError::WireType { wire_type }),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], ProtobufError> {
        let length = usize::try_from(length).map_err(|_| ProtobufError::Length)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Length)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Takes a number off the front.
pub(crate) fn number(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let (number, rest) = varint::decode(bytes).map_err(|_| ProtobufError::Varint)?;
    *bytes = rest;
    Ok(number)
}

/// Writes a field that is a number.
pub(crate) fn put_uint(out: &mut Vec<u8>, field: u64, number: u64) {
    varint::put(out, field << 3);
    varint::put(out, number);
}

/// Writes a field that is bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint::put(out, field << 3 | 2);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Returns the bytes of a field of that many bytes, where its number is below 16.
pub(crate) const fn field_bytes(bytes: usize) -> usize {
    1 + varint::length(bytes as u64) + bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_beyond_the_end_is_an_error_and_the_last() {
        let fields: Vec<_> = Fields(b"\x0a\x05abc").collect();
        assert_eq!(fields, [Err(ProtobufError::Length)]);
        let huge = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(Fields(huge).collect::<Vec<_>>(), [Err(ProtobufError::Length)]);
        assert_eq!(Fields(b"\x0b").collect::<Vec<_>>(), [Err(ProtobufError::WireType { wire_type: 3 })]);
    }
}
