//! Reads a CAR as its bytes come in, and checks each block by its name.
//!
//! Place in the flow: an upload's bytes go in, events come out. Keeps true: no block is told before its hash is
//! checked; memory is at most one block, and grows with what came, not with what was announced; who sends what
//! nft.storage refused reads the words that it refused it with.

use bytes::Bytes;
use minicbor::{Decoder, data::Type};

use crate::{
    CarError, Cid, Codec, Links, LinksError, Node,
    limits::{BLOCK_BYTES_MAX, CAR_HEADER_BYTES_MAX, CID_BYTES_MAX},
    varint::{self, VarintError},
};

/// Reads one CAR.
#[derive(Debug)]
pub struct CarReader {
    state: State,
    /// What came of the number, header, CID or block that is being read.
    held: Vec<u8>,
    /// Of the input, behind what is held.
    position: u64,
    root: Option<Cid>,
    blocks: u64,
    block_bytes: u64,
    /// Of the root, once its block came.
    top: Option<Top>,
}

/// What is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    HeaderLength,
    Header { bytes: usize },
    SectionLength,
    Cid { section: u64 },
    Block { cid: Cid, bytes: usize },
}

#[derive(Debug, Clone, Copy)]
struct Top {
    has_links: bool,
    tsize: Option<u64>,
}

/// What a CAR has, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarEvent {
    /// Its one root. The first event.
    Root(Cid),
    /// A block that has its name.
    Block(CarBlock),
}

/// A block that has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarBlock {
    /// Its name.
    pub cid: Cid,
    /// Where its bytes begin in the CAR, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub block: Bytes,
}

/// What a CAR was, when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarSummary {
    /// Its one root, whose block it has.
    pub root: Cid,
    /// How many blocks it has, repeated ones counted again.
    pub blocks: u64,
    /// The bytes of these.
    pub block_bytes: u64,
    /// The bytes of the whole DAG, as the root says them: its block, and the sizes on its links, which nobody checked.
    /// None when the root is neither raw nor dag-pb.
    pub tsize: Option<u64>,
}

impl Default for CarReader {
    fn default() -> Self {
        Self::new()
    }
}

impl CarReader {
    /// Begins a CAR.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::HeaderLength,
            held: Vec::new(),
            position: 0,
            root: None,
            blocks: 0,
            block_bytes: 0,
            top: None,
        }
    }

    /// Takes bytes off the front of the input until there is an event. Returns none when the input is used up. After an
    /// error the CAR is to be given up.
    ///
    /// # Errors
    /// [`CarError`].
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<CarEvent>, CarError> {
        loop {
            match self.state {
                State::HeaderLength => {
                    let Some(length) = self.number(input)? else { return Ok(None) };
                    let too_big = CarError::HeaderTooBig { bytes: length };
                    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= CAR_HEADER_BYTES_MAX);
                    self.state = State::Header { bytes: bytes.ok_or(too_big)? };
                }
                State::Header { bytes } => {
                    let Some(held) = self.exactly(bytes, input) else { return Ok(None) };
                    let root = root(&held)?;
                    self.root = Some(root);
                    self.state = State::SectionLength;
                    return Ok(Some(CarEvent::Root(root)));
                }
                State::SectionLength => {
                    let Some(section) = self.number(input)? else { return Ok(None) };
                    self.state = State::Cid { section };
                }
                State::Cid { section } => {
                    if !self.cid(section, input)? {
                        return Ok(None);
                    }
                }
                State::Block { cid, bytes } => {
                    let Some(block) = self.exactly(bytes, input) else { return Ok(None) };
                    self.state = State::SectionLength;
                    return self.block(cid, block.into()).map(|block| Some(CarEvent::Block(block)));
                }
            }
        }
    }

    /// Ends the CAR: says what it was, or why it is none.
    ///
    /// # Errors
    /// [`CarError::CutOff`], [`CarError::Empty`], [`CarError::MissingRootBlock`] and [`CarError::RootAlone`].
    pub fn end(self) -> Result<CarSummary, CarError> {
        let (State::SectionLength, true, Some(root)) = (self.state, self.held.is_empty(), self.root) else {
            return Err(CarError::CutOff { at: self.position });
        };
        if self.blocks == 0 {
            return Err(CarError::Empty);
        }
        let top = self.top.ok_or(CarError::MissingRootBlock)?;
        if top.has_links && self.blocks < 2 {
            return Err(CarError::RootAlone);
        }
        Ok(CarSummary { root, blocks: self.blocks, block_bytes: self.block_bytes, tsize: top.tsize })
    }

    /// Reads a number. None when the input ends within it.
    fn number(&mut self, input: &mut &[u8]) -> Result<Option<u64>, CarError> {
        let at = self.position - self.held.len() as u64;
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.position += 1;
            self.held.push(byte);
            match varint::decode(&self.held) {
                Ok((number, _)) => {
                    self.held.clear();
                    return Ok(Some(number));
                }
                Err(VarintError::CutOff) => {}
                Err(VarintError::Malformed) => return Err(CarError::Length { at }),
            }
        }
        Ok(None)
    }

    /// Takes input until so many bytes are held, and lets go of them. None when the input ends before.
    fn exactly(&mut self, bytes: usize, input: &mut &[u8]) -> Option<Vec<u8>> {
        self.hold(bytes, input);
        (self.held.len() == bytes).then(|| std::mem::take(&mut self.held))
    }

    fn hold(&mut self, bytes: usize, input: &mut &[u8]) {
        let (now, rest) = input.split_at((bytes - self.held.len()).min(input.len()));
        self.held.extend_from_slice(now);
        self.position += now.len() as u64;
        *input = rest;
    }

    /// Reads the CID of a section. Returns false when the input ends before it does. The bytes of the block that came
    /// with it stay held.
    fn cid(&mut self, section: u64, input: &mut &[u8]) -> Result<bool, CarError> {
        let most = usize::try_from(section).unwrap_or(usize::MAX).min(CID_BYTES_MAX);
        self.hold(most, input);
        let at = self.position - self.held.len() as u64;
        let (cid, behind) = match Cid::decode_front(&self.held) {
            Ok((cid, behind)) => (cid, behind.len()),
            Err(_) if self.held.len() < most => return Ok(false),
            Err(source) => return Err(CarError::Cid { at, source }),
        };
        let bytes = section - (self.held.len() - behind) as u64;
        let too_big = CarError::BlockTooBig { bytes };
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= BLOCK_BYTES_MAX).ok_or(too_big)?;
        self.held.drain(..self.held.len() - behind);
        self.state = State::Block { cid, bytes };
        Ok(true)
    }

    /// Checks a block, and of the root's what it leads to.
    fn block(&mut self, cid: Cid, block: Bytes) -> Result<CarBlock, CarError> {
        cid.verify(&block).map_err(|source| CarError::Verify { cid, source })?;
        self.blocks += 1;
        self.block_bytes += block.len() as u64;
        if self.top.is_none() && self.root == Some(cid) {
            self.top = Some(Top::of(cid, &block).map_err(CarError::RootBlock)?);
        }
        Ok(CarBlock { cid, offset: self.position - block.len() as u64, block })
    }
}

impl Top {
    fn of(cid: Cid, block: &[u8]) -> Result<Self, LinksError> {
        let has_links = matches!(Links::of(cid.codec(), block)?, Links::Known(links) if !links.is_empty());
        let tsize = match cid.codec() {
            Codec::Raw => Some(block.len() as u64),
            Codec::DagPb => Some(Node::decode(block)?.tsize(block.len())),
            Codec::DagCbor | Codec::Other(_) => None,
        };
        Ok(Self { has_links, tsize })
    }
}

/// Reads a header.
fn root(header: &[u8]) -> Result<Cid, CarError> {
    let mut cbor = Decoder::new(header);
    let malformed = |_: minicbor::decode::Error| CarError::Header;
    let (mut version, mut roots) = (None, None);
    let keys = cbor.map().map_err(malformed)?.ok_or(CarError::Header)?;
    for _ in 0..keys {
        match cbor.str().map_err(malformed)? {
            "version" if version.is_none() => version = Some(cbor.u64().map_err(malformed)?),
            "roots" if roots.is_none() => roots = Some(first_root(&mut cbor)?),
            _ => return Err(CarError::Header),
        }
    }
    let version = version.ok_or(CarError::Header)?;
    if version != 1 {
        return Err(CarError::Version { version });
    }
    if cbor.position() != header.len() {
        return Err(CarError::Header);
    }
    match roots.ok_or(CarError::Header)? {
        (0, _) => Err(CarError::MissingRoots),
        (1, Some(root)) => Cid::decode(root).map_err(CarError::Root),
        _ => Err(CarError::TooManyRoots),
    }
}

/// Reads a list of roots: how many there are, and the bytes of the first.
fn first_root<'a>(cbor: &mut Decoder<'a>) -> Result<(u64, Option<&'a [u8]>), CarError> {
    let malformed = |_: minicbor::decode::Error| CarError::Header;
    let roots = cbor.array().map_err(malformed)?.ok_or(CarError::Header)?;
    let mut first = None;
    for _ in 0..roots {
        let is_link = cbor.datatype().map_err(malformed)? == Type::Tag && cbor.tag().map_err(malformed)?.as_u64() == 42;
        let (&0, cid) = cbor.bytes().map_err(malformed)?.split_first().ok_or(CarError::Header)? else {
            return Err(CarError::Header);
        };
        if !is_link {
            return Err(CarError::Header);
        }
        first = first.or(Some(cid));
    }
    Ok((roots, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CidError, Directory, Profile, Root, car, sink::Block};

    fn leaf(content: &[u8]) -> (Cid, Vec<u8>) {
        (Cid::of(Codec::Raw, content), content.to_vec())
    }

    /// A directory of two files, its root first.
    fn blocks() -> Vec<(Cid, Vec<u8>)> {
        let leaves = [leaf(b"one"), leaf(&[7; 500])];
        let mut directory = Directory::new(Profile::UNIXFS_V1_2025);
        for (name, (cid, content)) in ["a", "b"].into_iter().zip(&leaves) {
            directory.insert(name, Root { cid: *cid, tsize: content.len() as u64 }).unwrap();
        }
        let mut blocks = Vec::new();
        let take = &mut |block: Block<'_>| {
            if let Block::Node { cid, block } = block {
                blocks.push((cid, block.to_vec()));
            }
        };
        directory.finish(take).unwrap();
        blocks.extend(leaves);
        blocks
    }

    fn written(root: &Cid, blocks: &[(Cid, Vec<u8>)]) -> Vec<u8> {
        let sections = blocks.iter().flat_map(|(cid, block)| [car::section_head(cid, block.len()), block.clone()]);
        [car::header(root)].into_iter().chain(sections).collect::<Vec<_>>().concat()
    }

    fn read(input: &[u8], slice: usize) -> Result<(Vec<CarEvent>, CarSummary), CarError> {
        let (mut reader, mut events) = (CarReader::new(), Vec::new());
        for mut part in input.chunks(slice) {
            while let Some(event) = reader.read(&mut part)? {
                events.push(event);
            }
            assert_eq!(part, b"");
        }
        reader.end().map(|summary| (events, summary))
    }

    #[test]
    fn what_is_written_is_read_however_it_is_sliced() {
        let blocks = blocks();
        let input = written(&blocks[0].0, &blocks);
        let (events, summary) = read(&input, input.len()).unwrap();
        assert_eq!(events[0], CarEvent::Root(blocks[0].0));
        for (event, (cid, block)) in events[1..].iter().zip(&blocks) {
            let CarEvent::Block(told) = event else { panic!("{event:?}") };
            assert_eq!((told.cid, &told.block[..]), (*cid, &block[..]));
            let offset = usize::try_from(told.offset).unwrap();
            assert_eq!(&input[offset..offset + block.len()], block);
        }
        let bytes = blocks.iter().map(|(_, block)| block.len() as u64).sum();
        assert_eq!(summary, CarSummary { root: blocks[0].0, blocks: 3, block_bytes: bytes, tsize: Some(bytes) });
        for slice in 1..100 {
            assert_eq!(read(&input, slice).unwrap(), (events.clone(), summary), "{slice}");
        }
    }

    #[test]
    fn a_cut_anywhere_is_told() {
        let blocks = blocks();
        let input = written(&blocks[0].0, &blocks);
        let mut whole_sections = 0;
        for cut in 0..input.len() {
            match read(&input[..cut], 64) {
                Err(CarError::CutOff { at }) => assert_eq!(at, cut as u64),
                Err(CarError::Empty | CarError::RootAlone) | Ok(_) => whole_sections += 1,
                Err(other) => panic!("{cut}: {other}"),
            }
        }
        assert_eq!(whole_sections, 3, "the header, the root, the first leaf");
    }

    #[test]
    fn what_nft_storage_refused_is_refused_in_its_words() {
        let blocks = blocks();
        let root = blocks[0].0;
        let header = |roots: usize| {
            let mut cbor = minicbor::Encoder::new(Vec::new());
            cbor.map(2).unwrap().str("roots").unwrap().array(roots as u64).unwrap();
            (0..roots).for_each(|_| crate::links::put_link(&mut cbor, &root).unwrap());
            let cbor = cbor.str("version").unwrap().u8(1).unwrap().writer().clone();
            let mut out = Vec::new();
            varint::put(&mut out, cbor.len() as u64);
            [out, cbor].concat()
        };
        assert_eq!(header(1), car::header(&root));
        let words = |input: &[u8]| read(input, 1000).unwrap_err().to_string();
        assert_eq!(words(&header(0)), "missing roots");
        assert_eq!(words(&header(2)), "too many roots");
        assert_eq!(words(&header(1000)), "too many roots");
        assert_eq!(words(&header(1)), "empty CAR");
        assert_eq!(words(&written(&root, &blocks[1..])), "missing root block");
        assert_eq!(words(&written(&root, &blocks[..1])), "CAR must contain at least one non-root block");
        let big = leaf(&vec![0; BLOCK_BYTES_MAX + 1]);
        assert_eq!(words(&written(&root, &[big])), "block too big: 2097153 > 2097152");
        let most = leaf(&vec![0; BLOCK_BYTES_MAX]);
        assert!(read(&written(&most.0, std::slice::from_ref(&most)), 1 << 16).is_ok());
        let other = (blocks[1].0, b"two".to_vec());
        let failed = format!("failed hash verification: {}: CID hash does not match bytes", other.0);
        assert_eq!(words(&written(&root, &[other])), failed);
        let sha1 = Cid::decode(&[&[1, 0x55, 0x11, 20][..], &[7; 20]].concat()).unwrap();
        let failed = format!("failed hash verification: {sha1}: multihash code 17 is not supported");
        assert_eq!(words(&written(&root, &[(sha1, b"x".to_vec())])), failed);
    }

    #[test]
    fn announced_lengths_allocate_nothing() {
        let root = blocks()[0].0;
        let announced = [&[0xff; 9][..], &[0x01]].concat();
        let too_big = CarError::HeaderTooBig { bytes: u64::MAX };
        assert_eq!(read(&announced, 1), Err(too_big));
        let block = [&car::header(&root)[..], &announced, &root.to_bytes()].concat();
        assert_eq!(read(&block, 1), Err(CarError::BlockTooBig { bytes: u64::MAX - 36 }));
        let mut reader = CarReader::new();
        let head = [car::header(&root), car::section_head(&root, BLOCK_BYTES_MAX)].concat();
        let mut input = &head[..];
        while reader.read(&mut input).unwrap().is_some() {}
        assert!(reader.held.capacity() < 4096);
    }

    #[test]
    fn lengths_headers_and_cids_have_one_spelling() {
        let root = blocks()[0].0;
        let header = car::header(&root);
        assert_eq!(read(b"\xba\x00", 1), Err(CarError::Length { at: 0 }));
        assert_eq!(read(&[0x80; 11], 1), Err(CarError::Length { at: 0 }));
        let behind = [&header[..], &[0x80, 0x00]].concat();
        assert_eq!(read(&behind, 1), Err(CarError::Length { at: header.len() as u64 }));
        let no_cid = |section: &[u8]| read(&[&header[..], section].concat(), 1);
        let at = header.len() as u64 + 1;
        assert_eq!(no_cid(&[0]), Err(CarError::Cid { at, source: CidError::Bytes }));
        assert_eq!(no_cid(&[3, 1, 0x55, 0x12]), Err(CarError::Cid { at, source: CidError::Bytes }));
        assert_eq!(no_cid(&[200, 1]), Err(CarError::CutOff { at: at + 1 }));
        // The first bytes of any CARv2.
        let v2 = b"\x0a\xa1gversion\x02";
        assert_eq!(read(v2, 1), Err(CarError::Version { version: 2 }));
        assert_eq!(read(b"\x0a\xa1gversion\x01", 1), Err(CarError::Header));
        let cut = [&[header[0] - 1], &header[1..header.len() - 1]].concat();
        assert_eq!(read(&cut, 1), Err(CarError::Header));
        let longer = [&[header[0] + 1], &header[1..], &[0]].concat();
        assert_eq!(read(&longer, 1), Err(CarError::Header));
    }

    #[test]
    fn the_size_of_a_partial_dag_is_what_its_root_says() {
        let blocks = blocks();
        let bytes = blocks.iter().map(|(_, block)| block.len() as u64).sum();
        let (_, summary) = read(&written(&blocks[0].0, &blocks[..2]), 1000).unwrap();
        assert_eq!((summary.blocks, summary.tsize), (2, Some(bytes)));
        let (_, summary) = read(&written(&blocks[1].0, &blocks[1..2]), 1000).unwrap();
        assert_eq!((summary.blocks, summary.tsize), (1, Some(3)));
    }
}
