//! Where each shard in a pack is, in memory: what the packs' entries say when they are read in their order.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use super::{
    HeldShard, ShardId,
    entry::{Kind, Mark, Span},
    pack::PackName,
};

/// A pack is rewritten when less than one part in so many of it is alive: each byte kept is copied at most a third of a
/// time for each byte that is won back.
const ALIVE_PART: u64 = 4;

/// Where a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The pack's number.
    pub(super) pack: u32,
    /// When the last strip was appended, in nanoseconds since 1970.
    pub(super) written: u64,
    pub(super) span: Span,
}

/// A pack and what of it still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pack {
    pub(super) name: PackName,
    /// Bytes of all its entries.
    pub(super) bytes: u64,
    /// Those of living shards and of tombstones: one that is dropped while a pack before it has its shard would bring
    /// that back to life.
    pub(super) alive_bytes: u64,
}

impl Pack {
    fn is_sparse(&self) -> bool {
        self.alive_bytes.saturating_mul(ALIVE_PART) < self.bytes || self.bytes == 0
    }
}

/// The shards in packs, and the packs.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: BTreeMap<ShardId, Place>,
    packs: BTreeMap<u32, Pack>,
}

impl Index {
    /// Takes in a pack without entries.
    pub(super) fn add(&mut self, name: PackName) {
        self.packs.insert(name.number, Pack { name, bytes: 0, alive_bytes: 0 });
    }

    /// Takes in the next entry of a pack; entries of later packs overrule those of earlier ones.
    pub(super) fn apply(&mut self, pack: u32, mark: &Mark) {
        let bytes = mark.span.entry_bytes();
        if let Some(pack) = self.packs.get_mut(&pack) {
            pack.bytes += bytes;
            pack.alive_bytes += bytes;
        }
        let place = Place { pack, written: mark.written, span: mark.span };
        let before = match (mark.kind, self.places.entry(mark.shard)) {
            (Kind::Shard, Entry::Vacant(entry)) => {
                entry.insert(place);
                None
            }
            (Kind::Shard, Entry::Occupied(mut entry)) => Some(entry.insert(place)),
            (Kind::Tombstone, Entry::Vacant(_)) => None,
            (Kind::Tombstone, Entry::Occupied(entry)) => Some(entry.remove()),
        };
        if let Some(before) = before
            && let Some(pack) = self.packs.get_mut(&before.pack)
        {
            pack.alive_bytes = pack.alive_bytes.saturating_sub(before.span.entry_bytes());
        }
    }

    /// Takes out a pack of which nothing counts any more.
    pub(super) fn drop_pack(&mut self, number: u32) {
        self.packs.remove(&number);
    }

    pub(super) fn find(&self, shard: &ShardId) -> Option<(PackName, Place)> {
        let place = *self.places.get(shard)?;
        Some((self.packs.get(&place.pack)?.name, place))
    }

    /// Returns the shards after `after`, at most `limit`.
    pub(super) fn page(&self, after: Option<&ShardId>, limit: usize) -> Vec<HeldShard> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(*after));
        let shards = self.places.range((from, Bound::Unbounded)).take(limit);
        shards.map(|(shard, place)| HeldShard { shard: *shard, bytes: place.span.cells_bytes.into() }).collect()
    }

    pub(super) fn is_sparse(&self, number: u32) -> bool {
        self.packs.get(&number).is_some_and(Pack::is_sparse)
    }

    /// Returns the first pack before `newest` that is worth rewriting, and whether there is none before it.
    pub(super) fn sparse(&self, newest: u32) -> Option<(PackName, bool)> {
        let pack = self.packs.range(..newest).map(|(_, pack)| pack).find(|pack| pack.is_sparse())?;
        let is_oldest = self.packs.first_key_value().is_some_and(|(number, _)| *number == pack.name.number);
        Some((pack.name, is_oldest))
    }
}

#[cfg(test)]
mod tests {
    use format::ObjectId;

    use super::*;

    fn mark(kind: Kind, object: u8, start: u32) -> Mark {
        let cells_bytes = if kind == Kind::Shard { 1000 } else { 0 };
        Mark {
            kind,
            shard: ShardId { object: ObjectId([object; 32]), column: 3 },
            written: 0,
            durable: 0,
            span: Span { start, public_bytes: 0, list_bytes: 0, cells_bytes },
        }
    }

    #[test]
    fn later_entries_overrule_earlier_ones_and_packs_know_what_of_them_counts() {
        let mut index = Index::default();
        let names = [1, 2, 5].map(|number| PackName { number, salt: [0; 16] });
        names.into_iter().for_each(|name| index.add(name));
        let (shard, tombstone) =
            (mark(Kind::Shard, 0, 0).span.entry_bytes(), mark(Kind::Tombstone, 0, 0).span.entry_bytes());
        for object in 0..5 {
            index.apply(1, &mark(Kind::Shard, object, u32::from(object) * 2000));
        }
        for object in 0..3 {
            index.apply(2, &mark(Kind::Tombstone, object, u32::from(object) * 200));
        }
        index.apply(5, &mark(Kind::Shard, 2, 0));
        assert_eq!(index.packs[&1].alive_bytes, 2 * shard);
        assert_eq!((index.packs[&2].alive_bytes, index.packs[&2].bytes), (3 * tombstone, 3 * tombstone));
        assert_eq!(index.find(&mark(Kind::Shard, 2, 0).shard).unwrap().1.pack, 5);
        assert_eq!(index.find(&mark(Kind::Shard, 1, 0).shard), None);
        let page = |after: Option<u8>, limit| -> Vec<u8> {
            let after = after.map(|object| mark(Kind::Shard, object, 0).shard);
            index.page(after.as_ref(), limit).iter().map(|held| held.shard.object.0[0]).collect()
        };
        assert_eq!((page(None, 9), page(None, 2), page(Some(3), 9)), (vec![2, 3, 4], vec![2, 3], vec![4]));

        assert_eq!(index.sparse(5), None);
        index.apply(5, &mark(Kind::Shard, 3, 2000));
        assert_eq!(index.sparse(5), Some((names[0], true)), "one of five is alive");
        index.drop_pack(1);
        assert_eq!(index.sparse(5), None, "tombstones count");
        assert_eq!(index.find(&mark(Kind::Shard, 4, 0).shard), None);
    }
}
