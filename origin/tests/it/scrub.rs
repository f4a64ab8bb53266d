//! The scrub of a running origin: finds what its disk forgot, and only that, and goes on where it was.

use std::{path::Path, time::SystemTime};

use bytes::Bytes;
use client::Transport;
use format::{ObjectId, wire::Role};
use origin::{
    Scrubbed,
    catalog::{Catalog, SqliteCatalog},
};
use testing::{Sample, conformance::upload, until};

use crate::{
    store::{assert_whole, flip_strips, locate, open},
    world::World,
};

/// An object and a column of it that is uploaded.
type Put = (Sample, usize);

async fn world_of(shards: &[Put]) -> World {
    let world = World::start(1, "").await;
    let twin = world.caller("t1", Role::Twin);
    for (sample, column) in shards {
        upload(&twin, &world.name(1), &sample.columns[*column], *column, &sample.sealed.public).await.unwrap();
    }
    world
}

fn bytes((sample, column): &Put) -> u64 {
    sample.sealed.public.shard_bytes(*column)
}

fn id((sample, _): &Put) -> ObjectId {
    sample.sealed.public.id()
}

async fn rows(world: &World) -> u64 {
    let catalog = SqliteCatalog::open(&world.dir.path().join("catalog.db"), 10).await.unwrap();
    let totals = catalog.shard_totals(&world.name(1)).await.unwrap();
    catalog.close().await;
    totals.shards
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_takes_the_damaged_shard_out_and_mends_what_only_lost_its_list() {
    // The third takes more than one step.
    let shards = [(Sample::new(1, 140_000), 0), (Sample::new(1, 140_000), 1), (Sample::new(2, 36 << 20), 0)];
    let world = world_of(&shards).await;
    let all: u64 = shards.iter().map(bytes).sum();
    let scrub = || async { world.origin(1).scrub().await.unwrap() };
    assert_eq!(scrub().await, Scrubbed { bytes: all, mended: 0, quarantined: 0 });
    assert_eq!(rows(&world).await, 3);

    let data = world.data_dir("o1");
    flip_strips(&data, &shards[0].0, 0, 69_000);
    std::fs::remove_file(locate(&data, &shards[2].0, 0).0.with_extension("0.list")).unwrap();
    let found = scrub().await;
    assert_eq!((found.mended, found.quarantined), (1, 1));
    assert_eq!(rows(&world).await, 2);
    assert_eq!(scrub().await, Scrubbed { bytes: all - bytes(&shards[0]), mended: 0, quarantined: 0 });

    let dir = world.end().await;
    let store = open(&dir.path().join("o1"));
    assert!(!store.has_shard(&id(&shards[0]), 0).unwrap());
    assert_whole(&store, &shards[1].0, 1);
    assert_whole(&store, &shards[2].0, 0);
}

/// Seconds since 1970, and the length of a pass by default: three quarters of two weeks.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
const PASS_SECONDS: u64 = 14 * 86_400 / 4 * 3;

/// Where the scrub of the first origin is.
fn noted(data: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data.join("scrub")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_pass_was_and_the_next_begins_in_its_time() {
    let mut shards = [(Sample::new(1, 140_000), 0), (Sample::new(2, 140_000), 0), (Sample::new(3, 140_000), 0)];
    shards.sort_by_key(id);
    let world = world_of(&shards).await;
    let dir = world.end().await;
    let data = dir.path().join("o1");
    assert!(noted(&data)["after"].is_null(), "the first pass did not begin");
    // A pass began, has left the first shard behind, and is late: it does not wait any more. Its time is not over yet.
    let started = now() - PASS_SECONDS / 10 * 9;
    let position = serde_json::json!({
        "started": started, "all_since": 7, "after": [id(&shards[0]).to_string(), 0], "strip": 0, "bytes": bytes(&shards[0]),
    });
    std::fs::write(data.join("scrub"), position.to_string()).unwrap();
    for shard in &shards[..2] {
        flip_strips(&data, &shard.0, 0, 9);
    }

    let world = World::start_in(dir, 1, "").await;
    let (twin, node) = (world.caller("t1", Role::Twin), world.name(1));
    until("the end of the pass", || async { twin.repairs(&node).await.unwrap().scrubbed_since == started }).await;
    assert_eq!(rows(&world).await, 2);
    let dir = world.end().await;
    let store = open(&data);
    assert!(store.has_shard(&id(&shards[0]), 0).unwrap(), "what an earlier run left behind is not looked at again");
    assert!(!store.has_shard(&id(&shards[1]), 0).unwrap());
    assert_whole(&store, &shards[2].0, 0);
    drop(store);
    let next = noted(&data);
    assert!(next["after"].is_null(), "{next}");
    assert_eq!(next["all_since"], started);
    assert_eq!(next["started"], started + PASS_SECONDS);
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_is_ahead_of_its_time_rests_within_a_shard_and_a_restart_goes_on_there() {
    // The large one takes two steps, and lies between the small ones.
    let large = (Sample::new(0, 36 << 20), 0);
    let small = |is_right: fn(ObjectId, ObjectId) -> bool| {
        let mut all = (1..).map(|seed| (Sample::new(seed, 140_000), 0));
        all.find(|it| is_right(id(it), id(&large))).unwrap()
    };
    let (first, last) = (small(|it, large| it < large), small(|it, large| it > large));
    // Damage at the end of a pack would be a torn write, so another shard lies there.
    let at_the_end = (small(|it, large| it > large).0, 1);
    let shards = [first, large, last, at_the_end];
    let world = world_of(&shards).await;
    let dir = world.end().await;
    let data = dir.path().join("o1");
    let position = |started: u64, after: &serde_json::Value, strip: &serde_json::Value, bytes: &serde_json::Value| {
        let position =
            serde_json::json!({ "started": started, "all_since": 7, "after": after, "strip": strip, "bytes": bytes });
        std::fs::write(data.join("scrub"), position.to_string()).unwrap();
    };
    // Two fifths of the time are over and little is done; after the next step nearly all is.
    let (started, after) = (now() - PASS_SECONDS / 5 * 2, serde_json::json!([id(&shards[0]).to_string(), 0]));
    position(started, &after, &0.into(), &bytes(&shards[0]).into());
    flip_strips(&data, &shards[0].0, 0, 9);
    flip_strips(&data, &shards[2].0, 0, 9);

    let world = World::start_in(dir, 1, "").await;
    let reader = world.identity("e1", Role::Edge);
    until("a step", || async {
        let (_, metrics) = world.raw(&reader, "GET", "/metrics", Bytes::new()).await;
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        let hashed = metrics.lines().find_map(|line| line.strip_prefix("evernear_origin_scrubbed_bytes_total "));
        hashed.unwrap().parse::<u64>().unwrap() >= 8 << 20
    })
    .await;
    assert_eq!(rows(&world).await, 4);
    let dir = world.end().await;
    let rests = noted(&data);
    assert_eq!((rests["all_since"].as_u64(), rests["started"].as_u64()), (Some(7), Some(started)));
    assert_eq!(rests["after"], after);
    let hashed = rests["bytes"].as_u64().unwrap() - bytes(&shards[0]);
    assert!(rests["strip"].as_u64().unwrap() > 0 && hashed < bytes(&shards[1]), "{rests}");

    // Its time has nearly come.
    position(now() - PASS_SECONDS / 100 * 99, &rests["after"], &rests["strip"], &rests["bytes"]);
    let world = World::start_in(dir, 1, "").await;
    until("the damaged shard behind it", || async { rows(&world).await == 3 }).await;
    let dir = world.end().await;
    let store = open(&data);
    assert!(store.has_shard(&id(&shards[0]), 0).unwrap(), "what is behind is not looked at again");
    assert_whole(&store, &shards[1].0, 0);
    assert!(!store.has_shard(&id(&shards[2]), 0).unwrap());
    drop((store, dir));
}
