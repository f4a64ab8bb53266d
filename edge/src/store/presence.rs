//! What is here of an object, in whatever form: its record, reads of it that are under way, blocks, a decoded
//! directory. All of it holds the object's presence. By that its owner's orders find what is here, and what is here
//! learns of them.
//!
//! Keeps true: an order reaches all that is held of an object, whatever was evicted before; and what was read by a
//! record that was looked up before its object was forgotten learns that, however long the read takes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use format::{Locator, OwnerId};

use super::index::{Entered, Index};

/// The presences of all objects.
#[derive(Debug)]
pub(crate) struct Presences {
    of: Mutex<HashMap<Locator, Weak<Presence>>>,
    /// Of each owner what is here.
    owned: Arc<Index<OwnerId, Locator>>,
}

/// That something of an object is here, or is being looked up.
#[derive(Debug)]
pub(crate) struct Presence {
    all: Arc<Presences>,
    locator: Locator,
    /// By which its owner's orders find it, once it is known whose it is.
    entered: OnceLock<Entered<OwnerId, Locator>>,
    /// How often its content was to be forgotten.
    forgotten: AtomicU64,
    /// How often its end was told.
    ended: AtomicU64,
    /// How often a change of its record was told.
    changed: AtomicU64,
    /// The highest version of its lease that was open.
    version: AtomicU64,
}

/// An object's presence as it was when its record was looked up: it tells what was ordered since. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    presence: Arc<Presence>,
    forgotten: u64,
    ended: u64,
    changed: u64,
}

impl Presences {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { of: Mutex::default(), owned: Index::new() })
    }

    /// Returns the claim of a look-up, to be had before any node is asked.
    pub(crate) fn claim(self: &Arc<Self>, locator: Locator) -> Claim {
        let presence = self.enter(locator);
        let [forgotten, ended, changed] =
            [&presence.forgotten, &presence.ended, &presence.changed].map(|count| count.load(SeqCst));
        Claim { presence, forgotten, ended, changed }
    }

    fn enter(self: &Arc<Self>, locator: Locator) -> Arc<Presence> {
        let mut of = self.of();
        let held = of.get(&locator).and_then(Weak::upgrade);
        held.unwrap_or_else(|| {
            let presence = Arc::new(Presence {
                all: Arc::clone(self),
                locator,
                entered: OnceLock::new(),
                forgotten: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                changed: AtomicU64::new(0),
                version: AtomicU64::new(0),
            });
            of.insert(locator, Arc::downgrade(&presence));
            presence
        })
    }

    /// Takes note that the content of an object is forgotten. To be called before it is, so that what comes meanwhile
    /// is either found by who forgets or sees the note.
    pub(crate) fn forget(&self, locator: &Locator) {
        if let Some(presence) = self.find(locator) {
            presence.forgotten.fetch_add(1, SeqCst);
        }
    }

    /// Takes note that the end of an object was told.
    pub(crate) fn end(&self, locator: &Locator) {
        if let Some(presence) = self.find(locator) {
            presence.ended.fetch_add(1, SeqCst);
        }
    }

    /// Takes note that a change of an object's record was told. Of what is not here nothing is noted: however much
    /// an owner changes, it takes no room.
    pub(crate) fn change(&self, locator: &Locator) {
        if let Some(presence) = self.find(locator) {
            presence.changed.fetch_add(1, SeqCst);
        }
    }

    /// Returns what of an owner is here, or was a moment ago.
    pub(crate) fn of_owner(&self, owner: &OwnerId) -> Vec<Locator> {
        self.owned.of(owner)
    }

    fn find(&self, locator: &Locator) -> Option<Arc<Presence>> {
        // Let go of by the caller, without the lock: the last one takes itself out.
        self.of().get(locator).and_then(Weak::upgrade)
    }

    fn of(&self) -> MutexGuard<'_, HashMap<Locator, Weak<Presence>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut of = self.all.of();
        // Another one may stand there by now.
        if of.get(&self.locator).is_some_and(|last| last.strong_count() == 0) {
            of.remove(&self.locator);
        }
    }
}

impl Claim {
    /// Whether the object was to be forgotten since. To be asked once what was read is kept.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.presence.forgotten.load(SeqCst) != self.forgotten
    }

    /// Whether the object's end was told since: it is not served before its record was looked up again.
    pub(crate) fn is_ended(&self) -> bool {
        self.presence.ended.load(SeqCst) != self.ended
    }

    /// Whether a change of the object's record was told since: it is to be looked up again while it serves.
    pub(super) fn is_changed(&self) -> bool {
        self.presence.changed.load(SeqCst) != self.changed
    }

    /// Says whose the object is, once a record opened. A name commits to one owner.
    pub(super) fn belongs_to(&self, owner: OwnerId) {
        let Presence { all, locator, entered, .. } = &*self.presence;
        entered.get_or_init(|| all.owned.enter(owner, *locator));
    }

    /// Takes note that a record with a lease of this version is open. To be called once it is: whoever finds that what
    /// it has is older finds this one.
    pub(super) fn opens(&self, version: u64) {
        self.presence.version.fetch_max(version, SeqCst);
    }

    /// Returns the highest version of the lease that was open.
    pub(super) fn newest(&self) -> u64 {
        self.presence.version.load(SeqCst)
    }

    /// Returns what is to be held beside whatever is kept of the object.
    pub(super) fn presence(&self) -> Arc<Presence> {
        Arc::clone(&self.presence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Locator = Locator([1; 32]);
    const B: Locator = Locator([2; 32]);

    #[test]
    fn what_was_claimed_before_an_order_learns_of_it_and_what_is_claimed_after_does_not() {
        let presences = Presences::new();
        let (before, other) = (presences.claim(A), presences.claim(B));
        let told = |claim: &Claim| (claim.is_forgotten(), claim.is_ended());
        presences.change(&A);
        assert_eq!([&before, &presences.claim(A), &other].map(Claim::is_changed), [true, false, false]);
        presences.forget(&A);
        assert_eq!((told(&before), told(&presences.claim(A))), ((true, false), (false, false)));
        presences.end(&A);
        let after = presences.claim(A);
        assert_eq!((told(&before), told(&after), told(&other)), ((true, true), (false, false), (false, false)));
        after.opens(7);
        after.opens(3);
        assert_eq!((before.newest(), other.newest()), (7, 0));
    }

    #[test]
    fn an_owner_finds_what_is_here_until_the_last_of_it_is_gone() {
        let (presences, owner) = (Presences::new(), OwnerId([7; 32]));
        let record = presences.claim(A);
        record.belongs_to(owner);
        let block = record.presence();
        drop(record);
        assert_eq!(presences.of_owner(&owner), [A], "the block is here");
        let again = presences.claim(A);
        again.belongs_to(owner);
        drop((block, again));
        assert!(presences.of_owner(&owner).is_empty() && presences.of().is_empty(), "nothing is left of it");
        // An order for what is not here finds nothing.
        presences.forget(&A);
        presences.end(&A);
        presences.change(&A);
        assert!(presences.of().is_empty());
    }
}
