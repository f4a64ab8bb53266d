//! Tests of records that are doubted and erased, against nodes in memory.

use client::{ReaderOptions, Topology, Transport};
use format::wire::NodeEntry;
use testing::{MemoryTransport, Sample};

use super::{admission::DOUBTED_MAX, *};
use crate::store::{
    cache::{BlockCache, BlockKey},
    objects::Opened,
};

/// Six nodes with one object, and what an edge has open of them.
struct Scene {
    nodes: Vec<NodeEntry>,
    origins: Arc<MemoryTransport>,
    sample: Sample,
    records: Arc<Records<Opened>>,
}

impl Scene {
    async fn new() -> Self {
        let zones = ["a", "b", "c", "d", "e", "f"];
        let nodes: Vec<NodeEntry> = zones.map(|zone| testing::node(zone, testing::place(zone))).into();
        let origins = Arc::new(MemoryTransport::new(&nodes));
        let (sample, config) =
            (Sample::new(1, 100), crate::config::Config::from_toml(include_str!("../../../edge.sample.toml")));
        let topology = Arc::new(Topology::new(nodes.clone()));
        let place = testing::place("here");
        let reader = Reader::new(Arc::clone(&origins) as _, topology, place, ReaderOptions::default());
        let records = Records::new(Arc::new(reader), &config.unwrap().cache, Arc::default(), Counter::default());
        let it = Self { nodes, origins, sample, records: Arc::new(records) };
        let record = Bytes::from(it.sample.record(&it.sample.lease(1), &it.nodes[0].name).encode());
        for node in &it.nodes {
            it.origins.put_record(&node.name, &it.sample.sealed.locator, record.clone()).await.unwrap();
        }
        it
    }

    async fn erase(&self) {
        let lease = self.sample.sign(&self.sample.erasure(2));
        for node in &self.nodes {
            self.origins.put_lease(&node.name, &self.sample.sealed.locator, lease.clone()).await.unwrap();
        }
    }

    async fn open(&self) -> Result<Arc<Opened>, Fault> {
        self.records.open(&self.sample.sealed.capability).await
    }
}

#[tokio::test]
async fn what_is_doubted_is_excused_by_no_lack_of_room() {
    let scene = Scene::new().await;
    scene.open().await.unwrap();
    scene.records.doubt_all();
    scene.erase().await;
    // Labels that were made up have all the places that there are for what is cold.
    let _forged = [&scene.records.admission.viewers.may_be, &scene.records.admission.viewers.untold]
        .map(|places| places.try_acquire_many(u32::try_from(places.available_permits()).unwrap()).unwrap());
    assert_eq!(scene.open().await.map(|_| ()), Err(Fault::Erased));
}

#[tokio::test]
async fn an_edge_that_has_too_much_to_do_says_so_and_excuses_nothing() {
    let scene = Scene::new().await;
    let opened = scene.open().await.unwrap();
    scene.records.doubt_all();
    scene.records.admission.doubted.close();
    assert_eq!(scene.open().await.map(|_| ()), Err(Fault::Busy));
    assert!(!opened.look().is_excused(scene.records.doubts()));
}

#[tokio::test]
async fn an_owner_finds_an_object_of_which_only_a_block_is_here() {
    let (scene, cache) = (Scene::new().await, BlockCache::new(1 << 20));
    let opened = scene.open().await.unwrap();
    let (locator, owner) = (scene.sample.sealed.locator, scene.sample.owner.id());
    cache.insert(BlockKey { locator, block: format::BlockIndex(0) }, Bytes::from_static(b"block"), opened.claim());
    scene.records.opened.invalidate(&locator).await;
    drop(opened);
    scene.records.opened.run_pending_tasks().await;
    assert!(!scene.records.holds(&locator));
    assert_eq!(scene.records.of(&owner), [locator].into());
    cache.forget(&locator);
    testing::until("it is let go of", async || {
        cache.settle();
        scene.records.of(&owner).is_empty()
    })
    .await;
}

#[tokio::test]
async fn what_was_opened_counts_until_something_is_told_of_it() {
    let scene = Scene::new().await;
    let (locator, owner) = (scene.sample.sealed.locator, scene.sample.owner.id());
    let opened = scene.open().await.unwrap();
    assert!(scene.records.counts(&opened));
    // Its end, which is not so.
    scene.records.ended(locator).await;
    let again = scene.open().await.unwrap();
    assert!(!scene.records.counts(&opened) && scene.records.counts(&again));
    // A purge.
    scene.records.purged(locator, &owner).await.unwrap();
    scene.records.forget(&locator);
    let opened = scene.open().await.unwrap();
    assert!(!scene.records.counts(&again) && scene.records.counts(&opened));
    // Another lease, once it is here.
    let record = Bytes::from(scene.sample.record(&scene.sample.lease(2), &scene.nodes[0].name).encode());
    for node in &scene.nodes {
        scene.origins.put_record(&node.name, &locator, record.clone()).await.unwrap();
    }
    scene.records.changed(locator).await;
    testing::until("the other lease", async || !scene.records.counts(&opened)).await;
    let again = scene.open().await.unwrap();
    assert!(scene.records.counts(&again) && again.record().lease.version == 2);
    // All of it.
    scene.records.doubt_all();
    assert!(!scene.records.counts(&again));
    assert!(scene.records.counts(&scene.open().await.unwrap()));
}

#[tokio::test]
async fn a_look_up_that_was_under_way_when_its_object_was_purged_serves_nobody_after() {
    let scene = Scene::new().await;
    let opened = scene.open().await.unwrap();
    // As if it came behind the purge.
    scene.records.forget(&scene.sample.sealed.locator);
    let again = scene.open().await.unwrap();
    assert!(!Arc::ptr_eq(&again, &opened) && scene.records.counts(&again));
}

#[tokio::test]
async fn viewers_who_leave_leave_one_look_up_and_an_owner_finds_what_is_open() {
    let scene = Scene::new().await;
    let opened = scene.open().await.unwrap();
    let owner = scene.sample.owner.id();
    assert_eq!(scene.records.of(&owner), [scene.sample.sealed.locator].into());
    assert!(scene.records.of(&OwnerId([9; 32])).is_empty());
    scene.records.doubt_all();
    let places = scene.records.admission.doubted.try_acquire_many(DOUBTED_MAX.try_into().unwrap()).unwrap();
    for _ in 0..100 {
        let left = timeout(Duration::ZERO, scene.open()).await;
        assert!(left.is_err(), "it waits for a place");
    }
    assert_eq!(scene.records.again().len(), 1);
    drop(places);
    let fresh = scene.open().await.unwrap();
    assert!(!Arc::ptr_eq(&fresh, &opened));
    assert!(scene.records.again().is_empty());
    scene.records.close(scene.sample.sealed.locator).await;
    drop((opened, fresh));
    // moka drops what it lets go of a little later.
    testing::until("it is let go of", async || {
        scene.records.opened.run_pending_tasks().await;
        scene.records.of(&owner).is_empty()
    })
    .await;
}
