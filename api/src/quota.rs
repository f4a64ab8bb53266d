//! How much each token has stored, and how much it is about to: an upload takes its bytes before they are stored and
//! gives them back unless it ends well. So uploads that go concurrently stay below the quota together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::token::{Grant, TokenId};

/// The accounts of tokens that were used since the start. There are as many as tokens at most.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<TokenId, Arc<AtomicU64>>>);

/// A token would store more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this token may store {quota} bytes in all and would have {would}; erase something, or ask its owner for more")]
pub(crate) struct OverQuota {
    quota: u64,
    would: u64,
}

/// Bytes that an upload took of its token's quota. They are given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    account: Arc<AtomicU64>,
    quota: Option<u64>,
    taken: u64,
}

impl Accounts {
    /// Begins an upload by a token that has `used` so many bytes by what is on disk.
    pub(crate) fn begin(&self, grant: &Grant, used: u64) -> Reservation {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.entry(grant.id).or_insert_with(|| Arc::new(AtomicU64::new(used))).clone();
        Reservation { account, quota: grant.quota_bytes, taken: 0 }
    }

    /// Returns whether an account is open, so that nobody needs to look on the disk.
    pub(crate) fn knows(&self, token: TokenId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&token)
    }

    /// Gives back what was erased.
    pub(crate) fn give_back(&self, token: TokenId, bytes: u64) {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&token) {
            let _ = account.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
        }
    }
}

impl Reservation {
    /// Returns one for bytes that count already.
    pub(crate) fn nothing() -> Self {
        Self { account: Arc::default(), quota: None, taken: 0 }
    }

    /// Takes more bytes.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), OverQuota> {
        let used = self.account.fetch_add(bytes, Relaxed);
        self.taken += bytes;
        match self.quota {
            Some(quota) if used.saturating_add(bytes) > quota => {
                Err(OverQuota { quota, would: used.saturating_add(bytes) })
            }
            _ => Ok(()),
        }
    }

    /// Checks that so many more bytes would do, without taking them.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), OverQuota> {
        let would = self.account.load(Relaxed).saturating_add(bytes);
        match self.quota {
            Some(quota) if would > quota => Err(OverQuota { quota, would }),
            _ => Ok(()),
        }
    }

    /// Ends the upload: so many bytes are stored of it.
    pub(crate) fn keep(mut self, stored: u64) {
        let more = stored.saturating_sub(self.taken);
        self.account.fetch_add(more, Relaxed);
        self.taken = (self.taken + more).saturating_sub(stored);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.fetch_sub(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_at_once_stay_below_the_quota_together_and_give_back_what_they_did_not_store() {
        let grant = Grant::sample(100);
        let accounts = Accounts::default();
        let (mut one, mut other) = (accounts.begin(&grant, 40), accounts.begin(&grant, 999));
        assert_eq!((one.grow(30), other.grow(30)), (Ok(()), Ok(())));
        assert_eq!(other.check(1), Err(OverQuota { quota: 100, would: 101 }));
        assert_eq!(one.grow(1), Err(OverQuota { quota: 100, would: 101 }));
        drop(one);
        assert_eq!(other.grow(30), Ok(()));
        other.keep(60);
        assert!(accounts.begin(&grant, 0).check(1).is_err());
        accounts.give_back(grant.id, 60);
        assert!(accounts.begin(&grant, 0).check(60).is_ok() && accounts.begin(&grant, 0).check(61).is_err());
        assert!(accounts.begin(&Grant { id: TokenId([2; 8]), quota_bytes: None, ..grant }, 0).check(u64::MAX).is_ok());
    }
}
