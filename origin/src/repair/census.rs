//! What a walk over all objects sees of the whole: what each node keeps.

use std::collections::BTreeMap;

use format::{NodeName, PublicManifest};

use super::diagnosis::Diagnosis;

/// Sums over the objects that a walk has passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Bytes of the columns that each node keeps; those that are to move are not among them.
    pub(crate) kept_bytes: BTreeMap<NodeName, u64>,
}

impl Census {
    /// Counts an object.
    pub(crate) fn count(&mut self, public: &PublicManifest, found: &Diagnosis) {
        for (column, node) in &found.kept {
            *self.kept_bytes.entry(node.clone()).or_default() += public.shard_bytes(*column);
        }
    }
}
