//! Turns at things that one request at a time may change: an upload in several requests, a DAG of which parts come.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How often whoever waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The things that somebody works on.
#[derive(Debug)]
pub(crate) struct Turns<K>(Mutex<BTreeSet<K>>);

/// The turn to work on a thing, given back on drop.
pub(crate) struct Turn<'t, K: Ord> {
    turns: &'t Turns<K>,
    key: K,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Turns<K> {
    /// Takes the turn, if it is free.
    pub(crate) fn take(&self, key: &K) -> Option<Turn<'_, K>> {
        // Lazily: the end of one that is not given would ask for the lock that is held here.
        self.taken().insert(key.clone()).then(|| Turn { turns: self, key: key.clone() })
    }

    /// Waits for the turn, as long as `wait`. Cancel safe.
    pub(crate) async fn wait(&self, key: &K, wait: Duration) -> Option<Turn<'_, K>> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(turn) = self.take(key) {
                return Some(turn);
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl<K> Turns<K> {
    fn taken(&self) -> MutexGuard<'_, BTreeSet<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        self.turns.taken().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_has_the_turn_and_who_waits_gets_it_in_time_or_not_at_all() {
        let turns = Turns::default();
        let first = turns.take(&1).unwrap();
        assert!(turns.take(&1).is_none() && turns.take(&2).is_some());
        assert!(turns.wait(&1, Duration::from_secs(1)).await.is_none());
        let (second, ()) = tokio::join!(turns.wait(&1, Duration::from_secs(1)), async {
            sleep(Duration::from_millis(500)).await;
            drop(first);
        });
        assert!(second.is_some());
    }
}
