//! The link between a reader and its nodes, where it may be what makes reads slow: that of an owner at home. It limits
//! how many strips are on their way at once, and knows how long a strip takes beside the others.
//!
//! While all strips are slow, no node is at fault. So a node is doubted only when its strip takes longer than those of
//! others took of late. A strip that is late keeps its place until another one comes: while nothing comes, more
//! requests would only share what there is.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Places at first: four strips of 256 KiB come in 17 s at 0.5 Mbit/s, the slowest link of an owner.
const PLACES_AT_FIRST: usize = 4;
/// Most places: 64 MiB of strips, half a second of a link of 1 Gbit/s.
const PLACES_MAX: usize = 256;
/// A strip that came in this time makes room for one more, if all places were taken. The number doubles with each round
/// trip (slow start).
const QUICK: Duration = Duration::from_secs(2);
/// One that took longer than this takes a quarter of the places away. What is on its way then comes within some
/// seconds, so a gap in the network costs no more than that, and a record does not wait behind strips for long.
const SLOW: Duration = Duration::from_secs(4);
/// Times remembered, of the last strips.
const TIMES: usize = 16;
/// Of those, so many may be longer than the one that counts.
const OUTLIERS: usize = 1;
/// A strip or record is doubted after this many times the time of the others.
const DOUBTED_FACTOR: u32 = 2;
/// Before any strip came, the link is unknown, and nothing is doubted for so long.
const UNKNOWN: Duration = Duration::from_millis(500);

/// A link and what is on its way over it.
pub(super) struct Link {
    places: Semaphore,
    state: Mutex<State>,
}

struct State {
    places: usize,
    /// Places that are gone once whoever has them leaves.
    owed: usize,
    times: VecDeque<Duration>,
}

/// A place on the link. It is free again when this is dropped.
pub(super) struct Room<'l> {
    link: &'l Link,
    permit: Option<SemaphorePermit<'l>>,
}

impl Link {
    pub(super) fn new() -> Self {
        let state = State { places: PLACES_AT_FIRST, owed: 0, times: VecDeque::with_capacity(TIMES) };
        Self { places: Semaphore::new(PLACES_AT_FIRST), state: Mutex::new(state) }
    }

    /// Waits for a place. Who came first has it first. Cancel safe.
    pub(super) async fn room(&self) -> Room<'_> {
        let permit = self.places.acquire().await.expect("the places are never closed");
        Room { link: self, permit: Some(permit) }
    }

    /// Notes how long a strip took.
    pub(super) fn arrived(&self, took: Duration) {
        let mut state = self.lock();
        if state.times.len() == TIMES {
            state.times.pop_front();
        }
        state.times.push_back(took);
        if took > SLOW {
            let before = state.places;
            let fewer = (before / 4).max(1).min(before - 1);
            state.places -= fewer;
            state.owed += fewer - self.places.forget_permits(fewer);
            // Fewer share the link, so each takes less time from now on.
            let [now, before] = [before - fewer, before].map(|places| u32::try_from(places).unwrap_or(u32::MAX));
            state.times.iter_mut().for_each(|time| *time = *time * now / before);
        } else if took <= QUICK && self.places.available_permits() == 0 && state.places < PLACES_MAX {
            state.places += 1;
            match state.owed.checked_sub(1) {
                Some(owed) => state.owed = owed,
                None => self.places.add_permits(1),
            }
        }
    }

    /// Returns the time after which a strip or record that has not come may be its node's fault.
    pub(super) fn doubted_after(&self) -> Duration {
        let mut times: Vec<_> = self.lock().times.iter().copied().collect();
        times.sort_unstable();
        match times.len().checked_sub(1) {
            Some(slowest) => times[slowest.saturating_sub(OUTLIERS)] * DOUBTED_FACTOR,
            None => UNKNOWN,
        }
    }

    /// Returns whether any strip has come.
    pub(super) fn is_known(&self) -> bool {
        !self.lock().times.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if let Some(owed) = state.owed.checked_sub(1)
            && let Some(permit) = self.permit.take()
        {
            state.owed = owed;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Takes all the room there is.
    fn fill(link: &Link) -> Vec<Room<'_>> {
        std::iter::from_fn(|| link.room().now_or_never()).collect()
    }

    #[test]
    fn a_quick_link_has_more_room_with_each_strip_up_to_a_bound_and_an_idle_one_has_not() {
        let link = Link::new();
        link.arrived(Duration::from_millis(9));
        assert_eq!(fill(&link).len(), PLACES_AT_FIRST, "nobody waited");
        for _ in 0..2 * PLACES_MAX {
            let all = fill(&link);
            link.arrived(Duration::from_millis(9));
            drop(all);
        }
        assert_eq!(fill(&link).len(), PLACES_MAX);
    }

    #[test]
    fn a_slow_link_keeps_one_place_and_has_more_again_when_it_is_quick() {
        let link = Link::new();
        let under_way = fill(&link);
        link.arrived(seconds(16));
        assert_eq!(link.doubted_after(), seconds(24), "three share what four did");
        (0..20).for_each(|_| link.arrived(seconds(30)));
        assert!(link.room().now_or_never().is_none());
        drop(under_way);
        let all = fill(&link);
        assert_eq!(all.len(), 1);
        link.arrived(seconds(3));
        drop(all);
        let all = fill(&link);
        assert_eq!(all.len(), 1, "neither quick nor slow");
        link.arrived(seconds(1));
        drop(all);
        assert_eq!(fill(&link).len(), 2);
        assert_eq!(fill(&link).len(), 2, "places come back");
    }

    #[test]
    fn a_strip_is_doubted_when_it_takes_longer_than_others_took_of_late() {
        let link = Link::new();
        assert!(!link.is_known());
        assert_eq!(link.doubted_after(), UNKNOWN);
        (0..3).for_each(|_| link.arrived(seconds(3)));
        assert!(link.is_known());
        assert_eq!(link.doubted_after(), seconds(6));
        (0..TIMES - 1).for_each(|_| link.arrived(Duration::from_millis(7)));
        assert_eq!(link.doubted_after(), Duration::from_millis(14), "one slow strip of sixteen is an outlier");
    }
}
