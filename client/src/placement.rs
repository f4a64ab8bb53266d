//! Choosing the nodes of an object: distinct origins by weighted rendezvous hashing, spread over countries, operators,
//! datacentres and zones as the owner and the cluster require. Pure. The spreading itself is in [`spread`].

mod refusal;
mod spread;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use format::{
    Cap, Domain, Level, NodeName, Redundancy, rendezvous,
    wire::{NodeEntry, Role},
};

pub use refusal::PlacementError;
pub(crate) use refusal::list;
use spread::{Family, NoChoice};

use crate::{Bug, planted};

/// What makes a node more likely to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weight {
    /// Free bytes: for new objects.
    #[default]
    Free,
    /// All bytes, used or free: the place of an object in the long run.
    Capacity,
}

/// The requirements of a placement, and the columns that are already placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementAsk {
    /// Data and parity columns.
    pub redundancy: Redundancy,
    /// Determines the draw. A new object takes 32 random bytes.
    pub seed: [u8; 32],
    /// Only nodes in these places. Empty: nodes in any place.
    pub wanted: Vec<Domain>,
    /// No nodes in these places.
    pub refused: Vec<Domain>,
    /// Maximum number of columns in one place of a level, including columns already held. Of several caps for one
    /// level, the smallest counts.
    pub caps: Vec<Cap>,
    /// The nodes of columns that stay where they are. Empty if no column is placed yet.
    pub held: Vec<Option<NodeName>>,
    /// Nodes that take no new columns, because they are down or being emptied.
    pub excluded: BTreeSet<NodeName>,
    /// Nodes that take a column only where no other can, because they are probably gone.
    pub last: BTreeSet<NodeName>,
    /// The base of a node's chance.
    pub weight: Weight,
    /// The factor of a node's chance, out of 255. Nodes that are not listed have 255.
    pub preferences: BTreeMap<NodeName, u8>,
}

impl PlacementAsk {
    /// Asks for nodes for all columns of a new object, in any place.
    #[must_use]
    pub fn new(redundancy: Redundancy, seed: [u8; 32]) -> Self {
        Self {
            redundancy,
            seed,
            wanted: Vec::new(),
            refused: Vec::new(),
            caps: Vec::new(),
            held: Vec::new(),
            excluded: BTreeSet::new(),
            last: BTreeSet::new(),
            weight: Weight::default(),
            preferences: BTreeMap::new(),
        }
    }
}

/// A node for each column, and the losses that this spread survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node of each column.
    pub nodes: Vec<NodeName>,
    /// Largest number of columns in one zone.
    pub per_zone: usize,
    /// Number of whole zones that may be lost at once, whichever they are.
    pub zones_survived: usize,
}

/// Chooses a node for each column that is not held. `bench/results/placement.md` has the cost.
///
/// Of all choices within the caps, it takes the one that contains the node with the highest score; of these, the one
/// with the next highest, and so on. Nodes of [`PlacementAsk::last`] come after all others. Without a cap for zones, at
/// most m / 2 columns lie in one zone if there are enough zones, so the loss of a zone leaves half the parity.
/// Otherwise the smallest number that fits is used, and [`Placement::zones_survived`] tells what it survives.
///
/// # Errors
/// [`PlacementError`].
pub fn place(ask: &PlacementAsk, nodes: &[NodeEntry]) -> Result<Placement, PlacementError> {
    let known: Vec<&NodeEntry> = nodes.iter().filter(|node| node.role == Role::Origin).collect();
    let columns = ask.redundancy.columns();
    let held_by = |column: usize| ask.held.get(column).and_then(Option::as_ref);
    let held: HashSet<&NodeName> = (0..columns).filter_map(held_by).collect();
    let staying: Vec<&NodeEntry> = known.iter().filter(|node| held.contains(&node.name)).copied().collect();
    let need = (0..columns).filter(|column| held_by(*column).is_none()).count();

    let allowed =
        known.iter().filter(|node| !held.contains(&node.name) && Domain::allow(&ask.wanted, &ask.refused, &node.place));
    let (leaving, taking): (Vec<&NodeEntry>, Vec<&NodeEntry>) =
        allowed.partition(|node| node.draining || ask.excluded.contains(&node.name));
    let score = |node: &NodeEntry| rendezvous::score(&ask.seed, node.name.as_str(), weight(ask, node));
    let mut scored: Vec<(f64, &NodeEntry)> = taking.into_iter().map(|node| (score(node), node)).collect();
    let allowed = scored.len();
    scored.retain(|(score, _)| *score > 0.0);
    let full = allowed - scored.len();
    let is_last = |node: &NodeEntry| ask.last.contains(&node.name);
    scored.sort_by(|(a, x), (b, y)| {
        is_last(x).cmp(&is_last(y)).then_with(|| b.total_cmp(a)).then_with(|| x.name.cmp(&y.name))
    });
    let candidates: Vec<&NodeEntry> = scored.into_iter().map(|(_, node)| node).collect();

    if candidates.len() < need {
        let (redundancy, have, known) = (ask.redundancy, candidates.len(), known.len());
        let (wanted, refused) = (ask.wanted.clone(), ask.refused.clone());
        let leaving = leaving.len();
        return Err(PlacementError::TooFew { redundancy, need, have, known, full, leaving, wanted, refused });
    }
    let chosen = spread_out(ask, &candidates, &staying, need)?;

    let mut new = chosen.iter().map(|candidate| candidates[*candidate]);
    let mut zones: HashMap<&str, usize> = HashMap::new();
    for node in new.clone().chain(staying.iter().copied()) {
        *zones.entry(&node.place.zone).or_default() += 1;
    }
    let pick = |column| held_by(column).cloned().or_else(|| new.next().map(|node| node.name.clone()));
    Ok(Placement {
        nodes: (0..columns).filter_map(pick).collect(),
        per_zone: zones.values().copied().max().unwrap_or(0),
        zones_survived: zones_survived(zones.into_values().collect(), ask.redundancy.parity()),
    })
}

/// Returns the largest number of columns that [`place`] puts into one zone if the owner sets no cap: m / 2, or the
/// smallest number that fits. Returns `None` if there are too few nodes. Costs one pass over the nodes.
#[must_use]
pub fn zone_columns_max(
    redundancy: Redundancy,
    wanted: &[Domain],
    refused: &[Domain],
    nodes: &[NodeEntry],
) -> Option<usize> {
    let mut zones: HashMap<&str, usize> = HashMap::new();
    let fits = |node: &&NodeEntry| node.role == Role::Origin && Domain::allow(wanted, refused, &node.place);
    for node in nodes.iter().filter(fits) {
        *zones.entry(&node.place.zone).or_default() += 1;
    }
    let need = redundancy.columns();
    let room = |cap: usize| zones.values().map(|count| (*count).min(cap)).sum::<usize>();
    (zone_columns_best(redundancy)..=need).find(|cap| room(*cap) >= need)
}

/// Returns the cap for zones if there are enough of them: the loss of a zone then leaves half the parity.
pub(crate) fn zone_columns_best(redundancy: Redundancy) -> usize {
    (redundancy.parity() / 2).max(1)
}

/// Chooses `need` of the candidates under the caps of the ask. If the ask has no cap for zones, the smallest that fits
/// is used.
fn spread_out(
    ask: &PlacementAsk,
    candidates: &[&NodeEntry],
    staying: &[&NodeEntry],
    need: usize,
) -> Result<Vec<usize>, PlacementError> {
    let columns = ask.redundancy.columns();
    let mut tightest: BTreeMap<Level, u8> = BTreeMap::new();
    for cap in &ask.caps {
        let held = tightest.entry(cap.level).or_insert(cap.columns_max);
        *held = cap.columns_max.min(*held);
    }
    let mut groups: Vec<Groups> = tightest
        .into_iter()
        .filter(|(level, columns_max)| *level != Level::Node || *columns_max == 0)
        .map(|(level, columns_max)| Groups::new(Cap { level, columns_max }, candidates, staying))
        .collect();
    let mut families: Vec<Family> = groups.iter().map(|of| of.family(usize::from(of.cap.columns_max))).collect();
    if !groups.iter().any(|of| of.cap.level == Level::Zone) {
        let zones = Groups::new(Cap { level: Level::Zone, columns_max: 0 }, candidates, staying);
        let mut fits = |columns_max| {
            families.push(zones.family(columns_max));
            let fits = spread::fits(&families, candidates.len(), need);
            families.pop();
            fits
        };
        if planted(Bug::ZoneCap) {
            return Ok((0..need).collect());
        }
        // Binary search, from the smallest cap that the zones alone allow up to all columns, where only the owner's
        // caps bind.
        let (mut low, mut high) = (zones.least_cap(need).max(zone_columns_best(ask.redundancy)), columns);
        if fits(low) {
            high = low;
        } else if !fits(high) {
            low = high;
        }
        while low < high {
            let middle = low.midpoint(high);
            if fits(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        families.push(zones.family(high));
        groups.push(zones);
    }
    spread::choose(&families, candidates.len(), need).map_err(|no| match no {
        NoChoice::Tangled => PlacementError::Tangled { redundancy: ask.redundancy, caps: ask.caps.clone() },
        NoChoice::Full { room, groups: full } => {
            let mut binding: BTreeMap<Cap, BTreeSet<String>> = BTreeMap::new();
            for (family, group) in full {
                let of = &groups[family];
                binding.entry(of.cap).or_default().insert(of.names[group].clone());
            }
            PlacementError::Capped { redundancy: ask.redundancy, need, room, binding }
        }
    })
}

/// The places of one level, with the candidates and the staying nodes in them.
struct Groups {
    cap: Cap,
    names: Vec<String>,
    /// The place of each candidate.
    of: Vec<usize>,
    /// The number of staying columns in each place.
    held: Vec<usize>,
}

impl Groups {
    fn new(cap: Cap, candidates: &[&NodeEntry], staying: &[&NodeEntry]) -> Self {
        let mut known = HashMap::new();
        let mut names = Vec::new();
        let mut group = |node: &NodeEntry| {
            let name = cap.level.of(&node.place);
            if let Some(group) = known.get(&*name) {
                return *group;
            }
            names.push(name.clone().into_owned());
            known.insert(name.into_owned(), names.len() - 1);
            names.len() - 1
        };
        let of: Vec<usize> = candidates.iter().map(|node| group(node)).collect();
        let stay: Vec<usize> = staying.iter().map(|node| group(node)).collect();
        let mut held = vec![0; names.len()];
        stay.into_iter().for_each(|group| held[group] += 1);
        Self { cap, names, of, held }
    }

    /// Returns the smallest cap under which these places together have room for `need`.
    fn least_cap(&self, need: usize) -> usize {
        let mut members = vec![0usize; self.names.len()];
        self.of.iter().for_each(|group| members[*group] += 1);
        let room = |cap: usize| -> usize {
            members.iter().zip(&self.held).map(|(members, held)| (*members).min(cap.saturating_sub(*held))).sum()
        };
        (0..=need + self.held.iter().sum::<usize>()).find(|cap| room(*cap) >= need).unwrap_or(need)
    }

    fn family(&self, columns_max: usize) -> Family {
        let room = self.held.iter().map(|held| columns_max.saturating_sub(*held)).collect();
        Family { of: self.of.clone(), room }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a weight; sizes of disks are exact to a few bytes")]
fn weight(ask: &PlacementAsk, node: &NodeEntry) -> f64 {
    let bytes = match ask.weight {
        Weight::Free => node.free_bytes,
        Weight::Capacity => node.capacity_bytes,
    };
    let preference = ask.preferences.get(&node.name).copied().unwrap_or(u8::MAX);
    bytes as f64 * f64::from(preference) / f64::from(u8::MAX)
}

/// Returns how many whole zones may be lost, whichever they are, until more than `margin` of these columns are gone.
pub(crate) fn zones_lost_at_most<'a>(
    holders: impl Iterator<Item = &'a NodeName>,
    nodes: &[NodeEntry],
    margin: usize,
) -> usize {
    let zone = |name: &NodeName| nodes.iter().find(|node| node.name == *name).map_or("", |node| &*node.place.zone);
    let mut zones: HashMap<&str, usize> = HashMap::new();
    for holder in holders {
        *zones.entry(zone(holder)).or_default() += 1;
    }
    zones_survived(zones.into_values().collect(), margin)
}

/// Returns how many of the fullest zones together hold no more columns than the parity.
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
mod tests;
