//! Decoded blocks in memory, weighed in bytes. The key is (locator, block): no query string, header or host spelling
//! makes a second entry. Plaintext lives here and nowhere else on an edge.

use std::collections::HashSet;

use bytes::Bytes;
use format::{BlockIndex, Locator};
use moka::sync::Cache;

/// What an entry costs beside its bytes: key, pointers and moka's own lists, as measured by its authors.
const ENTRY_BYTES: usize = 192;

/// One block of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) locator: Locator,
    pub(crate) block: BlockIndex,
}

/// The blocks held. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BlockCache(Cache<BlockKey, Bytes>);

impl BlockCache {
    /// Holds up to `bytes_max` bytes; what is used often stays (`TinyLFU`).
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |_: &BlockKey, block: &Bytes| u32::try_from(block.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(bytes_max).weigher(weigh).support_invalidation_closures().build())
    }

    pub(crate) fn get(&self, key: &BlockKey) -> Option<Bytes> {
        self.0.get(key)
    }

    pub(crate) fn holds(&self, key: &BlockKey) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn insert(&self, key: BlockKey, block: Bytes) {
        self.0.insert(key, block);
    }

    /// Forgets one block and returns it.
    pub(crate) fn remove(&self, key: &BlockKey) -> Option<Bytes> {
        self.0.remove(key)
    }

    /// Forgets all blocks of an object.
    pub(crate) fn forget(&self, locator: Locator) {
        self.forget_all([locator].into());
    }

    /// Forgets all blocks of some objects. Until the cache has gone through all that it holds, each look into it asks
    /// every call of this one, so many objects are one call.
    pub(crate) fn forget_all(&self, locators: HashSet<Locator>) {
        let refused = self.0.invalidate_entries_if(move |key, _| locators.contains(&key.locator));
        debug_assert!(refused.is_ok(), "the cache was built with invalidation closures");
    }

    /// Returns the bytes held, as of the last housekeeping.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.weighted_size()
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
        let cache = BlockCache::new(1 << 20);
        for locator in [1, 2] {
            for block in 0..3 {
                cache.insert(key(locator, block), Bytes::from_static(b"block"));
            }
        }
        cache.forget(Locator([1; 32]));
        assert!((0..3).all(|block| cache.get(&key(1, block)).is_none() && cache.get(&key(2, block)).is_some()));
    }

    #[test]
    fn bytes_are_bounded() {
        let cache = BlockCache::new(100_000);
        for block in 0..100 {
            cache.insert(key(1, block), Bytes::from(vec![0; 10_000]));
        }
        cache.0.run_pending_tasks();
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
    }
}
