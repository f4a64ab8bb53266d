//! The scrub of a running origin: finds what its disk forgot, and only that, and goes on where it was.

use std::time::SystemTime;

use format::{ObjectId, wire::Role};
use origin::{
    Scrubbed,
    catalog::{Catalog, SqliteCatalog},
};

use crate::{
    sample::Sample,
    store::{assert_whole, flip_strips, locate, open},
    world::{World, until, upload},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_pass_was() {
    let mut shards = [(Sample::new(1, 140_000), 0), (Sample::new(2, 140_000), 0), (Sample::new(3, 140_000), 0)];
    shards.sort_by_key(id);
    let world = world_of(&shards).await;
    let dir = world.end().await;
    let data = dir.path().join("o1");
    let note =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&std::fs::read(data.join(name)).unwrap()).unwrap() };
    assert!(note("scrub")["after"].is_null(), "the first pass did not begin");
    // Ten days ago a pass began; it has left the first shard behind.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let started = now - 10 * 86_400;
    let position = serde_json::json!({
        "started": started, "all_since": 7, "after": [id(&shards[0]).to_string(), 0], "strip": 0, "bytes": bytes(&shards[0]),
    });
    std::fs::write(data.join("scrub"), position.to_string()).unwrap();
    for shard in &shards[..2] {
        flip_strips(&data, &shard.0, 0, 9);
    }

    let world = World::start_in(dir, 1, "").await;
    until("the scrub", || async { rows(&world).await == 2 }).await;
    let dir = world.end().await;
    let store = open(&data);
    assert!(store.has_shard(&id(&shards[0]), 0).unwrap(), "what an earlier run left behind is not looked at again");
    assert_whole(&store, &shards[2].0, 0);
    drop(store);
    let noted = note("scrub");
    if noted["after"].is_null() {
        // The pass came to its end; the next begins when the time of this one is over.
        assert_eq!(noted["all_since"], started);
        assert!(noted["started"].as_u64().unwrap() > now);
    } else {
        assert_eq!((noted["all_since"].as_u64(), noted["started"].as_u64()), (Some(7), Some(started)));
    }
    drop(dir);
}
