//! What a block leads to, whichever codec it is in.
//!
//! Place in the flow: under [`crate::CarReader`], which wants to know of a root whether it has children, and
//! [`crate::Completeness`]. Keeps true: blocks of unknown codecs are told as such, and never as without links.
//! Sources: <https://ipld.io/specs/codecs/dag-pb/spec/>, <https://ipld.io/specs/codecs/dag-cbor/spec/>.

use minicbor::{Decoder, data::Type, decode};

use crate::{Cid, CidError, Codec, Node, NodeError};

/// The tag of a link.
const LINK: u64 = 42;
/// What stands before a CID in a link: the multibase of bytes that are not text.
const PLAIN: u8 = 0;

/// What a block leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Links {
    /// To these, in the order they stand in, repeated ones again.
    Known(Vec<Cid>),
    /// Nobody here reads this codec.
    Unknown,
}

/// Why a block is not what its codec says. Who made the block is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinksError {
    /// It is not dag-pb.
    #[error("the dag-pb block is malformed: {0}")]
    Node(#[from] NodeError),
    /// It is not CBOR, or not one item of it.
    #[error("the dag-cbor block is malformed at byte {at}")]
    Cbor {
        /// Where, in bytes.
        at: usize,
    },
    /// A link leads to what is no CID.
    #[error("a link of the dag-cbor block is none: {0}")]
    Cid(#[from] CidError),
}

impl Links {
    /// Reads the links of a block.
    ///
    /// # Errors
    /// [`LinksError`].
    pub fn of(codec: Codec, block: &[u8]) -> Result<Self, LinksError> {
        match codec {
            Codec::Raw => Ok(Self::Known(Vec::new())),
            Codec::DagPb => Ok(Self::Known(Node::decode(block)?.links.iter().map(|link| link.cid).collect())),
            Codec::DagCbor => of_cbor(block).map(Self::Known),
            Codec::Other(_) => Ok(Self::Unknown),
        }
    }
}

/// Reads the links of a dag-cbor block. Goes through it item by item, so depth costs nothing.
fn of_cbor(block: &[u8]) -> Result<Vec<Cid>, LinksError> {
    let mut cbor = Decoder::new(block);
    let mut links = Vec::new();
    // Items that must still come, those inside of arrays and maps too.
    let mut open = 1_u64;
    while open > 0 {
        let at = cbor.position();
        let malformed = |_: decode::Error| LinksError::Cbor { at };
        let inside = match cbor.datatype().map_err(malformed)? {
            Type::Array => cbor.array().map_err(malformed)?.ok_or(LinksError::Cbor { at })?,
            Type::Map => {
                let pairs = cbor.map().map_err(malformed)?.ok_or(LinksError::Cbor { at })?;
                pairs.checked_mul(2).ok_or(LinksError::Cbor { at })?
            }
            // No other tag is in the data model.
            Type::Tag if cbor.tag().map_err(malformed)?.as_u64() == LINK => {
                let (&PLAIN, cid) = cbor.bytes().map_err(malformed)?.split_first().ok_or(LinksError::Cbor { at })?
                else {
                    return Err(LinksError::Cbor { at });
                };
                links.push(Cid::decode(cid)?);
                0
            }
            Type::Tag | Type::ArrayIndef | Type::MapIndef | Type::BytesIndef | Type::StringIndef | Type::Break => {
                return Err(LinksError::Cbor { at });
            }
            _ => cbor.skip().map(|()| 0).map_err(malformed)?,
        };
        open = (open - 1).checked_add(inside).ok_or(LinksError::Cbor { at })?;
    }
    if cbor.position() == block.len() { Ok(links) } else { Err(LinksError::Cbor { at: cbor.position() }) }
}

/// Writes a link as it stands in dag-cbor.
pub(crate) fn put_link<W: minicbor::encode::Write>(
    cbor: &mut minicbor::Encoder<W>,
    cid: &Cid,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    let bytes = [&[PLAIN], cid.to_bytes().as_slice()].concat();
    cbor.tag(minicbor::data::Tag::new(LINK))?.bytes(&bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(byte: u8) -> Cid {
        Cid::of(Codec::Raw, &[byte])
    }

    fn cbor(write: impl FnOnce(&mut minicbor::Encoder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut minicbor::Encoder::new(&mut out));
        out
    }

    #[test]
    fn links_stand_at_any_depth_of_cbor() {
        let block = cbor(|cbor| {
            cbor.map(2).unwrap().str("a").unwrap().array(3).unwrap();
            put_link(cbor, &cid(1)).unwrap();
            cbor.i64(-5).unwrap().bytes(b"\x00no link").unwrap();
            cbor.str("b").unwrap().map(1).unwrap().str("").unwrap();
            put_link(cbor, &cid(2)).unwrap();
        });
        assert_eq!(Links::of(Codec::DagCbor, &block), Ok(Links::Known(vec![cid(1), cid(2)])));
        for cut in 0..block.len() {
            assert!(Links::of(Codec::DagCbor, &block[..cut]).is_err(), "{cut}");
        }
        let longer = [&block[..], &[0]].concat();
        assert_eq!(Links::of(Codec::DagCbor, &longer), Err(LinksError::Cbor { at: block.len() }));
    }

    #[test]
    fn a_link_that_is_none_is_refused() {
        let tagged = |bytes: &[u8]| {
            cbor(|cbor| {
                cbor.tag(minicbor::data::Tag::new(LINK)).unwrap().bytes(bytes).unwrap();
            })
        };
        let whole = [&[0], cid(1).to_bytes().as_slice()].concat();
        assert_eq!(Links::of(Codec::DagCbor, &tagged(&whole)), Ok(Links::Known(vec![cid(1)])));
        let without_zero = Links::of(Codec::DagCbor, &tagged(&whole[1..]));
        assert_eq!(without_zero, Err(LinksError::Cbor { at: 0 }));
        assert_eq!(Links::of(Codec::DagCbor, &tagged(b"")), Err(LinksError::Cbor { at: 0 }));
        assert_eq!(Links::of(Codec::DagCbor, &tagged(&whole[..9])), Err(LinksError::Cid(CidError::Bytes)));
        let other_tag = cbor(|cbor| {
            cbor.tag(minicbor::data::Tag::new(43)).unwrap().bytes(&whole).unwrap();
        });
        assert_eq!(Links::of(Codec::DagCbor, &other_tag), Err(LinksError::Cbor { at: 0 }));
    }

    #[test]
    fn what_is_announced_costs_nothing_and_endless_items_are_refused() {
        for bad in [&b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", b"\x9f\xff"]
        {
            assert!(matches!(Links::of(Codec::DagCbor, bad), Err(LinksError::Cbor { .. })), "{bad:?}");
        }
        let deep = [&[0x81; 100_000][..], &[0]].concat();
        assert_eq!(Links::of(Codec::DagCbor, &deep), Ok(Links::Known(Vec::new())));
    }

    #[test]
    fn raw_blocks_lead_nowhere_and_of_unknown_codecs_nothing_is_said() {
        assert_eq!(Links::of(Codec::Raw, b"\x12"), Ok(Links::Known(Vec::new())));
        assert_eq!(Links::of(Codec::Other(0x129), b"{}"), Ok(Links::Unknown));
        assert!(Links::of(Codec::DagPb, b"\x12").is_err());
    }
}
