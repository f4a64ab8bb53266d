//! How many bytes each token has, and is about to have: stored, against its quota; in the spool, against its share of
//! that and the bound of all. An upload takes the bytes that it announces before the first of them comes, and gives
//! back what it did not keep. So uploads that go concurrently stay below their bounds together.
//!
//! Keeps true: an account is what the store's rows count for the token and those that descend from it, and what uploads
//! under way took. Rows that go are given back by what the write says that it removed, so that nothing is given back
//! twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::token::TokenId;

/// What an object counts at least: it has a record at nodes, a lease, and an entry in the index, however short it is.
/// So a quota bounds rows too. `length_counted` of the store has it in SQL.
pub(crate) const OBJECT_BYTES_MIN: u64 = 512;

/// Returns what an upload counts that has so many bytes of content, and so many objects.
pub(crate) fn counted(content_bytes: u64, objects: usize) -> u64 {
    let objects = u64::try_from(objects).unwrap_or(u64::MAX);
    content_bytes.max(objects.saturating_mul(OBJECT_BYTES_MIN))
}

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

/// A token that an upload counts for: its own, or one that this descends from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    pub(crate) token: TokenId,
    /// What bounds its account; none for no bound.
    pub(crate) max: Option<u64>,
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
    /// A token that this one descends from would store more than it may.
    #[error(
        "the token that made this one may store {max} bytes in all, with those that it made, and would have {would}; \
         erase something, or ask its owner for more"
    )]
    MakersQuota {
        /// Bytes allowed.
        max: u64,
        /// Bytes that there would be.
        would: u64,
    },
    /// More of the token's, and of those that it made, would lie in the spool than its share.
    #[error(
        "unfinished uploads of one token, and of those that it made, may have {max} bytes on the twin's disk and would \
         have {would}; finish some, or give them up"
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
    holders: Vec<Holder>,
    /// What bounds all accounts together.
    all: Option<u64>,
    taken: u64,
}

impl Accounts {
    /// Opens the accounts of what is stored, with what the store's rows count for each token and for those that it
    /// descends from.
    pub(crate) fn stored(counted: impl Iterator<Item = (Vec<TokenId>, u64)>) -> Arc<Self> {
        Self::open(counted, What::Stored)
    }

    /// Opens those of what is in the spool.
    pub(crate) fn spooled(counted: impl Iterator<Item = (Vec<TokenId>, u64)>) -> Arc<Self> {
        Self::open(counted, What::Spooled)
    }

    fn open(counted: impl Iterator<Item = (Vec<TokenId>, u64)>, what: What) -> Arc<Self> {
        let mut book = Book::default();
        for (line, bytes) in counted.filter(|(_, bytes)| *bytes > 0) {
            book.all += bytes;
            for token in line {
                *book.of.entry(token).or_default() += bytes;
            }
        }
        Arc::new(Self { book: Mutex::new(book), what })
    }

    /// Begins an upload that counts for these: its own token first.
    pub(crate) fn begin(self: &Arc<Self>, holders: Vec<Holder>, all: Option<u64>) -> Reservation {
        Reservation { accounts: self.clone(), holders, all, taken: 0 }
    }

    /// Returns the bytes of all accounts together.
    pub(crate) fn all(&self) -> u64 {
        self.book().all
    }

    /// Gives back what counts no more for these.
    pub(crate) fn give_back(&self, line: impl Iterator<Item = TokenId>, bytes: u64) {
        let mut book = self.book();
        book.all = book.all.saturating_sub(bytes);
        for token in line {
            let left = book.of.get(&token).map_or(0, |used| used.saturating_sub(bytes));
            if left == 0 {
                book.of.remove(&token);
            } else {
                book.of.insert(token, left);
            }
        }
    }

    /// Takes bytes, unless they are beyond a bound.
    fn take(&self, holders: &[Holder], bytes: u64, all_max: Option<u64>) -> Result<(), NoRoom> {
        let mut book = self.book();
        let after = |holder: &Holder| book.of.get(&holder.token).copied().unwrap_or(0).saturating_add(bytes);
        let would: Vec<(TokenId, u64)> = holders.iter().map(|holder| (holder.token, after(holder))).collect();
        for (at, (holder, (_, would))) in holders.iter().zip(&would).enumerate() {
            let Some(max) = holder.max.filter(|max| would > max) else { continue };
            return Err(match self.what {
                What::Spooled => NoRoom::Share { max, would: *would },
                What::Stored if at > 0 => NoRoom::MakersQuota { max, would: *would },
                What::Stored => NoRoom::Quota { max, would: *would },
            });
        }
        let all = book.all.saturating_add(bytes);
        if let Some(max) = all_max.filter(|max| all > *max) {
            return Err(NoRoom::Spool { max, would: all });
        }
        book.all = all;
        book.of.extend(would);
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Returns one for bytes that count already, and so for nobody.
    pub(crate) fn nothing() -> Self {
        Accounts::stored(std::iter::empty()).begin(Vec::new(), None)
    }

    /// Takes as many bytes as it lacks of a number.
    pub(crate) fn reach(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let more = bytes.saturating_sub(self.taken);
        if more > 0 {
            self.accounts.take(&self.holders, more, self.all)?;
            self.taken += more;
        }
        Ok(())
    }

    /// Ends the upload: so many bytes count by a row of the store from now on.
    pub(crate) fn keep(mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.taken);
        if more > 0 {
            // What is stored counts, bound or not.
            self.holders.iter_mut().for_each(|holder| holder.max = None);
            let _ = self.accounts.take(&self.holders, more, None);
        }
        self.taken = (self.taken + more).saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.accounts.give_back(self.holders.iter().map(|holder| holder.token), self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TokenId = TokenId([1; 8]);
    const OTHER: TokenId = TokenId([2; 8]);

    fn bound(token: TokenId, max: u64) -> Vec<Holder> {
        vec![Holder { token, max: Some(max) }]
    }

    #[test]
    fn uploads_at_once_stay_below_the_quota_together_and_give_back_what_they_did_not_store() {
        let accounts = Accounts::stored([(vec![ONE], 40)].into_iter());
        let begin = || accounts.begin(bound(ONE, 100), None);
        let (mut one, mut other) = (begin(), begin());
        assert_eq!((one.reach(30), other.reach(30)), (Ok(()), Ok(())));
        assert_eq!(one.reach(31), Err(NoRoom::Quota { max: 100, would: 101 }));
        assert_eq!(one.reach(30), Ok(()), "what is refused is not taken");
        drop(one);
        assert_eq!(other.reach(60), Ok(()));
        other.keep(50);
        let mut next = begin();
        assert_eq!(next.reach(11), Err(NoRoom::Quota { max: 100, would: 101 }));
        accounts.give_back([ONE].into_iter(), 50);
        assert_eq!((next.reach(60), next.reach(61).is_err()), (Ok(()), true));
        drop(next);
        let mut unbound = accounts.begin(vec![Holder { token: OTHER, max: None }], None);
        assert_eq!(unbound.reach(u64::MAX / 2), Ok(()));
    }

    #[test]
    fn what_a_token_makes_counts_against_its_own_quota_too_and_is_given_back_to_it() {
        let accounts = Accounts::stored([(vec![OTHER, ONE], 40)].into_iter());
        let child = || accounts.begin([bound(OTHER, 100), bound(ONE, 100)].concat(), None);
        let mut maker = accounts.begin(bound(ONE, 100), None);
        assert_eq!(maker.reach(50), Ok(()));
        let mut made = child();
        assert_eq!(made.reach(11), Err(NoRoom::MakersQuota { max: 100, would: 101 }));
        assert_eq!(made.reach(10), Ok(()));
        drop(maker);
        assert_eq!(made.reach(61), Err(NoRoom::Quota { max: 100, would: 101 }));
        made.keep(60);
        assert_eq!(accounts.begin(bound(ONE, 100), None).reach(1), Err(NoRoom::Quota { max: 100, would: 101 }));
        accounts.give_back([OTHER, ONE].into_iter(), 100);
        assert_eq!(accounts.begin(bound(ONE, 100), None).reach(100), Ok(()));
    }

    #[test]
    fn no_token_takes_more_of_the_spool_than_its_share_and_all_no_more_than_there_is() {
        let accounts = Accounts::spooled([(vec![ONE], 10), (vec![OTHER], 0)].into_iter());
        let begin = |token| accounts.begin(bound(token, 50), Some(100));
        let mut one = begin(ONE);
        assert_eq!(one.reach(41), Err(NoRoom::Share { max: 50, would: 51 }));
        assert_eq!(one.reach(40), Ok(()));
        let (mut other, mut third) = (begin(OTHER), begin(TokenId([3; 8])));
        assert_eq!((other.reach(30), third.reach(21)), (Ok(()), Err(NoRoom::Spool { max: 100, would: 101 })));
        one.keep(40);
        assert_eq!(accounts.all(), 80);
        assert_eq!(third.reach(21), Err(NoRoom::Spool { max: 100, would: 101 }));
        accounts.give_back([ONE].into_iter(), 50);
        assert_eq!(third.reach(21), Ok(()));
    }

    #[test]
    fn each_object_counts_however_short_it_is() {
        assert_eq!((counted(0, 1), counted(512, 1), counted(513, 1)), (512, 512, 513));
        assert_eq!((counted(1 << 20, 3), counted(1 << 10, 3)), (1 << 20, 1536));
    }
}
