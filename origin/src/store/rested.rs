//! Drafts that outlive the process: what of `tmp` is kept at boot, and how a draft is read back.
//!
//! Keeps true: a draft that was read back holds what verifies and nothing else, so what its file may have lost in a
//! power cut is told to the uploader by the number of cells, and never becomes part of a shard.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use format::{Cell, Row, row_bytes};

use super::{
    Store, StoreError,
    cells::CellList,
    draft::{DRAFT_SUFFIX, Draft},
    failed, is_of_the_sector, remove,
};

/// Bytes that are read of a draft at once.
const READ_BYTES: usize = 1 << 20;

/// A draft on the disk that nobody has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rested {
    /// The name that it was begun under.
    pub name: String,
    /// When cells were last appended.
    pub used: SystemTime,
    /// Bytes of its file.
    pub bytes: u64,
    column: usize,
    columns: usize,
    path: PathBuf,
}

impl Rested {
    /// Removes the draft.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(self) -> Result<(), StoreError> {
        remove(&self.path)
    }

    fn of(path: PathBuf) -> io::Result<Option<Self>> {
        let Some((name, column, columns)) = parse(&path) else { return Ok(None) };
        let about = path.metadata()?;
        Ok(Some(Self { name, used: about.modified()?, bytes: about.len(), column, columns, path }))
    }
}

impl Store {
    /// Lists the drafts in `tmp`. Whoever has one in hand finds it here too.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn rested(&self) -> Result<Vec<Rested>, StoreError> {
        let mut rested = Vec::new();
        for path in self.in_tmp()? {
            rested.extend(Rested::of(path.clone()).map_err(failed("measure", &path))?);
        }
        Ok(rested)
    }

    /// Reads a draft back, cuts it to the cells that verify, and goes on with it. Reads and hashes all its bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the file is as it was.
    pub fn resume(self: &Arc<Self>, rested: &Rested) -> Result<Draft, StoreError> {
        let Rested { name, column, columns, path, .. } = rested.clone();
        let file = File::options().read(true).append(true).open(&path).map_err(failed("open", &path))?;
        let (list, last) = verified(&file, columns, column).map_err(failed("read", &path))?;
        file.set_len(list.cells_bytes()).map_err(failed("cut", &path))?;
        let (store, unsynced_bytes) = (self.clone(), list.cells_bytes());
        Ok(Draft { store, name, path, file, column, columns, list, last, unsynced_bytes, keeps_file: false })
    }

    /// Removes all in `tmp` but drafts.
    pub(super) fn clear_scraps(&self) -> Result<(), StoreError> {
        self.in_tmp()?.into_iter().filter(|path| parse(path).is_none()).try_for_each(|path| remove(&path))
    }

    fn in_tmp(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.root.join("tmp");
        let paths = fs::read_dir(&folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        paths.map_err(failed("list", &folder))
    }
}

/// Reads the name of a draft's file: `<name>.<column>.<columns>.draft`.
fn parse(path: &Path) -> Option<(String, usize, usize)> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(DRAFT_SUFFIX)?.rsplitn(3, '.');
    let (columns, column) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (column < columns).then_some((parts.next()?.to_owned(), column, columns))
}

/// Returns the cells at the beginning of a file that are those of their rows, and the last row. A row with an empty
/// column is sent again: where a power cut left zeros, a row looks like one. What it may have changed of the hashes of
/// other columns, the root shows at the commit.
fn verified(file: &File, columns: usize, column: usize) -> io::Result<(CellList, Option<Row>)> {
    let mut from = BufReader::with_capacity(READ_BYTES, file);
    let (mut list, mut last) = (CellList::default(), None);
    while let Some(cell) = cell(&mut from, columns)?.filter(|it| it.row.is_full() && it.is_intact(column)) {
        list.push(&cell);
        last = Some(cell.row);
    }
    Ok((list, last))
}

/// Reads one cell; none where the file ends, has none, or cannot be read.
fn cell(from: &mut impl Read, columns: usize) -> io::Result<Option<Cell>> {
    let Some(head) = whole(from, row_bytes(columns))? else { return Ok(None) };
    let Ok(row) = Row::take(&mut head.clone(), columns) else { return Ok(None) };
    let strip = whole(from, row.strip_bytes())?;
    Ok(strip.map(|strip| Cell { row, strip: Some(strip) }))
}

fn whole(from: &mut impl Read, length: usize) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; length];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes.into())),
        Err(error) if is_of_the_sector(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
