//! Room for what is on its way, shared fairly among owners: a crowd at one owner's cold objects keeps no other owner's
//! viewers waiting.
//!
//! An owner has at most half of what the others leave, so whoever comes next finds room: n owners who want all of it
//! come to have one part in n + 1 each. Who finds none waits. Owners take turns, each with its oldest, whatever the
//! length of their queues; the queues are bounded in the same way. Who wants more than is free has what comes free kept
//! for it, for a bounded time, and then as long again nobody has: whatever wide reads wait, others go on. Keeps true:
//! no more than the room is taken, and what is taken is given back however its holder ends.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use format::OwnerId;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use crate::error::Fault;

/// Waiting for room; beyond it the edge is overloaded and says so.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);
/// Reads that wait, of all owners, where no other bound is told. Of one owner: half of what the others leave.
const WAITING_MAX: usize = 8192;
/// What comes free is kept for a wide read for so long, in which a read of a slow origin ends, and then for nobody for
/// as long. With the deadline above, who is held back once is let in before it is told that the edge is busy.
const HOLD_TIME: Duration = Duration::from_secs(2);

/// Who shares a room.
pub(crate) trait Sharer: Clone + Eq + Hash + Send + 'static {}

impl<K: Clone + Eq + Hash + Send + 'static> Sharer for K {}

/// A number of places that owners share, or others as owners do.
#[derive(Debug)]
pub(crate) struct Room<K: Sharer = OwnerId> {
    all: u32,
    /// So many wait at a time, of all owners.
    waiting_max: usize,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K: Sharer> {
    free: u32,
    /// What each owner has, of those who have some.
    taken: HashMap<K, u32>,
    /// The queue of each owner of whom somebody waits.
    queues: HashMap<K, VecDeque<Waiting<K>>>,
    /// The same owners, whose turn is next first.
    turns: VecDeque<K>,
    waiting: usize,
    /// The number of the next who waits.
    next: u64,
    hold: Option<Hold>,
    /// Until then nothing is kept for anybody.
    open_until: Option<Instant>,
}

/// What comes free is kept for somebody who waits for more than there is.
#[derive(Debug, Clone, Copy)]
struct Hold {
    number: u64,
    until: Instant,
}

#[derive(Debug)]
struct Waiting<K: Sharer> {
    number: u64,
    wanted: u32,
    grant: oneshot::Sender<Taken<K>>,
}

/// Places in the room; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<K: Sharer = OwnerId> {
    room: Arc<Room<K>>,
    owner: K,
    places: u32,
}

impl<K: Sharer> Drop for Taken<K> {
    fn drop(&mut self) {
        self.room.change(|state| state.give_back(&self.owner, self.places));
    }
}

/// Somebody in a queue, who leaves it when this is dropped.
struct InQueue<K: Sharer> {
    room: Arc<Room<K>>,
    owner: K,
    number: u64,
}

impl<K: Sharer> Drop for InQueue<K> {
    fn drop(&mut self) {
        self.room.change(|state| state.leave(&self.owner, self.number));
    }
}

impl<K: Sharer> Room<K> {
    /// Makes a room of so many places.
    pub(crate) fn new(all: u32) -> Arc<Self> {
        Self::with_queues(all, WAITING_MAX)
    }

    /// Makes a room of so many places, for which so many wait at most.
    pub(crate) fn with_queues(all: u32, waiting_max: usize) -> Arc<Self> {
        let state = State {
            free: all,
            taken: HashMap::new(),
            queues: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            next: 0,
            hold: None,
            open_until: None,
        };
        Arc::new(Self { all, waiting_max, state: Mutex::new(state) })
    }

    /// Takes places for a read of an owner's object, and waits for them. Whoever wants more than there are gets all of
    /// them, alone. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Busy`] where none come free in time, or too many wait already.
    pub(crate) async fn take(self: &Arc<Self>, owner: K, wanted: u32) -> Result<Taken<K>, Fault> {
        let (grant, granted) = oneshot::channel();
        let (waits, wanted) = (owner.clone(), wanted.min(self.all));
        let number = self.change(|state| state.wait(waits, wanted, self.waiting_max, grant)).ok_or(Fault::Busy)?;
        let _in_queue = InQueue { room: Arc::clone(self), owner, number };
        timeout(ROOM_DEADLINE, granted).await.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)
    }

    /// Takes places that are free now, past nobody who waits.
    pub(crate) fn try_take(self: &Arc<Self>, owner: K, wanted: u32) -> Option<Taken<K>> {
        let mut state = self.state();
        if !state.turns.is_empty() || wanted > state.free || !state.is_within_share(&owner, wanted) {
            return None;
        }
        state.give(owner.clone(), wanted);
        Some(Taken { room: Arc::clone(self), owner, places: wanted })
    }

    /// Whether an owner who takes so much more has no more than half of its share then.
    pub(crate) fn is_half_free(&self, owner: &K, wanted: u32) -> bool {
        let state = self.state();
        let own = state.taken.get(owner).copied().unwrap_or(0);
        own + wanted <= (state.free + own) / 4
    }

    /// Changes the state, and lets in whom there is room for then.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<K>) -> T) -> T {
        let (changed, admitted, new_hold) = {
            let (mut state, now) = (self.state(), Instant::now());
            let (changed, before) = (change(&mut state), state.hold);
            let admitted = state.admit(now);
            let new_hold = state.hold.filter(|hold| before.is_none_or(|before| before.number != hold.number));
            (changed, admitted, new_hold)
        };
        if let Some(hold) = new_hold {
            self.look_again(hold.until);
        }
        for (owner, Waiting { wanted, grant, .. }) in admitted {
            // Where nobody takes it any more, it is dropped here, and so given back.
            let _ = grant.send(Taken { room: Arc::clone(self), owner, places: wanted });
        }
        changed
    }

    /// Lets in whom there is room for at a time, even where nobody comes or goes by then.
    fn look_again(self: &Arc<Self>, at: Instant) {
        // Without a runtime, who comes or goes next looks.
        let Ok(runtime) = Handle::try_current() else { return };
        let room = Arc::downgrade(self);
        runtime.spawn(async move {
            sleep_until(at).await;
            if let Some(room) = room.upgrade() {
                room.change(|_| ());
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Sharer> State<K> {
    /// Puts somebody into an owner's queue and returns its number; none where the queue is full.
    fn wait(&mut self, owner: K, wanted: u32, waiting_max: usize, grant: oneshot::Sender<Taken<K>>) -> Option<u64> {
        let own = self.queues.get(&owner).map_or(0, VecDeque::len);
        if own >= (waiting_max - (self.waiting - own)) / 2 {
            return None;
        }
        if own == 0 {
            self.turns.push_back(owner.clone());
        }
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        self.queues.entry(owner).or_default().push_back(Waiting { number, wanted, grant });
        Some(number)
    }

    /// Takes somebody out of an owner's queue, unless its turn has come already. Where the room was held for it, its
    /// owner's next comes after all others.
    fn leave(&mut self, owner: &K, number: u64) {
        let Some(queue) = self.queues.get_mut(owner) else { return };
        let Ok(at) = queue.binary_search_by_key(&number, |waiting| waiting.number) else { return };
        queue.remove(at);
        self.waiting -= 1;
        let had_hold = self.hold.is_some_and(|hold| hold.number == number);
        let is_last = queue.is_empty();
        if is_last {
            self.queues.remove(owner);
        }
        if is_last || had_hold {
            self.turns.retain(|other| other != owner);
        }
        if had_hold {
            self.end_hold(Instant::now());
            if !is_last {
                self.turns.push_back(owner.clone());
            }
        }
    }

    fn end_hold(&mut self, now: Instant) {
        (self.hold, self.open_until) = (None, Some(now + HOLD_TIME));
    }

    /// Gives places to those whose turn it is, as far as there are any, and returns them. Whoever comes while all is
    /// taken costs no look at the others who wait.
    fn admit(&mut self, now: Instant) -> Vec<(K, Waiting<K>)> {
        let (mut admitted, mut at) = (Vec::new(), 0);
        while self.free > 0
            && let Some(owner) = self.turns.get(at).cloned()
        {
            let front = self.queues.get(&owner).and_then(VecDeque::front);
            let Some((number, wanted)) = front.map(|front| (front.number, front.wanted)) else { break };
            // An owner at its share is passed by.
            if !self.is_within_share(&owner, wanted) {
                at += 1;
                continue;
            }
            if wanted > self.free {
                match self.hold {
                    Some(hold) if hold.number == number && now < hold.until => break,
                    Some(hold) if hold.number == number => {
                        self.end_hold(now);
                        self.turns.remove(at);
                        self.turns.push_back(owner);
                    }
                    // One that is passed by, for as long as others ask for less, would never have its turn.
                    None if self.open_until.is_none_or(|until| now >= until) => {
                        self.hold = Some(Hold { number, until: now + HOLD_TIME });
                        break;
                    }
                    _ => at += 1,
                }
                continue;
            }
            let Some(queue) = self.queues.get_mut(&owner) else { break };
            let Some(next) = queue.pop_front() else { break };
            self.turns.remove(at);
            if queue.is_empty() {
                self.queues.remove(&owner);
            } else {
                self.turns.push_back(owner.clone());
            }
            if self.hold.is_some_and(|hold| hold.number == number) {
                self.end_hold(now);
            }
            self.waiting -= 1;
            self.give(owner.clone(), wanted);
            admitted.push((owner, next));
        }
        admitted
    }

    /// Whether an owner may take so much: half of what the others leave, or anything while it has nothing.
    fn is_within_share(&self, owner: &K, wanted: u32) -> bool {
        let own = self.taken.get(owner).copied().unwrap_or(0);
        own == 0 || own + wanted <= (self.free + own) / 2
    }

    fn give(&mut self, owner: K, places: u32) {
        self.free -= places;
        *self.taken.entry(owner).or_default() += places;
    }

    fn give_back(&mut self, owner: &K, places: u32) {
        self.free += places;
        if let Some(taken) = self.taken.get_mut(owner) {
            *taken -= places;
            if *taken == 0 {
                self.taken.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{task::JoinSet, time::Instant};

    use super::*;

    const ALL: u32 = 64;
    const A: OwnerId = OwnerId([1; 32]);
    const B: OwnerId = OwnerId([2; 32]);
    const C: OwnerId = OwnerId([3; 32]);
    const D: OwnerId = OwnerId([4; 32]);

    /// Has so many reads of an owner, each of which takes `wanted` places for a second. Each returns its owner and how
    /// long it waited, in seconds; none if it was told that the edge is busy.
    fn crowd(reads: &mut JoinSet<Option<(OwnerId, u64)>>, room: &Arc<Room>, owner: OwnerId, count: usize, wanted: u32) {
        for _ in 0..count {
            let (room, begun) = (Arc::clone(room), Instant::now());
            reads.spawn(async move {
                let _taken = room.take(owner, wanted).await.ok()?;
                let waited = begun.elapsed().as_secs();
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((owner, waited))
            });
        }
    }

    /// Returns what is free, how many have some, how many wait, and how many owners have a turn to come.
    fn standing(room: &Room) -> (u32, usize, usize, usize) {
        let state = room.state();
        assert_eq!(state.queues.len(), state.turns.len());
        (state.free, state.taken.len(), state.waiting, state.turns.len())
    }

    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_at_one_owners_objects_keeps_no_other_owner_waiting() {
        let (room, mut reads) = (Room::new(ALL), JoinSet::new());
        crowd(&mut reads, &room, A, 1000, 1);
        settle().await;
        assert_eq!(room.state().free, ALL / 2, "one owner has half");
        crowd(&mut reads, &room, B, 16, 1);
        let waits: Vec<_> = reads.join_all().await.into_iter().flatten().collect();
        let of_b: Vec<_> = waits.iter().filter(|(owner, _)| *owner == B).map(|(_, waited)| *waited).collect();
        assert_eq!(of_b, [0; 16], "what the other owner asks for is let in at once");
        let of_a = waits.iter().filter(|(owner, _)| *owner == A).count();
        assert!((150..1000).contains(&of_a), "the crowd goes on, and what waits too long is told so: {of_a}");
        assert_eq!(standing(&room), (ALL, 0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn owners_who_want_all_of_it_come_to_have_the_same() {
        let (room, mut reads) = (Room::new(ALL), JoinSet::new());
        for (count, owner) in [(200, A), (150, B), (100, C)] {
            crowd(&mut reads, &room, owner, count, 1);
            settle().await;
        }
        // After a few rounds, in which the first lets go of what it has more.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        let shares = [A, B, C].map(|owner| room.state().taken[&owner]);
        assert!(shares.iter().all(|share| (ALL / 4 - 3..=ALL / 4 + 3).contains(share)), "{shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn owners_take_turns_whatever_the_length_of_their_queues() {
        let (room, mut reads) = (Room::new(1), JoinSet::new());
        let first = room.take(C, 1).await.unwrap();
        crowd(&mut reads, &room, A, 50, 1);
        settle().await;
        crowd(&mut reads, &room, B, 2, 1);
        settle().await;
        drop(first);
        let mut order = Vec::new();
        while let Some(read) = reads.join_next().await {
            order.extend(read.unwrap().map(|(owner, _)| owner));
        }
        assert_eq!(order, [A, B, A, B, A], "as many as are served within the deadline, in turns");
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_an_owners_share_is_free_until_it_takes_that() {
        let room = Room::new(ALL);
        assert!(room.is_half_free(&A, ALL / 4) && !room.is_half_free(&A, ALL / 4 + 1));
        let of_a = room.take(A, ALL / 4).await.unwrap();
        assert!(
            room.is_half_free(&A, 0) && !room.is_half_free(&A, 1),
            "half of the whole is free, and it has its half"
        );
        assert!(room.is_half_free(&B, ALL * 3 / 16) && !room.is_half_free(&B, ALL * 3 / 16 + 1), "of what A leaves");
        drop(of_a);
        assert!(room.is_half_free(&A, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wider_than_the_room_has_it_alone_and_gets_its_turn() {
        let (room, mut reads) = (Room::new(ALL), JoinSet::new());
        crowd(&mut reads, &room, A, 400, 1);
        settle().await;
        let begun = Instant::now();
        let wide = room.take(B, ALL * 2).await.unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(2), "one of the others had its turn first, and no more");
        assert_eq!((wide.places, room.state().free), (ALL, 0));
        assert!(room.try_take(C, 1).is_none());
        drop(wide);
        settle().await;
        assert_eq!(room.state().taken[&A], ALL / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owners_wide_reads_hold_others_back_for_a_bounded_time_and_each_in_its_turn() {
        let (room, mut reads) = (Room::new(ALL), JoinSet::new());
        // Somebody's read does not end, so what is as wide as the room never finds it.
        let stuck = room.take(C, 1).await.unwrap();
        crowd(&mut reads, &room, A, 100, ALL);
        settle().await;
        assert!(timeout(HOLD_TIME / 2, room.take(B, 1)).await.is_err(), "what comes free is kept for the wide one");
        for second in 0..20 {
            let begun = Instant::now();
            assert!(room.take(B, 1).await.is_ok(), "in second {second}");
            assert!(begun.elapsed() <= HOLD_TIME + Duration::from_millis(1), "{:?}", begun.elapsed());
            crowd(&mut reads, &room, A, 10, ALL);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(stuck);
        let begun = Instant::now();
        assert_eq!(room.take(D, ALL).await.unwrap().places, ALL, "a wide one has its turn");
        assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn queues_are_bounded_and_one_owner_leaves_room_in_them() {
        let (room, mut reads) = (Room::new(1), JoinSet::new());
        let _first = room.take(C, 1).await.unwrap();
        crowd(&mut reads, &room, A, WAITING_MAX, 1);
        settle().await;
        assert_eq!(room.state().waiting, WAITING_MAX / 2);
        let begun = Instant::now();
        assert_eq!(room.take(A, 1).await.unwrap_err(), Fault::Busy);
        assert!(begun.elapsed().is_zero(), "it is told at once");
        crowd(&mut reads, &room, B, WAITING_MAX, 1);
        settle().await;
        assert_eq!(room.state().waiting, WAITING_MAX / 2 + WAITING_MAX / 4);
        // Who waited long enough leaves nothing behind.
        assert!(reads.join_all().await.iter().all(Option::is_none));
        assert_eq!(standing(&room), (0, 1, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_all_is_taken_has_nothing_kept_for_it_and_is_turned_away_where_the_queue_is_full() {
        let (room, mut reads) = (Room::with_queues(1, 8), JoinSet::new());
        let first = room.take(C, 1).await.unwrap();
        crowd(&mut reads, &room, A, 5, 1);
        settle().await;
        assert!(room.state().hold.is_none(), "there is nothing to keep, so nobody looks who may have it");
        assert_eq!(room.state().waiting, 4);
        assert_eq!(room.take(A, 1).await.unwrap_err(), Fault::Busy);
        drop(first);
        assert_eq!(reads.join_all().await.into_iter().flatten().count(), 4);
        assert_eq!(standing(&room), (1, 0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_or_is_let_in_and_gone_takes_no_places_along() {
        let room = Room::new(2);
        let first = room.take(A, 2).await.unwrap();
        let [mut gone, mut next] = [B, C].map(|owner| {
            let room = Arc::clone(&room);
            Box::pin(async move { room.take(owner, 1).await })
        });
        for waiting in [&mut gone, &mut next] {
            assert!(timeout(Duration::ZERO, waiting).await.is_err());
        }
        // Both are let in now; one of them will never look.
        drop(first);
        drop(gone);
        let next = next.await.unwrap();
        assert_eq!(standing(&room), (1, 1, 0, 0));
        drop(next);
        assert_eq!(standing(&room), (2, 0, 0, 0));
    }

    proptest! {
        /// Whatever is taken and given back, no more than the room is taken, and nobody waits for what could be had.
        #[test]
        fn no_more_is_taken_than_there_is(steps in prop::collection::vec((0..4u8, 1..9u32, any::<bool>()), 1..200)) {
            let room = Room::new(16);
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for (owner, wanted, takes) in steps {
                if takes {
                    let (grant, granted) = oneshot::channel();
                    room.change(|state| state.wait(OwnerId([owner; 32]), wanted, WAITING_MAX, grant)).unwrap();
                    waiting.push(granted);
                } else if !held.is_empty() {
                    held.remove(usize::from(owner) % held.len());
                }
                waiting.retain_mut(|granted| granted.try_recv().map(|taken| held.push(taken)).is_err());
                let state = room.state();
                let taken: u32 = held.iter().map(|taken: &Taken| taken.places).sum();
                prop_assert_eq!(state.free + taken, 16);
                prop_assert_eq!(state.taken.values().sum::<u32>(), taken);
                prop_assert_eq!(state.waiting, waiting.len());
                prop_assert!(taken > 0 || waiting.is_empty());
            }
        }
    }
}
