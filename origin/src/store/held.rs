//! A shard that is here, opened to be read: a file of its own, an entry of a pack or an object of an object store,
//! readers see no difference.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use format::{
    ObjectId, PublicManifest, Row, RowHash,
    limits::{PUBLIC_MANIFEST_BYTES_MAX, STRIPES_MAX},
    row_bytes,
};

use super::{
    Bucket, ShardId, Store, StoreError,
    bucket::Front,
    cells::{CellList, ENTRY_BYTES},
    entry::Span,
    failed,
    head::{HEAD_BYTES, Head},
    index::Place,
    is_of_the_sector, open,
    pack::{self, PackName},
    read,
};

/// Largest list: one entry for each cell a shard can have.
#[expect(clippy::cast_possible_truncation, reason = "40 MiB")]
const LIST_BYTES_MAX: usize = STRIPES_MAX as usize * ENTRY_BYTES;

/// Most that one read takes with it over a network.
const WINDOW_BYTES: u64 = 4 << 20;

/// A shard, opened.
#[derive(Debug)]
pub(super) struct Held {
    /// The file, or the key of the object, that its cells lie in.
    pub(super) path: PathBuf,
    /// Bytes of its cells.
    pub(super) cells_bytes: u64,
    cells_at: u64,
    bytes: Source,
    beside: Beside,
}

/// What its bytes are read from.
#[derive(Debug)]
enum Source {
    File(File),
    Object(Object),
}

/// An object that is read a window at a time: each read is a call over a network.
#[derive(Debug)]
struct Object {
    bucket: Arc<Bucket>,
    shard: ShardId,
    size: u64,
    window: Bytes,
    window_at: u64,
}

/// Where P and the list are.
#[derive(Debug)]
pub(super) enum Beside {
    Files {
        public: PathBuf,
        list: PathBuf,
    },
    Pack(PackName, Place),
    /// None when its head is damaged, and with it all that was there.
    Object(Option<Head>),
}

impl Store {
    /// Opens a shard; none when it is not here.
    pub(super) fn held(&self, object: &ObjectId, column: usize) -> Result<Option<Held>, StoreError> {
        let shard = ShardId { object: *object, column };
        if let Some((file, name, place)) = self.open_packed(&shard)? {
            return Ok(Some(Held {
                path: self.packs_folder().join(name.log()),
                cells_bytes: place.span.cells_bytes.into(),
                cells_at: place.span.cells_at(),
                bytes: Source::File(file),
                beside: Beside::Pack(name, place),
            }));
        }
        let path = self.shard_path(object, column);
        if let Some(file) = open(&path)? {
            let cells_bytes = file.metadata().map_err(failed("measure", &path))?.len();
            let beside = Beside::Files { public: self.public_path(object), list: self.list_path(object, column) };
            return Ok(Some(Held { path, cells_bytes, cells_at: 0, bytes: Source::File(file), beside }));
        }
        let Some(bucket) = &self.bucket else { return Ok(None) };
        let Some(Front { head, bytes, object }) = bucket.front(&shard)? else { return Ok(None) };
        Ok(Some(Held {
            path: bucket.name(&object.location).into(),
            cells_bytes: head.map_or(0, |head| head.cells_bytes),
            cells_at: head.map_or(0, |head| head.cells_at()),
            bytes: Source::Object(Object {
                bucket: bucket.clone(),
                shard,
                size: object.size,
                window: bytes,
                window_at: 0,
            }),
            beside: Beside::Object(head),
        }))
    }
}

impl Held {
    pub(super) fn beside(&self) -> &Beside {
        &self.beside
    }

    /// Returns the object's P; none when there is none beside the shard.
    pub(super) fn public(&mut self, object: &ObjectId) -> Result<Option<PublicManifest>, StoreError> {
        let (bytes, path) = match &self.beside {
            Beside::Files { public, .. } => (read(public, PUBLIC_MANIFEST_BYTES_MAX)?, public.clone()),
            Beside::Pack(_, Place { span, .. }) => {
                (Some(self.part(span.public_at(), span.public_bytes)?), self.path.clone())
            }
            Beside::Object(Some(head)) => (Some(self.part(HEAD_BYTES as u64, head.public_bytes)?), self.path.clone()),
            Beside::Object(None) => return Err(self.damaged()),
        };
        bytes.map(|bytes| decode(bytes, object, path)).transpose()
    }

    /// Returns the list, which has an entry for each cell and says that they take as many bytes as there are; none when
    /// there is none beside the shard. Its hashes are not checked.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not such a list.
    pub(super) fn list(&mut self, public: &PublicManifest) -> Result<Option<CellList>, StoreError> {
        let bytes = match &self.beside {
            Beside::Files { list, .. } => read(list, LIST_BYTES_MAX)?,
            Beside::Pack(_, Place { span, .. }) => Some(self.part(span.list_at(), span.list_bytes)?),
            Beside::Object(Some(head)) => Some(self.part(head.list_at(), head.list_bytes)?),
            Beside::Object(None) => return Err(self.damaged()),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let fits = |list: &CellList| list.len() == public.stripes() && list.cells_bytes() == self.cells_bytes;
        CellList::decode(bytes).filter(fits).map(Some).ok_or_else(|| self.damaged())
    }

    /// Reads `count` bytes of the list, `at` so many from its start; none when there is none beside the shard.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they are not there.
    pub(super) fn list_part(&mut self, at: u64, count: usize) -> Result<Option<Bytes>, StoreError> {
        let start = match &self.beside {
            Beside::Files { list: path, .. } => {
                let Some(file) = open(path)? else { return Ok(None) };
                let mut bytes = vec![0; count];
                return match file.read_exact_at(&mut bytes, at) {
                    Ok(()) => Ok(Some(bytes.into())),
                    Err(source) if is_of_the_sector(&source) => Err(StoreError::Damaged { path: path.clone() }),
                    Err(source) => Err(failed("read", path)(source)),
                };
            }
            Beside::Pack(_, Place { span, .. }) => span.list_at(),
            Beside::Object(Some(head)) => head.list_at(),
            Beside::Object(None) => return Err(self.damaged()),
        };
        self.read(start + at, count, 0).map(Some)
    }

    /// Reads `count` bytes of the cells, `at` so many from their start. Where a read is a call over a network it takes
    /// more with it, up to `until`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they are not there or the disk cannot read them at their place.
    pub(super) fn cells(&mut self, at: u64, count: usize, until: u64) -> Result<Bytes, StoreError> {
        let from = self.cells_at;
        self.read(from + at, count, from.saturating_add(until.min(self.cells_bytes)))
    }

    /// Returns whether each read is a call over a network.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.bytes, Source::Object(_))
    }

    /// Checks that the cell of a row lies where the list says.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when another row is there, or the cell ends elsewhere.
    pub(super) fn check_place(
        &mut self,
        hash: RowHash,
        range: &Range<u64>,
        column: usize,
        columns: usize,
    ) -> Result<(), StoreError> {
        let mut row = self.cells(range.start, row_bytes(columns), 0)?;
        let row = Row::take(&mut row, columns).map_err(|_| self.damaged())?;
        let strip = row.strip(column).map_or(0, |_| row.strip_bytes());
        let ends = range.start + (row_bytes(columns) + strip) as u64;
        if hash == row.hash() && ends == range.end { Ok(()) } else { Err(self.damaged()) }
    }

    /// Returns whether what surrounds the shard in its pack is intact; of every other always.
    pub(super) fn has_marks(&self) -> Result<bool, StoreError> {
        match (&self.beside, &self.bytes) {
            (Beside::Pack(name, place), Source::File(file)) => {
                pack::has_marks(file, &name.key(), &place.span).map_err(failed("read", &self.path))
            }
            _ => Ok(true),
        }
    }

    /// Reads the entry around a shard in a pack.
    pub(super) fn entry(&mut self, span: &Span) -> Result<Bytes, StoreError> {
        let bytes = usize::try_from(span.entry_bytes()).expect("an entry is small");
        self.read(span.start.into(), bytes, 0)
    }

    fn part(&mut self, at: u64, count: u32) -> Result<Vec<u8>, StoreError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.read(at, count, 0).map(Into::into)
    }

    fn read(&mut self, at: u64, count: usize, until: u64) -> Result<Bytes, StoreError> {
        let read = match &mut self.bytes {
            Source::File(file) => {
                let mut bytes = vec![0; count];
                match file.read_exact_at(&mut bytes, at) {
                    Ok(()) => Some(bytes.into()),
                    Err(source) if is_of_the_sector(&source) => None,
                    Err(source) => return Err(failed("read", &self.path)(source)),
                }
            }
            Source::Object(object) => object.read(at, count, until)?,
        };
        read.ok_or_else(|| self.damaged())
    }

    pub(super) fn damaged(&self) -> StoreError {
        StoreError::Damaged { path: self.path.clone() }
    }
}

impl Object {
    /// None when it ends before.
    fn read(&mut self, at: u64, count: usize, until: u64) -> Result<Option<Bytes>, StoreError> {
        if let Some(found) = self.in_window(at, count) {
            return Ok(Some(found));
        }
        let wanted = until.saturating_sub(at).min(WINDOW_BYTES).max(count as u64);
        let wanted = wanted.min(self.size.saturating_sub(at));
        if wanted < count as u64 {
            return Ok(None);
        }
        let ShardId { object, column } = self.shard;
        let gone = || StoreError::NoShard { object, column };
        self.window = self.bucket.read(&self.shard, at, wanted)?.ok_or_else(gone)?;
        self.window_at = at;
        Ok(self.in_window(at, count))
    }

    fn in_window(&self, at: u64, count: usize) -> Option<Bytes> {
        let from = usize::try_from(at.checked_sub(self.window_at)?).ok()?;
        let to = from.checked_add(count).filter(|to| *to <= self.window.len())?;
        Some(self.window.slice(from..to))
    }
}

fn decode(bytes: Vec<u8>, object: &ObjectId, path: PathBuf) -> Result<PublicManifest, StoreError> {
    match PublicManifest::decode(bytes.into()) {
        Ok(public) if public.id() == *object => Ok(public),
        _ => Err(StoreError::Damaged { path }),
    }
}
