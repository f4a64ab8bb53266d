//! Choosing the nodes of an object: n distinct origins by weighted rendezvous, spread over zones. Pure.

use std::collections::BTreeMap;

use format::{
    Domain, NodeName, Redundancy, rendezvous,
    wire::{NodeEntry, Role},
};

/// What an owner asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementAsk {
    /// Data and parity columns.
    pub redundancy: Redundancy,
    /// Fixes the draw; 32 random bytes for a new object.
    pub seed: [u8; 32],
    /// Only in these places; anywhere when empty.
    pub wanted: Vec<Domain>,
    /// In none of these.
    pub refused: Vec<Domain>,
}

/// A node for each column, and what the spread really survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node of each column.
    pub nodes: Vec<NodeName>,
    /// Most columns in one zone.
    pub per_zone: usize,
    /// Whole zones that may be lost at once, whichever they are.
    pub zones_survived: usize,
}

/// Why an object cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The cluster, or what the owner allows of it, is too small.
    #[error(
        "{redundancy} needs {need} origins, {have} of {known} known ones fit the wanted places; use a smaller profile or allow more places"
    )]
    TooFew {
        /// The redundancy.
        redundancy: Redundancy,
        /// Origins needed.
        need: usize,
        /// Origins that fit.
        have: usize,
        /// Origins known.
        known: usize,
    },
}

/// Chooses a node for each column. The cost is a sort of the nodes: below 5 ms for 10,000.
///
/// At most m / 2 columns lie in one zone when there are enough zones, so that a lost zone leaves half the parity; else the
/// smallest number that fits, and [`Placement::zones_survived`] says what that is worth.
///
/// # Errors
/// [`PlacementError`].
pub fn place(ask: &PlacementAsk, nodes: &[NodeEntry]) -> Result<Placement, PlacementError> {
    let known: Vec<&NodeEntry> = nodes.iter().filter(|node| node.role == Role::Origin).collect();
    let mut scored: Vec<(f64, &NodeEntry)> = known
        .iter()
        .filter(|node| allows(ask, node))
        .map(|node| (rendezvous::score(&ask.seed, node.name.as_str(), weight(node)), *node))
        .filter(|(score, _)| *score > 0.0)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));

    let need = ask.redundancy.columns();
    if scored.len() < need {
        let (redundancy, have, known) = (ask.redundancy, scored.len(), known.len());
        return Err(PlacementError::TooFew { redundancy, need, have, known });
    }
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in &scored {
        *zones.entry(&node.place.zone).or_default() += 1;
    }
    let fits = |cap: usize| zones.values().map(|count| (*count).min(cap)).sum::<usize>() >= need;
    let best = (ask.redundancy.parity() / 2).max(1);
    let cap = (best..=need).find(|cap| fits(*cap)).unwrap_or(need);

    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chosen = Vec::with_capacity(need);
    for (_, node) in scored {
        let in_zone = used.entry(&node.place.zone).or_default();
        if *in_zone < cap && chosen.len() < need {
            *in_zone += 1;
            chosen.push(node.name.clone());
        }
    }
    let per_zone = used.values().copied().max().unwrap_or(0);
    let zones_survived = zones_survived(used.into_values().collect(), ask.redundancy.parity());
    Ok(Placement { nodes: chosen, per_zone, zones_survived })
}

fn allows(ask: &PlacementAsk, node: &NodeEntry) -> bool {
    let wanted = ask.wanted.is_empty() || ask.wanted.iter().any(|domain| domain.holds(&node.place));
    wanted && !ask.refused.iter().any(|domain| domain.holds(&node.place))
}

#[expect(clippy::cast_precision_loss, reason = "a weight; sizes of disks are exact to a few bytes")]
fn weight(node: &NodeEntry) -> f64 {
    node.free_bytes as f64
}

/// How many of the fullest zones together hold no more columns than the parity.
fn zones_survived(mut columns: Vec<usize>, parity: usize) -> usize {
    columns.sort_unstable_by(|a, b| b.cmp(a));
    let mut lost = 0;
    columns
        .into_iter()
        .take_while(|count| {
            lost += count;
            *count > 0 && lost <= parity
        })
        .count()
}

#[cfg(test)]
mod tests {
    use format::Place;

    use super::*;

    fn node(name: &str, zone: &str, free_bytes: u64) -> NodeEntry {
        NodeEntry {
            name: name.parse().unwrap(),
            role: Role::Origin,
            address: None,
            public: vec![],
            place: Place {
                country: "BE".parse().unwrap(),
                region: "eu".into(),
                zone: zone.into(),
                latitude: 0.0,
                longitude: 0.0,
            },
            capacity_bytes: free_bytes,
            free_bytes,
            load: 0,
            seen: 0,
        }
    }

    fn ask(redundancy: &str) -> PlacementAsk {
        PlacementAsk { redundancy: redundancy.parse().unwrap(), seed: [1; 32], wanted: vec![], refused: vec![] }
    }

    fn cluster(zones: usize, each: usize) -> Vec<NodeEntry> {
        let zone = |z| (0..each).map(move |i| node(&format!("o{z}-{i}"), &format!("z{z}"), 1 << 40));
        (0..zones).flat_map(zone).collect()
    }

    #[test]
    fn spreads_over_zones_and_says_what_that_survives() {
        let six = place(&ask("4+2"), &cluster(6, 1)).unwrap();
        assert_eq!((six.per_zone, six.zones_survived), (1, 2));
        let wide = place(&ask("16+8"), &cluster(8, 10)).unwrap();
        assert_eq!((wide.per_zone, wide.zones_survived), (4, 2));
        let narrow = place(&ask("16+8"), &cluster(2, 20)).unwrap();
        assert_eq!((narrow.per_zone, narrow.zones_survived), (12, 0), "two zones cannot survive the loss of one");
        let distinct: std::collections::BTreeSet<_> = narrow.nodes.iter().collect();
        assert_eq!(distinct.len(), 24);
    }

    #[test]
    fn wanted_and_refused_places_bind() {
        let mut nodes = cluster(8, 2);
        nodes.push(node("full", "z9", 0));
        let refused = PlacementAsk { refused: vec!["zone:z0".parse().unwrap()], ..ask("4+2") };
        assert!(place(&refused, &nodes).unwrap().nodes.iter().all(|name| !name.as_str().starts_with("o0")));
        let wanted =
            PlacementAsk { wanted: vec!["zone:z1".parse().unwrap(), "zone:z9".parse().unwrap()], ..ask("4+2") };
        let too_few = PlacementError::TooFew { redundancy: wanted.redundancy, need: 6, have: 2, known: 17 };
        assert_eq!(place(&wanted, &nodes), Err(too_few));
    }

    #[test]
    fn the_draw_is_fixed_by_its_seed_and_follows_free_space() {
        let nodes = [cluster(1, 9), vec![node("big", "z0", 1 << 50)]].concat();
        assert_eq!(place(&ask("4+2"), &nodes), place(&ask("4+2"), &nodes));
        let chosen = |seed| place(&PlacementAsk { seed: [seed; 32], ..ask("1+1") }, &nodes).unwrap().nodes;
        assert!((0..100).all(|seed| chosen(seed).iter().any(|name| name.as_str() == "big")));
    }
}
