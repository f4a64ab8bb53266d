//! Strips that an edge keeps in memory for the other edges of its region, as encrypted as origins have them.
//!
//! Keeps true: what was kept here of an owner when it purged something is not given from here after that, nor is what
//! an origin was asked for by then, also where a later question joins that call. An order names an object by its
//! locator, a strip names it by its id, and what has both is a record at the origins, which may be late or gone: so of
//! an owner who purges one object all strips go. They are had again, once for the region.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::ShardAsk;
use format::OwnerId;
use moka::sync::Cache;

use super::{
    forgotten::Forgotten,
    index::{Entered, Index},
};

/// A strip is kept for so long at most. What its owner erases meanwhile nobody opens any more.
const KEPT_TIME: Duration = Duration::from_secs(600);
/// What an entry costs beside its bytes, its line in the index included.
const ENTRY_BYTES: usize = 384;

/// The strips kept.
pub(super) struct Strips {
    kept: Cache<ShardAsk, Arc<Kept>>,
    /// Of each owner what is kept.
    index: Arc<Index<OwnerId, ShardAsk>>,
    /// The owners who purged something lately.
    forgotten: Forgotten<OwnerId>,
}

struct Kept {
    strip: Bytes,
    _entered: Entered<OwnerId, ShardAsk>,
}

impl Strips {
    /// Keeps up to so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let weigh = |_: &ShardAsk, kept: &Arc<Kept>| u32::try_from(kept.strip.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(bytes_max).weigher(weigh).time_to_live(KEPT_TIME).build();
        Self { kept, index: Index::new(), forgotten: Forgotten::new() }
    }

    pub(super) fn holds(&self, ask: &ShardAsk) -> bool {
        self.kept.contains_key(ask)
    }

    pub(super) fn get(&self, ask: &ShardAsk) -> Option<Bytes> {
        self.kept.get(ask).map(|kept| kept.strip.clone())
    }

    /// Keeps a strip of an owner's, unless the owner purged something since `begun`, when its origin was asked for it.
    pub(super) fn insert(&self, owner: OwnerId, ask: ShardAsk, strip: Bytes, begun: Instant) {
        // In the index before it is kept, or whoever forgets the owner's between the two would not find it.
        let entered = self.index.enter(owner, ask);
        self.kept.insert(ask, Arc::new(Kept { strip, _entered: entered }));
        if self.forgotten.may_hold_for(&owner, begun) {
            self.kept.invalidate(&ask);
        }
    }

    /// Forgets a strip that was wrong.
    pub(super) fn remove(&self, ask: &ShardAsk) {
        self.kept.invalidate(ask);
    }

    /// Forgets all strips of an owner.
    pub(super) fn forget(&self, owner: &OwnerId) {
        self.forgotten.note(*owner);
        for ask in self.index.of(owner) {
            self.kept.invalidate(&ask);
        }
    }
}

#[cfg(test)]
mod tests {
    use format::ObjectId;

    use super::*;

    #[test]
    fn an_owners_strips_are_forgotten_those_under_way_too_and_no_others() {
        let (strips, begun) = (Strips::new(1 << 20), Instant::now());
        let [one, two] = [1, 2].map(|byte| OwnerId([byte; 32]));
        let ask = |object: u8, column| ShardAsk { object: ObjectId([object; 32]), column, first: 0, count: 1 };
        let keep = |owner, ask, begun| strips.insert(owner, ask, Bytes::from_static(b"strip"), begun);
        for column in 0..3 {
            keep(one, ask(1, column), begun);
            keep(two, ask(2, column), begun);
        }
        strips.forget(&one);
        assert!((0..3).all(|column| !strips.holds(&ask(1, column)) && strips.get(&ask(2, column)).is_some()));
        keep(one, ask(1, 7), begun);
        assert_eq!(strips.get(&ask(1, 7)), None, "a read that was under way brings nothing back");
        keep(one, ask(1, 7), Instant::now() + Duration::from_nanos(1));
        assert!(strips.holds(&ask(1, 7)), "one that begins later does");
        strips.remove(&ask(1, 7));
        assert!(!strips.holds(&ask(1, 7)));
    }
}
