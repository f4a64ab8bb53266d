//! Placements in small clusters, by hand and at random. [`super::spread`] has the comparison with all possible choices.

use format::Place;
use proptest::prelude::*;

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
            operator: String::new(),
            datacentre: String::new(),
            latitude: 0.0,
            longitude: 0.0,
        },
        capacity_bytes: free_bytes,
        free_bytes,
        load: 0,
        draining: false,
        seen: 0,
    }
}

fn of_operator(operator: &str, node: NodeEntry) -> NodeEntry {
    NodeEntry { place: Place { operator: operator.into(), ..node.place.clone() }, ..node }
}

fn ask(redundancy: &str) -> PlacementAsk {
    PlacementAsk::new(redundancy.parse().unwrap(), [1; 32])
}

fn capped(redundancy: &str, caps: &[&str]) -> PlacementAsk {
    PlacementAsk { caps: caps.iter().map(|cap| cap.parse().unwrap()).collect(), ..ask(redundancy) }
}

fn cluster(zones: usize, each: usize) -> Vec<NodeEntry> {
    let zone = |z| (0..each).map(move |i| node(&format!("o{z}-{i}"), &format!("z{z}"), 1 << 40));
    (0..zones).flat_map(zone).collect()
}

/// Returns the number of columns in the fullest place of a level.
fn fullest(level: Level, placement: &Placement, nodes: &[NodeEntry]) -> usize {
    let mut count: HashMap<String, usize> = HashMap::new();
    for node in nodes.iter().filter(|node| placement.nodes.contains(&node.name)) {
        *count.entry(level.of(&node.place).into_owned()).or_default() += 1;
    }
    count.into_values().max().unwrap_or(0)
}

#[test]
fn a_preference_multiplies_the_chance() {
    let nodes = cluster(3, 1);
    let name = |number: usize| nodes[number].name.clone();
    let preferences = [(name(0), 0), (name(1), 51)].into();
    let prefer = PlacementAsk { preferences, ..ask("1+1") };
    let mut firsts = 0;
    for seed in 0..200 {
        let chosen = place(&PlacementAsk { seed: [seed; 32], ..prefer.clone() }, &nodes).unwrap().nodes;
        assert!(!chosen.contains(&name(0)), "zero is never");
        firsts += usize::from(chosen[0] == name(1));
    }
    assert!((10..70).contains(&firsts), "one to five: {firsts} of 200");
}

#[test]
fn spreads_over_zones_and_says_what_that_survives() {
    let six = place(&ask("4+2"), &cluster(6, 1)).unwrap();
    assert_eq!((six.per_zone, six.zones_survived), (1, 2));
    let wide = place(&ask("16+8"), &cluster(8, 10)).unwrap();
    assert_eq!((wide.per_zone, wide.zones_survived), (4, 2));
    let narrow = place(&ask("16+8"), &cluster(2, 20)).unwrap();
    assert_eq!((narrow.per_zone, narrow.zones_survived), (12, 0), "two zones cannot survive the loss of one");
    let distinct: BTreeSet<_> = narrow.nodes.iter().collect();
    assert_eq!(distinct.len(), 24);
}

#[test]
fn wanted_and_refused_places_bind_and_are_named() {
    let mut nodes = cluster(8, 2);
    nodes.push(node("full", "z9", 0));
    let refused = PlacementAsk { refused: vec!["zone:z0".parse().unwrap()], ..ask("4+2") };
    assert!(place(&refused, &nodes).unwrap().nodes.iter().all(|name| !name.as_str().starts_with("o0")));
    let wanted = PlacementAsk { wanted: vec!["zone:z1".parse().unwrap(), "zone:z9".parse().unwrap()], ..ask("4+2") };
    let too_few = place(&wanted, &nodes).unwrap_err();
    assert!(matches!(too_few, PlacementError::TooFew { need: 6, have: 2, known: 17, .. }));
    let said = too_few.to_string();
    assert!(said.contains("wanted places (zone:z1, zone:z9)") && said.contains("4 short"), "{said}");
}

#[test]
fn the_draw_is_fixed_by_its_seed_and_follows_free_space_or_capacity() {
    let nodes = [cluster(1, 9), vec![node("big", "z0", 1 << 50)]].concat();
    assert_eq!(place(&ask("4+2"), &nodes), place(&ask("4+2"), &nodes));
    let mut nearly_full = nodes.clone();
    nearly_full[9].free_bytes = 1;
    let has_big = |weight, seed, nodes: &[NodeEntry]| {
        let chosen = place(&PlacementAsk { seed: [seed; 32], weight, ..ask("1+1") }, nodes).unwrap().nodes;
        chosen.iter().any(|name| name.as_str() == "big")
    };
    assert!((0..100).all(|seed| has_big(Weight::Free, seed, &nodes)));
    assert!((0..100).all(|seed| has_big(Weight::Capacity, seed, &nearly_full)));
    assert!(!(0..100).any(|seed| has_big(Weight::Free, seed, &nearly_full)));
}

#[test]
fn a_refusal_says_which_origins_are_full_and_which_take_nothing_new() {
    let mut nodes = cluster(6, 1);
    nodes[..5].iter_mut().for_each(|node| node.free_bytes = 0);
    nodes[5].draining = true;
    let said = place(&ask("2+2"), &nodes).unwrap_err().to_string();
    let full = "2+2 needs 4 origins, 4 short: 0 of 6 known ones can be used (5 have no space left, 1 take nothing new); free space";
    assert!(said.starts_with(full), "{said}");
    let said = place(&ask("4+4"), &cluster(6, 1)).unwrap_err().to_string();
    assert!(said.starts_with("4+4 needs 8 origins, 2 short: 6 of 6 known ones can be used; use a smaller"), "{said}");
}

#[test]
fn caps_that_cross_are_kept_together() {
    // Every operator is in every zone, and one operator has all of the largest nodes.
    let node = |i: usize| {
        let (zone, operator) = (i % 6, i / 6 % 4);
        of_operator(&format!("op{operator}"), node(&format!("n{i}"), &format!("z{zone}"), 1 << (40 + operator * 4)))
    };
    let nodes: Vec<NodeEntry> = (0..48).map(node).collect();
    let placed = place(&capped("8+4", &["operator=3", "zone=2"]), &nodes).unwrap();
    assert_eq!((placed.nodes.len(), placed.per_zone), (12, 2));
    assert_eq!(fullest(Level::Operator, &placed, &nodes), 3);
    // Without a cap, the large operator gets nearly all columns.
    assert!(fullest(Level::Operator, &place(&ask("8+4"), &nodes).unwrap(), &nodes) > 6);

    let refused = place(&capped("8+4", &["operator=2", "zone=2"]), &nodes).unwrap_err();
    let PlacementError::Capped { need: 12, room: 8, binding, .. } = &refused else { panic!("{refused}") };
    assert_eq!(binding.keys().map(ToString::to_string).collect::<Vec<_>>(), ["operator=2"]);
    let said = refused.to_string();
    assert!(said.contains("4 short: caps leave room for 8: operator=2 for op0, op1, op2, op3;"), "{said}");
    // Nodes without a known operator may all have the same one, so they count as one.
    let said = place(&capped("2+2", &["operator=1"]), &cluster(6, 1)).unwrap_err().to_string();
    assert!(said.contains("4 origins, 3 short: caps leave room for 1: operator=1 for unknown ones"), "{said}");
}

#[test]
fn held_columns_stay_and_count_and_what_goes_is_not_chosen() {
    let nodes: Vec<NodeEntry> =
        cluster(6, 3).into_iter().enumerate().map(|(i, node)| of_operator(&format!("op{}", i % 3), node)).collect();
    let first = place(&capped("4+2", &["operator=2"]), &nodes).unwrap();
    let mut held: Vec<Option<NodeName>> = first.nodes.iter().cloned().map(Some).collect();
    let lost = held[2].take().unwrap();
    held[5] = None;
    let again = PlacementAsk { held: held.clone(), excluded: [lost.clone()].into(), ..capped("4+2", &["operator=2"]) };
    let healed = place(&again, &nodes).unwrap();
    for (column, node) in held.iter().enumerate() {
        assert!(node.as_ref().is_none_or(|node| *node == healed.nodes[column]), "column {column} moved");
    }
    assert!(!healed.nodes.contains(&lost));
    assert_eq!(healed.nodes.iter().collect::<BTreeSet<_>>().len(), 6);
    assert_eq!((healed.per_zone, fullest(Level::Operator, &healed, &nodes)), (1, 2));
    // A node that no longer appears in any list still holds its column.
    let stranger = PlacementAsk { held: vec![Some("gone".parse().unwrap())], ..ask("2+2") };
    assert_eq!(place(&stranger, &nodes).unwrap().nodes[0].as_str(), "gone");
    let all = PlacementAsk { held: first.nodes.iter().cloned().map(Some).collect(), ..ask("4+2") };
    assert_eq!(place(&all, &[]).unwrap().nodes, first.nodes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn caps_hold_for_old_and_new_columns_together(
        places in prop::collection::vec((0..4usize, 0..3usize), 6..24), caps in (1..4u8, 1..4u8),
        held in prop::collection::vec(any::<Option<prop::sample::Index>>(), 6), seed: [u8; 32],
    ) {
        let nodes: Vec<NodeEntry> = places.iter().enumerate().map(|(i, (zone, operator))| {
            of_operator(&format!("op{operator}"), node(&format!("n{i}"), &format!("z{zone}"), 1 << 40))
        }).collect();
        let caps = vec![Cap { level: Level::Zone, columns_max: caps.0 }, Cap { level: Level::Operator, columns_max: caps.1 }];
        // Columns that already lie well: one after the other, as long as the caps allow.
        let mut count: HashMap<String, u8> = HashMap::new();
        let mut stay = Vec::new();
        for index in held {
            let node = index.map(|index| &nodes[index.index(nodes.len())]);
            let node = node.filter(|node| !stay.contains(&Some(node.name.clone())));
            stay.push(node.filter(|node| {
                let of = |cap: &Cap| format!("{}:{}", cap.level, cap.level.of(&node.place));
                let fits = caps.iter().all(|cap| count.get(&of(cap)).copied().unwrap_or(0) < cap.columns_max);
                caps.iter().filter(|_| fits).for_each(|cap| *count.entry(of(cap)).or_default() += 1);
                fits
            }).map(|node| node.name.clone()));
        }
        let ask = PlacementAsk { seed, caps: caps.clone(), held: stay.clone(), ..ask("4+2") };
        match place(&ask, &nodes) {
            Ok(placed) => {
                prop_assert_eq!(placed.nodes.iter().collect::<BTreeSet<_>>().len(), 6);
                for cap in caps {
                    prop_assert!(fullest(cap.level, &placed, &nodes) <= usize::from(cap.columns_max));
                }
                for (node, chosen) in stay.iter().zip(&placed.nodes) {
                    prop_assert!(node.as_ref().is_none_or(|node| node == chosen));
                }
            }
            Err(PlacementError::Capped { need, room, binding, .. }) => prop_assert!(room < need && !binding.is_empty()),
            Err(error) => prop_assert!(matches!(error, PlacementError::TooFew { .. }), "{}", error),
        }
    }
}
