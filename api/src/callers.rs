//! The requests that are under way by each token: a token has a share of them, with those that it made, and when it is
//! ended, what is under way by it ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::token::TokenId;

/// Who is answered now.
#[derive(Debug)]
pub(crate) struct Callers {
    under_way: Mutex<UnderWay>,
    /// Requests at once of one token, and of those that descend from it.
    pub(crate) max: usize,
}

#[derive(Debug, Default)]
struct UnderWay {
    of: HashMap<TokenId, Caller>,
    /// Requests, by the tokens that the owner made.
    requests: HashMap<TokenId, usize>,
}

#[derive(Debug, Default)]
struct Caller {
    /// Requests, and work for it that no request waits for.
    works: usize,
    ended: CancellationToken,
}

/// A request that is answered, or other work for a token, until drop.
#[derive(Debug)]
pub(crate) struct Answering {
    callers: Arc<Callers>,
    pub(crate) token: TokenId,
    /// The token whose share it takes of.
    root: Option<TokenId>,
}

impl Callers {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), max })
    }

    /// Counts a request of a token, which descends from `root`; none when there are as many as that may have.
    pub(crate) fn enter(self: &Arc<Self>, token: TokenId, root: TokenId) -> Option<Answering> {
        let mut under_way = self.under_way();
        let requests = under_way.requests.entry(root).or_default();
        if *requests >= self.max {
            return None;
        }
        *requests += 1;
        under_way.of.entry(token).or_default().works += 1;
        Some(Answering { callers: self.clone(), token, root: Some(root) })
    }

    /// Counts work for a token that no request waits for: it ends with the token, and takes of no share.
    pub(crate) fn attend(self: &Arc<Self>, token: TokenId) -> Answering {
        self.under_way().of.entry(token).or_default().works += 1;
        Answering { callers: self.clone(), token, root: None }
    }

    /// Returns the tokens by which something is under way.
    pub(crate) fn active(&self) -> Vec<TokenId> {
        self.under_way().of.keys().copied().collect()
    }

    /// Ends what is under way by a token.
    pub(crate) fn end(&self, token: TokenId) {
        if let Some(caller) = self.under_way().of.get(&token) {
            caller.ended.cancel();
        }
    }

    /// Returns what is cancelled when a token is ended by which something is under way.
    pub(crate) fn ended(&self, token: TokenId) -> CancellationToken {
        self.under_way().of.get(&token).map(|caller| caller.ended.clone()).unwrap_or_default()
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut under_way = self.callers.under_way();
        if let Some(caller) = under_way.of.get_mut(&self.token) {
            caller.works -= 1;
            if caller.works == 0 {
                under_way.of.remove(&self.token);
            }
        }
        if let Some(root) = self.root
            && let Some(requests) = under_way.requests.get_mut(&root)
        {
            *requests -= 1;
            if *requests == 0 {
                under_way.requests.remove(&root);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_share_and_its_end_ends_all_that_is_under_way_by_it() {
        let (callers, one, other) = (Callers::new(2), TokenId([1; 8]), TokenId([2; 8]));
        let (first, second) = (callers.enter(one, one), callers.enter(one, one));
        assert!(first.is_some() && second.is_some() && callers.enter(one, one).is_none());
        assert!(callers.enter(other, other).is_some());
        assert_eq!(callers.active(), [one]);
        let ended = callers.ended(one);
        callers.end(other);
        assert!(!ended.is_cancelled());
        callers.end(one);
        assert!(ended.is_cancelled());
        drop(first);
        assert!(callers.enter(one, one).is_some());
        drop(second);
        assert!(callers.active().is_empty() && !callers.ended(one).is_cancelled());
    }

    #[test]
    fn what_a_token_made_takes_of_its_share_and_work_that_nobody_waits_for_of_none() {
        let (callers, one, made) = (Callers::new(2), TokenId([1; 8]), TokenId([2; 8]));
        let held = (callers.enter(one, one), callers.enter(made, one));
        assert!(callers.enter(made, one).is_none() && callers.enter(one, one).is_none());
        let work = callers.attend(made);
        let ended = callers.ended(made);
        drop(held);
        callers.end(one);
        assert!(!ended.is_cancelled(), "each ends by itself");
        callers.end(made);
        assert!(ended.is_cancelled() && callers.enter(one, one).is_some());
        drop(work);
        assert!(callers.active().is_empty());
    }
}
