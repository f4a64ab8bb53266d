//! Rebuilding the lost columns of one object, as a state machine. It decides which k columns to read. It does no IO and
//! has no clock.
//!
//! Rebuilding one lost column costs reading k others. All lost columns together cost no more, because the k strips read
//! of a stripe give every lost strip of it. A source that fails or lies is replaced by the next best. Strips read
//! before stay valid, because each was proven under its own root.

use format::{NodeName, PublicManifest};

/// A column that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildSource {
    /// The column.
    pub column: usize,
    /// Its node; `None` for a column without strips, which is known without reading.
    pub node: Option<NodeName>,
}

/// Too few columns are left to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{have} columns can be read where {need} are needed; the object is lost unless a node comes back")]
pub struct TooFewSources {
    /// Columns that can still be read.
    pub have: usize,
    /// Columns needed.
    pub need: usize,
}

/// The choice of sources for one rebuild.
#[derive(Debug, Clone)]
pub struct SourceChoice {
    chosen: Vec<RebuildSource>,
    /// Unused sources, best last.
    spare: Vec<RebuildSource>,
}

impl SourceChoice {
    /// Chooses k columns from `healthy`, which is sorted best first. Columns without strips cost nothing and come
    /// first.
    ///
    /// # Errors
    /// [`TooFewSources`].
    pub fn new(public: &PublicManifest, healthy: &[(usize, NodeName)]) -> Result<Self, TooFewSources> {
        let need = public.redundancy().map_or(0, |redundancy| redundancy.data());
        let free = (0..public.columns()).filter(|column| public.column_strips(*column) == 0);
        let mut sources: Vec<RebuildSource> = free.map(|column| RebuildSource { column, node: None }).collect();
        for (column, node) in healthy {
            if public.column_strips(*column) > 0 && sources.iter().all(|source| source.column != *column) {
                sources.push(RebuildSource { column: *column, node: Some(node.clone()) });
            }
        }
        if sources.len() < need {
            return Err(TooFewSources { have: sources.len(), need });
        }
        let mut spare = sources.split_off(need);
        spare.reverse();
        Ok(Self { chosen: sources, spare })
    }

    /// Returns the k columns to read, in the order in which [`format::Rebuild`] takes their strips.
    #[must_use]
    pub fn chosen(&self) -> &[RebuildSource] {
        &self.chosen
    }

    /// Replaces a column that cannot be read by the next best.
    ///
    /// # Errors
    /// [`TooFewSources`] if no other column is left.
    pub fn replace(&mut self, column: usize) -> Result<(), TooFewSources> {
        let Some(at) = self.chosen.iter().position(|source| source.column == column) else { return Ok(()) };
        let need = self.chosen.len();
        match self.spare.pop() {
            Some(next) => {
                self.chosen[at] = next;
                Ok(())
            }
            None => Err(TooFewSources { have: need - 1, need }),
        }
    }
}
