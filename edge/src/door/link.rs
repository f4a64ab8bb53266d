//! The deadline of writes on a connection that many answers share: a slow link carries all of them, one after the
//! other's piece, so each waits for its turn for as long as the link brings the viewer any content.
//!
//! Keeps true: who takes nothing is gone after `http.write_seconds`, whatever else it sends and is sent, or after twice
//! that where other answers waited for room; and so is a stream whose viewer takes of others only, once these have had
//! as many turns as they are, or, where answers wait for the room that it holds, once these could have had a piece
//! each. What the answers hold meanwhile has a bound for all of them.

use std::{
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    limits::{HAND_BYTES_MAX, PIECE_BYTES, bytes_min},
    wire::Left,
};
use crate::store::hand::Hand;

/// What an answer keeps from the others on its connection while a piece of it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Room in the hand.
    Room,
    Nothing,
}

/// What the answers on one connection know of each other.
pub(super) struct Link {
    /// Answers of which a piece waits to be taken.
    waiting: AtomicUsize,
    /// Returns the bytes of content that have left so far. Nothing else counts: whoever takes only what tells it that
    /// its pings came takes nothing.
    taken: Box<dyn Fn() -> u64 + Send + Sync>,
    deadline: Duration,
    /// Whether the viewer took too little of all of them.
    is_stuck: AtomicBool,
    /// When too little was taken last while answers waited for room, and what had been by then.
    pardon: Mutex<Option<(Instant, u64)>>,
    /// What they hold.
    pub(super) hand: Hand,
}

impl Link {
    pub(super) fn new(deadline: Duration, taken: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            taken: Box::new(taken),
            deadline,
            is_stuck: AtomicBool::new(false),
            pardon: Mutex::new(None),
            hand: Hand::of(HAND_BYTES_MAX),
        }
    }

    /// Returns the time in which something has to be taken.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns the bytes of content that have left so far.
    pub(super) fn taken(&self) -> u64 {
        (self.taken)()
    }

    /// Whether the viewer took too little of all answers. Its connection is not worth another: it could ask for new
    /// ones, and take nothing, for ever.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Notes that the viewer took too little of what no answer waits for any more.
    pub(super) fn set_stuck(&self) {
        self.is_stuck.store(true, Ordering::Relaxed);
    }

    /// Waits until a piece of up to 64 KiB is written. `went` returns the bytes of the answer that have left so far.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn in_turn<E>(
        &self,
        holds: Holds,
        went: impl Fn() -> u64,
        write: impl Future<Output = Result<(), E>>,
    ) -> Result<(), Left> {
        let _waiting = Waiting::of(&self.waiting);
        let mut write = pin!(write);
        let (mut turns, mut own, mut of_others) = (0, went(), 0);
        loop {
            let before = self.taken();
            // Whoever took too little of what was written before is not waited for again.
            let patience = if self.is_stuck() { Duration::ZERO } else { self.deadline };
            if let Ok(written) = timeout(patience, &mut write).await {
                return written.map_err(|_| Left);
            }
            turns += 1;
            let taken = self.taken().saturating_sub(before);
            if taken < bytes_min(self.deadline) {
                if self.is_at_fault() {
                    self.set_stuck();
                }
                return Err(Left);
            }
            let waiting = self.waiting.load(Ordering::Relaxed);
            let had = own;
            own = went();
            of_others = if own == had { of_others + taken } else { 0 };
            let is_passed_by = holds == Holds::Room && of_others >= (waiting * PIECE_BYTES) as u64;
            if turns > waiting || (is_passed_by && self.hand.is_waited_for()) {
                return Err(Left);
            }
        }
    }

    /// Whether it is the viewer's fault that too little was taken in a turn. Where answers waited for room it may have
    /// taken those: what was not taken ends, they have a turn, and only if nothing comes of that it is.
    fn is_at_fault(&self) -> bool {
        if !self.hand.is_waited_for() {
            return true;
        }
        let (now, taken) = (Instant::now(), self.taken());
        let mut pardon = self.pardon.lock().unwrap_or_else(PoisonError::into_inner);
        match *pardon {
            Some((since, _)) if now < since + self.deadline => false,
            Some((_, before)) if taken.saturating_sub(before) < bytes_min(self.deadline) => true,
            _ => {
                *pardon = Some((now, taken));
                false
            }
        }
    }
}

/// One answer that waits.
struct Waiting<'l>(&'l AtomicUsize);

impl<'l> Waiting<'l> {
    fn of(waiting: &'l AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{Arc, atomic::AtomicU64},
    };

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;
    use crate::store::hand::Content;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Counts as taken so many bytes a second.
    fn link(bytes_per_second: u64) -> Arc<Link> {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&taken);
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                taken.fetch_add(bytes_per_second, Ordering::Relaxed);
            }
        });
        Arc::new(Link::new(DEADLINE, move || counted.load(Ordering::Relaxed)))
    }

    async fn write(seconds: u64) -> Result<(), ()> {
        sleep(Duration::from_secs(seconds)).await;
        Ok(())
    }

    async fn never() -> Result<(), ()> {
        pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn who_could_not_take_what_waits_for_room_is_stuck_only_if_nothing_comes_of_that() {
        let (stopped, slow) = (link(0), link(2_200));
        for link in [&stopped, &slow] {
            let held = link.hand.take(Content::Kept, HAND_BYTES_MAX).await;
            let hand = link.hand.clone();
            let waits = tokio::spawn(async move { hand.take(Content::Kept, HAND_BYTES_MAX).await });
            tokio::task::yield_now().await;
            let pending = [never(), never()].map(|write| link.in_turn(Holds::Nothing, || 0, write));
            assert!(join_all(pending).await.iter().all(Result::is_err));
            assert!(!link.is_stuck(), "others waited for room");
            drop(held);
            drop(waits.await.unwrap());
        }
        assert!(
            stopped.in_turn(Holds::Nothing, || 0, never()).await.is_err() && stopped.is_stuck(),
            "nobody waits for room any more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_stuck_after_two_turns_whoever_waits_for_room() {
        let link = link(0);
        let _held = link.hand.take(Content::Kept, HAND_BYTES_MAX).await;
        let hand = link.hand.clone();
        let waits = tokio::spawn(async move { hand.take(Content::Kept, HAND_BYTES_MAX).await });
        tokio::task::yield_now().await;
        let stuck = [1, 2].map(async |_| {
            let _ = link.in_turn(Holds::Nothing, || 0, never()).await;
            let _ = link.in_turn(Holds::Nothing, || 0, never()).await;
        });
        let begun = Instant::now();
        join_all(stuck).await;
        assert_eq!((begun.elapsed().as_secs(), link.is_stuck()), (60, true));
        waits.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_room_and_takes_nothing_of_it_goes_once_others_could_have_had_a_piece_each() {
        // Six wait, whose viewer takes a piece in a second, or six of them in 49.
        for (bytes_per_second, gone_after) in [(PIECE_BYTES as u64, 30), (8_000, 60)] {
            let link = link(bytes_per_second);
            let held = link.hand.take(Content::Kept, HAND_BYTES_MAX).await;
            let hand = link.hand.clone();
            let waits = tokio::spawn(async move { hand.take(Content::Kept, HAND_BYTES_MAX).await });
            tokio::task::yield_now().await;
            let (begun, took) = (Instant::now(), AtomicU64::new(0));
            let stopped = async {
                assert!(link.in_turn(Holds::Room, || 7, never()).await.is_err());
                begun.elapsed().as_secs()
            };
            let moves = link.in_turn(Holds::Room, || took.fetch_add(1, Ordering::Relaxed), write(100));
            let hold_nothing = join_all((0..4).map(|_| link.in_turn(Holds::Nothing, || 0, never())));
            let (stopped, moves, hold_nothing) = tokio::join!(stopped, moves, hold_nothing);
            assert_eq!((stopped, moves.is_ok(), begun.elapsed().as_secs()), (gone_after, true, 150));
            assert!(hold_nothing.iter().all(Result::is_err) && !link.is_stuck());
            drop(held);
            drop(waits.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_its_own_has_as_many_turns_while_nobody_waits_for_room() {
        let link = link(PIECE_BYTES as u64);
        let begun = Instant::now();
        let (one, two) =
            tokio::join!(link.in_turn(Holds::Room, || 0, never()), link.in_turn(Holds::Room, || 0, never()));
        assert!(one.is_err() && two.is_err());
        assert_eq!(begun.elapsed().as_secs(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_as_many_turns_as_there_are_answers_while_the_viewer_takes_of_them() {
        let (slow, stopped) = (link(2_200), link(1_900));
        assert!(stopped.in_turn(Holds::Nothing, || 0, write(29)).await.is_ok() && !stopped.is_stuck());
        let begun = Instant::now();
        assert!(stopped.in_turn(Holds::Nothing, || 0, write(31)).await.is_err(), "too little is taken");
        assert_eq!((begun.elapsed().as_secs(), stopped.is_stuck()), (30, true));
        assert!(
            stopped.in_turn(Holds::Nothing, || 0, write(0)).await.is_ok(),
            "what waits for nobody is written all the same"
        );
        let begun = Instant::now();
        assert!(stopped.in_turn(Holds::Nothing, || 0, write(1)).await.is_err());
        assert_eq!(begun.elapsed().as_secs(), 0, "it is not waited for again");
        assert!(slow.in_turn(Holds::Nothing, || 0, write(59)).await.is_ok());
        assert!(slow.in_turn(Holds::Nothing, || 0, write(61)).await.is_err(), "one alone has had its turn and another");
        let written = join_all((0..10).map(|_| slow.in_turn(Holds::Nothing, || 0, write(299)))).await;
        assert!(written.iter().all(Result::is_ok));
        let begun = Instant::now();
        assert!(
            join_all((0..10).map(|_| slow.in_turn(Holds::Nothing, || 0, never()))).await.iter().all(Result::is_err)
        );
        assert_eq!(begun.elapsed().as_secs(), 330, "of some that are never taken there is an end");
        assert_eq!((slow.waiting.load(Ordering::Relaxed), slow.is_stuck()), (0, false));
    }
}
