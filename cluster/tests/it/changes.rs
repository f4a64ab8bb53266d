//! What the owner changes reaches every edge without a restart: the change feed tells it. Edges look a record up again
//! by themselves after five minutes, long after the deadlines here, so what they show before, they were told.

use std::time::Instant;

use twin::{NameChange, NameTerms, PolicySource, Selection, Stored, Tenure};

use crate::{load::DEADLINE, made::Made};

/// Begins a time in which edges are to be told of something.
fn begins(made: &Made) -> Instant {
    for link in &made.network.links {
        link.intercept().take_waited_out();
    }
    Instant::now()
}

/// Expects that the edge was told while its question for news waited, and did not find the news at the end of the wait.
fn was_told(made: &Made, edge: usize) {
    assert_eq!(made.network.links[edge].intercept().take_waited_out(), 0, "edge {edge} waited to the end for its news");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_and_an_erasure_reach_every_edge() {
    let made = Made::new().await;
    let publish = async |toml: &str| {
        let source = PolicySource::parse(toml, made.folder.path()).unwrap();
        made.network.twin.publish(&"places".parse().unwrap(), &source).await.unwrap();
    };
    publish("[[link]]\nuse = \"geo\"\nreceive-deny = [\"KP\"]\n").await;
    let tenure = Tenure { policy: "places".parse().unwrap(), ..made.network.tenure() };
    let stored = made.put_as(&made.file("letter.txt", b"a letter"), tenure).await;
    let (german, korean) = (["--interface", "127.10.0.1"], ["--interface", "127.40.0.1"]);
    for edge in 0..3 {
        made.until(edge, &stored, 200, &german).await;
        made.until(edge, &stored, 451, &korean).await;
    }
    // The next version reverses it. Edges that have answered by the previous version follow.
    publish("[[link]]\nuse = \"geo\"\nreceive-deny = [\"DE\"]\n").await;
    for edge in 0..3 {
        made.until(edge, &stored, 451, &german).await;
        made.until(edge, &stored, 200, &korean).await;
    }
    made.network.twin.remove(&stored.label.capability().locator()).await.unwrap();
    for edge in 0..3 {
        made.until(edge, &stored, 410, &korean).await;
    }
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_reaches_every_edge_and_takes_nothing_else() {
    let made = Made::new().await;
    let [purged, kept] = [("purged", 1), ("kept", 2)].map(|(name, byte)| made.file(name, &vec![byte; 300_000]));
    let (purged, kept) = (made.put(&purged).await, made.put(&kept).await);
    let status = async |edge, stored: &Stored| {
        let (answer, _) = made.get(edge, stored, "", &[]).await;
        let status = answer.header.lines().find_map(|line| line.strip_prefix("cache-status: ")).unwrap();
        status.split_once("; ").unwrap().1.to_owned()
    };
    for edge in 0..3 {
        for stored in [&purged, &kept] {
            assert_eq!(status(edge, stored).await, "fwd=uri-miss; stored");
            assert_eq!(status(edge, stored).await, "hit");
        }
    }
    let locator = purged.label.capability().locator();
    let ordered = begins(&made);
    made.network.twin.purge(Selection::Objects([locator].into()), true).await.unwrap();
    for edge in 0..3 {
        // Each edge is asked until a read is not a hit: that read stores the object in the cache again.
        while status(edge, &purged).await == "hit" {
            assert!(ordered.elapsed() < DEADLINE, "edge {edge} has not heard of the purge");
        }
        was_told(&made, edge);
        assert_eq!(status(edge, &kept).await, "hit");
    }
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_at_a_stable_name_changes_at_every_edge() {
    let made = Made::new().await;
    let site = made.folder.path().join("site");
    std::fs::create_dir_all(&site).unwrap();
    for round in 0..5 {
        let page = format!("<h1>version {round}</h1>");
        std::fs::write(site.join("index.html"), &page).unwrap();
        let stored = made.put(&site).await;
        let (twin, moved) = (&made.network.twin, begins(&made));
        let renamed = twin.point("site", &NameChange::Set(stored.label.clone()), NameTerms::default()).await.unwrap();
        assert_eq!((renamed.is_new, renamed.entry.tenure.version), (round == 0, round + 1));
        let named = Stored { label: renamed.label, ..stored };
        for edge in 0..3 {
            while made.get(edge, &named, "", &[]).await.1 != page.as_bytes() {
                assert!(moved.elapsed() < DEADLINE, "edge {edge} shows another page than {page}");
            }
            was_told(&made, edge);
        }
    }
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_walked_and_refused_where_it_has_no_name() {
    let made = Made::new().await;
    let site = made.folder.path().join("site");
    std::fs::create_dir_all(site.join("deep/er")).unwrap();
    std::fs::write(site.join("index.html"), "<h1>hello</h1>").unwrap();
    std::fs::write(site.join("deep/er/page.html"), "<p>deep</p>").unwrap();
    let stored = made.put(&site).await;
    for (path, status, content) in [
        ("", 200, "<h1>hello</h1>"),
        ("index.html", 200, "<h1>hello</h1>"),
        ("deep/er/page.html", 200, "<p>deep</p>"),
        ("deep/er/none.html", 404, ""),
        ("../secret", 404, ""),
    ] {
        let (answer, body) = made.get(1, &stored, path, &["--path-as-is"]).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 200 {
            assert_eq!(String::from_utf8_lossy(&body), content, "{path}");
        }
    }
    made.network.stop().await.unwrap();
}
