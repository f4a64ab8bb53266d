//! Room for what is on its way, shared fairly among owners: a crowd at one owner's cold objects keeps no other owner's
//! viewers waiting.
//!
//! An owner has at most half of what the others leave, so whoever comes next finds room: n owners who want all of it
//! come to have one part in n + 1 each. Who finds none waits. Owners take turns, each with its oldest, whatever the
//! length of their queues; the queues are bounded in the same way. Keeps true: no more than the room is taken, and what
//! is taken is given back however its holder ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use format::OwnerId;
use tokio::{sync::oneshot, time::timeout};

use crate::error::Fault;

/// Waiting for room; beyond it the edge is overloaded and says so.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);
/// Reads that wait, of all owners. Of one owner: half of what the others leave.
const WAITING_MAX: usize = 8192;

/// A number of places that owners share.
#[derive(Debug)]
pub(crate) struct Room {
    all: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: u32,
    /// What each owner has, of those who have some.
    taken: HashMap<OwnerId, u32>,
    /// The queue of each owner of whom somebody waits.
    queues: HashMap<OwnerId, VecDeque<Waiting>>,
    /// The same owners, whose turn is next first.
    turns: VecDeque<OwnerId>,
    waiting: usize,
    /// The number of the next who waits.
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    wanted: u32,
    grant: oneshot::Sender<Taken>,
}

/// Places in the room; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    room: Arc<Room>,
    owner: OwnerId,
    places: u32,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.change(|state| state.give_back(&self.owner, self.places));
    }
}

/// Somebody in a queue, who leaves it when this is dropped.
struct InQueue {
    room: Arc<Room>,
    owner: OwnerId,
    number: u64,
}

impl Drop for InQueue {
    fn drop(&mut self) {
        self.room.change(|state| state.leave(&self.owner, self.number));
    }
}

impl Room {
    /// Makes a room of so many places.
    pub(crate) fn new(all: u32) -> Arc<Self> {
        let state = State {
            free: all,
            taken: HashMap::new(),
            queues: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            next: 0,
        };
        Arc::new(Self { all, state: Mutex::new(state) })
    }

    /// Takes places for a read of an owner's object, and waits for them. Whoever wants more than there are gets all of
    /// them, alone. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Busy`] where none come free in time, or too many wait already.
    pub(crate) async fn take(self: &Arc<Self>, owner: OwnerId, wanted: u32) -> Result<Taken, Fault> {
        let (grant, granted) = oneshot::channel();
        let number = self.change(|state| state.wait(owner, wanted.min(self.all), grant)).ok_or(Fault::Busy)?;
        let _in_queue = InQueue { room: Arc::clone(self), owner, number };
        timeout(ROOM_DEADLINE, granted).await.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)
    }

    /// Takes places that are free now, past nobody who waits.
    pub(crate) fn try_take(self: &Arc<Self>, owner: OwnerId, wanted: u32) -> Option<Taken> {
        let mut state = self.state();
        if !state.turns.is_empty() || wanted > state.free || !state.is_within_share(&owner, wanted) {
            return None;
        }
        state.give(owner, wanted);
        Some(Taken { room: Arc::clone(self), owner, places: wanted })
    }

    /// Whether half of it is free.
    pub(crate) fn is_half_free(&self) -> bool {
        self.state().free >= self.all / 2
    }

    /// Changes the state, and lets in whom there is room for then.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, admitted) = {
            let mut state = self.state();
            (change(&mut state), state.admit())
        };
        for (owner, Waiting { wanted, grant, .. }) in admitted {
            // Where nobody takes it any more, it is dropped here, and so given back.
            let _ = grant.send(Taken { room: Arc::clone(self), owner, places: wanted });
        }
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts somebody into an owner's queue and returns its number; none where the queue is full.
    fn wait(&mut self, owner: OwnerId, wanted: u32, grant: oneshot::Sender<Taken>) -> Option<u64> {
        let own = self.queues.get(&owner).map_or(0, VecDeque::len);
        if own >= (WAITING_MAX - (self.waiting - own)) / 2 {
            return None;
        }
        if own == 0 {
            self.turns.push_back(owner);
        }
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        self.queues.entry(owner).or_default().push_back(Waiting { number, wanted, grant });
        Some(number)
    }

    /// Takes somebody out of an owner's queue, unless its turn has come already.
    fn leave(&mut self, owner: &OwnerId, number: u64) {
        let Some(queue) = self.queues.get_mut(owner) else { return };
        let Ok(at) = queue.binary_search_by_key(&number, |waiting| waiting.number) else { return };
        queue.remove(at);
        self.waiting -= 1;
        if queue.is_empty() {
            self.queues.remove(owner);
            self.turns.retain(|other| other != owner);
        }
    }

    /// Gives places to those whose turn it is, as far as there are any, and returns them.
    fn admit(&mut self) -> Vec<(OwnerId, Waiting)> {
        let (mut admitted, mut at) = (Vec::new(), 0);
        while let Some(owner) = self.turns.get(at).copied() {
            let Some(wanted) = self.queues.get(&owner).and_then(|queue| Some(queue.front()?.wanted)) else { break };
            // An owner at its share is passed by.
            if !self.is_within_share(&owner, wanted) {
                at += 1;
                continue;
            }
            // A wide stripe that is passed by, for as long as others ask for less, would never have its turn.
            if wanted > self.free {
                break;
            }
            let Some(queue) = self.queues.get_mut(&owner) else { break };
            let Some(next) = queue.pop_front() else { break };
            self.turns.remove(at);
            if queue.is_empty() {
                self.queues.remove(&owner);
            } else {
                self.turns.push_back(owner);
            }
            self.waiting -= 1;
            self.give(owner, wanted);
            admitted.push((owner, next));
        }
        admitted
    }

    /// Whether an owner may take so much: half of what the others leave, or anything while it has nothing.
    fn is_within_share(&self, owner: &OwnerId, wanted: u32) -> bool {
        let own = self.taken.get(owner).copied().unwrap_or(0);
        own == 0 || own + wanted <= (self.free + own) / 2
    }

    fn give(&mut self, owner: OwnerId, places: u32) {
        self.free -= places;
        *self.taken.entry(owner).or_default() += places;
    }

    fn give_back(&mut self, owner: &OwnerId, places: u32) {
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
                    room.change(|state| state.wait(OwnerId([owner; 32]), wanted, grant)).unwrap();
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
