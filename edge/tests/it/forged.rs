//! Labels that somebody made up, with good checks: the check has no secret.

use std::{net::Ipv4Addr, time::Duration};

use format::{Capability, Label};
use testing::{noise_of, until};
use tokio::time::timeout;

use crate::{
    flood::{self, Flood},
    site::{Site, Stored, label_of_nothing},
};

/// A look-up asks several nodes, one after the other.
pub(crate) const RECORD_TIME: Duration = Duration::from_millis(200);

/// A question about the label number so many.
pub(crate) fn question(number: u64) -> Vec<u8> {
    let mut capability = [0xf0; 32];
    capability[..8].copy_from_slice(&number.to_le_bytes());
    let label = Label::open(Capability::from_bytes(capability));
    flood::question(number, &format!("{label}.evernear.example"))
}

/// Reads objects that nobody read before, one after the other, beside a flood; returns how much of the flood was
/// answered by then, and how often nodes were asked for records.
async fn read_beside_a_flood(site: &Site, cold: &[Stored]) -> (u64, u64, u64) {
    site.weather.late(RECORD_TIME);
    let before = site.weather.look_ups();
    let flood = Flood::pour(site.edge.dns.unwrap(), &[Ipv4Addr::LOCALHOST.into()], question).await;
    for stored in cold {
        let answer = site.get(stored, "/", &[]).await;
        assert!(answer.status() == 200 && answer.body() == stored.bytes, "{}", answer.head);
    }
    (flood.sent(), flood.turned_away(), site.weather.look_ups() - before)
}

/// Stores objects that nobody reads yet.
pub(crate) async fn cold(site: &Site) -> Vec<Stored> {
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

/// Starts an edge that is told of none of the objects any more: it cannot tell labels that somebody made up from
/// others.
pub(crate) async fn untold(base: &Site) -> Site {
    let site = base.beside(|_| {}).await;
    site.weather.unlisted();
    base.origins.restart_feed(&base.nodes[0].name);
    until("it asks what was stored", async || site.weather.lists() > 0).await;
    site
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
    let site = untold(&base).await;
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
