//! The blocks of a DAG where they lie: in the files of one or several CARs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
};

use bytes::Bytes;
use unixfs::{
    CarError, CarEvent, CarReader, Cid, Codec, Completeness, CompletenessError, Links, LinksError, Structure, WalkError,
};

/// Bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;
/// Blocks of one CAR: with 256 KiB each, a TiB.
const BLOCKS_MAX: usize = 4 << 20;
/// Names and links of a DAG that are held while it is looked whether it is complete.
const LINKS_MAX: usize = 16 << 20;

/// Why a CAR is not taken. All but the spool's are its sender's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarFault {
    /// The disk under the spool.
    #[error("the spool cannot be read or written")]
    Spool(#[from] io::Error),
    /// The body broke off.
    #[error("the body broke off")]
    Broken,
    /// It is no CAR that is taken.
    #[error(transparent)]
    Car(#[from] CarError),
    /// A block is not what its codec says.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The DAG has too many blocks.
    #[error(transparent)]
    Completeness(#[from] CompletenessError),
    /// The CAR has too many blocks.
    #[error("a CAR has at most {BLOCKS_MAX} blocks here; send it in parts")]
    TooMany,
    /// Its files are too long.
    #[error("the files of the DAG have over {max} bytes together, or very many pieces; nothing of it was stored")]
    Large {
        /// Bytes allowed.
        max: u64,
    },
    /// Its files are none.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It has something that is neither file nor folder.
    #[error("{path:?} is neither file nor folder of UnixFS, and cannot be served")]
    NoFile {
        /// Where.
        path: String,
    },
    /// The root is of a codec that has no files.
    #[error("the root {root} leads to no file: send UnixFS, or dag-cbor with links to it")]
    NoRoot {
        /// Which.
        root: Cid,
    },
}

/// One CAR in the spool.
pub(super) struct Part {
    pub(super) root: Cid,
    /// Bytes of all blocks of the DAG, as the root says, or of those that came.
    pub(super) dag_bytes: u64,
    file: File,
    blocks: Vec<Held>,
}

/// Where a block lies in its file.
struct Held {
    cid: Cid,
    at: u64,
    bytes: u32,
}

/// A block in one of several files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    part: u32,
    at: u64,
    bytes: u32,
}

/// All blocks that there are of a DAG.
pub(super) struct Blocks {
    files: Vec<File>,
    places: BTreeMap<Vec<u8>, Place>,
    structure: Structure,
}

impl Part {
    /// Takes a CAR as it comes, and writes it down durably. Blocks.
    pub(super) fn receive(from: impl Read, into: File) -> Result<Self, CarFault> {
        let mut written = &into;
        let (root, dag_bytes, blocks) = read(from, |bytes| written.write_all(bytes))?;
        into.sync_all()?;
        Ok(Self { root, dag_bytes, file: into, blocks })
    }

    /// Reads one that was taken. Blocks.
    pub(super) fn read(file: File) -> Result<Self, CarFault> {
        let (root, dag_bytes, blocks) = read(&file, |_| Ok(()))?;
        Ok(Self { root, dag_bytes, file, blocks })
    }
}

fn read(mut from: impl Read, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(Cid, u64, Vec<Held>), CarFault> {
    let (mut reader, mut blocks) = (CarReader::new(), Vec::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let bytes = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(CarFault::Broken),
            Err(error) => return Err(error.into()),
        };
        let mut input = &chunk[..bytes];
        while let Some(event) = reader.read(&mut input)? {
            if let CarEvent::Block(block) = event {
                if blocks.len() == BLOCKS_MAX {
                    return Err(CarFault::TooMany);
                }
                let bytes = u32::try_from(block.block.len()).map_err(|_| CarFault::TooMany)?;
                blocks.push(Held { cid: block.cid, at: block.offset, bytes });
            }
        }
        tell(&chunk[..bytes])?;
    }
    let summary = reader.end()?;
    Ok((summary.root, summary.tsize.unwrap_or(summary.block_bytes), blocks))
}

impl Blocks {
    /// Puts the blocks of several CARs of one root together. Blocks.
    pub(super) fn of(parts: Vec<Part>, root: &Cid) -> Result<Self, CarFault> {
        let mut completeness = Completeness::new(root, LINKS_MAX)?;
        let (mut files, mut places) = (Vec::new(), BTreeMap::new());
        for Part { file, blocks, .. } in parts {
            let part = u32::try_from(files.len()).map_err(|_| CarFault::TooMany)?;
            for Held { cid, at, bytes } in blocks {
                let place = Place { part, at, bytes };
                let links = match cid.codec() {
                    Codec::Raw => Links::Known(Vec::new()),
                    codec => Links::of(codec, &read_at(&file, place)?)?,
                };
                completeness.insert(&cid, &links)?;
                places.insert(key(&cid), place);
            }
            files.push(file);
        }
        Ok(Self { files, places, structure: completeness.structure() })
    }

    /// Whether no block is missing. Of a codec that nobody reads here, nothing is known to be missing.
    pub(super) fn is_complete(&self) -> bool {
        self.structure != Structure::Partial
    }

    /// Returns where a block lies, and its length.
    pub(super) fn place(&self, cid: &Cid) -> Option<(Place, u64)> {
        let place = *self.places.get(&key(cid))?;
        Some((place, place.bytes.into()))
    }

    /// Reads a block. Blocks.
    pub(super) fn block(&self, place: Place) -> io::Result<Bytes> {
        let part = usize::try_from(place.part).map_err(io::Error::other)?;
        read_at(self.files.get(part).ok_or(io::ErrorKind::NotFound)?, place)
    }
}

/// One block has one key, in whichever version its name is written.
fn key(cid: &Cid) -> Vec<u8> {
    cid.to_v1().to_bytes()
}

fn read_at(file: &File, Place { at, bytes, .. }: Place) -> io::Result<Bytes> {
    let mut block = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut block, at)?;
    Ok(block.into())
}
