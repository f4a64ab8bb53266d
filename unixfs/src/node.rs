//! A dag-pb node: links to other blocks, and data.
//!
//! Place in the flow: what files and directories are made of; its data is a [`crate::Data`]. Keeps true: what is
//! written is canonical, as boxo and @ipld/dag-pb write it: links by the bytes of their names, before the data, each
//! with its name and size even if these are empty. What is read may have its data first, as IPIP-0550 proposes, and its
//! links in any order, as old directories have them; all else than the specification's fields in their order is an
//! error. Source: <https://ipld.io/specs/codecs/dag-pb/spec/>.

use std::borrow::Cow;

use crate::{
    Cid, CidError,
    protobuf::{Fields, ProtobufError, Value, field_bytes, put_bytes, put_uint},
    varint,
};

const DATA: u64 = 1;
const LINKS: u64 = 2;

const HASH: u64 = 1;
const NAME: u64 = 2;
const TSIZE: u64 = 3;

/// One link of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link<'a> {
    /// The block it leads to.
    pub cid: Cid,
    /// Its name; the children of a file have the empty one.
    pub name: Cow<'a, [u8]>,
    /// What the node's maker said of the bytes of all blocks that it leads to, repeated ones counted again. Nobody
    /// checks it, so nothing may hang on it. 0 when nothing was said.
    pub tsize: u64,
}

/// A dag-pb node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node<'a> {
    /// Its links in the order they lie in.
    pub links: Vec<Link<'a>>,
    /// Its data.
    pub data: Option<Cow<'a, [u8]>>,
}

/// Why a block is no dag-pb node. Who made the block is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It is not protobuf, or not this message.
    #[error("the node is malformed: {0}")]
    Protobuf(#[from] ProtobufError),
    /// A link leads nowhere.
    #[error("link {index} has no CID")]
    NoCid {
        /// Its place among the links.
        index: usize,
    },
    /// A link leads to what is no CID.
    #[error("link {index} has a CID that is none: {source}")]
    Cid {
        /// Its place among the links.
        index: usize,
        /// Why.
        source: CidError,
    },
}

impl<'a> Node<'a> {
    /// Reads a node. Names and data are borrowed from the block.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn decode(block: &'a [u8]) -> Result<Self, NodeError> {
        let mut node = Self::default();
        let mut is_behind_links = false;
        for field in Fields(block) {
            match field? {
                (DATA, Value::Bytes(data)) if node.data.is_none() => {
                    node.data = Some(Cow::Borrowed(data));
                    is_behind_links = !node.links.is_empty();
                }
                // Links on both sides of the data would be a second spelling.
                (LINKS, Value::Bytes(link)) if !is_behind_links => {
                    let link = Link::decode(link, node.links.len())?;
                    node.links.push(link);
                }
                (field, _) => return Err(ProtobufError::Field { field }.into()),
            }
        }
        Ok(node)
    }

    /// Writes the node in its canonical form: links sorted by name, those of one name in the order they are in.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut links: Vec<&Link<'_>> = self.links.iter().collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        let mut block = Vec::new();
        for link in links {
            put_link(&mut block, &link.cid, &link.name, link.tsize);
        }
        if let Some(data) = &self.data {
            put_data(&mut block, data);
        }
        block
    }

    /// Returns the bytes of all blocks of the DAG as its makers said them: the block's, and those of its links. At most
    /// `u64::MAX`.
    #[must_use]
    pub fn tsize(&self, block_bytes: usize) -> u64 {
        self.links.iter().fold(block_bytes as u64, |sum, link| sum.saturating_add(link.tsize))
    }
}

impl<'a> Link<'a> {
    fn decode(link: &'a [u8], index: usize) -> Result<Self, NodeError> {
        let (mut cid, mut name, mut tsize) = (None, None, None);
        for field in Fields(link) {
            match field? {
                (HASH, Value::Bytes(hash)) if (&cid, &name, &tsize) == (&None, &None, &None) => {
                    cid = Some(Cid::decode(hash).map_err(|source| NodeError::Cid { index, source })?);
                }
                (NAME, Value::Bytes(bytes)) if (&name, &tsize) == (&None, &None) => name = Some(bytes),
                (TSIZE, Value::Uint(number)) if tsize.is_none() => tsize = Some(number),
                (field, _) => return Err(ProtobufError::Field { field }.into()),
            }
        }
        let cid = cid.ok_or(NodeError::NoCid { index })?;
        Ok(Self { cid, name: Cow::Borrowed(name.unwrap_or_default()), tsize: tsize.unwrap_or_default() })
    }
}

/// Writes a link of a node. Links stand before the data, by the bytes of their names.
pub(crate) fn put_link(block: &mut Vec<u8>, cid: &Cid, name: &[u8], tsize: u64) {
    varint::put(block, LINKS << 3 | 2);
    varint::put(block, inner_bytes(cid.bytes(), name.len(), tsize) as u64);
    put_bytes(block, HASH, &cid.to_bytes());
    put_bytes(block, NAME, name);
    put_uint(block, TSIZE, tsize);
}

/// Writes the data of a node, which ends it.
pub(crate) fn put_data(block: &mut Vec<u8>, data: &[u8]) {
    put_bytes(block, DATA, data);
}

/// Returns the bytes that a link takes in a node.
pub(crate) fn link_bytes(cid: &Cid, name: &str, tsize: u64) -> usize {
    field_bytes(inner_bytes(cid.bytes(), name.len(), tsize))
}

const fn inner_bytes(cid: usize, name: usize, tsize: u64) -> usize {
    field_bytes(cid) + field_bytes(name) + 1 + varint::length(tsize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;

    /// IPIP-0550's directory with `hello.txt`, in both orders of its fields.
    const LINKS_FIRST: &[u8] = b"12330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\
        120968656c6c6f2e7478741806" as &[u8];
    const DATA_ALONE: &[u8] = b"0a020801";

    fn hex(parts: &[&[u8]]) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(&parts.concat()).unwrap()
    }

    #[test]
    fn a_node_is_read_in_both_orders_and_written_links_first() {
        let (first, last) = (hex(&[LINKS_FIRST, DATA_ALONE]), hex(&[DATA_ALONE, LINKS_FIRST]));
        let node = Node::decode(&first).unwrap();
        assert_eq!(Node::decode(&last).unwrap(), node);
        assert_eq!(node.encode(), first);
        assert_eq!(node.links[0].name, &b"hello.txt"[..]);
        assert_eq!(node.links[0].cid, Cid::of(Codec::Raw, b"hello\n"));
        let named = "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24";
        assert_eq!(Cid::of(Codec::DagPb, &first).to_string(), named);
        assert_eq!(node.tsize(first.len()), first.len() as u64 + 6);
        assert_eq!(link_bytes(&node.links[0].cid, "hello.txt", 6), first.len() - 4);
    }

    #[test]
    fn links_are_written_by_the_bytes_of_their_names() {
        let cid = Cid::of(Codec::Raw, b"");
        let link = |name: &'static str, tsize| Link { cid, name: Cow::Borrowed(name.as_bytes()), tsize };
        let links = vec![link("é", 1), link("b", 2), link("Z", 3), link("b", 4), link("", 5)];
        let block = Node { links, data: None }.encode();
        let sizes: Vec<u64> = Node::decode(&block).unwrap().links.iter().map(|link| link.tsize).collect();
        assert_eq!(sizes, [5, 3, 2, 4, 1]);
    }

    #[test]
    fn what_the_specification_does_not_know_is_refused() {
        let link = hex(&[LINKS_FIRST]);
        let data = hex(&[DATA_ALONE]);
        let field = |field| Err(NodeError::Protobuf(ProtobufError::Field { field }));
        assert_eq!(Node::decode(&[&link[..], &data, &link].concat()), field(2), "links around the data");
        assert_eq!(Node::decode(&[&data[..], &data].concat()), field(1), "data twice");
        assert_eq!(Node::decode(b"\x18\x01"), field(3));
        assert_eq!(Node::decode(b"\x12\x00"), Err(NodeError::NoCid { index: 0 }));
        assert_eq!(Node::decode(b"\x12\x02\x18\x05"), Err(NodeError::NoCid { index: 0 }));
        assert_eq!(Node::decode(b"\x12\x04\x18\x05\x18\x05"), field(3), "size twice");
        assert_eq!(Node::decode(b"\x12\x04\x18\x05\x12\x00"), field(2), "name behind the size");
        let cid = NodeError::Cid { index: 0, source: CidError::Bytes };
        assert_eq!(Node::decode(b"\x12\x02\x0a\x00"), Err(cid));
        for cut in 1..link.len() {
            assert!(Node::decode(&link[..cut]).is_err(), "{cut}");
        }
        assert_eq!(Node::decode(b""), Ok(Node::default()));
    }
}
