//! A running origin takes every step of a sweep: each does here what nothing else does.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use client::{ShardAsk, Transport};
use format::{
    Lease, ObjectId, Record, Retention,
    wire::{NodeEntry, Role},
};
use hyper::StatusCode;
use origin::{
    Config, Origin,
    catalog::{Catalog, CatalogUrl, PostgresCatalog, ShardRow, SqliteCatalog},
};
use sqlx::{Connection, PgConnection};
use testing::{Sample, conformance::upload, place, postgres::Server, until};

use crate::{packs::leave_sparse_pack, world::World};

const KEPT: u32 = 10_000;
const SETTINGS: &str = "limits.sweep_seconds = 1\nlimits.erase_grace_seconds = 0\nlimits.upload_idle_seconds = 1";

fn row(node: &str, object: ObjectId) -> ShardRow {
    ShardRow { node: node.parse().unwrap(), object, column: 3, bytes: 9 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_origin_takes_every_step_of_a_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = (dir.path().join("catalog.db"), dir.path().join("o1"));
    let sparse = leave_sparse_pack(&root);
    // Announced in the first days of 1970, and silent since.
    let before = SqliteCatalog::open_by(&file, KEPT, Some(Arc::new(|| Duration::from_secs(1_000_000)))).await.unwrap();
    before.announce(&NodeEntry { role: Role::Edge, ..testing::node("e9", place("z")) }).await.unwrap();
    before.close().await;

    let world = World::start_in(dir, 1, SETTINGS).await;
    let catalog = SqliteCatalog::open(&file, KEPT).await.unwrap();
    let (twin, one) = (world.caller("t1", Role::Twin), world.name(1));
    until("a pack of which little is left is rewritten", async || !sparse.exists()).await;
    until("an edge that was silent for 30 days is forgotten", async || {
        catalog.nodes().await.unwrap().iter().all(|node| node.name.as_str() != "e9")
    })
    .await;

    for made in ["ballast", "clock"] {
        fs::remove_file(root.join(made)).unwrap();
        until(made, async || root.join(made).exists()).await;
    }
    let idle = twin.create_upload(&one, 0, 6).await.unwrap();
    twin.append(&one, &idle, 0, &Sample::new(9, 3 << 20).columns[0][..1]).await.unwrap();
    until("an idle upload is dropped", async || fs::read_dir(root.join("tmp")).unwrap().count() == 0).await;

    // One that its owner erased, and one that ends by itself; of the first also a node that is gone had a shard.
    let (erased, ending) = (Sample::new(1, 40_000), Sample::new(2, 40_000));
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2;
    let ends = Lease { retention: Retention { keep_until: 0, expires }, ..ending.lease(1) };
    for (sample, lease) in [(&erased, erased.lease(1)), (&ending, ends)] {
        upload(&twin, &one, &sample.columns[0], 0, &sample.sealed.public).await.unwrap();
        let record = sample.record(&lease, &one).encode();
        twin.put_record(&one, &sample.sealed.locator, record.into()).await.unwrap();
    }
    catalog.place_shard(&row("o9", erased.id())).await.unwrap();
    twin.put_lease(&one, &erased.sealed.locator, erased.sign(&erased.erasure(2))).await.unwrap();
    until("shards of nodes that are gone are forgotten", async || {
        catalog.shards_on(&"o9".parse().unwrap(), None, 9).await.unwrap().is_empty()
    })
    .await;
    until("a lease ends", async || {
        let record = twin.record(&one, &ending.sealed.locator).await.unwrap().unwrap();
        Record::decode(&record).unwrap().sealed.is_none()
    })
    .await;
    for sample in [&erased, &ending] {
        let ask = ShardAsk { object: sample.id(), column: 0, first: 0, count: 1 };
        until("dead shards are removed", async || twin.read_shard(&one, ask).await.is_err()).await;
    }

    // What the catalog says is here, the node has not counted itself.
    catalog.place_shard(&row("o1", ObjectId([7; 32]))).await.unwrap();
    let held = catalog.shard_totals(&one).await.unwrap().shards;
    let reader = world.identity("e1", Role::Edge);
    until("shards are counted again", async || {
        let (status, text) = world.raw(&reader, "GET", "/metrics", bytes::Bytes::new()).await;
        assert_eq!(status, StatusCode::OK);
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.lines().any(|line| line == format!("evernear_origin_shards {held}"))
    })
    .await;
    until("the catalog's log is emptied", async || fs::metadata(file.with_extension("db-wal")).unwrap().len() == 0)
        .await;
    catalog.close().await;
    world.end().await;
}

/// Only on `PostgreSQL` are counts kept aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_origin_folds_the_counts_of_shards() {
    let (world, text) = (World::start(0, "").await, Server::shared().database());
    let url: CatalogUrl = text.parse().unwrap();
    let config = Config { catalog: url, ..world.config("o1", SETTINGS) };
    let running = Origin::start(config, world.identity("o1", Role::Origin), world.stop.child_token()).await.unwrap();
    let catalog = PostgresCatalog::connect(&text.parse().unwrap(), KEPT).await.unwrap();
    catalog.place_shard(&row("o9", ObjectId([7; 32]))).await.unwrap();
    let mut aside = PgConnection::connect(&text).await.unwrap();
    let mut count = async || {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM node_deltas").fetch_one(&mut aside).await;
        count.unwrap()
    };
    until("counts are folded", async || count().await == 0).await;
    assert_eq!(catalog.shard_totals(&"o9".parse().unwrap()).await.unwrap().shards, 1);
    catalog.close().await;
    world.end().await;
    running.stopped().await.unwrap();
}
