//! How each node stands: up, to be emptied, or down. Made from the catalog's list of nodes and its clock.

use std::{collections::BTreeMap, time::Duration};

use format::{
    NodeName,
    wire::{NodeEntry, Role},
};

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It announced itself lately.
    Up,
    /// It is up, and its operator wants it empty.
    Draining,
    /// It did not announce itself for longer than the grace. What it holds may come back with it.
    Down,
}

/// All origins as the catalog last knew them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standings {
    nodes: BTreeMap<NodeName, (Standing, NodeEntry)>,
}

impl Standings {
    /// Judges the nodes. `now` by the catalog's clock, seconds since 1970; a node is down after `grace` without a word.
    pub(crate) fn judge(nodes: Vec<NodeEntry>, now: u64, grace: Duration) -> Self {
        let origins = nodes.into_iter().filter(|node| node.role == Role::Origin);
        let judged = origins.map(|node| {
            let standing = if now.saturating_sub(node.seen) > grace.as_secs() {
                Standing::Down
            } else if node.draining {
                Standing::Draining
            } else {
                Standing::Up
            };
            (node.name.clone(), (standing, node))
        });
        Self { nodes: judged.collect() }
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
    pub(crate) fn takers(&self) -> Vec<NodeEntry> {
        let up = self.nodes.values().filter(|(standing, _)| *standing == Standing::Up);
        up.map(|(_, entry)| entry.clone()).collect()
    }
}
