//! Copies of records where they belong: on a disk that was wiped, and on a node that joined.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use client::Transport;
use format::{Locator, wire::Role};
use testing::{Sample, until};

use crate::world::World;

const QUICK: &str = "[limits]\nannounce_seconds = 1\n";

fn copy(world: &World, node: &str, locator: &Locator) -> PathBuf {
    let name = locator.to_string();
    world.data_dir(node).join("records").join(&name[..2]).join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_and_a_new_node_get_their_copies_and_none_of_what_is_erased() {
    let mut world = World::start(2, QUICK).await;
    let twin = world.caller("t1", Role::Twin);
    let samples: Vec<Sample> = (0..4).map(|number| Sample::of(1, [number; 32], b"inline")).collect();
    let locator = |number: usize| samples[number].sealed.locator;
    for sample in &samples {
        let record = Bytes::from(sample.record(&sample.lease(1), &world.name(1)).encode());
        for number in 1..=2 {
            twin.put_record(&world.name(number), &sample.sealed.locator, record.clone()).await.unwrap();
        }
    }
    let erasure = samples[0].sign(&samples[0].erasure(2));
    twin.put_lease(&world.name(1), &locator(0), erasure).await.unwrap();

    world.stop_node(2).await;
    fs::remove_dir_all(world.data_dir("o2")).unwrap();
    world.start_node(2).await;
    world.add_node().await;
    for node in ["o2", "o3"] {
        let is_whole = || async { (1..4).all(|number| copy(&world, node, &locator(number)).exists()) };
        until("the copies that belong there", is_whole).await;
        assert!(!copy(&world, node, &locator(0)).exists(), "{node} has a copy of what is erased");
    }
    let record = |node: &str| fs::read(copy(&world, node, &locator(1))).unwrap();
    assert!(record("o2") == record("o1") && record("o3") == record("o1"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_while_a_node_was_away_is_copied_to_it_when_it_is_back() {
    let mut world = World::start(2, QUICK).await;
    let twin = world.caller("t1", Role::Twin);
    let samples: Vec<Sample> = (0..3).map(|number| Sample::of(1, [number; 32], b"inline")).collect();
    let store = async |world: &World, sample: &Sample| {
        let record = Bytes::from(sample.record(&sample.lease(1), &world.name(1)).encode());
        twin.put_record(&world.name(1), &sample.sealed.locator, record).await.unwrap();
    };
    store(&world, &samples[0]).await;
    let looked = world.data_dir("o2").join("copies");
    until("the first walk", || async { looked.exists() }).await;
    let noted = fs::read(&looked).unwrap();
    world.stop_node(2).await;
    for sample in &samples[1..] {
        store(&world, sample).await;
    }
    let erasure = samples[2].sign(&samples[2].erasure(2));
    twin.put_lease(&world.name(1), &samples[2].sealed.locator, erasure).await.unwrap();
    world.start_node(2).await;
    until("the copy that was missed", || async { copy(&world, "o2", &samples[1].sealed.locator).exists() }).await;
    assert!(!copy(&world, "o2", &samples[2].sealed.locator).exists(), "what is erased came back");
    assert!(fs::read(&looked).unwrap() == noted, "the same origins, so no other walk");
    world.end().await;
}
