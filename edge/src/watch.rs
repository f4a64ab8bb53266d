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
    held: HashMap<Locator, (OwnerId, Watch)>,
    /// When those that nobody holds any more were last looked for.
    swept: Instant,
}

impl Watches {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { held: HashMap::new(), swept: Instant::now() }))
    }

    /// Begins to watch a record, or joins who does; none where too many are watched.
    pub(crate) fn begin(&self, locator: Locator, owner: OwnerId) -> Option<Watch> {
        let mut state = self.state();
        if state.held.len() >= WATCHES_MAX && state.swept.elapsed() >= SWEPT {
            state.swept = Instant::now();
            state.held.retain(|_, (_, watch)| Arc::strong_count(&watch.0) > 1);
        }
        if state.held.len() >= WATCHES_MAX && !state.held.contains_key(&locator) {
            return None;
        }
        Some(state.held.entry(locator).or_insert_with(|| (owner, Watch::default())).1.clone())
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
        self.state().held.iter().filter(|(_, (of, _))| of == owner).map(|(locator, _)| *locator).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
