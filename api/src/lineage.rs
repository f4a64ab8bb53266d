//! Which token made which. What a token's children have counts against its own bounds too, and what all share is
//! divided among the tokens that the owner made: else whoever may make tokens has as much as they make.
//!
//! Keeps true: who made a token, its quota and its rate never change, and a token that was ended stays known, because
//! what it stored stays. The token of links stands for the owner: those that were made by it begin lines of their own.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::token::{Grant, Maker, TokenId};

/// The tokens that are known.
#[derive(Debug, Default)]
pub(crate) struct Lineage(RwLock<HashMap<TokenId, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    kin: Kin,
    maker: Maker,
}

/// A token of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kin {
    pub(crate) token: TokenId,
    pub(crate) quota_bytes: Option<u64>,
    pub(crate) rate: u32,
}

impl Lineage {
    /// Knows these tokens.
    pub(crate) fn of(grants: &[Grant]) -> Self {
        let it = Self::default();
        grants.iter().for_each(|grant| it.learn(grant));
        it
    }

    /// Knows a token from now on.
    pub(crate) fn learn(&self, grant: &Grant) {
        let kin = Kin { token: grant.id, quota_bytes: grant.quota_bytes, rate: grant.rate };
        if !self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&grant.id) {
            let known = Known { kin, maker: grant.maker };
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(grant.id, known);
        }
    }

    /// Returns a token and those that it descends from, to the one that the owner made.
    pub(crate) fn line(&self, token: TokenId) -> Vec<Kin> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // One that nobody knows yet was made by the owner.
        let unknown = Kin { token, quota_bytes: None, rate: u32::MAX };
        let mut line = vec![tokens.get(&token).map_or(unknown, |known| known.kin)];
        let mut at = tokens.get(&token);
        while let Some(Known { maker: Maker::Token(maker), .. }) = at {
            at = tokens.get(maker).filter(|above| above.maker != Maker::Links);
            line.extend(at.map(|above| above.kin));
        }
        line
    }

    /// Returns the first of a token's line, which the owner made.
    pub(crate) fn root(&self, token: TokenId) -> TokenId {
        self.line(token).last().map_or(token, |root| root.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_up_to_the_token_that_the_owner_made_and_ends_below_the_one_of_links() {
        let id = |at: u8| TokenId([at; 8]);
        let grant = |at: u8, maker| Grant { id: id(at), maker, rate: at.into(), ..Grant::sample(at.into()) };
        let lineage = Lineage::of(&[
            grant(1, Maker::Owner),
            grant(2, Maker::Token(id(1))),
            grant(3, Maker::Token(id(2))),
            grant(4, Maker::Links),
            grant(5, Maker::Token(id(4))),
        ]);
        lineage.learn(&grant(6, Maker::Token(id(5))));
        for (at, line) in [(1, &[1][..]), (3, &[3, 2, 1]), (4, &[4]), (5, &[5]), (6, &[6, 5]), (9, &[9])] {
            let found: Vec<_> = lineage.line(id(at)).iter().map(|kin| kin.token.0[0]).collect();
            assert_eq!(found, line);
            assert_eq!(lineage.root(id(at)), id(*line.last().unwrap()));
        }
        assert_eq!(lineage.line(id(2))[1], Kin { token: id(1), quota_bytes: Some(1), rate: 1 });
    }
}
