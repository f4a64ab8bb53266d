//! Where the columns of one upload lie, and who takes the place of a node that fails.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use format::{Cap, Level, NodeName, wire::NodeEntry};

use super::Session;
use crate::{
    Placement, PlacementAsk, PlacementError, Topology,
    placement::{place, zone_columns_best},
    topology::{silent, zones_of_only},
};

/// The nodes of the columns, and what another choice must keep to.
pub(super) struct Spread {
    ask: PlacementAsk,
    nodes: Arc<Vec<NodeEntry>>,
    pub(super) placement: Placement,
}

impl Spread {
    /// Places all columns, on nodes that are probably gone only where the caps leave no other. The cap of zones is that
    /// of all nodes, so what is gone brings no columns closer together, unless too few would be durable otherwise.
    /// Columns of an earlier attempt stay where they are, but for those whose node takes nothing any more: they move to
    /// another one, if there is one.
    pub(super) fn new(
        mut ask: PlacementAsk,
        topology: &Topology,
        earlier: &[Option<Session>],
    ) -> Result<Self, PlacementError> {
        let nodes = topology.snapshot();
        ask.last = silent(&nodes);
        let entry = |session: &Session| nodes.iter().find(|node| node.name == session.node);
        let known: Vec<Option<&NodeEntry>> = earlier.iter().map(|session| session.as_ref().and_then(entry)).collect();
        let held = |stays: &dyn Fn(&NodeEntry) -> bool| -> Vec<Option<NodeName>> {
            known.iter().map(|node| node.filter(|node| stays(node)).map(|node| node.name.clone())).collect()
        };
        let takes = |node: &NodeEntry| !node.draining && node.free_bytes > 0 && !ask.last.contains(&node.name);
        let moved = place(&PlacementAsk { held: held(&takes), ..ask.clone() }, &nodes).ok();
        // What has to stay with its node after all stays in its column, where the node has its cells.
        let stays =
            |node: &NodeEntry| takes(node) || moved.as_ref().is_none_or(|moved| moved.nodes.contains(&node.name));
        ask.held = held(&stays);
        let mut placement = place(&ask, &nodes)?;
        let up = placement.nodes.iter().filter(|node| !ask.last.contains(*node)).count();
        if up < ask.redundancy.quorum() {
            let excluded = ask.last.clone();
            placement = place(&PlacementAsk { excluded, ..ask.clone() }, &nodes).unwrap_or(placement);
        }
        if !ask.caps.iter().any(|cap| cap.level == Level::Zone) {
            let columns_max = placement.per_zone.max(zone_columns_best(ask.redundancy));
            ask.caps.push(Cap { level: Level::Zone, columns_max: u8::try_from(columns_max).unwrap_or(u8::MAX) });
        }
        Ok(Self { ask, nodes, placement })
    }

    /// Returns the zones of which all origins are silent.
    pub(super) fn silent_zones(&self) -> BTreeSet<String> {
        zones_of_only(&self.ask.last, &self.nodes)
    }

    /// Finds another node for a column whose node failed. Returns `None` if no other is within the owner's places and
    /// caps.
    pub(super) fn replace(&mut self, column: usize) -> Option<NodeName> {
        self.ask.excluded.insert(self.placement.nodes[column].clone());
        self.ask.held = self.placement.nodes.iter().cloned().map(Some).collect();
        self.ask.held[column] = None;
        self.placement = place(&self.ask, &self.nodes).ok()?;
        Some(self.placement.nodes[column].clone())
    }
}

pub(super) fn lock(spread: &Mutex<Spread>) -> MutexGuard<'_, Spread> {
    spread.lock().unwrap_or_else(PoisonError::into_inner)
}
