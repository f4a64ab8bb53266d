//! A shard that is being uploaded: cells are appended and hashed, and at the end all of it becomes a shard or nothing.
//!
//! A small shard becomes an entry of a pack (`packs.rs`). A large one becomes files, in an order by which a crash
//! anywhere leaves a whole shard or none (`Step` names the points between): strips synced in `tmp`; list and public
//! manifest written and synced in `tmp`, renamed, folder synced; strips renamed, folder synced. The catalog row and the
//! acknowledgement come after. With an object store it becomes an object of that, at the end of all or not at all
//! (`send.rs`).
//!
//! A draft outlives the process (`rested.rs`): its file is read back and cut to what verifies. So an append need not
//! wait for the disk; what a power cut takes of it, the uploader is told and sends again.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use client::{Bug, planted};
use format::{Cell, PublicManifest, Root, Row, StripeIndex, limits::STRIPES_MAX};

use super::{
    Bucket, ShardId, Step, Store, StoreError,
    cells::{CellList, ENTRY_BYTES},
    entry::{Body, PACKED_BYTES_MAX},
    failed,
    packs::Killed,
};

/// Bytes of a draft that may wait in memory to reach the disk: what a power cut takes, and what the fsync of a commit
/// has left to do. A disk that writes 50 MB/s needs 1.3 s for them.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// The end of the name of a draft's file, which nothing else in `tmp` has.
pub(super) const DRAFT_SUFFIX: &str = ".draft";

/// Why cells cannot be appended. The draft is as it was before, except after [`Self::Store`].
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Cells come in order; the uploader's fault.
    #[error("cells from {found} on were sent where {expected} comes next")]
    Order {
        /// The next cell.
        expected: u64,
        /// The cell sent.
        found: u64,
    },
    /// The strip is not the one of its row; the fault of the uploader or of the way.
    #[error("strip {strip} does not hash to what its row says; send it again")]
    Strip {
        /// The strip.
        strip: u64,
    },
    /// Only the last row of an object may leave columns empty; the uploader's fault.
    #[error("cell {cell} follows a row with an empty column, which only the last row may have")]
    AfterEmpty {
        /// The cell.
        cell: u64,
    },
    /// No shard has so many cells; the uploader's fault.
    #[error("a shard has at most {STRIPES_MAX} cells")]
    TooMany,
    /// The disk failed; our fault. The draft is lost.
    #[error("the cells cannot be written")]
    Store(#[from] StoreError),
}

/// Why a draft is not the shard that its manifest names. After [`Self::Missing`] and [`Self::Store`] it can still
/// become that.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The upload was begun for another column or another number of columns; the uploader's fault.
    #[error("the upload is column {} of {}, not {column} of the object's {columns}", begun.0, begun.1)]
    Column {
        /// Column and columns that the upload was begun with.
        begun: (usize, usize),
        /// The column.
        column: usize,
        /// Columns of the object.
        columns: usize,
    },
    /// Cells are missing: the uploader did not send them, or a power cut took them.
    #[error("{found} cells are here where the manifest has {expected} stripes; send the others, and commit again")]
    Missing {
        /// Stripes of the object.
        expected: u64,
        /// Cells here.
        found: u64,
    },
    /// There are more cells than the object has; the uploader's fault.
    #[error("{found} cells were sent where the manifest has {expected} stripes")]
    TooMany {
        /// Stripes of the object.
        expected: u64,
        /// Cells sent.
        found: u64,
    },
    /// The last row has strips in other columns or of another length than the manifest says; the uploader's fault.
    #[error("the last row is not the tail that the manifest says")]
    Tail,
    /// The strips have another length together than in the manifest; the uploader's fault.
    #[error("the shard is {found} bytes long where the manifest says {expected}")]
    Length {
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes sent.
        found: u64,
    },
    /// The rows are not those of the manifest; the fault of the uploader or of the way.
    #[error("the rows have root {found} where the manifest says {expected}; send the shard again")]
    Root {
        /// The root in the manifest.
        expected: Root,
        /// The root of what was sent.
        found: Root,
    },
    /// The disk failed; our fault.
    #[error("the shard cannot be stored")]
    Store(#[from] StoreError),
}

impl CommitError {
    /// Returns whether the same draft may still become the shard.
    #[must_use]
    pub fn leaves_draft(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Store(_))
    }
}

/// A shard that is being uploaded. Dropped, it leaves nothing; [`Self::rest`] leaves it on the disk.
pub struct Draft {
    pub(super) store: Arc<Store>,
    pub(super) name: String,
    /// Its file, in `tmp`.
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) column: usize,
    pub(super) columns: usize,
    pub(super) list: CellList,
    /// The row of the last cell.
    pub(super) last: Option<Row>,
    pub(super) unsynced_bytes: u64,
    pub(super) keeps_file: bool,
}

impl Store {
    /// Starts a draft of a column of an object of so many columns, under a name that no other has.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn draft(self: &Arc<Self>, name: &str, column: usize, columns: usize) -> Result<Draft, StoreError> {
        let path = self.tmp_path(&format!("{name}.{column}.{columns}{DRAFT_SUFFIX}"));
        let file =
            File::options().create_new(true).read(true).append(true).open(&path).map_err(failed("create", &path))?;
        let (list, last) = (CellList::default(), None);
        let (store, name) = (self.clone(), name.to_owned());
        Ok(Draft { store, name, path, file, column, columns, list, last, unsynced_bytes: 0, keeps_file: false })
    }
}

impl Draft {
    /// Returns the column and the number of columns that the draft was begun with.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        (self.column, self.columns)
    }

    /// Returns the cells appended.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.list.len()
    }

    /// Returns the bytes appended.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.list.cells_bytes()
    }

    /// Appends cells and hashes them. CPU and disk work on all their bytes.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&mut self, first: u64, cells: &[Cell]) -> Result<(), AppendError> {
        // The acknowledgement of an earlier append may have been lost on its way.
        let is_held = |(cell, at): (&Cell, u64)| self.list.row(at) == Some(cell.row.hash());
        if first < self.cells() && cells.iter().zip(first..).all(is_held) {
            return Ok(());
        }
        if first != self.cells() {
            return Err(AppendError::Order { expected: self.cells(), found: first });
        }
        if self.cells() + cells.len() as u64 > STRIPES_MAX {
            return Err(AppendError::TooMany);
        }
        let mut before = self.last.as_ref();
        for (at, cell) in (first..).zip(cells) {
            if !before.is_none_or(Row::is_full) {
                return Err(AppendError::AfterEmpty { cell: at });
            }
            before = Some(&cell.row);
        }
        if let Some(at) = cells.iter().position(|cell| !cell.is_intact(self.column)) {
            return Err(AppendError::Strip { strip: first + at as u64 });
        }
        for cell in cells {
            for part in [Some(cell.row.as_bytes()), cell.strip.as_ref()].into_iter().flatten() {
                self.file.write_all(part).map_err(failed("write", &self.path))?;
            }
            self.list.push(cell);
            self.last = Some(cell.row.clone());
            self.unsynced_bytes += cell.size() as u64;
        }
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.store.sync_draft(&self.file, &self.path);
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Lets the file stay for the next process on this folder, which finds it by [`Store::rested`].
    pub fn rest(mut self) {
        self.keeps_file = true;
    }

    /// Returns whether the draft has not become a shard yet.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Does [`Self::make_shard`], and leaves nothing of the draft.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(self, column: usize, public: &PublicManifest) -> Result<u64, CommitError> {
        self.make_shard(column, public)
    }

    /// Checks the draft against its manifest and makes it a durable shard. Returns the shard's bytes, as
    /// [`HeldShard`](super::HeldShard) counts them.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn make_shard(&self, column: usize, public: &PublicManifest) -> Result<u64, CommitError> {
        self.check(column, public)?;
        let shard = ShardId { object: public.id(), column };
        if let Some(bucket) = &self.store.bucket {
            return Ok(self.keep_in_bucket(bucket, &shard, public)?);
        }
        let body = self.bytes() + self.cells() * ENTRY_BYTES as u64 + public.encoded().len() as u64;
        match usize::try_from(body) {
            Ok(small) if small <= PACKED_BYTES_MAX => self.keep_in_pack(&shard, public)?,
            _ => self.keep_as_files(&shard, public)?,
        }
        Ok(self.bytes())
    }

    /// What was here of the shard before there was an object store goes.
    fn keep_in_bucket(&self, bucket: &Bucket, shard: &ShardId, public: &PublicManifest) -> Result<u64, StoreError> {
        let _guard = self.store.guard(&shard.object.0);
        let bytes = self.send(bucket, shard, public)?;
        let _: Killed = self.store.kill_packed(shard, |_| true)?;
        self.store.remove_files(shard)?;
        Ok(bytes)
    }

    fn keep_in_pack(&self, shard: &ShardId, public: &PublicManifest) -> Result<(), StoreError> {
        let (store, path) = (&*self.store, &self.path);
        let mut cells = vec![0; usize::try_from(self.bytes()).expect("a packed shard is small")];
        self.file.read_exact_at(&mut cells, 0).map_err(failed("read", path))?;
        let list = self.list.encode();
        let body = Body { public: public.encoded(), list: &list, cells: &cells };
        // The cells came back from a file: what is in the pack must be what was hashed.
        if !body.is_whole(shard) {
            return Err(StoreError::Damaged { path: path.clone() });
        }
        let written = self.written()?;
        let _guard = store.guard(&shard.object.0);
        store.pack_shard(shard, written, &body)?;
        // Before there were packs, small shards were files too.
        if store.shard_path(&shard.object, shard.column).exists() {
            store.remove_files(shard)?;
        }
        Ok(())
    }

    /// Returns when the last cell was appended, in nanoseconds since 1970.
    pub(super) fn written(&self) -> Result<u64, StoreError> {
        let written = self.file.metadata().and_then(|about| about.modified());
        let written = written.map_err(failed("measure", &self.path))?;
        Ok(u64::try_from(written.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn keep_as_files(&self, shard: &ShardId, public: &PublicManifest) -> Result<(), StoreError> {
        let ShardId { object, column } = *shard;
        let store = &*self.store;
        let strips = &self.path;
        store.sync_draft(&self.file, strips);
        store.disk.reached(Step::StripsSynced);

        let list = Scrap::write(store, &format!("{}.list", self.name), &self.list.encode())?;
        let manifest = Scrap::write(store, &format!("{}.public", self.name), public.encoded())?;
        store.disk.reached(Step::SidecarsSynced);

        let folder = store.shard_folder(&object);
        store.make_folder(&folder)?;
        let _guard = store.guard(&object.0);
        list.rename(&store.list_path(&object, column))?;
        manifest.rename(&store.public_path(&object))?;
        store.disk.reached(Step::SidecarsRenamed);
        store.sync_folder(&folder);
        store.disk.reached(Step::SidecarsNamed);

        fs::rename(strips, store.shard_path(&object, column)).map_err(failed("rename", strips))?;
        store.disk.reached(Step::ShardRenamed);
        store.sync_folder(&folder);
        store.disk.reached(Step::ShardNamed);
        // What is smaller may once have been the bound of a pack.
        let _: Killed = store.kill_packed(shard, |_| true)?;
        Ok(())
    }

    fn check(&self, column: usize, public: &PublicManifest) -> Result<(), CommitError> {
        let (begun, columns) = (self.place(), public.row_columns());
        let Some(expected_root) = public.root().filter(|_| begun == (column, columns) && column < columns) else {
            return Err(CommitError::Column { begun, column, columns });
        };
        let expected = public.stripes();
        match self.cells() {
            found if found < expected => return Err(CommitError::Missing { expected, found }),
            found if found > expected => return Err(CommitError::TooMany { expected, found }),
            _ => {}
        }
        if !self.last.as_ref().is_some_and(|row| public.fits(StripeIndex(expected - 1), row)) {
            return Err(CommitError::Tail);
        }
        let expected = public.shard_bytes(column);
        if self.bytes() != expected {
            return Err(CommitError::Length { expected, found: self.bytes() });
        }
        let found = self.list.rows().root();
        if found == *expected_root || planted(Bug::RootCheck) {
            Ok(())
        } else {
            Err(CommitError::Root { expected: *expected_root, found })
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the name is gone. What cannot be removed now goes with its age.
        if !self.keeps_file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A small durable file in `tmp` on its way to its place. Dropped before, it is removed.
pub(super) struct Scrap<'s> {
    store: &'s Store,
    path: PathBuf,
}

impl<'s> Scrap<'s> {
    pub(super) fn write(store: &'s Store, name: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        let path = store.tmp_path(name);
        let mut file = File::create(&path).map_err(failed("create", &path))?;
        let scrap = Self { store, path };
        file.write_all(bytes).map_err(failed("write", &scrap.path))?;
        scrap.store.sync(&file, &scrap.path);
        Ok(scrap)
    }

    /// Renames the file over whatever is there. The folder is the caller's to sync.
    pub(super) fn rename(self, to: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, to).map_err(failed("rename", &self.path))
    }
}

impl Drop for Scrap<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
