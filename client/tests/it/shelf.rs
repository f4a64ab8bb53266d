//! Reads with a shelf that remembers what it is offered, lies, or has a hole.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Near, Reader, ShardAsk, Shelf, StripeRead};
use format::{NodeName, Object, StripeIndex};
use testing::noise;

use crate::cluster::Cluster;

/// A shelf that keeps answers by column.
#[derive(Default)]
struct Kept {
    answers: Mutex<BTreeMap<usize, Bytes>>,
    wrong: Mutex<Vec<usize>>,
    offers: AtomicUsize,
}

#[async_trait]
impl Shelf for Kept {
    fn holds(&self, ask: &ShardAsk) -> bool {
        self.answers.lock().unwrap().contains_key(&ask.column)
    }

    async fn get(&self, ask: &ShardAsk) -> Option<Bytes> {
        self.answers.lock().unwrap().get(&ask.column).cloned()
    }

    fn offer(&self, ask: &ShardAsk, body: &Bytes, _: Instant) {
        self.offers.fetch_add(1, Ordering::Relaxed);
        self.answers.lock().unwrap().insert(ask.column, body.clone());
    }

    fn wrong(&self, ask: &ShardAsk) {
        self.wrong.lock().unwrap().push(ask.column);
        self.answers.lock().unwrap().remove(&ask.column);
    }
}

/// A stored object, its first two blocks, and a shelf with their strips.
struct Scene {
    cluster: Cluster,
    reader: Reader,
    object: Arc<Object>,
    placement: Vec<Option<NodeName>>,
    exact: [Bytes; 2],
    shelf: Kept,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::new(6);
        let (sealed, _) = cluster.store(&noise(2_000_000)).await;
        let reader = cluster.reader();
        let (object, record) = reader.object(&sealed.capability).await.unwrap();
        let mut scene = Self {
            cluster,
            reader,
            object,
            placement: record.placement,
            exact: Default::default(),
            shelf: Kept::default(),
        };
        for column in 0..2 {
            let read = scene.read(column).await;
            assert_eq!(read.nodes.len(), 1);
            scene.exact[column] = block(&read);
        }
        assert_eq!(scene.shelf.offers.load(Ordering::Relaxed), 2);
        scene
    }

    async fn read(&self, column: usize) -> StripeRead {
        let near = Near { shelf: Some(&self.shelf), neighbour: None };
        self.reader.blocks_near(near, &self.object, &self.placement, StripeIndex(0), &[column]).await.unwrap()
    }

    fn held(&self, column: usize) -> Bytes {
        self.shelf.answers.lock().unwrap()[&column].clone()
    }

    /// Reads a column while the shelf lies about it.
    async fn read_past(&self, column: usize, lie: Bytes) {
        let honest = self.held(column);
        self.shelf.answers.lock().unwrap().insert(column, lie);
        let read = self.read(column).await;
        assert_eq!((read.nodes.len(), read.wrong.len()), (1, 0), "the shelf's lie is no node's fault");
        assert_eq!(block(&read), self.exact[column]);
        assert_eq!(self.shelf.wrong.lock().unwrap().drain(..).collect::<Vec<_>>(), [column]);
        assert_eq!(self.held(column), honest, "what the node said is kept");
    }
}

fn block(read: &StripeRead) -> Bytes {
    let [(_, bytes)] = &read.blocks[..] else { panic!("one block was asked for") };
    bytes.clone()
}

#[tokio::test]
async fn what_is_held_costs_no_node() {
    let scene = Scene::new().await;
    for node in scene.placement.iter().flatten() {
        scene.cluster.transport.remove(node);
    }
    for column in 0..2 {
        let read = scene.read(column).await;
        assert_eq!((read.bytes, read.nodes.len(), read.recovered), (0, 0, false));
        assert_eq!(block(&read), scene.exact[column]);
    }
}

#[tokio::test]
async fn each_wrong_bit_of_a_shelf_is_found_and_made_good_by_a_node() {
    let scene = Scene::new().await;
    let honest = scene.held(1);
    // Every byte at the beginning, where the proof is, and samples over the whole strip.
    for at in (0..300).chain((300..honest.len()).step_by(9973)) {
        let mut lie = honest.to_vec();
        lie[at] ^= 1 << (at % 8);
        scene.read_past(1, lie.into()).await;
    }
}

#[tokio::test]
async fn another_strip_and_part_of_one_are_not_the_strip() {
    let scene = Scene::new().await;
    let honest = scene.held(1);
    for lie in [scene.held(0), honest.slice(..honest.len() - 1), Bytes::new()] {
        scene.read_past(1, lie).await;
    }
}
