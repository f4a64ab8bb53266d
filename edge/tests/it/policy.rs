//! Owners' policies at the edge: published at the origins, taken up from the feed, and closed while they cannot be had.

use std::sync::Arc;

use client::Transport;
use format::{BlobId, Kind, PolicyLink, PolicyManifest, PolicyName};
use testing::{MemoryTransport, noise_of, until};

use crate::{
    http::raw,
    log,
    site::{Site, other_edge},
};

pub(crate) const GEO: &[u8] = include_bytes!("../../../policies/prebuilt/geo.wasm");
pub(crate) const TTL: &[u8] = include_bytes!("../../../policies/prebuilt/ttl.wasm");

async fn publish(site: &Site, name: &PolicyName, sequence: u64, config: &str) {
    publish_component(site, GEO, name, sequence, config).await;
}

pub(crate) fn manifest(
    site: &Site,
    component: &[u8],
    name: &PolicyName,
    sequence: u64,
    config: &str,
) -> PolicyManifest {
    let link = PolicyLink {
        component: BlobId::of(component),
        component_bytes: component.len().try_into().unwrap(),
        config: BlobId::of(config.as_bytes()),
        config_bytes: config.len().try_into().unwrap(),
    };
    PolicyManifest {
        owner: site.owner.id(),
        name: name.clone(),
        sequence,
        links: vec![link],
        not_before: 0,
        expires: 0,
        parent: None,
        unknown: Default::default(),
    }
}

pub(crate) async fn publish_component(site: &Site, component: &[u8], name: &PolicyName, sequence: u64, config: &str) {
    let node = &site.nodes[0].name;
    for blob in [component, config.as_bytes()] {
        site.origins.put_blob(node, &BlobId::of(blob), blob.to_vec().into()).await.unwrap();
    }
    let manifest = manifest(site, component, name, sequence, config);
    let envelope = manifest.sign(&site.owner);
    site.origins.put_policy(node, &site.owner.id(), name, envelope.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_country_gets_451_and_a_new_version_opens_once_the_feed_tells() {
    let site = Site::start().await;
    let name: PolicyName = "only-japan".parse().unwrap();
    publish(&site, &name, 1, "receive-allow = [\"JP\"]\nttl = 120").await;
    let stored = site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    let refused = site.get(&stored, "/", &["-H", "accept: application/json"]).await;
    assert_eq!(refused.status(), 451, "{}", refused.head);
    assert!(
        refused.body().starts_with(b"{") && refused.field("cache-control").unwrap().starts_with("private"),
        "{}",
        refused.head
    );

    publish(&site, &name, 2, "receive-allow = [\"JP\", \"BE\"]\nttl = 120").await;
    until("the new version", || async { site.get(&stored, "/", &[]).await.status() == 200 }).await;
    let served = site.get(&stored, "/", &[]).await;
    assert_eq!(served.field("cache-control"), Some("private, max-age=120"), "it hung on who asks");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_says_where_the_viewer_is_and_nobody_else_is_believed() {
    let site = Site::with(|config| config.http.balancers = vec!["127.0.0.0/8".parse().unwrap()], vec![]).await;
    let name: PolicyName = "only-japan".parse().unwrap();
    publish(&site, &name, 1, "receive-allow = [\"JP\"]").await;
    let stored = site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}.evernear.example\r\nConnection: close\r\n\r\n", stored.label);
    let line = |viewer: &str| format!("PROXY TCP4 {viewer} 127.0.0.1 5000 80\r\n").into_bytes();
    let binary = |viewer: [u8; 4]| {
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &viewer, &[127, 0, 0, 1, 0x13, 0x88, 0, 80]].concat()
    };
    for (header, status) in [
        (line("198.51.100.9"), "200"),
        (line("203.0.113.9"), "451"),
        (binary([198, 51, 100, 9]), "200"),
        (binary([203, 0, 113, 9]), "451"),
    ] {
        let answer = raw(&site, &[&header, ask.as_bytes()].concat()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    assert_eq!(raw(&site, ask.as_bytes()).await, "", "a balancer that names nobody");
    let curl = site.get(&stored, "/", &["--haproxy-protocol"]).await;
    assert_eq!(curl.status(), 451, "curl names itself, which is in Belgium");
    site.stop().await;

    let site = Site::start().await;
    assert!(raw(&site, &[&line("198.51.100.9"), ask.as_bytes()].concat()).await.starts_with("HTTP/1.1 400"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_policy_closes_and_opens_once_it_is_there() {
    let site = Site::start().await;
    let name: PolicyName = "to-come".parse().unwrap();
    let stored = site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    let closed = site.get(&stored, "/", &[]).await;
    assert_eq!((closed.status(), closed.field("retry-after")), (503, Some("2")));
    publish(&site, &name, 1, "").await;
    until("the opening", || async { site.get(&stored, "/", &[]).await.status() == 200 }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_does_not_fit_closes_and_the_log_names_owner_policy_link_and_key() {
    log::listen();
    let site = Site::start().await;
    for (at, (config, cause)) in (1..).zip([
        ("recieve-allow = [\"BE\"]", "link 1 is not what its component takes: recieve-allow is none of"),
        ("receive-allow = \"BE\"", "link 1 cannot be used: receive-allow is a text"),
        ("ttl = \"1h\"", "link 1 is not what its component takes: ttl is a text"),
    ]) {
        let name: PolicyName = format!("does-not-fit-{at}").parse().unwrap();
        publish(&site, &name, 1, config).await;
        let stored = site.store_as("a.txt", "text/plain", noise_of(at, 100), Kind::File, &name).await;
        let closed = site.get(&stored, "/", &[]).await;
        assert_eq!((closed.status(), closed.field("retry-after")), (503, Some("2")), "{config}");
        let (owner, policy) = (format!("owner={}", site.owner.id()), format!("policy={name}"));
        let line = log::lines().into_iter().find(|line| line.contains(&policy)).unwrap();
        assert!([&owner, cause, "policy cannot be had"].iter().all(|part| line.contains(*part)), "{line}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_whose_configuration_does_not_fit_leaves_the_old_one_in_force() {
    log::listen();
    let site = Site::start().await;
    let name: PolicyName = "was-good-before".parse().unwrap();
    publish(&site, &name, 1, "receive-allow = [\"JP\"]").await;
    let stored = site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 451);
    publish(&site, &name, 2, "recieve-allow = [\"JP\"]").await;
    let is_refused =
        |line: &String| line.contains("policy=was-good-before") && line.contains("new policy version not taken up");
    until("the refusal", || async { log::lines().iter().any(is_refused) }).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 451);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_declares_no_keys_and_finds_another_type_serves_nobody() {
    log::listen();
    let site = Site::start().await;
    let name: PolicyName = "undeclared".parse().unwrap();
    // Under another name the section is none of ours, as in a component that was built without it.
    let mut component = GEO.to_vec();
    let section = b"evernear:config";
    let at = component.windows(section.len()).position(|bytes| bytes == section).unwrap();
    component[at] = b'E';
    publish_component(&site, &component, &name, 1, "receive-allow = [\"BE\"]\nttl = \"1h\"").await;
    let stored = site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 503);
    let line = log::lines().into_iter().find(|line| line.contains("policy=undeclared")).unwrap();
    let owner = format!("owner={}", site.owner.id());
    for part in
        [&owner, "link=1", "policy asked in serve for ttl as a whole number, but its configuration has a text there"]
    {
        assert!(line.contains(part), "{line}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_names_only_edges_that_may_hold_and_hides_names_on_request() {
    let others = vec![other_edge("edge-tyo", "JP", 35.7, 139.7, "127.0.0.2")];
    let site = Site::with(|_| {}, others).await;
    let name: PolicyName = "stays-home".parse().unwrap();
    publish(&site, &name, 1, "hold-allow = [\"eu\"]\nreceive-deny = [\"US\"]\nhide-name = true\ndns-ttl = 17").await;
    let stored = site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    let asked = format!("{}.evernear.example", stored.label);
    // A resolver is answered on a guess where the policy takes long to come.
    until("an answer by the policy", async || {
        site.dig(&[&asked, "A", "+subnet=198.51.100.0/24", "+short"]).await.trim() == "127.0.0.1"
    })
    .await;
    let ttl = site.dig(&[&asked, "A", "+subnet=198.51.100.0/24", "+noall", "+answer"]).await;
    assert!(ttl.contains(" 17 IN A "), "{ttl}");
    let from_america = site.dig(&[&asked, "A", "+subnet=203.0.113.0/24"]).await;
    assert!(
        from_america.contains("status: NXDOMAIN") && from_america.contains("CLIENT-SUBNET: 203.0.113.0/24/24"),
        "{from_america}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_held_is_served_whole_and_leaves_the_cache() {
    let site = Site::start().await;
    let name: PolicyName = "not-here".parse().unwrap();
    let bytes = noise_of(1, 3_000_000);
    publish_component(&site, TTL, &name, 1, "ttl = 600").await;
    let stored = site.store_as("a.bin", "video/mp4", bytes.clone(), Kind::File, &name).await;
    for hit in ["fwd=uri-miss; stored", "hit"] {
        let got = site.get(&stored, "/", &[]).await;
        assert!(got.body() == bytes && got.field("cache-status").unwrap().ends_with(hit), "{}", got.head);
    }

    publish_component(&site, TTL, &name, 2, "ttl = 0").await;
    let now = || async { site.get(&stored, "/", &[]).await.field("cache-control") == Some("no-store") };
    until("the new version", now).await;
    // What the version before let in was taken out by the first answer; the origins are asked each time from here on.
    for range in ["0-", "1000000-1999999", "2999999-"] {
        let part = site.get(&stored, "/", &["-r", range]).await;
        let (from, to) = range.split_once('-').unwrap();
        let to = if to.is_empty() { bytes.len() - 1 } else { to.parse().unwrap() };
        assert!(part.body() == &bytes[from.parse().unwrap()..=to], "{range}");
        assert_eq!(part.field("cache-status"), Some("\"edge-bru\"; fwd=uri-miss"), "{range}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_a_path_holds_however_the_path_is_written() {
    let site = Site::start().await;
    let name: PolicyName = "by-path".parse().unwrap();
    let rule = |glob| format!("[[paths]]\nglob = \"{glob}\"\nnumber = 0\n");
    let rules = ["/private/**", "/größe;1/**", "/b%c3%a4d/x*"].map(rule).concat();
    publish_component(&site, TTL, &name, 1, &format!("ttl = 600\n{rules}")).await;
    let file = site.store_as("x.png", "image/png", noise_of(3, 1000), Kind::File, &name).await;
    let folder = site.store_directory(&[("x y@.png", &file, Kind::File)]).await;
    let below = ["private", "größe;1", "bäd", "open"].map(|name| (name, &folder, Kind::Directory));
    let root = site.store_directory_as(&below, &name).await;
    let ask = async |path: &str| {
        let told = site.get(&root, path, &[]).await;
        (told.status(), told.field("cache-control").unwrap_or("").to_owned())
    };
    let kept = "public, max-age=600, stale-while-revalidate=60, stale-if-error=86400".to_owned();
    for path in ["/open/x%20y%40.png", "/%6fpen/x%20y@.png"] {
        assert_eq!(ask(path).await, (200, kept.clone()), "{path}");
    }
    for path in [
        "/private/x%20y%40.png",
        "/%70rivate/x%20y%40.png",
        "/%70%72%69%76%61%74%65/%78%20%79@%2epng",
        "/private/x%20y@%2Epng?private=no",
        "/gr%C3%B6%C3%9Fe;1/x%20y%40.png",
        "/gr%c3%b6%C3%9fe%3B1/x%20y%40.png",
        "/größe%3b1/x%20y%40.png",
        "/b%C3%A4d/x%20y%40.png",
        "/b%C3%A4d/%78%20y@.png",
    ] {
        assert_eq!(ask(path).await, (200, "no-store".to_owned()), "{path}");
    }
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..40 {
        let letter = |byte: u8| match random.u8(0..3) {
            0 if byte != b' ' => char::from(byte).to_string(),
            _ if byte == b'/' => "/".to_owned(),
            1 => format!("%{byte:02x}"),
            _ => format!("%{byte:02X}"),
        };
        let path: String = "/private/x y@.png".bytes().map(letter).collect();
        assert_eq!(ask(&path).await, (200, "no-store".to_owned()), "{path}");
    }
    // Other names, or none at all: nothing is at these, whatever somebody before the edge makes of them.
    for (path, status) in [
        ("/Private/x%20y%40.png", 404),
        ("//private/x%20y%40.png", 404),
        ("/private//x%20y%40.png", 404),
        ("/open/../private/x%20y%40.png", 404),
        ("/%2e/private/x%20y%40.png", 404),
        ("/open/%2E%2e/private/x%20y%40.png", 404),
        ("/private;v=1/x%20y%40.png", 404),
        ("/private/x%20y%40.png/", 404),
        ("/gro%CC%88%C3%9Fe;1/x%20y%40.png", 404),
        ("/%2570rivate/x%20y%40.png", 404),
        ("/private%2Fx%20y%40.png", 400),
        ("/private%2fx%20y%40.png", 400),
        ("/private%00/x%20y%40.png", 400),
        ("/private/x%20y%40.png%", 400),
        ("/%F0rivate/x", 400),
    ] {
        assert_eq!(ask(path).await.0, status, "{path}");
    }
    let slash = site.get(&root, "/%70rivate", &[]).await;
    assert_eq!((slash.status(), slash.field("location")), (308, Some("/private/")));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_older_version_counts_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let remembers = |config: &mut edge::Config| config.state_dir = Some(folder.path().to_owned());
    let name: PolicyName = "only-belgium".parse().unwrap();
    let store = async |site: &Site| site.store_as("a.txt", "text/plain", b"hello".to_vec(), Kind::File, &name).await;
    let site = Site::with(remembers, vec![]).await;
    publish(&site, &name, 2, "receive-allow = [\"JP\"]").await;
    assert_eq!(site.get(&store(&site).await, "/", &[]).await.status(), 451);
    let nodes = site.nodes.clone();
    site.stop().await;

    // Origins that hold the version before, all of them: a catalog that was rolled back, or four that lie together.
    let site = Site::over(Arc::new(MemoryTransport::new(&nodes)), nodes.clone(), remembers).await.unwrap();
    publish(&site, &name, 1, "receive-allow = [\"BE\"]").await;
    let stored = store(&site).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 503);
    // An edge that saw neither has no better knowledge.
    let fresh = site.beside(|_| {}).await;
    assert_eq!(fresh.get(&stored, "/", &[]).await.status(), 200);
    fresh.stop().await;
    publish(&site, &name, 3, "receive-allow = [\"BE\"]").await;
    until("the owner's next word", async || site.get(&stored, "/", &[]).await.status() == 200).await;
    site.stop().await;
}
