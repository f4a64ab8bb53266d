//! Where damaged shards go: out of the way of every reader, but kept for a while for whoever wants to know what
//! happened.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use format::ObjectId;

use super::{Found, Harm, ShardId, Store, StoreError, failed, held::Beside, remove};

/// Shards kept; the oldest go.
const SHARDS_MAX: usize = 256;
/// Bytes kept; the oldest go. A shard larger than this is not kept at all.
const BYTES_MAX: u64 = 1 << 30;

/// Files of one damaged shard and their bytes.
type Kept = (Vec<PathBuf>, u64);

impl Store {
    /// Takes a damaged shard away, durably: afterwards it is not here. One in an object store is removed: what is kept
    /// of it is that store's affair. Looks once more first, because the shard may have been uploaded anew or mended
    /// since; false when it is intact at the named place.
    ///
    /// # Errors
    /// [`StoreError::NoShard`], [`StoreError::Io`].
    pub fn quarantine(&self, object: &ObjectId, column: usize, why: &Harm) -> Result<bool, StoreError> {
        let _guard = self.guard(&object.0);
        let from_strip = match why {
            Harm::Strip { strip: at } | Harm::End { cell: at } => *at,
            _ => 0,
        };
        if !matches!(self.verify_shard(object, column, from_strip, 0)?.found, Found::Damaged(_)) {
            return Ok(false);
        }
        let quarantine = self.root.join("quarantine");
        self.make_folder(&quarantine)?;
        let kept = self.quarantined()?;
        let number = kept.last_key_value().map_or(0, |(number, _)| number + 1);
        let to = quarantine.join(format!("{number:08}-{object}.{column}"));
        let mut held = self.held(object, column)?.ok_or(StoreError::NoShard { object: *object, column })?;
        match held.beside() {
            Beside::Pack(_, place) => {
                // The evidence is welcome, but a disk that cannot give it must not keep the shard in service.
                let span = place.span;
                let kept = held.entry(&span).and_then(|entry| fs::write(&to, entry).map_err(failed("write", &to)));
                if let Err(error) = kept {
                    tracing::warn!(%object, column, %error, "the damaged entry cannot be kept");
                }
                self.kill_packed(&ShardId { object: *object, column }, |_| true)?;
            }
            Beside::Object(_) => {
                let bucket = self.bucket.as_ref().expect("an object was found in it");
                bucket.remove(&ShardId { object: *object, column })?;
            }
            Beside::Files { list, .. } => {
                // The strips first, as when a shard is removed.
                move_to(&held.path, &to)?;
                move_to(list, &to.with_extension(format!("{column}.list")))?;
                if !self.has_any_file(object)? {
                    remove(&self.public_path(object))?;
                }
                self.sync_folder(&quarantine);
                self.sync_folder(&self.shard_folder(object));
            }
        }
        tracing::error!(%object, column, %why, from = %held.path.display(), "a damaged shard was taken out of service");
        self.trim_quarantine()?;
        Ok(true)
    }

    /// Drops the oldest until what is left is within the bounds.
    fn trim_quarantine(&self) -> Result<(), StoreError> {
        let mut kept = self.quarantined()?;
        let mut bytes: u64 = kept.values().map(|(_, bytes)| bytes).sum();
        while kept.len() > SHARDS_MAX || bytes > BYTES_MAX {
            let Some((_, (files, freed))) = kept.pop_first() else { break };
            files.iter().try_for_each(|file| remove(file))?;
            bytes -= freed;
        }
        Ok(())
    }

    /// Returns what is in quarantine, by the number it got when it came.
    fn quarantined(&self) -> Result<BTreeMap<u64, Kept>, StoreError> {
        let folder = self.root.join("quarantine");
        let mut kept: BTreeMap<u64, Kept> = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let path = entry.map_err(failed("list", &folder))?.path();
            let Some(number) = number_of(&path) else { continue };
            let bytes = fs::metadata(&path).map_err(failed("measure", &path))?.len();
            let (files, sum) = kept.entry(number).or_default();
            files.push(path);
            *sum += bytes;
        }
        Ok(kept)
    }
}

fn move_to(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::rename(from, to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("quarantine", from)(source)),
        _ => Ok(()),
    }
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}
