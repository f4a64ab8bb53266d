//! Content in the hand of a connection: read for one of its answers, and not yet taken by its viewer.
//!
//! Keeps true: all answers on one connection hold no more than its bound, whatever the viewer takes of each. The bound
//! has three parts, so that what waits for one viewer behind a proxy keeps no other one waiting for something else:
//! half of it is for blocks that may be kept, a quarter for what nobody may keep, and a quarter for what is small. Who
//! finds no room in its part waits for the others in it, whose writes have deadlines. An answer has room for one read
//! at a time, and none while it waits, so no two wait for each other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The hand of one connection. Cheap to clone. By default it has no bound: where one answer comes after the other, what
/// each reads is bound enough.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hand(Option<Arc<Parts>>);

#[derive(Debug)]
struct Parts {
    kept: Part,
    unkept: Part,
    small: Part,
    /// Answers that wait for room.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Part {
    free: Arc<Semaphore>,
    bytes_max: usize,
}

/// What is read, by what letting go of it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The cache may have it still.
    Kept,
    /// It would be read from origins again.
    Unkept,
}

/// Room in a hand, given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Hand {
    /// A read of no more is small.
    pub(crate) const SMALL_BYTES_MAX: usize = 32 * 1024;

    /// Makes a hand of so many bytes, for all answers of a connection.
    pub(crate) fn of(bytes_max: usize) -> Self {
        let quarter = bytes_max / 4;
        Self(Some(Arc::new(Parts {
            kept: Part::of(bytes_max - 2 * quarter),
            unkept: Part::of(quarter),
            small: Part::of(quarter),
            waiting: AtomicUsize::new(0),
        })))
    }

    /// Waits for room, behind those who wait for the same part already. Whoever wants more than that is gets all of it,
    /// alone. Cancel safe.
    pub(crate) async fn take(&self, content: Content, bytes: usize) -> InHand {
        let Some(parts) = &self.0 else { return InHand::default() };
        let _waits = Waits::of(&parts.waiting);
        let part = parts.part(content, bytes);
        // It is never closed.
        InHand { _permit: Arc::clone(&part.free).acquire_many_owned(part.wanted(bytes)).await.ok() }
    }

    /// Takes room that is free now; none past anybody who waits for the same part.
    pub(crate) fn try_take(&self, content: Content, bytes: usize) -> Option<InHand> {
        let Some(parts) = &self.0 else { return Some(InHand::default()) };
        let part = parts.part(content, bytes);
        let permit = Arc::clone(&part.free).try_acquire_many_owned(part.wanted(bytes)).ok()?;
        Some(InHand { _permit: Some(permit) })
    }

    /// Whether more than half of one of its parts is taken.
    pub(crate) fn is_crowded(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|parts| [&parts.kept, &parts.unkept, &parts.small].into_iter().any(Part::is_crowded))
    }

    /// Whether an answer waits for room.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.waiting.load(Ordering::Relaxed) > 0)
    }
}

impl Parts {
    fn part(&self, content: Content, bytes: usize) -> &Part {
        match content {
            _ if bytes <= Hand::SMALL_BYTES_MAX => &self.small,
            Content::Kept => &self.kept,
            Content::Unkept => &self.unkept,
        }
    }
}

impl Part {
    fn of(bytes_max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    fn wanted(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX)
    }

    fn is_crowded(&self) -> bool {
        self.free.available_permits() < self.bytes_max / 2
    }
}

/// One answer that waits.
struct Waits<'h>(&'h AtomicUsize);

impl<'h> Waits<'h> {
    fn of(waiting: &'h AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::{Content::*, *};

    const KIB: usize = 1024;

    #[tokio::test]
    async fn a_part_of_a_hand_holds_its_bound_and_who_waits_comes_in_order() {
        let hand = Hand::of(800 * KIB);
        let one = hand.take(Kept, 160 * KIB).await;
        assert!(!hand.is_crowded());
        let two = hand.take(Kept, 240 * KIB).await;
        assert!(hand.is_crowded() && hand.try_take(Kept, 33 * KIB).is_none() && !hand.is_waited_for());
        let (mut wide, mut next) = (Box::pin(hand.take(Kept, 9_000 * KIB)), Box::pin(hand.take(Kept, 33 * KIB)));
        assert!(wide.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        assert!(hand.is_waited_for());
        drop(one);
        assert!(next.as_mut().now_or_never().is_none(), "behind who wants all of it");
        assert!(hand.try_take(Kept, 33 * KIB).is_none());
        drop(two);
        let all = wide.as_mut().now_or_never().unwrap();
        assert!(next.as_mut().now_or_never().is_none());
        drop(all);
        assert!(next.now_or_never().is_some() && !hand.is_waited_for());
    }

    #[tokio::test]
    async fn what_waits_in_one_part_of_a_hand_keeps_nobody_waiting_in_another() {
        let hand = Hand::of(800 * KIB);
        let blocks = (hand.take(Kept, 400 * KIB).await, hand.take(Unkept, 200 * KIB).await);
        assert!(hand.try_take(Kept, 33 * KIB).is_none() && hand.try_take(Unkept, 33 * KIB).is_none());
        let small: Vec<_> = (0..6).map(|_| hand.try_take(Kept, Hand::SMALL_BYTES_MAX).unwrap()).collect();
        assert!(hand.try_take(Unkept, Hand::SMALL_BYTES_MAX).is_none(), "what is small has a bound, too");
        drop(blocks.1);
        assert!(hand.try_take(Unkept, 200 * KIB).is_some() && hand.try_take(Kept, 33 * KIB).is_none());
        drop(small);
    }

    #[tokio::test]
    async fn a_hand_without_a_bound_keeps_nobody_waiting() {
        let hand = Hand::default();
        let held = (hand.take(Unkept, usize::MAX).await, hand.take(Kept, usize::MAX).await);
        assert!(hand.try_take(Kept, usize::MAX).is_some() && !hand.is_crowded() && !hand.is_waited_for());
        drop(held);
    }
}
