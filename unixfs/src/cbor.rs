//! A value of the IPLD data model, to be written as dag-cbor: what nft.storage's `/store` makes of the metadata of a
//! token.
//!
//! Keeps true: one value has one spelling: keys by their length, then by their bytes; each number in its shortest form,
//! but floats in 64 bits. To make a number of JSON the one that JavaScript makes of it, give one without a fraction as
//! an integer, `1.0` and `1e3` too. Source: <https://ipld.io/specs/codecs/dag-cbor/spec/>.

use std::{collections::BTreeMap, convert::Infallible};

use minicbor::{Encoder, encode};

use crate::{Cid, links::put_link};

/// Most lists and maps inside of each other.
const LEVELS_MAX: usize = 128;

/// A value of the IPLD data model.
#[derive(Debug, Clone, PartialEq)]
pub enum Ipld {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number without a fraction.
    Signed(i64),
    /// The same, from 0 on.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in an order.
    List(Vec<Ipld>),
    /// Values under names.
    Map(BTreeMap<String, Ipld>),
    /// A link to a block.
    Link(Cid),
}

/// Why a value cannot be written. Who made it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpldError {
    /// The data model has no such number.
    #[error("a number is infinite or none")]
    NotFinite,
    /// Lists and maps are too deep inside of each other.
    #[error("more than {LEVELS_MAX} lists and maps inside of each other")]
    Deep,
}

impl Ipld {
    /// Writes the value as a block of dag-cbor.
    ///
    /// # Errors
    /// [`IpldError`].
    pub fn encode(&self) -> Result<Vec<u8>, IpldError> {
        self.check(0)?;
        let mut block = Vec::new();
        self.put(&mut Encoder::new(&mut block)).expect("a vector takes all bytes");
        Ok(block)
    }

    fn check(&self, level: usize) -> Result<(), IpldError> {
        let is_around = matches!(self, Self::List(_) | Self::Map(_));
        match self {
            _ if is_around && level == LEVELS_MAX => Err(IpldError::Deep),
            Self::Float(number) if !number.is_finite() => Err(IpldError::NotFinite),
            Self::List(values) => values.iter().try_for_each(|value| value.check(level + 1)),
            Self::Map(values) => values.values().try_for_each(|value| value.check(level + 1)),
            _ => Ok(()),
        }
    }

    fn put(&self, cbor: &mut Encoder<&mut Vec<u8>>) -> Result<(), encode::Error<Infallible>> {
        match self {
            Self::Null => cbor.null()?,
            Self::Bool(is) => cbor.bool(*is)?,
            Self::Signed(number) => cbor.i64(*number)?,
            Self::Unsigned(number) => cbor.u64(*number)?,
            Self::Float(number) => cbor.f64(*number)?,
            Self::Text(text) => cbor.str(text)?,
            Self::Bytes(bytes) => cbor.bytes(bytes)?,
            Self::Link(cid) => return put_link(cbor, cid),
            Self::List(values) => {
                cbor.array(values.len() as u64)?;
                return values.iter().try_for_each(|value| value.put(cbor));
            }
            Self::Map(values) => {
                let mut sorted: Vec<_> = values.iter().collect();
                sorted.sort_by_key(|(name, _)| name.len());
                cbor.map(values.len() as u64)?;
                return sorted.into_iter().try_for_each(|(name, value)| {
                    cbor.str(name)?;
                    value.put(cbor)
                });
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, Links};

    fn map(values: impl IntoIterator<Item = (&'static str, Ipld)>) -> Ipld {
        Ipld::Map(values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    #[test]
    fn keys_are_written_by_length_then_bytes_and_links_are_found_again() {
        let cid = Cid::of(Codec::Raw, b"x");
        let value = map([
            ("name", Ipld::Text("cat".into())),
            ("type", Ipld::Text("nft".into())),
            ("b", Ipld::List(vec![Ipld::Null, Ipld::Bool(true), Ipld::Signed(-1), Ipld::Unsigned(24)])),
            ("aa", Ipld::Float(1.5)),
            ("metadata.json", Ipld::Link(cid)),
            ("é", Ipld::Bytes(vec![7])),
        ]);
        let block = value.encode().unwrap();
        let wanted = [
            &b"\xa6\x61b\x84\xf6\xf5\x20\x18\x18\x62aa\xfb\x3f\xf8\0\0\0\0\0\0\x62\xc3\xa9\x41\x07"[..],
            b"\x64name\x63cat\x64type\x63nft\x6dmetadata.json\xd8\x2a\x58\x25\x00",
            &cid.to_bytes(),
        ];
        assert_eq!(block, wanted.concat());
        assert_eq!(Links::of(Codec::DagCbor, &block), Ok(Links::Known(vec![cid])));
    }

    #[test]
    fn what_the_data_model_has_not_is_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(map([("a", Ipld::Float(number))]).encode(), Err(IpldError::NotFinite));
        }
        let deep = |levels| (0..levels).fold(Ipld::Null, |value, _| Ipld::List(vec![value]));
        assert!(deep(LEVELS_MAX).encode().is_ok());
        assert_eq!(deep(LEVELS_MAX + 1).encode(), Err(IpldError::Deep));
    }
}
