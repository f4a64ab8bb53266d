//! What is over: erased, or ended by itself. Who notes something beside the index, as an account of bytes, asks here
//! what may be forgotten of it.

use std::collections::{BTreeMap, BTreeSet};

use client::ReadError;
use format::Locator;
use futures::{StreamExt, stream};

use super::{LeaseChangeError, OBJECTS_AT_ONCE, Patience};
use crate::{
    index::{Index, IndexError},
    retention::is_long_over,
    twin::Twin,
};

/// What became of uploads that the index does not list as living. The others are in none of these.
#[derive(Debug, Default)]
pub struct Over {
    /// Nodes have this owner's word for it, which nobody can make up: it was erased, or the newest lease that most of
    /// its nodes know ended a day or longer ago.
    pub gone: BTreeSet<Locator>,
    /// The index does not know it, and nodes have no such word. An object that no node knows is one of them.
    pub unlisted: BTreeSet<Locator>,
    /// Nodes do not say now, or too few of them, and why.
    pub untold: BTreeMap<Locator, LeaseChangeError>,
}

impl Twin {
    /// Returns which of these uploads are over, as far as nodes say so now: none is asked twice, and one that cannot be
    /// told keeps no other.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn over(&self, locators: BTreeSet<Locator>) -> Result<Over, IndexError> {
        let now = self.now();
        let is_listed = move |index: &Index, locator: &Locator| match index.entry(locator) {
            None => Some(false),
            // Somebody may have renewed it elsewhere, so nodes are asked.
            Some(entry) if entry.name.is_none() && is_long_over(entry.tenure.retention, now) => Some(true),
            Some(_) => None,
        };
        let asked: Result<Vec<(Locator, bool)>, IndexError> = self
            .with_index(move |index| {
                index.refresh()?;
                let of_them = locators.into_iter();
                Ok(of_them.filter_map(|locator| Some((locator, is_listed(index, &locator)?))).collect())
            })
            .await;
        // Each has its own: where one is answered, the others would be asked again for a while.
        let ask = |(locator, is_listed): (Locator, bool)| async move {
            let shown = self.shown(&locator, &Patience::none(), |own| own.len() >= self.majority()).await;
            (locator, is_listed, shown)
        };
        let mut over = Over::default();
        let mut records = stream::iter(asked?.into_iter().map(ask)).buffer_unordered(OBJECTS_AT_ONCE);
        while let Some((locator, is_listed, shown)) = records.next().await {
            match shown {
                // By the clocks of nodes, which told them just now.
                Ok(shown) if shown.is_over(|retention| is_long_over(retention, self.now())) => {
                    over.gone.insert(locator);
                }
                Ok(shown) if !shown.is_sure() => {
                    let unsure = ReadError::Unavailable { locator, source: None };
                    over.untold.insert(locator, LeaseChangeError::Read(unsure));
                }
                Ok(_) | Err(LeaseChangeError::Unknown | LeaseChangeError::NotOurs) if is_listed => {}
                Ok(_) | Err(LeaseChangeError::Unknown | LeaseChangeError::NotOurs) => {
                    over.unlisted.insert(locator);
                }
                Err(error) => {
                    over.untold.insert(locator, error);
                }
            }
        }
        Ok(over)
    }
}
