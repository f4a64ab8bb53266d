//! Large shards, which are files of their own: where they lie, and how they go.

use std::path::PathBuf;

use format::ObjectId;

use super::{ShardId, Store, StoreError, remove, shards::shards_in};

impl Store {
    /// Removes the files of a shard, if there are any. The caller has the guard of its object.
    pub(super) fn remove_files(&self, shard: &ShardId) -> Result<(), StoreError> {
        let ShardId { object, column } = shard;
        let folder = self.shard_folder(object);
        if !folder.exists() {
            return Ok(());
        }
        // The strips first, durably: without them the rest means nothing, the other way round a shard would lack its
        // list.
        remove(&self.shard_path(object, *column))?;
        self.sync_folder(&folder);
        remove(&self.list_path(object, *column))?;
        if !self.has_any_file(object)? {
            remove(&self.public_path(object))?;
        }
        self.sync_folder(&folder);
        Ok(())
    }

    /// Returns whether some shard of an object is a file of its own.
    pub(super) fn has_any_file(&self, object: &ObjectId) -> Result<bool, StoreError> {
        Ok(shards_in(&self.shard_folder(object))?.iter().any(|shard| shard.object == *object))
    }

    pub(super) fn shard_folder(&self, object: &ObjectId) -> PathBuf {
        let hex = object.to_string();
        self.root.join("shards").join(&hex[..2]).join(&hex[2..4])
    }

    pub(super) fn shard_path(&self, object: &ObjectId, column: usize) -> PathBuf {
        self.shard_folder(object).join(format!("{object}.{column}"))
    }

    pub(super) fn list_path(&self, object: &ObjectId, column: usize) -> PathBuf {
        self.shard_folder(object).join(format!("{object}.{column}.list"))
    }

    pub(super) fn public_path(&self, object: &ObjectId) -> PathBuf {
        self.shard_folder(object).join(format!("{object}.public"))
    }
}
