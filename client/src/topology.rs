//! The nodes of the cluster as last heard: a snapshot that readers take without a lock.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use format::{
    NodeName, Place,
    wire::{NodeEntry, Role},
};

/// The known nodes. They are cheap to read and replaced as a whole.
#[derive(Debug)]
pub struct Topology {
    nodes: ArcSwap<Vec<NodeEntry>>,
}

impl Topology {
    /// Starts with these nodes, for example the seeds in a configuration.
    #[must_use]
    pub fn new(nodes: Vec<NodeEntry>) -> Self {
        Self { nodes: ArcSwap::from_pointee(nodes) }
    }

    /// Returns the present nodes.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Vec<NodeEntry>> {
        self.nodes.load_full()
    }

    /// Replaces all nodes. An empty list is ignored: the answer of a node that knows no other must not delete all nodes
    /// here.
    pub fn replace(&self, nodes: Vec<NodeEntry>) {
        if !nodes.is_empty() {
            self.nodes.store(Arc::new(nodes));
        }
    }

    /// Returns a node by name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<NodeEntry> {
        self.nodes.load().iter().find(|node| node.name == *name).cloned()
    }

    /// Returns all origins.
    #[must_use]
    pub fn origins(&self) -> Vec<NodeEntry> {
        self.nodes.load().iter().filter(|node| node.role == Role::Origin).cloned().collect()
    }

    /// Returns the names of all origins, nearest to `place` first.
    #[must_use]
    pub fn origins_by_distance(&self, place: &Place) -> Vec<NodeName> {
        let mut origins: Vec<_> =
            self.origins().into_iter().map(|node| (place.kilometres_to(&node.place), node.name)).collect();
        origins.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        origins.into_iter().map(|(_, name)| name).collect()
    }
}

/// Returns the origins that are probably gone.
pub(crate) fn silent(nodes: &[NodeEntry]) -> BTreeSet<NodeName> {
    let newest = NodeEntry::newest(nodes);
    let silent = nodes.iter().filter(|node| node.role == Role::Origin && node.is_silent(newest));
    silent.map(|node| node.name.clone()).collect()
}

/// Returns the zones of which every origin is one of these.
pub(crate) fn zones_of_only(names: &BTreeSet<NodeName>, nodes: &[NodeEntry]) -> BTreeSet<String> {
    let (gone, up): (Vec<&NodeEntry>, Vec<&NodeEntry>) =
        nodes.iter().filter(|node| node.role == Role::Origin).partition(|node| names.contains(&node.name));
    let up: BTreeSet<&str> = up.into_iter().map(|node| &*node.place.zone).collect();
    let zones = gone.into_iter().map(|node| &*node.place.zone).filter(|zone| !up.contains(zone));
    zones.map(str::to_owned).collect()
}
