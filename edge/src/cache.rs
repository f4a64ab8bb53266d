//! Decoded blocks in memory, weighed in bytes. The key is (locator, block): no query string, header or host spelling
//! makes a second entry. Plaintext lives here and nowhere else on an edge.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use format::{BlockIndex, Locator};
use moka::sync::Cache;

/// What an entry costs beside its bytes: key, pointers and moka's own lists, as measured by its authors.
const ENTRY_BYTES: usize = 192;

/// What was forgotten is known for so long, which no read takes that began before: of the last so many objects.
const FORGOTTEN_TIME: Duration = Duration::from_secs(60);
const FORGOTTEN_MAX: u64 = 100_000;

/// One block of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) locator: Locator,
    pub(crate) block: BlockIndex,
}

/// The blocks held. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BlockCache {
    blocks: Cache<BlockKey, Bytes>,
    /// When blocks of an object were last forgotten: a read that began before must not bring them back.
    forgotten: Cache<Locator, Instant>,
}

impl BlockCache {
    /// Holds up to `bytes_max` bytes; what is used often stays (`TinyLFU`).
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |_: &BlockKey, block: &Bytes| u32::try_from(block.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self {
            blocks: Cache::builder().max_capacity(bytes_max).weigher(weigh).support_invalidation_closures().build(),
            forgotten: Cache::builder().max_capacity(FORGOTTEN_MAX).time_to_live(FORGOTTEN_TIME).build(),
        }
    }

    pub(crate) fn get(&self, key: &BlockKey) -> Option<Bytes> {
        self.blocks.get(key)
    }

    pub(crate) fn holds(&self, key: &BlockKey) -> bool {
        self.blocks.contains_key(key)
    }

    /// Keeps a block, unless its object was forgotten since the read `begun` that brings it.
    pub(crate) fn insert(&self, key: BlockKey, block: Bytes, begun: Instant) {
        self.blocks.insert(key, block);
        // Now, because whoever forgets the object after this finds the block.
        if self.was_forgotten(&key.locator, begun) {
            self.blocks.remove(&key);
        }
    }

    /// Whether blocks of an object were forgotten at a moment or after it.
    pub(crate) fn was_forgotten(&self, locator: &Locator, since: Instant) -> bool {
        self.forgotten.get(locator).is_some_and(|at| at >= since)
    }

    /// Forgets one block and returns it.
    pub(crate) fn remove(&self, key: &BlockKey) -> Option<Bytes> {
        self.blocks.remove(key)
    }

    /// Forgets all blocks of some objects. Until the cache has gone through all that it holds, each look into it asks
    /// every call of this one, so many objects are one call.
    pub(crate) fn forget_all(&self, locators: HashSet<Locator>) {
        let now = Instant::now();
        locators.iter().for_each(|locator| self.forgotten.insert(*locator, now));
        let refused = self.blocks.invalidate_entries_if(move |key, _| locators.contains(&key.locator));
        debug_assert!(refused.is_ok(), "the cache was built with invalidation closures");
    }

    /// Returns the bytes held, as of the last housekeeping.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(locator: u8, block: u64) -> BlockKey {
        BlockKey { locator: Locator([locator; 32]), block: BlockIndex(block) }
    }

    #[test]
    fn an_erased_object_is_forgotten_and_no_other() {
        let (cache, begun) = (BlockCache::new(1 << 20), Instant::now());
        for locator in [1, 2] {
            for block in 0..3 {
                cache.insert(key(locator, block), Bytes::from_static(b"block"), begun);
            }
        }
        cache.forget_all([Locator([1; 32])].into());
        assert!((0..3).all(|block| cache.get(&key(1, block)).is_none() && cache.get(&key(2, block)).is_some()));
        // A read that was under way then brings nothing back; one that begins later does.
        cache.insert(key(1, 7), Bytes::from_static(b"late"), begun);
        assert!(cache.get(&key(1, 7)).is_none());
        cache.insert(key(1, 7), Bytes::from_static(b"new"), Instant::now() + Duration::from_nanos(1));
        assert!(cache.get(&key(1, 7)).is_some());
    }

    #[test]
    fn bytes_are_bounded() {
        let cache = BlockCache::new(100_000);
        for block in 0..100 {
            cache.insert(key(1, block), Bytes::from(vec![0; 10_000]), Instant::now());
        }
        cache.blocks.run_pending_tasks();
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
    }
}
