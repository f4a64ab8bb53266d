//! What an object lacks, by what the catalog knows: which columns are lost, which lie where they should not, and
//! whether to act now. Pure.
//!
//! Repair is lazy: while more than k + ceil(m / 2) columns can be read it waits, because most nodes that fall silent
//! come back, and every repair that waits is done together with the next loss for the same k reads (Silberstein et al.,
//! "Lazy Means Smart", 2014). Columns on nodes that are to be emptied, or where the lease or the spread forbids, move
//! at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use format::{Domain, Level, NodeName, PublicManifest, wire::NodeEntry};

use super::standing::{Standing, Standings};
use crate::catalog::{ObjectRow, RepairCause};

/// What is known of an object's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// Columns that lie well, each with the node that keeps it.
    pub(crate) kept: Vec<(usize, NodeName)>,
    /// Columns that can be read and should lie elsewhere.
    pub(crate) displaced: Vec<(usize, NodeName)>,
    /// Columns that cannot be read.
    pub(crate) lost: Vec<usize>,
    /// Columns that may still go before the object cannot be read; below zero it cannot.
    pub(crate) margin: i32,
    /// Whether to act now, and why.
    pub(crate) act: Option<RepairCause>,
}

impl Diagnosis {
    /// Judges an object. `caps` is the most of its columns that may lie in one place of each level.
    pub(crate) fn of(row: &ObjectRow, standings: &Standings, caps: &[(Level, usize)]) -> Self {
        let ObjectRow { public, lease, shards, .. } = row;
        let mut it = Self { kept: vec![], displaced: vec![], lost: vec![], margin: i32::MAX, act: None };
        let Some(redundancy) = public.redundancy() else { return it };
        let mut crowds = Crowds { caps, count: BTreeMap::new() };
        let mut moves_from = BTreeSet::new();
        // A column without strips needs nobody: it counts as there and is never repaired.
        let mut readable = (0..public.columns()).filter(|column| is_empty(public, *column)).count();
        for column in (0..public.columns()).filter(|column| !is_empty(public, *column)) {
            let holders = shards.iter().filter(|(held, _)| *held == column).map(|(_, node)| node);
            let alive: Vec<&NodeName> = holders.filter(|node| standings.of(node) != Standing::Down).collect();
            let Some(first) = alive.first().copied() else {
                it.lost.push(column);
                continue;
            };
            readable += 1;
            let well = alive.iter().filter_map(|node| {
                let entry = standings.entry(node).filter(|_| standings.of(node) == Standing::Up)?;
                Domain::allow(&lease.wanted, &lease.refused, &entry.place).then_some(entry)
            });
            let well: Vec<&NodeEntry> = well.collect();
            if let Some(entry) = well.iter().find(|entry| crowds.have_room(entry)) {
                crowds.add(entry);
                it.kept.push((column, entry.name.clone()));
            } else {
                let from = well.first().map_or(first, |entry| &entry.name);
                moves_from.insert(standings.of(from));
                it.displaced.push((column, from.clone()));
            }
        }
        it.margin = i32::try_from(readable).unwrap_or(i32::MAX) - i32::try_from(redundancy.data()).unwrap_or(0);
        it.act = if !it.lost.is_empty() && readable <= redundancy.quorum() {
            Some(RepairCause::Scan)
        } else if moves_from.contains(&Standing::Draining) {
            Some(RepairCause::Drain)
        } else if !moves_from.is_empty() {
            Some(RepairCause::Place)
        } else {
            None
        };
        it
    }

    /// Returns whether every column lies well.
    pub(crate) fn is_well(&self) -> bool {
        self.lost.is_empty() && self.displaced.is_empty()
    }

    /// Returns the bytes of the shards to make again or to move.
    pub(crate) fn bytes(&self, public: &PublicManifest) -> u64 {
        let columns = self.lost.iter().copied().chain(self.displaced.iter().map(|(column, _)| *column));
        columns.map(|column| public.shard_bytes(column)).sum()
    }
}

fn is_empty(public: &PublicManifest, column: usize) -> bool {
    public.column_strips(column) == 0
}

/// Columns that are kept, counted in the places of the levels that are capped.
struct Crowds<'c> {
    caps: &'c [(Level, usize)],
    count: BTreeMap<(Level, Cow<'c, str>), usize>,
}

impl<'c> Crowds<'c> {
    fn have_room(&self, entry: &'c NodeEntry) -> bool {
        self.caps.iter().all(|(level, columns_max)| {
            self.count.get(&(*level, group(*level, entry))).is_none_or(|count| count < columns_max)
        })
    }

    fn add(&mut self, entry: &'c NodeEntry) {
        for (level, _) in self.caps {
            *self.count.entry((*level, group(*level, entry))).or_default() += 1;
        }
    }
}

fn group(level: Level, entry: &NodeEntry) -> Cow<'_, str> {
    if level == Level::Node { entry.name.as_str().into() } else { level.of(&entry.place) }
}

#[cfg(test)]
mod tests {
    use format::Lease;

    use super::*;
    use crate::repair::sample::{cluster, name, row};

    const ANYWHERE: &[(Level, usize)] = &[(Level::Node, 1)];

    #[test]
    fn repair_waits_for_the_quorum_and_not_longer() {
        let down = |count: usize| {
            Diagnosis::of(
                &row(),
                &cluster(8, |n, e| {
                    if n < count {
                        e.seen = 939;
                    }
                }),
                ANYWHERE,
            )
        };
        let acts: Vec<_> = (0..4).map(|count| (down(count).margin, down(count).lost.len(), down(count).act)).collect();
        let scan = Some(RepairCause::Scan);
        assert_eq!(acts, [(2, 0, None), (1, 1, scan), (0, 2, scan), (-1, 3, scan)]);
        assert_eq!(
            Diagnosis::of(
                &row(),
                &cluster(8, |n, e| if n == 0 {
                    e.seen = 940;
                }),
                ANYWHERE
            )
            .act,
            None,
            "within the grace"
        );
    }

    #[test]
    fn what_lies_wrong_moves_at_once_and_stays_readable() {
        let drained = Diagnosis::of(&row(), &cluster(8, |n, e| e.draining = n == 2), ANYWHERE);
        assert_eq!((drained.act, drained.margin), (Some(RepairCause::Drain), 2));
        assert_eq!(drained.displaced, [(2, name(2))]);
        let refused = ObjectRow { lease: Lease { refused: vec!["zone:z0".parse().unwrap()], ..row().lease }, ..row() };
        let refused = Diagnosis::of(&refused, &cluster(8, |_, _| {}), ANYWHERE);
        assert_eq!((refused.act, refused.displaced.len()), (Some(RepairCause::Place), 2));
        let crowded = Diagnosis::of(&row(), &cluster(8, |_, _| {}), &[(Level::Zone, 1)]);
        assert_eq!((crowded.act, crowded.kept.len(), crowded.displaced.len()), (Some(RepairCause::Place), 3, 3));
    }

    #[test]
    fn caps_of_every_level_hold_also_for_what_was_placed_before_them() {
        // Nodes 0 to 3 are one operator's, 4 and 5 another's; all are in one building that nobody named.
        let operators = |n: usize, e: &mut NodeEntry| e.place.operator = if n < 4 { "a" } else { "b" }.into();
        let redundancy = row().public.redundancy().unwrap();
        for (cap, displaced) in
            [("country=5", 1), ("region=6", 0), ("operator=2", 2), ("datacentre=4", 2), ("zone=1", 3), ("node=1", 0)]
        {
            let mut nodes = cluster(8, operators);
            let lease = Lease { caps: vec![cap.parse().unwrap()], ..row().lease };
            let caps = nodes.caps(redundancy, &lease);
            let found = Diagnosis::of(&ObjectRow { lease, ..row() }, &nodes, &caps);
            assert_eq!((found.displaced.len(), found.margin), (displaced, 2), "{cap}");
            assert_eq!(found.act, (displaced > 0).then_some(RepairCause::Place), "{cap}");
        }
        // Without an owner's cap two columns of six lie in one of four zones, and a node has one in any case.
        assert_eq!(cluster(8, operators).caps(redundancy, &row().lease), [(Level::Zone, 2), (Level::Node, 1)]);
        let doubled = ObjectRow { shards: (0..6).map(|column| (column, name(column.max(1)))).collect(), ..row() };
        assert_eq!(Diagnosis::of(&doubled, &cluster(8, |_, _| {}), ANYWHERE).displaced, [(1, name(1))]);
    }

    #[test]
    fn a_column_that_lies_twice_counts_once_and_where_it_lies_best() {
        let mut twice = row();
        twice.shards.push((2, name(7)));
        let found = Diagnosis::of(&twice, &cluster(8, |n, e| e.draining = n == 2), ANYWHERE);
        assert_eq!((found.act, found.kept[2].clone()), (None, (2, name(7))));
        // A crowded zone's column that has moved is kept where there is room.
        let found = Diagnosis::of(&twice, &cluster(8, |_, _| {}), ANYWHERE);
        assert_eq!(found.kept.len(), 6);
        assert_eq!(found.margin, 2);
    }
}
