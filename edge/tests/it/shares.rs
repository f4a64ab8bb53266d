//! Shares of the DNS door: whatever one network of resolvers asks, or is asked about one owner's names, the names of
//! others are looked up and weighed.

use std::net::{IpAddr, Ipv4Addr};

use client::Transport;
use edge::config::PrefixPlace;
use format::{Kind, OwnerSecret, PolicyManifest, PolicyName};
use testing::until;

use crate::{
    flood::{self, Flood},
    forged::{self, RECORD_TIME, cold, untold},
    guest::{MEMORY, component_of_world},
    policy::{GEO, manifest, publish_component},
    site::Site,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_network_keeps_no_other_from_names_that_are_not_open() {
    let base = Site::start().await;
    let cold = cold(&base).await;
    let site = untold(&base).await;
    site.weather.late(RECORD_TIME);

    let network: Vec<IpAddr> = (1..=50).map(|last| Ipv4Addr::new(127, 77, 0, last).into()).collect();
    let flood = Flood::pour(site.edge.dns.unwrap(), &network, forged::question).await;
    let mut answered = 0;
    // What comes too late for the first question is there for the second one.
    for _ in 0..2 {
        answered = 0;
        for stored in &cold {
            let name = format!("{}.evernear.example", stored.label);
            answered += usize::from(site.dig(&[&name, "TXT"]).await.contains("v=1 size=20000"));
        }
    }
    assert_eq!(answered, cold.len(), "beside {} questions of one network", flood.sent());
    assert!(site.counter("evernear_edge_dns_look_ups_turned_away_total").await > 0);
    drop(flood);
    site.stop().await;
    base.stop().await;
}

/// Publishes a policy that takes milliseconds to give no weights, so each question about its objects takes a run: of a
/// chain of eight links the last one fails.
async fn publish_slow(site: &Site, policy: &PolicyName) {
    let steers = |body: &str| {
        let wat = format!(
            r#"(module {MEMORY}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
                (func (export "evernear:policy/steer@1.0.0#steer") (param i32 i32) (result i32) (local $i i32)
                    {body}
                    i32.const 0))"#
        );
        component_of_world(&wat, "steer-only")
    };
    // Of the 100,000 instructions of a run most are slow ones; then one weight.
    let roots = "f64.sqrt ".repeat(100);
    let slow = steers(&format!(
        "i32.const 900 local.set $i
         loop f64.const 2 {roots} drop local.get $i i32.const 1 i32.sub local.tee $i br_if 0 end
         i32.const 0 i32.const 1 i32.store offset=8"
    ));
    let fails = steers("unreachable");
    publish_component(site, &fails, policy, 1, "").await;
    let last = manifest(site, &fails, policy, 1, "").links;
    publish_component(site, &slow, policy, 2, "").await;
    let of_slow = manifest(site, &slow, policy, 3, "");
    let links = [of_slow.links.repeat(7), last].concat();
    let chain = PolicyManifest { links, ..of_slow };
    let (node, owner) = (&site.nodes[0].name, site.owner.id());
    site.origins.put_policy(node, &owner, policy, chain.sign(&site.owner).into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owners_names_keep_no_other_owners_policy_from_weighing_edges() {
    const COUNTRIES: [&str; 16] =
        ["AT", "BG", "CH", "CZ", "DE", "DK", "ES", "FI", "FR", "GR", "HU", "IT", "NL", "NO", "PL", "SE"];
    let networks: Vec<String> = (0..COUNTRIES.len()).map(|at| format!("10.{at}.0.0/16")).collect();
    let places: Vec<PrefixPlace> = networks
        .iter()
        .zip(COUNTRIES)
        .map(|(network, country)| PrefixPlace {
            prefix: network.parse().unwrap(),
            country: country.parse().unwrap(),
            latitude: None,
            longitude: None,
        })
        .collect();
    let mut site = Site::with(|config| config.places.prefix.extend(places), vec![]).await;
    let policy: PolicyName = "steers".parse().unwrap();
    publish_slow(&site, &policy).await;
    let file = |bytes: &[u8]| bytes.to_vec();
    let slow = site.store_as("a.txt", "text/plain", file(b"slow"), Kind::File, &policy).await;
    // Of the other one a place from which nobody has asked yet.
    site.owner = OwnerSecret::from_bytes([8; 32]).keys();
    let config = "receive-deny = [\"US\"]\nhide-name = true\ndns-ttl = 17";
    publish_component(&site, GEO, &policy, 1, config).await;
    let other = site.store_as("b.txt", "text/plain", file(b"other"), Kind::File, &policy).await;
    let [slow, other] = [slow, other].map(|stored| format!("{}.evernear.example", stored.label));
    until("a run about the one", async || {
        site.dig(&[&slow, "A"]).await;
        site.counter("evernear_edge_policy_faults_total").await > 0
    })
    .await;
    let is_weighed =
        async |subnet: &str| site.dig(&[&other, "A", &format!("+subnet={subnet}")]).await.contains(" 17 IN A ");
    until("a run about the other", async || is_weighed("192.0.2.0/24").await).await;

    let question = move |number| flood::question(number, &slow);
    let flood = Flood::pour(site.edge.dns.unwrap(), &[Ipv4Addr::LOCALHOST.into()], question).await;
    let mut weighed = 0;
    // What comes too late for the first question is there for the second one.
    for _ in 0..2 {
        weighed = 0;
        for network in &networks {
            weighed += usize::from(is_weighed(network).await);
        }
    }
    assert_eq!(weighed, networks.len(), "beside {} questions about one owner's", flood.sent());
    assert!(site.counter("evernear_edge_dns_weighings_turned_away_total").await > 0);
    drop(flood);
    site.stop().await;
}
