//! Certificates over restarts: what one edge got, it and its successor show, whoever is away; and nobody is sent to an
//! edge that has none.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use client::Transport;
use edge::{
    Config, StartError,
    config::{AcmeConfig, HttpsConfig},
};
use format::wire::Role;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use testing::{MemoryTransport, until};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    acme::{now, share, shared},
    https::{ZONE, host},
    site::{DEADLINE, Site, close},
};

/// The directory of an authority that nobody can reach.
const AWAY: &str = "https://127.0.0.1:1/dir";

/// What edges share before their first certificate, which nobody is to order yet.
fn uncertified() -> serde_json::Value {
    let later = now() + 1_000_000;
    serde_json::json!({
        "directory": AWAY, "account": "", "challenges": [], "holder": null, "failures": 0,
        "certified": null, "due": later, "renew_at": later,
    })
}

/// The same once they have one from the authority of [`away`], and the certificate.
fn certified() -> (serde_json::Value, String) {
    certified_until(4000)
}

/// The same with one that ends with a year.
fn certified_until(year: i32) -> (serde_json::Value, String) {
    let key = KeyPair::generate().unwrap();
    let mut names = CertificateParams::new(vec![ZONE.to_owned(), format!("*.{ZONE}")]).unwrap();
    names.not_after = date_time_ymd(year, 12, 31);
    let chain = names.self_signed(&key).unwrap().pem();
    let mut shared = uncertified();
    shared["certified"] = serde_json::json!({ "directory": AWAY, "chain": chain.clone(), "key": key.serialize_pem() });
    (shared, chain)
}

/// What edges need to share a certificate from an authority that nobody can reach.
fn away(dir: &Path) -> HttpsConfig {
    let secret = dir.join("zone.secret");
    close(&secret, &"07".repeat(32));
    let acme = AcmeConfig {
        directory: AWAY.to_owned(),
        contact: None,
        authority: None,
        caa: None,
        look_seconds: 1,
        resolvers: Some(vec![]),
        retry_seconds: 1000,
    };
    HttpsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: None,
        key: None,
        acme: Some(acme),
        secret: Some(secret),
        redirect: true,
        public_port: None,
        http3: false,
    }
}

/// Viewers who come on a new connection each time.
struct Viewers {
    connector: TlsConnector,
    done: AtomicBool,
    shaken: AtomicUsize,
}

impl Viewers {
    fn trusting(root: &str) -> Arc<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Arc::new(Self { connector, done: AtomicBool::new(false), shaken: AtomicUsize::new(0) })
    }

    async fn shake(&self, at: SocketAddr) -> std::io::Result<()> {
        let stream = TcpStream::connect(at).await?;
        timeout(DEADLINE, self.connector.connect(ZONE.try_into().unwrap(), stream)).await.unwrap().map(drop)
    }

    /// Come until told to stop. No handshake may fail.
    async fn keep_coming(self: Arc<Self>, at: SocketAddr) {
        while !self.done.load(Ordering::SeqCst) {
            self.shake(at).await.unwrap();
            self.shaken.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until some more have come.
    async fn more(&self) {
        let before = self.shaken.load(Ordering::SeqCst);
        until("viewers come", async || self.shaken.load(Ordering::SeqCst) > before + 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_handshake_is_good_over_reloads_and_a_restart_while_no_origin_answers() {
    let dir = tempfile::tempdir().unwrap();
    let given = away(dir.path());
    let change = |https: HttpsConfig| {
        let state = dir.path().join("state");
        move |config: &mut Config| (config.https, config.state_dir) = (Some(https), Some(state))
    };
    let base = Site::start().await;
    share(&base, 1, &uncertified()).await;
    let mut site = base.beside(change(given.clone())).await;
    let at = site.edge.https.unwrap();
    let (shared, root) = certified();
    let viewers = Viewers::trusting(&root);
    assert!(viewers.shake(at).await.is_err(), "there is no certificate yet");
    share(&base, 2, &shared).await;
    until("the certificate is taken up", async || viewers.shake(at).await.is_ok()).await;
    let file = dir.path().join("state/certificate.note");
    until("it is kept", async || file.exists()).await;
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(11).any(|part| part == b"PRIVATE KEY"), "sealed as at the origins");

    for node in &site.nodes {
        site.origins.remove(&node.name);
    }
    let coming = tokio::spawn(Arc::clone(&viewers).keep_coming(at));
    for _ in 0..3 {
        viewers.more().await;
        let next = site.successor(change(given.clone())).await;
        std::mem::replace(&mut site, next).stop().await;
    }
    viewers.more().await;
    viewers.done.store(true, Ordering::SeqCst);
    coming.await.unwrap();
    let (origins, nodes) = (Arc::clone(&site.origins), site.nodes.clone());
    site.stop().await;

    let again = Site::over(origins, nodes, change(given)).await.unwrap();
    viewers.shake(again.edge.https.unwrap()).await.unwrap();
    let ends = again.counter("evernear_edge_certificate_expiry_timestamp_seconds").await;
    assert!(ends > now(), "{ends}");
    again.stop().await;
    base.stop().await;
}

fn with(https: HttpsConfig) -> impl FnOnce(&mut Config) {
    move |config| config.https = Some(https)
}

/// Starts an edge that has taken a certificate up from the origins, beside one without. Returns the latter first, and
/// viewers who trust the certificate.
async fn certified_site(https: &HttpsConfig) -> (Site, Site, Arc<Viewers>) {
    let base = Site::start().await;
    let (shared, root) = certified();
    share(&base, 1, &shared).await;
    let site = base.beside(with(https.clone())).await;
    let viewers = Viewers::trusting(&root);
    let at = site.edge.https.unwrap();
    until("the certificate is taken up", async || viewers.shake(at).await.is_ok()).await;
    (base, site, viewers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_answers_when_it_has_the_certificate_and_starts_not_where_it_can_have_none() {
    let dir = tempfile::tempdir().unwrap();
    let given = away(dir.path());
    let (base, mut site, viewers) = certified_site(&given).await;
    let at = site.edge.https.unwrap();
    let coming = tokio::spawn(Arc::clone(&viewers).keep_coming(at));
    for _ in 0..3 {
        viewers.more().await;
        // It keeps nothing, and asks before it answers.
        let next = site.successor(with(given.clone())).await;
        std::mem::replace(&mut site, next).stop().await;
    }
    for node in &site.nodes {
        site.origins.remove(&node.name);
    }
    // It asks for 15 seconds before it gives up.
    let refused = site.try_successor(with(given)).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, StartError::Uncertified), "{refused}");
    viewers.more().await;
    viewers.done.store(true, Ordering::SeqCst);
    coming.await.unwrap();
    site.stop().await;
    base.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_off_while_the_catalog_was_made_anew_brings_back_no_certificate_that_ends_sooner() {
    let dir = tempfile::tempdir().unwrap();
    let change = |name: &'static str| {
        let (https, state) = (away(dir.path()), dir.path().join(name));
        move |config: &mut Config| (config.https, config.state_dir) = (Some(https), Some(state))
    };
    // Two edges that keep version 3 and are off then: one what ends sooner than what the others have, one what ends
    // later.
    let [(sooner, _), (newest, newest_root), (later, later_root)] = [3000, 3500, 4000].map(certified_until);
    for (name, shared) in [("sooner", &sooner), ("later", &later)] {
        let before = Site::start().await;
        for version in 1..=3 {
            share(&before, version, shared).await;
        }
        let edge = before.beside(change(name)).await;
        until("it is kept", async || dir.path().join(name).join("certificate.note").exists()).await;
        edge.stop().await;
        before.stop().await;
    }
    let anew = Site::start().await;
    share(&anew, 1, &newest).await;
    let edge = anew.beside(change("sooner")).await;
    let viewers = Viewers::trusting(&newest_root);
    let is_shown = async || viewers.shake(edge.edge.https.unwrap()).await.is_ok();
    until("the certificate that ends later is shown", async || is_shown().await).await;
    assert_eq!(shared(&anew).await, (1, newest.clone()), "nobody wrote over it");

    // Nor does one that has ended, whatever its version.
    share(&anew, 2, &certified_until(2000).0).await;
    until("the one that counts is back", async || {
        let (version, shared) = shared(&anew).await;
        version == 3 && shared["certified"] == newest["certified"]
    })
    .await;
    assert!(is_shown().await);

    // And what ends later comes back though its version is no later.
    let other = anew.beside(change("later")).await;
    let viewers = Viewers::trusting(&later_root);
    let is_shown = async || viewers.shake(edge.edge.https.unwrap()).await.is_ok();
    until("it is shown", is_shown).await;
    for site in [edge, other, anew] {
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_does_not_believe_one_origin_alone_that_there_is_no_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let given = away(dir.path());
    let (base, mut site, viewers) = certified_site(&given).await;
    let at = site.edge.https.unwrap();
    // The nearest has an empty catalog.
    let empty = MemoryTransport::new(&site.nodes).caller("edge-bru", Role::Edge);
    site.elsewhere = Some((site.nodes[0].name.clone(), Arc::new(empty)));
    let next = site.successor(with(given)).await;
    std::mem::replace(&mut site, next).stop().await;
    viewers.shake(at).await.unwrap();
    site.stop().await;
    base.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_an_edge_that_has_no_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let https = away(dir.path());
    let public = |name: &'static str, address: &'static str, https: Option<HttpsConfig>| {
        move |config: &mut Config| {
            (config.name, config.https) = (name.parse().unwrap(), https);
            config.public = vec![address.parse().unwrap()];
        }
    };
    // The other one stands behind somebody else's terminator.
    let other = Site::with(public("edge-two", "127.0.0.2", None), vec![]).await;
    share(&other, 1, &uncertified()).await;
    let bare = other.beside(public("edge-one", "127.0.0.1", Some(https))).await;
    let stored = other.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let named = async |site: &Site| {
        let dig = site.dig(&[&host(&stored), "A", "+short"]).await;
        let mut addresses: Vec<String> = dig.lines().map(str::to_owned).collect();
        addresses.sort();
        addresses
    };
    let alone = ["127.0.0.2".to_owned()];
    let announced = async |addresses: usize| {
        let nodes = other.origins.nodes(&other.nodes[0].name).await.unwrap();
        nodes.iter().any(|node| node.name.as_str() == "edge-one" && node.public.len() == addresses)
    };
    until("it is on the list of nodes", async || announced(0).await).await;
    until("it knows the other", async || named(&bare).await == alone).await;
    assert_eq!(named(&other).await, alone);
    assert!(bare.admin("/ready").await.starts_with("there is no certificate"));

    share(&other, 2, &certified().0).await;
    until("it is announced", async || announced(1).await).await;
    let both = ["127.0.0.1".to_owned(), "127.0.0.2".to_owned()];
    until("both are named", async || named(&other).await == both && named(&bare).await == both).await;
    until("it is ready", async || bare.admin("/ready").await == "ready\n").await;
    bare.stop().await;
    other.stop().await;
}
