//! Reads from clusters with faults.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Known, RECORD_NODES_MAX, ReadError, ShardAsk, Topology, TransportError};
use format::{
    Domain, Lease, Locator, NodeName, OpenError, OwnerKeys, OwnerSecret, Profile, Record, StripeIndex,
    limits::STRIP_BYTES_MAX, rendezvous, row_bytes,
};
use testing::{Call, Fault, FaultyTransport, Intercept, Intercepted, MemoryTransport, noise};
use tokio::time::Instant;

use crate::cluster::{Cluster, encode, holders, inline_public, lease, nodes, owner, read, reader, store};

#[tokio::test]
async fn objects_of_every_size_come_back() {
    let cluster = Cluster::new(8);
    for length in [0, 1, 16_384, 16_385, 100_000, 300_000, 2_000_000, 5_300_000] {
        let bytes = noise(length);
        let (sealed, _) = cluster.store(&bytes).await;
        assert!(read(&cluster.reader(), &sealed).await.unwrap() == bytes, "{length}");
    }
}

#[tokio::test]
async fn any_m_nodes_may_go_and_one_more_is_an_error() {
    let cluster = Cluster::new(6);
    let bytes = noise(3_000_000);
    let (sealed, receipt) = cluster.store(&bytes).await;
    let holders = holders(&receipt);
    cluster.transport.remove(&holders[0]);
    cluster.transport.remove(&holders[2]);
    assert!(read(&cluster.reader(), &sealed).await.unwrap() == bytes);
    cluster.transport.remove(&holders[5]);
    let lost = read(&cluster.reader(), &sealed).await.unwrap_err();
    assert!(matches!(lost, ReadError::Lost { have: 3, need: 4, .. }), "{lost}");
}

#[tokio::test]
async fn a_flipped_bit_is_noticed_and_read_around() {
    let cluster = Cluster::new(6);
    let bytes = noise(1_000_000);
    let (sealed, receipt) = cluster.store(&bytes).await;
    let liar = receipt.placement[1].clone().unwrap();
    let ask = ShardAsk { object: sealed.public.id(), column: 1, first: 0, count: 1 };
    assert!(cluster.transport.flip(&liar, ask, 12_345));
    let reader = cluster.reader();
    let (object, record) = reader.object(&sealed.capability).await.unwrap();
    let read = reader.blocks(&object, &record.placement, StripeIndex(0), &[1]).await.unwrap();
    assert_eq!(read.wrong, [(liar, 1)]);
    assert!(read.recovered);
    let range = object.geometry().unwrap().range(read.blocks[0].0);
    let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
    assert!(read.blocks[0].1 == bytes[range]);
}

#[tokio::test]
async fn one_block_costs_one_strip() {
    let cluster = Cluster::new(6);
    let (sealed, _) = cluster.store(&noise(2_000_000)).await;
    let reader = cluster.reader();
    let (object, record) = reader.object(&sealed.capability).await.unwrap();
    let read = reader.blocks(&object, &record.placement, StripeIndex(0), &[2]).await.unwrap();
    assert_eq!((read.nodes.len(), read.recovered), (1, false));
    assert_eq!(read.bytes, (STRIP_BYTES_MAX + row_bytes(6)) as u64);
    let parity = reader.blocks(&object, &record.placement, StripeIndex(0), &[4]).await.unwrap_err();
    assert!(matches!(parity, ReadError::Decode(_)), "{parity}");
}

#[tokio::test(start_paused = true)]
async fn two_stuck_nodes_do_not_hold_a_read_up() {
    let nodes = nodes(6);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let bytes = noise(3_000_000);
    let (sealed, receipt) = store(memory.clone(), topology.clone(), &bytes, Profile::SmallCluster).await.unwrap();
    let stuck: Vec<NodeName> = holders(&receipt)[..2].to_vec();
    let fault =
        move |node: &NodeName| if stuck.contains(node) { Fault::Late(Duration::from_secs(60)) } else { Fault::None };
    // Virtual time: it measures only the reader's waits, on any machine.
    let start = Instant::now();
    assert!(read(&reader(Arc::new(FaultyTransport::new(memory, fault)), topology), &sealed).await.unwrap() == bytes);
    // The record's holders are asked 250 ms apart, and each of three stripes is hedged after a few milliseconds.
    assert!(start.elapsed() < Duration::from_secs(1), "the stuck nodes were waited for: {:?}", start.elapsed());
}

#[tokio::test]
async fn nodes_that_lie_on_every_answer_are_read_around() {
    let nodes = nodes(6);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let bytes = noise(2_500_000);
    let (sealed, receipt) = store(memory.clone(), topology.clone(), &bytes, Profile::SmallCluster).await.unwrap();
    let liars: Vec<NodeName> = holders(&receipt)[3..5].to_vec();
    let lies = Arc::new(AtomicU64::new(0));
    let counted = lies.clone();
    let fault = move |node: &NodeName| {
        if liars.contains(node) {
            counted.fetch_add(1, Ordering::Relaxed);
            Fault::Flip
        } else {
            Fault::None
        }
    };
    let reader = reader(Arc::new(FaultyTransport::new(memory, fault)), topology);
    for _ in 0..10 {
        assert!(read(&reader, &sealed).await.unwrap() == bytes);
    }
    // Three stripes, ten times over. After their first lies the two nodes are asked last, and not at all if four others
    // answer.
    assert!(lies.load(Ordering::Relaxed) <= 12, "{lies:?}");
}

#[tokio::test]
async fn unknown_and_unreachable_are_told_apart() {
    let cluster = Cluster::new(6);
    let nowhere = Locator([9; 32]);
    assert!(matches!(cluster.reader().record(&nowhere).await, Err(ReadError::NotFound { .. })));
    for node in nodes(6) {
        cluster.transport.remove(&node.name);
    }
    assert!(matches!(cluster.reader().record(&nowhere).await, Err(ReadError::Unavailable { .. })));
}

/// Nodes that answer every request for a record with one of their own, beside some that are down.
#[derive(Default)]
struct Forgers {
    nodes: Vec<NodeName>,
    record: Bytes,
    down: Vec<NodeName>,
}

#[async_trait]
impl Intercept for Forgers {
    type Pass = ();

    async fn before(&self, node: &NodeName, _: Call) -> Result<(), TransportError> {
        let down = || TransportError::Unreachable { node: node.clone(), reason: "made so".to_owned() };
        if self.down.contains(node) { Err(down()) } else { Ok(()) }
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        if self.nodes.contains(node) { Some(self.record.clone()) } else { record }
    }
}

fn names(numbers: std::ops::Range<usize>) -> Vec<NodeName> {
    numbers.map(|number| format!("o{number}").parse().unwrap()).collect()
}

#[tokio::test]
async fn nobody_knows_an_object_only_when_most_nodes_say_so() {
    let cluster = Cluster::new(6);
    for down in 0..=6 {
        let forgers = Forgers { down: names(0..down), ..Forgers::default() };
        let reader = reader(Arc::new(Intercepted::over(cluster.transport.clone(), forgers)), cluster.topology.clone());
        let asked = reader.record(&Locator([9; 32])).await;
        match down {
            0..3 => assert!(matches!(asked, Err(ReadError::NotFound { .. })), "{down} down: {asked:?}"),
            _ => assert!(matches!(asked, Err(ReadError::Unavailable { .. })), "{down} down: {asked:?}"),
        }
    }
    let alone = reader(cluster.transport.clone(), Arc::new(Topology::new(Vec::new())));
    let asked = alone.record(&Locator([9; 32])).await;
    assert!(matches!(asked, Err(ReadError::Unavailable { .. })), "nobody was asked: {asked:?}");
}

#[tokio::test]
async fn bytes_that_lie_far_down_the_order_are_read_while_the_first_nodes_cannot_say() {
    let (cluster, nodes, keys) = (Cluster::new(30), nodes(30), owner());
    let encoded = encode(b"small", Profile::SmallCluster, &keys);
    let capability = encoded.sealed.capability.clone();
    let order = rendezvous::order(capability.locator().as_bytes(), nodes.iter().map(|node| &node.name));
    let (first, rest) = order.split_at(RECORD_NODES_MAX);
    // Only there may the bytes lie.
    let last = &rest[rest.len() - 4..];
    let zones =
        nodes.iter().filter(|node| last.contains(&&node.name)).map(|node| Domain::Zone(node.place.zone.clone()));
    let lease = Lease { wanted: zones.collect(), ..lease(&encoded.sealed, &keys) }.sign(&keys).into();
    encoded.upload(cluster.transport.clone(), cluster.topology.clone(), [4; 32], lease).await.unwrap();

    let read = async |down: &[&NodeName]| {
        let down = down.iter().map(|node| (*node).clone()).collect();
        let forgers = Forgers { down, ..Forgers::default() };
        let road = Arc::new(Intercepted::over(cluster.transport.clone(), forgers));
        reader(road, cluster.topology.clone()).object(&capability).await.map(|(object, _)| object.length())
    };
    assert_eq!(read(first).await.unwrap(), 5);
    assert_eq!(read(&[first, &rest[..rest.len() - 4]].concat()).await.unwrap(), 5);
    let down = read(&order).await;
    assert!(matches!(down, Err(ReadError::Unavailable { .. })), "{down:?}");
}

#[tokio::test]
async fn what_few_nodes_made_up_neither_hides_an_object_nor_stands_for_one() {
    let cluster = Cluster::new(6);
    let (stored, _) = cluster.store(&noise(200_000)).await;
    let missing = encode(&noise(100_000), Profile::SmallCluster, &owner()).sealed;
    let thief = OwnerSecret::from_bytes([9; 32]).keys();
    for erased in [true, false] {
        for (sealed, liars) in [(&stored, 1), (&stored, 3), (&missing, 1), (&missing, 2)] {
            let lease = Lease { version: 99, erased, ..lease(sealed, &thief) };
            let record = forged(sealed, &thief, &lease);
            // Who does not lie is silent where there is an object, and honest where there is none.
            let down = if sealed.capability == stored.capability { names(liars..6) } else { Vec::new() };
            let forgers = Forgers { nodes: names(0..liars), record, down };
            let road = Arc::new(Intercepted::over(cluster.transport.clone(), forgers));
            let reader = reader(road, cluster.topology.clone());
            let said = [
                reader.object(&sealed.capability).await.err(),
                reader.pointer(&sealed.capability, None).await.err(),
                reader.newest_record(&sealed.capability.locator(), &owner().id()).await.err(),
            ];
            for error in said.map(Option::unwrap) {
                let is_right = match sealed.capability == stored.capability {
                    true => matches!(error, ReadError::Unavailable { .. }),
                    false => matches!(error, ReadError::NotFound { .. }),
                };
                assert!(is_right, "{liars} liars, erased: {erased}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_lease_that_ended_before_it_was_renewed_ends_nothing_for_who_knows_the_newer_one() {
    let cluster = Cluster::new(6);
    let (sealed, _) = cluster.store(&noise(200_000)).await;
    let ended = |version, erased, down| {
        let mut lease = Lease { version, erased, ..lease(&sealed, &owner()) };
        lease.retention.expires = 1;
        let nodes = names(0..1);
        let forgers = Forgers { nodes, record: forged(&sealed, &owner(), &lease), down };
        reader(Arc::new(Intercepted::over(cluster.transport.clone(), forgers)), cluster.topology.clone())
    };
    let known = |version| Some(Known { owner: owner().id(), version });
    for version in [2, 3] {
        let alone = ended(version, false, names(1..6)).object_after(&sealed.capability, known(3)).await.err().unwrap();
        assert!(matches!(alone, ReadError::Unavailable { .. }), "{version}: {alone}");
    }
    let gone = ended(3, true, names(1..6)).object_after(&sealed.capability, known(3)).await.err().unwrap();
    assert!(matches!(gone, ReadError::Open(OpenError::Erased)), "{gone}");
    // The nearest node tells of the end, and the others have the lease that counts.
    assert!(ended(1, false, Vec::new()).object_after(&sealed.capability, known(1)).await.is_ok());
}

/// A record of the object under its own locator, signed with somebody's keys.
fn forged(sealed: &format::Sealed, keys: &OwnerKeys, lease: &Lease) -> Bytes {
    let public = if keys.id() == owner().id() { sealed.public.clone() } else { inline_public(keys) };
    let placement = vec![None; public.columns()];
    let lease = Lease { object: public.id(), ..lease.clone() };
    Record::new(public, None, lease.sign(keys).into(), placement).unwrap().encode().into()
}

#[tokio::test]
async fn a_forged_record_denies_nobody_an_object_but_its_owner_may() {
    let cluster = Cluster::new(6);
    let bytes = noise(200_000);
    let (sealed, _) = cluster.store(&bytes).await;
    let names: Vec<NodeName> = nodes(6).into_iter().map(|node| node.name).collect();
    let thief = OwnerSecret::from_bytes([9; 32]).keys();
    let own = lease(&sealed, &owner());
    let over = |nodes: &[NodeName], record| {
        let forgers = Forgers { nodes: nodes.to_vec(), record, down: Vec::new() };
        reader(Arc::new(Intercepted::over(cluster.transport.clone(), forgers)), cluster.topology.clone())
    };
    let erased = |owner, version| Lease { owner, version, erased: true, ..own.clone() };

    let stranger = forged(&sealed, &thief, &erased(thief.id(), 99));
    for honest in 0..6 {
        let liars: Vec<NodeName> = names.iter().filter(|name| **name != names[honest]).cloned().collect();
        assert!(read(&over(&liars, stranger.clone()), &sealed).await.unwrap() == bytes, "only {honest} is honest");
    }
    let all = read(&over(&names, stranger), &sealed).await.unwrap_err();
    assert!(matches!(all, ReadError::Open(OpenError::Erased)), "{all}");

    // The nearest node is asked first. That all others still return the living record changes nothing.
    let ended = forged(&sealed, &owner(), &erased(owner().id(), 2));
    let gone = read(&over(&names[..1], ended), &sealed).await.unwrap_err();
    assert!(matches!(gone, ReadError::Open(OpenError::Erased)), "{gone}");
}

#[tokio::test]
async fn a_node_that_withholds_the_sealed_manifest_has_not_erased_the_object() {
    let cluster = Cluster::new(6);
    let bytes = noise(200_000);
    let (sealed, _) = cluster.store(&bytes).await;
    let names: Vec<NodeName> = nodes(6).into_iter().map(|node| node.name).collect();
    // The owner's own living lease, and no manifest.
    let stripped = forged(&sealed, &owner(), &lease(&sealed, &owner()));
    let over = |liars: &[NodeName]| {
        let forgers = Forgers { nodes: liars.to_vec(), record: stripped.clone(), down: Vec::new() };
        reader(Arc::new(Intercepted::over(cluster.transport.clone(), forgers)), cluster.topology.clone())
    };
    assert!(read(&over(&names[..5]), &sealed).await.unwrap() == bytes, "one node is honest");
    let all = read(&over(&names), &sealed).await.unwrap_err();
    assert!(matches!(all, ReadError::Open(OpenError::Withheld)), "{all}");
}
