//! Tests of records that are doubted and erased, against nodes in memory.

use async_trait::async_trait;
use client::{ReaderOptions, Topology, Transport, TransportError};
use format::wire::NodeEntry;
use testing::{Call, Intercept, Intercepted, MemoryTransport, Sample};

use super::{admission::DOUBTED_MAX, told::ENDS_MAX, *};
use crate::store::{
    cache::{BlockCache, BlockKey},
    objects::Opened,
};

/// Nodes of which all but one are behind, while there is an old record. That one takes its time.
#[derive(Clone, Default)]
struct Behind(Arc<Mutex<Option<(NodeName, Bytes)>>>);

impl Behind {
    fn old(&self, node: &NodeName) -> Result<Option<Bytes>, Duration> {
        match &*self.0.lock().unwrap() {
            Some((ahead, _)) if ahead == node => Err(Duration::from_millis(50)),
            behind => Ok(behind.as_ref().map(|(_, old)| old.clone())),
        }
    }
}

#[async_trait]
impl Intercept for Behind {
    type Pass = ();

    async fn before(&self, node: &NodeName, _: Call) -> Result<(), TransportError> {
        if let Err(late) = self.old(node) {
            tokio::time::sleep(late).await;
        }
        Ok(())
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        self.old(node).ok().flatten().or(record)
    }
}

/// Six nodes with one object, and what an edge has open of them.
struct Scene {
    nodes: Vec<NodeEntry>,
    origins: Arc<MemoryTransport>,
    behind: Behind,
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
        let (place, behind) = (testing::place("here"), Behind::default());
        let way = Arc::new(Intercepted::over(Arc::clone(&origins) as _, behind.clone()));
        let reader = Reader::new(way, topology, place, ReaderOptions::default());
        let records = Records::new(Arc::new(reader), &config.unwrap().cache, Arc::default(), Counter::default());
        let it = Self { nodes, origins, behind, sample, records: Arc::new(records) };
        it.renew(1).await;
        it
    }

    async fn erase(&self) {
        let lease = self.sample.sign(&self.sample.erasure(2));
        for node in &self.nodes {
            self.origins.put_lease(&node.name, &self.sample.sealed.locator, lease.clone()).await.unwrap();
        }
    }

    fn record(&self, version: u64) -> Bytes {
        self.sample.record(&self.sample.lease(version), &self.nodes[0].name).encode().into()
    }

    /// Has all nodes but one stay behind with the first lease.
    fn leave_behind(&self) {
        *self.behind.0.lock().unwrap() = Some((self.nodes[5].name.clone(), self.record(1)));
    }

    /// Gives all nodes a lease of this version.
    async fn renew(&self, version: u64) {
        let record = self.record(version);
        for node in &self.nodes {
            self.origins.put_record(&node.name, &self.sample.sealed.locator, record.clone()).await.unwrap();
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
    scene.renew(2).await;
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
async fn what_serves_counts_though_a_later_lease_was_seen_that_nodes_do_not_give_yet() {
    let scene = Scene::new().await;
    let locator = scene.sample.sealed.locator;
    // An end that is not so has all nodes asked from now on.
    scene.records.ended(locator).await;
    assert_eq!(scene.open().await.unwrap().record().lease.version, 1);
    scene.leave_behind();
    scene.renew(2).await;
    let newest = async || scene.records.known.get(&locator).map(|known| known.version);
    testing::until("the later lease is seen", async || newest().await == Some(2)).await;
    assert!(scene.records.counts(&scene.open().await.unwrap()));
}

#[tokio::test]
async fn what_memory_serves_counts_whatever_came_between() {
    let scene = Scene::new().await;
    let locator = scene.sample.sealed.locator;
    let opened = scene.open().await.unwrap();
    // The end was told while it was looked up, and the note of it is gone.
    scene.records.presences.end(&locator);
    let again = scene.open().await.unwrap();
    assert!(!Arc::ptr_eq(&again, &opened) && scene.records.counts(&again));
    // A later lease was open before this look-up came.
    scene.renew(2).await;
    again.look().claim.opens(2);
    let newest = scene.open().await.unwrap();
    assert!(newest.record().lease.version == 2 && scene.records.counts(&newest));
}

#[tokio::test]
async fn nothing_older_than_what_was_open_is_opened_though_it_is_known_no_more() {
    let scene = Scene::new().await;
    let locator = scene.sample.sealed.locator;
    let opened = scene.open().await.unwrap();
    opened.look().claim.opens(2);
    scene.records.known.invalidate(&locator);
    assert_eq!(scene.open().await.map(|_| ()), Err(Fault::Outdated));
}

#[tokio::test]
async fn changes_however_many_leave_room_to_note_an_end() {
    let scene = Scene::new().await;
    let locator = scene.sample.sealed.locator;
    for number in 0..ENDS_MAX + 10_000 {
        let mut changed = [0; 32];
        changed[..8].copy_from_slice(&number.to_le_bytes());
        scene.records.changed(Locator(changed)).await;
    }
    scene.leave_behind();
    scene.erase().await;
    scene.records.ended(locator).await;
    scene.records.ends.run_pending_tasks();
    assert_eq!(scene.open().await.map(|_| ()), Err(Fault::Erased));
}

#[tokio::test]
async fn the_latest_ends_are_noted_however_many_came_before() {
    let scene = Scene::new().await;
    for number in 0..ENDS_MAX + 10_000 {
        let mut ended = [0; 32];
        ended[..8].copy_from_slice(&number.to_le_bytes());
        scene.records.ends.insert(Locator(ended), ());
    }
    let locator = scene.sample.sealed.locator;
    scene.records.ended(locator).await;
    scene.records.ends.run_pending_tasks();
    assert!(scene.records.ends.contains_key(&locator) && scene.records.ends.entry_count() <= ENDS_MAX);
}

#[tokio::test]
async fn an_open_record_counts_with_all_that_it_holds() {
    let scene = Scene::new().await;
    let mut record = scene.open().await.unwrap().record().clone();
    assert_eq!(places(&record), 1);
    // Of the most columns, on nodes with the longest names.
    record.placement = vec![Some("n".repeat(32).parse().unwrap()); 256];
    assert_eq!(places(&record), 2);
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
