//! Labels that somebody made up, with good checks: the check has no secret.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use format::{Capability, Label};
use testing::{noise_of, until};
use tokio::{
    net::UdpSocket,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::site::{Site, Stored, label_of_nothing};

/// Two thousand a second.
const EVERY: Duration = Duration::from_millis(10);
const AT_ONCE: u64 = 20;
/// A look-up asks several nodes, one after the other.
const RECORD_TIME: Duration = Duration::from_millis(200);

/// `LABEL.evernear.example A?` of the label number so many.
fn question(number: u64) -> Vec<u8> {
    let mut capability = [0xf0; 32];
    capability[..8].copy_from_slice(&number.to_le_bytes());
    let label = Label::open(Capability::from_bytes(capability)).to_string();
    let mut message = vec![number.to_le_bytes()[0], number.to_le_bytes()[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&*label, "evernear", "example"] {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// What came back of a flood.
#[derive(Default)]
struct Flood {
    sent: AtomicU64,
    /// NXDOMAIN.
    turned_away: AtomicU64,
}

impl Flood {
    /// Asks for labels, each another, until dropped.
    async fn pour(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            for _ in 0..AT_ONCE {
                let number = self.sent.fetch_add(1, Ordering::Relaxed);
                // A full queue loses it, as it would on a wire.
                let _ = socket.send(&question(number)).await;
            }
        }
    }

    async fn drain(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut answer = [0; 1232];
        while let Ok(length) = socket.recv(&mut answer).await {
            if length > 3 && answer[3] & 0x0f == 3 {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Reads objects that nobody read before, one after the other, beside a flood; returns how much of the flood was
/// answered by then, and how often nodes were asked for records.
async fn read_beside_a_flood(site: &Site, cold: &[Stored]) -> (u64, u64, u64) {
    site.weather.late(RECORD_TIME);
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    socket.connect(site.edge.dns.unwrap()).await.unwrap();
    let (flood, before) = (Arc::new(Flood::default()), site.weather.look_ups());
    let pouring = tokio::spawn(Arc::clone(&flood).pour(Arc::clone(&socket)));
    let draining = tokio::spawn(Arc::clone(&flood).drain(socket));
    until("the flood", async || flood.sent.load(Ordering::Relaxed) > 2_000).await;
    for stored in cold {
        let answer = site.get(stored, "/", &[]).await;
        assert!(answer.status() == 200 && answer.body() == stored.bytes, "{}", answer.head);
    }
    let (sent, turned_away) = (flood.sent.load(Ordering::Relaxed), flood.turned_away.load(Ordering::Relaxed));
    pouring.abort();
    draining.abort();
    (sent, turned_away, site.weather.look_ups() - before)
}

async fn cold(site: &Site) -> Vec<Stored> {
    let mut cold = Vec::new();
    for seed in 0..12 {
        cold.push(site.store("a.bin", "application/octet-stream", noise_of(seed, 20_000)).await);
    }
    cold
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_labels_are_turned_away_and_keep_no_viewer_from_a_cold_object() {
    let site = Site::start().await;
    let cold = cold(&site).await;
    // The edge has read the feed to its end once it knows of the last object: by then a label of nothing is one.
    until("the feed is read", async || {
        let told = site.counter("evernear_edge_changes_total").await;
        told >= 12
    })
    .await;
    let (sent, turned_away, look_ups) = read_beside_a_flood(&site, &cold).await;
    println!("{sent} forged labels, {turned_away} turned away, nodes asked {look_ups} times");
    assert!(turned_away > sent / 2, "{turned_away} of {sent}");
    assert!(look_ups < sent / 2, "{look_ups} for {sent}");

    // Once the flood is over a label that the feed did not tell of is looked up like any other.
    site.weather.fair();
    let name = format!("{}.evernear.example", label_of_nothing());
    until("it is looked up", async || {
        let before = site.weather.look_ups();
        let answer = site.dig(&[&name, "A"]).await;
        assert!(answer.contains("status: NXDOMAIN"), "{answer}");
        site.weather.look_ups() > before
    })
    .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_labels_are_turned_away_where_an_origin_lists_what_the_feed_tells_no_more() {
    let base = Site::start().await;
    let cold = cold(&base).await;
    base.origins.restart_feed(&base.nodes[0].name);
    let site = base.beside(|_| {}).await;
    until("it asks what was stored", async || site.weather.lists() > 0).await;
    let (sent, turned_away, look_ups) = read_beside_a_flood(&site, &cold).await;
    println!("{sent} forged labels, {turned_away} turned away, nodes asked {look_ups} times");
    assert!(turned_away > sent / 2, "{turned_away} of {sent}");
    assert!(look_ups < sent / 2, "{look_ups} for {sent}");
    site.stop().await;
    base.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_labels_keep_no_viewer_from_a_cold_object_where_the_feed_is_not_known_whole() {
    let base = Site::start().await;
    let cold = cold(&base).await;
    let site = base.beside(|_| {}).await;
    // It is told of none of the objects any more.
    site.weather.unlisted();
    base.origins.restart_feed(&base.nodes[0].name);
    until("it asks what was stored", async || site.weather.lists() > 0).await;
    let (sent, _, look_ups) = read_beside_a_flood(&site, &cold).await;
    println!("{sent} forged labels, nodes asked {look_ups} times");
    assert!(look_ups < sent, "{look_ups} for {sent}");
    // A resolver does not wait for what is cold.
    site.weather.late(Duration::from_secs(5));
    let name = format!("{}.evernear.example", label_of_nothing());
    let answer = timeout(Duration::from_secs(4), site.dig(&[&name, "A"])).await.unwrap();
    assert!(answer.contains("status: NOERROR"), "{answer}");
    site.stop().await;
    base.stop().await;
}
