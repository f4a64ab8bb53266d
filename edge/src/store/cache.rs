//! Decoded blocks in memory, and zstd frames of some beside them, weighed in bytes. The key is (locator, block) in one
//! of two forms: no query string, header or host spelling makes another entry. Plaintext lives here and nowhere else on
//! an edge.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use format::{BlockIndex, Locator};
use moka::sync::Cache;

use super::{
    index::{Entered, Index},
    presence::{Claim, Presence},
};

/// What an entry costs beside its bytes: key, pointers and moka's own lists, as measured by its authors, its line in
/// the index, and its object's presence where there is no other entry of it.
const ENTRY_BYTES: usize = 192 + 128 + 256;

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
}

/// A block in the cache.
struct Held {
    bytes: Bytes,
    _entered: Entered<Locator, Line>,
    /// The record may leave before it.
    _presence: Arc<Presence>,
}

impl BlockCache {
    /// Holds up to `bytes_max` bytes; what is used often stays (`TinyLFU`).
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |_: &_, held: &Arc<Held>| u32::try_from(held.bytes.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self { blocks: Cache::builder().max_capacity(bytes_max).weigher(weigh).build(), index: Index::new() }
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

    /// Keeps a block, unless its object was forgotten since the `claim` by which it was read.
    pub(crate) fn insert(&self, key: BlockKey, block: Bytes, claim: &Claim) {
        self.enter(key, Form::Plain, block, claim);
    }

    /// The same for what compressing a block came to.
    pub(crate) fn insert_packed(&self, key: BlockKey, packed: Packed, claim: &Claim) {
        match packed {
            Packed::Frame(frame) => self.enter(key, Form::Zstd, frame, claim),
            Packed::Stored => self.enter(key, Form::Stored, Bytes::new(), claim),
        }
    }

    fn enter(&self, key: BlockKey, form: Form, bytes: Bytes, claim: &Claim) {
        // In the index before it is in the cache, or whoever forgets the object between the two would not find it.
        let entered = self.index.enter(key.locator, (key.block, form, bytes.len()));
        let held = Held { bytes, _entered: entered, _presence: claim.presence() };
        self.blocks.insert((key, form), Arc::new(held));
        // Now, because whoever forgets the object after this finds the block.
        if claim.is_forgotten() {
            self.blocks.remove(&(key, form));
        }
    }

    /// Forgets one block, in every form, and returns it.
    pub(crate) fn remove(&self, key: &BlockKey) -> Option<Bytes> {
        for form in [Form::Zstd, Form::Stored] {
            self.blocks.invalidate(&(*key, form));
        }
        self.blocks.remove(&(*key, Form::Plain)).map(|held| held.bytes.clone())
    }

    /// Forgets all blocks of an object. Those that are being read know by their claim.
    pub(crate) fn forget(&self, locator: &Locator) {
        for (block, form, _) in self.index.of(locator) {
            self.blocks.invalidate(&(BlockKey { locator: *locator, block }, form));
        }
    }

    /// Lets go of what has no room.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.blocks.run_pending_tasks();
    }

    /// Returns the bytes held, as of the last housekeeping.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::presence::Presences;

    /// A cache, and a claim for each of the objects 0 to 4.
    fn scene(bytes_max: u64) -> (BlockCache, Arc<Presences>, Vec<Claim>) {
        let presences = Presences::new();
        let claims = (0..5).map(|locator| presences.claim(Locator([locator; 32]))).collect();
        (BlockCache::new(bytes_max), presences, claims)
    }

    fn key(locator: u8, block: u64) -> BlockKey {
        BlockKey { locator: Locator([locator; 32]), block: BlockIndex(block) }
    }

    #[test]
    fn an_erased_object_is_forgotten_and_no_other() {
        let (cache, presences, claims) = scene(1 << 20);
        for locator in [1, 2] {
            for block in 0..3 {
                cache.insert(key(locator, block), Bytes::from_static(b"block"), &claims[usize::from(locator)]);
            }
        }
        presences.forget(&Locator([1; 32]));
        cache.forget(&Locator([1; 32]));
        assert!((0..3).all(|block| cache.get(&key(1, block)).is_none() && cache.get(&key(2, block)).is_some()));
        // Whoever opened it before brings nothing back, however late; whoever opens it later does.
        cache.insert(key(1, 7), Bytes::from_static(b"late"), &claims[1]);
        assert!(cache.get(&key(1, 7)).is_none());
        cache.insert(key(1, 7), Bytes::from_static(b"new"), &presences.claim(Locator([1; 32])));
        assert!(cache.get(&key(1, 7)).is_some());
    }

    #[test]
    fn a_frame_lies_beside_its_block_and_is_forgotten_with_it() {
        let (cache, presences, claims) = scene(1 << 20);
        let both = |key: &BlockKey| (cache.get(key), cache.frame(key));
        let (block, frame) = (Bytes::from_static(b"block"), Bytes::from_static(b"frame"));
        for locator in [1, 2] {
            let claim = &claims[usize::from(locator)];
            cache.insert_packed(key(locator, 0), Packed::Frame(frame.clone()), claim);
            assert!(!cache.holds(&key(locator, 0)), "a frame is no block");
            cache.insert(key(locator, 0), block.clone(), claim);
            assert_eq!(both(&key(locator, 0)), (Some(block.clone()), Some(frame.clone())));
        }
        presences.forget(&Locator([1; 32]));
        cache.forget(&Locator([1; 32]));
        assert_eq!(both(&key(1, 0)), (None, None));
        cache.insert_packed(key(1, 0), Packed::Frame(frame.clone()), &claims[1]);
        assert_eq!(both(&key(1, 0)), (None, None), "a read that was under way brings nothing back");
        assert_eq!(cache.remove(&key(2, 0)), Some(block));
        assert_eq!(both(&key(2, 0)), (None, None));
    }

    #[test]
    fn what_came_to_nothing_is_known_and_told_apart_from_a_frame() {
        let (cache, _, claims) = scene(1 << 20);
        cache.insert_packed(key(1, 0), Packed::Frame(Bytes::from_static(b"frame")), &claims[1]);
        cache.insert_packed(key(1, 1), Packed::Stored, &claims[1]);
        cache.insert(key(1, 2), Bytes::from_static(b"block"), &claims[1]);
        let known = [(BlockIndex(0), Some(5)), (BlockIndex(1), None)];
        assert_eq!(cache.frames(&Locator([1; 32])), HashMap::from(known));
        assert_eq!([0, 1, 2].map(|block| cache.holds_frame(&key(1, block))), [true, false, false]);
        assert_eq!((cache.packed(&key(1, 1)), cache.packed(&key(1, 2))), (Some(Packed::Stored), None));
        assert_eq!(cache.remove(&key(1, 1)), None);
        assert_eq!(cache.packed(&key(1, 1)), None, "it is forgotten, too");
    }

    #[tokio::test]
    async fn the_index_knows_what_is_held_and_lets_go_of_the_rest() {
        let (cache, _, claims) = scene(100_000);
        let of = |locator: u8| cache.index.of(&Locator([locator; 32])).len();
        for round in 0..3 {
            for block in 0..5 {
                cache.insert(key(1, block), Bytes::from(vec![round; 1000]), &claims[1]);
                cache.insert(key(2, block), Bytes::from(vec![round; 1000]), &claims[2]);
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
            cache.insert(key(4, block), Bytes::from(vec![0; 10_000]), &claims[4]);
        }
        testing::until("it is driven out", async || {
            cache.blocks.run_pending_tasks();
            of(4) < 10
        })
        .await;
    }

    #[test]
    fn bytes_are_bounded() {
        let (cache, _, claims) = scene(100_000);
        for block in 0..100 {
            cache.insert(key(1, block), Bytes::from(vec![0; 10_000]), &claims[1]);
        }
        cache.blocks.run_pending_tasks();
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
    }
}
