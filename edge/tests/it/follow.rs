//! The edge in step with its cluster.

use std::time::Duration;

use format::PolicyName;

use crate::site::{Site, eventually, noise};

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_object_is_gone_within_two_seconds() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise(700_000, 1)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.body(), stored.bytes);
    let lease = site.lease(stored.sealed.locator, &PolicyName::default(), 2, true);
    site.put_lease(&lease).await;
    let took = eventually("the erasure", || async { site.get(&stored, "/", &[]).await.status() == 410 }).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let page = site.get(&stored, "/", &[]).await;
    assert!(String::from_utf8_lossy(page.body()).contains("410 Gone"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_ends_the_service() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    let mut lease = site.lease(stored.sealed.locator, &PolicyName::default(), 2, false);
    lease.retention.expires = 1;
    site.put_lease(&lease).await;
    eventually("the end", || async { site.get(&stored, "/", &[]).await.status() == 410 }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_is_on_the_list_of_nodes() {
    use client::Transport;
    let site = Site::start().await;
    eventually("the announcement", || async {
        let nodes = site.origins.nodes(&site.nodes[0].name).await.unwrap();
        nodes.iter().any(|node| {
            node.name.as_str() == "edge-bru" && node.public == ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
        })
    })
    .await;
    eventually("the edge is ready", || async { site.admin("/ready").await == "ready\n" }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_served_without_origins() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise(700_000, 1)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    site.weather.down();
    let again = site.get(&stored, "/", &[]).await;
    assert!(again.status() == 200 && again.body() == stored.bytes, "{}", again.head);
    // A change that cannot be looked up does not take away what is held; the erasure does.
    site.put_lease(&site.lease(stored.sealed.locator, &PolicyName::default(), 2, false)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    site.stop().await;
}
