//! An index of what is held: of each owner its records, of each object its blocks. What somebody orders for one of them
//! costs as much as is held of that one, and where nothing is, a look.
//!
//! Keeps true: what is held stands in the index for as long as its entry lives, which lies beside it; it may stand
//! there a moment longer, as caches drop what they let go of behind their callers.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Lines<K, M> = HashMap<K, HashMap<M, u32>>;

/// For each key its members, each as often as it was entered.
#[derive(Debug)]
pub(crate) struct Index<K, M>(Mutex<Lines<K, M>>);

/// What keeps a member in the index until it is dropped.
#[derive(Debug)]
pub(crate) struct Entered<K: Eq + Hash + Copy, M: Eq + Hash + Copy> {
    index: Arc<Index<K, M>>,
    key: K,
    member: M,
}

impl<K: Eq + Hash + Copy, M: Eq + Hash + Copy> Index<K, M> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Enters a member of a key.
    pub(crate) fn enter(self: &Arc<Self>, key: K, member: M) -> Entered<K, M> {
        *self.lines().entry(key).or_default().entry(member).or_default() += 1;
        Entered { index: Arc::clone(self), key, member }
    }

    /// Returns the members of a key.
    pub(crate) fn of(&self, key: &K) -> Vec<M> {
        self.lines().get(key).into_iter().flat_map(HashMap::keys).copied().collect()
    }

    fn lines(&self) -> MutexGuard<'_, Lines<K, M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Copy, M: Eq + Hash + Copy> Drop for Entered<K, M> {
    fn drop(&mut self) {
        let mut lines = self.index.lines();
        let Some(members) = lines.get_mut(&self.key) else { return };
        if let Some(count) = members.get_mut(&self.member) {
            *count -= 1;
            if *count == 0 {
                members.remove(&self.member);
            }
        }
        if members.is_empty() {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_stands_there_until_all_its_entries_are_gone() {
        let index = Index::new();
        let (one, again, other) = (index.enter(1, 'a'), index.enter(1, 'a'), index.enter(2, 'b'));
        drop(one);
        assert_eq!((index.of(&1), index.of(&2), index.of(&3)), (vec!['a'], vec!['b'], vec![]));
        drop((again, other));
        assert!(index.of(&1).is_empty() && index.lines().is_empty(), "nothing is left of them");
    }
}
