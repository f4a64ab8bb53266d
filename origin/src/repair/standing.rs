//! How each node stands: up, to be emptied, or down; and what the nodes that are up allow. Made from the catalog's list
//! of nodes and its clock.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use format::{
    Domain, Lease, Level, NodeName, Redundancy,
    wire::{NodeEntry, Role},
};

/// Bounds of zones that are remembered; owners choose places, so there may be as many kinds of them as objects.
const ZONE_BOUNDS_MAX: usize = 1_000;

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It announced itself lately.
    Up,
    /// It is up, and its operator wants it empty.
    Draining,
    /// It did not announce itself for longer than the grace. What it holds may come back with it.
    Down,
}

/// What decides over the bound for zones: redundancy, wanted and refused places.
type Kind = (Redundancy, Vec<Domain>, Vec<Domain>);

/// All origins as the catalog last knew them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standings {
    nodes: BTreeMap<NodeName, (Standing, NodeEntry)>,
    /// Nodes that may take shards.
    takers: Vec<NodeEntry>,
    /// The most columns in one zone, for each kind of object asked for: finding it passes over all takers.
    zone_bounds: HashMap<Kind, Option<usize>>,
}

impl Standings {
    /// Judges the nodes. `now` by the catalog's clock, seconds since 1970; a node is down after `grace` without a word.
    /// Nodes announce themselves every `announce`: what goes down together is judged together, although the last words
    /// of its nodes lie that far apart, so that objects which lost several columns are read once for all of them.
    pub(crate) fn judge(nodes: Vec<NodeEntry>, now: u64, grace: Duration, announce: Duration) -> Self {
        let origins: Vec<NodeEntry> = nodes.into_iter().filter(|node| node.role == Role::Origin).collect();
        // A word from the future was said before the clock was set back.
        let silence = |node: &NodeEntry| now.abs_diff(node.seen);
        let longest = origins.iter().map(silence).max().unwrap_or(0);
        // With a short grace the others must not be judged by one announcement that is late.
        let together = announce.saturating_mul(2).min(grace / 4).as_secs();
        let grace = grace.as_secs();
        let grace = if longest > grace { grace - together } else { grace };
        let judged = origins.into_iter().map(|node| {
            let standing = if silence(&node) > grace {
                Standing::Down
            } else if node.draining {
                Standing::Draining
            } else {
                Standing::Up
            };
            (node.name.clone(), (standing, node))
        });
        let nodes: BTreeMap<_, _> = judged.collect();
        let up = nodes.values().filter(|(standing, _)| *standing == Standing::Up);
        let takers = up.map(|(_, entry): &(_, NodeEntry)| entry.clone()).collect();
        Self { nodes, takers, zone_bounds: HashMap::new() }
    }

    /// Returns how a node stands; one that nobody knows is down.
    pub(crate) fn of(&self, node: &NodeName) -> Standing {
        self.nodes.get(node).map_or(Standing::Down, |(standing, _)| *standing)
    }

    pub(crate) fn entry(&self, node: &NodeName) -> Option<&NodeEntry> {
        self.nodes.get(node).map(|(_, entry)| entry)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (&NodeName, Standing)> {
        self.nodes.iter().map(|(name, (standing, _))| (name, *standing))
    }

    /// Returns the nodes that may take shards.
    pub(crate) fn takers(&self) -> &[NodeEntry] {
        &self.takers
    }

    /// Returns how many columns of an object may lie in one place of each level: what the owner says, one on a node,
    /// and in a zone as many as placing it would put there.
    pub(crate) fn caps(&mut self, redundancy: Redundancy, lease: &Lease) -> Vec<(Level, usize)> {
        let owners = lease.caps.iter().filter(|cap| cap.level != Level::Node);
        let mut caps: Vec<_> = owners.map(|cap| (cap.level, usize::from(cap.columns_max))).collect();
        // With caps for other levels only a whole placement says how many a zone must take.
        if caps.is_empty()
            && let Some(columns_max) = self.zone_bound(redundancy, lease)
        {
            caps.push((Level::Zone, columns_max));
        }
        caps.push((Level::Node, 1));
        caps
    }

    fn zone_bound(&mut self, redundancy: Redundancy, lease: &Lease) -> Option<usize> {
        let kind = (redundancy, lease.wanted.clone(), lease.refused.clone());
        if self.zone_bounds.len() >= ZONE_BOUNDS_MAX && !self.zone_bounds.contains_key(&kind) {
            self.zone_bounds.clear();
        }
        let (wanted, refused, takers) = (&lease.wanted, &lease.refused, &self.takers);
        let find = || client::zone_columns_max(redundancy, wanted, refused, takers);
        *self.zone_bounds.entry(kind).or_insert_with(find)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that were last heard at these seconds.
    fn downs(seen: &[u64]) -> Vec<bool> {
        let node = |(number, seen): (usize, &u64)| {
            let entry = serde_json::json!({
                "name": format!("o{number}"), "role": "origin", "address": null, "public": [],
                "place": {"country": "BE", "region": "r", "zone": "z", "operator": "", "datacentre": "",
                          "latitude": 0.0, "longitude": 0.0},
                "capacity_bytes": 1, "free_bytes": 1, "load": 0, "draining": false, "seen": seen,
            });
            serde_json::from_value(entry).unwrap()
        };
        let nodes: Vec<NodeEntry> = seen.iter().enumerate().map(node).collect();
        let names: Vec<NodeName> = nodes.iter().map(|node: &NodeEntry| node.name.clone()).collect();
        let judged = Standings::judge(nodes, 10_000, Duration::from_secs(900), Duration::from_secs(10));
        names.iter().map(|name| judged.of(name) == Standing::Down).collect()
    }

    #[test]
    fn a_node_is_down_after_the_grace_and_what_fell_silent_with_it_too() {
        assert_eq!(downs(&[9_100, 9_990]), [false, false]);
        assert_eq!(downs(&[9_099, 9_990]), [true, false]);
        assert_eq!(downs(&[9_099, 9_119, 9_120, 9_990]), [true, true, false, false]);
        assert_eq!(downs(&[9_119, 9_120]), [false, false], "alone they are not");
    }

    #[test]
    fn a_word_from_the_future_is_a_word_of_another_clock() {
        assert_eq!(downs(&[10_000 + 86_400, 10_005]), [true, false]);
    }
}
