//! The bodies over `unixfs`: what others send as CIDs, CARs and blocks, and what must hold for whatever is let through.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use unixfs::{
    Bounds, CarError, CarEvent, CarReader, CarSummary, Cid, Codec, Completeness, Data, Link, Links, Node, Step,
    Structure, WalkError, Walker,
};

/// One body.
pub type Body = fn(&[u8]);

/// The bodies under the names of their targets and folders of `corpus/`.
pub const BODIES: [(&str, Body); 4] = [("cid", cid), ("car", car), ("dag_node", dag_node), ("dag_walk", dag_walk)];

/// A CID, as bytes and as text: it has one spelling.
pub fn cid(bytes: &[u8]) {
    if let Ok((cid, rest)) = Cid::decode_front(bytes) {
        let written = cid.to_bytes();
        assert_eq!((written.len(), [&written, rest].concat().as_slice()), (cid.bytes(), bytes));
        assert_eq!(cid.to_string().parse(), Ok(cid));
        assert_eq!(cid.to_v1().to_string().parse(), Ok(cid.to_v1()));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(cid) = text.parse::<Cid>()
    {
        assert_eq!(cid.to_string(), text);
        assert_eq!(Cid::decode(&cid.to_bytes()), Ok(cid));
    }
}

/// A CAR: however it is sliced it is the same, and its blocks have their names.
pub fn car(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, 1), whole);
    assert_eq!(read(bytes, 7), whole);
    for event in &whole.0 {
        if let CarEvent::Block(block) = event {
            assert_eq!(block.cid.verify(&block.block), Ok(()));
            assert_eq!(bytes[usize::try_from(block.offset).expect("it was read")..][..block.block.len()], block.block);
        }
    }
}

fn read(bytes: &[u8], slice: usize) -> (Vec<CarEvent>, Result<CarSummary, CarError>) {
    let (mut reader, mut events) = (CarReader::new(), Vec::new());
    for mut part in bytes.chunks(slice) {
        loop {
            match reader.read(&mut part) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, reader.end())
}

/// A block as each codec: what is read of a node can be written and is read the same.
pub fn dag_node(block: &[u8]) {
    let _ = Links::of(Codec::DagCbor, block);
    if let Ok(data) = Data::decode(block) {
        assert_eq!(Data::decode(&data.encode()), Ok(data));
    }
    if let Ok(node) = Node::decode(block) {
        let written = node.encode();
        let again = Node::decode(&written).expect("what was read can be written");
        assert_eq!(again.encode(), written);
        assert_eq!((again.links.len(), &again.data), (node.links.len(), &node.data));
        if let Some(Ok(data)) = node.data.as_deref().map(Data::decode) {
            assert_eq!(Data::decode(&data.encode()), Ok(data));
        }
    }
}

/// A DAG of somebody who means no good: blocks made of the input, whose links lead to those before them under names and
/// with data of the input too. Each has its right CID. The last is walked; files have as many bytes as were told.
pub fn dag_walk(mut input: &[u8]) {
    let mut blocks: Vec<(Cid, Bytes)> = Vec::new();
    while let Some(length) = byte(&mut input) {
        let data = take(&mut input, usize::from(length & 0x7f));
        let block = if length & 0x80 == 0 {
            (Cid::of(Codec::Raw, data), Bytes::copy_from_slice(data))
        } else {
            let count = byte(&mut input).unwrap_or_default();
            let mut links = Vec::new();
            for _ in 0..count {
                let (to, name) = (byte(&mut input), byte(&mut input).unwrap_or_default());
                let name = Cow::Borrowed(take(&mut input, usize::from(name % 32)));
                let back = usize::from(to.unwrap_or_default()) % blocks.len().max(1);
                if let Some((cid, _)) = blocks.len().checked_sub(back + 1).and_then(|index| blocks.get(index)) {
                    links.push(Link { cid: *cid, name, tsize: 1 });
                }
            }
            let node = Node { links, data: Some(Cow::Borrowed(data)) }.encode();
            (Cid::of(Codec::DagPb, &node), node.into())
        };
        blocks.push(block);
    }
    let Some((root, _)) = blocks.last() else { return };
    let mut dag = Completeness::new(root, 1 << 20).expect("one root is few");
    for (cid, block) in &blocks {
        dag.insert(cid, &Links::of(cid.codec(), block).expect("it was written")).expect("they are few");
    }
    assert_eq!(dag.structure(), Structure::Complete);
    let _ = walk(*root, &blocks.iter().cloned().collect());
}

fn walk(root: Cid, blocks: &BTreeMap<Cid, Bytes>) -> Result<(), WalkError> {
    let bounds = Bounds {
        entries: 1000,
        blocks: 1000,
        content_bytes: 1 << 30,
        node_bytes: 1 << 20,
        depth: 50,
        path_bytes: 1000,
        links: 10_000,
    };
    let mut walker = Walker::new(root, bounds);
    let mut left = 0;
    loop {
        let step = walker.step()?;
        match &step {
            Step::Block(cid) => walker.give(blocks[cid].clone())?,
            Step::Length(cid) => walker.give_length(blocks[cid].len() as u64)?,
            Step::Leaf { cid, bytes } => {
                assert_eq!(blocks[cid].len() as u64, *bytes);
                left -= bytes;
            }
            Step::Inline(part) => left -= part.len() as u64,
            others => {
                assert_eq!(left, 0);
                match others {
                    Step::File { bytes, .. } => left = *bytes,
                    Step::End => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

fn take<'a>(input: &mut &'a [u8], bytes: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(bytes.min(input.len()));
    *input = rest;
    taken
}
