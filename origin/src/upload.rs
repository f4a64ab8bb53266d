//! Upload sessions: one draft of a shard each, owned by the caller who opened it, worked on by one call at a time.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use data_encoding::HEXLOWER;
use format::NodeName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{peer::Peer, store::Draft};

/// How long a session outlives the connection it was last used on: its caller may have lost only that, and comes back
/// on another.
const GONE_IDLE: Duration = Duration::from_secs(30);

/// The name of a session: 128 random bits, so that nobody guesses another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UploadId([u8; 16]);

impl UploadId {
    /// Takes 16 random bytes.
    #[must_use]
    pub(crate) fn from_bytes(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for UploadId {
    type Err = UploadError;

    fn from_str(text: &str) -> Result<Self, UploadError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(UploadError::Unknown)
    }
}

/// Why a session cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    /// There is none of this name, or another caller opened it; the caller's fault.
    #[error("there is no such upload; it ended, was idle for too long, or the node restarted: begin a new one")]
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
}

struct Slot {
    owner: NodeName,
    used: Instant,
    /// Tells that the connection it was last used on has ended.
    gone: CancellationToken,
    /// None while a call has it.
    draft: Option<Box<Draft>>,
}

/// All sessions of a node.
pub(crate) struct Uploads {
    slots: Mutex<HashMap<UploadId, Slot>>,
    max: usize,
}

impl Uploads {
    /// Makes room for `max` sessions.
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Mutex::default(), max }
    }

    /// Returns the number of open sessions.
    pub(crate) fn count(&self) -> usize {
        self.slots().len()
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`UploadError::TooMany`].
    pub(crate) fn open(&self, id: UploadId, peer: &Peer, draft: Draft, now: Instant) -> Result<(), UploadError> {
        let mut slots = self.slots();
        if slots.len() >= self.max {
            return Err(UploadError::TooMany { max: self.max });
        }
        let Peer { name, gone, .. } = peer.clone();
        slots.insert(id, Slot { owner: name, used: now, gone, draft: Some(Box::new(draft)) });
        Ok(())
    }

    /// Takes a session's draft for one call.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], [`UploadError::Busy`].
    pub(crate) fn take(self: &Arc<Self>, id: UploadId, peer: &Peer) -> Result<Taken, UploadError> {
        let mut slots = self.slots();
        let slot = slots.get_mut(&id).filter(|slot| slot.owner == peer.name).ok_or(UploadError::Unknown)?;
        let draft = slot.draft.take().ok_or(UploadError::Busy)?;
        slot.gone = peer.gone.clone();
        Ok(Taken { uploads: self.clone(), id, draft: Some(draft) })
    }

    /// Drops the sessions that nobody used for `idle`, and soon those whose caller is gone: what an upload that was
    /// broken off holds is room that others need.
    pub(crate) fn sweep(&self, idle: Duration, now: Instant) {
        // The drafts remove their files when dropped: not under the lock.
        let dropped: Vec<Slot> = {
            let mut slots = self.slots();
            let patience = |slot: &Slot| if slot.gone.is_cancelled() { idle.min(GONE_IDLE) } else { idle };
            let stale =
                |slot: &Slot| slot.draft.is_some() && now.saturating_duration_since(slot.used) >= patience(slot);
            slots.extract_if(|_, slot| stale(slot)).map(|(_, slot)| slot).collect()
        };
        if !dropped.is_empty() {
            tracing::info!(uploads = dropped.len(), "dropped idle uploads");
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<UploadId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A draft in the hands of one call. Dropped, it goes back to its session, whatever became of the call; what
/// [`Self::into_draft`] took does not, and its session ends.
pub(crate) struct Taken {
    uploads: Arc<Uploads>,
    id: UploadId,
    draft: Option<Box<Draft>>,
}

impl Taken {
    /// Returns the draft.
    pub(crate) fn draft(&mut self) -> &mut Draft {
        self.draft.as_mut().expect("only into_draft takes the draft, and it takes all of this")
    }

    /// Ends the session and returns its draft.
    #[must_use]
    pub(crate) fn into_draft(mut self) -> Box<Draft> {
        self.draft.take().expect("only into_draft takes the draft, and it takes all of this")
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut slots = self.uploads.slots();
        match self.draft.take() {
            None => drop(slots.remove(&self.id)),
            Some(draft) => {
                if let Some(slot) = slots.get_mut(&self.id) {
                    slot.draft = Some(draft);
                    slot.used = Instant::now();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use format::wire::Role;

    use super::*;
    use crate::store::{RealDisk, Store};

    fn peer(name: &str) -> Peer {
        Peer { name: name.parse().unwrap(), role: Role::Twin, gone: CancellationToken::new() }
    }

    #[test]
    fn a_session_whose_caller_is_gone_ends_soon_unless_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), Arc::new(RealDisk)).unwrap());
        let uploads = Arc::new(Uploads::new(2));
        let (broken, resumed, now) = (UploadId::from_bytes([1; 16]), UploadId::from_bytes([2; 16]), Instant::now());
        let (before, after) = (peer("t1"), peer("t1"));
        uploads.open(broken, &before, store.draft("a", 0, 6).unwrap(), now).unwrap();
        uploads.open(resumed, &before, store.draft("b", 0, 6).unwrap(), now).unwrap();
        before.gone.cancel();
        drop(uploads.take(resumed, &after).unwrap());
        let idle = Duration::from_secs(600);
        uploads.sweep(idle, now + GONE_IDLE - Duration::from_secs(1));
        assert_eq!(uploads.count(), 2);
        uploads.sweep(idle, now + GONE_IDLE + Duration::from_secs(5));
        assert_eq!(uploads.take(broken, &after).err(), Some(UploadError::Unknown));
        assert!(uploads.take(resumed, &after).is_ok());
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 1);
    }

    #[test]
    fn one_call_at_a_time_has_the_draft_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), Arc::new(RealDisk)).unwrap());
        let uploads = Arc::new(Uploads::new(2));
        let (id, owner, now) = (UploadId::from_bytes([1; 16]), peer("t1"), Instant::now());
        uploads.open(id, &owner, store.draft("a", 0, 6).unwrap(), now).unwrap();
        assert_eq!(uploads.take(id, &peer("t2")).err(), Some(UploadError::Unknown));
        let taken = uploads.take(id, &owner).unwrap();
        assert_eq!(uploads.take(id, &owner).err(), Some(UploadError::Busy));
        // A sweep leaves alone what a call works on.
        uploads.sweep(Duration::ZERO, now + Duration::from_secs(9));
        drop(taken);
        drop(uploads.take(id, &owner).unwrap());
        drop(uploads.take(id, &owner).unwrap().into_draft());
        assert_eq!((uploads.take(id, &owner).err(), uploads.count()), (Some(UploadError::Unknown), 0));

        let other = UploadId::from_bytes([2; 16]);
        uploads.open(other, &owner, store.draft("b", 0, 6).unwrap(), now).unwrap();
        uploads.sweep(Duration::from_secs(60), now + Duration::from_secs(59));
        assert_eq!(uploads.count(), 1);
        uploads.sweep(Duration::from_secs(60), now + Duration::from_secs(60));
        assert_eq!((uploads.count(), std::fs::read_dir(dir.path().join("tmp")).unwrap().count()), (0, 0));
        assert_eq!(other.to_string().parse(), Ok(other));
        assert!("02".parse::<UploadId>().is_err());
    }
}
