//! The locators that the change feed told of. Whoever makes labels up makes good ones, for their check has no secret;
//! by this an edge tells them from those that somebody stored, and asks nobody much about them.
//!
//! Keeps true: it says that a locator was never told of only while it has read the feed from its first change to its
//! last, or from some change on and a list of all that was stored before. Even then the object may be new, or the
//! origin that tells may leave it out: such a locator is still looked up, but by few at a time.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use format::Locator;
use tokio::sync::Notify;

/// Locators remembered, in some 70 MiB. Of more nothing is said.
const LOCATORS_MAX: usize = 4_000_000;
/// Bytes of each that are remembered.
const FIRST_BYTES: usize = 8;
/// A feed that was not heard of for so long may have news that did not come.
const HEARD_TIME: Duration = Duration::from_secs(40);

/// What the change feed says of a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It told of it, or not all of it is known.
    MayBe,
    /// It never told of it.
    Untold,
}

/// All that the change feed told of, or that an origin listed.
#[derive(Debug, Default)]
pub(crate) struct Register {
    state: RwLock<State>,
    /// Rings when there is a gap to fill.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The first bytes of each: locators are hashes, and a wrong hit costs a look-up.
    locators: HashSet<[u8; FIRST_BYTES]>,
    known: Known,
    /// How often what is known was begun anew: a list that began before does not count.
    begun: u64,
    /// When there was nothing more to read; none before the first time.
    heard: Option<Instant>,
}

/// How much of all locators is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Known {
    /// There are more than are remembered.
    #[default]
    TooMany,
    /// What was told since the feed began anew. A list of what was stored before is missing.
    Since,
    /// All.
    All,
}

impl Register {
    /// The feed is read from its beginning.
    pub(crate) fn begin(&self) {
        self.change(|state| {
            *state = State { begun: state.begun + 1, known: Known::All, ..State::default() };
        });
    }

    /// The feed does not go on where it was read to. What it told of before stays away until it is listed.
    pub(crate) fn lose(&self) {
        self.change(|state| {
            *state = State { begun: state.begun + 1, known: Known::Since, ..State::default() };
        });
        self.wanted.notify_one();
    }

    /// The feed told of a locator.
    pub(crate) fn add(&self, locator: &Locator) {
        self.change(|state| state.add(locator));
    }

    /// Waits until a list of all locators is missing, and returns what [`Self::fill`] is to be given with it. Cancel
    /// safe.
    pub(crate) async fn gap(&self) -> u64 {
        loop {
            {
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                if state.known == Known::Since {
                    return state.begun;
                }
            }
            self.wanted.notified().await;
        }
    }

    /// Adds a page of the list of all locators. False: it is not missing any more.
    pub(crate) fn fill(&self, gap: u64, locators: &[Locator]) -> bool {
        let mut is_missing = false;
        self.change(|state| {
            is_missing = state.lacks(gap);
            if is_missing {
                locators.iter().for_each(|locator| state.add(locator));
            }
        });
        is_missing
    }

    /// The list came to its end.
    pub(crate) fn filled(&self, gap: u64) {
        self.change(|state| {
            if state.lacks(gap) {
                state.known = Known::All;
            }
        });
    }

    /// There was nothing more to read at a moment.
    pub(crate) fn heard(&self, now: Instant) {
        self.change(|state| state.heard = Some(now));
    }

    /// Returns what the feed says of a locator.
    pub(crate) fn standing(&self, locator: &Locator, now: Instant) -> Standing {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let is_current = state.heard.is_some_and(|heard| now.saturating_duration_since(heard) < HEARD_TIME);
        match locator.as_bytes().first_chunk::<FIRST_BYTES>() {
            Some(first) if state.known == Known::All && is_current && !state.locators.contains(first) => {
                Standing::Untold
            }
            _ => Standing::MayBe,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn lacks(&self, gap: u64) -> bool {
        self.known == Known::Since && self.begun == gap
    }

    fn add(&mut self, locator: &Locator) {
        let Some(first) = locator.as_bytes().first_chunk::<FIRST_BYTES>() else { return };
        if self.known != Known::TooMany && self.locators.len() >= LOCATORS_MAX {
            tracing::info!("there are more objects than the register of their locators takes");
            *self = Self { begun: self.begun, ..Self::default() };
        }
        if self.known != Known::TooMany {
            self.locators.insert(*first);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn only_a_feed_that_was_read_whole_and_lately_says_that_it_never_told() {
        let (register, now) = (Register::default(), Instant::now());
        let [told, untold] = [1, 2].map(|byte| Locator([byte; 32]));
        let says = |at| [&told, &untold].map(|locator| register.standing(locator, at));
        let nothing = [Standing::MayBe; 2];
        assert_eq!(says(now), nothing, "nothing was read");
        register.begin();
        register.add(&told);
        assert_eq!(says(now), nothing, "there may be more to read");
        register.heard(now);
        assert_eq!(says(now), [Standing::MayBe, Standing::Untold]);
        assert_eq!(says(now + HEARD_TIME), nothing, "news may not have come");
        register.heard(now + HEARD_TIME);
        assert_eq!(says(now + HEARD_TIME), [Standing::MayBe, Standing::Untold]);
        register.begin();
        assert_eq!(says(now), nothing, "it is read again");
        register.add(&told);
        register.heard(now);
        assert_eq!(says(now), [Standing::MayBe, Standing::Untold]);
        register.lose();
        register.add(&told);
        register.heard(now);
        assert_eq!(says(now), nothing, "it lost its thread");
    }

    #[tokio::test]
    async fn a_list_of_what_was_stored_before_fills_the_gap_that_it_was_read_for() {
        let (register, now) = (Register::default(), Instant::now());
        let [listed, told, untold] = [1, 2, 3].map(|byte| Locator([byte; 32]));
        let says = || [&listed, &told, &untold].map(|locator| register.standing(locator, now));
        let nothing = [Standing::MayBe; 3];
        register.begin();
        assert!(register.gap().now_or_never().is_none(), "nothing is missing");
        register.lose();
        let before = register.gap().await;
        register.lose();
        let gap = register.gap().await;
        assert!(!register.fill(before, &[untold]), "the feed began anew since");
        register.filled(before);
        register.heard(now);
        assert_eq!(says(), nothing);
        // Told while the list is read.
        register.add(&told);
        assert!(register.fill(gap, &[listed]) && says() == nothing, "there may be more in the list");
        register.filled(gap);
        assert_eq!(says(), [Standing::MayBe, Standing::MayBe, Standing::Untold]);
        assert!(register.gap().now_or_never().is_none());
    }
}
