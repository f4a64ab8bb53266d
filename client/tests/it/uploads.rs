//! Uploads to clusters with faults: an upload is either acknowledged and durable, or an error.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{
    Earlier, Note, PlacementError, Receipt, Session, Topology, Transport, TransportError, UploadError, Uploader,
    file_record,
};
use format::{Lease, NodeName, OwnerKeys, Profile, Sealed, wire::NodeEntry};
use testing::{Call, Fault, FaultyTransport, Intercept, Intercepted, MemoryTransport, Sample, noise, noise_of};
use tokio::time::Instant;

use crate::cluster::{Cluster, encode, lease, nodes, owner, place, read, reader, store, store_at};

/// A node whose copies the catalog of the others knows nothing of.
struct Apart(NodeName, MemoryTransport);

#[async_trait]
impl Intercept for Apart {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn instead(&self, node: &NodeName) -> Option<&dyn Transport> {
        (*node == self.0).then_some(&self.1)
    }
}

/// A node that refuses a record, and shows another of its owner.
struct Denier(NodeName, Bytes);

#[async_trait]
impl Intercept for Denier {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        match *node == self.0 && call == Call::PutRecord {
            true => Err(TransportError::Refused { node: node.clone(), status: 410, reason: "erased".into() }),
            false => Ok(()),
        }
    }

    fn record(&self, node: &NodeName, (): (), record: Option<Bytes>) -> Option<Bytes> {
        if *node == self.0 { Some(self.1.clone()) } else { record }
    }
}

#[tokio::test]
async fn a_node_that_shows_the_end_of_another_object_denies_no_upload() {
    let (nodes, sample) = (nodes(4), Sample::new(1, 9));
    let other = Sample::of(1, [2; 32], b"else");
    assert_eq!(other.owner.id(), sample.owner.id());
    let shown = other.record(&other.erasure(9), &nodes[0].name).encode().into();
    let denier = Denier(nodes[1].name.clone(), shown);
    let transport: Arc<dyn Transport> = Arc::new(Intercepted::over(Arc::new(MemoryTransport::new(&nodes)), denier));
    let record = sample.record(&sample.lease(1), &nodes[0].name);
    let told = file_record(&transport, &record, &Topology::new(nodes)).await.unwrap();
    assert_eq!((told.nodes.len(), told.failed.len()), (3, 1));
}

/// As an upload that goes on after the catalog was restored from a backup of before: readers go by the newest lease.
#[tokio::test]
async fn what_one_node_holds_a_later_lease_of_is_not_told_to_be_stored() {
    let (nodes, sample) = (nodes(4), Sample::new(1, 9));
    let at = |lease: &Lease| sample.record(lease, &nodes[0].name);
    for (held, is_outlived) in [
        (sample.erasure(1), true),
        (sample.erasure(3), true),
        (sample.lease(3), true),
        (sample.lease(2), false),
        (sample.lease(1), false),
    ] {
        let (memory, apart) = (MemoryTransport::new(&nodes), MemoryTransport::new(&nodes));
        let one = nodes[1].name.clone();
        apart.put_record(&one, &sample.sealed.locator, at(&held).encode().into()).await.unwrap();
        let transport: Arc<dyn Transport> = Arc::new(Intercepted::over(Arc::new(memory), Apart(one.clone(), apart)));
        let filed = file_record(&transport, &at(&sample.lease(2)), &Topology::new(nodes.clone())).await;
        match (filed, is_outlived) {
            (Err(UploadError::Outlived { node, lease }), true) => assert_eq!((node, *lease), (one, held)),
            (Ok(told), false) => assert!(told.nodes.len() >= 3),
            (filed, _) => panic!("{filed:?} with {held:?}"),
        }
    }
}

async fn store_with_down(count: usize, down: usize, profile: Profile) -> Result<usize, UploadError> {
    let nodes = nodes(count);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let names: Vec<NodeName> = nodes.iter().take(down).map(|node| node.name.clone()).collect();
    let fault = move |node: &NodeName| if names.contains(node) { Fault::Down } else { Fault::None };
    let faulty = Arc::new(FaultyTransport::new(memory.clone(), fault));
    let bytes = noise(1_200_000);
    let (sealed, receipt) = store(faulty, topology.clone(), &bytes, profile).await?;
    assert!(read(&reader(memory, topology), &sealed).await.unwrap() == bytes);
    Ok(receipt.durable)
}

#[tokio::test]
async fn acknowledged_at_the_quorum_and_refused_below_it() {
    let five = "4+2".parse().unwrap();
    assert_eq!(store_with_down(6, 0, five).await.unwrap(), 6);
    assert_eq!(store_with_down(6, 1, five).await.unwrap(), 5);
    let lost = store_with_down(6, 2, five).await.unwrap_err();
    let UploadError::Lost { source, failed, .. } = &lost else { panic!("{lost}") };
    assert_eq!((source.left, source.quorum, failed.len()), (4, 5, 2));
    // Whoever reads it knows which nodes to look at.
    for node in nodes(6).iter().take(2) {
        assert!(lost.to_string().contains(&format!("node {} cannot be reached", node.name)), "{lost}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_too_small_says_so() {
    let placement = store_with_down(5, 0, "4+2".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(placement, UploadError::Placement(PlacementError::TooFew { need: 6, have: 5, .. })),
        "{placement}"
    );
}

#[tokio::test]
async fn inline_objects_lie_on_several_nodes() {
    let cluster = Cluster::new(6);
    let (sealed, receipt) = cluster.store(b"small").await;
    assert_eq!((receipt.durable, receipt.records), (0, 4));
    assert_eq!(read(&cluster.reader(), &sealed).await.unwrap(), b"small");
}

#[tokio::test]
async fn nodes_hold_no_window_of_the_plaintext() {
    let cluster = Cluster::new(6);
    let bytes = noise(400_000);
    let (_, _) = cluster.store(&bytes).await;
    let windows: HashSet<&[u8]> = bytes.windows(32).collect();
    let mut searched = 0;
    for strip in nodes(6).iter().flat_map(|node| cluster.transport.stored(&node.name)) {
        searched += strip.len();
        assert!(strip.windows(32).all(|window| !windows.contains(window)));
    }
    assert!(searched > bytes.len());
}

/// Two of eight nodes are down. Whatever is drawn, no upload fails, and all that is stored has all its copies.
#[tokio::test]
async fn nodes_that_are_down_cost_no_upload_where_others_can_take_over() {
    let nodes = nodes(8);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let down: Vec<NodeName> = nodes[..2].iter().map(|node| node.name.clone()).collect();
    let fault = move |node: &NodeName| if down.contains(node) { Fault::Down } else { Fault::None };
    let faulty: Arc<dyn Transport> = Arc::new(FaultyTransport::new(memory.clone(), fault));
    for number in 0..20 {
        for length in [10, 100_000, 3_000_000] {
            let bytes = noise(length + usize::from(number));
            let (sealed, receipt) =
                store_at(faulty.clone(), topology.clone(), &bytes, four(), [number; 32]).await.unwrap();
            let columns = if receipt.spread.is_some() { 6 } else { 0 };
            assert!(receipt.durable == columns && receipt.records >= 4, "{length}: {receipt:?}");
            assert!(read(&reader(memory.clone(), topology.clone()), &sealed).await.unwrap() == bytes);
        }
    }
}

/// Two of twenty nodes are dead, and nobody has noticed yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_small_files_beside_two_dead_nodes_of_twenty_all_get_there() {
    let nodes = nodes(20);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let down: Vec<NodeName> = nodes[..2].iter().map(|node| node.name.clone()).collect();
    let fault = move |node: &NodeName| if down.contains(node) { Fault::Down } else { Fault::None };
    let faulty: Arc<dyn Transport> = Arc::new(FaultyTransport::new(memory, fault));
    for number in 0..1_000u32 {
        // One in its record, the next in shards.
        let bytes = noise_of(number.into(), if number % 2 == 0 { 10_000 } else { 20_000 });
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        let (_, receipt) = store_at(faulty.clone(), topology.clone(), &bytes, four(), seed).await.unwrap();
        let is_whole = receipt.durable == receipt.placement.len() && receipt.records >= 4;
        assert!(is_whole, "{number}: {receipt:?}");
    }
}

/// Stores over 4+2 on nodes of which those in `silent` say nothing and are down. Returns the nodes of the columns.
async fn store_beside(zones: &[usize], silent: &[usize], seed: u8) -> (Vec<usize>, Receipt) {
    let mut nodes = nodes(zones.len());
    for (index, node) in nodes.iter_mut().enumerate() {
        node.place = place(zones[index]);
        node.seen = if silent.contains(&index) { 0 } else { 1_000 };
    }
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let down: Vec<NodeName> = silent.iter().map(|index| nodes[*index].name.clone()).collect();
    let fault = move |node: &NodeName| if down.contains(node) { Fault::Down } else { Fault::None };
    let faulty = Arc::new(FaultyTransport::new(memory, fault));
    let topology = Arc::new(Topology::new(nodes.clone()));
    let (_, receipt) = store_at(faulty, topology, &noise(1_000_000), four(), [seed; 32]).await.unwrap();
    let index = |name: &NodeName| nodes.iter().position(|node| node.name == *name).unwrap();
    (receipt.spread.as_ref().unwrap().nodes.iter().map(index).collect(), receipt)
}

/// A node that says nothing is passed over as long as the columns lie no closer together for it.
#[tokio::test]
async fn nodes_that_are_silent_loosen_no_cap_of_zones() {
    for seed in 0..20 {
        // Zones 0 and 1 have two nodes, the others one.
        let zones = [0, 1, 2, 3, 4, 5, 0, 1];
        let (columns, receipt) = store_beside(&zones, &[0, 5], seed).await;
        assert_eq!((receipt.spread.unwrap().per_zone, receipt.durable), (1, 5));
        assert!(!columns.contains(&0), "the zone has another node");
        assert!(columns.contains(&5), "it is the only one of its zone, and may be back");
    }
}

/// Where the cap of zones would leave less than a quorum, the columns move together.
#[tokio::test]
async fn a_zone_that_is_away_stops_no_upload() {
    for seed in 0..20 {
        let (columns, receipt) = store_beside(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], &[0, 3, 6, 9], seed).await;
        assert_eq!((receipt.spread.unwrap().per_zone, receipt.durable), (3, 6), "{columns:?}");
    }
}

/// Who reads why an upload failed knows which zones are away as a whole.
#[tokio::test]
async fn a_lost_upload_names_the_zones_that_are_silent() {
    let mut nodes = nodes(6);
    for (index, node) in nodes.iter_mut().enumerate() {
        node.place = place(index / 2);
        node.seen = if [0, 1, 2].contains(&index) { 0 } else { 1_000 };
    }
    let down: Vec<NodeName> = nodes[..3].iter().map(|node| node.name.clone()).collect();
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let faulty = FaultyTransport::new(memory, move |node| if down.contains(node) { Fault::Down } else { Fault::None });
    let topology = Arc::new(Topology::new(nodes.clone()));
    let lost = store(Arc::new(faulty), topology, &noise(1_000_000), four()).await.unwrap_err();
    let zone = &nodes[0].place.zone;
    assert!(lost.to_string().ends_with(&format!("; no origin was heard of lately in zone {zone}")), "{lost}");
}

/// A network that is away for so long.
struct Away(Instant);

#[async_trait]
impl Intercept for Away {
    type Pass = ();

    async fn before(&self, node: &NodeName, _: Call) -> Result<(), TransportError> {
        match Instant::now() < self.0 {
            true => Err(TransportError::Unreachable { node: node.clone(), reason: "the network is away".into() }),
            false => Ok(()),
        }
    }
}

/// What has one attempt, because it is small, bears what a large file bears.
#[tokio::test(start_paused = true)]
async fn a_gap_in_the_network_ends_no_upload_however_small() {
    for (milliseconds, length) in [(300, 10), (300, 100_000), (40_000, 10), (7_000, 100_000)] {
        let cluster = Cluster::new(8);
        let away = Away(Instant::now() + Duration::from_millis(milliseconds));
        let transport = Arc::new(Intercepted::over(cluster.transport.clone(), away));
        let bytes = noise(length);
        let (sealed, receipt) = store(transport, cluster.topology.clone(), &bytes, four()).await.unwrap();
        assert_eq!((receipt.durable, receipt.records >= 4), (receipt.placement.len(), true), "{receipt:?}");
        assert!(read(&cluster.reader(), &sealed).await.unwrap() == bytes);
    }
}

/// A network that is away for good ends it within minutes.
#[tokio::test(start_paused = true)]
async fn an_upload_into_no_network_ends() {
    for length in [10, 100_000] {
        let (cluster, began) = (Cluster::new(8), Instant::now());
        let away = Away(began + Duration::from_secs(86_400));
        let transport = Arc::new(Intercepted::over(cluster.transport.clone(), away));
        let lost = store(transport, cluster.topology.clone(), &noise(length), four()).await.unwrap_err();
        assert!(lost.to_string().contains("the network is away"), "{lost}");
        assert!(began.elapsed() < Duration::from_secs(180), "{:?}", began.elapsed());
    }
}

/// Counts the uploads that are begun, and loses the first appends to each node.
#[derive(Default)]
struct Losing {
    begun: AtomicUsize,
    what: Option<Call>,
    lost: usize,
    called: Mutex<HashMap<NodeName, usize>>,
}

#[async_trait]
impl Intercept for Losing {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        self.begun.fetch_add(usize::from(call == Call::CreateUpload), Ordering::Relaxed);
        let mut called = self.called.lock().unwrap();
        let called = called.entry(node.clone()).or_default();
        *called += usize::from(self.what == Some(call));
        match self.what == Some(call) && *called <= self.lost {
            true => Err(TransportError::TimedOut { node: node.clone() }),
            false => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn appends_and_commits_that_are_lost_cost_no_column_where_there_is_no_other_node() {
    for (what, lost) in [Call::Append, Call::Commit].into_iter().flat_map(|what| [1, 2, 8].map(|lost| (what, lost))) {
        let nodes = nodes(6);
        let losing = Losing { what: Some(what), lost, ..Losing::default() };
        let losing = Arc::new(Intercepted::over(Arc::new(MemoryTransport::new(&nodes)), losing));
        let topology = Arc::new(Topology::new(nodes));
        let (_, receipt) = store(losing.clone(), topology, &noise(1_000_000), four()).await.unwrap();
        assert_eq!(receipt.durable, 6, "{what:?}, {lost} lost");
        assert_eq!(losing.intercept().begun.load(Ordering::Relaxed), 6, "the sessions go on");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_given_up_asks_no_other_node() {
    let nodes = nodes(20);
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let counted = Arc::new(Intercepted::over(memory, Losing::default()));
    let mut uploader = Uploader::begin(counted.clone(), Arc::new(Topology::new(nodes)), [4; 32], vec![], vec![]);
    uploader.send(encode(&noise(100_000), four(), &owner()).stripes[0].clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(uploader);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(counted.intercept().begun.load(Ordering::Relaxed), 6);
}

/// Counts the appends, and fails all calls of some nodes while they restart.
struct Counting {
    appends: AtomicUsize,
    away: Box<dyn Fn(&NodeName) -> bool + Send + Sync>,
}

impl Counting {
    fn over(
        memory: Arc<MemoryTransport>,
        away: impl Fn(&NodeName) -> bool + Send + Sync + 'static,
    ) -> Arc<Intercepted<Self>> {
        Arc::new(Intercepted::over(memory, Self { appends: AtomicUsize::new(0), away: Box::new(away) }))
    }
}

#[async_trait]
impl Intercept for Counting {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if (self.away)(node) {
            return Err(TransportError::Unreachable { node: node.clone(), reason: "it restarts".to_owned() });
        }
        self.appends.fetch_add(usize::from(call == Call::Append), Ordering::Relaxed);
        Ok(())
    }
}

/// Broken off again and again, an upload sends each cell once.
#[tokio::test]
async fn an_upload_that_is_broken_off_goes_on_without_sending_again_what_nodes_hold() {
    let nodes = nodes(8);
    let (topology, keys) = (Arc::new(Topology::new(nodes.clone())), owner());
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let counted = Counting::over(memory.clone(), |_| false);
    let bytes = noise(20 << 20);
    let encoded = encode(&bytes, four(), &keys);
    let sessions: Arc<Mutex<Vec<Option<Session>>>> = Arc::new(Mutex::new(vec![None; 6]));
    let attempt = |stripes: usize| {
        let (noted, earlier) = (sessions.clone(), sessions.lock().unwrap().clone());
        let note: Note =
            Arc::new(move |column, session: &Session| noted.lock().unwrap()[column] = Some(session.clone()));
        let seed = [u8::try_from(stripes).unwrap(); 32];
        let uploader = Uploader::begin(counted.clone(), topology.clone(), seed, vec![], vec![]);
        (
            uploader.going_on(Earlier { sessions: earlier, public: None }).noting(note),
            encoded.stripes[..stripes].to_vec(),
        )
    };
    for stripes in [3, 7, 7, 12, encoded.stripes.len()] {
        let (mut uploader, stripes) = attempt(stripes);
        for stripe in stripes {
            uploader.send(stripe).await.unwrap();
        }
        drop(uploader);
    }
    let (mut uploader, stripes) = attempt(encoded.stripes.len());
    for stripe in stripes {
        uploader.send(stripe).await.unwrap();
    }
    let receipt = uploader.commit(&encoded.sealed, lease_of(&encoded.sealed, &keys)).await.unwrap();
    assert_eq!(receipt.durable, 6);
    assert_eq!(counted.intercept().appends.load(Ordering::Relaxed), 6 * encoded.stripes.len());
    assert!(read(&reader(memory, topology.clone()), &encoded.sealed).await.unwrap() == bytes);

    // One that was broken off in its commit sends nothing at all.
    let public = Some(encoded.sealed.public.encoded().clone());
    let earlier = Earlier { sessions: sessions.lock().unwrap().clone(), public };
    let mut uploader = Uploader::begin(counted.clone(), topology, [9; 32], vec![], vec![]).going_on(earlier);
    for stripe in &encoded.stripes {
        uploader.send(stripe.clone()).await.unwrap();
    }
    // Nodes that have the record take a later lease, and no other one of the same version.
    let later = Lease { version: 2, ..lease(&encoded.sealed, &keys) }.sign(&keys).into();
    assert_eq!(uploader.commit(&encoded.sealed, later).await.unwrap().durable, 6);
    assert_eq!(counted.intercept().appends.load(Ordering::Relaxed), 6 * encoded.stripes.len());
}

/// Sends the first stripes, breaks off, and goes on over `transport` with these nodes. Returns the receipt, and the
/// node of each column before.
async fn broken_off(
    memory: &Arc<MemoryTransport>,
    all: &[NodeEntry],
    transport: Arc<dyn Transport>,
    nodes: impl FnOnce(&[NodeName]) -> Vec<NodeEntry>,
) -> (Result<Receipt, UploadError>, Vec<NodeName>) {
    let (keys, sessions) = (owner(), Arc::new(Mutex::new(vec![None; 6])));
    let encoded = encode(&noise(20 << 20), four(), &keys);
    let noted = sessions.clone();
    let note: Note = Arc::new(move |column, session: &Session| noted.lock().unwrap()[column] = Some(session.clone()));
    let topology = Arc::new(Topology::new(all.to_vec()));
    let begun = Uploader::begin(memory.clone(), topology, [4; 32], vec![], vec![]);
    let mut uploader = begun.noting(note.clone());
    for stripe in &encoded.stripes[..BROKEN_OFF] {
        uploader.send(stripe.clone()).await.unwrap();
    }
    // What is in its queues arrives.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(uploader);
    let sessions = sessions.lock().unwrap().clone();
    let before: Vec<NodeName> = sessions.iter().flatten().map(|session: &Session| session.node.clone()).collect();
    let topology = Arc::new(Topology::new(nodes(&before)));
    let uploader = Uploader::begin(transport, topology, [4; 32], vec![], vec![]);
    let mut uploader = uploader.going_on(Earlier { sessions, public: None }).noting(note);
    for stripe in &encoded.stripes {
        if let Err(lost) = uploader.send(stripe.clone()).await {
            return (Err(lost), before);
        }
    }
    (uploader.commit(&encoded.sealed, lease_of(&encoded.sealed, &keys)).await, before)
}

const BROKEN_OFF: usize = 8;

/// Its node is gone for good and nobody has noticed yet, or is known to be silent, full or draining.
#[tokio::test(start_paused = true)]
async fn a_column_of_an_upload_that_goes_on_moves_where_its_node_takes_nothing_any_more() {
    for fault in ["unnoticed", "silent", "full", "draining", "unknown"] {
        let all = nodes(8);
        let memory = Arc::new(MemoryTransport::new(&all));
        let gone: Arc<Mutex<Option<NodeName>>> = Arc::default();
        let it = gone.clone();
        let counted = Counting::over(memory.clone(), move |node| it.lock().unwrap().as_ref() == Some(node));
        let nodes = |before: &[NodeName]| {
            *gone.lock().unwrap() = Some(before[2].clone());
            let change = |mut node: NodeEntry| {
                let is_it = node.name == before[2];
                node.seen = if is_it && fault == "silent" { 0 } else { 1_000 };
                node.draining = is_it && fault == "draining";
                node.free_bytes = if is_it && fault == "full" { 0 } else { node.free_bytes };
                (!is_it || fault != "unknown").then_some(node)
            };
            all.iter().cloned().filter_map(change).collect()
        };
        let began = Instant::now();
        let (receipt, before) = broken_off(&memory, &all, counted.clone(), nodes).await;
        let receipt = receipt.unwrap();
        assert_eq!(receipt.durable, 6, "{fault}");
        let placement: Vec<_> = receipt.placement.into_iter().flatten().collect();
        for column in 0..6 {
            assert_eq!(placement[column] == before[column], column != 2, "{fault}: column {column}");
        }
        let stripes = 20;
        let sent = counted.intercept().appends.load(Ordering::Relaxed);
        assert_eq!(sent, 5 * (stripes - BROKEN_OFF) + stripes, "{fault}: only this column is sent again");
        assert!(fault == "unnoticed" || began.elapsed() < Duration::from_secs(10), "{fault} was waited for");
    }
}

/// Without another node its own is waited for, and what it holds is not sent again.
#[tokio::test(start_paused = true)]
async fn a_column_that_has_no_other_node_goes_on_where_it_was() {
    for is_noticed in [false, true] {
        let all = nodes(6);
        let memory = Arc::new(MemoryTransport::new(&all));
        let away: Arc<Mutex<Option<(NodeName, Instant)>>> = Arc::default();
        let it = away.clone();
        let is_away = move |node: &NodeName| {
            let away = it.lock().unwrap();
            away.as_ref().is_some_and(|(name, until)| name == node && Instant::now() < *until)
        };
        let counted = Counting::over(memory.clone(), is_away);
        let nodes = |before: &[NodeName]| {
            *away.lock().unwrap() = Some((before[2].clone(), Instant::now() + Duration::from_secs(45)));
            let seen =
                |node: NodeEntry| NodeEntry { seen: u64::from(!is_noticed || node.name != before[2]) * 1_000, ..node };
            all.iter().cloned().map(seen).collect()
        };
        let (receipt, before) = broken_off(&memory, &all, counted.clone(), nodes).await;
        let placement: Vec<_> = receipt.unwrap().placement.into_iter().flatten().collect();
        assert_eq!(placement, before);
        assert_eq!(counted.intercept().appends.load(Ordering::Relaxed), 6 * (20 - BROKEN_OFF));
    }
}

/// All nodes restart, one after the other, for 40 seconds each: the sessions outlive it, so all columns get there.
#[tokio::test(start_paused = true)]
async fn a_rolling_restart_of_all_nodes_costs_no_column() {
    let nodes = nodes(6);
    let began = Instant::now();
    let names: Vec<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
    let away = move |node: &NodeName| {
        let turn = began.elapsed().as_secs() / 40;
        turn > 0 && usize::try_from(turn - 1).is_ok_and(|turn| names.get(turn) == Some(node))
    };
    let counted = Counting::over(Arc::new(MemoryTransport::new(&nodes)), away);
    let encoded = encode(&noise(40 << 20), four(), &owner());
    let mut uploader = Uploader::begin(counted.clone(), Arc::new(Topology::new(nodes)), [4; 32], vec![], vec![]);
    for stripe in &encoded.stripes {
        uploader.send(stripe.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    let receipt = uploader.commit(&encoded.sealed, lease_of(&encoded.sealed, &owner())).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(280), "all had their turn");
    assert_eq!(receipt.durable, 6);
}

/// Nodes that never say that a shard is durable hold up nobody for ever.
#[tokio::test(start_paused = true)]
async fn a_commit_that_no_node_answers_has_an_end() {
    struct Silent;
    #[async_trait]
    impl Intercept for Silent {
        type Pass = ();

        async fn before(&self, _: &NodeName, call: Call) -> Result<(), TransportError> {
            if call == Call::Commit { std::future::pending().await } else { Ok(()) }
        }
    }
    let nodes = nodes(6);
    let silent = Arc::new(Intercepted::over(Arc::new(MemoryTransport::new(&nodes)), Silent));
    let began = Instant::now();
    let lost = store(silent, Arc::new(Topology::new(nodes)), &noise(1_000_000), four()).await.unwrap_err();
    assert!(matches!(lost, UploadError::Lost { .. }), "{lost}");
    assert!(began.elapsed() < Duration::from_secs(2_000), "{:?}", began.elapsed());
}

/// What is told is what is durable, not what was meant to be.
#[tokio::test]
async fn a_receipt_says_how_many_zones_may_be_lost_now() {
    let zones = |down: usize| async move {
        let nodes = nodes(6);
        let names: Vec<NodeName> = nodes[..down].iter().map(|node| node.name.clone()).collect();
        let away = move |node: &NodeName| names.contains(node);
        let counted = Counting::over(Arc::new(MemoryTransport::new(&nodes)), away);
        let stored = store(counted, Arc::new(Topology::new(nodes)), &noise(1_000_000), four()).await;
        let (_, receipt) = stored.unwrap();
        (receipt.durable, receipt.zones_survived)
    };
    assert_eq!(zones(0).await, (6, Some(2)));
    assert_eq!(zones(1).await, (5, Some(1)));
}

/// Over a slow uplink all nodes take their time, and none is given up for it; one that is slower than all others is.
#[tokio::test(start_paused = true)]
async fn a_slow_uplink_is_waited_for_and_a_straggler_is_not() {
    let late = |slow: usize, seconds: [u64; 2]| async move {
        let nodes = nodes(6);
        let topology = Arc::new(Topology::new(nodes.clone()));
        let memory = Arc::new(MemoryTransport::new(&nodes));
        let slow: Vec<NodeName> = nodes[..slow].iter().map(|node| node.name.clone()).collect();
        let fault = move |node: &NodeName| Fault::Late(Duration::from_secs(seconds[usize::from(slow.contains(node))]));
        let faulty = Arc::new(FaultyTransport::new(memory, fault));
        let began = Instant::now();
        (store(faulty, topology, &noise(10_000_000), four()).await, began.elapsed().as_secs())
    };
    assert_eq!(late(0, [30, 0]).await.0.unwrap().1.durable, 6);
    let (stored, seconds) = late(1, [1, 1_000]).await;
    assert_eq!(stored.unwrap().1.durable, 5);
    assert!(seconds < 100, "the others waited {seconds} s for it");
    assert!(matches!(late(6, [0, 1_000]).await.0, Err(UploadError::Lost { .. })));
}

/// Nodes that drop a session after ten minutes without a call.
#[derive(Default)]
struct Forgetful(Mutex<HashMap<NodeName, Instant>>);

#[async_trait]
impl Intercept for Forgetful {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let used = self.0.lock().unwrap().insert(node.clone(), Instant::now());
        let is_gone = used.is_some_and(|used| used.elapsed() > Duration::from_secs(600));
        match is_gone && matches!(call, Call::Append | Call::UploadCells | Call::Commit) {
            true => {
                Err(TransportError::Refused { node: node.clone(), status: 404, reason: "no such upload".to_owned() })
            }
            false => Ok(()),
        }
    }
}

/// Whatever feeds standard input may take its time.
#[tokio::test(start_paused = true)]
async fn a_producer_may_pause_for_hours() {
    let nodes = nodes(6);
    let forgetful = Arc::new(Intercepted::over(Arc::new(MemoryTransport::new(&nodes)), Forgetful::default()));
    let encoded = encode(&noise(10 << 20), four(), &owner());
    let mut uploader = Uploader::begin(forgetful, Arc::new(Topology::new(nodes)), [4; 32], vec![], vec![]);
    for stripe in &encoded.stripes {
        uploader.send(stripe.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    }
    let receipt = uploader.commit(&encoded.sealed, lease_of(&encoded.sealed, &owner())).await.unwrap();
    assert_eq!(receipt.durable, 6);
}

/// A link that was slow for a while and is fast again waits for no straggler as if it were still slow.
#[tokio::test(start_paused = true)]
async fn how_slow_a_link_was_is_forgotten() {
    const SLOW: Duration = Duration::from_secs(600);
    let nodes = nodes(6);
    let (began, straggler, calls) = (Instant::now(), nodes[0].name.clone(), AtomicUsize::new(0));
    let fault = move |node: &NodeName| match calls.fetch_add(usize::from(*node == straggler), Ordering::Relaxed) {
        _ if began.elapsed() < SLOW => Fault::Late(Duration::from_secs(100)),
        25.. if *node == straggler => Fault::Late(Duration::from_secs(100_000)),
        _ => Fault::None,
    };
    let faulty = Arc::new(FaultyTransport::new(Arc::new(MemoryTransport::new(&nodes)), fault));
    let (_, receipt) = store(faulty, Arc::new(Topology::new(nodes)), &noise(40 << 20), four()).await.unwrap();
    assert_eq!(receipt.durable, 5);
    let waited = began.elapsed() - SLOW;
    assert!(waited < Duration::from_secs(120), "the others waited {waited:?} for it");
}

fn lease_of(sealed: &Sealed, keys: &OwnerKeys) -> Bytes {
    lease(sealed, keys).sign(keys).into()
}

fn four() -> Profile {
    Profile::Custom("4+2".parse().unwrap())
}
