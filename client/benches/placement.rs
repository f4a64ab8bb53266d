//! The cost of choosing the nodes of one object: with zones alone, with caps that cross, with scarce zones, for two
//! lost columns, and when no placement exists.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use client::{PlacementAsk, place};
use criterion::{Criterion, criterion_group, criterion_main};
use format::{Place, wire::NodeEntry};

/// Nodes of 40 operators in 25 countries with 125 zones and 250 datacentres. Every operator is everywhere.
fn nodes(count: usize) -> Vec<NodeEntry> {
    let node = |i: usize| {
        let datacentre = i % 250;
        let country = u8::try_from(datacentre % 25).unwrap();
        let place = Place {
            country: format!("X{}", char::from(b'A' + country)).parse().unwrap(),
            region: format!("r{}", country / 5),
            operator: format!("op{}", (i / 250 + i) % 40),
            datacentre: format!("dc{datacentre}"),
            ..testing::place(&format!("z{}", datacentre % 125))
        };
        let free_bytes = (1 << 40) + i as u64 * 7919 % (1 << 41);
        NodeEntry { capacity_bytes: 1 << 42, free_bytes, ..testing::node(&format!("n{i}"), place) }
    };
    (0..count).map(node).collect()
}

fn placement(criterion: &mut Criterion) {
    for count in [1_000, 10_000] {
        let nodes = nodes(count);
        let ask = |caps: &[&str]| PlacementAsk {
            caps: caps.iter().map(|cap| cap.parse().unwrap()).collect(),
            ..PlacementAsk::new("16+8".parse().unwrap(), [7; 32])
        };
        let crossing = ask(&["operator=2", "datacentre=1", "zone=2", "country=3"]);
        let scarce = PlacementAsk {
            wanted: ["r0", "r1"].map(|region| format!("region:{region}").parse().unwrap()).to_vec(),
            ..ask(&["operator=1", "country=3"])
        };
        let mut held: Vec<_> =
            place(&ask(&["operator=3"]), &nodes).map(|it| it.nodes.into_iter().map(Some).collect()).unwrap_or_default();
        held.iter_mut().take(2).for_each(|node| *node = None);
        let healing = PlacementAsk { held, ..ask(&["operator=3"]) };
        let impossible = ask(&["region=4", "operator=2"]);
        for (name, ask, is_possible) in [
            ("zones alone", &ask(&[]), true),
            ("caps that cross", &crossing, true),
            ("scarce", &scarce, true),
            ("two columns of 24", &healing, true),
            ("impossible", &impossible, false),
        ] {
            assert_eq!(place(ask, &nodes).is_ok(), is_possible, "{name}");
            criterion.bench_function(&format!("place 16+8 among {count}, {name}"), |bencher| {
                bencher.iter(|| place(black_box(ask), black_box(&nodes)));
            });
        }
    }
}

criterion_group!(placing, placement);
criterion_main!(placing);
