//! What was forgotten lately, because its owner said so: a read that began before must not bring it back.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use moka::sync::Cache;

/// What was forgotten is known for so long, which no read takes that began before: of the last so many.
const FORGOTTEN_TIME: Duration = Duration::from_secs(60);
const FORGOTTEN_MAX: u64 = 100_000;

/// When each was last forgotten. Cheap to clone.
#[derive(Clone)]
pub(super) struct Forgotten<K: Eq + Hash>(Cache<K, Instant>);

impl<K: Eq + Hash + Send + Sync + 'static> Forgotten<K> {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(FORGOTTEN_MAX).time_to_live(FORGOTTEN_TIME).build())
    }

    /// Takes note that something is forgotten. To be called before it is, so that what comes meanwhile is either found
    /// by who forgets or sees the note.
    pub(super) fn note(&self, key: K) {
        self.0.insert(key, Instant::now());
    }

    /// Whether what a read brings that began at this moment may have been forgotten since. To be asked once it is held.
    pub(super) fn may_hold_for(&self, key: &K, begun: Instant) -> bool {
        // What took longer than it is known may have been forgotten meanwhile.
        begun.elapsed() >= FORGOTTEN_TIME || self.0.get(key).is_some_and(|at| at >= begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_or_longer_ago_than_is_known_may_have_been_forgotten() {
        let (forgotten, begun) = (Forgotten::new(), Instant::now());
        let ago = |ago| begun.checked_sub(ago).expect("the machine is up for a minute");
        assert!(!forgotten.may_hold_for(&1, ago(FORGOTTEN_TIME / 2)), "nothing was");
        assert!(forgotten.may_hold_for(&1, ago(FORGOTTEN_TIME)), "the note may have lapsed since");
        forgotten.note(1);
        assert!(forgotten.may_hold_for(&1, begun) && !forgotten.may_hold_for(&2, begun));
        assert!(!forgotten.may_hold_for(&1, Instant::now() + Duration::from_nanos(1)));
    }
}
