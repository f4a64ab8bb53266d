//! Whether a shard still is what its object's public manifest says: strips under the list, list under the root, root in P.
//!
//! Goes in steps, so that whoever looks at terabytes can rest in between and go on after a restart. What only the sidecars
//! lost is mended here: the list is rebuilt from the strips, P taken from a copy of the record.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use format::{ObjectId, PublicManifest, Root, StripHash, StripList, StripeIndex, limits::STRIP_BYTES_MAX};

use super::{Store, StoreError, draft::Scrap, failed, open, read, slice::LIST_BYTES_MAX};

/// What is wrong with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Harm {
    /// The public manifest is missing or not that of the object.
    #[error("the public manifest is missing or damaged")]
    Public,
    /// The list of strip hashes is missing or not under the root.
    #[error("the list of strip hashes is missing or damaged")]
    List,
    /// The strips are not as many bytes as the manifest says.
    #[error("the strips are {found} bytes where the manifest says {expected}")]
    Length {
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on the disk.
        found: u64,
    },
    /// A strip does not hash to what the list says, or the disk cannot read it.
    #[error("strip {strip} is damaged")]
    Strip {
        /// The first such strip of the step.
        strip: u64,
    },
}

/// How far a look at a shard came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All strips before `next` are intact, the others were not looked at.
    More {
        /// Where to go on.
        next: u64,
    },
    /// All strips are.
    Intact,
    /// The shard is damaged.
    Damaged(Harm),
}

/// One step of a look at a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Bytes of strips that were read and hashed.
    pub bytes: u64,
    /// What they said.
    pub found: Found,
}

impl Store {
    /// Hashes the strips of a shard from `from_strip` on, until `budget_bytes` are used up (one strip at least) or the shard
    /// ends. The first step of a shard also checks its list against the root; later ones take the list for checked.
    ///
    /// # Errors
    /// [`StoreError::NoShard`]; [`StoreError::Io`] when the disk cannot say, which is no word about the shard.
    pub fn verify_shard(
        &self,
        object: &ObjectId,
        column: usize,
        from_strip: u64,
        budget_bytes: u64,
    ) -> Result<Checked, StoreError> {
        let damaged = |harm| Ok(Checked { bytes: 0, found: Found::Damaged(harm) });
        let path = self.shard_path(object, column);
        let file = open(&path)?.ok_or(StoreError::NoShard { object: *object, column })?;
        let public = match self.public(object) {
            Ok(Some(public)) => public,
            Ok(None) | Err(StoreError::Damaged { .. }) => return damaged(Harm::Public),
            Err(error) => return Err(error),
        };
        let Some(root) = public.root(column) else { return damaged(Harm::Public) };
        let (expected, found) = (public.shard_bytes(column), length(&file, &path)?);
        if found != expected {
            return damaged(Harm::Length { expected, found });
        }
        let Some(list) = self.list(object, column, root, from_strip)? else { return damaged(Harm::List) };
        let strips = public.column_strips(column);
        let mut strip = from_strip;
        let mut bytes = 0;
        while strip < strips && (bytes < budget_bytes || strip == from_strip) {
            let hash = hash_strip(&file, &path, &public, strip)?;
            let listed = usize::try_from(strip).ok().and_then(|strip| list.hash(strip));
            if hash.is_none() || hash != listed {
                return Ok(Checked { bytes, found: Found::Damaged(Harm::Strip { strip }) });
            }
            strip += 1;
            bytes = public.shard_offset(StripeIndex(strip)) - public.shard_offset(StripeIndex(from_strip));
        }
        let found = if strip < strips { Found::More { next: strip } } else { Found::Intact };
        Ok(Checked { bytes, found })
    }

    /// Returns the list, unless it is missing or damaged. Its root is looked at in the first step of a shard only: a list may
    /// be 32 MiB, and a shard thousands of steps.
    fn list(
        &self,
        object: &ObjectId,
        column: usize,
        root: &Root,
        from_strip: u64,
    ) -> Result<Option<StripList>, StoreError> {
        let bytes = match read(&self.list_path(object, column), LIST_BYTES_MAX) {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        let list = bytes.and_then(StripList::from_bytes);
        Ok(list.filter(|list| from_strip > 0 || list.root() == *root))
    }

    /// Writes the list and the public manifest of a shard anew, when its strips still hash to the root in the object's P.
    /// Returns whether the shard is whole then. Costs one read of all its strips, and when P itself is lost, a look at the
    /// copies of records.
    ///
    /// # Errors
    /// [`StoreError::NoShard`], [`StoreError::Io`].
    pub fn mend_shard(&self, object: &ObjectId, column: usize) -> Result<bool, StoreError> {
        let path = self.shard_path(object, column);
        let file = open(&path)?.ok_or(StoreError::NoShard { object: *object, column })?;
        let public = match self.public(object) {
            Ok(Some(public)) => Some(public),
            Ok(None) | Err(StoreError::Damaged { .. }) => self.public_in_records(object)?,
            Err(error) => return Err(error),
        };
        let Some(public) = public else { return Ok(false) };
        let Some(root) = public.root(column) else { return Ok(false) };
        if length(&file, &path)? != public.shard_bytes(column) {
            return Ok(false);
        }
        let mut list = StripList::default();
        for strip in 0..public.column_strips(column) {
            let Some(hash) = hash_strip(&file, &path, &public, strip)? else { return Ok(false) };
            list.push(hash);
        }
        if list.root() != *root {
            return Ok(false);
        }
        let _guard = self.guard(&object.0);
        if !self.has_shard(object, column) {
            return Err(StoreError::NoShard { object: *object, column });
        }
        let scrap = |kind: &str, bytes: &[u8]| Scrap::write(self, &format!("mend-{object}.{column}.{kind}"), bytes);
        scrap("list", list.as_bytes())?.rename(&self.list_path(object, column))?;
        scrap("public", public.encoded())?.rename(&self.public_path(object))?;
        self.sync_folder(&self.shard_folder(object));
        Ok(true)
    }
}

fn length(file: &File, path: &Path) -> Result<u64, StoreError> {
    Ok(file.metadata().map_err(failed("measure", path))?.len())
}

/// Hashes one strip; none when the disk cannot read it.
fn hash_strip(file: &File, path: &Path, public: &PublicManifest, strip: u64) -> Result<Option<StripHash>, StoreError> {
    let at = public.shard_offset(StripeIndex(strip));
    let bytes = public.shard_offset(StripeIndex(strip + 1)) - at;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= STRIP_BYTES_MAX);
    let mut strip = vec![0; bytes.expect("the format bounds a strip")];
    match file.read_exact_at(&mut strip, at) {
        Ok(()) => Ok(Some(StripHash::of(&strip))),
        // A sector that cannot be read is damage of this shard; any other error is trouble of the whole machine.
        Err(source) if is_of_the_sector(&source) => Ok(None),
        Err(source) => Err(failed("read", path)(source)),
    }
}

fn is_of_the_sector(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
