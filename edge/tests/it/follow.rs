//! The edge in step with its cluster.

use client::Transport;
use edge::Config;
use format::{PolicyName, Record, wire::ChangeKind};
use testing::{Call, node, noise_of, until};

use crate::site::{Site, Stored};

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_object_is_gone_once_the_feed_tells() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.body(), stored.bytes);
    let lease = site.lease(&stored.sealed, &PolicyName::default(), 2, true);
    site.put_lease(&lease).await;
    until("the erasure", || async { site.get(&stored, "/", &[]).await.status() == 410 }).await;
    let page = site.get(&stored, "/", &[]).await;
    assert!(String::from_utf8_lossy(page.body()).contains("410 Gone"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_ends_the_service() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    let mut lease = site.lease(&stored.sealed, &PolicyName::default(), 2, false);
    lease.retention.expires = 1;
    site.put_lease(&lease).await;
    until("the end", || async { site.get(&stored, "/", &[]).await.status() == 410 }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_is_on_the_list_of_nodes() {
    let site = Site::start().await;
    until("the announcement", || async {
        let nodes = site.origins.nodes(&site.nodes[0].name).await.unwrap();
        nodes.iter().any(|node| {
            node.name.as_str() == "edge-bru" && node.public == ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
        })
    })
    .await;
    until("the edge is ready", || async { site.admin("/ready").await == "ready\n" }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_served_without_origins() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    site.weather.down();
    let again = site.get(&stored, "/", &[]).await;
    assert!(again.status() == 200 && again.body() == stored.bytes, "{}", again.head);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_looked_up_leaves_what_is_held_and_an_erasure_takes_it_away() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    site.weather.without(Call::Record);
    let renew = async |version, erased| {
        site.put_lease(&site.lease(&stored.sealed, &PolicyName::default(), version, erased)).await;
    };
    let before = site.weather.look_ups();
    renew(2, false).await;
    // The change is looked up at once, and again with each read as long as that fails.
    until("all origins were asked several times", || async {
        let again = site.get(&stored, "/", &[]).await;
        assert!(again.status() == 200 && again.body() == stored.bytes, "{}", again.head);
        site.weather.look_ups() >= before + 20
    })
    .await;
    renew(3, true).await;
    until("nobody is served", || async { site.get(&stored, "/", &[]).await.status() == 503 }).await;
    site.weather.fair();
    until("the erasure", || async { site.get(&stored, "/", &[]).await.status() == 410 }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_no_owner_signed_ends_nothing() {
    let site = Site::start().await;
    let [held, cold] = [1, 2].map(|seed| noise_of(seed, 700_000));
    let held = site.store("held.bin", "application/octet-stream", held).await;
    let cold = site.store("cold.bin", "application/octet-stream", cold).await;
    assert_eq!(site.get(&held, "/", &[]).await.status(), 200);
    let erased = [&held, &cold].map(|it| ChangeKind::Erased { locator: it.sealed.capability.locator() });
    site.weather.make_up(erased.into());
    let looked_up = site.weather.look_ups();
    site.store("news.txt", "text/plain", b"news".to_vec()).await;
    until("the lie is told", async || site.weather.has_told()).await;
    until("what was held is looked up again", async || {
        let again = site.get(&held, "/", &[]).await;
        assert!(again.status() == 200 && again.body() == held.bytes, "{}", again.head);
        site.weather.look_ups() > looked_up
    })
    .await;
    let first = site.get(&cold, "/", &[]).await;
    assert!(first.status() == 200 && first.body() == cold.bytes, "{}", first.head);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_counts_though_all_nodes_but_one_still_give_the_record() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    let living = site.origins.record(&site.nodes[0].name, &stored.sealed.capability.locator()).await.unwrap();
    site.weather.replay(&site.nodes[..5], &Record::decode(&living.unwrap()).unwrap());
    site.put_lease(&site.lease(&stored.sealed, &PolicyName::default(), 2, true)).await;
    until("the erasure", || async { site.get(&stored, "/", &[]).await.status() == 410 }).await;
    for _ in 0..20 {
        assert_eq!(site.get(&stored, "/", &[]).await.status(), 410);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_begins_anew_has_everything_looked_up_again() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    assert_eq!(site.get(&stored, "/", &[]).await.field("cache-status").unwrap().split_once("; ").unwrap().1, "hit");
    let looked_up = site.weather.look_ups();
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    assert_eq!(site.weather.look_ups(), looked_up, "what is open is not looked up for each viewer");
    // The catalog was restored: what the feed told before is in it no more.
    site.origins.restart_feed(&site.nodes[0].name);
    until("the object is looked up again", async || {
        let again = site.get(&stored, "/", &[]).await;
        assert!(again.status() == 200 && again.body() == stored.bytes, "{}", again.head);
        site.weather.look_ups() > looked_up
    })
    .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_begins_anew_again_and_again_takes_nothing_away_while_no_node_can_be_asked() {
    let site = Site::start().await;
    let [kept, erased] = [1, 2].map(|seed| noise_of(seed, 100_000));
    let kept = site.store("kept.bin", "application/octet-stream", kept).await;
    let erased = site.store("erased.bin", "application/octet-stream", erased).await;
    let is_served = async |stored: &Stored| {
        let answer = site.get(stored, "/", &[]).await;
        assert!(answer.status() == 200 && answer.body() == stored.bytes, "{}", answer.head);
    };
    // Twice each, so that their answers are ready.
    for stored in [&kept, &erased, &kept, &erased] {
        is_served(stored).await;
    }
    site.weather.without(Call::Record);
    for _ in 0..2 {
        let looked_up = site.weather.look_ups();
        site.origins.restart_feed(&site.nodes[0].name);
        until("the edge doubts what it has", async || {
            is_served(&kept).await;
            is_served(&erased).await;
            site.weather.look_ups() > looked_up
        })
        .await;
    }
    // The feed does not tell of this one.
    site.put_lease(&site.lease(&erased.sealed, &PolicyName::default(), 2, true)).await;
    site.origins.restart_feed(&site.nodes[0].name);
    site.weather.fair();
    until("the erasure", async || site.get(&erased, "/", &[]).await.status() == 410).await;
    let looked_up = site.weather.look_ups();
    until("what was doubted is looked up", async || {
        is_served(&kept).await;
        site.weather.look_ups() > looked_up
    })
    .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_starts_while_its_seeds_are_away_asks_the_origins_that_it_knew() {
    let folder = tempfile::tempdir().unwrap();
    let remembers = |config: &mut Config| config.state_dir = Some(folder.path().join("state"));
    let site = Site::with(remembers, vec![]).await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    until("the list is kept", async || folder.path().join("state/nodes.json").exists()).await;
    // A seed that nobody is: all that this edge is told by its configuration.
    let gone = vec![node("gone", site.nodes[0].place.clone())];
    let is_alone = |config: &mut Config| {
        config.seeds.truncate(1);
        config.seeds[0].name = gone[0].name.clone();
    };
    let deaf = Site::over(site.origins.clone(), gone.clone(), is_alone).await.unwrap();
    assert_eq!(deaf.get(&stored, "/", &[]).await.status(), 503);
    let both = |config: &mut Config| {
        is_alone(config);
        remembers(config);
    };
    let again = Site::over(site.origins.clone(), gone.clone(), both).await.unwrap();
    let answer = again.get(&stored, "/", &[]).await;
    assert!(answer.status() == 200 && answer.body() == stored.bytes, "{}", answer.head);
    until("it is ready", async || again.admin("/ready").await == "ready\n").await;
    for edge in [deaf, again, site] {
        edge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_whose_known_nodes_are_all_gone_turns_to_its_seeds_again() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 700_000)).await;
    // Whoever told of the nodes told of none that answers.
    let gone = vec![node("gone", site.nodes[0].place.clone())];
    let misled = Site::over(site.origins.clone(), gone, |_| {}).await.unwrap();
    until("the seeds tell", async || misled.get(&stored, "/", &[]).await.status() == 200).await;
    misled.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_after_it_was_asked_for_is_served_once_the_feed_tells() {
    let elsewhere = Site::start().await;
    let site = Site::with(|config| config.cache.unknown_seconds = 60, vec![]).await;
    let bytes = b"hello".to_vec();
    let stored = elsewhere.store("a.txt", "text/plain", bytes.clone()).await;
    let name = format!("{}.evernear.example", stored.label);
    let dig = async || site.dig(&[&name, "A"]).await;
    until("it is remembered that nobody knows it", async || {
        let before = site.weather.look_ups();
        assert_eq!(site.get(&stored, "/", &[]).await.status(), 404);
        site.weather.look_ups() == before
    })
    .await;
    assert!(dig().await.contains("status: NXDOMAIN"));
    assert_eq!(site.store("a.txt", "text/plain", bytes).await.label, stored.label);
    // A minute has not passed.
    until("it is there", async || site.get(&stored, "/", &[]).await.status() == 200).await;
    until("its name is there", async || dig().await.contains("status: NOERROR")).await;
    site.stop().await;
    elsewhere.stop().await;
}
