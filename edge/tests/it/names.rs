//! Stable names: what an edge serves under a label that never changes.

use std::time::{SystemTime, UNIX_EPOCH};

use client::Transport;
use format::{Kind, Label, Lease, PolicyName, Purge, Purged, StableName, wire::ChangeKind};
use testing::{Call, until};

use crate::site::{NAME_SECONDS, Site, Stored, secret};

fn name() -> StableName {
    StableName::derive(&secret(), "site").unwrap()
}

fn in_seconds(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    now.checked_add_signed(seconds).unwrap()
}

async fn page(site: &Site, text: &str) -> Stored {
    site.store("page.txt", "text/plain", text.as_bytes().to_vec()).await
}

fn host(name: &StableName) -> String {
    format!("{}.evernear.example", name.label())
}

async fn shown(site: &Site, name: &StableName) -> String {
    String::from_utf8(site.curl(&host(name), "/", &[]).await.body().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_at_a_name_changes_at_every_edge_and_is_kept_for_as_long_as_its_owner_says() {
    let site = Site::start().await;
    let others = [site.beside(|_| {}).await, site.beside(|_| {}).await, site.beside(|_| {}).await];
    let (edges, deaf) = ([&site, &others[0], &others[1]], &others[2]);
    let (first, name) = (page(&site, "first").await, name());
    site.point(&name, &first, in_seconds(1000), 1).await;
    for edge in edges {
        let answer = edge.curl(&host(&name), "/", &[]).await;
        assert_eq!((answer.status(), answer.body()), (200, &b"first"[..]));
        let control = answer.field("cache-control").unwrap();
        assert!(control.contains(&format!("max-age={NAME_SECONDS}")) && !control.contains("immutable"), "{control}");
        // An older object may come back under the name, so only the tag says what has changed.
        assert_eq!(answer.field("last-modified"), None);
        let own = edge.get(&first, "/", &[]).await;
        assert_eq!(answer.field("etag"), own.field("etag"));
        assert!(own.field("cache-control").unwrap().contains("immutable") && own.field("last-modified").is_some());
        let dig = edge.dig(&[&host(&name), "A", "+noall", "+answer"]).await;
        assert!(dig.contains(&format!(" {NAME_SECONDS} IN ")), "{dig}");
    }
    let tag = site.get(&first, "/", &[]).await.field("etag").unwrap().to_owned();
    let unchanged = ["-H", &format!("if-none-match: {tag}")];
    assert_eq!(site.curl(&host(&name), "/", &unchanged).await.status(), 304);

    // A fourth edge hears no news. The object is news that ends the question which it has under way.
    assert_eq!(shown(deaf, &name).await, "first");
    deaf.weather.without(Call::Changes);
    let second = page(&site, "second").await;
    until("it asks in vain", || async { deaf.counter("evernear_edge_change_faults_total").await > 0 }).await;
    site.point(&name, &second, in_seconds(1000), 2).await;
    until("the change at all edges", || async {
        for edge in edges {
            if shown(edge, &name).await != "second" {
                return false;
            }
        }
        true
    })
    .await;
    assert_eq!(shown(deaf, &name).await, "first", "nothing but the feed tells of a change");
    deaf.weather.fair();
    until("the change at the last edge", || async { shown(deaf, &name).await == "second" }).await;
    assert_eq!(site.curl(&host(&name), "/", &unchanged).await.status(), 200);
    let since = ["-H", "if-modified-since: Fri, 01 Jan 2100 00:00:00 GMT"];
    assert_eq!(site.curl(&host(&name), "/", &since).await.status(), 200);
    for other in others {
        other.stop().await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_at_a_name_is_walked_and_what_lies_in_it_is_as_short_lived() {
    let site = Site::start().await;
    let (index, name) = (site.store("index.html", "text/html", b"<p>hello".to_vec()).await, name());
    let folder = site.store_directory(&[("index.html", &index, Kind::File), ("a.html", &index, Kind::File)]).await;
    site.point(&name, &folder, in_seconds(1000), 1).await;
    for path in ["/", "/a.html"] {
        let answer = site.curl(&host(&name), path, &[]).await;
        assert_eq!((answer.status(), answer.body()), (200, &b"<p>hello"[..]), "{path}");
        let control = answer.field("cache-control").unwrap();
        assert!(control.contains(&format!("max-age={NAME_SECONDS}")) && !control.contains("immutable"), "{control}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_past_its_end_is_followed_by_no_edge_until_it_is_renewed() {
    let site = Site::start().await;
    let (first, name) = (page(&site, "first").await, name());
    site.point(&name, &first, in_seconds(-1), 1).await;
    let ended = site.curl(&host(&name), "/", &[]).await;
    assert_eq!(ended.status(), 503);
    assert!(String::from_utf8_lossy(ended.body()).contains("renew the name"), "{}", ended.head);
    // The name exists: whoever comes is told why.
    assert!(site.dig(&[&host(&name), "A"]).await.contains("status: NOERROR"));
    assert_eq!(site.get(&first, "/", &[]).await.status(), 200, "the object itself has no end");
    site.point(&name, &first, in_seconds(20), 2).await;
    until("the renewal", || async { shown(&site, &name).await == "first" }).await;
    let control = site.curl(&host(&name), "/", &[]).await.field("cache-control").unwrap().to_owned();
    let seconds: u32 = control.split("max-age=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(seconds <= 20, "nobody keeps it past the end: {control}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_pointer_that_a_node_gives_again_changes_nothing() {
    let site = Site::start().await;
    let (first, second, name) = (page(&site, "first").await, page(&site, "second").await, name());
    let old = site.point(&name, &first, in_seconds(1000), 1).await;
    site.point(&name, &second, in_seconds(1000), 2).await;
    assert_eq!(shown(&site, &name).await, "second");
    // At an edge that never heard of the name, each node in turn is the one that gives the old record first.
    for liar in &site.nodes {
        let cold = site.beside(|_| {}).await;
        cold.weather.replay(std::slice::from_ref(liar), &old);
        assert_eq!(shown(&cold, &name).await, "second", "{}", liar.name);
        cold.stop().await;
    }
    // An edge that saw the new one does not go back, whatever all nodes say; and what it was told of, it goes on
    // looking for.
    let third = page(&site, "third").await;
    site.weather.replay(&site.nodes, &old);
    let before = site.weather.look_ups();
    site.point(&name, &third, in_seconds(1000), 3).await;
    until("all nodes were asked twice", || async {
        assert_eq!(shown(&site, &name).await, "second");
        site.weather.look_ups() >= before + 2 * site.nodes.len() as u64
    })
    .await;
    site.weather.fair();
    until("the change", || async { shown(&site, &name).await == "third" }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_its_owner_ends_is_gone_and_its_object_stays() {
    let site = Site::start().await;
    let (first, name) = (page(&site, "first").await, name());
    let record = site.point(&name, &first, in_seconds(1000), 1).await;
    assert_eq!(shown(&site, &name).await, "first");
    site.put_lease(&Lease { version: 2, erased: true, ..record.lease }).await;
    until("the end", || async { site.curl(&host(&name), "/", &[]).await.status() == 410 }).await;
    assert_eq!(site.get(&first, "/", &[]).await.status(), 200);
    // And a name whose object is gone says so.
    let other = StableName::derive(&secret(), "other").unwrap();
    site.point(&other, &first, in_seconds(1000), 1).await;
    assert_eq!(shown(&site, &other).await, "first");
    site.put_lease(&site.lease(&first.sealed, &PolicyName::default(), 2, true)).await;
    until("the erasure", || async { site.curl(&host(&other), "/", &[]).await.status() == 410 }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_saw_of_a_name_outlives_a_feed_that_begins_anew() {
    let site = Site::start().await;
    let (first, second, name) = (page(&site, "first").await, page(&site, "second").await, name());
    let old = site.point(&name, &first, in_seconds(1000), 1).await;
    site.point(&name, &second, in_seconds(1000), 2).await;
    assert_eq!(shown(&site, &name).await, "second");
    site.weather.replay(&site.nodes, &old);
    site.origins.restart_feed(&site.nodes[0].name);
    // What the edge holds is doubted, and the nodes have nothing that is as new.
    let looked_up = site.weather.look_ups();
    until("the edge asks them again and again", || async {
        assert_eq!(shown(&site, &name).await, "second");
        site.weather.look_ups() > looked_up + 12
    })
    .await;
    site.weather.fair();
    assert_eq!(shown(&site, &name).await, "second");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_longer_held_goes_back_to_no_older_pointer() {
    let site = Site::start().await;
    let (first, second, name) = (page(&site, "first").await, page(&site, "second").await, name());
    let old = site.point(&name, &first, in_seconds(1000), 1).await;
    site.point(&name, &second, in_seconds(1000), 2).await;
    for is_purged in [false, true] {
        assert_eq!(shown(&site, &name).await, "second");
        site.weather.replay(&site.nodes, &old);
        if is_purged {
            let what = Purged::Objects([name.locator()].into());
            let purge = Purge { owner: site.owner.id(), issued: in_seconds(0), hard: true, what }.sign(&site.owner);
            site.origins.purge(&site.nodes[0].name, purge.into()).await.unwrap();
        } else {
            // An end that nobody signed is told with other news.
            site.weather.make_up(vec![ChangeKind::Erased { locator: name.locator() }]);
            page(&site, "news").await;
        }
        until("it is held no more", || async {
            let answer = site.curl(&host(&name), "/", &[]).await;
            assert_ne!(answer.body(), b"first");
            answer.status() == 503
        })
        .await;
        for _ in 0..10 {
            assert_eq!(site.curl(&host(&name), "/", &[]).await.status(), 503);
        }
        site.weather.fair();
        until("what the nodes have", || async { shown(&site, &name).await == "second" }).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_with_another_mode_is_one_that_nobody_knows_and_costs_the_nodes_one_look_up() {
    let site = Site::with(|config| config.cache.unknown_seconds = 60, vec![]).await;
    let (first, name) = (page(&site, "first").await, name());
    site.point(&name, &first, in_seconds(1000), 1).await;
    let object: Label = first.label.parse().unwrap();
    for wrong in [Label::name(object.capability().clone()), Label::open(name.label().capability().clone())] {
        let host = format!("{wrong}.evernear.example");
        let before = site.weather.look_ups();
        assert_eq!(site.curl(&host, "/", &[]).await.status(), 404);
        assert!(site.weather.look_ups() > before);
        // News of what was filed here may come in between, and has it asked for anew.
        until("it is remembered", || async {
            let asked = site.weather.look_ups();
            assert_eq!(site.curl(&host, "/", &[]).await.status(), 404);
            site.weather.look_ups() == asked
        })
        .await;
    }
    // And it spoils the right ones for nobody.
    assert_eq!((shown(&site, &name).await, site.get(&first, "/", &[]).await.status()), ("first".to_owned(), 200));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_under_a_name_is_kept_by_nobody() {
    let site = Site::start().await;
    let (first, name) = (page(&site, "first").await, name());
    site.point(&name, &first, in_seconds(1000), 1).await;
    assert_eq!(shown(&site, &name).await, "first");
    site.put_lease(&site.lease(&first.sealed, &PolicyName::default(), 2, true)).await;
    until("the erasure", || async { site.curl(&host(&name), "/", &[]).await.status() == 410 }).await;
    // Under the object's own label that is final.
    assert!(site.get(&first, "/", &[]).await.field("cache-control").unwrap().contains("max-age=300"));
    assert_eq!(site.curl(&host(&name), "/", &[]).await.field("cache-control"), Some("no-store"));
    site.stop().await;
}
