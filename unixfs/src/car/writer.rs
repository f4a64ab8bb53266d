//! Writes what a CAR has around its blocks.

use minicbor::Encoder;

use crate::{Cid, links::put_link, varint};

/// Returns the header of a CAR with one root.
///
/// # Panics
/// Never: memory takes all that is written.
#[must_use]
pub fn header(root: &Cid) -> Vec<u8> {
    let mut cbor = Encoder::new(Vec::new());
    // Keys by their length, as dag-cbor orders them.
    let written = cbor
        .map(2)
        .and_then(|cbor| cbor.str("roots"))
        .and_then(|cbor| cbor.array(1))
        .and_then(|cbor| put_link(cbor, root))
        .and_then(|()| cbor.str("version"))
        .and_then(|cbor| cbor.u8(1));
    written.map(|_| ()).expect("a vector takes all bytes");
    let cbor = cbor.into_writer();
    let mut out = Vec::with_capacity(cbor.len() + 1);
    varint::put(&mut out, cbor.len() as u64);
    out.extend_from_slice(&cbor);
    out
}

/// Returns what stands before a block of so many bytes.
#[must_use]
pub fn section_head(cid: &Cid, block_bytes: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut out = Vec::with_capacity(cid.len() + 4);
    varint::put(&mut out, (cid.len() + block_bytes) as u64);
    out.extend_from_slice(&cid);
    out
}
