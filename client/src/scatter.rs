//! Scattering one object, as a state machine. It tracks which columns still take strips, and decides when the upload
//! may be acknowledged. It does no IO and has no clock.

use format::Redundancy;

use crate::{Bug, planted};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Open,
    Durable,
    Failed,
}

/// The state of the columns of one upload.
#[derive(Debug, Clone)]
pub struct Scatter {
    redundancy: Redundancy,
    columns: Vec<Column>,
}

/// Too many columns failed, so the upload can never be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("of {columns} shards {quorum} must be durable, each on an origin of its own, and no more than {left} can be")]
pub struct ScatterLost {
    /// Columns that have not failed.
    pub left: usize,
    /// Columns of the object.
    pub columns: usize,
    /// The write quorum: columns that must be durable.
    pub quorum: usize,
}

impl Scatter {
    /// Starts with all columns open.
    #[must_use]
    pub fn new(redundancy: Redundancy) -> Self {
        Self { redundancy, columns: vec![Column::Open; redundancy.columns()] }
    }

    /// Returns whether a column still takes strips.
    #[must_use]
    pub fn is_open(&self, column: usize) -> bool {
        self.columns.get(column) == Some(&Column::Open)
    }

    /// Returns whether a column is durable.
    #[must_use]
    pub fn is_durable(&self, column: usize) -> bool {
        self.columns.get(column) == Some(&Column::Durable)
    }

    /// Notes that a column's shard is durable. A failed column stays failed, because strips of it are missing.
    pub fn durable(&mut self, column: usize) {
        self.turn(column, Column::Durable);
    }

    /// Notes that a column failed.
    ///
    /// # Errors
    /// [`ScatterLost`] if the quorum can no longer be reached.
    pub fn failed(&mut self, column: usize) -> Result<(), ScatterLost> {
        self.turn(column, Column::Failed);
        let left = self.columns.iter().filter(|column| **column != Column::Failed).count();
        let (columns, quorum) = (self.columns.len(), self.redundancy.quorum());
        if left < quorum { Err(ScatterLost { left, columns, quorum }) } else { Ok(()) }
    }

    /// Returns whether the write quorum, k + ceil(m / 2) columns, is durable. The spread over zones also holds for
    /// every subset of columns: no zone has more than the placement gave it.
    #[must_use]
    pub fn may_acknowledge(&self) -> bool {
        self.count_durable() + usize::from(planted(Bug::Quorum)) >= self.redundancy.quorum()
    }

    /// Returns whether every column is durable or failed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.columns.contains(&Column::Open)
    }

    /// Returns the number of durable columns.
    #[must_use]
    pub fn count_durable(&self) -> usize {
        self.columns.iter().filter(|column| **column == Column::Durable).count()
    }

    fn turn(&mut self, column: usize, to: Column) {
        if let Some(held) = self.columns.get_mut(column).filter(|held| **held == Column::Open) {
            *held = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledges_at_the_quorum_and_gives_up_below_it() {
        let mut scatter = Scatter::new("4+3".parse().unwrap());
        (0..5).for_each(|column| scatter.durable(column));
        assert!(!scatter.may_acknowledge());
        scatter.durable(5);
        assert!(scatter.may_acknowledge() && !scatter.is_settled());
        assert_eq!(scatter.failed(6), Ok(()));
        assert!(scatter.is_settled());
        let mut lost = Scatter::new("4+3".parse().unwrap());
        assert_eq!(lost.failed(0), Ok(()));
        lost.durable(0);
        assert!(!lost.is_durable(0), "a failed column misses strips for ever");
        assert_eq!(lost.failed(1), Err(ScatterLost { left: 5, columns: 7, quorum: 6 }));
    }
}
