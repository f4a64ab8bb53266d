//! The blocks of a DAG where they lie: in the files of one or several CARs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use unixfs::{
    CarError, CarEvent, CarReader, Cid, Codec, Completeness, CompletenessError, Links, LinksError, Structure,
    VerifyError, WalkError,
};

/// Bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;
/// Blocks of one CAR: with 256 KiB each, a TiB.
const BLOCKS_MAX: usize = 4 << 20;
/// Bytes of an entry of a list of blocks: a CID of today, and two numbers.
const ENTRY_BYTES: u64 = 1 + 36 + 16;
/// Names and links of a DAG that are held while it is looked whether it is complete.
const LINKS_MAX: usize = 16 << 20;

/// Why a CAR is not taken. All but the spool's are its sender's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarFault {
    /// The disk under the spool.
    #[error("the spool cannot be read or written")]
    Spool(#[from] io::Error),
    /// The spool's disk gives back something else than was written.
    #[error("a block in the spool is not what came; delete this CID and send its CARs again")]
    Changed(#[from] VerifyError),
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
    #[error(
        "the files of the DAG have over {max} bytes together, or very many pieces; a DAG may repeat its blocks, but not to \
         over 1 GiB and 16 times their bytes"
    )]
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
    /// Where it lies. A DAG may have many parts, so none is kept open.
    path: PathBuf,
    blocks: Vec<Held>,
}

/// Where a block lies in its file.
struct Held {
    cid: Cid,
    at: u64,
    bytes: u32,
}

/// A block of one of several CARs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    part: u32,
    block: u32,
}

/// All blocks that there are of a DAG.
pub(super) struct Blocks {
    parts: Vec<(PathBuf, Vec<Held>)>,
    places: BTreeMap<Vec<u8>, Place>,
    /// Of each block once.
    bytes: u64,
    structure: Structure,
}

impl Part {
    /// Takes a CAR as it comes, and writes it down durably in the file that lies there, with a list of its blocks, as
    /// long as `room` says that so many bytes more may be written. Blocks.
    pub(super) fn receive(
        from: impl Read,
        (into, path): (&File, PathBuf),
        list: &File,
        room: impl Fn(u64) -> io::Result<()>,
    ) -> Result<Self, CarFault> {
        let mut written = into;
        let (root, dag_bytes, blocks) = read(from, |bytes| {
            room(bytes.len() as u64)?;
            written.write_all(bytes)
        })?;
        into.sync_all()?;
        let it = Self { root, dag_bytes, path, blocks };
        room(it.blocks.len() as u64 * ENTRY_BYTES)?;
        it.write_list(list)?;
        list.sync_all()?;
        Ok(it)
    }

    /// Reads the list of the blocks of one that was taken and lies there. Blocks.
    pub(super) fn read(path: PathBuf, list: File) -> Result<Self, CarFault> {
        let mut list = BufReader::new(list);
        let (root, dag_bytes, count) = (read_cid(&mut list)?, read_number(&mut list)?, read_number(&mut list)?);
        let mut blocks = Vec::new();
        for _ in 0..count {
            let (cid, at) = (read_cid(&mut list)?, read_number(&mut list)?);
            let bytes = u32::try_from(read_number(&mut list)?).map_err(|_| CarFault::TooMany)?;
            blocks.push(Held { cid, at, bytes });
        }
        Ok(Self { root, dag_bytes, path, blocks })
    }

    /// Root, bytes of the DAG, number of blocks; of each block its CID, place and length. CIDs are their length in a
    /// byte and their bytes, numbers eight bytes of big endian.
    fn write_list(&self, list: &File) -> io::Result<()> {
        let mut list = BufWriter::new(list);
        let head = [self.dag_bytes, self.blocks.len() as u64];
        write_entry(&mut list, &self.root, head)?;
        for Held { cid, at, bytes } in &self.blocks {
            write_entry(&mut list, cid, [*at, u64::from(*bytes)])?;
        }
        list.flush()
    }
}

fn write_entry(list: &mut impl Write, cid: &Cid, numbers: [u64; 2]) -> io::Result<()> {
    let cid = cid.to_bytes();
    list.write_all(&[u8::try_from(cid.len()).map_err(io::Error::other)?])?;
    list.write_all(&cid)?;
    numbers.into_iter().try_for_each(|number| list.write_all(&number.to_be_bytes()))
}

fn read_cid(list: &mut impl Read) -> io::Result<Cid> {
    let mut length = [0; 1];
    list.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(length[0])];
    list.read_exact(&mut bytes)?;
    Cid::decode(&bytes).map_err(io::Error::other)
}

fn read_number(list: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    list.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
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
        let (mut kept, mut places, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        for Part { path, blocks, .. } in parts {
            let file = File::open(&path)?;
            let part = u32::try_from(kept.len()).map_err(|_| CarFault::TooMany)?;
            for (block, held) in (0..).zip(&blocks) {
                let links = match held.cid.codec() {
                    Codec::Raw => Links::Known(Vec::new()),
                    codec => Links::of(codec, &held.read(&file)?)?,
                };
                completeness.insert(&held.cid, &links)?;
                // The newest part is the first: what came again takes the place of what was damaged.
                places.entry(key(&held.cid)).or_insert_with(|| {
                    bytes += u64::from(held.bytes);
                    Place { part, block }
                });
            }
            kept.push((path, blocks));
        }
        Ok(Self { parts: kept, places, bytes, structure: completeness.structure() })
    }

    /// Returns the bytes of all blocks, each once.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether no block is missing. Of a codec that nobody reads here, nothing is known to be missing.
    pub(super) fn is_complete(&self) -> bool {
        self.structure != Structure::Partial
    }

    /// Returns where a block lies, and its length.
    pub(super) fn place(&self, cid: &Cid) -> Option<(Place, u64)> {
        let place = *self.places.get(&key(cid))?;
        let (_, held) = self.held(place)?;
        Some((place, held.bytes.into()))
    }

    /// Reads a block. Blocks.
    pub(super) fn block(&self, place: Place) -> io::Result<Bytes> {
        let (path, held) = self.held(place).ok_or(io::ErrorKind::NotFound)?;
        held.read(&File::open(path)?).map_err(|fault| match fault {
            CarFault::Spool(error) => error,
            fault => io::Error::other(fault),
        })
    }

    fn held(&self, place: Place) -> Option<(&Path, &Held)> {
        let (path, blocks) = self.parts.get(usize::try_from(place.part).ok()?)?;
        Some((path, blocks.get(usize::try_from(place.block).ok()?)?))
    }
}

impl Held {
    /// Reads the block, and checks that it still is what came.
    fn read(&self, file: &File) -> Result<Bytes, CarFault> {
        let mut block = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        file.read_exact_at(&mut block, self.at)?;
        self.cid.verify(&block)?;
        Ok(block.into())
    }
}

/// One block has one key, in whichever version its name is written.
fn key(cid: &Cid) -> Vec<u8> {
    cid.to_v1().to_bytes()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use unixfs::car;

    use super::*;

    /// Returns how many files below a folder this process has open.
    fn open_below(folder: &Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        open.filter(|path| path.starts_with(folder)).count()
    }

    /// A CAR of one block.
    fn one_block() -> (Cid, Vec<u8>) {
        let cid = Cid::of(Codec::Raw, b"abc");
        (cid, [car::header(&cid), car::section_head(&cid, 3), b"abc".to_vec()].concat())
    }

    #[test]
    fn parts_are_put_together_without_keeping_any_of_them_open() {
        let folder = tempfile::tempdir().unwrap();
        let (cid, car) = one_block();
        let file = |name: String| {
            let path = folder.path().join(name);
            (File::options().create_new(true).write(true).open(&path).unwrap(), path)
        };
        let receive = |at: u8| {
            let ((part, path), (list, _)) = (file(at.to_string()), file(format!("{at}.list")));
            Part::receive(&car[..], (&part, path), &list, |_| Ok(())).unwrap()
        };
        let blocks = Blocks::of(vec![receive(0), receive(1), receive(2)], &cid).unwrap();
        assert_eq!((blocks.is_complete(), open_below(folder.path())), (true, 0));
        let (place, bytes) = blocks.place(&cid).unwrap();
        assert_eq!((&blocks.block(place).unwrap()[..], bytes, blocks.bytes()), (&b"abc"[..], 3, 3));
        let list = File::open(folder.path().join("1.list")).unwrap();
        let again = Part::read(folder.path().join("1"), list).unwrap();
        assert_eq!((again.root, again.dag_bytes, again.blocks.len()), (cid, 3, 1));
    }

    #[test]
    fn a_car_and_the_list_of_its_blocks_are_written_as_long_as_there_is_room() {
        let ((_, car), full) = (one_block(), io::ErrorKind::StorageFull);
        let receive = |room: u64| {
            let [file, list] = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
            let left = Cell::new(room);
            let take = |bytes: u64| -> io::Result<()> {
                left.set(left.get().checked_sub(bytes).ok_or(full)?);
                Ok(())
            };
            let received = Part::receive(&car[..], (&file, PathBuf::new()), &list, take);
            (received.err(), file.metadata().unwrap().len(), list.metadata().unwrap().len())
        };
        let length = car.len() as u64;
        let is_full = |fault: Option<CarFault>| matches!(fault, Some(CarFault::Spool(error)) if error.kind() == full);
        for (room, expected) in [(length - 1, (true, 0, false)), (length + ENTRY_BYTES - 1, (true, length, false))] {
            let (fault, written, listed) = receive(room);
            assert_eq!((is_full(fault), written, listed > 0), expected, "{room}");
        }
        let (fault, written, listed) = receive(length + ENTRY_BYTES);
        assert!(fault.is_none() && written == length && listed > ENTRY_BYTES, "{fault:?}");
    }
}
