//! A shard that is being uploaded: strips are appended and hashed, and at the end all of it becomes a shard or nothing.
//!
//! A small shard becomes an entry of a pack (`packs.rs`). A large one becomes files, in an order by which a crash
//! anywhere leaves a whole shard or none (`Step` names the points between): strips synced in `tmp`; list and public
//! manifest written and synced in `tmp`, renamed, folder synced; strips renamed, folder synced. The catalog row and the
//! acknowledgement come after. With an object store it becomes an object of that, at the end of all or not at all
//! (`send.rs`).

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use client::{Bug, planted};
use format::{
    PublicManifest, Root, StripHash, StripList, StripeIndex,
    limits::{STRIP_BYTES_MAX, STRIP_HEADER_BYTES, STRIPES_MAX, TAG_BYTES},
};

use super::{
    Bucket, ShardId, Step, Store, StoreError,
    entry::{Body, PACKED_BYTES_MAX},
    failed,
    packs::Killed,
};

/// Why strips cannot be appended. The draft is as it was before, except after [`Self::Store`].
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Strips come in order, each once; the uploader's fault.
    #[error("strips from {found} on were sent where {expected} comes next")]
    Order {
        /// The next strip.
        expected: u64,
        /// The strip sent.
        found: u64,
    },
    /// No strip has this length; the uploader's fault.
    #[error("strip {strip} is {found} bytes long, which no strip is")]
    Length {
        /// The strip.
        strip: u64,
        /// Its bytes.
        found: usize,
    },
    /// No shard has so many strips; the uploader's fault.
    #[error("a shard has at most {STRIPES_MAX} strips")]
    TooMany,
    /// The disk failed; our fault. The draft is lost.
    #[error("the strips cannot be written")]
    Store(#[from] StoreError),
}

/// Why a draft is not the shard that its manifest names. The draft is gone.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The object has no such column; the uploader's fault.
    #[error("the object has {columns} columns, and none {column}")]
    Column {
        /// The column.
        column: usize,
        /// Columns of the object.
        columns: usize,
    },
    /// Strips are missing or too many; the uploader's fault.
    #[error("{found} strips were sent where the manifest has {expected}")]
    Count {
        /// Strips of the column.
        expected: u64,
        /// Strips sent.
        found: u64,
    },
    /// A strip has another length than in the manifest; the uploader's fault.
    #[error("strip {strip} is {found} bytes long where the manifest says {expected}")]
    Length {
        /// The strip.
        strip: u64,
        /// Bytes in the manifest.
        expected: usize,
        /// Bytes sent.
        found: usize,
    },
    /// The strips are not those of the manifest; the fault of the uploader or of the way.
    #[error("the strips have root {found} where the manifest says {expected}; send the shard again")]
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

/// So many strips in a row of one length.
#[derive(Debug, Clone, Copy)]
struct Run {
    strips: u64,
    strip_bytes: usize,
}

/// A shard that is being uploaded. Dropped, it leaves nothing.
pub struct Draft {
    pub(super) store: Arc<Store>,
    pub(super) name: String,
    pub(super) file: File,
    pub(super) list: StripList,
    runs: Vec<Run>,
    pub(super) bytes: u64,
}

impl Store {
    /// Starts a draft under a name that no other has.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn draft(self: &Arc<Self>, name: &str) -> Result<Draft, StoreError> {
        let path = self.tmp_path(name);
        let file =
            File::options().create_new(true).read(true).append(true).open(&path).map_err(failed("create", &path))?;
        Ok(Draft {
            store: self.clone(),
            name: name.to_owned(),
            file,
            list: StripList::default(),
            runs: Vec::new(),
            bytes: 0,
        })
    }
}

impl Draft {
    /// Returns the strips appended.
    #[must_use]
    pub fn strips(&self) -> u64 {
        self.list.len() as u64
    }

    /// Returns the bytes appended.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends strips and hashes them. CPU and disk work on all their bytes.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&mut self, first: u64, strips: &[Bytes]) -> Result<(), AppendError> {
        if first != self.strips() {
            return Err(AppendError::Order { expected: self.strips(), found: first });
        }
        if self.strips() + strips.len() as u64 > STRIPES_MAX {
            return Err(AppendError::TooMany);
        }
        let no_strip = |strip: &Bytes| strip.len() <= STRIP_HEADER_BYTES + TAG_BYTES || strip.len() > STRIP_BYTES_MAX;
        if let Some(at) = strips.iter().position(no_strip) {
            return Err(AppendError::Length { strip: first + at as u64, found: strips[at].len() });
        }
        for strip in strips {
            self.file.write_all(strip).map_err(failed("write", &self.store.tmp_path(&self.name)))?;
            self.list.push(StripHash::of(strip));
            self.bytes += strip.len() as u64;
            match self.runs.last_mut() {
                Some(run) if run.strip_bytes == strip.len() => run.strips += 1,
                _ => self.runs.push(Run { strips: 1, strip_bytes: strip.len() }),
            }
        }
        Ok(())
    }

    /// Checks the draft against its manifest and makes it a durable shard. Returns the shard's bytes, as
    /// [`HeldShard`](super::HeldShard) counts them.
    ///
    /// # Errors
    /// [`CommitError`]; nothing is left of the draft then.
    pub fn commit(self, column: usize, public: &PublicManifest) -> Result<u64, CommitError> {
        self.check(column, public)?;
        let shard = ShardId { object: public.id(), column };
        if let Some(bucket) = &self.store.bucket {
            return Ok(self.keep_in_bucket(bucket, &shard, public)?);
        }
        let bytes = self.bytes.saturating_add((self.list.as_bytes().len() + public.encoded().len()) as u64);
        match usize::try_from(bytes) {
            Ok(small) if small <= PACKED_BYTES_MAX => self.keep_in_pack(&shard, public)?,
            _ => self.keep_as_files(&shard, public)?,
        }
        Ok(self.bytes)
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
        let (store, path) = (&*self.store, self.store.tmp_path(&self.name));
        let mut strips = vec![0; usize::try_from(self.bytes).expect("a packed shard is small")];
        self.file.read_exact_at(&mut strips, 0).map_err(failed("read", &path))?;
        let body = Body { public: public.encoded(), list: self.list.as_bytes(), strips: &strips };
        // The strips came back from a file: what is in the pack must be what was hashed.
        if !body.is_whole(shard) {
            return Err(StoreError::Damaged { path });
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

    /// Returns when the last strip was appended, in nanoseconds since 1970.
    pub(super) fn written(&self) -> Result<u64, StoreError> {
        let written = self.file.metadata().and_then(|about| about.modified());
        let written = written.map_err(failed("measure", &self.store.tmp_path(&self.name)))?;
        Ok(u64::try_from(written.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX))
    }

    fn keep_as_files(&self, shard: &ShardId, public: &PublicManifest) -> Result<(), StoreError> {
        let ShardId { object, column } = *shard;
        let store = &*self.store;
        let strips = store.tmp_path(&self.name);
        store.sync(&self.file, &strips);
        store.disk.reached(Step::StripsSynced);

        let list = Scrap::write(store, &format!("{}.list", self.name), self.list.as_bytes())?;
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

        fs::rename(&strips, store.shard_path(&object, column)).map_err(failed("rename", &strips))?;
        store.disk.reached(Step::ShardRenamed);
        store.sync_folder(&folder);
        store.disk.reached(Step::ShardNamed);
        // What is smaller may once have been the bound of a pack.
        let _: Killed = store.kill_packed(shard, |_| true)?;
        Ok(())
    }

    fn check(&self, column: usize, public: &PublicManifest) -> Result<(), CommitError> {
        let expected_root = public.root(column).ok_or(CommitError::Column { column, columns: public.columns() })?;
        let expected = public.column_strips(column);
        if self.strips() != expected {
            return Err(CommitError::Count { expected, found: self.strips() });
        }
        let mut strip = 0;
        for run in &self.runs {
            for _ in 0..run.strips {
                let expected = public.strip_bytes(StripeIndex(strip)).unwrap_or(0);
                if expected != run.strip_bytes {
                    return Err(CommitError::Length { strip, expected, found: run.strip_bytes });
                }
                strip += 1;
            }
        }
        let found = self.list.root();
        if found == *expected_root || planted(Bug::RootCheck) {
            Ok(())
        } else {
            Err(CommitError::Root { expected: *expected_root, found })
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the name is gone. If it cannot be removed now, the next boot does it.
        let _ = fs::remove_file(self.store.tmp_path(&self.name));
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
