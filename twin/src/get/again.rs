//! Reads that fail because of the network are made again, for as long as it may come back, and go on with what came.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ReadError, ShardAsk, Shelf};
use tokio::time::{Instant, sleep};

/// How long a read is made again while nothing comes, as `put` files a record again: a network or a node that is back
/// within a minute ends nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);
/// The first pause before a read is made again. Each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The tries of one read.
pub(super) struct Tries {
    patience: Duration,
    /// Since when they fail, and what had come by then.
    failing: Option<(Instant, usize)>,
    pause: Duration,
}

impl Tries {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, failing: None, pause: PAUSE_MIN }
    }

    /// Waits after a try that failed, until the next is to be made. `came` counts what has come in all tries.
    ///
    /// # Errors
    /// That of the try, when it is no passing one, or when nothing came for as long as there is patience.
    pub(super) async fn failed(&mut self, error: ReadError, came: usize) -> Result<(), ReadError> {
        let since = match self.failing {
            Some((since, before)) if before == came => since,
            _ => {
                let now = Instant::now();
                (self.failing, self.pause) = (Some((now, came)), PAUSE_MIN);
                now
            }
        };
        if !is_passing(&error) || since.elapsed() + self.pause > self.patience {
            return Err(error);
        }
        tracing::debug!(%error, pause = ?self.pause, "a read is made again");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// Whether a read may succeed a little later.
fn is_passing(error: &ReadError) -> bool {
    match error {
        ReadError::Unavailable { .. } | ReadError::TooSlow { .. } => true,
        ReadError::Lost { have, need, silent, .. } => have + silent >= *need,
        ReadError::NotFound { .. }
        | ReadError::Old { .. }
        | ReadError::Open(_)
        | ReadError::Decode(_)
        | ReadError::Ending { .. } => false,
    }
}

/// The strips of one stripe that came in an earlier try.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<ShardAsk, Bytes>>);

impl Kept {
    /// Returns how many strips there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().values().map(|body| body.len() as u64).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ShardAsk, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Shelf for Kept {
    fn holds(&self, ask: &ShardAsk) -> bool {
        self.lock().contains_key(ask)
    }

    async fn get(&self, ask: &ShardAsk) -> Option<Bytes> {
        self.lock().get(ask).cloned()
    }

    fn offer(&self, ask: &ShardAsk, body: &Bytes, _: std::time::Instant) {
        self.lock().insert(*ask, body.clone());
    }

    fn wrong(&self, ask: &ShardAsk) {
        self.lock().remove(ask);
    }
}

#[cfg(test)]
mod tests {
    use format::{Locator, StripeIndex};

    use super::*;

    fn lost(silent: usize) -> ReadError {
        ReadError::Lost { stripe: StripeIndex(0), have: 2, need: 4, silent }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_made_again_while_something_comes_and_for_a_while_after() {
        let (began, mut tries) = (Instant::now(), Tries::new(PATIENCE));
        let mut count = 0;
        while tries.failed(lost(2), count.min(30)).await.is_ok() {
            count += 1;
        }
        assert!(count > 35, "{count}");
        // Each of the first thirty brought something, so each pause after them was the shortest.
        let (least, most) = (PAUSE_MIN * 30 + PATIENCE - PAUSE_MAX, PAUSE_MIN * 30 + PATIENCE);
        assert!((least..=most).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_time_does_not_mend_is_told_at_once_and_what_it_may_mend_is_tried_again() {
        let began = Instant::now();
        for error in [lost(1), ReadError::NotFound { locator: Locator([1; 32]) }] {
            assert!(Tries::new(PATIENCE).failed(error, 0).await.is_err());
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut tries = Tries::new(PATIENCE);
        for error in [lost(2), ReadError::TooSlow { stripe: StripeIndex(0) }] {
            tries.failed(error, 0).await.unwrap();
        }
        assert!(Tries::new(Duration::ZERO).failed(lost(2), 0).await.is_err());
    }
}
