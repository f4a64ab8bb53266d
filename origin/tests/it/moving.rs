//! A catalog that moves to another database, and back: nothing is lost, at no moment two can be used, and what is
//! there is not touched.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    path::Path,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use client::Transport;
use format::{
    BlobId, NodeName, NoteId, ObjectId, PolicyLink, PolicyManifest, Record, Retention,
    wire::{Note, Role, Ticket},
};
use origin::{
    Config, Origin, StartError,
    catalog::{
        Catalog, CatalogUrl, MoveError, Moved, Moving, OpenError, RepairAsk, RepairCause, ShardRow, Stage, Standing,
        look, move_catalog,
    },
};
use sqlx::{Connection, PgConnection, Row, SqliteConnection};
use testing::{Sample, place, postgres::Server};

use crate::world::World;

const KEPT: u32 = 100;
const HOLD: Duration = Duration::from_secs(3600);

fn sqlite(path: &Path) -> CatalogUrl {
    CatalogUrl::Sqlite(path.to_owned())
}

fn postgres() -> CatalogUrl {
    Server::shared().database().parse().unwrap()
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// Files something in every table. Returns what lives, what was erased, and the policy's envelope.
async fn fill(catalog: &dyn Catalog) -> (Sample, Sample, Bytes) {
    let [living, erased, ended] = [1, 2, 3].map(|seed| Sample::new(seed, 40_000));
    let inline = Sample::of(4, [4; 32], b"inline, and without shards");
    for name in ["o1", "o2"] {
        catalog.announce(&testing::node(name, place("z"))).await.unwrap();
    }
    let over = format::Lease { retention: Retention { keep_until: 0, expires: 9 }, ..ended.lease(1) };
    for record in [
        living.record(&living.lease(1), &node("o1")),
        erased.record(&erased.lease(1), &node("o1")),
        inline.record(&inline.lease(7), &node("o2")),
    ] {
        catalog.put_record(&record).await.unwrap();
    }
    catalog.restore_record(&ended.record(&over, &node("o2")), 5).await.unwrap();
    for (sample, column) in [(&living, 0), (&living, 1), (&erased, 0)] {
        let bytes = sample.shard(column).len() as u64;
        let name = if column == 0 { "o1" } else { "o2" };
        catalog.place_shard(&ShardRow { node: node(name), object: sample.id(), column, bytes }).await.unwrap();
    }
    let erasure = erased.erasure(2);
    catalog.put_lease(&erasure, &erased.sign(&erasure)).await.unwrap();

    let blobs = [Bytes::from(vec![0xff; 300_000]), Bytes::from_static(b"")];
    for blob in &blobs {
        catalog.put_blob(&BlobId::of(blob), blob).await.unwrap();
    }
    let [component, config] = [0, 1].map(|at| BlobId::of(&blobs[at]));
    let link = PolicyLink { component, component_bytes: 300_000, config, config_bytes: 0 };
    let manifest = PolicyManifest {
        owner: living.owner.id(),
        name: "geo".parse().unwrap(),
        sequence: 3,
        links: vec![link],
        not_before: 0,
        expires: 0,
        parent: None,
        unknown: Default::default(),
    };
    let envelope = Bytes::from(manifest.sign(&living.owner));
    catalog.put_policy(&manifest, &envelope).await.unwrap();

    let ask = |object: u8, margin| RepairAsk {
        object: ObjectId([object; 32]),
        margin,
        bytes: 10,
        cause: RepairCause::Scan,
        target: (object == 1).then(|| (3, node("o2"))),
        only_lost: vec![0, 12],
    };
    for (object, margin) in [(1, 2), (2, -1)] {
        catalog.queue_repair(&ask(object, margin)).await.unwrap();
    }
    catalog.take_repair(&node("o1"), HOLD).await.unwrap().unwrap();
    let ticket = Ticket { node: node("o2"), object: living.id(), column: 1, stripe: 0 };
    catalog.report(&node("e1"), &ticket).await.unwrap();
    catalog.take_work("walk", &node("o1"), HOLD).await.unwrap();
    assert!(catalog.keep_work("walk", &node("o1"), HOLD, &[0, 0xff]).await.unwrap());
    catalog.put_note(&NoteId([7; 32]), &Note { version: 1, sealed: Bytes::from_static(b"sealed") }).await.unwrap();
    catalog.put_refused(1, &Bytes::from_static(b"list")).await.unwrap();
    (living, erased, envelope)
}

/// Returns every row of a file, by its table, and the schema, as text.
async fn dump(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut on = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let mut all = BTreeMap::new();
    let schema = "SELECT coalesce(sql, name) FROM sqlite_master ORDER BY 1";
    let schema: Vec<String> = sqlx::query_scalar(schema).fetch_all(&mut on).await.unwrap();
    all.insert("schema".to_owned(), schema);
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> '_sqlx_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut on).await.unwrap();
    for table in tables {
        let columns =
            format!("SELECT group_concat('quote(' || name || ')', ' || '','' || ') FROM pragma_table_info('{table}')");
        let columns: String = sqlx::query_scalar(sqlx::AssertSqlSafe(columns)).fetch_one(&mut on).await.unwrap();
        let rows = sqlx::AssertSqlSafe(format!("SELECT {columns} FROM {table} ORDER BY 1"));
        all.insert(table, sqlx::query_scalar(rows).fetch_all(&mut on).await.unwrap());
    }
    on.close().await.unwrap();
    all
}

/// What is in an engine's file beside the rows of the catalog.
fn without_moves(mut dump: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    dump.remove("moves");
    dump
}

async fn moved(from: &CatalogUrl, to: &CatalogUrl) -> Result<Moved, MoveError> {
    move_catalog(from, to, |_| {}).await
}

/// Moves until the `cut`th word of how far it is, and then drops all. Returns the last word; none where it ended first.
async fn cut_short(from: &CatalogUrl, to: &CatalogUrl, cut: usize) -> Option<Stage> {
    let (said, last) = (AtomicUsize::new(0), std::sync::Mutex::new(None));
    let tell = |at: Moving| {
        said.fetch_add(1, Ordering::Relaxed);
        *last.lock().unwrap() = Some(at.stage);
    };
    let mut moving = pin!(move_catalog(from, to, tell));
    let ended = poll_fn(|context| {
        if said.load(Ordering::Relaxed) >= cut {
            return Poll::Ready(None);
        }
        moving.as_mut().poll(context).map(Some)
    });
    match ended.await {
        Some(done) => {
            done.unwrap();
            None
        }
        None => *last.lock().unwrap(),
    }
}

/// Returns whether origins may use a database.
async fn is_usable(url: &CatalogUrl) -> bool {
    matches!(look(url).await.unwrap(), Standing::Here(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_goes_there_and_back_with_every_row_and_its_feed_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let [first, last] = ["a.db", "b.db"].map(|name| dir.path().join(name));
    let (from, there) = (sqlite(&first), postgres());
    let catalog = from.open(KEPT).await.unwrap();
    let (living, erased, envelope) = fill(&*catalog).await;
    let (id, newest) = (catalog.identity().await.unwrap(), catalog.newest_change().await.unwrap());
    let totals = [catalog.shard_totals(&node("o1")).await.unwrap(), catalog.shard_totals(&node("o2")).await.unwrap()];
    catalog.close().await;
    // The newest number may belong to no row any more; it is not used again.
    let mut on = SqliteConnection::connect(&format!("sqlite://{}", first.display())).await.unwrap();
    sqlx::query("DELETE FROM changes WHERE sequence = $1").bind(newest as i64).execute(&mut on).await.unwrap();
    on.close().await.unwrap();
    let before = dump(&first).await;
    let bare: Vec<_> = before.iter().filter(|(_, rows)| rows.is_empty()).map(|(table, _)| table.as_str()).collect();
    assert_eq!(bare, ["moves"], "every table has a row that may be lost");

    let mut heard = Vec::new();
    let done = move_catalog(&from, &there, |at| heard.push(at)).await.unwrap();
    assert_eq!(done.id, id);
    let rows: u64 = done.tables.iter().map(|(_, rows)| rows).sum();
    let whole = heard.iter().rev().find(|at| at.stage == Stage::Comparing).unwrap();
    assert_eq!((whole.rows, whole.of), (2 * rows, 2 * rows));

    let catalog = there.open(KEPT).await.unwrap();
    assert_eq!(catalog.identity().await.unwrap(), id);
    let record = catalog.record(&living.sealed.locator).await.unwrap().unwrap();
    assert_eq!(record.sealed, Some(living.sealed.sealed.clone()));
    assert!(catalog.record(&erased.sealed.locator).await.unwrap().unwrap().sealed.is_none());
    assert_eq!(catalog.policy(&living.owner.id(), &"geo".parse().unwrap()).await.unwrap(), Some(envelope));
    for (name, before) in ["o1", "o2"].iter().zip(totals) {
        assert_eq!(catalog.shard_totals(&node(name)).await.unwrap(), before);
    }
    let page = catalog.changes(newest - 1, 10).await.unwrap();
    assert_eq!((page.changes.len(), page.reset), (0, false));
    catalog.close().await;

    // Back, while nothing was written: all is as it was, to the byte.
    let back = sqlite(&last);
    assert_eq!(moved(&there, &back).await.unwrap(), done);
    assert_eq!(without_moves(dump(&last).await), without_moves(before.clone()));
    // And to where it was at first: what it left behind there is no other catalog.
    assert_eq!(moved(&back, &there).await.unwrap(), done);
    assert_eq!(moved(&there, &from).await.unwrap(), done);
    assert_eq!(dump(&first).await, before);

    assert_eq!(moved(&from, &there).await.unwrap(), done);
    let catalog = there.open(KEPT).await.unwrap();
    let fresh = Sample::new(9, 40_000);
    catalog.put_record(&fresh.record(&fresh.lease(1), &node("o1"))).await.unwrap();
    let page = catalog.changes(newest, 10).await.unwrap();
    assert_eq!((page.changes.len(), page.changes[0].sequence, page.reset), (1, newest + 1, false));
    // The triggers count again.
    let shard = ShardRow { node: node("o1"), object: fresh.id(), column: 0, bytes: 5 };
    catalog.place_shard(&shard).await.unwrap();
    let now = catalog.shard_totals(&node("o1")).await.unwrap();
    assert_eq!((now.shards, now.bytes), (totals[0].shards + 1, totals[0].bytes + 5));
    catalog.close().await;
}

/// Takes over 10 s: each cut begins with a copy, and a server takes a moment to hear that a connection is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_cut_short_anywhere_leaves_no_two_catalogs_and_is_brought_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, there) = (dir.path().join("catalog.db"), postgres());
    let from = sqlite(&path);
    let catalog = from.open(KEPT).await.unwrap();
    fill(&*catalog).await;
    catalog.close().await;
    let before = dump(&path).await;
    let mut cuts = Vec::new();
    for cut in 1.. {
        let Some(stage) = cut_short(&from, &there, cut).await else { break };
        cuts.push(stage);
        let usable = [is_usable(&from).await, is_usable(&there).await];
        // Which of the two it is after the last words depends on what the engine had heard by then.
        match stage {
            Stage::Copying | Stage::Comparing => assert_eq!(usable, [true, false], "{cut} {stage:?}"),
            Stage::Copied | Stage::Left => assert!(usable != [true, true], "{cut} {stage:?}"),
        }
        if !usable[0] {
            let refused = from.open(KEPT).await.err().unwrap();
            assert!(matches!(refused, OpenError::Moved { .. }), "{refused}");
        }
        moved(&from, &there).await.unwrap();
        assert_eq!([is_usable(&from).await, is_usable(&there).await], [false, true]);
        // And the same on the way back.
        cut_short(&there, &from, cut).await;
        let usable = [is_usable(&from).await, is_usable(&there).await];
        assert!(usable != [true, true], "{cut} back");
        moved(&there, &from).await.unwrap();
        assert_eq!(dump(&path).await, before, "{cut} {stage:?}");
    }
    assert!([Stage::Copying, Stage::Comparing, Stage::Copied, Stage::Left].iter().all(|it| cuts.contains(it)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_that_counts_for_nothing_is_named_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (path, there) = (dir.path().join("catalog.db"), postgres());
    let from = sqlite(&path);
    let catalog = from.open(KEPT).await.unwrap();
    let (living, ..) = fill(&*catalog).await;
    catalog.close().await;
    let mut stage = None;
    let mut cut = 0;
    while stage != Some(Stage::Copied) {
        cut += 1;
        stage = cut_short(&from, &there, cut).await;
    }
    assert!(is_usable(&from).await);
    let refused = there.open(KEPT).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unfinished { .. }) && refused.to_string().contains("run that again"));
    assert!(matches!(moved(&there, &postgres()).await, Err(MoveError::Unfinished { .. })));
    // Meanwhile the source goes on.
    let catalog = from.open(KEPT).await.unwrap();
    let erasure = living.erasure(9);
    catalog.put_lease(&erasure, &living.sign(&erasure)).await.unwrap();
    catalog.close().await;
    moved(&from, &there).await.unwrap();
    let catalog = there.open(KEPT).await.unwrap();
    assert!(catalog.record(&living.sealed.locator).await.unwrap().unwrap().sealed.is_none());
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_empty_database_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, absent] = ["a.db", "b.db", "c.db"].map(|name| dir.path().join(name));
    for path in [&one, &two] {
        let catalog = sqlite(path).open(KEPT).await.unwrap();
        fill(&*catalog).await;
        catalog.close().await;
    }
    let before = [dump(&one).await, dump(&two).await];
    let foreign = postgres();
    let url = foreign.without_password().unwrap();
    let mut on = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE accounts (name TEXT)").execute(&mut on).await.unwrap();
    for target in [sqlite(&two), foreign] {
        let refused = moved(&sqlite(&one), &target).await.unwrap_err();
        assert!(matches!(&refused, MoveError::Taken { .. }), "{refused}");
        assert!(refused.to_string().contains("name an empty database"), "{refused}");
    }
    let tables = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'");
    let tables = tables.fetch_all(&mut on).await.unwrap();
    assert_eq!(tables.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>(), ["accounts"]);
    on.close().await.unwrap();

    assert!(matches!(moved(&sqlite(&absent), &postgres()).await, Err(MoveError::NoCatalog { .. })));
    assert!(!absent.exists(), "none was made");
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    for same in [&one, &link] {
        assert!(matches!(moved(&sqlite(&one), &sqlite(same)).await, Err(MoveError::Same { .. })));
    }
    let secret: CatalogUrl = "postgres://u:sesame@localhost/x".parse().unwrap();
    let refused = moved(&sqlite(&one), &secret).await.unwrap_err().to_string();
    assert!(refused.contains(".pgpass") && !refused.contains("sesame"), "{refused}");
    assert_eq!([dump(&one).await, dump(&two).await], before);
}

/// Takes over 10 s: whoever is connected has some seconds to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_an_origin_uses_is_not_moved_and_the_origin_is_named() {
    let mut world = World::start(1, "").await;
    let (path, there) = (world.dir.path().join("catalog.db"), postgres());
    let refused = moved(&sqlite(&path), &there).await.unwrap_err();
    assert!(matches!(&refused, MoveError::InUse { nodes, .. } if *nodes == [node("o1")]), "{refused}");
    assert!(refused.to_string().contains("stop all origins"), "{refused}");
    world.stop_node(1).await;
    moved(&sqlite(&path), &there).await.unwrap();

    let catalog = there.open(KEPT).await.unwrap();
    catalog.now().await.unwrap();
    let refused = moved(&there, &sqlite(&path)).await.unwrap_err();
    assert!(matches!(&refused, MoveError::InUse { .. }), "{refused}");
    catalog.close().await;
    moved(&there, &sqlite(&path)).await.unwrap();
    world.start_node(1).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_goes_on_where_its_catalog_went_and_starts_on_what_it_left_no_more() {
    let mut world = World::start(1, "").await;
    let one = world.name(1);
    let owner = world.caller("t1", Role::Twin);
    let sample = Sample::of(1, [1; 32], b"a letter");
    let record = sample.record(&sample.lease(1), &one);
    owner.put_record(&one, &sample.sealed.locator, record.encode().into()).await.unwrap();
    world.stop_node(1).await;
    let there = postgres();
    moved(&sqlite(&world.dir.path().join("catalog.db")), &there).await.unwrap();

    let started =
        Origin::start(world.config("o1", ""), world.identity("o1", Role::Origin), world.stop.child_token()).await;
    let refused = started.unwrap_err();
    assert!(
        matches!(&refused, StartError::Open(OpenError::Moved { place }) if *place == there.without_password().unwrap())
    );

    let config = Config { catalog: there.clone(), ..world.config("o1", "") };
    let stop = world.stop.child_token();
    let running = Origin::start(config, world.identity("o1", Role::Origin), stop.clone()).await.unwrap();
    let mut nodes = world.nodes.clone();
    nodes[0].address = Some(running.local_addr.into());
    let topology = std::sync::Arc::new(client::Topology::new(nodes));
    let owner = client::HttpTransport::new(&world.identity("t1", Role::Twin), topology).unwrap();
    let answer = owner.record(&one, &sample.sealed.locator).await.unwrap().unwrap();
    assert_eq!(Record::decode(&answer).unwrap().lease.version, 1);
    let lease = sample.sign(&sample.lease(2));
    owner.put_lease(&one, &sample.sealed.locator, lease).await.unwrap();
    stop.cancel();
    running.stopped().await.unwrap();
    world.end().await;
}
