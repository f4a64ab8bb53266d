//! Upload sessions: one draft of a shard each, owned by the caller who opened it, worked on by one call at a time.
//!
//! ```text
//!                 +--- a call ends ---+
//!                 v                   |
//! boot: resting -> a call has it -> idle
//!                 |        ^
//!              commit      | it failed, and may be tried again
//!                 v        |
//!              committing -+-> ended: the shard says that it is here
//! ```
//!
//! Keeps true: a session outlives the process, because its draft does. Nobody waits for a session longer than its age.
//! A draft whose caller is gone gives way to whatever needs its room or its place: of the caller who holds the most,
//! the one unused for longest. Few callers, however many sessions they open, keep no other out. Only cells are use: who
//! only asks for sessions again and again keeps none. The bytes of all drafts together stay below what shards may still
//! take, and those of one caller leave as much free again of what the others leave: bytes are counted before they are
//! written.

mod id;

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use format::{NodeName, limits::UPLOAD_KEPT_SECONDS};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use self::id::UploadId;
use crate::{
    peer::Peer,
    store::{Draft, Rested, ShardId, Store, StoreError},
};

/// A session that got no cells for this time may give way. One whose caller's connection ended rests then: the caller
/// may have lost only that, and comes back on another.
const GONE_IDLE: Duration = Duration::from_secs(UPLOAD_KEPT_SECONDS);

/// Why a session cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    /// There is none of this name, or another caller opened it; the caller's fault.
    #[error(
        "this node has no such upload: it was ended, nobody went on with it for too long, or others needed its room; \
         send its shard again in a new upload, which the same command does"
    )]
    Unknown,
    /// Another call works on it; the caller's fault.
    #[error("another call works on this upload; send one after the other")]
    Busy,
    /// Too many are open; ours, another node may do.
    #[error("{max} uploads are open, which is all this node allows; try another node")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The caller has its share; the caller's fault.
    #[error("{share} uploads of this caller are open, which is its share of what is free; end some first")]
    Share {
        /// How many it has.
        share: u64,
    },
    /// Nothing else is in the way of the draft, and it has no room all the same; ours, another node may do.
    #[error("this node has no room for so large a shard; use another")]
    TooLarge,
    /// The caller has its share of the bytes; the caller's fault, and it passes.
    #[error(
        "uploads of this caller take {held} bytes, and {asked} more are above {share}, its share of what those of \
         others leave free here; commit or end some first, or try another node"
    )]
    BytesShare {
        /// Bytes of its drafts.
        held: u64,
        /// Bytes that it may have.
        share: u64,
        /// Bytes asked for.
        asked: u64,
    },
}

/// Returns the bytes that drafts of one caller may take where the others' leave `room`: as many as it leaves free, so
/// that no few callers leave none.
fn bytes_share(room: u64) -> u64 {
    room / 2
}

/// What became of a commit, for all who wait for it; none while it runs.
pub(crate) type Outcome<E> = watch::Receiver<Option<Result<(), E>>>;

enum State<E> {
    /// On the disk since before this process began.
    Resting(Rested),
    /// Nobody works on it.
    Idle(Box<Draft>),
    /// A call works on it.
    Taken,
    /// It becomes this shard.
    Committing(ShardId, Outcome<E>),
}

struct Slot<E> {
    owner: NodeName,
    /// When it was opened, or got cells.
    used: Instant,
    /// Bodies of calls on their way to it.
    bodies: usize,
    /// Bytes of its draft, with those that a call is about to write.
    bytes: u64,
    /// Tells that the connection it was last used on has ended.
    gone: CancellationToken,
    state: State<E>,
}

impl<E> Slot<E> {
    /// Returns how long nobody has used the session; none while somebody does.
    fn idle(&self, now: Instant) -> Option<Duration> {
        self.is_free().then(|| now.saturating_duration_since(self.used))
    }

    fn is_free(&self) -> bool {
        self.bodies == 0 && matches!(self.state, State::Resting(_) | State::Idle(_))
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.gone.is_cancelled() && self.idle(now).is_some_and(|idle| idle >= GONE_IDLE)
    }

    /// Removes what the session has on the disk.
    fn remove(self) {
        // An idle draft removes itself. What cannot be removed now is found again at the next boot.
        if let State::Resting(rested) = self.state
            && let Err(error) = rested.remove()
        {
            tracing::warn!(%error, "a draft cannot be removed");
        }
    }
}

/// All sessions of a node. `E` is how a commit fails.
pub(crate) struct Uploads<E> {
    slots: Mutex<HashMap<UploadId, Slot<E>>>,
    max: usize,
}

impl<E> Uploads<E> {
    /// Makes room for `max` sessions, and takes those on that rest from before. `now` tells their age.
    pub(crate) fn new(max: usize, rested: Vec<Rested>, now: SystemTime) -> Self {
        let slot = |rested: Rested| {
            let (id, owner) = rested.name.split_once('.')?;
            let age = now.duration_since(rested.used).unwrap_or_default();
            // The machine may not run for so long yet: then the age counts from now.
            let used = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
            let gone = CancellationToken::new();
            gone.cancel();
            let (id, owner) = (id.parse().ok()?, owner.parse().ok()?);
            let bytes = rested.bytes;
            Some((id, Slot { owner, used, bodies: 0, bytes, gone, state: State::Resting(rested) }))
        };
        Self { slots: Mutex::new(rested.into_iter().filter_map(slot).collect()), max }
    }

    /// Returns the number of open sessions.
    pub(crate) fn count(&self) -> usize {
        self.slots().len()
    }

    /// Opens a session: makes its draft, under a name by which [`Self::new`] finds it again. Blocks on the disk.
    ///
    /// A caller may have as many sessions as are free then, so no few of them leave none. Beyond that, a session that
    /// nobody works on gives way: one at rest of a caller who holds no less, or any of one who holds clearly more.
    ///
    /// # Errors
    /// [`UploadError::TooMany`], [`UploadError::Share`], and whatever `draft` says.
    pub(crate) fn open<F: From<UploadError>>(
        &self,
        id: UploadId,
        peer: &Peer,
        now: Instant,
        draft: impl FnOnce(&str) -> Result<Draft, F>,
    ) -> Result<(), F> {
        let Peer { name: owner, gone, .. } = peer.clone();
        let draft = draft(&format!("{id}.{owner}"))?;
        let given = {
            let mut slots = self.slots();
            let own = slots.values().filter(|slot| slot.owner == owner).count() as u64;
            let free = self.max.saturating_sub(slots.len()) as u64;
            let given = if own < free {
                None
            } else {
                let may = |slot: &Slot<E>, held| held > own + 1 || (held >= own && slot.gone.is_cancelled());
                let given = give_way(&mut slots, now, |_| 1, may);
                let refusal =
                    if free > 0 { UploadError::Share { share: own } } else { UploadError::TooMany { max: self.max } };
                Some(given.ok_or(refusal)?)
            };
            let state = State::Idle(Box::new(draft));
            slots.insert(id, Slot { owner, used: now, bodies: 0, bytes: 0, gone, state });
            given
        };
        // Files are removed outside of the lock.
        if let Some(given) = given {
            given.remove();
        }
        Ok(())
    }

    /// Takes a session for one call.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], [`UploadError::Busy`].
    pub(crate) fn take(self: &Arc<Self>, id: UploadId, peer: &Peer) -> Result<Taken<E>, UploadError> {
        let mut slots = self.slots();
        let slot = own(&mut slots, id, peer)?;
        let bytes = slot.bytes;
        let held = match std::mem::replace(&mut slot.state, State::Taken) {
            State::Resting(rested) => Held::Resting(rested),
            State::Idle(draft) => Held::Draft(draft),
            busy => {
                slot.state = busy;
                return Err(UploadError::Busy);
            }
        };
        slot.gone = peer.gone.clone();
        Ok(Taken { uploads: self.clone(), id, bytes, held: Some(held) })
    }

    /// Announces the body of a call that could take the session now. Until what is returned is dropped, the session
    /// gives way to nobody; other calls may take it all the same.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn expect_body(self: &Arc<Self>, id: UploadId, peer: &Peer) -> Result<Expected<E>, UploadError> {
        let mut slots = self.slots();
        let slot = own(&mut slots, id, peer)?;
        match slot.state {
            State::Resting(_) | State::Idle(_) => slot.bodies += 1,
            State::Taken | State::Committing(..) => return Err(UploadError::Busy),
        }
        Ok(Expected { uploads: self.clone(), id })
    }

    /// Takes a session for its commit as a shard, whose outcome is `outcome`. A commit that runs already is not begun
    /// again: its outcome is returned instead.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], [`UploadError::Busy`].
    pub(crate) fn take_to_commit(
        self: &Arc<Self>,
        id: UploadId,
        peer: &Peer,
        shard: ShardId,
        outcome: &Outcome<E>,
    ) -> Result<Result<Taken<E>, Outcome<E>>, UploadError> {
        if let State::Committing(under_way, outcome) = &own(&mut self.slots(), id, peer)?.state
            && *under_way == shard
        {
            return Ok(Err(outcome.clone()));
        }
        let taken = self.take(id, peer)?;
        if let Some(slot) = self.slots().get_mut(&id) {
            slot.state = State::Committing(shard, outcome.clone());
        }
        Ok(Ok(taken))
    }

    /// Drops the sessions that nobody used in `idle`, and of those at rest so many that no more than `bytes_max` are
    /// left of them.
    pub(crate) fn sweep(&self, idle: Duration, bytes_max: u64, now: Instant) {
        let is_old = |slot: &Slot<E>| slot.idle(now).is_some_and(|unused| unused >= idle);
        // Files are removed outside of the lock.
        let old: Vec<_> = self.slots().extract_if(|_, slot| is_old(slot)).map(|(_, slot)| slot).collect();
        let mut dropped = old.len();
        old.into_iter().for_each(Slot::remove);
        let is_at_rest = |slot: &Slot<E>, _| slot.gone.is_cancelled();
        while self.resting_bytes(now) > bytes_max && self.drop_one(now, is_at_rest).is_some() {
            dropped += 1;
        }
        if dropped > 0 {
            tracing::info!(uploads = dropped, "dropped uploads that nobody went on with");
        }
    }

    /// Drops a session that nobody used lately, if there is any, for its room: one at rest before one whose caller is
    /// there, of the caller whose sessions take the most bytes.
    pub(crate) fn yield_room(&self, now: Instant) -> Option<()> {
        self.drop_one(now, |_, _| true)
    }

    /// The same of those that `may` go, which is told how many bytes their callers have.
    fn drop_one(&self, now: Instant, may: impl Fn(&Slot<E>, u64) -> bool) -> Option<()> {
        let given = give_way(&mut self.slots(), now, |slot| slot.bytes, may);
        given.map(Slot::remove)
    }

    /// Returns the bytes of all drafts.
    pub(crate) fn bytes(&self) -> u64 {
        self.slots().values().map(|slot| slot.bytes).sum()
    }

    fn resting_bytes(&self, now: Instant) -> u64 {
        self.slots().values().filter(|slot| slot.is_resting(now)).map(|slot| slot.bytes).sum()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<UploadId, Slot<E>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out a session that nobody used lately and that `may` go, which is told how much its caller holds by `weight`:
/// one at rest, if there is any; of the caller who holds the most, the one unused for longest.
fn give_way<E>(
    slots: &mut HashMap<UploadId, Slot<E>>,
    now: Instant,
    weight: impl Fn(&Slot<E>) -> u64,
    may: impl Fn(&Slot<E>, u64) -> bool,
) -> Option<Slot<E>> {
    let mut held: HashMap<&NodeName, u64> = HashMap::new();
    for slot in slots.values() {
        *held.entry(&slot.owner).or_default() += weight(slot);
    }
    let is_unused = |slot: &Slot<E>| slot.idle(now).is_some_and(|idle| idle >= GONE_IDLE);
    let unused = slots.iter().filter(|(_, slot)| is_unused(slot)).map(|(id, slot)| (held[&slot.owner], slot, id));
    let may_go = unused.filter(|(held, slot, _)| may(slot, *held));
    let (.., id) = may_go.max_by_key(|(held, slot, _)| (slot.gone.is_cancelled(), *held, Reverse(slot.used)))?;
    let id = *id;
    slots.remove(&id)
}

impl<E> Drop for Uploads<E> {
    fn drop(&mut self) {
        for (_, slot) in self.slots().drain() {
            if let State::Idle(draft) = slot.state {
                draft.rest();
            }
        }
    }
}

fn own<'s, E>(
    slots: &'s mut HashMap<UploadId, Slot<E>>,
    id: UploadId,
    peer: &Peer,
) -> Result<&'s mut Slot<E>, UploadError> {
    slots.get_mut(&id).filter(|slot| slot.owner == peer.name).ok_or(UploadError::Unknown)
}

enum Held {
    Resting(Rested),
    Draft(Box<Draft>),
}

/// A body on its way to a session.
pub(crate) struct Expected<E> {
    uploads: Arc<Uploads<E>>,
    id: UploadId,
}

impl<E> Drop for Expected<E> {
    fn drop(&mut self) {
        if let Some(slot) = self.uploads.slots().get_mut(&self.id) {
            slot.bodies -= 1;
        }
    }
}

/// A session in the hands of one call. Dropped, it goes back, whatever became of the call.
pub(crate) struct Taken<E> {
    uploads: Arc<Uploads<E>>,
    id: UploadId,
    /// Bytes of the draft before the call.
    bytes: u64,
    /// None once the session has ended.
    held: Option<Held>,
}

impl<E> Taken<E> {
    /// Returns whether the draft is still to be read back.
    pub(crate) fn is_resting(&self) -> bool {
        matches!(self.held, Some(Held::Resting(_)))
    }

    /// Returns the draft; one at rest is read back, which costs a hash over all its bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn draft(&mut self, store: &Arc<Store>) -> Result<&mut Draft, StoreError> {
        if let Some(Held::Resting(rested)) = &self.held {
            let draft = store.resume(rested)?;
            // What was half written is cut off.
            self.bytes = draft.bytes();
            self.held = Some(Held::Draft(Box::new(draft)));
        }
        match &mut self.held {
            Some(Held::Draft(draft)) => Ok(draft),
            _ => unreachable!("only end takes what is held, and it takes all of this"),
        }
    }

    /// Counts bytes that the call is about to write, where all drafts may have `room` together. What it does not write
    /// is given back when the call ends.
    ///
    /// # Errors
    /// [`UploadError::BytesShare`], [`UploadError::TooLarge`]; then nothing is counted.
    pub(crate) fn reserve(&self, asked: u64, room: u64) -> Result<(), UploadError> {
        let mut slots = self.uploads.slots();
        let bytes_of = |owner: Option<&NodeName>| -> u64 {
            let of_it = slots.values().filter(|slot| owner.is_none_or(|owner| slot.owner == *owner));
            of_it.map(|slot| slot.bytes).sum()
        };
        let owner = slots.get(&self.id).map(|slot| &slot.owner);
        let own = bytes_of(owner);
        let share = bytes_share(room.saturating_sub(bytes_of(None) - own));
        if own.saturating_add(asked) > share {
            let is_alone = slots.iter().all(|(id, slot)| *id == self.id || slot.bytes == 0);
            let refused = UploadError::BytesShare { held: own, share, asked };
            return Err(if is_alone { UploadError::TooLarge } else { refused });
        }
        if let Some(slot) = slots.get_mut(&self.id) {
            slot.bytes += asked;
        }
        Ok(())
    }

    /// Drops a session that nobody used lately, if there is any, for the room that [`Self::reserve`] refused: one at
    /// rest of a caller whose sessions take no fewer bytes than those of this one, or any of one whose take more.
    pub(crate) fn make_room(&self, now: Instant) -> Option<()> {
        let own: u64 = {
            let slots = self.uploads.slots();
            let owner = &slots.get(&self.id)?.owner;
            slots.values().filter(|slot| slot.owner == *owner).map(|slot| slot.bytes).sum()
        };
        let may = |slot: &Slot<E>, held| held > own || (held == own && slot.gone.is_cancelled());
        self.uploads.drop_one(now, |slot, held| slot.bytes > 0 && may(slot, held))
    }

    /// Ends the session. Nothing is left of its draft.
    pub(crate) fn end(mut self) {
        if let Some(Held::Resting(rested)) = self.held.take()
            && let Err(error) = rested.remove()
        {
            tracing::warn!(%error, "a draft cannot be removed");
        }
    }
}

impl<E> Drop for Taken<E> {
    fn drop(&mut self) {
        let mut slots = self.uploads.slots();
        let (bytes, state) = match self.held.take() {
            None => return drop(slots.remove(&self.id)),
            Some(Held::Resting(rested)) => (rested.bytes, State::Resting(rested)),
            Some(Held::Draft(draft)) => (draft.bytes(), State::Idle(draft)),
        };
        if let Some(slot) = slots.get_mut(&self.id) {
            (slot.bytes, slot.state) = (bytes, state);
            if bytes > self.bytes {
                slot.used = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use format::{ObjectId, wire::Role};

    use super::*;
    use crate::store::RealDisk;

    fn peer(name: &str) -> Peer {
        Peer { name: name.parse().unwrap(), role: Role::Twin, gone: CancellationToken::new() }
    }

    struct World {
        dir: tempfile::TempDir,
        store: Arc<Store>,
        uploads: Arc<Uploads<()>>,
    }

    impl World {
        fn new(max: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Arc::new(Store::open(dir.path(), Arc::new(RealDisk)).unwrap());
            Self { dir, store, uploads: Arc::new(Uploads::new(max, Vec::new(), SystemTime::now())) }
        }

        fn open(&self, byte: u8, peer: &Peer, now: Instant) -> Result<UploadId, UploadError> {
            let id = UploadId::from_bytes([byte; 16]);
            self.uploads.open(id, peer, now, |name| Ok::<_, UploadError>(self.store.draft(name, 0, 6).unwrap()))?;
            Ok(id)
        }

        fn files(&self) -> usize {
            std::fs::read_dir(self.dir.path().join("tmp")).unwrap().count()
        }
    }

    #[test]
    fn a_session_whose_caller_is_gone_gives_way_to_who_needs_its_place() {
        let (world, now) = (World::new(4), Instant::now());
        let (before, after, other) = (peer("t1"), peer("t1"), peer("t2"));
        let [broken, resumed] = [1, 2].map(|byte| world.open(byte, &before, now).unwrap());
        let third = world.open(3, &other, now).unwrap();
        world.open(4, &peer("t3"), now).unwrap();
        before.gone.cancel();
        drop(world.uploads.take(resumed, &after).unwrap());
        let soon = now + GONE_IDLE - Duration::from_secs(1);
        assert_eq!(world.open(5, &peer("t4"), soon), Err(UploadError::TooMany { max: 4 }));
        let later = now + GONE_IDLE + Duration::from_secs(5);
        world.open(5, &peer("t4"), later).unwrap();
        assert_eq!(world.uploads.take(broken, &after).err(), Some(UploadError::Unknown));
        assert!(world.uploads.take(resumed, &after).is_ok() && world.uploads.take(third, &other).is_ok());
        assert_eq!(world.open(6, &after, later), Err(UploadError::TooMany { max: 4 }), "all have their callers");
        assert_eq!(world.files(), 4);
    }

    #[test]
    fn one_caller_has_half_of_a_node_at_most_and_its_own_old_sessions_give_way_to_its_new_ones() {
        let (world, now) = (World::new(4), Instant::now());
        let (greedy, other) = (peer("t1"), peer("t2"));
        let oldest = world.open(1, &greedy, now).unwrap();
        world.open(2, &greedy, now + Duration::from_millis(1)).unwrap();
        assert_eq!(world.open(3, &greedy, now), Err(UploadError::Share { share: 2 }));
        let kept = world.open(4, &other, now).unwrap();
        other.gone.cancel();
        let later = now + GONE_IDLE + Duration::from_secs(1);
        assert_eq!(world.open(5, &greedy, later), Err(UploadError::Share { share: 2 }), "at nobody else's cost");
        greedy.gone.cancel();
        world.open(5, &peer("t1"), later).unwrap();
        assert_eq!(world.uploads.take(oldest, &greedy).err(), Some(UploadError::Unknown));
        assert!(world.uploads.take(kept, &other).is_ok());
    }

    #[test]
    fn few_callers_with_empty_sessions_keep_nobody_out() {
        let (world, now) = (World::new(16), Instant::now());
        let callers: Vec<Peer> = (0..6).map(|number| peer(&format!("t{number}"))).collect();
        let mut byte = 0;
        let mut fill = |caller: &Peer, now| {
            (0..99)
                .take_while(|_| {
                    byte += 1;
                    world.open(byte, caller, now).is_ok()
                })
                .count()
        };
        // Each may have as many as it leaves free, so there is a place for one caller more.
        assert_eq!([0, 1, 2, 3, 4].map(|number| fill(&callers[number], now)), [8, 4, 2, 1, 1]);
        assert_eq!(fill(&callers[5], now), 0, "they may all be at work");
        // Those that nobody works on give way though their callers are connected, until all hold about as many.
        let later = now + GONE_IDLE;
        assert_eq!(fill(&callers[5], later), 4);
        assert_eq!(fill(&callers[1], later), 0, "it holds no less than others");
        let held = |caller: &Peer| world.uploads.slots().values().filter(|slot| slot.owner == caller.name).count();
        assert_eq!(callers.iter().map(held).collect::<Vec<_>>(), [4, 4, 2, 1, 1, 4]);
        assert_eq!(world.files(), 16);
    }

    #[test]
    fn a_session_at_rest_gives_way_before_one_whose_caller_is_there() {
        let (world, now) = (World::new(6), Instant::now());
        let (there, gone) = (peer("t1"), peer("t2"));
        let live = [1, 2, 3].map(|byte| world.open(byte, &there, now).unwrap());
        world.open(4, &gone, now).unwrap();
        world.open(5, &gone, now).unwrap();
        world.open(6, &peer("t3"), now).unwrap();
        gone.gone.cancel();
        world.open(7, &peer("t4"), now + GONE_IDLE).unwrap();
        assert!(live.iter().all(|id| world.uploads.take(*id, &there).is_ok()));
        assert_eq!(world.uploads.count(), 6);
    }

    #[test]
    fn a_session_gives_way_to_nobody_while_a_body_is_on_its_way_to_it() {
        let (world, owner, now) = (World::new(2), peer("t1"), Instant::now());
        let id = world.open(1, &owner, now).unwrap();
        owner.gone.cancel();
        let (first, second) = (world.uploads.expect_body(id, &owner), world.uploads.expect_body(id, &owner));
        drop(first);
        let later = now + GONE_IDLE;
        assert!(world.uploads.yield_room(later).is_none());
        world.uploads.sweep(GONE_IDLE, 0, later);
        drop(world.uploads.take(id, &owner).unwrap());
        assert!(world.uploads.yield_room(later).is_none(), "another call ended");
        drop(second);
        assert!(world.uploads.yield_room(later).is_some());
        assert_eq!(world.uploads.count(), 0);
    }

    #[test]
    fn who_asks_for_a_session_keeps_it_only_while_nobody_needs_its_place() {
        let (world, asking, sending) = (World::new(2), peer("t1"), peer("t2"));
        let opened = Instant::now().checked_sub(GONE_IDLE / 2).unwrap();
        let asked = world.open(1, &asking, opened).unwrap();
        let filled = world.open(2, &sending, opened).unwrap();
        drop(world.uploads.take(asked, &asking).unwrap());
        let sample = testing::Sample::new(1, 3 << 20);
        let mut taken = world.uploads.take(filled, &sending).unwrap();
        taken.draft(&world.store).unwrap().append(0, &sample.columns[0][..1]).unwrap();
        drop(taken);
        for peer in [&asking, &sending] {
            peer.gone.cancel();
        }
        let later = opened + GONE_IDLE;
        world.uploads.sweep(2 * GONE_IDLE, u64::MAX, later);
        assert_eq!(world.uploads.count(), 2);
        assert!(world.uploads.yield_room(later).is_some() && world.uploads.yield_room(later).is_none());
        assert!(world.uploads.take(filled, &sending).is_ok());
    }

    #[test]
    fn who_fills_the_room_with_drafts_at_rest_gives_way_first_however_new_they_are() {
        let (world, now) = (World::new(9), Instant::now());
        let sample = testing::Sample::new(1, 3 << 20);
        let (modest, greedy) = (peer("t1"), peer("t2"));
        let fill = |byte, peer: &Peer, cells: usize| {
            let id = world.open(byte, peer, now).unwrap();
            let mut taken = world.uploads.take(id, peer).unwrap();
            taken.draft(&world.store).unwrap().append(0, &sample.columns[0][..cells]).unwrap();
            id
        };
        let old = [1, 2, 3].map(|byte| fill(byte, &modest, 1));
        let new = [4, 5].map(|byte| fill(byte, &greedy, 3));
        for peer in [&modest, &greedy] {
            peer.gone.cancel();
        }
        let later = Instant::now() + GONE_IDLE;
        let is_there = |id, peer| world.uploads.take(id, peer).is_ok();
        world.uploads.yield_room(later).unwrap();
        assert!(!is_there(new[0], &greedy) && old.iter().all(|id| is_there(*id, &modest)));
    }

    #[test]
    fn the_bytes_of_drafts_are_bounded_for_each_caller_and_in_sum_before_they_are_written() {
        const ROOM: u64 = 4_000_000;
        let (world, now) = (World::new(9), Instant::now());
        let (greedy, other) = (peer("t1"), peer("t2"));
        let sample = testing::Sample::new(1, 3 << 20);
        let bytes = sample.shard(0).len() as u64;
        let [first, second] = [1, 2].map(|byte| world.open(byte, &greedy, now).unwrap());
        let mut taken = world.uploads.take(first, &greedy).unwrap();
        assert_eq!(taken.reserve(1_500_000, ROOM), Ok(()));
        // Another connection of the same caller, while the first call has written nothing yet.
        let again = world.uploads.take(second, &peer("t1")).unwrap();
        let refused = UploadError::BytesShare { held: 1_500_000, share: 2_000_000, asked: 500_001 };
        assert_eq!(again.reserve(500_001, ROOM), Err(refused));
        assert_eq!(again.reserve(500_000, ROOM), Ok(()));
        let third = world.open(3, &other, now).unwrap();
        let others = world.uploads.take(third, &other).unwrap();
        let refused = UploadError::BytesShare { held: 0, share: 1_000_000, asked: 1_000_001 };
        assert_eq!(others.reserve(1_000_001, ROOM), Err(refused), "a part is left for a third");
        assert_eq!(others.reserve(1_000_000, ROOM), Ok(()));
        // The room became less meanwhile.
        let refused = UploadError::BytesShare { held: 1_000_000, share: 500_000, asked: 1 };
        assert_eq!(others.reserve(1, ROOM - 1_000_000), Err(refused));
        // What a call does not write is given back, and what it wrote counts.
        taken.draft(&world.store).unwrap().append(0, &sample.columns[0]).unwrap();
        drop((taken, again, others));
        assert_eq!(world.uploads.bytes(), bytes);
        // What is committed is no draft any more.
        world.uploads.take(first, &greedy).unwrap().end();
        assert_eq!(world.uploads.bytes(), 0);
        // It never fits, whoever else ends.
        let taken = world.uploads.take(second, &greedy).unwrap();
        assert_eq!(taken.reserve(ROOM / 2 + 1, ROOM), Err(UploadError::TooLarge));
    }

    #[test]
    fn drafts_that_nobody_goes_on_with_give_their_room_though_their_callers_are_connected() {
        let world = World::new(9);
        let (modest, greedy, new) = (peer("t1"), peer("t2"), peer("t3"));
        let sample = testing::Sample::new(1, 3 << 20);
        let fill = |byte, peer: &Peer, cells: usize| {
            let id = world.open(byte, peer, Instant::now()).unwrap();
            let mut taken = world.uploads.take(id, peer).unwrap();
            taken.draft(&world.store).unwrap().append(0, &sample.columns[0][..cells]).unwrap();
            id
        };
        let (small, large) = (fill(1, &modest, 1), fill(2, &greedy, 2));
        let mine = world.open(3, &new, Instant::now()).unwrap();
        let taken = world.uploads.take(mine, &new).unwrap();
        let room = world.uploads.bytes() + 9;
        let refused = taken.reserve(9, room).unwrap_err();
        assert!(matches!(refused, UploadError::BytesShare { .. }));
        assert!(taken.make_room(Instant::now()).is_none(), "they may be at work");
        // Asking is no use.
        let later = Instant::now() + GONE_IDLE;
        drop((world.uploads.take(large, &greedy).unwrap(), world.uploads.take(small, &modest).unwrap()));
        assert!(taken.make_room(later).is_some());
        assert_eq!(world.uploads.take(large, &greedy).err(), Some(UploadError::Unknown));
        assert_eq!(taken.reserve(9, room), Ok(()));
        assert!(world.uploads.take(small, &modest).is_ok());
        // A shard needs the room.
        assert!(world.uploads.yield_room(later).is_some() && world.uploads.yield_room(later).is_none());
    }

    #[test]
    fn who_asks_for_a_session_once_a_day_does_not_keep_it() {
        let (world, owner) = (World::new(2), peer("t1"));
        let day = Duration::from_secs(24 * 3600);
        let opened = Instant::now().checked_sub(GONE_IDLE).unwrap();
        let id = world.open(1, &owner, opened).unwrap();
        drop(world.uploads.take(id, &owner).unwrap());
        world.uploads.sweep(day, u64::MAX, opened + day);
        assert_eq!(world.uploads.count(), 0);
    }

    #[test]
    fn one_call_at_a_time_has_the_draft_and_gives_it_back() {
        let (world, owner, now) = (World::new(4), peer("t1"), Instant::now());
        let id = world.open(1, &owner, now).unwrap();
        assert_eq!(world.uploads.take(id, &peer("t2")).err(), Some(UploadError::Unknown));
        let taken = world.uploads.take(id, &owner).unwrap();
        assert_eq!(world.uploads.take(id, &owner).err(), Some(UploadError::Busy));
        assert_eq!(world.uploads.expect_body(id, &owner).err(), Some(UploadError::Busy));
        // A sweep leaves alone what a call works on.
        world.uploads.sweep(Duration::ZERO, 0, now + Duration::from_secs(9));
        drop(taken);
        drop(world.uploads.take(id, &owner).unwrap());
        world.uploads.take(id, &owner).unwrap().end();
        assert_eq!((world.uploads.take(id, &owner).err(), world.uploads.count()), (Some(UploadError::Unknown), 0));

        world.open(2, &owner, now).unwrap();
        world.uploads.sweep(Duration::from_secs(60), 0, now + Duration::from_secs(59));
        assert_eq!(world.uploads.count(), 1);
        world.uploads.sweep(Duration::from_secs(60), 0, now + Duration::from_secs(60));
        assert_eq!((world.uploads.count(), world.files()), (0, 0));
    }

    #[test]
    fn a_commit_that_is_made_again_waits_for_the_first() {
        let (world, owner, now) = (World::new(4), peer("t1"), Instant::now());
        let id = world.open(1, &owner, now).unwrap();
        let shard = |column| ShardId { object: ObjectId([1; 32]), column };
        let (tell, outcome) = watch::channel(None);
        let commit = |column| world.uploads.take_to_commit(id, &owner, shard(column), &outcome);
        let taken = commit(0).unwrap().unwrap();
        assert_eq!(commit(1).err(), Some(UploadError::Busy), "another shard");
        let again = commit(0).unwrap().err().unwrap();
        tell.send(Some(Ok(()))).unwrap();
        assert_eq!(*again.borrow(), Some(Ok(())));
        drop(taken);
        assert!(commit(1).unwrap().is_ok(), "a commit that failed may be tried again");
    }

    #[test]
    fn drafts_outlive_the_node_and_those_at_rest_are_bounded() {
        let mut world = World::new(9);
        let (owner, now) = (peer("t1"), Instant::now());
        let sample = testing::Sample::new(1, 3 << 20);
        let [older, newer] = [1, 2].map(|byte| world.open(byte, &owner, now).unwrap());
        for id in [older, newer] {
            let mut taken = world.uploads.take(id, &owner).unwrap();
            taken.draft(&world.store).unwrap().append(0, &sample.columns[0]).unwrap();
        }
        let bytes = sample.shard(0).len() as u64;
        let restart = |world: &mut World| {
            world.uploads = Arc::new(Uploads::new(9, Vec::new(), SystemTime::now()));
            let rested = world.store.rested().unwrap();
            world.uploads = Arc::new(Uploads::new(9, rested, SystemTime::now() + Duration::from_secs(60)));
        };
        restart(&mut world);
        assert_eq!((world.uploads.count(), world.files()), (2, 2));
        let mut taken = world.uploads.take(older, &owner).unwrap();
        assert_eq!(taken.draft(&world.store).unwrap().cells(), 3);
        drop(taken);
        // Its caller is back, so it is not at rest.
        world.uploads.sweep(Duration::from_secs(3600), bytes, now);
        assert_eq!(world.uploads.count(), 2);
        world.uploads.sweep(Duration::from_secs(3600), bytes - 1, Instant::now() + GONE_IDLE);
        assert_eq!(world.uploads.take(newer, &owner).err(), Some(UploadError::Unknown));
        assert_eq!((world.uploads.count(), world.files()), (1, 1));
    }
}
