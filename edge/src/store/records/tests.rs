//! Tests of records that are doubted and erased, against nodes in memory.

use client::{ReaderOptions, Topology, Transport};
use format::wire::NodeEntry;
use testing::{MemoryTransport, Sample};

use super::{admission::DOUBTED_MAX, *};
use crate::store::objects::Opened;

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
        let records = Records::new(Arc::new(reader), &config.unwrap().cache, Arc::default());
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
