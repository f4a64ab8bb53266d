//! Repair over real origins: what is lost is made again elsewhere, what moves moves, and reads are exact throughout.

use std::{fs, sync::Arc, time::Duration};

use client::{HttpTransport, Reader, ReaderOptions, Topology, Transport, Uploader};
use format::{
    Domain, EncodedStripe, Lease, NodeName, StripeIndex,
    wire::{ColumnState, ObjectHealth, Role, Ticket},
};
use origin::catalog::{CatalogUrl, RepairAsk, RepairCause, RepairEnd};
use sqlx::{Connection, SqliteConnection};
use testing::{Sample, conformance::status, until};
use tokio::time::{Instant, sleep};

use crate::world::World;

/// Nodes count as down after three seconds, and everything is looked at every second.
const QUICK: &str = "[limits]\nannounce_seconds = 1\ndown_seconds = 3\nscan_seconds = 1\n";
/// More than one window of stripes would be slow here; a tail and a few full stripes are enough.
const BYTES: usize = 3 << 20;

/// A cluster with one object on six of its nine nodes.
struct Stored {
    world: World,
    twin: HttpTransport,
    sample: Sample,
    /// The node of each column, by number.
    holders: Vec<usize>,
}

async fn stored(settings: &str) -> Stored {
    stored_in(World::start(9, settings).await).await
}

async fn stored_in(world: World) -> Stored {
    let twin = world.caller("t1", Role::Twin);
    let topology = topology(&world, &twin).await;
    let sample = Sample::new(3, BYTES);
    let placement = store(&world, topology, &sample).await;
    let number = |name: &NodeName| world.nodes.iter().position(|node| node.name == *name).unwrap() + 1;
    let holders = placement.iter().flatten().map(number).collect();
    Stored { world, twin, sample, holders }
}

/// Stores an object and returns where its columns are.
async fn store(world: &World, topology: Arc<Topology>, sample: &Sample) -> Vec<Option<NodeName>> {
    let transport: Arc<dyn Transport> = Arc::new(world.caller("t2", Role::Twin));
    let mut uploader = Uploader::begin(transport, topology, [7; 32], vec![], vec![]);
    for stripe in 0..sample.columns[0].len() {
        let strips = sample.columns.iter().map(|column| column[stripe].strip.clone()).collect();
        let (redundancy, row) = (sample.sealed.public.redundancy().unwrap(), sample.columns[0][stripe].row.clone());
        uploader.send(EncodedStripe { index: StripeIndex(stripe as u64), redundancy, row, strips }).await.unwrap();
    }
    let lease = sample.sign(&sample.lease(1));
    let receipt = uploader.commit(&sample.sealed, lease).await.unwrap();
    assert_eq!(receipt.durable, 6);
    receipt.placement
}

async fn topology(world: &World, twin: &HttpTransport) -> Arc<Topology> {
    for node in &world.nodes {
        if let Ok(nodes) = twin.nodes(&node.name).await {
            return Arc::new(Topology::new(nodes));
        }
    }
    panic!("no node answers");
}

impl Stored {
    /// Reads the whole object as an edge would, from the records that nodes hold now.
    async fn read(&self, reader: &Reader) -> Option<Vec<u8>> {
        let (object, record) = reader.object(&self.sample.sealed.capability).await.ok()?;
        let geometry = object.geometry().unwrap();
        let mut bytes = Vec::new();
        for stripe in (0..geometry.stripes()).map(StripeIndex) {
            let columns: Vec<usize> = (0..geometry.columns(stripe)).collect();
            let read = reader.blocks(&object, &record.placement, stripe, &columns).await.ok()?;
            read.blocks.iter().for_each(|(_, block)| bytes.extend_from_slice(block));
        }
        Some(bytes)
    }

    async fn reader(&self) -> Reader {
        let edge = Arc::new(
            HttpTransport::new(
                &self.world.identity("e1", Role::Edge),
                topology(&self.world, &self.world.caller("e2", Role::Edge)).await,
            )
            .unwrap(),
        );
        let topology = topology(&self.world, &edge).await;
        Reader::new(edge, topology, self.world.nodes[0].place.clone(), ReaderOptions::default())
    }

    async fn health(&self) -> Option<ObjectHealth> {
        for node in &self.world.nodes {
            if let Ok(Some(health)) = self.twin.health(&node.name, &self.sample.sealed.locator).await {
                return Some(health);
            }
        }
        None
    }

    /// Waits until every column lies well, on nodes that `allowed` allows alone.
    async fn heals(&self, what: &str, allowed: impl Fn(&str) -> bool) {
        until(what, || async {
            self.health().await.is_some_and(|health| {
                health.columns.iter().all(|column| {
                    column.state == ColumnState::Healthy && column.nodes.iter().any(|node| allowed(node.as_str()))
                })
            })
        })
        .await;
    }

    fn shard_file(&self, column: usize) -> std::path::PathBuf {
        let object = self.sample.sealed.public.id().to_string();
        let node = self.world.data_dir(&format!("o{}", self.holders[column]));
        node.join("shards").join(&object[..2]).join(&object[2..4]).join(format!("{object}.{column}"))
    }
}

fn plain(sample: &Sample) -> [u8; 32] {
    let object = format::Object::from_manifests(
        &sample.sealed.capability,
        &sample.sealed.locator,
        sample.sealed.public.clone(),
        &sample.sealed.sealed,
    );
    object.unwrap().manifest().hash
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_go_for_good_are_replaced_and_reads_are_exact_throughout() {
    let mut it = stored(QUICK).await;
    let gone = [it.holders[0], it.holders[4]];
    for number in gone {
        it.world.stop_node(number).await;
    }
    let before = it.reader().await;
    assert_eq!(it.read(&before).await.map(|bytes| hash(&bytes)), Some(plain(&it.sample)), "read around the losses");
    let names = gone.map(|number| format!("o{number}"));
    it.heals("the two columns on other nodes", |node| !names.iter().any(|name| name == node)).await;

    // The rebuilt columns carry the object when two of the first nodes go as well.
    for number in [it.holders[1], it.holders[5]] {
        it.world.stop_node(number).await;
    }
    // The copies of the record learn of it just after the catalog.
    until("the object is read from where it lies now", || async {
        let reader = it.reader().await;
        it.read(&reader).await.is_some_and(|bytes| hash(&bytes) == plain(&it.sample))
    })
    .await;
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_ends_empty_and_others_have_its_shards() {
    // No walk comes to help: a drain is seen at once, and so is what it leaves behind.
    let mut it = stored("[limits]\nannounce_seconds = 1\ndown_seconds = 3\n").await;
    let number = it.holders[2];
    let name = it.world.name(number);
    let operator = it.world.caller(name.as_str(), Role::Origin);
    let stranger = it.world.caller(it.world.name(it.holders[3]).as_str(), Role::Origin);
    assert_eq!(status(stranger.drain(&name, true).await), 403, "only a node itself");
    operator.drain(&name, true).await.unwrap();
    assert_eq!(status(operator.create_upload(&name, 0, 6).await), 507, "it takes nothing new");
    let empty = || async { !it.shard_file(2).exists() };
    until("the drained node is empty", empty).await;
    let health = it.health().await.unwrap();
    assert_eq!(health.margin, 2);
    assert!(health.columns.iter().all(|column| !column.nodes.contains(&name)));

    // It stays so over a restart, and takes shards again when told.
    it.world.stop_node(number).await;
    it.world.start_node(number).await;
    let operator = it.world.caller(name.as_str(), Role::Origin);
    let listed = operator.nodes(&name).await.unwrap();
    assert!(listed.iter().any(|node| node.name == name && node.draining));
    operator.drain(&name, false).await.unwrap();
    operator.create_upload(&name, 0, 6).await.unwrap();
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_leave_a_node_is_told_before_it_is_drained_and_leaves_once_a_node_comes() {
    // Six nodes for six columns: none is left over.
    let mut world = World::start(6, "[limits]\nannounce_seconds = 1\ndown_seconds = 3\n").await;
    let twin = world.caller("t1", Role::Twin);
    let sample = Sample::new(3, BYTES);
    store(&world, topology(&world, &twin).await, &sample).await;
    let name = world.name(3);
    let outlook = async |twin: &HttpTransport| twin.drain_outlook(&name, None).await.unwrap();
    let told = outlook(&twin).await;
    assert_eq!((told.moving.objects, told.moved.objects, told.stuck.len()), (0, 0, 1));
    assert_eq!((told.stuck[0].amount.objects, told.stuck[0].amount.bytes), (1, told.held_bytes));
    let why = "an object of 4+2 needs 6 origins with room; 1 shard must go elsewhere, and no other origin can take one";
    assert_eq!(told.stuck[0].why, why);

    world.caller(name.as_str(), Role::Origin).drain(&name, true).await.unwrap();
    until("the queue says why", || async {
        let status = twin.repairs(&world.name(1)).await.unwrap();
        status.obstacles.iter().any(|obstacle| obstacle.why == why && obstacle.amount.objects == 1)
    })
    .await;
    world.add_node().await;
    let twin = world.caller("t1", Role::Twin);
    until("the shard is on the new node", || async {
        let left = outlook(&twin).await;
        left.stuck.is_empty() && left.moving.objects + left.moved.objects + left.held_bytes == 0
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_readers_word_is_verified_before_a_shard_is_given_up() {
    let it = stored(QUICK).await;
    let ticket = |column: usize| Ticket {
        node: it.world.name(it.holders[column]),
        object: it.sample.sealed.public.id(),
        column,
        stripe: 1,
    };
    let edge = it.world.caller("e1", Role::Edge);
    // A lie about a good shard, and the truth about a bad one.
    let file = it.shard_file(3);
    let mut strips = fs::read(&file).unwrap();
    let last = it.sample.columns[3][0].size() + 299;
    strips[last] ^= 4;
    fs::write(&file, strips).unwrap();
    edge.report(&it.world.name(1), &ticket(1)).await.unwrap();
    edge.report(&it.world.name(1), &ticket(3)).await.unwrap();
    let bad = it.world.name(it.holders[3]);
    it.heals("the bad column elsewhere", |_| true).await;
    until("the bad shard is no longer counted on", || async {
        it.health().await.is_some_and(|health| !health.columns[3].nodes.contains(&bad) && health.margin == 2)
    })
    .await;
    let health = it.health().await.unwrap();
    assert_eq!(health.columns[1].nodes, [it.world.name(it.holders[1])], "the lie moved nothing");
    let reader = it.reader().await;
    assert_eq!(it.read(&reader).await.map(|bytes| hash(&bytes)), Some(plain(&it.sample)));
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_object_is_said_to_be_so_and_heals_when_its_nodes_return() {
    let mut it = stored(QUICK).await;
    let gone = [it.holders[0], it.holders[1], it.holders[2]];
    for number in gone {
        it.world.stop_node(number).await;
    }
    until("the margin falls below zero", || async { it.health().await.is_some_and(|health| health.margin == -1) })
        .await;
    assert_eq!(it.read(&it.reader().await).await, None);
    for number in gone {
        it.world.start_node(number).await;
    }
    it.twin = it.world.caller("t1", Role::Twin);
    it.heals("all columns", |_| true).await;
    let reader = it.reader().await;
    assert_eq!(it.read(&reader).await.map(|bytes| hash(&bytes)), Some(plain(&it.sample)));
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_leave_a_place_that_a_renewed_lease_refuses() {
    let it = stored(QUICK).await;
    let name = it.world.name(it.holders[1]);
    let refused: Domain = format!("zone:z-{name}").parse().unwrap();
    let lease = Lease { refused: vec![refused], ..it.sample.lease(2) };
    it.twin.put_lease(&it.world.name(1), &it.sample.sealed.locator, it.sample.sign(&lease)).await.unwrap();
    until("the shard has moved", || async { !it.shard_file(1).exists() }).await;
    let health = it.health().await.unwrap();
    assert_eq!((health.margin, health.repair), (2, None));
    assert!(health.columns.iter().all(|column| !column.nodes.contains(&name)));
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_leave_an_operator_whose_cap_came_with_a_renewed_lease() {
    let operators = ["a", "a", "a", "a", "a", "a", "b", "b", "b"];
    let world = World::start_of(&operators, QUICK).await;
    // While the second operator's nodes take nothing, all columns go to the first.
    let drain = async |world: &World, on: bool| {
        for number in 7..=9 {
            let name = world.name(number);
            world.caller(name.as_str(), Role::Origin).drain(&name, on).await.unwrap();
        }
    };
    drain(&world, true).await;
    let it = stored_in(world).await;
    assert!(it.holders.iter().all(|number| operators[number - 1] == "a"), "{:?}", it.holders);
    drain(&it.world, false).await;

    let lease = Lease { caps: vec!["operator=3".parse().unwrap()], ..it.sample.lease(2) };
    it.twin.put_lease(&it.world.name(1), &it.sample.sealed.locator, it.sample.sign(&lease)).await.unwrap();
    let left = || async { (0..6).filter(|column| it.shard_file(*column).exists()).count() == 3 };
    until("three shards have left", left).await;
    let health = it.health().await.unwrap();
    assert_eq!((health.margin, health.repair), (2, None));
    let others: Vec<NodeName> = (7..=9).map(|number| it.world.name(number)).collect();
    let moved = health.columns.iter().filter(|column| column.nodes.iter().all(|node| others.contains(node)));
    assert_eq!(moved.count(), 3);
    let reader = it.reader().await;
    assert_eq!(it.read(&reader).await.map(|bytes| hash(&bytes)), Some(plain(&it.sample)));
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_that_no_nodes_can_keep_moves_nothing_and_the_queue_has_the_reason_until_it_is_relaxed() {
    // Nobody says an operator, so all nodes are one's.
    let it = stored(QUICK).await;
    let cap = async |version: u64, cap: &str| {
        let lease = Lease { caps: vec![cap.parse().unwrap()], ..it.sample.lease(version) };
        it.twin.put_lease(&it.world.name(1), &it.sample.sealed.locator, it.sample.sign(&lease)).await.unwrap();
    };
    let mut catalog =
        SqliteConnection::connect(&format!("sqlite://{}", it.world.dir.path().join("catalog.db").display()))
            .await
            .unwrap();
    cap(2, "operator=5").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let reason: String = loop {
        let queued = sqlx::query_scalar("SELECT error FROM repairs WHERE error IS NOT NULL");
        if let Some(reason) = queued.fetch_optional(&mut catalog).await.unwrap() {
            break reason;
        }
        assert!(Instant::now() < deadline, "the repair does not fail");
        sleep(Duration::from_millis(10)).await;
    };
    assert!(reason.contains("operator=5"), "{reason}");
    let health = it.health().await.unwrap();
    assert_eq!((health.margin, health.repair.as_deref()), (2, Some("place")));
    let stays = |health: &ObjectHealth| {
        let held = health.columns.iter().zip(&it.holders);
        held.into_iter().all(|(column, number)| column.nodes == [it.world.name(*number)])
    };
    assert!(stays(&health), "{health:?}");

    cap(3, "operator=6").await;
    until("nothing waits", || async {
        let status = it.twin.repairs(&it.world.name(1)).await.unwrap();
        (status.waiting, status.running, status.dead) == (0, 0, 0)
    })
    .await;
    let health = it.health().await.unwrap();
    assert!(stays(&health) && health.repair.is_none(), "{health:?}");
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_empty_fills_up_and_no_other_gives_more_than_it_has_too_much() {
    const OBJECTS: u64 = 12;
    let world = World::start(7, &format!("capacity_bytes = 32_000_000\n{QUICK}balance_percent = 2\n")).await;
    let (empty, twin) = (world.name(7), world.caller("t1", Role::Twin));
    let operator = world.caller(empty.as_str(), Role::Origin);
    operator.drain(&empty, true).await.unwrap();
    let topology = topology(&world, &twin).await;
    let samples: Vec<_> = (1..).take(12).map(|seed| Sample::new(seed, 1 << 20)).collect();
    for sample in &samples {
        assert!(!store(&world, topology.clone(), sample).await.contains(&Some(empty.clone())));
    }
    operator.drain(&empty, false).await.unwrap();

    // Six nodes have twelve shards each, the mean of seven is 10.3: six shards can move before a giver were below it.
    let held = || async {
        let mut held = std::collections::BTreeMap::new();
        for sample in &samples {
            let health = twin.health(&world.name(1), &sample.sealed.locator).await.ok()??;
            for column in &health.columns {
                let [node] = &column.nodes[..] else { return None };
                *held.entry(node.clone()).or_insert(0) += 1;
                assert_eq!((column.state, health.margin), (ColumnState::Healthy, 2));
            }
        }
        Some(held)
    };
    until("the empty node has its share", || async { held().await.is_some_and(|held| held.get(&empty) == Some(&6)) })
        .await;
    // Two more walks find nothing to move.
    let status = async || {
        for node in &world.nodes {
            let status = twin.repairs(&node.name).await.unwrap();
            if status.survey.is_some() {
                return status;
            }
        }
        panic!("nobody walks");
    };
    let walked = status().await.survey.unwrap();
    assert_eq!(walked.objects, [(2, OBJECTS)].into());
    assert_eq!(
        walked.stored_bytes,
        samples.iter().flat_map(|it| it.columns.iter().flatten()).map(|cell| cell.size() as u64).sum::<u64>()
    );
    until("two walks later", || async { status().await.survey.unwrap().ended > walked.ended + 4 }).await;
    let (held, queue) = (held().await.unwrap(), status().await);
    assert_eq!((queue.waiting, queue.running, queue.dead), (0, 0, 0));
    assert_eq!(held.values().copied().collect::<Vec<_>>(), [11, 11, 11, 11, 11, 11, 6]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parity_that_a_renewed_lease_does_not_want_is_dropped_and_comes_back_when_it_does() {
    let it = stored(QUICK).await;
    let renew = async |version: u64, profile: &str| {
        let lease = Lease { profile: profile.parse().unwrap(), ..it.sample.lease(version) };
        it.twin.put_lease(&it.world.name(1), &it.sample.sealed.locator, it.sample.sign(&lease)).await.unwrap();
    };
    let kept = || async {
        let health = it.health().await.unwrap();
        (health.redundancy.unwrap(), health.columns.len(), health.margin)
    };
    renew(2, "4+1").await;
    until("the second parity column is gone", || async { !it.shard_file(5).exists() }).await;
    assert_eq!(kept().await, ("4+1".to_owned(), 5, 1));
    assert!((0..5).all(|column| it.shard_file(column).exists()));
    let reader = it.reader().await;
    assert_eq!(it.read(&reader).await.map(|bytes| hash(&bytes)), Some(plain(&it.sample)));

    renew(3, "4+2").await;
    it.heals("six columns again, and nothing uploaded", |_| true).await;
    assert_eq!(kept().await, ("4+2".to_owned(), 6, 2));
    // What the name does not commit to cannot be wanted of nodes.
    for (version, profile) in [(4, "4+3"), (5, "3+1"), (6, "small-cluster")] {
        renew(version, profile).await;
        assert_eq!(kept().await, ("4+2".to_owned(), 6, 2), "{profile}");
    }
    it.world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_leaves_the_scan_to_the_next_at_once() {
    let mut world = World::start(2, QUICK).await;
    let operator = world.caller("t1", Role::Twin);
    let walked = async |number: usize| operator.repairs(&world.name(number)).await.is_ok_and(|it| it.survey.is_some());
    until("one of them walks", || async { walked(1).await || walked(2).await }).await;
    let (walks, other) = if walked(1).await { (1, 2) } else { (2, 1) };
    assert!(!walked(other).await);
    world.stop_node(walks).await;
    // A hold that were left behind would last longer than a test waits.
    let walked = || async { operator.repairs(&world.name(other)).await.is_ok_and(|it| it.survey.is_some()) };
    until("the other walks", walked).await;
    world.end().await;
}

/// The process that has it is gone before it says how it went, eight times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_ends_its_process_again_and_again_is_given_up() {
    let (dir, sample) = (tempfile::tempdir().unwrap(), Sample::new(1, 40_000));
    let [o8, o9] = ["o8", "o9"].map(|name| name.parse::<NodeName>().unwrap());
    let catalog = CatalogUrl::Sqlite(dir.path().join("catalog.db")).open(100).await.unwrap();
    catalog.put_record(&sample.record(&sample.lease(1), &o9)).await.unwrap();
    let (object, cause) = (sample.id(), RepairCause::Scan);
    // Lower than any walk finds, which would begin it anew.
    let ask = RepairAsk { object, margin: -9, bytes: 1, cause, target: None, only_lost: vec![0] };
    catalog.queue_repair(&ask).await.unwrap();
    for attempts in 1..=8 {
        assert_eq!(catalog.take_repair(&o8, Duration::ZERO).await.unwrap().unwrap().attempts, attempts);
    }
    let world = World::start_in(dir, 1, QUICK).await;
    until("it is given up", || async { !catalog.dead_repairs(9).await.unwrap().is_empty() }).await;
    let dead = catalog.dead_repairs(9).await.unwrap();
    assert!(dead[0].error.contains("none of 8 attempts came to an end"), "{dead:?}");
    catalog.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_what_lies_in_its_record_asks_for_no_repair() {
    let (dir, sample) = (tempfile::tempdir().unwrap(), Sample::new(1, 9));
    let o9 = "o9".parse::<NodeName>().unwrap();
    let catalog = CatalogUrl::Sqlite(dir.path().join("catalog.db")).open(100).await.unwrap();
    let record = sample.record(&sample.lease(1), &o9);
    catalog.put_record(&record).await.unwrap();
    // Nothing asks for such a repair; that a lease leaves it alone shows that it was not looked for.
    let (object, cause) = (sample.id(), RepairCause::Scan);
    let ask = RepairAsk { object, margin: 1, bytes: 1, cause, target: None, only_lost: vec![0] };
    catalog.queue_repair(&ask).await.unwrap();
    catalog.take_repair(&o9, Duration::from_secs(60)).await.unwrap().unwrap();
    catalog.end_repair(&object, &o9, &RepairEnd::Dead { error: "no shards".to_owned() }).await.unwrap();
    let world = World::start_in(dir, 1, "").await;
    let twin = world.caller("t1", Role::Twin);
    twin.put_lease(&world.name(1), &sample.sealed.locator, sample.sign(&sample.lease(2))).await.unwrap();
    assert_eq!(catalog.record(&sample.sealed.locator).await.unwrap().unwrap().lease.version, 2);
    assert!(catalog.dead_repair(&object).await.unwrap().is_some());
    catalog.close().await;
    world.end().await;
}
