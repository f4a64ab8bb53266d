//! Decoded blocks in memory, and zstd frames of some beside them, weighed in bytes. The key is (locator, block) in one
//! of two forms: no query string, header or host spelling makes another entry. Plaintext lives here and nowhere else on
//! an edge.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use format::{BlockIndex, Locator};
use moka::sync::Cache;

use super::{
    forgotten::Forgotten,
    index::{Entered, Index},
};

/// What an entry costs beside its bytes: key, pointers and moka's own lists, as measured by its authors, and its line
/// in the index.
const ENTRY_BYTES: usize = 192 + 128;

/// One block of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) locator: Locator,
    pub(crate) block: BlockIndex,
}

/// In which form a block is held, or what is known of one. Each stays by its own use: where all viewers take zstd, the
/// plaintext leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Plain,
    /// As a zstd frame.
    Zstd,
    /// As nothing but the note that zstd gains nothing.
    Stored,
}

/// What is entered in the index: which block, how, and of how many bytes.
type Line = (BlockIndex, Form, usize);

/// What compressing a block came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packed {
    /// A zstd frame that is smaller.
    Frame(Bytes),
    /// Nothing is gained: the block goes out stored in a frame, which is made of it each time.
    Stored,
}

/// The blocks held. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BlockCache {
    blocks: Cache<(BlockKey, Form), Arc<Held>>,
    /// Of each object the blocks that are held.
    index: Arc<Index<Locator, Line>>,
    /// When blocks of an object were last forgotten: a read that began before must not bring them back.
    forgotten: Forgotten<Locator>,
}

/// A block in the cache.
struct Held {
    bytes: Bytes,
    _entered: Entered<Locator, Line>,
}

impl BlockCache {
    /// Holds up to `bytes_max` bytes; what is used often stays (`TinyLFU`).
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |_: &_, held: &Arc<Held>| u32::try_from(held.bytes.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self {
            blocks: Cache::builder().max_capacity(bytes_max).weigher(weigh).build(),
            index: Index::new(),
            forgotten: Forgotten::new(),
        }
    }

    pub(crate) fn get(&self, key: &BlockKey) -> Option<Bytes> {
        self.find(key, Form::Plain)
    }

    /// Returns a block as a zstd frame.
    pub(crate) fn frame(&self, key: &BlockKey) -> Option<Bytes> {
        self.find(key, Form::Zstd)
    }

    /// Returns what compressing a block came to, where that is known.
    pub(crate) fn packed(&self, key: &BlockKey) -> Option<Packed> {
        let stored = || self.find(key, Form::Stored).map(|_| Packed::Stored);
        self.frame(key).map(Packed::Frame).or_else(stored)
    }

    /// Returns the blocks of an object of which it is known, the bytes of each frame beside it; none for one that goes
    /// out stored. Counts as no use.
    pub(crate) fn frames(&self, locator: &Locator) -> HashMap<BlockIndex, Option<usize>> {
        let known = |(block, form, bytes)| match form {
            Form::Plain => None,
            Form::Zstd => Some((block, Some(bytes))),
            Form::Stored => Some((block, None)),
        };
        self.index.of(locator).into_iter().filter_map(known).collect()
    }

    fn find(&self, key: &BlockKey, form: Form) -> Option<Bytes> {
        self.blocks.get(&(*key, form)).map(|held| held.bytes.clone())
    }

    pub(crate) fn holds(&self, key: &BlockKey) -> bool {
        self.blocks.contains_key(&(*key, Form::Plain))
    }

    pub(crate) fn holds_frame(&self, key: &BlockKey) -> bool {
        self.blocks.contains_key(&(*key, Form::Zstd))
    }

    /// Keeps a block, unless its object was forgotten since the read `begun` that brings it.
    pub(crate) fn insert(&self, key: BlockKey, block: Bytes, begun: Instant) {
        self.enter(key, Form::Plain, block, begun);
    }

    /// Keeps what compressing a block came to, unless its object was forgotten since `begun`, when the block was not
    /// had yet.
    pub(crate) fn insert_packed(&self, key: BlockKey, packed: Packed, begun: Instant) {
        match packed {
            Packed::Frame(frame) => self.enter(key, Form::Zstd, frame, begun),
            Packed::Stored => self.enter(key, Form::Stored, Bytes::new(), begun),
        }
    }

    fn enter(&self, key: BlockKey, form: Form, bytes: Bytes, begun: Instant) {
        // In the index before it is in the cache, or whoever forgets the object between the two would not find it.
        let entered = self.index.enter(key.locator, (key.block, form, bytes.len()));
        self.blocks.insert((key, form), Arc::new(Held { bytes, _entered: entered }));
        // Now, because whoever forgets the object after this finds the block.
        if self.forgotten.may_hold_for(&key.locator, begun) {
            self.blocks.remove(&(key, form));
        }
    }

    /// Whether blocks of an object were forgotten at a moment or after it.
    pub(crate) fn was_forgotten(&self, locator: &Locator, since: Instant) -> bool {
        self.forgotten.since(locator, since)
    }

    /// Forgets one block, in every form, and returns it.
    pub(crate) fn remove(&self, key: &BlockKey) -> Option<Bytes> {
        for form in [Form::Zstd, Form::Stored] {
            self.blocks.invalidate(&(*key, form));
        }
        self.blocks.remove(&(*key, Form::Plain)).map(|held| held.bytes.clone())
    }

    /// Forgets all blocks of an object.
    pub(crate) fn forget(&self, locator: &Locator) {
        self.forgotten.note(*locator);
        for (block, form, _) in self.index.of(locator) {
            self.blocks.invalidate(&(BlockKey { locator: *locator, block }, form));
        }
    }

    /// Returns the bytes held, as of the last housekeeping.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::forgotten::FORGOTTEN_TIME;

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
        cache.forget(&Locator([1; 32]));
        assert!((0..3).all(|block| cache.get(&key(1, block)).is_none() && cache.get(&key(2, block)).is_some()));
        // A read that was under way then brings nothing back; one that begins later does.
        cache.insert(key(1, 7), Bytes::from_static(b"late"), begun);
        assert!(cache.get(&key(1, 7)).is_none());
        cache.insert(key(1, 7), Bytes::from_static(b"new"), Instant::now() + Duration::from_nanos(1));
        assert!(cache.get(&key(1, 7)).is_some());
    }

    #[test]
    fn a_frame_lies_beside_its_block_and_is_forgotten_with_it() {
        let (cache, begun) = (BlockCache::new(1 << 20), Instant::now());
        let both = |key: &BlockKey| (cache.get(key), cache.frame(key));
        let (block, frame) = (Bytes::from_static(b"block"), Bytes::from_static(b"frame"));
        for locator in [1, 2] {
            cache.insert_packed(key(locator, 0), Packed::Frame(frame.clone()), begun);
            assert!(!cache.holds(&key(locator, 0)), "a frame is no block");
            cache.insert(key(locator, 0), block.clone(), begun);
            assert_eq!(both(&key(locator, 0)), (Some(block.clone()), Some(frame.clone())));
        }
        cache.forget(&Locator([1; 32]));
        assert_eq!(both(&key(1, 0)), (None, None));
        cache.insert_packed(key(1, 0), Packed::Frame(frame.clone()), begun);
        assert_eq!(both(&key(1, 0)), (None, None), "a read that was under way brings nothing back");
        assert_eq!(cache.remove(&key(2, 0)), Some(block));
        assert_eq!(both(&key(2, 0)), (None, None));
    }

    #[test]
    fn what_came_to_nothing_is_known_and_told_apart_from_a_frame() {
        let (cache, begun) = (BlockCache::new(1 << 20), Instant::now());
        cache.insert_packed(key(1, 0), Packed::Frame(Bytes::from_static(b"frame")), begun);
        cache.insert_packed(key(1, 1), Packed::Stored, begun);
        cache.insert(key(1, 2), Bytes::from_static(b"block"), begun);
        let known = [(BlockIndex(0), Some(5)), (BlockIndex(1), None)];
        assert_eq!(cache.frames(&Locator([1; 32])), HashMap::from(known));
        assert_eq!([0, 1, 2].map(|block| cache.holds_frame(&key(1, block))), [true, false, false]);
        assert_eq!((cache.packed(&key(1, 1)), cache.packed(&key(1, 2))), (Some(Packed::Stored), None));
        assert_eq!(cache.remove(&key(1, 1)), None);
        assert_eq!(cache.packed(&key(1, 1)), None, "it is forgotten, too");
    }

    #[test]
    fn what_was_read_longer_ago_than_is_known_what_was_forgotten_is_not_kept() {
        let cache = BlockCache::new(1 << 20);
        // As if the note of what was forgotten had lapsed since.
        for (block, ago, is_kept) in [(0, FORGOTTEN_TIME, false), (1, FORGOTTEN_TIME / 2, true)] {
            let begun = Instant::now().checked_sub(ago).expect("the machine is up for a minute");
            cache.insert_packed(key(1, block), Packed::Frame(Bytes::from_static(b"frame")), begun);
            assert_eq!(cache.frame(&key(1, block)).is_some(), is_kept);
        }
    }

    #[tokio::test]
    async fn the_index_knows_what_is_held_and_lets_go_of_the_rest() {
        let (cache, begun) = (BlockCache::new(100_000), Instant::now());
        let of = |locator: u8| cache.index.of(&Locator([locator; 32])).len();
        for round in 0..3 {
            for block in 0..5 {
                cache.insert(key(1, block), Bytes::from(vec![round; 1000]), begun);
                cache.insert(key(2, block), Bytes::from(vec![round; 1000]), begun);
            }
        }
        assert_eq!((of(1), of(2)), (5, 5), "what took another's place is no second one");
        assert_eq!(cache.remove(&key(1, 0)).map(|block| block.len()), Some(1000));
        cache.forget(&Locator([2; 32]));
        for _ in 0..1000 {
            cache.forget(&Locator([3; 32]));
        }
        // moka drops what it lets go of a little later.
        testing::until("it is let go of", async || {
            cache.blocks.run_pending_tasks();
            (of(1), of(2), of(3)) == (4, 0, 0)
        })
        .await;
        // What is driven out leaves the index, too.
        for block in 100..1000 {
            cache.insert(key(4, block), Bytes::from(vec![0; 10_000]), begun);
        }
        testing::until("it is driven out", async || {
            cache.blocks.run_pending_tasks();
            of(4) < 10
        })
        .await;
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
