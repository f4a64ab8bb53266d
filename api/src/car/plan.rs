//! Which files a DAG has, and which blocks make up each. A root of dag-cbor, as that of an NFT's metadata, is the
//! folder of what it links to: IPFS finds a link under the keys that lead to it, and so do readers here.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use minicbor::{Decoder, data::Type};
use unixfs::{Bounds, Cid, Codec, Step, Walker};

use super::blocks::{Blocks, CarFault, Place};

/// The tag of a link in dag-cbor.
const LINK: u64 = 42;
/// Maps and lists in each other.
const DEPTH_MAX: usize = 64;
/// Links of a root.
const LINKS_MAX: usize = 100_000;
/// The keys that lead to one of them, and to all together, in bytes: a long key may stand before many links.
const PATH_BYTES_MAX: usize = 4096;
const PATHS_BYTES_MAX: usize = 8 << 20;
/// Bytes that the files of any DAG may have, and how many times the bytes of its blocks those of a larger one. A DAG
/// may name one block again and again, so a few kilobytes may lead to a TiB.
const SMALL_DAG_BYTES: u64 = 1 << 30;
const REPEATS_MAX: u64 = 16;
/// Pieces of all files together: some 40 bytes each. A small DAG may have one leaf many times.
const PIECES_MAX: usize = 4_000_000;

/// What is to be stored of a DAG.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
    /// Paths of folders; that of the top is empty.
    pub(super) folders: Vec<String>,
    /// Bytes of all files together, and their pieces.
    pub(super) bytes: u64,
    pieces: usize,
}

/// One file.
pub(super) struct File {
    /// Names with slashes between them; empty for a DAG that is one file.
    pub(super) path: String,
    pub(super) content: Content,
}

/// The content of a file, piece by piece.
#[derive(Default)]
pub(super) struct Content {
    pieces: VecDeque<Piece>,
    bytes: u64,
}

enum Piece {
    Block(Place),
    Inline(Bytes),
}

impl Plan {
    /// Goes through a DAG whose blocks are all there. Its files have at most `max` bytes together, and are no more of
    /// repetitions than may be. Blocks.
    pub(super) fn of(root: &Cid, blocks: &Blocks, max: u64) -> Result<Self, CarFault> {
        let (mut plan, max) = (Self::default(), content_bytes_max(blocks.bytes()).min(max));
        if root.codec() != Codec::DagCbor {
            plan.walk("", *root, blocks, max)?;
            return Ok(plan);
        }
        let (place, _) = blocks.place(root).ok_or(CarFault::NoRoot { root: *root })?;
        let links = links(&blocks.block(place)?).filter(|links| !links.is_empty());
        plan.folders.push(String::new());
        for (path, cid) in links.ok_or(CarFault::NoRoot { root: *root })? {
            plan.walk(&path, cid, blocks, max)?;
        }
        Ok(plan)
    }

    /// Adds what lies under a root, below a path.
    fn walk(&mut self, below: &str, root: Cid, blocks: &Blocks, max: u64) -> Result<(), CarFault> {
        let join = |path: String| match (below.is_empty(), path.is_empty()) {
            (true, _) => path,
            (false, true) => below.to_owned(),
            (false, false) => format!("{below}/{path}"),
        };
        let mut walker = Walker::new(root, Bounds::default());
        loop {
            match walker.step()? {
                Step::Block(cid) => {
                    let (place, _) = blocks.place(&cid).ok_or(CarFault::NoRoot { root: cid })?;
                    walker.give(blocks.block(place)?)?;
                }
                Step::Length(cid) => {
                    let (_, bytes) = blocks.place(&cid).ok_or(CarFault::NoRoot { root: cid })?;
                    walker.give_length(bytes)?;
                }
                Step::Directory { path } => self.folders.push(join(path)),
                Step::File { path, .. } => self.files.push(File { path: join(path), content: Content::default() }),
                Step::Leaf { cid, bytes } => {
                    let (place, _) = blocks.place(&cid).ok_or(CarFault::NoRoot { root: cid })?;
                    self.piece(Piece::Block(place), bytes, max)?;
                }
                Step::Inline(content) => {
                    let bytes = content.len() as u64;
                    self.piece(Piece::Inline(content), bytes, max)?;
                }
                Step::Symlink { path, .. } | Step::Other { path, .. } => {
                    return Err(CarFault::NoFile { path: join(path) });
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// Returns how many objects it becomes at least.
    pub(super) fn objects(&self) -> usize {
        self.files.len() + self.folders.len()
    }

    fn piece(&mut self, piece: Piece, bytes: u64, max: u64) -> Result<(), CarFault> {
        (self.bytes, self.pieces) = (self.bytes.saturating_add(bytes), self.pieces + 1);
        if self.bytes > max || self.pieces > PIECES_MAX {
            return Err(CarFault::Large { max });
        }
        if let Some(file) = self.files.last_mut() {
            file.content.pieces.push_back(piece);
            file.content.bytes += bytes;
        }
        Ok(())
    }
}

impl Content {
    /// Bytes of all pieces.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what reads it.
    pub(super) fn read(self, blocks: Arc<Blocks>) -> impl Read + Send {
        Pieces { pieces: self.pieces, blocks, rest: Bytes::new() }
    }
}

/// Reads a content, a block at a time.
struct Pieces {
    pieces: VecDeque<Piece>,
    blocks: Arc<Blocks>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.pop_front() {
                Some(Piece::Block(place)) => self.rest = self.blocks.block(place)?,
                Some(Piece::Inline(content)) => self.rest = content,
                None => return Ok(0),
            }
        }
        let bytes = self.rest.len().min(into.len());
        self.rest.copy_to_slice(&mut into[..bytes]);
        Ok(bytes)
    }
}

/// Returns how many bytes the files of a DAG may have whose blocks have so many.
fn content_bytes_max(block_bytes: u64) -> u64 {
    block_bytes.saturating_mul(REPEATS_MAX).max(SMALL_DAG_BYTES)
}

/// Returns the links of a dag-cbor block with the keys that lead to each; none where it is not what its codec says.
fn links(block: &[u8]) -> Option<Vec<(String, Cid)>> {
    let (mut cbor, mut found, mut room) = (Decoder::new(block), Vec::new(), PATHS_BYTES_MAX);
    collect(&mut cbor, &mut Vec::new(), &mut found, &mut room)?;
    (cbor.position() == block.len()).then_some(found)
}

fn collect(
    cbor: &mut Decoder<'_>,
    keys: &mut Vec<String>,
    found: &mut Vec<(String, Cid)>,
    room: &mut usize,
) -> Option<()> {
    if keys.len() > DEPTH_MAX || found.len() > LINKS_MAX {
        return None;
    }
    match cbor.datatype().ok()? {
        Type::Map => {
            for _ in 0..cbor.map().ok()?? {
                keys.push(cbor.str().ok()?.to_owned());
                collect(cbor, keys, found, room)?;
                keys.pop();
            }
        }
        Type::Array => {
            for at in 0..cbor.array().ok()?? {
                keys.push(at.to_string());
                collect(cbor, keys, found, room)?;
                keys.pop();
            }
        }
        Type::Tag if cbor.tag().ok()?.as_u64() == LINK => {
            let (0, cid) = cbor.bytes().ok()?.split_first().map(|(first, rest)| (*first, rest))? else { return None };
            let path_bytes: usize = keys.iter().map(|key| key.len() + 1).sum();
            *room = room.checked_sub(path_bytes).filter(|_| path_bytes <= PATH_BYTES_MAX)?;
            found.push((keys.join("/"), Cid::decode(cid).ok()?));
        }
        Type::Tag => return None,
        _ => cbor.skip().ok()?,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use minicbor::{Encoder, data::Tag};

    use super::*;

    #[test]
    fn a_dag_repeats_its_blocks_within_bounds() {
        for (blocks, files) in [(0, 1 << 30), (1 << 26, 1 << 30), ((1 << 26) + 1, (1 << 30) + 16), (u64::MAX, u64::MAX)]
        {
            assert_eq!(content_bytes_max(blocks), files);
        }
    }

    #[test]
    fn links_are_found_under_the_keys_that_lead_to_them() {
        let cid = Cid::of(Codec::Raw, b"x");
        let link = [&[0][..], &cid.to_bytes()].concat();
        let mut cbor = Encoder::new(Vec::new());
        cbor.map(3).unwrap().str("image").unwrap().tag(Tag::new(LINK)).unwrap().bytes(&link).unwrap();
        cbor.str("name").unwrap().str("cat").unwrap();
        cbor.str("properties").unwrap().map(1).unwrap().str("files").unwrap().array(2).unwrap();
        cbor.u8(7).unwrap().tag(Tag::new(LINK)).unwrap().bytes(&link).unwrap();
        let block = cbor.into_writer();
        let found = links(&block).unwrap();
        assert_eq!(found, [("image".to_owned(), cid), ("properties/files/1".to_owned(), cid)]);
        for end in 0..block.len() {
            assert!(links(&block[..end]).is_none(), "{end}");
        }
        let deep = vec![0x81; 1000];
        assert!(links(&deep).is_none());
        // Few bytes that lead to many long paths.
        let long = |key_bytes: usize, count: u64| {
            let mut cbor = Encoder::new(Vec::new());
            cbor.map(1).unwrap().str(&"k".repeat(key_bytes)).unwrap().array(count).unwrap();
            for _ in 0..count {
                cbor.tag(Tag::new(LINK)).unwrap().bytes(&link).unwrap();
            }
            links(&cbor.into_writer()).map(|found| found.len())
        };
        assert_eq!((long(4000, 100), long(5000, 1), long(4000, 3000)), (Some(100), None, None));
    }
}
