//! Repairs over nodes in memory: exact shards from any k others, the number of reads, and the replacement of liars.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use client::{Receipt, RepairError, RepairPlan, Repaired, ShardAsk, TooFewSources, Transport, TransportError, repair};
use format::{NodeName, Sealed};
use testing::{Call, Fault, FaultyTransport, Intercept, Intercepted, noise};

use crate::cluster::{Cluster, holders, read, reader};

const BYTES: usize = 9_000_000;

/// Plans the repair of an object after the loss of `lost`: all other columns, and the spare nodes that take the lost
/// ones.
fn ask(cluster: &Cluster, sealed: &Sealed, receipt: &Receipt, lost: &[usize]) -> RepairPlan {
    let held = holders(receipt);
    let origins = cluster.topology.origins();
    let mut spare = origins.iter().map(|node| node.name.clone()).filter(|name| !held.contains(name));
    let sources = held.iter().cloned().enumerate().filter(|(column, _)| !lost.contains(column)).collect();
    let targets = lost.iter().map(|column| (*column, spare.next().unwrap())).collect();
    RepairPlan { public: sealed.public.clone(), sources, targets, bytes_per_second: None }
}

async fn run(transport: Arc<dyn Transport>, ask: RepairPlan) -> Result<Repaired, RepairError> {
    repair(&transport, ask).await
}

#[tokio::test]
async fn lost_columns_come_back_for_k_reads() {
    let cluster = Cluster::new(10);
    let bytes = noise(BYTES);
    let (sealed, receipt) = cluster.store(&bytes).await;
    let held = holders(&receipt);
    for node in &held[..2] {
        cluster.transport.remove(node);
    }
    let ask = ask(&cluster, &sealed, &receipt, &[0, 1]);
    let targets = ask.targets.clone();
    let done = run(cluster.transport.clone(), ask).await.unwrap();
    assert_eq!((&done.durable, &done.failed), (&targets, &vec![]));
    let k_reads: u64 = (2..6).map(|column| sealed.public.shard_bytes(column)).sum();
    assert_eq!(done.read_bytes, k_reads, "two lost columns cost the reads of one");
    assert_eq!(done.written_bytes, sealed.public.shard_bytes(0) + sealed.public.shard_bytes(1));

    // The rebuilt columns carry the object when two others are lost.
    for node in &held[2..4] {
        cluster.transport.remove(node);
    }
    let reader = cluster.reader();
    let (object, _) = reader.object(&sealed.capability).await.unwrap();
    // A reader with the old placement asks where the columns are now.
    let old = receipt.placement.clone();
    let geometry = object.geometry().unwrap();
    let mut found = Vec::new();
    for stripe in (0..geometry.stripes()).map(format::StripeIndex) {
        let columns: Vec<usize> = (0..geometry.columns(stripe)).collect();
        let stripe = reader.blocks(&object, &old, stripe, &columns).await.unwrap();
        stripe.blocks.iter().for_each(|(_, block)| found.extend_from_slice(block));
    }
    assert!(found == bytes);
}

#[tokio::test]
async fn a_liar_among_the_sources_is_replaced_and_named() {
    let cluster = Cluster::new(10);
    let (sealed, receipt) = cluster.store(&noise(BYTES)).await;
    let held = holders(&receipt);
    let last = ShardAsk { object: sealed.public.id(), column: 2, first: sealed.public.column_strips(2) - 1, count: 1 };
    assert!(cluster.transport.flip(&held[2], last, 77));
    let done = run(cluster.transport.clone(), ask(&cluster, &sealed, &receipt, &[0])).await.unwrap();
    assert_eq!(done.wrong, [(2, held[2].clone())]);
    assert_eq!(done.durable.len(), 1, "the node that took it checked its root");
}

#[tokio::test]
async fn fewer_than_k_sources_are_a_typed_error() {
    let cluster = Cluster::new(10);
    let (sealed, receipt) = cluster.store(&noise(BYTES)).await;
    let gone: Vec<NodeName> = holders(&receipt)[..3].to_vec();
    gone.iter().for_each(|node| cluster.transport.remove(node));
    let mut ask = ask(&cluster, &sealed, &receipt, &[0, 1]);
    assert!(matches!(
        run(cluster.transport.clone(), ask.clone()).await,
        Err(RepairError::Sources { source: TooFewSources { have: 3, need: 4 } })
    ));
    ask.sources.truncate(2);
    assert!(matches!(
        run(cluster.transport.clone(), ask).await,
        Err(RepairError::Sources { source: TooFewSources { have: 2, need: 4 } })
    ));
}

#[tokio::test]
async fn a_shard_that_moves_is_read_once_and_rebuilt_when_its_node_goes() {
    let cluster = Cluster::new(10);
    let bytes = noise(BYTES);
    let (sealed, receipt) = cluster.store(&bytes).await;
    let held = holders(&receipt);
    let mut moving = ask(&cluster, &sealed, &receipt, &[3]);
    moving.sources.push((3, held[3].clone()));
    let done = run(cluster.transport.clone(), moving.clone()).await.unwrap();
    assert_eq!(done.read_bytes, sealed.public.shard_bytes(3));
    assert_eq!(done.durable, moving.targets);

    cluster.transport.remove(&held[3]);
    let done = run(cluster.transport.clone(), moving.clone()).await.unwrap();
    assert_eq!(done.durable, moving.targets);
    assert!(matches!(&done.absent[..], [(3, node, TransportError::Unreachable { .. })] if *node == held[3]));
    assert!(read(&cluster.reader(), &sealed).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_target_that_fails_does_not_stop_the_others() {
    let cluster = Cluster::new(10);
    let bytes = noise(BYTES);
    let (sealed, receipt) = cluster.store(&bytes).await;
    let ask = ask(&cluster, &sealed, &receipt, &[4, 5]);
    let down = ask.targets[0].1.clone();
    let fault = move |node: &NodeName| if *node == down { Fault::Down } else { Fault::None };
    let faulty = Arc::new(FaultyTransport::new(cluster.transport.clone(), fault));
    let done = run(faulty, ask.clone()).await.unwrap();
    assert_eq!(done.durable, ask.targets[1..]);
    assert_eq!(done.failed.iter().map(|(column, _)| *column).collect::<Vec<_>>(), [4]);
    assert!(read(&reader(cluster.transport, cluster.topology), &sealed).await.unwrap() == bytes);
}

/// Appends that do not reach their nodes, so many from the first on.
struct Stalls(AtomicUsize);

#[async_trait]
impl Intercept for Stalls {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let has_stalled =
            call == Call::Append && self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        let stalled = || TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() };
        if has_stalled { Err(stalled()) } else { Ok(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_the_network_does_not_end_a_repair() {
    for (stalls, durable) in [(2, 1), (3, 0)] {
        let cluster = Cluster::new(10);
        let (sealed, receipt) = cluster.store(&noise(BYTES)).await;
        let stalling = Arc::new(Intercepted::over(cluster.transport.clone(), Stalls(stalls.into())));
        let done = run(stalling, ask(&cluster, &sealed, &receipt, &[0])).await.unwrap();
        assert_eq!((done.durable.len(), done.failed.len()), (durable, 1 - durable), "{stalls} stalls");
    }
}

/// Fails one call of each of these nodes.
struct Refusing(Vec<(NodeName, Call)>);

#[async_trait]
impl Intercept for Refusing {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if self.0.contains(&(node.clone(), call)) {
            return Err(TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() });
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_leaves_no_session_on_its_node() {
    let cluster = Cluster::new(10);
    let (sealed, receipt) = cluster.store(&noise(BYTES)).await;
    // One column moves and two are made again: an append of the first and of the second fails, a commit of the third.
    let mut ask = ask(&cluster, &sealed, &receipt, &[3, 4, 5]);
    ask.sources.push((3, holders(&receipt)[3].clone()));
    let nodes: Vec<NodeName> = ask.targets.iter().map(|(_, node)| node.clone()).collect();
    let fails = nodes.iter().cloned().zip([Call::Append, Call::Append, Call::Commit]).collect();
    let refusing = Intercepted::over(cluster.transport.clone(), Refusing(fails));
    let done = run(Arc::new(refusing), ask).await.unwrap();
    assert_eq!(done.failed.iter().map(|(column, _)| *column).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(nodes.iter().map(|node| cluster.transport.uploads(node)).collect::<Vec<_>>(), [0, 0, 0]);
}
