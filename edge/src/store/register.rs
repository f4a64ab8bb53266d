//! The locators that the change feed told of. Whoever makes labels up makes good ones, for their check has no secret;
//! by this an edge tells them from those that somebody stored, and asks nobody much about them.
//!
//! Keeps true: it says that a locator was never told of only while it has read the feed from its first change to its
//! last. Even then the object may be new, or the origin that tells may leave it out: such a locator is still looked up,
//! but by few at a time.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use format::Locator;

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

/// All that the change feed told of.
#[derive(Debug, Default)]
pub(crate) struct Register(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    /// The first bytes of each: locators are hashes, and a wrong hit costs a look-up.
    locators: HashSet<[u8; FIRST_BYTES]>,
    /// Whether the feed was read from its first change on, without a gap.
    is_whole: bool,
    /// When there was nothing more to read; none before the first time.
    heard: Option<Instant>,
}

impl Register {
    /// The feed is read from its beginning.
    pub(crate) fn begin(&self) {
        self.change(|state| (state.is_whole, state.heard) = (true, None));
    }

    /// The feed does not go on where it was read to. What it told of stays away until it is read from its beginning.
    pub(crate) fn lose(&self) {
        self.change(|state| *state = State::default());
    }

    /// The feed told of a locator.
    pub(crate) fn add(&self, locator: &Locator) {
        let Some(first) = locator.as_bytes().first_chunk::<FIRST_BYTES>() else { return };
        self.change(|state| {
            if state.is_whole && state.locators.len() >= LOCATORS_MAX {
                tracing::info!("there are more objects than the register of their locators takes");
                *state = State::default();
            }
            if state.is_whole {
                state.locators.insert(*first);
            }
        });
    }

    /// There was nothing more to read at a moment.
    pub(crate) fn heard(&self, now: Instant) {
        self.change(|state| state.heard = Some(now));
    }

    /// Returns what the feed says of a locator.
    pub(crate) fn standing(&self, locator: &Locator, now: Instant) -> Standing {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_current = state.heard.is_some_and(|heard| now.saturating_duration_since(heard) < HEARD_TIME);
        match locator.as_bytes().first_chunk::<FIRST_BYTES>() {
            Some(first) if state.is_whole && is_current && !state.locators.contains(first) => Standing::Untold,
            _ => Standing::MayBe,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
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
        register.heard(now);
        assert_eq!(says(now), [Standing::MayBe, Standing::Untold]);
        register.lose();
        register.add(&told);
        register.heard(now);
        assert_eq!(says(now), nothing, "it lost its thread");
    }
}
