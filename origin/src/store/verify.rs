//! Whether a shard still is what its object's public manifest says: strips under the list, list under the root, root in
//! P.
//!
//! Goes in steps, so that whoever looks at terabytes can rest in between and go on after a restart. Where only what
//! lies beside the strips is damaged, it is mended: the list is rebuilt from the strips, P taken from a copy of the
//! record.

use client::{Bug, planted};
use format::{ObjectId, PublicManifest, Root, StripHash, StripList, StripeIndex, limits::STRIP_BYTES_MAX};

use super::{
    ShardId, Store, StoreError,
    draft::Scrap,
    entry::Body,
    held::{Beside, Held},
    intact,
};

/// What is wrong with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Harm {
    /// The public manifest is missing or not that of the object.
    #[error("the public manifest is missing or damaged")]
    Public,
    /// The list of strip hashes is missing or not under the root.
    #[error("the list of strip hashes is missing or damaged")]
    List,
    /// What surrounds the shard in its pack cannot be read, so the shard would not be found again without an index.
    #[error("the entry around the shard is damaged")]
    Entry,
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

impl Harm {
    /// Returns whether [`Store::mend_shard`] may help: the strips themselves were not found damaged.
    #[must_use]
    pub fn is_beside_strips(&self) -> bool {
        matches!(self, Self::Public | Self::List | Self::Entry)
    }
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
    /// Hashes the strips of a shard from `from_strip` on, until `budget_bytes` are used up (one strip at least) or the
    /// shard ends. The first step of a shard also checks its list against the root; later ones take the list for
    /// checked.
    ///
    /// # Errors
    /// [`StoreError::NoShard`]; [`StoreError::Io`] and [`StoreError::Bucket`] when the disk or the object store cannot
    /// say, which is no word about the shard.
    pub fn verify_shard(
        &self,
        object: &ObjectId,
        column: usize,
        from_strip: u64,
        budget_bytes: u64,
    ) -> Result<Checked, StoreError> {
        let damaged = |harm| Ok(Checked { bytes: 0, found: Found::Damaged(harm) });
        let mut held = self.held(object, column)?.ok_or(StoreError::NoShard { object: *object, column })?;
        let Some(public) = intact(held.public(object))? else { return damaged(Harm::Public) };
        let Some(root) = public.root(column) else { return damaged(Harm::Public) };
        let (expected, found) = (public.shard_bytes(column), held.strips_bytes);
        if found != expected {
            return damaged(Harm::Length { expected, found });
        }
        let Some(list) = checked_list(&mut held, root, from_strip)? else { return damaged(Harm::List) };
        if from_strip == 0 && !held.has_marks()? {
            return damaged(Harm::Entry);
        }
        if planted(Bug::Scrub) {
            return Ok(Checked { bytes: found, found: Found::Intact });
        }
        let strips = public.column_strips(column);
        let until = public.shard_offset(StripeIndex(from_strip)).saturating_add(budget_bytes);
        let mut strip = from_strip;
        let mut bytes = 0;
        while strip < strips && (bytes < budget_bytes || strip == from_strip) {
            let hash = hash_strip(&mut held, &public, strip, until)?;
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

    /// Writes all that lies beside the strips of a shard anew, when they still hash to the root in the object's P.
    /// Returns whether the shard is whole then; an object is never mended, repair brings it back. Costs one read of all
    /// its strips, and when P itself is lost, a look at the copies of records.
    ///
    /// # Errors
    /// [`StoreError::NoShard`], [`StoreError::Io`].
    pub fn mend_shard(&self, object: &ObjectId, column: usize) -> Result<bool, StoreError> {
        let mut held = self.held(object, column)?.ok_or(StoreError::NoShard { object: *object, column })?;
        if matches!(held.beside(), Beside::Object(_)) {
            return Ok(false);
        }
        let public = match intact(held.public(object))? {
            None => self.public_in_records(object)?,
            held => held,
        };
        let Some(public) = public else { return Ok(false) };
        let Some(root) = public.root(column) else { return Ok(false) };
        if held.strips_bytes != public.shard_bytes(column) {
            return Ok(false);
        }
        let mut list = StripList::default();
        for strip in 0..public.column_strips(column) {
            let Some(hash) = hash_strip(&mut held, &public, strip, 0)? else { return Ok(false) };
            list.push(hash);
        }
        if list.root() != *root {
            return Ok(false);
        }
        self.write_beside(&mut held, &ShardId { object: *object, column }, &public, &list)?;
        Ok(true)
    }

    /// Writes list and P beside strips that were hashed, unless the shard is no longer where it was.
    fn write_beside(
        &self,
        held: &mut Held,
        shard: &ShardId,
        public: &PublicManifest,
        list: &StripList,
    ) -> Result<(), StoreError> {
        let ShardId { object, column } = *shard;
        let gone = StoreError::NoShard { object, column };
        let _guard = self.guard(&object.0);
        match held.beside() {
            Beside::Files { public: public_path, list: list_path } => {
                if !held.path.exists() {
                    return Err(gone);
                }
                let scrap =
                    |kind: &str, bytes: &[u8]| Scrap::write(self, &format!("mend-{object}.{column}.{kind}"), bytes);
                scrap("list", list.as_bytes())?.rename(list_path)?;
                scrap("public", public.encoded())?.rename(public_path)?;
                self.sync_folder(&self.shard_folder(&object));
                Ok(())
            }
            Beside::Pack(_, place) => {
                if self.packs.index().find(shard).is_none_or(|(_, found)| found != *place) {
                    return Err(gone);
                }
                let place = *place;
                let strips_bytes = usize::try_from(held.strips_bytes).expect("a packed shard is small");
                let strips = held.strips(0, strips_bytes, 0)?;
                let body = Body { public: public.encoded(), list: list.as_bytes(), strips: &strips };
                if !body.is_whole(shard) {
                    return Err(held.damaged());
                }
                self.pack_shard(shard, place.written, &body)
            }
            // It was written as one, and is there as one or not at all.
            Beside::Object(_) => Err(held.damaged()),
        }
    }
}

/// Returns the list, unless it is missing or damaged. Its root is looked at in the first step of a shard only: a list
/// may be 32 MiB, and a shard thousands of steps.
fn checked_list(held: &mut Held, root: &Root, from_strip: u64) -> Result<Option<StripList>, StoreError> {
    let list = intact(held.list())?.and_then(StripList::from_bytes);
    Ok(list.filter(|list| from_strip > 0 || list.root() == *root))
}

/// Hashes one strip; none when it cannot be read. What lies behind it up to `until` is going to be hashed too.
fn hash_strip(
    held: &mut Held,
    public: &PublicManifest,
    strip: u64,
    until: u64,
) -> Result<Option<StripHash>, StoreError> {
    let at = public.shard_offset(StripeIndex(strip));
    let bytes = public.shard_offset(StripeIndex(strip + 1)) - at;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= STRIP_BYTES_MAX);
    let read = held.strips(at, bytes.expect("the format bounds a strip"), until).map(Some);
    // A sector that cannot be read is damage of this shard; any other error is trouble of the whole machine.
    Ok(intact(read)?.map(|strip| StripHash::of(&strip)))
}
