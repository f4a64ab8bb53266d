//! A shard that is here, opened to be read: as a file of its own or as an entry of a pack, readers see no difference.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use format::{
    ObjectId, PublicManifest,
    limits::{PUBLIC_MANIFEST_BYTES_MAX, STRIPES_MAX},
};

use super::{
    ShardId, Store, StoreError, failed,
    index::Place,
    is_of_the_sector, open,
    pack::{self, PackName},
    read,
};

/// Largest list: one hash for each strip a shard can have.
#[expect(clippy::cast_possible_truncation, reason = "32 MiB")]
const LIST_BYTES_MAX: usize = STRIPES_MAX as usize * 32;

/// A shard, opened.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Where in the file its strips start.
    pub(super) strips_at: u64,
    /// Their bytes.
    pub(super) strips_bytes: u64,
    beside: Beside,
}

/// Where P and the list are.
#[derive(Debug)]
pub(super) enum Beside {
    Files { public: PathBuf, list: PathBuf },
    Pack(PackName, Place),
}

impl Store {
    /// Opens a shard; none when it is not here.
    pub(super) fn held(&self, object: &ObjectId, column: usize) -> Result<Option<Held>, StoreError> {
        if let Some((file, name, place)) = self.open_packed(&ShardId { object: *object, column })? {
            return Ok(Some(Held {
                file,
                path: self.packs_folder().join(name.log()),
                strips_at: place.span.strips_at(),
                strips_bytes: place.span.strips_bytes.into(),
                beside: Beside::Pack(name, place),
            }));
        }
        let path = self.shard_path(object, column);
        let Some(file) = open(&path)? else { return Ok(None) };
        let strips_bytes = file.metadata().map_err(failed("measure", &path))?.len();
        let beside = Beside::Files { public: self.public_path(object), list: self.list_path(object, column) };
        Ok(Some(Held { file, path, strips_at: 0, strips_bytes, beside }))
    }

    /// Returns the public manifest of an object of which a shard is, or was, here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn public(&self, object: &ObjectId) -> Result<Option<PublicManifest>, StoreError> {
        let packed = self.packs.index().any_of(object);
        if let Some(shard) = packed
            && let Some(held) = self.held(object, shard.column)?
        {
            return held.public(object);
        }
        let path = self.public_path(object);
        match read(&path, PUBLIC_MANIFEST_BYTES_MAX)? {
            Some(bytes) => decode(bytes, object, path).map(Some),
            None => Ok(None),
        }
    }
}

impl Held {
    pub(super) fn beside(&self) -> &Beside {
        &self.beside
    }

    /// Returns the object's P; none when there is none beside the shard.
    pub(super) fn public(&self, object: &ObjectId) -> Result<Option<PublicManifest>, StoreError> {
        let (bytes, path) = match &self.beside {
            Beside::Files { public, .. } => (read(public, PUBLIC_MANIFEST_BYTES_MAX)?, public),
            Beside::Pack(_, Place { span, .. }) => (self.part(span.public_at(), span.public_bytes)?, &self.path),
        };
        bytes.map(|bytes| decode(bytes, object, path.clone())).transpose()
    }

    /// Returns the stored list; none when there is none beside the shard. Nothing of it is checked.
    pub(super) fn list(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.beside {
            Beside::Files { list, .. } => read(list, LIST_BYTES_MAX),
            Beside::Pack(_, Place { span, .. }) => self.part(span.list_at(), span.list_bytes),
        }
    }

    /// Returns whether what surrounds the shard in its pack is intact; of a file always.
    pub(super) fn has_marks(&self) -> Result<bool, StoreError> {
        match &self.beside {
            Beside::Files { .. } => Ok(true),
            Beside::Pack(name, place) => {
                pack::has_marks(&self.file, &name.key(), &place.span).map_err(failed("read", &self.path))
            }
        }
    }

    fn part(&self, at: u64, count: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(Some(bytes)),
            Err(source) if is_of_the_sector(&source) => Err(StoreError::Damaged { path: self.path.clone() }),
            Err(source) => Err(failed("read", &self.path)(source)),
        }
    }
}

fn decode(bytes: Vec<u8>, object: &ObjectId, path: PathBuf) -> Result<PublicManifest, StoreError> {
    match PublicManifest::decode(bytes.into()) {
        Ok(public) if public.id() == *object => Ok(public),
        _ => Err(StoreError::Damaged { path }),
    }
}
