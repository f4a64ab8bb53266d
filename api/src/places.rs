//! Places that uploads take turns at: for encoders, for CARs that are received, and for policies that are checked. A
//! free place goes to the token that holds the fewest, of those alike to another than had it. So whoever sends many
//! uploads waits behind whoever sends one. While somebody waits, the pace that is asked of those who hold a place
//! grows.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::token::TokenId;

/// The pace grows by this at most while others wait, and by twice as much for a token with more than its share.
const STRAIN_MAX: u32 = 8;

/// Places of one kind.
#[derive(Debug)]
pub(crate) struct Places(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    held: HashMap<TokenId, usize>,
    waiting: VecDeque<(TokenId, oneshot::Sender<Place>)>,
}

/// A place, given to the next on drop.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    token: TokenId,
}

/// The place that a body holds while it comes, shared with whoever reads the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Option<Place>>>);

impl Held {
    /// Holds a place, or gives it on.
    pub(crate) fn set(&self, place: Option<Place>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// As [`Place::strain`]; 1 without a place.
    pub(crate) fn strain(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(1, Place::strain)
    }
}

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner { max, held: HashMap::new(), waiting: VecDeque::new() })))
    }

    /// Waits for a place, as long as `wait`; none when there was none. Cancel safe.
    pub(crate) async fn take(self: &Arc<Self>, token: TokenId, wait: Duration) -> Option<Place> {
        let told = {
            let mut inner = self.inner();
            if inner.taken() < inner.max {
                inner.hold(token);
                return Some(Place { places: self.clone(), token });
            }
            let (tell, told) = oneshot::channel();
            inner.waiting.retain(|(_, tell)| !tell.is_closed());
            inner.waiting.push_back((token, tell));
            told
        };
        timeout(wait, told).await.ok()?.ok()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn taken(&self) -> usize {
        self.held.values().sum()
    }

    fn hold(&mut self, token: TokenId) {
        *self.held.entry(token).or_default() += 1;
    }

    fn free(&mut self, token: TokenId) {
        let left = self.held.get(&token).map_or(0, |held| held.saturating_sub(1));
        if left == 0 {
            self.held.remove(&token);
        } else {
            self.held.insert(token, left);
        }
    }

    /// Returns whoever is next after a token: of those whose tokens hold the fewest places, the first that came by
    /// another.
    fn next(&mut self, after: TokenId) -> Option<(TokenId, oneshot::Sender<Place>)> {
        self.waiting.retain(|(_, tell)| !tell.is_closed());
        let rank = |token: TokenId| (self.held.get(&token).copied().unwrap_or(0), token == after);
        let at = (0..self.waiting.len()).min_by_key(|at| rank(self.waiting[*at].0))?;
        let next = self.waiting.remove(at)?;
        self.hold(next.0);
        Some(next)
    }
}

impl Place {
    /// Returns by how much the pace of its holder has to be more than the least: 1 while nobody else waits.
    fn strain(&self) -> u32 {
        let inner = self.places.inner();
        let waiting = || inner.waiting.iter().filter(|(_, tell)| !tell.is_closed()).map(|(token, _)| *token);
        let others = waiting().filter(|token| *token != self.token).count();
        if others == 0 {
            return 1;
        }
        let grown = u32::try_from(others + 1).unwrap_or(u32::MAX).min(STRAIN_MAX);
        let newcomers: std::collections::BTreeSet<_> = waiting().filter(|it| !inner.held.contains_key(it)).collect();
        let share = inner.max.div_ceil(inner.held.len() + newcomers.len());
        if inner.held.get(&self.token).is_some_and(|held| *held > share) { 2 * STRAIN_MAX } else { grown }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut inner = self.places.inner();
            inner.free(self.token);
            inner.next(self.token)
        };
        if let Some((token, tell)) = next {
            // One that stopped waiting just now gives the place on by dropping it.
            let _ = tell.send(Self { places: self.places.clone(), token });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const ONE: TokenId = TokenId([1; 8]);
    const OTHER: TokenId = TokenId([2; 8]);

    #[tokio::test(start_paused = true)]
    async fn a_free_place_goes_to_the_token_that_holds_the_fewest_and_one_alone_has_all() {
        let places = Places::new(2);
        let (first, second) = (places.take(ONE, MINUTE).await.unwrap(), places.take(ONE, MINUTE).await.unwrap());
        assert_eq!(first.strain(), 1);
        assert!(places.take(ONE, MINUTE).await.is_none(), "nobody waits longer than told");
        let waiting = |token| {
            tokio::spawn({
                let places = places.clone();
                async move { places.take(token, MINUTE).await.unwrap() }
            })
        };
        let (third, other) = (waiting(ONE), waiting(OTHER));
        tokio::task::yield_now().await;
        assert_eq!(first.strain(), 2 * STRAIN_MAX, "it holds all of two, and its share is one");
        drop(first);
        let other = other.await.unwrap();
        assert!(!third.is_finished());
        assert_eq!((second.strain(), other.strain()), (1, 2), "each has its share, and one of the first waits");
        drop((second, other));
        assert_eq!(third.await.unwrap().strain(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_take_turns_at_a_place_of_which_there_is_one() {
        let places = Places::new(1);
        let first = places.take(ONE, MINUTE).await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = [ONE, ONE, OTHER, OTHER]
            .map(|token| {
                let (places, served) = (places.clone(), served.clone());
                tokio::spawn(async move {
                    let _place = places.take(token, MINUTE).await.unwrap();
                    served.lock().unwrap().push(token);
                })
            })
            .into();
        tokio::task::yield_now().await;
        drop(first);
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), [OTHER, ONE, OTHER, ONE]);
    }

    #[tokio::test]
    async fn who_stopped_waiting_keeps_no_place_from_others() {
        let places = Places::new(1);
        let held = places.take(ONE, MINUTE).await.unwrap();
        for _ in 0..1000 {
            assert!(places.take(OTHER, Duration::ZERO).await.is_none());
        }
        assert!(places.inner().waiting.len() <= 1);
        drop(held);
        assert!(places.take(OTHER, Duration::ZERO).await.is_some());
    }
}
