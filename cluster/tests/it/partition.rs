//! Network partitions: origins in five zones, and edges, each in its own network namespace, while firewall rules drop
//! packets between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use cluster::{
    curl,
    keeper::{Keeper, Kept},
    processes::{ProcessOptions, Processes},
};
use fastrand::Rng;
use format::{NodeName, wire::ObjectHealth};
use futures::future::join_all;
use testing::postgres::Server;

use crate::{
    load::{DEADLINE, start, until},
    wires::{BRIDGE, Wires},
};

const SEED: u64 = 3;
const ZONES: u8 = 5;
/// Each of the five zones holds at most two of the eight columns.
const PROFILE: &str = "4+4";
const DATA: usize = 4;
/// How long an edge may take to report a failure: an open and a fill, each with its own deadline, on a busy machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// `down_seconds` is above the time that all cuts take, so that repair does not change what an edge can reach.
const LIMITS: &str = "announce_seconds = 1\ndown_seconds = 90\nscan_seconds = 2\nsweep_seconds = 5\nrepairs_max = 1\n\
                      repair_bytes_per_second = 0\nupload_idle_seconds = 20\n";

/// Pairs of nodes of which the first receives nothing from the second.
type Deaf = BTreeSet<(u8, u8)>;

/// Cuts nodes off from each other in both directions.
fn apart(some: impl Iterator<Item = u8> + Clone, others: &(impl Iterator<Item = u8> + Clone)) -> Deaf {
    some.flat_map(|one| others.clone().flat_map(move |other| [(one, other), (other, one)])).collect()
}

/// The nodes, and on the bridge the owner and the catalog's server.
struct Scene {
    origins: u8,
    wires: Wires,
    processes: Processes,
    keeper: Keeper,
}

impl Scene {
    /// Reads objects through all edges at once and checks each answer against what the edge can reach. Returns how many
    /// answers were exact and how many were errors.
    async fn read(&self, what: &str, deaf: &Deaf, objects: &[Kept]) -> (usize, usize) {
        let healths = self.healths().await;
        let start = Instant::now();
        self.wires.cut(deaf);
        let reads = self.processes.doors().into_iter().zip(self.origins..).flat_map(|(door, edge)| {
            let healths = &healths;
            objects.iter().map(move |kept| {
                let locator = kept.label.capability().locator();
                let reaches = columns_within_reach(&healths[&locator], edge, deaf);
                self.judge(format!("{what}, edge at {door}, {locator}"), door, kept, reaches)
            })
        });
        let judged = join_all(reads).await;
        let exact = judged.iter().filter(|exact| **exact).count();
        let seconds = start.elapsed().as_secs_f64();
        println!("{what}: {exact} exact, {} said that they cannot, {seconds:.1} s", judged.len() - exact);
        (exact, judged.len() - exact)
    }

    async fn judge(&self, what: String, door: SocketAddr, kept: &Kept, reaches: usize) -> bool {
        let body = PathBuf::from(self.processes.path(&format!("body-{}-{}", door.ip(), kept.label)));
        let url = format!("http://{}.localhost:{}/", kept.label, door.port());
        let start = Instant::now();
        let answer = curl(door, &url, &body, &[]).await.unwrap();
        let got = std::fs::read(&body).unwrap_or_default();
        let is_exact = answer.status == 200 && blake3::hash(&got) == kept.hash;
        assert!(start.elapsed() < ANSWER_DEADLINE, "{what}: took {:?}", start.elapsed());
        if reaches >= DATA {
            let page = String::from_utf8_lossy(&got[..got.len().min(1000)]);
            assert!(is_exact, "{what}: {reaches} columns are within reach: {}{page}", answer.header);
        } else if !is_exact {
            // A wrong body is allowed only if the answer was cut off or is an error.
            assert!(answer.status != 200 || !answer.ended_well, "{what}: wrong bytes: {}", answer.header);
        }
        is_exact
    }

    async fn healths(&self) -> BTreeMap<format::Locator, ObjectHealth> {
        let healths = self.keeper.healths().await.unwrap();
        let locators = self.keeper.kept().into_iter().map(|kept| kept.label.capability().locator());
        locators.zip(healths).collect()
    }
}

/// Returns how many columns a node can read: those on nodes that it reaches in both directions, and those without
/// bytes.
fn columns_within_reach(health: &ObjectHealth, node: u8, deaf: &Deaf) -> usize {
    let number = |name: &NodeName| name.as_str()[1..].parse::<u8>().unwrap();
    let talks = |other: u8| !deaf.contains(&(node, other)) && !deaf.contains(&(other, node));
    let is_read = |nodes: &[NodeName]| nodes.is_empty() || nodes.iter().any(|name| talks(number(name)));
    health.columns.iter().filter(|column| is_read(&column.nodes)).count()
}

mod needs_root {
    /// Takes 60 s: cut connections are noticed only by their deadlines.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn edges_read_all_they_can_reach_and_say_so_when_they_cannot() {
        super::fall_apart(2, 2).await;
    }
}

mod long_lane {
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "minutes, and root: 20 origins and four edges; docs/durability.md"]
    async fn edges_of_a_larger_network_do_so_too() {
        super::fall_apart(4, 4).await;
    }
}

async fn fall_apart(zone_origins: u8, edges: u8) {
    println!("seed {SEED}");
    let origins = ZONES * zone_origins;
    let wires = Wires::new(origins + edges);
    let server = Server::on_network("partition", Wires::host(BRIDGE));
    let options = ProcessOptions {
        origins,
        zone_origins,
        edges,
        catalog: Some(server.network_url(&server.new_database())),
        profile: PROFILE.to_owned(),
        limits: LIMITS.to_owned(),
        seats: wires.seats(),
        ..ProcessOptions::default()
    };
    let processes = start(options).await;
    let keeper = Keeper::open(&processes, PROFILE.parse().unwrap()).await.unwrap();
    let scene = Scene { origins, wires, processes, keeper };
    let mut rng = Rng::with_seed(SEED);
    for _ in 0..15 {
        let length = rng.usize(1 << 20..3 << 20);
        scene.keeper.put(&mut rng, length).await.unwrap();
    }
    scene.keeper.until_whole(DEADLINE).await.unwrap();
    let kept = scene.keeper.kept();
    // Each cut has its own objects, so that no edge has them in its cache.
    let mut fresh = kept.chunks(3);
    let mut next = || fresh.next().unwrap();
    let (zone, others, edges) = (0..zone_origins, zone_origins..origins + edges, origins..origins + edges);

    let one_way: Deaf = others.clone().flat_map(|other| zone.clone().map(move |one| (other, one))).collect();
    assert_eq!(scene.read("one zone is heard by nobody", &one_way, next()).await.1, 0);
    let halves = apart(edges.clone(), &(0..origins).filter(|origin| origin % 2 == 0));
    scene.read("edges see every other origin", &halves, next()).await;
    let (exact, cannot) = scene.read("edges see one zone", &apart(edges, &(zone_origins..origins)), next()).await;
    assert!(exact == 0 && cannot > 0, "two columns are not four");
    // The edges' connections to the other zones died in those 30 s: whoever is within reach again is read at once.
    let away = apart(zone.clone(), &[BRIDGE].into_iter());
    assert_eq!(scene.read("one zone has no catalog", &away, next()).await.1, 0);
    let cut = apart(zone, &others.chain([BRIDGE]));
    assert_eq!(scene.read("one zone is apart", &cut, next()).await.1, 0);
    // Uploads continue on the owner's side. The shards for the lost zone are missing until it is back.
    for _ in 0..2 {
        scene.keeper.put(&mut rng, 1_700_000).await.unwrap();
    }

    scene.wires.cut(&Deaf::new());
    let healed = Instant::now();
    // Repair is lazy: one missing column of eight does not start it.
    until("all redundancy", async || {
        let healths = scene.keeper.healths().await.unwrap_or_default();
        let is_safe = |health: &ObjectHealth| health.repair.is_none() && health.margin >= 3;
        !healths.is_empty() && healths.iter().all(is_safe)
    })
    .await;
    println!("all redundancy back {:.1} s after the cuts", healed.elapsed().as_secs_f64());
    assert_eq!(scene.read("nothing is cut", &Deaf::new(), &scene.keeper.kept()).await.1, 0);
    scene.keeper.all_exact().await.unwrap();
}
