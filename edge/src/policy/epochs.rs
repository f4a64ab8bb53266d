//! Epochs of policies: by them whoever keeps what came of a policy learns that the policy may decide otherwise now.
//!
//! Nothing is kept for each policy, so there is nothing to forget: policies share a fixed number of epochs, and one
//! that shares with another is taken to have changed with it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use format::{OwnerId, PolicyName};

/// Epochs there are. Of 256 policies that an edge has in use, one in 16 has another's change for its own.
const EPOCHS: usize = 4096;

/// The epochs of all policies.
pub(super) struct Epochs {
    of: Box<[AtomicU64]>,
    /// Which is whose: no owner chooses with whom to share.
    shares: RandomState,
}

/// The epoch of a policy at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Epoch {
    share: usize,
    number: u64,
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self { of: (0..EPOCHS).map(|_| AtomicU64::new(0)).collect(), shares: RandomState::new() }
    }

    /// Returns the epoch of a policy.
    pub(super) fn now(&self, owner: &OwnerId, name: &PolicyName) -> Epoch {
        let share = self.share(owner, name);
        Epoch { share, number: self.of[share].load(Ordering::Acquire) }
    }

    /// Whether a policy whose epoch this was may decide otherwise now.
    pub(super) fn is_over(&self, epoch: Epoch) -> bool {
        self.of[epoch.share].load(Ordering::Acquire) != epoch.number
    }

    /// Ends the epoch of a policy.
    pub(super) fn end(&self, owner: &OwnerId, name: &PolicyName) {
        self.of[self.share(owner, name)].fetch_add(1, Ordering::Release);
    }

    /// Ends the epochs of all policies.
    pub(super) fn end_all(&self) {
        for epoch in &self.of {
            epoch.fetch_add(1, Ordering::Release);
        }
    }

    fn share(&self, owner: &OwnerId, name: &PolicyName) -> usize {
        let hash = self.shares.hash_one((owner, name));
        usize::try_from(hash % EPOCHS as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_s_epoch_ends_with_its_own_change_and_hardly_with_another_s() {
        let epochs = Epochs::new();
        let owner = |number: u8| OwnerId([number; 32]);
        let (one, two): (PolicyName, PolicyName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let all: Vec<_> = (0..=255).flat_map(|number| [(owner(number), &one), (owner(number), &two)]).collect();
        let before: Vec<_> = all.iter().map(|(owner, name)| epochs.now(owner, name)).collect();
        assert!(before.iter().all(|epoch| !epochs.is_over(*epoch)));
        epochs.end(&owner(7), &one);
        let over = before.iter().filter(|epoch| epochs.is_over(**epoch)).count();
        // Of 511 others more than eight share it once in some 60 million million runs.
        assert!((1..=9).contains(&over) && epochs.is_over(before[14]), "{over}");
        assert!(!epochs.is_over(epochs.now(&owner(7), &one)));
        epochs.end_all();
        assert!(before.iter().all(|epoch| epochs.is_over(*epoch)));
    }
}
