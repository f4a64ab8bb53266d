//! How many bytes each token has, and is about to have: stored, against its quota; in the spool, against its share of
//! that and the bound of all. An upload takes the bytes that it announces before the first of them comes, and gives
//! back what it did not keep. So uploads that go concurrently stay below their bounds together.
//!
//! Keeps true: an account is what the store's rows count for the token, and what uploads under way took. Rows that go
//! are given back by what the write says that it removed, so that nothing is given back twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::token::TokenId;

/// The accounts of all tokens.
#[derive(Debug)]
pub(crate) struct Accounts {
    book: Mutex<Book>,
    what: What,
}

#[derive(Debug, Default)]
struct Book {
    all: u64,
    of: HashMap<TokenId, u64>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Stored,
    Spooled,
}

/// What bounds an account; none for no bound.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    /// Of the token.
    pub(crate) own: Option<u64>,
    /// Of all together.
    pub(crate) all: Option<u64>,
}

/// There is no room for so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// The token would store more than it may.
    #[error(
        "this token may store {max} bytes in all and would have {would}; erase something, or ask its owner for more"
    )]
    Quota {
        /// Bytes allowed.
        max: u64,
        /// Bytes that there would be.
        would: u64,
    },
    /// More of the token's would lie in the spool than its share.
    #[error(
        "unfinished uploads of one token may have {max} bytes on the twin's disk and would have {would}; \
         finish some, or give them up"
    )]
    Share {
        /// Bytes allowed.
        max: u64,
        /// Bytes that there would be.
        would: u64,
    },
    /// The spool is full.
    #[error("unfinished uploads may have {max} bytes on the twin's disk and would have {would}; try again later")]
    Spool {
        /// Bytes allowed.
        max: u64,
        /// Bytes that there would be.
        would: u64,
    },
}

/// Bytes that an upload took. They are given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    accounts: Arc<Accounts>,
    token: TokenId,
    bounds: Bounds,
    taken: u64,
}

impl Accounts {
    /// Opens the accounts of what is stored, with what the store's rows count.
    pub(crate) fn stored(counted: impl Iterator<Item = (TokenId, u64)>) -> Arc<Self> {
        Self::open(counted, What::Stored)
    }

    /// Opens those of what is in the spool.
    pub(crate) fn spooled(counted: impl Iterator<Item = (TokenId, u64)>) -> Arc<Self> {
        Self::open(counted, What::Spooled)
    }

    fn open(counted: impl Iterator<Item = (TokenId, u64)>, what: What) -> Arc<Self> {
        let of: HashMap<_, _> = counted.filter(|(_, bytes)| *bytes > 0).collect();
        let all = of.values().sum();
        Arc::new(Self { book: Mutex::new(Book { all, of }), what })
    }

    /// Begins an upload by a token.
    pub(crate) fn begin(self: &Arc<Self>, token: TokenId, bounds: Bounds) -> Reservation {
        Reservation { accounts: self.clone(), token, bounds, taken: 0 }
    }

    /// Gives back what counts no more.
    pub(crate) fn give_back(&self, token: TokenId, bytes: u64) {
        let mut book = self.book();
        book.all = book.all.saturating_sub(bytes);
        let left = book.of.get(&token).map_or(0, |used| used.saturating_sub(bytes));
        if left == 0 {
            book.of.remove(&token);
        } else {
            book.of.insert(token, left);
        }
    }

    /// Takes bytes, unless they are beyond a bound.
    fn take(&self, token: TokenId, bytes: u64, bounds: Bounds) -> Result<(), NoRoom> {
        let mut book = self.book();
        let own = book.of.get(&token).copied().unwrap_or(0).saturating_add(bytes);
        let all = book.all.saturating_add(bytes);
        match (bounds.own, self.what) {
            (Some(max), What::Stored) if own > max => return Err(NoRoom::Quota { max, would: own }),
            (Some(max), What::Spooled) if own > max => return Err(NoRoom::Share { max, would: own }),
            _ => {}
        }
        if let Some(max) = bounds.all.filter(|max| all > *max) {
            return Err(NoRoom::Spool { max, would: all });
        }
        book.all = all;
        book.of.insert(token, own);
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Returns one of a token for bytes that count already, and so against nothing.
    pub(crate) fn nothing(token: TokenId) -> Self {
        Accounts::stored(std::iter::empty()).begin(token, Bounds::default())
    }

    /// Takes as many bytes as it lacks of a number.
    pub(crate) fn reach(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let more = bytes.saturating_sub(self.taken);
        if more > 0 {
            self.accounts.take(self.token, more, self.bounds)?;
            self.taken += more;
        }
        Ok(())
    }

    /// Ends the upload: so many bytes count by a row of the store from now on.
    pub(crate) fn keep(mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.taken);
        if more > 0 {
            // What is stored counts, bound or not.
            let _ = self.accounts.take(self.token, more, Bounds::default());
        }
        self.taken = (self.taken + more).saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.accounts.give_back(self.token, self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TokenId = TokenId([1; 8]);
    const OTHER: TokenId = TokenId([2; 8]);

    #[test]
    fn uploads_at_once_stay_below_the_quota_together_and_give_back_what_they_did_not_store() {
        let accounts = Accounts::stored([(ONE, 40)].into_iter());
        let quota = Bounds { own: Some(100), all: None };
        let (mut one, mut other) = (accounts.begin(ONE, quota), accounts.begin(ONE, quota));
        assert_eq!((one.reach(30), other.reach(30)), (Ok(()), Ok(())));
        assert_eq!(one.reach(31), Err(NoRoom::Quota { max: 100, would: 101 }));
        assert_eq!(one.reach(30), Ok(()), "what is refused is not taken");
        drop(one);
        assert_eq!(other.reach(60), Ok(()));
        other.keep(50);
        let mut next = accounts.begin(ONE, quota);
        assert_eq!(next.reach(11), Err(NoRoom::Quota { max: 100, would: 101 }));
        accounts.give_back(ONE, 50);
        assert_eq!((next.reach(60), next.reach(61).is_err()), (Ok(()), true));
        drop(next);
        let mut unbound = accounts.begin(OTHER, Bounds::default());
        assert_eq!(unbound.reach(u64::MAX / 2), Ok(()));
    }

    #[test]
    fn no_token_takes_more_of_the_spool_than_its_share_and_all_no_more_than_there_is() {
        let accounts = Accounts::spooled([(ONE, 10), (OTHER, 0)].into_iter());
        let bounds = Bounds { own: Some(50), all: Some(100) };
        let mut one = accounts.begin(ONE, bounds);
        assert_eq!(one.reach(41), Err(NoRoom::Share { max: 50, would: 51 }));
        assert_eq!(one.reach(40), Ok(()));
        let (mut other, mut third) = (accounts.begin(OTHER, bounds), accounts.begin(TokenId([3; 8]), bounds));
        assert_eq!((other.reach(30), third.reach(21)), (Ok(()), Err(NoRoom::Spool { max: 100, would: 101 })));
        one.keep(40);
        assert_eq!(third.reach(21), Err(NoRoom::Spool { max: 100, would: 101 }));
        accounts.give_back(ONE, 50);
        assert_eq!(third.reach(21), Ok(()));
    }
}
