//! What a walk over all objects sees of the whole: how many objects may lose how many columns, and what each node
//! keeps.

use std::collections::BTreeMap;

use format::{NodeName, PublicManifest, wire::Survey};

use super::diagnosis::Diagnosis;

/// Sums over the objects that a walk has passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Objects by their margin.
    pub(crate) objects: BTreeMap<i32, u64>,
    /// Bytes of the columns that each node keeps; those that are to move are not among them.
    pub(crate) kept_bytes: BTreeMap<NodeName, u64>,
    /// Bytes of all columns that can be read, each counted once.
    pub(crate) stored_bytes: u64,
}

impl Census {
    /// Counts an object.
    pub(crate) fn count(&mut self, public: &PublicManifest, found: &Diagnosis) {
        *self.objects.entry(found.margin).or_default() += 1;
        for (column, node) in &found.kept {
            *self.kept_bytes.entry(node.clone()).or_default() += public.shard_bytes(*column);
        }
        let readable = found.kept.iter().chain(&found.displaced);
        self.stored_bytes += readable.map(|(column, _)| public.shard_bytes(*column)).sum::<u64>();
    }

    /// Returns what others are told of it. `ended` is when the walk did, seconds since 1970 by the catalog's clock.
    pub(crate) fn survey(&self, ended: u64) -> Survey {
        Survey { ended, objects: self.objects.clone(), stored_bytes: self.stored_bytes }
    }
}
