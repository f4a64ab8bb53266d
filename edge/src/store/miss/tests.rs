//! Tests of how owners share what an edge reads at one time, with origins that are slow.

use client::{ReaderOptions, Topology, Transport};
use format::wire::NodeEntry;
use prometheus_client::metrics::counter::Counter;
use testing::{Fault as NodeFault, FaultyTransport, MemoryTransport, Sample, until};
use tokio::time::{Instant as Virtual, timeout};

use super::*;
use crate::{
    config::CacheConfig,
    store::{
        body::Body,
        hand::{Content, Hand},
        objects::Objects,
    },
};

/// Blocks that may be on their way at one time.
const ROOM_BLOCKS: usize = 8;
const CROWD_BLOCKS: usize = 64;
/// What a strip takes to come.
const STRIP_TIME: Duration = Duration::from_secs(1);

/// Two owners' objects at slow origins, and an edge with little room.
struct Scene {
    objects: Arc<Objects>,
    fills: Arc<Fills>,
    opened: [Arc<Opened>; 2],
}

impl Scene {
    async fn new() -> Self {
        Self::with_memory(CacheConfig::default().block_bytes_max).await
    }

    /// The same with a cache of so many bytes.
    async fn with_memory(block_bytes_max: u64) -> Self {
        let nodes: Vec<NodeEntry> = ["a", "b"].map(|zone| testing::node(zone, testing::place(zone))).into();
        let origins = Arc::new(MemoryTransport::new(&nodes));
        let samples = [Sample::new(1, CROWD_BLOCKS * BLOCK_BYTES), Sample::new(2, ROOM_BLOCKS * BLOCK_BYTES)];
        for sample in &samples {
            let (node, columns) = (&nodes[0].name, sample.columns.len());
            for (column, cells) in sample.columns.iter().enumerate() {
                let upload = origins.create_upload(node, column, columns).await.unwrap();
                origins.append(node, &upload, 0, cells).await.unwrap();
                let public = sample.sealed.public.encoded().clone();
                origins.commit(node, &upload, column, public).await.unwrap();
            }
            let record = Bytes::from(sample.record(&sample.lease(1), node).encode());
            for node in &nodes {
                origins.put_record(&node.name, &sample.sealed.locator, record.clone()).await.unwrap();
            }
        }
        let slow: Arc<dyn Transport> = Arc::new(FaultyTransport::new(origins, |_| NodeFault::Late(STRIP_TIME)));
        let topology = Arc::new(Topology::new(nodes));
        let reader = Reader::new(slow, topology, testing::place("here"), ReaderOptions::default());
        let (reader, config) = (Arc::new(reader), CacheConfig::default());
        let objects = Arc::new(Objects::new(Arc::clone(&reader), &config, Arc::default(), Counter::default()));
        let room_bytes = (ROOM_BLOCKS * BLOCK_BYTES) as u64;
        let cache = BlockCache::new(block_bytes_max);
        let fills = Arc::new(Fills::new(reader, cache, room_bytes, None, Arc::new(Metrics::new())));
        let [crowded, other] = samples.map(|sample| sample.sealed.capability);
        let opened = [objects.open(&crowded).await.unwrap(), objects.open(&other).await.unwrap()];
        Self { objects, fills, opened }
    }

    /// Asks for one block of each owner's object and returns how long it took, in strips.
    fn ask(&self, owner: usize, block: usize) -> tokio::task::JoinHandle<Result<u64, Fault>> {
        let (fills, opened) = (Arc::clone(&self.fills), Arc::clone(&self.opened[owner]));
        tokio::spawn(async move {
            let begun = Virtual::now();
            let geometry = opened.object.geometry().unwrap();
            fills.block(&opened, geometry, BlockIndex(block as u64), Tier::Memory).await?;
            Ok(begun.elapsed().as_secs() / STRIP_TIME.as_secs())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_on_one_owners_cold_blocks_delays_no_other_owners() {
    let scene = Scene::new().await;
    let storm: Vec<_> = (0..CROWD_BLOCKS).map(|block| scene.ask(0, block)).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let others: Vec<_> = (0..2).map(|block| scene.ask(1, block)).collect();
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(1), "it takes as long as without the storm");
    }
    let (mut served, mut busy) = (0, 0);
    for read in storm {
        match read.await.unwrap() {
            Ok(_) => served += 1,
            Err(fault) => {
                assert_eq!(fault, Fault::Busy);
                busy += 1;
            }
        }
    }
    assert!(served >= 2 * ROOM_BLOCKS && busy > 0, "{served} served, {busy} told to come again");
}

#[tokio::test(start_paused = true)]
async fn a_fill_goes_on_when_its_viewer_leaves() {
    let scene = Scene::new().await;
    let (opened, block) = (&scene.opened[1], BlockIndex(0));
    let read = scene.fills.block(opened, opened.object.geometry().unwrap(), block, Tier::Memory);
    assert!(timeout(STRIP_TIME / 2, read).await.is_err());
    assert!(!scene.fills.holds(opened, block));
    until("the block", async || scene.fills.holds(opened, block)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_read_for_who_opened_it_before_it_was_forgotten_is_not_kept() {
    let scene = Scene::new().await;
    let locator = scene.opened[1].object.locator();
    // An answer that has begun goes on, with blocks that it asks for later.
    scene.objects.forget(&locator);
    scene.fills.cache.forget(&locator);
    assert_eq!(scene.ask(1, 0).await.unwrap(), Ok(1));
    assert!(!scene.fills.holds(&scene.opened[1], BlockIndex(0)));
    assert_eq!(scene.ask(0, 0).await.unwrap(), Ok(1));
    assert!(scene.fills.holds(&scene.opened[0], BlockIndex(0)), "another object is another matter");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_waits_for_room_in_the_hand_is_read_from_origins_once_though_the_cache_keeps_none() {
    let scene = Scene::with_memory(0).await;
    let (fills, opened, hand) = (&scene.fills, &scene.opened[1], Hand::of(8 * BLOCK_BYTES));
    let held = hand.take(Content::Kept, 4 * BLOCK_BYTES).await;
    let (geometry, range) = (opened.object.geometry().unwrap(), 0..BLOCK_BYTES as u64);
    let body = Body::new((&fills.cache, fills), Arc::clone(opened), geometry, range, Tier::Memory, hand);
    let mut begins = Box::pin(body.begin(fills));
    assert!(timeout(5 * STRIP_TIME, &mut begins).await.is_err(), "others have the room");
    assert_eq!(fills.metrics.fills.get(), 1, "it came");
    fills.cache.settle();
    let free = fills.ahead.try_take(opened.record.lease.owner, 4);
    assert!(free.is_none(), "it is weighed: an owner has half of eight blocks, and one of them is taken");
    drop(held);
    let read = begins.await.ok().unwrap().reading().next(fills).await.unwrap().unwrap();
    assert_eq!((read.len(), fills.metrics.fills.get()), (BLOCK_BYTES, 1));
    assert!(fills.ahead.try_take(opened.record.lease.owner, 4).is_some());
}

#[tokio::test]
async fn a_block_that_goes_out_stored_is_held_once_whoever_takes_it() {
    let scene = Scene::new().await;
    let (opened, block) = (&scene.opened[1], BlockIndex(0));
    let (geometry, key) = (opened.object.geometry().unwrap(), BlockKey { locator: opened.object.locator(), block });
    let (plain, mut content) = (Bytes::from(vec![7; geometry.block_bytes(block)]), Vec::new());
    let add = |content: &mut _| scene.fills.add_packed(opened, geometry, block, Tier::Memory, content);
    scene.fills.cache.insert_packed(key, Packed::Stored, scene.opened[1].claim());
    assert_eq!((add(&mut content), scene.fills.packed_bytes(opened, geometry, block)), (None, None), "no block yet");
    scene.fills.cache.insert(key, plain.clone(), scene.opened[1].claim());
    assert_eq!(add(&mut content), Some(()));
    let copied: u64 = content.iter().filter(|piece| !plain.as_ptr_range().contains(&piece.as_ptr())).map(bytes).sum();
    let all = content.iter().map(bytes).sum();
    assert!(copied < 20, "{copied} bytes beside the block in the cache");
    assert_eq!(scene.fills.packed_bytes(opened, geometry, block), Some(all));
}

fn bytes(piece: &Bytes) -> u64 {
    piece.len() as u64
}
