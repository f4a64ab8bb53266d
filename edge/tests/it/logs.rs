//! What the libraries of the doors would log, and what [`edge::may_log`] leaves of it. Workers have threads of their
//! own, so all of the process is heard: nextest gives each test one.

use http::Method;
use testing::{Heard, noise_of};
use tracing_subscriber::{Layer, Registry, filter::filter_fn, fmt, layer::SubscriberExt};

use crate::{
    http3::viewer,
    https::{host, start},
};

#[tokio::test]
async fn libraries_of_the_doors_log_neither_labels_nor_where_viewers_come_from() {
    let (allowed, all) = (Heard::default(), Heard::default());
    let writers = (allowed.clone(), all.clone());
    let filtered = fmt::layer().with_ansi(false).with_writer(move || writers.0.clone());
    let logs = Registry::default()
        .with(filtered.with_filter(filter_fn(edge::may_log)))
        .with(fmt::layer().with_ansi(false).with_writer(move || writers.1.clone()));
    tracing::subscriber::set_global_default(logs).expect("each test has a process of its own");

    let (_dir, https, site) = start(false).await;
    let stored = site.store("clip.mp4", "video/mp4", noise_of(3, 600_000)).await;
    for version in ["--http1.1", "--http2"] {
        site.curl_secure(&host(&stored), "/clip.mp4?token=abcdefgh", &["-k", version]).await;
    }
    site.dig(&[&host(&stored), "A", "+subnet=198.51.100.77/32"]).await;
    let viewer = viewer(&https, &site, &stored).await;
    let (from, then) = (viewer.address().to_string(), "127.40.0.9");
    assert!(viewer.ask(Method::GET, "/clip.mp4", &[]).await.body == stored.bytes);
    viewer.move_to(format!("{then}:0").parse().unwrap());
    assert!(viewer.ask(Method::GET, "/clip.mp4", &[]).await.body == stored.bytes);
    drop(viewer);
    site.stop().await;

    let (allowed, all) = (allowed.text().to_lowercase(), all.text().to_lowercase());
    for secret in [stored.label.as_str(), then, &from, "token=abcdefgh", "198.51.100.77"] {
        let line = allowed.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    for said in [stored.label.as_str(), then] {
        assert!(all.contains(said), "without the filter they do: {said}");
    }
    assert!(allowed.contains("viewer=127.40.0.0"), "of an address the network may be logged");
}
