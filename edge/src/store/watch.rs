//! Watches over records, for whoever keeps answers made of them and is to be told when a record no longer counts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use format::{Locator, OwnerId};

use super::index::{Entered, Index};

/// Records that are watched; each takes some 100 B.
const WATCHES_MAX: usize = 100_000;
/// Between looks for watches that nobody holds any more.
const SWEPT: Duration = Duration::from_secs(1);

/// Tells whether a record is still the one that an answer was made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<AtomicBool>);

impl Watch {
    /// Whether the record no longer counts.
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// All watches, with the owner of each record.
pub(crate) struct Watches(Mutex<State>);

struct State {
    held: HashMap<Locator, (Entered<OwnerId, Locator>, Watch)>,
    of: Arc<Index<OwnerId, Locator>>,
    /// When those that nobody holds any more were last looked for.
    swept: Instant,
}

impl Watches {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { held: HashMap::new(), of: Index::new(), swept: Instant::now() }))
    }

    /// Begins to watch a record, or joins who does; none where too many are watched.
    pub(crate) fn begin(&self, locator: Locator, owner: OwnerId) -> Option<Watch> {
        let mut state = self.state();
        if state.held.len() >= WATCHES_MAX && state.swept.elapsed() >= SWEPT {
            state.swept = Instant::now();
            state.held.retain(|_, (_, watch)| Arc::strong_count(&watch.0) > 1);
        }
        if let Some((_, watch)) = state.held.get(&locator) {
            return Some(watch.clone());
        }
        if state.held.len() >= WATCHES_MAX {
            return None;
        }
        let (entered, watch) = (state.of.enter(owner, locator), Watch::default());
        state.held.insert(locator, (entered, watch.clone()));
        Some(watch)
    }

    /// Ends the watch over a record.
    pub(crate) fn end(&self, locator: &Locator) {
        if let Some((_, watch)) = self.state().held.remove(locator) {
            watch.end();
        }
    }

    /// Ends all watches.
    pub(crate) fn end_all(&self) {
        self.state().held.drain().for_each(|(_, (_, watch))| watch.end());
    }

    /// Returns what of an owner is watched.
    pub(crate) fn of(&self, owner: &OwnerId) -> Vec<Locator> {
        self.state().of.of(owner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_known_by_its_owner_until_it_ends() {
        let watches = Watches::new();
        let (locator, owner) = (|byte: u8| Locator([byte; 32]), |byte: u8| OwnerId([byte; 32]));
        let one = watches.begin(locator(1), owner(1)).unwrap();
        let again = watches.begin(locator(1), owner(2)).unwrap();
        let two = watches.begin(locator(2), owner(1)).unwrap();
        let count = |byte| watches.of(&owner(byte)).len();
        assert_eq!((count(1), count(2)), (2, 0), "who joins is no other");
        watches.end(&locator(1));
        assert!(one.is_over() && again.is_over() && !two.is_over());
        assert_eq!(watches.of(&owner(1)), [locator(2)]);
        watches.end_all();
        assert!(two.is_over() && count(1) == 0);
    }
}
