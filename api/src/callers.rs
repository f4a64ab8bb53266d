//! The requests that are under way by each token: a token has a share of them, and when it is ended, what is under way
//! by it ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::token::TokenId;

/// Who is answered now.
#[derive(Debug)]
pub(crate) struct Callers {
    of: Mutex<HashMap<TokenId, Caller>>,
    /// Requests of one token at once.
    pub(crate) max: usize,
}

#[derive(Debug, Default)]
struct Caller {
    requests: usize,
    ended: CancellationToken,
}

/// A request that is answered, until drop.
#[derive(Debug)]
pub(crate) struct Answering {
    callers: Arc<Callers>,
    pub(crate) token: TokenId,
}

impl Callers {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { of: Mutex::default(), max })
    }

    /// Counts a request; none when there are as many as the token may have.
    pub(crate) fn enter(self: &Arc<Self>, token: TokenId) -> Option<Answering> {
        let mut callers = self.callers();
        let caller = callers.entry(token).or_default();
        if caller.requests >= self.max {
            return None;
        }
        caller.requests += 1;
        Some(Answering { callers: self.clone(), token })
    }

    /// Returns the tokens by which requests are under way.
    pub(crate) fn active(&self) -> Vec<TokenId> {
        self.callers().keys().copied().collect()
    }

    /// Ends what is under way by a token.
    pub(crate) fn end(&self, token: TokenId) {
        if let Some(caller) = self.callers().get(&token) {
            caller.ended.cancel();
        }
    }

    /// Returns what is cancelled when a token is ended that has requests under way.
    pub(crate) fn ended(&self, token: TokenId) -> CancellationToken {
        self.callers().get(&token).map(|caller| caller.ended.clone()).unwrap_or_default()
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<TokenId, Caller>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut callers = self.callers.callers();
        if let Some(caller) = callers.get_mut(&self.token) {
            caller.requests -= 1;
            if caller.requests == 0 {
                callers.remove(&self.token);
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
        let (first, second) = (callers.enter(one), callers.enter(one));
        assert!(first.is_some() && second.is_some() && callers.enter(one).is_none() && callers.enter(other).is_some());
        assert_eq!(callers.active(), [one]);
        let ended = callers.ended(one);
        callers.end(other);
        assert!(!ended.is_cancelled());
        callers.end(one);
        assert!(ended.is_cancelled());
        drop(first);
        assert!(callers.enter(one).is_some());
        drop(second);
        assert!(callers.active().is_empty() && !callers.ended(one).is_cancelled());
    }
}
