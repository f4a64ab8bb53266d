//! Certificates from a certificate authority that is not ours: Let's Encrypt's pebble, which looks for its proof in the
//! DNS of the edges.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant, SystemTime},
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use client::Transport;

use edge::{
    Config,
    config::{AcmeConfig, HttpsConfig},
};
use format::{
    NoteId,
    wire::{Note, Role},
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;
use testing::{Pebble, free_port, until, until_within};
use tokio::{process::Command, time::sleep};

use crate::{
    https::{ZONE, host},
    site::{Site, close, other_edge},
};

/// pebble rests up to 15 seconds before it looks; told not to, an order takes some seconds, and 10 more where edges
/// have company.
const ORDER_DEADLINE: Duration = Duration::from_secs(60);

/// Starts an authority that asks the DNS server at `dns` for proof.
fn authority(dns: SocketAddr) -> (TempDir, Pebble) {
    let folder = tempfile::tempdir().unwrap();
    let pebble = Pebble::start(folder.path(), dns);
    (folder, pebble)
}

/// Writes a secret and returns what an edge needs to share it.
fn https(dir: &Path, authority: &Pebble) -> HttpsConfig {
    let secret = dir.join("zone.secret");
    close(&secret, &format!("{}\n", "07".repeat(32)));
    HttpsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: None,
        key: None,
        acme: Some(AcmeConfig {
            directory: authority.directory(),
            contact: Some("mailto:ops@evernear.example".to_owned()),
            authority: Some(authority.own_root()),
            caa: Some("pebble.example".to_owned()),
            look_seconds: 1,
            resolvers: Some(vec![authority.dns()]),
            retry_seconds: 1,
        }),
        secret: Some(secret),
        redirect: true,
        public_port: None,
        http3: true,
    }
}

/// Derives what the edges' note is found and sealed by: from the secret of [`https`], as decision 14 says it.
fn derive(purpose: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("evernear 2026 v1 edge note {purpose}"));
    *hasher.update(&[7; 32]).update(ZONE.as_bytes()).finalize().as_bytes()
}

/// What the edges share, and its version.
pub(crate) async fn shared(site: &Site) -> (u64, serde_json::Value) {
    let cipher = XChaCha20Poly1305::new((&derive("key")).into());
    let edge = site.origins.caller("another", Role::Edge);
    let note = edge.note(&site.nodes[0].name, &NoteId(derive("id"))).await.unwrap().unwrap();
    let bound = note.version.to_le_bytes();
    let payload = Payload { msg: &note.sealed[24..], aad: &bound };
    let plain = cipher.decrypt(&XNonce::try_from(&note.sealed[..24]).unwrap(), payload).unwrap();
    (note.version, serde_json::from_slice(&plain).unwrap())
}

/// Puts a certificate in the place of the zone's that had ten years and has one left; returns it as PEM.
async fn age(site: &Site) -> String {
    let (version, mut shared) = shared(site).await;

    let key = KeyPair::generate().unwrap();
    let mut old = CertificateParams::new(vec![ZONE.to_owned(), format!("*.{ZONE}")]).unwrap();
    let this_year = 1970 + i32::try_from(now() / 31_556_952).unwrap();
    (old.not_before, old.not_after) = (date_time_ymd(this_year - 9, 1, 1), date_time_ymd(this_year + 1, 12, 31));
    let old = old.self_signed(&key).unwrap().pem();
    shared["certified"]["chain"] = old.clone().into();
    shared["certified"]["key"] = key.serialize_pem().into();
    (shared["due"], shared["renew_at"]) = (0.into(), 0.into());

    share(site, version + 1, &shared).await;
    old
}

/// Writes a version of what the edges share, as another edge does.
pub(crate) async fn share(site: &Site, version: u64, shared: &serde_json::Value) {
    let cipher = XChaCha20Poly1305::new((&derive("key")).into());
    let plain = serde_json::to_vec(shared).unwrap();
    let payload = Payload { msg: &plain, aad: &version.to_le_bytes() };
    let sealed = cipher.encrypt(&XNonce::from([9; 24]), payload).unwrap();
    let note = Note { version, sealed: [&[9; 24][..], &sealed].concat().into() };
    let edge = site.origins.caller("another", Role::Edge);
    assert!(edge.put_note(&site.nodes[0].name, &NoteId(derive("id")), &note).await.unwrap());
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Waits until `root` stands for what an edge presents.
async fn presented(site: &Site, host: &str, root: &Path) {
    let begun = Instant::now();
    loop {
        let answer = site.curl_secure(host, "/", &["--cacert", root.to_str().unwrap()]).await;
        if answer.output.status.success() {
            assert_eq!(answer.body(), b"hello");
            return;
        }
        let error = String::from_utf8_lossy(&answer.output.stderr);
        assert!(begun.elapsed() < ORDER_DEADLINE, "no certificate: {error}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_certified_once_for_all_its_edges_and_again_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let dns = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // Both authorities ask the first edge, whoever orders.
    let ((_one, first), (_two, second)) = (authority(dns), authority(dns));
    let given = https(dir.path(), &first);
    let change = |https: HttpsConfig, name: &'static str, listen: SocketAddr| {
        move |config: &mut Config| {
            config.name = name.parse().unwrap();
            config.dns.listen = Some(listen);
            config.https = Some(https);
        }
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let company = vec![other_edge("edge-two", "BE", 50.9, 4.4, "127.0.0.1")];
    let one = Site::with(change(given.clone(), "edge-one", dns), company).await;
    let stored = one.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let host = host(&stored);

    // Nothing can be presented yet; the edge answers all the same, and says so.
    let early = one.curl_secure(&host, "/", &["-k"]).await;
    assert!(!early.output.status.success() && early.head.is_empty());
    presented(&one, &host, &first.root()).await;

    // Another edge takes what is there.
    let two = one.beside(change(given.clone(), "edge-two", any)).await;
    presented(&two, &host, &first.root()).await;
    assert_eq!(first.given(), 1);
    let metrics = two.metrics().await;
    assert!(metrics.contains("\nevernear_edge_certificate_faults_total 0"), "{metrics}");
    let ends = two.counter("evernear_edge_certificate_expiry_timestamp_seconds").await;
    assert!(ends > 1_700_000_000, "{ends}");

    // No other authority may certify the zone, nor any other account.
    let caa = one.dig(&["+short", "CAA", "evernear.example"]).await;
    let lines: Vec<&str> = caa.lines().collect();
    assert_eq!(lines.len(), 2, "{caa}");
    for tag in ["issue", "issuewild"] {
        let begins =
            format!("0 {tag} \"pebble.example; accounturi={}/my-account/", first.directory().trim_end_matches("/dir"));
        assert!(
            lines.iter().any(|line| line.starts_with(&begins) && line.ends_with("; validationmethods=dns-01\"")),
            "{caa}"
        );
    }
    let challenge = one.dig(&["TXT", "_acme-challenge.evernear.example"]).await;
    assert!(
        challenge.contains("NOERROR") && challenge.contains("ANSWER: 0"),
        "nothing is left of an order: {challenge}"
    );

    // A certificate that is near its end is renewed, and an edge that is set to another authority orders there; all
    // change over without a viewer's noticing.
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (aged, trusted) = (dir.path().join("aged.pem"), dir.path().join("trusted.pem"));
    fs::write(&aged, age(&one).await).unwrap();
    fs::write(&trusted, [&aged, &first.root(), &second.root()].map(|path| fs::read(path).unwrap()).concat()).unwrap();
    let load = async {
        while !done.load(Ordering::SeqCst) {
            let answer = one.curl_secure(&host, "/", &["--cacert", trusted.to_str().unwrap()]).await;
            let error = String::from_utf8_lossy(&answer.output.stderr);
            assert!(answer.output.status.success() && answer.body() == b"hello", "{error}");
            asked.fetch_add(1, Ordering::SeqCst);
        }
    };
    // Two more answers: the second was asked for after this began.
    let go_on = async || {
        let before = asked.load(Ordering::SeqCst);
        until("viewers are answered", async || asked.load(Ordering::SeqCst) >= before + 2).await;
    };
    let swap = async {
        presented(&one, &host, &aged).await;
        go_on().await;
        presented(&one, &host, &first.root()).await;
        go_on().await;
        presented(&two, &host, &first.root()).await;
        assert_eq!((first.given(), second.given()), (2, 0));
        let three = one.beside(change(https(dir.path(), &second), "edge-three", any)).await;
        presented(&three, &host, &second.root()).await;
        presented(&one, &host, &second.root()).await;
        go_on().await;
        presented(&two, &host, &second.root()).await;
        done.store(true, Ordering::SeqCst);
        three
    };
    let ((), three) = tokio::join!(load, swap);
    assert_eq!((first.given(), second.given()), (2, 1));
    for site in [one, two, three] {
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_authority_is_asked_before_resolvers_see_the_zone() {
    let dir = tempfile::tempdir().unwrap();
    let [dns, above] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let (_folder, pebble) = authority(dns);
    let mut given = https(dir.path(), &pebble);
    // The zone above it delegates it to nobody.
    let change = |config: &mut Config| {
        (config.zone, config.dns.listen) = ("example".parse().unwrap(), Some(above));
    };
    let parent = Site::with(change, vec![]).await;
    given.acme.as_mut().unwrap().resolvers = Some(vec![above]);
    let unseen = given.clone();
    let change = |config: &mut Config| (config.https, config.dns.https_records) = (Some(unseen), true);
    let one = Site::with(change, vec![]).await;
    let stored = one.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let failed = async || one.counter("evernear_edge_certificate_faults_total").await > 1;
    until_within(ORDER_DEADLINE, "no proof is seen, twice", failed).await;
    let (_, seen) = shared(&one).await;
    assert_eq!(seen["failures"].as_u64(), Some(1), "nobody counts them: {seen}");
    let said = pebble.said();
    assert!(!said.contains(" POST "), "{said}");
    // Until then it is read in clear, which nobody keeps, and no record sends a browser to HTTPS.
    let clear = one.get(&stored, "/", &[]).await;
    assert_eq!((clear.status(), clear.field("cache-control")), (200, Some("no-store")));
    let record = one.dig(&["HTTPS", &format!("{}.{ZONE}", stored.label)]).await;
    assert!(record.contains("NOERROR") && record.contains("ANSWER: 0"), "{record}");

    given.acme.as_mut().unwrap().resolvers = Some(vec![dns]);
    let change = |config: &mut Config| {
        config.name = "edge-two".parse().unwrap();
        (config.https, config.dns.listen) = (Some(given), Some(dns));
    };
    let two = one.beside(change).await;
    one.stop().await;
    presented(&two, &host(&stored), &pebble.root()).await;
    assert_eq!(two.get(&stored, "/", &[]).await.status(), 308);
    for site in [parent, two] {
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_away_costs_no_answer_and_is_asked_again_until_it_certifies() {
    let dir = tempfile::tempdir().unwrap();
    let dns = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (_folder, mut pebble) = authority(dns);
    let mut given = https(dir.path(), &pebble);
    given.redirect = false;
    pebble.stop();
    let begun = now();
    let site = Site::with(|config| (config.https, config.dns.listen) = (Some(given), Some(dns)), vec![]).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let failed = async || site.counter("evernear_edge_certificate_faults_total").await > 1;
    until("two orders fail", failed).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    // Not at every look: each order that fails puts the next one off twice as long.
    let (_, shared) = shared(&site).await;
    let (failures, due) = (shared["failures"].as_u64().unwrap(), shared["due"].as_u64().unwrap());
    assert!(failures >= 1 && due >= begun + (1 << failures) - 1, "{shared}");

    pebble.resume();
    presented(&site, &host(&stored), &pebble.root()).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_one_edge_began_another_resumes() {
    let (dir, https, one) = crate::https::start(false).await;
    let secret = dir.path().join("zone.secret");
    close(&secret, &"07".repeat(32));
    let sharing = HttpsConfig { secret: Some(secret), ..https.clone() };
    let with = |https: HttpsConfig| move |config: &mut Config| config.https = Some(https);
    let (two, three) = (one.beside(with(sharing.clone())).await, one.beside(with(sharing)).await);
    let alone = one.beside(with(https)).await;

    let resumed = async |from: &Site, at: &Site| {
        let session = dir.path().join("session");
        let _ = fs::remove_file(&session);
        let ask = async |site: &Site, flag: &str| {
            let connect = site.edge.https.unwrap().to_string();
            // The ticket comes with the answer, so it is waited for.
            let script = format!(
                "printf 'GET / HTTP/1.1\\r\\nHost: x.evernear.example\\r\\nConnection: close\\r\\n\\r\\n' | \
                 openssl s_client -ign_eof -connect {connect} -servername x.evernear.example {flag} {}",
                session.display()
            );
            let output = Command::new("sh").args(["-c", &script]).output().await.unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let first = ask(from, "-sess_out").await;
        assert!(first.contains("New, TLSv1.3"), "{first}");
        ask(at, "-sess_in").await.contains("Reused, TLSv1.3")
    };
    assert!(resumed(&two, &three).await);
    assert!(resumed(&one, &one).await);
    assert!(!resumed(&one, &alone).await, "without a secret each edge is by itself");
    assert!(!resumed(&one, &two).await);
    for site in [one, two, three, alone] {
        site.stop().await;
    }
}
