//! What liars cost: reads beside as many of them as an object survives, against the same reads without.

use std::{path::Path, sync::Arc, time::Duration};

use client::{Reader, ReaderOptions};
use fastrand::Rng;
use format::{NodeName, wire::Role};
use origin::catalog::Catalog;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    EDGES,
    network::Lie,
    object::{Draft, Stored},
    trace::lock,
    work,
    world::World,
};

const OBJECTS: usize = 6;
/// Reads of one edge that are measured.
const READS: usize = 150;
/// Reads before them, by which a reader learns who lies and who drips.
const FIRST_READS: usize = 20;
/// Nodes that lie: the parity of the objects here.
const LIARS: usize = 2;

/// What reads took, and what was wrong.
pub(crate) struct Cost {
    /// The 99th percentile of all reads without liars, and beside them.
    pub(crate) honest: Duration,
    pub(crate) beside_liars: Duration,
    /// The most wrong strips that one node gave to one reader.
    pub(crate) wrong_max: u32,
    pub(crate) liars: Vec<(NodeName, Lie)>,
    pub(crate) violations: Vec<String>,
}

pub(crate) async fn measure(seed: u64, dir: &Path) -> Cost {
    let world = World::start(seed, dir).await;
    let twin = world.transport("t1", Role::Twin, World::outside(0));
    let topology = world.topology().await;
    let mut objects = Vec::new();
    for number in 0.. {
        let (object, receipt) = Draft::new(&world, number).store(twin.clone(), topology.clone()).await.unwrap();
        // What lies inline in its record needs no shards of anybody.
        if receipt.durable > 0 {
            objects.push(Arc::new(object));
        }
        if objects.len() == OBJECTS {
            break;
        }
    }
    let mut readers = Vec::new();
    for number in 0..EDGES {
        let place = World::outside(number);
        let transport = world.transport(&format!("e{number}"), Role::Edge, place.clone());
        readers.push(Arc::new(Reader::new(transport, topology.clone(), place, ReaderOptions::default())));
    }
    let honest = percentile_99(read_all(&world, seed, &readers, &objects, READS).await);
    let liars = liars(&world, &objects[0]).await;
    lock(&world.weather).liars.extend(liars.iter().cloned());
    read_all(&world, seed, &readers, &objects, FIRST_READS).await;
    let beside_liars = percentile_99(read_all(&world, seed, &readers, &objects, READS).await);
    let wrong_max = lock(&world.weather).wrong.values().copied().max().unwrap_or(0);
    world.end().await;
    let (_, violations) = world.trace.take();
    Cost { honest, beside_liars, wrong_max, liars, violations }
}

/// Nodes that have shards of one object, so that it has as few honest ones as can be.
async fn liars(world: &World, object: &Stored) -> Vec<(NodeName, Lie)> {
    let row = world.catalog.object(&object.sealed.public.id()).await.unwrap().unwrap();
    let public = &object.sealed.public;
    let filled = row.shards.into_iter().filter(|(column, _)| public.column_strips(*column) > 0);
    let mut holders: Vec<NodeName> = filled.map(|(_, node)| node).collect();
    world.draw(|dice| {
        dice.shuffle(&mut holders);
        holders.into_iter().take(LIARS).map(|node| (node, dice.choice(Lie::ALL).unwrap())).collect()
    })
}

/// What every edge reads, one after the other, and how long each read took.
async fn read_all(
    world: &Arc<World>,
    seed: u64,
    readers: &[Arc<Reader>],
    objects: &[Arc<Stored>],
    reads: usize,
) -> Vec<Duration> {
    let mut edges = JoinSet::new();
    for (number, reader) in readers.iter().cloned().enumerate() {
        let (world, objects) = (world.clone(), objects.to_vec());
        edges.spawn(async move {
            let mut dice = Rng::with_seed(seed * 10 + number as u64);
            let mut took = Vec::new();
            for _ in 0..reads {
                sleep(Duration::from_millis(dice.u64(100..1_000))).await;
                let object = &objects[dice.usize(0..objects.len())];
                let began = Instant::now();
                if let Err(error) = work::read(&world, &reader, object, None, false).await {
                    world.trace.violated(format_args!("e{number} cannot read {}: {error}", object.name));
                }
                took.push(began.elapsed());
            }
            took
        });
    }
    edges.join_all().await.concat()
}

fn percentile_99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}
