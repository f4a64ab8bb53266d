//! Which columns move so that nodes are filled alike. Pure.
//!
//! A walk over all objects says how much each node keeps. Once the share of its capacity that a node keeps differs from
//! the mean of all by more than the threshold, columns move from nodes above the mean, the fullest first, to the
//! emptiest node below it that the rules of placement allow, until no node differs by more than half the threshold.
//!
//! A move takes no giver below the mean and no taker above it, and moves do not change the mean. So a giver never takes
//! and a taker never gives: no column moves twice, every move brings both nodes nearer to the mean, and it ends.

use std::collections::BTreeMap;

use format::{Level, NodeName, ObjectId, wire::NodeEntry};

use super::{
    diagnosis::Diagnosis,
    standing::{Standing, Standings},
};
use crate::catalog::ObjectRow;

/// Takers that are tried for one column, the emptiest first; each costs a diagnosis.
const TAKERS_TRIED: usize = 16;

/// One column on its way from a fuller to an emptier node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnMove {
    pub(crate) column: usize,
    pub(crate) to: NodeName,
    pub(crate) bytes: u64,
}

/// How full the nodes are, and how far evening that out has come.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// Bytes that each node keeps, by the last whole walk and the moves since.
    kept: BTreeMap<NodeName, u64>,
    /// How far the objects of a giver were looked at since the last whole walk; none when all were.
    reached: BTreeMap<NodeName, Option<ObjectId>>,
    /// It began and is not yet well within the threshold.
    under_way: bool,
}

/// How full one node is, of those that give and take.
struct Fill<'s> {
    entry: &'s NodeEntry,
    kept: u64,
}

impl Balance {
    /// Takes what a whole walk found each node to keep.
    pub(crate) fn renew(&mut self, kept: BTreeMap<NodeName, u64>) {
        self.kept = kept;
        self.reached.clear();
    }

    /// Returns the node to take from next, and the object after which to look; none when the nodes are filled alike, or
    /// nothing can be done about it. `threshold` is a share of capacity, 0 to 1.
    pub(crate) fn giver(&mut self, standings: &Standings, threshold: f64) -> Option<(NodeName, Option<ObjectId>)> {
        let fills = self.fills(standings);
        let mean = mean(&fills);
        let worst = fills.iter().map(|fill| (fill.share() - mean).abs()).fold(0.0, f64::max);
        self.under_way = worst > if self.under_way { threshold / 2.0 } else { threshold };
        let has_more = |fill: &&Fill| self.reached.get(&fill.entry.name) != Some(&None);
        let givers = fills.iter().filter(|fill| self.under_way && fill.share() > mean).filter(has_more);
        let name = &givers.max_by(|a, b| a.share().total_cmp(&b.share()))?.entry.name;
        Some((name.clone(), self.reached.get(name).copied().flatten()))
    }

    /// Notes that the objects of a giver were looked at up to this one; none: all were.
    pub(crate) fn looked(&mut self, giver: &NodeName, reached: Option<ObjectId>) {
        self.reached.insert(giver.clone(), reached);
    }

    /// Chooses the move of the column that a giver keeps of a healthy object, and counts it as done.
    pub(crate) fn choose(
        &mut self,
        row: &ObjectRow,
        giver: &NodeName,
        standings: &mut Standings,
    ) -> Option<ColumnMove> {
        let caps = standings.caps(row.public.redundancy()?, &row.lease);
        let found = Diagnosis::of(row, standings, &caps);
        let column = found.kept.iter().find(|(_, at)| at == giver)?.0;
        let bytes = row.public.shard_bytes(column);
        let fills = self.fills(standings);
        let mean = mean(&fills);
        let from = fills.iter().find(|fill| fill.entry.name == *giver)?;
        if !found.is_well() || from.share_with(from.kept.checked_sub(bytes)?) < mean {
            return None;
        }
        let holds = |node: &NodeName| row.shards.iter().any(|(_, at)| at == node);
        let has_room = |fill: &&Fill| fill.share_with(fill.kept + bytes) <= mean && fill.entry.free_bytes >= bytes;
        let mut takers: Vec<_> = fills.iter().filter(has_room).filter(|fill| !holds(&fill.entry.name)).collect();
        takers.sort_by(|a, b| a.share().total_cmp(&b.share()));
        let mut tried = takers.into_iter().take(TAKERS_TRIED).map(|fill| &fill.entry.name);
        let to = tried.find(|to| is_well_with(row, column, to, standings, &caps))?.clone();
        *self.kept.entry(giver.clone()).or_default() -= bytes;
        *self.kept.entry(to.clone()).or_default() += bytes;
        Some(ColumnMove { column, to, bytes })
    }

    fn fills<'s>(&self, standings: &'s Standings) -> Vec<Fill<'s>> {
        let known = standings.takers().iter().filter(|entry| entry.capacity_bytes > 0);
        known.map(|entry| Fill { entry, kept: self.kept.get(&entry.name).copied().unwrap_or(0) }).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares of disks; a byte does not matter")]
impl Fill<'_> {
    fn share(&self) -> f64 {
        self.share_with(self.kept)
    }

    fn share_with(&self, kept: u64) -> f64 {
        kept as f64 / self.entry.capacity_bytes as f64
    }
}

/// Returns the share of all capacity that is used; moves do not change it.
#[expect(clippy::cast_precision_loss, reason = "shares of disks; a byte does not matter")]
fn mean(fills: &[Fill<'_>]) -> f64 {
    let kept: u64 = fills.iter().map(|fill| fill.kept).sum();
    let capacity: u64 = fills.iter().map(|fill| fill.entry.capacity_bytes).sum();
    kept as f64 / capacity.max(1) as f64
}

/// Returns whether an object would still be well with one of its columns on another node that is up.
pub(crate) fn is_well_with(
    row: &ObjectRow,
    column: usize,
    to: &NodeName,
    standings: &Standings,
    caps: &[(Level, usize)],
) -> bool {
    let mut moved = row.clone();
    moved.shards.retain(|(held, _)| *held != column);
    moved.shards.push((column, to.clone()));
    standings.of(to) == Standing::Up && Diagnosis::of(&moved, standings, caps).is_well()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use client::{PlacementAsk, Weight, place};
    use format::{Cap, Domain, Lease};
    use proptest::prelude::*;

    use super::*;
    use crate::repair::sample::{cluster, name, row};

    const THRESHOLD: f64 = 0.1;
    /// Objects looked at before another giver may be chosen.
    const PAGE: usize = 16;

    fn kept(rows: &[ObjectRow]) -> BTreeMap<NodeName, u64> {
        let mut kept = BTreeMap::new();
        for row in rows {
            for (column, node) in &row.shards {
                *kept.entry(node.clone()).or_default() += row.public.shard_bytes(*column);
            }
        }
        kept
    }

    /// How far the node that differs most is from the mean, and the sum of all differences in bytes.
    #[expect(clippy::cast_precision_loss, reason = "as in what is tested")]
    fn spread(rows: &[ObjectRow], standings: &Standings) -> (f64, f64) {
        let balance = Balance { kept: kept(rows), ..Balance::default() };
        let fills = balance.fills(standings);
        let off = |fill: &Fill| (fill.share() - mean(&fills)).abs();
        let worst = fills.iter().map(off).fold(0.0, f64::max);
        (worst, fills.iter().map(|fill| off(fill) * fill.entry.capacity_bytes as f64).sum())
    }

    /// Evens out as the scan does after one walk, and does each move at once. Returns the moves by object and column.
    fn even_out(rows: &mut [ObjectRow], balance: &mut Balance, standings: &mut Standings) -> Vec<(usize, ColumnMove)> {
        balance.renew(kept(rows));
        let mut moves = Vec::new();
        let mut reached: BTreeMap<NodeName, usize> = BTreeMap::new();
        while let Some((giver, _)) = balance.giver(standings, THRESHOLD) {
            let from = reached.get(&giver).copied().unwrap_or(0);
            let to = (from + PAGE).min(rows.len());
            for (at, row) in (from..to).zip(&mut rows[from..to]) {
                if let Some(chosen) = balance.choose(row, &giver, standings) {
                    row.shards[chosen.column].1 = chosen.to.clone();
                    moves.push((at, chosen));
                }
            }
            balance.looked(&giver, (to < rows.len()).then_some(ObjectId([1; 32])));
            reached.insert(giver, to);
        }
        assert_eq!(
            balance.kept,
            kept(rows).into_iter().chain(balance.kept.clone().into_iter().filter(|it| it.1 == 0)).collect()
        );
        moves
    }

    fn placed(seed: u8, at: u16, lease: &Lease, nodes: &[NodeEntry]) -> Option<ObjectRow> {
        let mut it = ObjectRow { lease: lease.clone(), ..row() };
        let Lease { wanted, refused, caps, .. } = lease.clone();
        let mut id = [seed; 32];
        id[..2].copy_from_slice(&at.to_le_bytes());
        let ask = PlacementAsk {
            wanted,
            refused,
            caps,
            weight: Weight::Capacity,
            ..PlacementAsk::new(it.public.redundancy()?, id)
        };
        it.shards = place(&ask, nodes).ok()?.nodes.into_iter().enumerate().collect();
        Some(it)
    }

    #[test]
    fn a_new_node_fills_up_to_the_mean_with_the_fewest_bytes() {
        let shard = row().public.shard_bytes(0);
        let mut standings = cluster(9, |n, e| {
            (e.place.zone, e.capacity_bytes, e.free_bytes) = (format!("z{n}"), 100 * shard, 100 * shard);
        });
        let old: Vec<NodeEntry> = standings.takers().iter().filter(|node| node.name != name(4)).cloned().collect();
        let mut rows: Vec<_> = (0..100).filter_map(|at| placed(1, at, &row().lease, &old)).collect();
        let (worst, differences) = spread(&rows, &standings);
        assert!(worst > 0.6, "an empty node among eight that are three quarters full: {worst}");
        let moves = even_out(&mut rows, &mut Balance::default(), &mut standings);
        let (after, left) = spread(&rows, &standings);
        assert!(after <= THRESHOLD / 2.0, "{after}");
        let moved: u64 = moves.iter().map(|(_, chosen)| chosen.bytes).sum();
        #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
        let fewest = (differences - left) / 2.0 - moved as f64;
        assert!(fewest.abs() < 1.0, "every byte moved brings two nodes nearer to the mean by one");

        // As many nodes as columns have no choice: one cannot give what every other holds.
        let mut six =
            cluster(6, |n, e| (e.place.zone, e.capacity_bytes) = (format!("z{n}"), (100 + 50 * n as u64) * shard));
        let mut rows: Vec<_> = (0..60).map(|_| row()).collect();
        assert!(spread(&rows, &six).0 > THRESHOLD);
        assert_eq!(even_out(&mut rows, &mut Balance::default(), &mut six), []);
    }

    #[test]
    fn it_begins_beyond_the_threshold_and_ends_at_half_of_it() {
        // The mean is 50; node 0 keeps so much more, node 1 as much less.
        let mut balance = Balance::default();
        let fourth = |balance: &mut Balance, off: u64| {
            let standings = cluster(4, |_, e| e.capacity_bytes = 1000);
            let kept = [500 + off, 500 - off, 500, 500];
            balance.renew((0..4).map(name).zip(kept).collect());
            balance.giver(&standings, THRESHOLD).map(|(giver, _)| giver)
        };
        let asked = [100, 101, 60, 51, 49, 60, 100, 101].map(|off| fourth(&mut balance, off).is_some());
        assert_eq!(asked, [false, true, true, true, false, false, false, true]);
        assert_eq!(fourth(&mut balance, 200), Some(name(0)));
        balance.looked(&name(0), None);
        assert_eq!(
            balance.giver(&cluster(4, |_, e| e.capacity_bytes = 1000), THRESHOLD),
            None,
            "all its objects were looked at"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn it_ends_keeps_every_rule_and_moves_no_column_twice(
            nodes in prop::collection::vec((0..6usize, 0..3usize, 40..160u64), 7..14), late in prop::collection::vec(0..14usize, 0..5),
            caps in prop::sample::select(vec!["", "zone=2", "zone=1", "operator=3"]), refused: bool, seed: u8,
        ) {
            let shard = row().public.shard_bytes(0);
            let mut standings = cluster(nodes.len(), |n, e| {
                let (zone, operator, capacity) = nodes[n];
                (e.place.zone, e.place.operator) = (format!("z{zone}"), format!("op{operator}"));
                (e.capacity_bytes, e.free_bytes) = (capacity * shard, capacity * shard);
            });
            let lease = Lease {
                caps: caps.parse::<Cap>().into_iter().collect(),
                refused: refused.then(|| "zone:z5".parse::<Domain>().unwrap()).into_iter().collect(),
                ..row().lease
            };
            let plain = row().lease;
            let early: Vec<_> = standings.takers().iter().enumerate().filter(|(n, _)| !late.contains(n)).map(|(_, e)| e.clone()).collect();
            let placed = |at: u16| placed(seed, at, if at.is_multiple_of(2) { &lease } else { &plain }, &early);
            let mut rows: Vec<ObjectRow> = (0..40).filter_map(placed).collect();
            let columns: usize = rows.iter().map(|row| row.shards.len()).sum();
            let is_well = |rows: &[ObjectRow], standings: &mut Standings| rows.iter().filter(|row| {
                let caps = standings.caps(row.public.redundancy().unwrap(), &row.lease);
                !Diagnosis::of(row, standings, &caps).is_well()
            }).count();
            let wrong = is_well(&rows, &mut standings);
            let (mut balance, mut moved) = (Balance::default(), BTreeSet::new());
            let before = spread(&rows, &standings);
            let mut walks = 0;
            loop {
                let moves = even_out(&mut rows, &mut balance, &mut standings);
                for (at, chosen) in &moves {
                    prop_assert!(moved.insert((*at, chosen.column)), "column {} of {at} moved twice", chosen.column);
                }
                walks += 1;
                if moves.is_empty() {
                    break;
                }
                prop_assert!(walks < columns, "it does not end");
            }
            let after = spread(&rows, &standings);
            prop_assert!(is_well(&rows, &mut standings) <= wrong, "a rule was broken");
            prop_assert!(after.1 <= before.1 && after.0 <= before.0.max(THRESHOLD));
            // Either all is within the threshold, or no move is left that the rules allow.
            if after.0 > THRESHOLD {
                let mut again = Balance { kept: kept(&rows), under_way: true, ..Balance::default() };
                for giver in (0..nodes.len()).map(name) {
                    for row in &rows {
                        prop_assert_eq!(again.choose(row, &giver, &mut standings), None);
                    }
                }
            }
        }
    }
}
