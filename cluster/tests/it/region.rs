//! Three edges of one region, far from all origins, that bring strips for each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{HttpTransport, ShardAsk, Topology, Transport, TransportError};
use cluster::{Distance, EDGES, Network, NetworkOptions, Trouble, curl};
use format::{ObjectId, wire::Role};
use futures::future::join_all;
use testing::noise;
use twin::Stored;

use crate::made::Made;

async fn region(patience_ms: u64) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let (distance, region_patience_ms) = (Distance::Simulated, Some(patience_ms));
    let options = NetworkOptions { distance, region_patience_ms, ..NetworkOptions::default() };
    let network = Network::start(folder.path(), &options).await.unwrap();
    Made { network, folder }
}

/// Reads an object at an edge, which must be exact.
async fn read(made: &Made, edge: usize, stored: &Stored, exact: &[u8]) {
    let body = made.folder.path().join(format!("body-{edge}"));
    let answer = curl(made.network.edges[edge].http, &made.network.url(&stored.label, ""), &body, &[]).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.header);
    assert!(std::fs::read(&body).unwrap() == exact, "edge {edge} sends exact bytes");
}

/// Takes the bytes that an edge pulled since the last call: from origins, and from each of the edges.
fn take_pulled(made: &Made, edge: usize) -> (u64, [u64; 3]) {
    let pulled = made.network.links[edge].intercept().take_pulled();
    let of = |name: &str| pulled.iter().filter(|(node, _)| node.as_str() == name).map(|(_, bytes)| *bytes).sum::<u64>();
    let edges = EDGES.map(|edge| of(edge.name));
    (pulled.values().sum::<u64>() - edges.iter().sum::<u64>(), edges)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_pulls_each_strip_from_far_origins_once() {
    let made = region(5000).await;
    let bytes = noise(6_000_000);
    let stored = made.put(&made.file("film.bin", &bytes)).await;
    join_all((0..3).map(|edge| read(&made, edge, &stored, &bytes))).await;
    let pulled = [0, 1, 2].map(|edge| take_pulled(&made, edge));
    let from_origins: u64 = pulled.iter().map(|(origins, _)| origins).sum();
    let length = bytes.len() as u64;
    // Each strip once; on a busy machine a node may be late, and another strip of its stripe come in place of its own.
    assert!((length..length * 3 / 2).contains(&from_origins), "origins sent {from_origins}: {pulled:?}");
    // Two edges out of three have each strip from its home.
    let from_edges: u64 = pulled.iter().flat_map(|(_, edges)| edges).sum();
    assert!(from_edges >= length * 3 / 2, "edges sent {from_edges}: {pulled:?}");
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_lies_one_that_is_away_and_one_that_is_slow_cost_a_region_no_byte() {
    let made = region(200).await;
    let bytes = noise(24_000_000);
    let name = |edge: usize| EDGES[edge].name.parse().unwrap();
    let stored = made.put(&made.file("film.bin", &bytes)).await;
    let links = made.network.links[0].intercept();
    links.trouble(name(1), Trouble::Flips);
    links.trouble(name(2), Trouble::Down);
    read(&made, 0, &stored, &bytes).await;
    let (from_origins, [_, lies, away]) = take_pulled(&made, 0);
    assert!(from_origins >= bytes.len() as u64, "nothing of a lie is used: {from_origins}");
    assert!(lies > 0 && away == 0, "{lies} bytes of lies");
    assert!(lies < bytes.len() as u64 / 4, "who lied is left out: {lies}");

    for edge in [0, 2] {
        made.network.links[1].intercept().trouble(name(edge), Trouble::Slow(Duration::from_secs(60)));
    }
    let begun = Instant::now();
    read(&made, 1, &stored, &bytes).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "who is slow is not waited for: {:?}", begun.elapsed());
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_answers_other_edges_alone_and_about_strips_alone() {
    let made = region(5000).await;
    let nodes = made.network.twin.network().topology().snapshot();
    let entry = nodes.iter().find(|node| node.name.as_str() == EDGES[0].name).unwrap();
    assert_eq!(entry.address, made.network.edges[0].peers.map(Into::into), "it tells where it answers");
    for (name, role) in [("t9", Role::Twin), ("o9", Role::Origin), ("e9", Role::Edge)] {
        let identity = made.network.identity(name, role).unwrap();
        let transport = HttpTransport::new(&identity, Arc::new(Topology::new(nodes.to_vec()))).unwrap();
        let listed = transport.nodes(&entry.name).await;
        let ask = ShardAsk { object: ObjectId([0; 32]), column: 0, first: 0, count: 1 };
        let none = Bytes::from_static(b"no manifest");
        let strip =
            transport.strip(&entry.name, &none, ask, &made.network.origins[0].name, Duration::from_secs(5)).await;
        if role == Role::Edge {
            assert_eq!(
                [listed.map(drop), strip.map(drop)].map(|refused| refused.unwrap_err().status()),
                [Some(404), Some(400)]
            );
        } else {
            for refused in [listed.map(drop), strip.map(drop)] {
                assert!(matches!(refused, Err(TransportError::Unreachable { .. })), "{role:?}: {refused:?}");
            }
        }
    }
    made.network.stop().await.unwrap();
}

#[test]
fn an_edge_that_is_to_answer_others_is_refused_without_a_certificate() {
    let sample = include_str!("../../../edge/edge.sample.toml");
    let (before, after) = sample.split_once("[tls]").unwrap();
    let seeds = &after[after.find("[[seeds]]").unwrap()..];
    let text = format!("{before}[peers]\nlisten = \"127.0.0.9:7402\"\n{seeds}");
    let checked = edge::Edge::check(&edge::Config::from_toml(&text).unwrap());
    assert!(matches!(checked, Err(edge::StartError::Peers)));
}
