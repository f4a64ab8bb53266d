//! What a `put` of several paths has stored and not told yet. Its owner learns the labels at its end: where it was cut
//! short before, the next `put` of these paths finds them here, tells them, and stores nothing twice.
//!
//! A ledger is a journal whose files are whole paths. Its frames are written before nodes are asked to commit, and what
//! the index does not know as stored was not: so no moment is left at which a path is stored and not in its ledger.

use std::{path::PathBuf, sync::Arc};

use format::{Locator, Retention};

use super::{Head, Journal, Journals, Stamp, UnfinishedError};
use crate::index::Batch;

/// In the place of the hash of options, which no options have.
const OPTIONS: [u8; 32] = *b"evernear put of several paths \0\0";

/// The ledger of a command, and those of commands that were cut short before it.
pub(crate) struct Ledger {
    /// The first one is written to.
    journals: Vec<Arc<Journal>>,
}

impl Head {
    /// Returns what begins a ledger. `path` says what is stored.
    pub(crate) fn of_ledger(batch: Batch, path: PathBuf, begun: u64) -> Self {
        Self { batch, path, options: OPTIONS, retention: Retention::default(), asked: [0; 32], begun }
    }

    /// Returns whether this begins a ledger.
    pub(super) fn is_of_ledger(&self) -> bool {
        self.options == OPTIONS
    }
}

impl Journals {
    /// Goes on with the ledgers that no program works on, or begins one. Blocks.
    pub(crate) fn ledger(&self, begun: Head) -> Result<Ledger, UnfinishedError> {
        let mut journals = Vec::new();
        for batch in self.batches()? {
            let opened = match self.look(batch) {
                Ok(journal) if journal.head.is_of_ledger() => self.open(batch),
                _ => continue,
            };
            match opened {
                Ok(journal) => journals.extend(journal.map(Arc::new)),
                Err(error) if error.is_absent() => {}
                Err(error) => tracing::warn!(%error, "what a put stored and did not tell is passed over"),
            }
        }
        if journals.is_empty() {
            journals.push(Arc::new(self.create(begun)?));
        }
        Ok(Ledger { journals })
    }
}

impl Ledger {
    /// Returns what is stored, or was about to be, under a key.
    pub(crate) fn stored(&self, key: &str, stamp: Stamp) -> Option<Locator> {
        self.journals.iter().find_map(|journal| journal.stored(key, stamp))
    }

    /// Notes what is about to be stored under a key.
    pub(crate) fn note(&self, key: &str, stamp: Stamp, locator: Locator) {
        self.journals[0].done(key, stamp, locator);
    }

    /// Forgets what its owner was told, and ends the ledgers of which nothing is left. Blocks.
    pub(crate) fn told(&self, keys: &[&str]) {
        for journal in &self.journals {
            keys.iter().for_each(|key| journal.undone(key));
            if journal.rest().0 == 0 {
                journal.end();
            }
        }
    }
}
