//! Reads with a neighbour that brings strips, lies, is late or is away: the bytes are exact all the same, and no origin
//! is blamed for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Near, Reader, ShardAsk, StripeRead, TransportError};
use format::{NodeName, Object, StripeIndex};
use testing::{Call, Intercept, Intercepted, noise};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, reader};

/// How the neighbour behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    Lies,
    Late,
    Away,
    /// It answers that it is busy.
    Busy,
}

/// Counts the shard reads at nodes.
struct Counted {
    manner: Mutex<Manner>,
    neighbour: NodeName,
    reads: Mutex<BTreeMap<NodeName, usize>>,
    read_time: Duration,
}

#[async_trait]
impl Intercept for Counted {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        match call {
            Call::ReadShard => {
                *self.reads.lock().unwrap().entry(node.clone()).or_default() += 1;
                sleep(self.read_time).await;
            }
            Call::Strip => {
                let (manner, node) = (*self.manner.lock().unwrap(), node.clone());
                match manner {
                    Manner::Honest | Manner::Lies => {}
                    Manner::Late => sleep(Duration::from_secs(60)).await,
                    Manner::Away => return Err(TransportError::Unreachable { node, reason: "made so".into() }),
                    Manner::Busy => return Err(TransportError::Failed { node, status: 503, reason: "busy".into() }),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn shard(&self, node: &NodeName, (): (), body: Bytes) -> Bytes {
        let mut body = body.to_vec();
        if *node == self.neighbour && *self.manner.lock().unwrap() == Manner::Lies {
            *body.last_mut().unwrap() ^= 1;
        }
        body.into()
    }
}

struct Scene {
    cluster: Cluster,
    links: Arc<Intercepted<Counted>>,
    reader: Reader,
    object: Arc<Object>,
    placement: Vec<Option<NodeName>>,
    exact: Vec<u8>,
    neighbour: NodeName,
}

impl Scene {
    async fn new(manner: Manner) -> Self {
        Self::with(manner, Duration::from_millis(5)).await
    }

    /// The same with nodes that take so long for a strip.
    async fn with(manner: Manner, read_time: Duration) -> Self {
        let (cluster, neighbour): (_, NodeName) = (Cluster::new(6), "e1".parse().unwrap());
        let exact = noise(1 << 20);
        let (sealed, _) = cluster.store(&exact).await;
        let (manner, reads) = (Mutex::new(manner), Mutex::default());
        let counted = Counted { manner, neighbour: neighbour.clone(), reads, read_time };
        let links = Arc::new(Intercepted::over(cluster.transport.clone(), counted));
        let reader = reader(links.clone(), cluster.topology.clone());
        let (object, record) = reader.object(&sealed.capability).await.unwrap();
        Self { cluster, links, reader, object, placement: record.placement, exact, neighbour }
    }

    /// Reads the whole first stripe, which must be exact.
    async fn read(&self) -> StripeRead {
        self.read_columns(self.object.geometry().unwrap().columns(StripeIndex(0))).await
    }

    /// Reads the first so many columns of the first stripe.
    async fn read_columns(&self, count: usize) -> StripeRead {
        let near = Near { shelf: None, neighbour: Some(&self.neighbour) };
        let columns: Vec<usize> = (0..count).collect();
        let read =
            self.reader.blocks_near(near, &self.object, &self.placement, StripeIndex(0), &columns).await.unwrap();
        let bytes: Vec<u8> = read.blocks.iter().flat_map(|(_, block)| block.to_vec()).collect();
        assert!(bytes == self.exact[..bytes.len()], "the bytes are exact");
        assert!(read.wrong.is_empty() && self.cluster.transport.tickets().is_empty(), "no node is blamed");
        read
    }

    fn reads(&self) -> usize {
        self.links.intercept().reads.lock().unwrap().values().sum()
    }

    fn is_left_out(&self) -> bool {
        self.reader.leaves_out(&self.neighbour)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_neighbour_brings_no_node_is_asked_for() {
    let scene = Scene::new(Manner::Honest).await;
    let read = scene.read().await;
    assert_eq!((scene.reads(), read.bytes, read.nodes.len()), (0, 0, 0));
    assert!(read.neighbour_bytes > 1 << 20 && !scene.is_left_out());
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_lies_or_is_away_costs_a_fetch_and_is_left_out() {
    for manner in [Manner::Lies, Manner::Away] {
        let scene = Scene::new(manner).await;
        let read = scene.read().await;
        assert_eq!((scene.reads(), read.neighbour_bytes), (4, 0), "{manner:?}");
        assert!(scene.is_left_out(), "{manner:?}");
    }
    // One that says that it cannot is there, unless it goes on so.
    let scene = Scene::new(Manner::Busy).await;
    assert_eq!((scene.read().await.neighbour_bytes, scene.reads()), (0, 4));
    assert!(!scene.is_left_out());
    scene.read().await;
    assert!(scene.is_left_out(), "eight strips of eight were asked for in vain");
}

#[tokio::test(start_paused = true)]
async fn a_late_neighbour_costs_its_patience_and_is_left_out_when_it_stays_so() {
    let scene = Scene::new(Manner::Late).await;
    let begun = Instant::now();
    scene.read().await;
    assert_eq!(scene.reads(), 4, "no more strips than without it");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(!scene.is_left_out(), "once may be a hiccup");
    sleep(Duration::from_secs(1)).await;
    scene.read().await;
    assert!(scene.is_left_out());
}

#[tokio::test(start_paused = true)]
async fn who_wants_what_is_on_its_way_from_a_node_joins_that_call() {
    let scene = Scene::new(Manner::Away).await;
    let ask = ShardAsk { object: scene.object.public().id(), column: 0, first: 0, count: 1 };
    let node = scene.placement[0].clone().unwrap();
    let public = scene.object.public();
    let bring = || scene.reader.strip(None, public, &node, ask, None);
    // One leaves before it comes, and the others have it all the same.
    let left = tokio::time::timeout(Duration::from_millis(1), bring());
    let (left, one, two, read) = tokio::join!(left, bring(), bring(), scene.read_columns(1));
    assert!(left.is_err() && one.is_some() && one == two && read.bytes > 0);
    assert_eq!(scene.reads(), 1, "it came once for all of them");
    bring().await.unwrap();
    assert_eq!(scene.reads(), 2, "nothing of it is kept");
}

#[tokio::test(start_paused = true)]
async fn a_late_neighbour_that_refuses_in_between_is_left_out_all_the_same() {
    let scene = Scene::new(Manner::Late).await;
    for manner in [Manner::Late, Manner::Busy, Manner::Late] {
        *scene.links.intercept().manner.lock().unwrap() = manner;
        assert!(!scene.is_left_out(), "before {manner:?}");
        scene.read_columns(1).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(scene.is_left_out());
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_call_late_says_nothing_of_its_time() {
    const READ_TIME: Duration = Duration::from_millis(60);
    let scene = Scene::with(Manner::Away, READ_TIME).await;
    let (node, public) = (scene.placement[0].clone().unwrap(), scene.object.public());
    let ask = ShardAsk { object: public.id(), column: 0, first: 0, count: 1 };
    // Each joins just before the answer.
    let joins = (0..64).map(|number| {
        let (scene, node) = (&scene, &node);
        async move {
            sleep(if number == 0 { Duration::ZERO } else { READ_TIME - Duration::from_millis(1) }).await;
            scene.reader.strip(None, public, node, ask, None).await.unwrap()
        }
    });
    futures::future::join_all(joins).await;
    assert_eq!(scene.reads(), 1);
    scene.reader.blocks(&scene.object, &scene.placement, StripeIndex(0), &[0]).await.unwrap();
    assert_eq!(scene.reads(), 2, "a node that takes what it took before is not doubted");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_answer_is_held_against_its_node_once_however_many_joined_the_call() {
    let scene = Scene::new(Manner::Away).await;
    let (node, public) = (scene.placement[1].clone().unwrap(), scene.object.public());
    let ask = ShardAsk { object: public.id(), column: 1, first: 0, count: 1 };
    assert!(scene.cluster.transport.flip(&node, ask, 77));
    let bring = || scene.reader.strip(None, public, &node, ask, None);
    assert_eq!(tokio::join!(bring(), bring(), bring()), (None, None, None));
    assert_eq!(scene.reads(), 1);
    testing::until("its wrong strip is reported", async || !scene.cluster.transport.tickets().is_empty()).await;
    sleep(Duration::from_secs(31)).await;
    assert!(!scene.reader.leaves_out(&node), "one wrong answer costs half a minute");
    assert_eq!(scene.cluster.transport.tickets().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_strip_that_its_node_sends_wrong_is_brought_to_nobody() {
    let scene = Scene::new(Manner::Away).await;
    let ask = ShardAsk { object: scene.object.public().id(), column: 1, first: 0, count: 1 };
    let node = scene.placement[1].clone().unwrap();
    assert!(scene.reader.strip(None, scene.object.public(), &node, ask, None).await.is_some());
    assert!(scene.cluster.transport.flip(&node, ask, 77));
    assert!(scene.reader.strip(None, scene.object.public(), &node, ask, None).await.is_none());
    testing::until("the node's wrong strip is reported", async || scene.cluster.transport.tickets().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_nodes_strip_is_given_up_before_those_who_asked_for_it_lose_patience() {
    let scene = Scene::with(Manner::Away, Duration::from_secs(60)).await;
    let ask = ShardAsk { object: scene.object.public().id(), column: 0, first: 0, count: 1 };
    let begun = Instant::now();
    let brought =
        scene.reader.strip(None, scene.object.public(), &scene.placement[0].clone().unwrap(), ask, None).await;
    // They wait for 30 ms at least, after which no node is doubted before, and for 100 ms of patience.
    assert!(brought.is_none() && begun.elapsed() < Duration::from_millis(130), "{:?}", begun.elapsed());
    let (begun, within, node) = (Instant::now(), Duration::from_millis(20), scene.placement[1].clone().unwrap());
    let ask = ShardAsk { column: 1, ..ask };
    assert!(scene.reader.strip(None, scene.object.public(), &node, ask, Some(within)).await.is_none());
    assert_eq!(begun.elapsed(), within, "they told that they have less patience");
}

#[tokio::test(start_paused = true)]
async fn what_a_neighbour_wants_in_vain_is_held_against_no_node() {
    let scene = Scene::new(Manner::Away).await;
    let public = scene.object.public();
    let [node, other] = [0, 1].map(|column: usize| scene.placement[column].clone().unwrap());
    let ask = |column| ShardAsk { object: public.id(), column, first: 0, count: 1 };
    assert!(scene.reader.strip(None, public, &node, ask(1), None).await.is_none(), "it has another column");
    assert!(!scene.reader.leaves_out(&node), "whoever asks may have made it up");
    scene.cluster.transport.remove(&other);
    assert!(scene.reader.strip(None, public, &other, ask(1), None).await.is_none());
    assert!(scene.reader.leaves_out(&other), "it is down, whoever asks");
    sleep(Duration::from_secs(1)).await;
    assert!(scene.cluster.transport.tickets().is_empty());
}
