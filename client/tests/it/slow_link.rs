//! Reads over a link that is slower than the nodes, in virtual time. All that is on its way shares the link.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use client::{RECORD_NODES_MAX, ReadError, Reader, ReaderOptions, Topology, TransportError};
use format::{NodeName, Profile, Sealed, StripeIndex, limits::STRIP_BYTES_MAX, rendezvous};
use futures::{StreamExt, TryStreamExt, future::try_join_all};
use testing::{Call, Intercept, Intercepted, MemoryTransport, noise};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{nodes, place, read, store};

/// Bytes that travel together.
const PACKET_BYTES: usize = 16 * 1024;
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// 4 Mbit/s.
const SLOW: u64 = 500_000;

/// Says what happens to a call.
type Fate = dyn Fn(&NodeName, Duration) -> Result<Road, TransportError> + Send + Sync;

enum Road {
    Open,
    /// The node takes the call and says nothing.
    Silent,
}

struct Link {
    bytes_per_second: u64,
    began: Instant,
    free: Mutex<Instant>,
    carried: Arc<AtomicU64>,
    fate: Box<Fate>,
}

impl Link {
    fn takes(&self) -> Instant {
        self.carried.fetch_add(PACKET_BYTES as u64, Relaxed);
        let mut free = self.free.lock().unwrap();
        *free = Instant::now().max(*free)
            + Duration::from_secs(PACKET_BYTES as u64) / u32::try_from(self.bytes_per_second).unwrap();
        *free
    }
}

#[async_trait]
impl Intercept for Link {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        let packets = match call {
            Call::ReadShard => STRIP_BYTES_MAX / PACKET_BYTES,
            Call::Record => 1,
            _ => return Ok(()),
        };
        if let Road::Silent = (self.fate)(node, self.began.elapsed())? {
            std::future::pending::<()>().await;
        }
        sleep(ROUND_TRIP).await;
        for _ in 0..packets {
            sleep_until(self.takes()).await;
            // What was on its way when the network went away does not come.
            (self.fate)(node, self.began.elapsed())?;
        }
        Ok(())
    }
}

/// Objects on six nodes in 4+2, and a reader behind a link.
struct Home {
    reader: Reader,
    carried: Arc<AtomicU64>,
    objects: Vec<(Sealed, Vec<u8>)>,
    began: Instant,
}

impl Home {
    async fn start(
        lengths: &[usize],
        bytes_per_second: u64,
        options: ReaderOptions,
        fate: impl Fn(&NodeName, Duration) -> Result<Road, TransportError> + Send + Sync + 'static,
    ) -> Self {
        let nodes = nodes(6);
        let topology = Arc::new(Topology::new(nodes.clone()));
        let memory = Arc::new(MemoryTransport::new(&nodes));
        let mut objects = Vec::new();
        for (number, length) in lengths.iter().enumerate() {
            let bytes = [&[u8::try_from(number).unwrap()], &noise(length - 1)[..]].concat();
            let stored = store(memory.clone(), topology.clone(), &bytes, Profile::SmallCluster).await;
            objects.push((stored.unwrap().0, bytes));
        }
        let (began, carried) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (free, fate) = (Mutex::new(began), Box::new(fate));
        let link = Link { bytes_per_second, began, free, carried: carried.clone(), fate };
        let reader = Reader::new(Arc::new(Intercepted::over(memory, link)), topology, place(0), options);
        Self { reader, carried, objects, began }
    }

    /// Reads an object as a twin does, two stripes at once.
    async fn read(&self, sealed: &Sealed) -> Result<Vec<u8>, ReadError> {
        let (object, record) = self.reader.object(&sealed.capability).await?;
        let (object, placement) = (&object, &record.placement);
        let geometry = object.geometry().unwrap();
        let stripes = futures::stream::iter((0..geometry.stripes()).map(StripeIndex)).map(|stripe| async move {
            let columns: Vec<usize> = (0..geometry.columns(stripe)).collect();
            self.reader.blocks(object, placement, stripe, &columns).await
        });
        let read: Vec<_> = stripes.buffered(2).try_collect().await?;
        Ok(read.into_iter().flat_map(|stripe| stripe.blocks).flat_map(|(_, block)| block.to_vec()).collect())
    }

    /// Reads all objects side by side.
    async fn read_all(&self) -> Result<(), ReadError> {
        let read = self.objects.iter().map(|(sealed, _)| self.read(sealed));
        for (read, (_, bytes)) in try_join_all(read).await?.iter().zip(&self.objects) {
            assert!(read == bytes);
        }
        Ok(())
    }

    /// Returns how many times the bytes of the objects the link carried, in hundredths.
    fn carried_percent(&self) -> u64 {
        let bytes: usize = self.objects.iter().map(|(_, bytes)| bytes.len()).sum();
        self.carried.load(Relaxed) * 100 / bytes as u64
    }
}

#[tokio::test(start_paused = true)]
async fn four_files_over_a_slow_link_come_and_little_comes_twice() {
    let lengths = [4 << 20; 4];
    // They take 34 s, and an edge has 15 s for a stripe.
    let edge = Home::start(&lengths, SLOW, ReaderOptions::default(), |_, _| Ok(Road::Open)).await;
    let slow = edge.read_all().await.unwrap_err();
    assert!(matches!(slow, ReadError::TooSlow { .. }) && edge.began.elapsed() < Duration::from_secs(22), "{slow}");

    let home = Home::start(&lengths, SLOW, ReaderOptions::patient(), |_, _| Ok(Road::Open)).await;
    home.read_all().await.unwrap();
    assert!(home.carried_percent() <= 108);
    assert!(home.began.elapsed() < Duration::from_secs(37), "{:?}", home.began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_slowest_link_of_an_owner_brings_a_file() {
    let home = Home::start(&[6 << 20], 62_500, ReaderOptions::patient(), |_, _| Ok(Road::Open)).await;
    home.read_all().await.unwrap();
    assert!(home.carried_percent() <= 115);
}

#[tokio::test(start_paused = true)]
async fn a_quick_link_is_filled() {
    let home = Home::start(&[6 << 20; 4], 125_000_000, ReaderOptions::patient(), |_, _| Ok(Road::Open)).await;
    home.read_all().await.unwrap();
    assert!(home.carried_percent() <= 101);
    // Six stripes of each, two at a time, are three round trips at least, and the reader finds out how quick the link
    // is.
    assert!(home.began.elapsed() < ROUND_TRIP * 12, "{:?}", home.began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_passed_over_a_slow_link_and_soon_over_a_quick_one() {
    // Without it they take 0.3, 17 and 134 s. Over the slowest link a strip takes 4 s, and is late after twice that.
    for (bytes_per_second, most) in [(125_000_000, 2), (SLOW, 28), (62_500, 240)] {
        let silent: NodeName = "o2".parse().unwrap();
        let fate = move |node: &NodeName, _| Ok(if *node == silent { Road::Silent } else { Road::Open });
        let home = Home::start(&[8 << 20], bytes_per_second, ReaderOptions::patient(), fate).await;
        home.read_all().await.unwrap();
        assert!(home.carried_percent() <= 115);
        assert!(home.began.elapsed() < Duration::from_secs(most), "{bytes_per_second}: {:?}", home.began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_all_silent_are_told_from_such_as_have_nothing() {
    let home = Home::start(&[1 << 20], SLOW, ReaderOptions::patient(), |_, since| {
        Ok(if since > ROUND_TRIP / 2 { Road::Silent } else { Road::Open })
    });
    let home = home.await;
    let lost = home.read_all().await.unwrap_err();
    assert!(matches!(lost, ReadError::Lost { have: 3, need: 4, silent: 3, .. }), "{lost:?}");
    let bound = ReaderOptions::patient().strip_deadline * 2;
    assert!(home.began.elapsed() < bound, "a strip has its deadline: {:?}", home.began.elapsed());
}

/// A way on which a record takes its time, and who was asked for one.
#[derive(Default)]
struct SlowRecords {
    takes: Mutex<Duration>,
    asked: Mutex<BTreeSet<NodeName>>,
}

#[async_trait]
impl Intercept for SlowRecords {
    type Pass = ();

    async fn before(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        if call == Call::Record {
            self.asked.lock().unwrap().insert(node.clone());
            let takes = *self.takes.lock().unwrap();
            sleep(takes).await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_takes_seconds_over_a_link_that_is_known_is_asked_of_no_further_node() {
    let nodes = nodes(30);
    let topology = Arc::new(Topology::new(nodes.clone()));
    let memory = Arc::new(MemoryTransport::new(&nodes));
    let stored = store(memory.clone(), topology.clone(), &noise(1 << 20), Profile::SmallCluster).await;
    let (sealed, _) = stored.unwrap();
    let order = rendezvous::order(sealed.locator.as_bytes(), nodes.iter().map(|node| &node.name));
    let first: BTreeSet<NodeName> = order.into_iter().take(RECORD_NODES_MAX).cloned().collect();
    for is_known in [true, false] {
        let way = Arc::new(Intercepted::over(memory.clone(), SlowRecords::default()));
        let reader = Reader::new(way.clone(), topology.clone(), place(0), ReaderOptions::patient());
        if is_known {
            read(&reader, &sealed).await.unwrap();
        }
        way.intercept().asked.lock().unwrap().clear();
        *way.intercept().takes.lock().unwrap() = Duration::from_secs(5);
        let began = Instant::now();
        reader.record(&sealed.locator).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        let asked = way.intercept().asked.lock().unwrap();
        // Of a link that may be quick the silence says that the nodes are gone.
        assert_eq!(asked.is_subset(&first), is_known, "{asked:?}");
    }
}
