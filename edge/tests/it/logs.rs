//! What the libraries of the doors would log, and what [`edge::may_log`] leaves of it. Workers have threads of their
//! own, so all of the process is heard: nextest gives each test one.

use format::{Kind, PolicyName};
use http::Method;
use testing::{Heard, noise_of, until};
use tracing_subscriber::{Layer, Registry, filter::filter_fn, fmt, layer::SubscriberExt};

use crate::{
    guest::{MEMORY, component_of_world},
    http3::viewer,
    https::{host, start},
    policy::publish_component,
    site::Site,
};

/// What the access log says of the last answer.
fn last_locator(log: &Heard) -> Option<String> {
    let text = log.text();
    let line = text.lines().rfind(|line| line.contains(" access: "))?;
    line.split_once("locator=\"").map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_locator_of_the_file_whether_the_answer_was_made_or_ready() {
    let log = Heard::default();
    let writer = log.clone();
    let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let access = layer.with_filter(filter_fn(|metadata| metadata.target() == "access"));
    tracing::subscriber::set_global_default(Registry::default().with(access)).expect("a process of its own");

    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let below = site.store_directory(&[("a.txt", &file, Kind::File)]).await;
    let mut seen = [false; 2];
    until("an answer that was made and one that was ready", async || {
        let answers = log.text().lines().count();
        let answer = site.get(&below, "/a.txt", &[]).await;
        until("the line", async || log.text().lines().count() > answers).await;
        assert_eq!(last_locator(&log), Some(file.sealed.locator.to_string()), "{}", answer.head);
        seen[usize::from(answer.field("server-timing").is_none())] = true;
        seen == [true; 2]
    })
    .await;
    // Of a listing, and of what is not there, it is that of the directory.
    for path in ["/", "/b.txt"] {
        let answers = log.text().lines().count();
        site.get(&below, path, &[]).await;
        until("the line", async || log.text().lines().count() > answers).await;
        assert_eq!(last_locator(&log), Some(below.sealed.locator.to_string()), "{path}");
    }
    site.stop().await;
}

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

#[tokio::test(flavor = "multi_thread")]
async fn no_policy_of_an_owner_runs_on_a_worker() {
    let log = Heard::default();
    let writer = log.clone();
    let layer = fmt::layer().with_ansi(false).with_thread_names(true).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(Registry::default().with(layer)).expect("a process of its own");

    let site = Site::start().await;
    let wat = format!(
        r#"(module {MEMORY}
            (func (export "evernear:policy/serve@1.0.0#serve") (result i32) SERVE)
            (func (export "evernear:policy/hold@1.0.0#hold") (result i32) unreachable))"#
    );
    for (serve, status, says) in
        [("unreachable", 503, "gave no verdict"), ("i32.const 512", 200, "did not say what may be kept")]
    {
        let name: PolicyName = format!("p-{status}").parse().unwrap();
        let component = component_of_world(&wat.replace("SERVE", serve), "serve-hold");
        publish_component(&site, &component, &name, 1, "").await;
        let stored = site.store_as("a.bin", "video/mp4", noise_of(status.into(), 300_000), Kind::File, &name).await;
        assert_eq!(site.get(&stored, "/", &[]).await.status(), status);
        let text = log.text();
        let line = text.lines().find(|line| line.contains(says)).unwrap_or_else(|| panic!("{says}: {text}"));
        assert!(!line.contains(" worker-"), "{line}");
    }
    assert!(log.text().lines().any(|line| line.contains(" worker-") && line.contains("access")), "workers have names");
    site.stop().await;
}
