//! All shards of this node, page by page in one order, so that whoever walks them can stop and go on.

use std::{fs, io, path::Path};

use format::{ObjectId, limits::COLUMNS_MAX};

use super::{Store, StoreError, failed};

/// Names a shard. The order is that of [`Store::shards`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The object.
    pub object: ObjectId,
    /// The column.
    pub column: usize,
}

/// A shard that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldShard {
    /// Its name.
    pub shard: ShardId,
    /// What it takes: the bytes of its strips; in an object store those of the whole object.
    pub bytes: u64,
}

impl Store {
    /// Returns the shards that are here, at most `limit`, from the one after `after` in the order of their names. Costs
    /// one look at each folder that the page reaches into.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Bucket`].
    pub fn shards(&self, after: Option<&ShardId>, limit: usize) -> Result<Vec<HeldShard>, StoreError> {
        let mut page = self.packs.index().page(after, limit);
        page.extend(self.files(after, limit)?);
        if let Some(bucket) = &self.bucket {
            page.extend(bucket.page(after, limit)?);
        }
        page.sort_unstable_by_key(|held| held.shard);
        page.dedup_by_key(|held| held.shard);
        page.truncate(limit);
        Ok(page)
    }

    /// The same, of those that are files of their own.
    fn files(&self, after: Option<&ShardId>, limit: usize) -> Result<Vec<HeldShard>, StoreError> {
        let mut page = Vec::new();
        let root = self.root.join("shards");
        let from = after.map(|after| after.object.to_string()).unwrap_or_default();
        let (from_outer, from_inner) = (from.get(..2).unwrap_or_default(), from.get(2..4).unwrap_or_default());
        for outer in folders(&root, from_outer)? {
            let first = if outer == from_outer { from_inner } else { "" };
            for inner in folders(&root.join(&outer), first)? {
                let folder = root.join(&outer).join(&inner);
                let mut names = shards_in(&folder)?;
                names.retain(|shard| after.is_none_or(|after| shard > after));
                for shard in names {
                    if page.len() == limit {
                        return Ok(page);
                    }
                    let path = self.shard_path(&shard.object, shard.column);
                    match fs::metadata(&path) {
                        Ok(about) => page.push(HeldShard { shard, bytes: about.len() }),
                        // Removed since the folder was read.
                        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                        Err(source) => return Err(failed("measure", &path)(source)),
                    }
                }
            }
        }
        Ok(page)
    }
}

/// Returns the names of the folders that hold ids, in order, from `first` on.
fn folders(of: &Path, first: &str) -> Result<Vec<String>, StoreError> {
    let mut names = names_in(of)?;
    names.retain(|name| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit()) && name.as_str() >= first);
    names.sort_unstable();
    Ok(names)
}

/// Returns the shards whose strips lie in one folder, in order.
pub(super) fn shards_in(folder: &Path) -> Result<Vec<ShardId>, StoreError> {
    let mut shards: Vec<ShardId> = names_in(folder)?.iter().filter_map(|name| shard_of(name)).collect();
    shards.sort_unstable();
    Ok(shards)
}

fn names_in(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("list", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed("list", folder))?.file_name().into_string());
    }
    Ok(names)
}

/// Reads the name of a file of strips; none for every other file.
fn shard_of(name: &str) -> Option<ShardId> {
    let (object, column) = name.split_once('.')?;
    let number: usize = column.parse().ok().filter(|number| *number < COLUMNS_MAX)?;
    // One spelling only: "+1" and "01" are no columns.
    (number.to_string() == column).then_some(ShardId { object: object.parse().ok()?, column: number })
}
