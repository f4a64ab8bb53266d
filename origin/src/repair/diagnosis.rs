//! What an object lacks, by what the catalog knows: which columns are lost, which lie where they should not, and whether to
//! act now. Pure.
//!
//! Repair is lazy: while more than k + ceil(m / 2) columns can be read it waits, because most nodes that fall silent come
//! back, and every repair that waits is done together with the next loss for the same k reads (Silberstein et al., "Lazy Means
//! Smart", 2014). Columns on nodes that are to be emptied, or where the lease or the spread forbids, move at once.

use std::collections::BTreeMap;

use format::{Domain, NodeName, PublicManifest};

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
    /// Judges an object. `zone_columns_max` is the most columns that the placement puts into one zone.
    pub(crate) fn of(row: &ObjectRow, standings: &Standings, zone_columns_max: usize) -> Self {
        let ObjectRow { public, lease, shards, .. } = row;
        let Some(redundancy) = public.redundancy() else {
            return Self { kept: vec![], displaced: vec![], lost: vec![], margin: i32::MAX, act: None };
        };
        let mut it = Self { kept: vec![], displaced: vec![], lost: vec![], margin: 0, act: None };
        let zone_of = |node: &NodeName| standings.entry(node).map_or("", |entry| entry.place.zone.as_str());
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut drains, mut misplaced) = (false, false);
        // A column without strips needs nobody: it counts as there and is never repaired.
        let mut readable = (0..public.columns()).filter(|column| is_empty(public, *column)).count();
        for column in (0..public.columns()).filter(|column| !is_empty(public, *column)) {
            let holders = shards.iter().filter(|(held, _)| *held == column).map(|(_, node)| node);
            let alive: Vec<&NodeName> = holders.filter(|node| standings.of(node) != Standing::Down).collect();
            let Some(first) = alive.first() else {
                it.lost.push(column);
                continue;
            };
            readable += 1;
            let may_stay = |node: &&&NodeName| {
                standings.of(node) == Standing::Up
                    && standings
                        .entry(node)
                        .is_some_and(|entry| Domain::allow(&lease.wanted, &lease.refused, &entry.place))
            };
            let well: Vec<&NodeName> = alive.iter().filter(may_stay).copied().collect();
            let has_room = |node: &&&NodeName| zones.get(zone_of(node)).is_none_or(|count| *count < zone_columns_max);
            match well.iter().find(has_room).or(well.first()).copied() {
                Some(node) => {
                    let in_zone = zones.entry(zone_of(node)).or_default();
                    *in_zone += 1;
                    if *in_zone > zone_columns_max {
                        misplaced = true;
                        it.displaced.push((column, node.clone()));
                    } else {
                        it.kept.push((column, node.clone()));
                    }
                }
                None => {
                    drains |= standings.of(first) == Standing::Draining;
                    misplaced |= standings.of(first) == Standing::Up;
                    it.displaced.push((column, (*first).clone()));
                }
            }
        }
        it.margin = i32::try_from(readable).unwrap_or(i32::MAX) - i32::try_from(redundancy.data()).unwrap_or(0);
        it.act = if !it.lost.is_empty() && readable <= redundancy.quorum() {
            Some(RepairCause::Scan)
        } else if drains {
            Some(RepairCause::Drain)
        } else if misplaced {
            Some(RepairCause::Place)
        } else {
            None
        };
        it
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use format::{
        Attributes, Compression, DataKey, Encoder, EncoderOptions, Kind, Lease, Locator, OwnerId, Place, PolicyName,
        Profile, Retention, Suite,
        wire::{NodeEntry, Role},
    };

    use super::*;

    /// A 4+2 object of four blocks, its column c on node c.
    fn row() -> ObjectRow {
        let profile: Profile = "4+2".parse().unwrap();
        let owner = OwnerId([1; 32]);
        let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Off, owner };
        let mut encoder = Encoder::new(options, DataKey::fresh([2; 32]));
        let bytes = vec![7; 1 << 20];
        let mut input = &bytes[..];
        while encoder.write(&mut input).unwrap().is_some() {}
        let mut ending = encoder.end();
        while ending.stripe().unwrap().is_some() {}
        let attributes =
            Attributes { mime: "a/b".into(), name: String::new(), created: 0, kind: Kind::File, tags: BTreeMap::new() };
        let public = ending.seal(attributes, [3; 32]).unwrap().public;
        let lease = Lease {
            locator: Locator([4; 32]),
            owner,
            version: 1,
            profile,
            wanted: vec![],
            refused: vec![],
            caps: vec![],
            retention: Retention::default(),
            policy: PolicyName::default(),
            erased: false,
            unknown: vec![],
        };
        let shards = (0..6).map(|column| (column, name(column))).collect();
        ObjectRow { public, lease, locators: vec![], shards }
    }

    fn name(number: usize) -> NodeName {
        format!("o{number}").parse().unwrap()
    }

    /// Eight nodes, two in each zone; `change` says what is not as usual.
    fn cluster(change: impl Fn(usize, &mut NodeEntry)) -> Standings {
        let node = |number: usize| {
            let mut entry = NodeEntry {
                name: name(number),
                role: Role::Origin,
                address: None,
                public: vec![],
                place: Place {
                    country: "BE".parse().unwrap(),
                    region: "eu".into(),
                    zone: format!("z{}", number / 2),
                    operator: String::new(),
                    datacentre: String::new(),
                    latitude: 0.0,
                    longitude: 0.0,
                },
                capacity_bytes: 9,
                free_bytes: 9,
                load: 0,
                draining: false,
                seen: 1000,
            };
            change(number, &mut entry);
            entry
        };
        Standings::judge((0..8).map(node).collect(), 1000, Duration::from_secs(60), Duration::ZERO)
    }

    #[test]
    fn repair_waits_for_the_quorum_and_not_longer() {
        let down = |count: usize| {
            Diagnosis::of(
                &row(),
                &cluster(|n, e| {
                    if n < count {
                        e.seen = 939;
                    }
                }),
                6,
            )
        };
        let acts: Vec<_> = (0..4).map(|count| (down(count).margin, down(count).lost.len(), down(count).act)).collect();
        let scan = Some(RepairCause::Scan);
        assert_eq!(acts, [(2, 0, None), (1, 1, scan), (0, 2, scan), (-1, 3, scan)]);
        assert_eq!(
            Diagnosis::of(
                &row(),
                &cluster(|n, e| if n == 0 {
                    e.seen = 940;
                }),
                6
            )
            .act,
            None,
            "within the grace"
        );
    }

    #[test]
    fn what_lies_wrong_moves_at_once_and_stays_readable() {
        let drained = Diagnosis::of(&row(), &cluster(|n, e| e.draining = n == 2), 6);
        assert_eq!((drained.act, drained.margin), (Some(RepairCause::Drain), 2));
        assert_eq!(drained.displaced, [(2, name(2))]);
        let refused = ObjectRow { lease: Lease { refused: vec!["zone:z0".parse().unwrap()], ..row().lease }, ..row() };
        let refused = Diagnosis::of(&refused, &cluster(|_, _| {}), 6);
        assert_eq!((refused.act, refused.displaced.len()), (Some(RepairCause::Place), 2));
        let crowded = Diagnosis::of(&row(), &cluster(|_, _| {}), 1);
        assert_eq!((crowded.act, crowded.kept.len(), crowded.displaced.len()), (Some(RepairCause::Place), 3, 3));
    }

    #[test]
    fn a_column_that_lies_twice_counts_once_and_where_it_lies_best() {
        let mut twice = row();
        twice.shards.push((2, name(7)));
        let found = Diagnosis::of(&twice, &cluster(|n, e| e.draining = n == 2), 6);
        assert_eq!((found.act, found.kept[2].clone()), (None, (2, name(7))));
        // A crowded zone's column that has moved is kept where there is room.
        let found = Diagnosis::of(&twice, &cluster(|_, _| {}), 6);
        assert_eq!(found.kept.len(), 6);
        assert_eq!(found.margin, 2);
    }
}
