//! The owner signs the whole record but the placement: what strangers and lying nodes send beside the owner's lease
//! changes nothing.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use client::{HttpTransport, Transport};
use format::{Lease, Locator, NodeName, Object, Record, wire::Role};
use origin::{
    Config, Origin, StartError, StrangeCatalog,
    catalog::{Catalog, Found, ShardRow, SqliteCatalog},
    rebuild::rebuild,
};
use sqlx::{Connection, PgConnection, SqlitePool};
use testing::{
    Sample,
    conformance::{status, upload},
    postgres::Server,
    until,
};

use crate::world::World;

const TEXT: &[u8] = b"a letter that lies whole in its record";

fn copy(world: &World, node: &NodeName, locator: &Locator) -> PathBuf {
    let name = locator.to_string();
    world.data_dir(node.as_str()).join("records").join(&name[..2]).join(name)
}

/// What a node answers, which must open and be the owner's text, and where it says that the shards are.
async fn read(caller: &HttpTransport, node: &NodeName, sample: &Sample) -> Record {
    let answer = caller.record(node, &sample.sealed.locator).await.unwrap().unwrap();
    let record = Record::decode(&answer).unwrap();
    let opened = Object::open(&sample.sealed.capability, &record, 0).unwrap_or_else(|error| panic!("{node}: {error}"));
    if let Some(inline) = opened.inline() {
        assert_eq!(inline, TEXT);
    }
    record
}

/// Records that carry the owner's lease and otherwise what their sender likes, and how a node refuses them: what the
/// lease does not name is no record, and what it names must be there.
fn forgeries(sample: &Sample, record: &Record) -> Vec<(&'static str, u16, Record)> {
    let mut flipped = sample.sealed.sealed.to_vec();
    flipped[40] ^= 1;
    let sealed = |sealed: Option<Bytes>| Record { sealed, ..record.clone() };
    // Another object of the same owner in place of the one that the name is for.
    let other = Sample::of(1, [99; 32], &[8; 40_000]);
    let elsewhere = vec![None; other.sealed.public.columns()];
    let public = other.sealed.public.clone();
    let exchanged =
        Record { public, sealed: Some(other.sealed.sealed.clone()), placement: elsewhere, ..record.clone() };
    vec![
        ("without the sealed manifest", 409, sealed(None)),
        ("with a bit of it flipped", 400, sealed(Some(flipped.into()))),
        ("with an empty one", 400, sealed(Some(Bytes::new()))),
        ("of another object", 400, exchanged),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_stranger_sends_the_object_stays_readable_and_unaltered() {
    let world = World::start(2, "").await;
    let [one, two] = [world.name(1), world.name(2)];
    let (owner, edge) = (world.caller("t1", Role::Twin), world.caller("e1", Role::Edge));
    let (small, large) = (Sample::of(1, [1; 32], TEXT), Sample::new(1, 40_000));
    upload(&owner, &one, &large.columns[0], 0, &large.sealed.public).await.unwrap();
    for sample in [&small, &large] {
        let (locator, record) = (sample.sealed.locator, sample.record(&sample.lease(1), &one));
        for node in [&one, &two] {
            owner.put_record(node, &locator, record.encode().into()).await.unwrap();
        }
        let copies = || [&one, &two].map(|node| fs::read(copy(&world, node, &locator)).unwrap());
        let before = copies();
        let nowhere = vec![Some("nowhere".parse().unwrap()); record.placement.len()];
        let hints = Record { placement: nowhere, ..record.clone() };
        for (name, role) in [("t2", Role::Twin), ("o9", Role::Origin)] {
            let stranger = world.caller(name, role);
            for node in [&one, &two] {
                // Twice: the first may change what the second is compared with.
                for (what, refusal, forged) in forgeries(sample, &record).iter().chain(&forgeries(sample, &record)) {
                    let sent = stranger.put_record(node, &locator, forged.encode().into()).await;
                    read(&edge, node, sample).await;
                    assert_eq!(status(sent), *refusal, "{name} sends a record {what}");
                }
                for _ in 0..2 {
                    stranger.put_record(node, &locator, hints.encode().into()).await.unwrap();
                    assert_eq!(read(&edge, node, sample).await.placement, record.placement);
                }
            }
        }
        assert!(copies() == before, "a copy was written anew");

        // A node that lost its copy does not take a stranger's word for it.
        fs::remove_file(copy(&world, &two, &locator)).unwrap();
        let stranger = world.caller("t2", Role::Twin);
        stranger.put_record(&two, &locator, hints.encode().into()).await.unwrap();
        assert!(copies() == before, "the copy is not what the catalog holds");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_lease_that_a_liar_wraps_into_another_record_comes_through_alone() {
    let world = World::start(2, "").await;
    let [one, two] = [world.name(1), world.name(2)];
    let (owner, liar) = (world.caller("t1", Role::Twin), world.caller("o9", Role::Origin));
    let sample = Sample::of(1, [1; 32], TEXT);
    let locator = sample.sealed.locator;
    let record = sample.record(&sample.lease(1), &one).encode();
    for node in [&one, &two] {
        owner.put_record(node, &locator, record.clone().into()).await.unwrap();
    }
    // The liar has the renewal from the owner and is at the other nodes before it.
    let renewed = sample.record(&sample.lease(2), &one);
    for (what, refusal, forged) in forgeries(&sample, &renewed) {
        let sent = liar.put_record(&two, &locator, forged.encode().into()).await;
        read(&owner, &two, &sample).await;
        assert_eq!(status(sent), refusal, "{what}");
    }
    owner.put_lease(&one, &locator, renewed.lease_envelope.clone()).await.unwrap();
    for node in [&one, &two] {
        until("the renewed lease", || async { read(&owner, node, &sample).await.lease.version == 2 }).await;
    }
    // The owner's own word destroys it, and then nobody brings it back.
    let erased = sample.record(&sample.erasure(3), &one);
    liar.put_record(&two, &locator, erased.encode().into()).await.unwrap();
    assert_eq!(status(liar.put_record(&two, &locator, record.into()).await), 409);
    for node in [&one, &two] {
        let is_gone = async || {
            let answer = owner.record(node, &locator).await.unwrap().unwrap();
            Record::decode(&answer).unwrap().sealed.is_none()
        };
        until("the erasure", is_gone).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_nobody_could_open_is_not_filed_first_either() {
    let world = World::start(1, "").await;
    let (one, liar) = (world.name(1), world.caller("o9", Role::Origin));
    let sample = Sample::of(1, [1; 32], TEXT);
    let locator = sample.sealed.locator;
    let record = sample.record(&sample.lease(1), &one);
    let stripped = Record { sealed: None, ..record.clone() };
    assert_eq!(status(liar.put_record(&one, &locator, stripped.encode().into()).await), 409);
    assert_eq!(liar.record(&one, &locator).await.unwrap(), None);
    let owner = world.caller("t1", Role::Twin);
    owner.put_record(&one, &locator, record.encode().into()).await.unwrap();
    read(&owner, &one, &sample).await;
    // Under a lease that has ended it is a tombstone, as nodes keep it.
    let ended = Sample::of(2, [2; 32], TEXT);
    let lease = Lease { retention: format::Retention { keep_until: 0, expires: 9 }, ..ended.lease(1) };
    let stripped = Record { sealed: None, ..ended.record(&lease, &one) };
    owner.put_record(&one, &ended.sealed.locator, stripped.encode().into()).await.unwrap();
    let back = ended.record(&ended.lease(2), &one).encode();
    assert_eq!(status(owner.put_record(&one, &ended.sealed.locator, back.into()).await), 410);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_damaged_or_not_as_signed_is_replaced_when_it_is_read() {
    let world = World::start(2, "").await;
    let [one, two] = [world.name(1), world.name(2)];
    let owner = world.caller("t1", Role::Twin);
    let sample = Sample::of(1, [1; 32], TEXT);
    let locator = sample.sealed.locator;
    let record = sample.record(&sample.lease(1), &one);
    for node in [&one, &two] {
        owner.put_record(node, &locator, record.encode().into()).await.unwrap();
    }
    let whole = fs::read(copy(&world, &two, &locator)).unwrap();
    // The owner has signed which sealed manifest it is, so another one is damage too.
    let other = Record { sealed: Some(vec![7; 100].into()), ..record.clone() }.encode();
    for damaged in [&whole[..whole.len() - 1], &[], &[0xff; 100], &other] {
        fs::write(copy(&world, &two, &locator), damaged).unwrap();
        read(&owner, &two, &sample).await;
        assert!(fs::read(copy(&world, &two, &locator)).unwrap() == whole, "a damaged copy was not replaced");
    }
    world.end().await;
}

/// A catalog is lost and made anew, empty, by the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_starts_on_no_catalog_but_the_one_that_knows_its_disk() {
    let mut world = World::start(1, "").await;
    let one = world.name(1);
    let owned = Sample::of(1, [1; 32], TEXT);
    let record = Bytes::from(owned.record(&owned.lease(1), &one).encode());
    world.caller("t1", Role::Twin).put_record(&one, &owned.sealed.locator, record).await.unwrap();
    world.stop_node(1).await;
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        fs::remove_file(world.dir.path().join(file)).ok();
    }
    let config = || world.config("o1", "");
    let started = Origin::start(config(), world.identity("o1", Role::Origin), world.stop.clone()).await;
    let refusal = started.unwrap_err();
    assert!(matches!(refusal, StartError::OtherCatalog { .. }), "{refusal}");
    assert!(refusal.to_string().contains("evernear catalog rebuild"), "{refusal}");
    assert!(!world.dir.path().join("catalog.db").exists(), "an empty catalog was made");

    // Nor does one whose note is gone take an empty catalog.
    fs::remove_file(world.data_dir("o1").join("catalog")).unwrap();
    let started = Origin::start(config(), world.identity("o1", Role::Origin), world.stop.clone()).await;
    let refusal = started.unwrap_err();
    assert!(matches!(refusal, StartError::OtherCatalog(StrangeCatalog::Empty { .. })), "{refusal}");

    // What a rebuild has put into a catalog, that knows.
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        fs::remove_file(world.dir.path().join(file)).ok();
    }
    assert_eq!(rebuild(&world.config("o1", "")).await.unwrap().records_filed, 1);
    world.start_node(1).await;
    read(&world.caller("t1", Role::Twin), &one, &owned).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_gets_no_tables_from_an_origin_that_knows_another_catalog() {
    let mut world = World::start(1, "").await;
    world.stop_node(1).await;
    let url = Server::shared().database();
    let config = Config { catalog: url.parse().unwrap(), ..world.config("o1", "") };
    let started = Origin::start(config, world.identity("o1", Role::Origin), world.stop.clone()).await;
    let refusal = started.unwrap_err();
    assert!(
        matches!(refusal, StartError::OtherCatalog(StrangeCatalog::Other { found: Found::Empty, .. })),
        "{refusal}"
    );
    let mut database = PgConnection::connect(&url).await.unwrap();
    let is_empty = sqlx::query_scalar::<_, bool>("SELECT to_regclass('records') IS NULL");
    assert!(is_empty.fetch_one(&mut database).await.unwrap());
    database.close().await.unwrap();
    world.end().await;
}

async fn database(world: &World) -> SqlitePool {
    SqlitePool::connect(&format!("sqlite://{}", world.dir.path().join("catalog.db").display())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_origin_writes_to_no_catalog_but_the_one_that_knows_its_disk() {
    let world = World::start(1, "[limits]\nannounce_seconds = 1\n").await;
    let (one, owner) = (world.name(1), world.caller("t1", Role::Twin));
    let [first, second] = [1, 2].map(|number| Sample::of(number, [1; 32], TEXT));
    let records = [&first, &second].map(|sample| Bytes::from(sample.record(&sample.lease(1), &one).encode()));
    let put = async |sample: &Sample| {
        let record = &records[usize::from(sample.id() == second.id())];
        owner.put_record(&one, &sample.sealed.locator, record.clone()).await
    };
    put(&first).await.unwrap();
    let database = database(&world).await;
    let known: Vec<u8> = sqlx::query_scalar("SELECT id FROM identity").fetch_one(&database).await.unwrap();
    let exchange = async |id: &[u8]| {
        sqlx::query("UPDATE identity SET id = $1").bind(id).execute(&database).await.unwrap();
    };
    exchange(&[7; 16]).await;
    until("writes are refused", || async { put(&first).await.is_err() }).await;
    assert_eq!(status(put(&second).await), 503);
    let lease = first.sign(&first.lease(2));
    assert_eq!(status(owner.put_lease(&one, &first.sealed.locator, lease.clone()).await), 503);
    read(&owner, &one, &first).await;
    exchange(&known).await;
    put(&second).await.unwrap();
    owner.put_lease(&one, &first.sealed.locator, lease).await.unwrap();
    database.close().await;
    world.end().await;
}

/// The row of a record is lost, and a stranger takes its locator at a node without a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_renews_what_the_catalog_lost_and_a_stranger_filed() {
    let world = World::start(2, "").await;
    let [one, two] = [world.name(1), world.name(2)];
    let (owner, stranger) = (world.caller("t1", Role::Twin), world.caller("t2", Role::Twin));
    let (owned, strange) = (Sample::of(1, [1; 32], TEXT), Sample::of(2, [2; 32], TEXT));
    let locator = owned.sealed.locator;
    let record = Bytes::from(owned.record(&owned.lease(1), &one).encode());
    for node in [&one, &two] {
        owner.put_record(node, &locator, record.clone()).await.unwrap();
    }
    let database = database(&world).await;
    let lose = async || sqlx::query("DELETE FROM records").execute(&database).await.unwrap();
    lose().await;
    owner.put_lease(&one, &locator, owned.sign(&owned.lease(2))).await.unwrap();
    // Where a copy lies, no stranger comes first.
    lose().await;
    let squat = Bytes::from(strange.record(&Lease { locator, ..strange.lease(7) }, &one).encode());
    assert_eq!(status(stranger.put_record(&one, &locator, squat.clone()).await), 409);
    fs::remove_file(copy(&world, &two, &locator)).unwrap();
    lose().await;
    stranger.put_record(&two, &locator, squat).await.unwrap();
    sqlx::query("UPDATE records SET filed_at = filed_at + 60").execute(&database).await.unwrap();
    owner.put_lease(&one, &locator, owned.sign(&owned.lease(3))).await.unwrap();
    assert_eq!(read(&owner, &one, &owned).await.lease.version, 3);
    let listed = owner.locators(&one, &owned.owner.id(), None).await.unwrap().locators;
    assert_eq!(listed, [locator], "the catalog has the owner's record");
    database.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_catalog_lost_of_its_last_seconds_comes_back_from_the_disks() {
    let world = World::start(1, "").await;
    let (one, owner) = (world.name(1), world.caller("t1", Role::Twin));
    let sample = Sample::new(1, 40_000);
    let locator = sample.sealed.locator;
    upload(&owner, &one, &sample.columns[0], 0, &sample.sealed.public).await.unwrap();
    owner.put_record(&one, &locator, sample.record(&sample.lease(1), &one).encode().into()).await.unwrap();
    // Renewed, and the catalog goes back to before: its feed ends earlier than was seen.
    owner.put_lease(&one, &locator, sample.sign(&sample.lease(2))).await.unwrap();
    let reader = world.identity("t9", Role::Twin);
    let seen = async || {
        let (_, metrics) = world.raw(&reader, "GET", "/metrics", Bytes::new()).await;
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        let position = metrics.lines().find_map(|line| line.strip_prefix("evernear_origin_feed_position ")).unwrap();
        position.parse::<u64>().unwrap() >= 3
    };
    until("the feed is followed", seen).await;
    let database = database(&world).await;
    let goes_back = "DELETE FROM records; DELETE FROM shards; DELETE FROM changes WHERE sequence > 1";
    sqlx::raw_sql(goes_back).execute(&database).await.unwrap();
    database.close().await;
    let catalog = SqliteCatalog::open(&world.dir.path().join("catalog.db"), 100).await.unwrap();
    let is_back = async || {
        let version = catalog.record(&locator).await.unwrap().map(|record| record.lease.version);
        let row = ShardRow { node: one.clone(), object: sample.id(), column: 0, bytes: sample.shard(0).len() as u64 };
        version == Some(2) && catalog.shards_on(&one, None, 9).await.unwrap() == [row]
    };
    until("the record and the shard", is_back).await;
    catalog.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_note_of_the_catalog_is_named_and_can_be_made_anew_without_a_rebuild() {
    let mut world = World::start(1, "").await;
    let note = world.data_dir("o1").join("catalog");
    let whole = fs::read(&note).unwrap();
    world.stop_node(1).await;
    for damaged in [vec![b'a'; 5000], whole[..31].to_vec(), vec![0xff; 32], vec![]] {
        fs::write(&note, damaged).unwrap();
        let started =
            Origin::start(world.config("o1", ""), world.identity("o1", Role::Origin), world.stop.clone()).await;
        let refusal = started.unwrap_err().to_string();
        assert!(refusal.contains(note.to_str().unwrap()) && refusal.contains("remove this file"), "{refusal}");
    }
    fs::remove_file(&note).unwrap();
    world.start_node(1).await;
    assert_eq!(fs::read(&note).unwrap(), whole);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_makes_things_up_harms_no_object() {
    let world = World::start(1, "").await;
    testing::siege::withstand(&world, 1, testing::mutations(1_000)).await;
    world.end().await;
}
