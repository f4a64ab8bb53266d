//! What a node of UnixFS says of itself: file, directory or symbolic link; its size and its parts' sizes.
//!
//! Place in the flow: the data of a [`crate::Node`]. Source: <https://specs.ipfs.tech/unixfs/#data>.

use std::borrow::Cow;

use crate::protobuf::{Fields, ProtobufError, Value, number, put_bytes, put_uint};

const TYPE: u64 = 1;
const DATA: u64 = 2;
const FILE_SIZE: u64 = 3;
const BLOCK_SIZES: u64 = 4;
const HASH_TYPE: u64 = 5;
const FANOUT: u64 = 6;

/// Murmur3 in its x64 form of 128 bits, of which the first 64 count.
pub(crate) const MURMUR3: u64 = 0x22;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of a file, as the trickle layout has them.
    Raw,
    /// A directory in one node.
    Directory,
    /// A file, or a part of one.
    File,
    /// Never used by anybody.
    Metadata,
    /// A symbolic link; its data is where it points.
    Symlink,
    /// A directory in many nodes, or one of these.
    Shard,
}

/// The data of a node of UnixFS. Mode and time, where a maker gave them, are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data<'a> {
    /// What the node is.
    pub kind: Kind,
    /// Content of a file before that of its links; where a symbolic link points; the slots in use of a shard.
    pub data: Option<Cow<'a, [u8]>>,
    /// Bytes of a file's content below this node.
    pub file_bytes: Option<u64>,
    /// The same of each link.
    pub block_bytes: Vec<u64>,
    /// How a shard hashes names.
    pub hash: Option<u64>,
    /// How many slots a shard has.
    pub fanout: Option<u64>,
}

/// Why the data of a node is not UnixFS. Who made the block is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// It is not protobuf.
    #[error("the data of the node is malformed: {0}")]
    Protobuf(#[from] ProtobufError),
    /// It does not say what the node is, or nothing that is known.
    #[error("the data of the node does not say what the node is")]
    Kind,
}

impl<'a> Data<'a> {
    /// Makes the data of a node of a kind that says nothing more.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, data: None, file_bytes: None, block_bytes: Vec::new(), hash: None, fanout: None }
    }

    /// Reads the data of a node. Fields that are not known, mode and time are passed over, as protobuf wants it.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DataError> {
        let mut kind = None;
        let mut data = Self::new(Kind::Raw);
        for field in Fields(bytes) {
            match field? {
                (TYPE, Value::Uint(number)) if kind.is_none() => kind = Kind::known(number),
                (DATA, Value::Bytes(bytes)) if data.data.is_none() => data.data = Some(Cow::Borrowed(bytes)),
                (FILE_SIZE, Value::Uint(number)) if data.file_bytes.is_none() => data.file_bytes = Some(number),
                (BLOCK_SIZES, Value::Uint(number)) => data.block_bytes.push(number),
                // Numbers packed into one field, which protobuf lets writers choose.
                (BLOCK_SIZES, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        data.block_bytes.push(number(&mut packed)?);
                    }
                }
                (HASH_TYPE, Value::Uint(number)) if data.hash.is_none() => data.hash = Some(number),
                (FANOUT, Value::Uint(number)) if data.fanout.is_none() => data.fanout = Some(number),
                (field @ TYPE..=FANOUT, _) => return Err(ProtobufError::Field { field }.into()),
                _ => {}
            }
        }
        Ok(Self { kind: kind.ok_or(DataError::Kind)?, ..data })
    }

    /// Writes the data, as boxo does.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.as_ref().map_or(0, |data| data.len()) + 32);
        put_uint(&mut out, TYPE, self.kind as u64);
        if let Some(data) = &self.data {
            put_bytes(&mut out, DATA, data);
        }
        if let Some(number) = self.file_bytes {
            put_uint(&mut out, FILE_SIZE, number);
        }
        for &number in &self.block_bytes {
            put_uint(&mut out, BLOCK_SIZES, number);
        }
        if let Some(number) = self.hash {
            put_uint(&mut out, HASH_TYPE, number);
        }
        if let Some(number) = self.fanout {
            put_uint(&mut out, FANOUT, number);
        }
        out
    }
}

impl Kind {
    /// By their numbers in the message.
    const ALL: [Self; 6] = [Self::Raw, Self::Directory, Self::File, Self::Metadata, Self::Symlink, Self::Shard];

    fn known(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let data = Data {
            kind: Kind::Shard,
            data: Some(Cow::Borrowed(b"abc")),
            file_bytes: Some(300),
            block_bytes: vec![0, 256, u64::MAX],
            hash: Some(MURMUR3),
            fanout: Some(256),
        };
        assert_eq!(Data::decode(&data.encode()), Ok(data));
        assert_eq!(Data::new(Kind::Directory).encode(), b"\x08\x01");
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }

    #[test]
    fn packed_sizes_and_fields_to_come_are_read() {
        let data = Data::decode(b"\x08\x02\x18\x05\x22\x02\x02\x03\x38\xa4\x03\x42\x02\x08\x01").unwrap();
        assert_eq!((data.kind, data.file_bytes, data.block_bytes), (Kind::File, Some(5), vec![2, 3]));
    }

    #[test]
    fn what_is_not_unixfs_is_refused() {
        assert_eq!(Data::decode(b""), Err(DataError::Kind));
        assert_eq!(Data::decode(b"\x08\x06"), Err(DataError::Kind));
        let twice = Err(DataError::Protobuf(ProtobufError::Field { field: 1 }));
        assert_eq!(Data::decode(b"\x08\x02\x08\x02"), twice);
        let of_another_type = Err(DataError::Protobuf(ProtobufError::Field { field: 3 }));
        assert_eq!(Data::decode(b"\x08\x02\x1a\x01\x05"), of_another_type);
    }
}
