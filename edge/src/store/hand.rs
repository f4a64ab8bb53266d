//! Content in the hand of a connection: read for one of its answers, and not yet taken by its viewer.
//!
//! Keeps true: all answers on one connection hold no more than its bound, whatever the viewer takes of each. Who finds
//! no room waits for the others, whose writes have deadlines. An answer has room for one read at a time, and none while
//! it waits, so no two wait for each other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The hand of one connection. Cheap to clone. By default it has no bound: where one answer comes after the other, what
/// each reads is bound enough.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hand(Option<Bounded>);

#[derive(Debug, Clone)]
struct Bounded {
    free: Arc<Semaphore>,
    bytes_max: usize,
}

/// Room in a hand, given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Hand {
    /// Makes a hand of so many bytes, for all answers of a connection.
    pub(crate) fn of(bytes_max: usize) -> Self {
        Self(Some(Bounded { free: Arc::new(Semaphore::new(bytes_max)), bytes_max }))
    }

    /// Waits for room, behind those who wait already. Whoever wants more than there is gets all of it, alone. Cancel
    /// safe.
    pub(crate) async fn take(&self, bytes: usize) -> InHand {
        let Some(bounded) = &self.0 else { return InHand::default() };
        // It is never closed.
        InHand { _permit: Arc::clone(&bounded.free).acquire_many_owned(bounded.wanted(bytes)).await.ok() }
    }

    /// Takes room that is free now; none past anybody who waits.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<InHand> {
        let Some(bounded) = &self.0 else { return Some(InHand::default()) };
        let permit = Arc::clone(&bounded.free).try_acquire_many_owned(bounded.wanted(bytes)).ok()?;
        Some(InHand { _permit: Some(permit) })
    }

    /// Whether more than half of it is taken.
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.as_ref().is_some_and(|bounded| bounded.free.available_permits() < bounded.bytes_max / 2)
    }
}

impl Bounded {
    fn wanted(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_hand_holds_its_bound_and_who_waits_comes_in_order() {
        let hand = Hand::of(100);
        let one = hand.take(40).await;
        assert!(!hand.is_crowded());
        let two = hand.take(60).await;
        assert!(hand.is_crowded() && hand.try_take(1).is_none());
        let (mut wide, mut small) = (Box::pin(hand.take(1_000)), Box::pin(hand.take(1)));
        assert!(wide.as_mut().now_or_never().is_none() && small.as_mut().now_or_never().is_none());
        drop(one);
        assert!(small.as_mut().now_or_never().is_none() && hand.try_take(1).is_none(), "behind who wants all of it");
        drop(two);
        let all = wide.as_mut().now_or_never().unwrap();
        assert!(small.as_mut().now_or_never().is_none());
        drop(all);
        assert!(small.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_hand_without_a_bound_keeps_nobody_waiting() {
        let hand = Hand::default();
        let held = (hand.take(usize::MAX).await, hand.take(usize::MAX).await);
        assert!(hand.try_take(usize::MAX).is_some() && !hand.is_crowded());
        drop(held);
    }
}
