//! The HTTP door over TLS, asked by curl, openssl and rustls.

use std::{fs, path::Path, sync::Arc};

use edge::config::HttpsConfig;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, NamedGroup, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};
use tempfile::TempDir;
use testing::{noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::site::{Site, Stored, close};

pub(crate) const ZONE: &str = "evernear.example";

/// Makes a certificate for all names of the zone, where `config` says.
fn certify(files: &HttpsConfig) {
    certify_until(files, 4_000);
}

/// Makes one that ends with the beginning of a year.
fn certify_until(files: &HttpsConfig, year: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![ZONE.to_owned(), format!("*.{ZONE}")]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    close(files.key.as_ref().unwrap(), &key.serialize_pem());
    fs::write(certificate(files), params.self_signed(&key).unwrap().pem()).unwrap();
}

/// The file of the certificate.
pub(crate) fn certificate(files: &HttpsConfig) -> &Path {
    files.certificate.as_deref().unwrap()
}

fn files(dir: &Path, redirect: bool) -> HttpsConfig {
    HttpsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: Some(dir.join("zone.pem")),
        key: Some(dir.join("zone.key")),
        acme: None,
        secret: None,
        redirect,
        public_port: None,
        http3: true,
    }
}

pub(crate) async fn start(redirect: bool) -> (TempDir, HttpsConfig, Site) {
    start_with(redirect, |_| {}).await
}

pub(crate) async fn start_with(redirect: bool, more: impl FnOnce(&mut edge::Config)) -> (TempDir, HttpsConfig, Site) {
    let dir = tempfile::tempdir().unwrap();
    let https = files(dir.path(), redirect);
    certify(&https);
    let given = https.clone();
    let change = move |config: &mut edge::Config| {
        config.https = Some(given);
        (config.dns.https_records, config.reread_seconds) = (true, 1);
        more(config);
    };
    (dir, https, Site::with(change, vec![]).await)
}

/// Returns what a viewer has who trusts the certificate, and speaks one protocol.
pub(crate) fn trusting(https: &HttpsConfig, protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate(https)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_owned()];
    config
}

pub(crate) fn host(stored: &Stored) -> String {
    format!("{}.{ZONE}", stored.label)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_exact_over_every_version_and_clear_text_is_sent_there() {
    let (_dir, https, site) = start(true).await;
    let stored = site.store("clip.mp4", "video/mp4", noise_of(3, 3 << 20)).await;
    let trust = ["--cacert", certificate(&https).to_str().unwrap()];
    for (version, says) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        let whole = site.curl_secure(&host(&stored), "/clip.mp4", &[&trust[..], &[version]].concat()).await;
        assert!(whole.head.starts_with(says) && whole.body() == stored.bytes, "{}", whole.head);
        let part =
            site.curl_secure(&host(&stored), "/", &[&trust[..], &[version, "-r", "1000000-1000999"]].concat()).await;
        assert_eq!((part.status(), part.body()), (206, &stored.bytes[1_000_000..1_001_000]));
    }
    let clear = site.get(&stored, "/clip.mp4?a=b", &[]).await;
    let there = format!("https://{}:{}/clip.mp4?a=b", host(&stored), site.edge.https.unwrap().port());
    assert_eq!((clear.status(), clear.field("location")), (308, Some(&*there)));
    assert_eq!(site.curl("example.com", "/", &[]).await.status(), 421, "nobody is sent to a name that is not ours");

    // Where the ports are those of the world, browsers come back over TLS at once.
    let hsts = async |site: &Site| {
        let answer = site.curl_secure(&host(&stored), "/", &trust).await;
        answer.field("strict-transport-security").map(str::to_owned)
    };
    assert_eq!(hsts(&site).await, None, "this port is not theirs");
    let public = HttpsConfig { public_port: Some(443), ..https.clone() };
    let world = site.beside(|config| config.https = Some(public)).await;
    assert_eq!(hsts(&world).await.as_deref(), Some("max-age=31536000"));
    assert_eq!(world.get(&stored, "/", &[]).await.field("strict-transport-security"), None);
    world.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_agree_on_the_post_quantum_group_and_old_versions_are_refused() {
    let (_dir, https, site) = start(false).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200, "clear text is served where it is not sent away");

    let config = trusting(&https, b"http/1.1");
    let stream = TcpStream::connect(site.edge.https.unwrap()).await.unwrap();
    let name = host(&stored).try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(&stored));
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.ends_with(b"\r\n\r\nhello"), "{}", String::from_utf8_lossy(&answer));

    let insecure = async |arguments: &[&str]| site.curl_secure(&host(&stored), "/", arguments).await;
    assert_eq!(
        insecure(&["-k", "--curves", "X25519"]).await.status(),
        200,
        "who knows only the classical group is served"
    );
    let old = insecure(&["-k", "--tls-max", "1.2"]).await;
    assert!(!old.output.status.success() && old.head.is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let (dir, https, site) = start(true).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let old = dir.path().join("old.pem");
    fs::copy(certificate(&https), &old).unwrap();
    // "works", or what curl says.
    let said = async |path: &Path| {
        let answer = site.curl_secure(&host(&stored), "/", &["--cacert", path.to_str().unwrap()]).await;
        let works = answer.output.status.success() && answer.body() == b"hello";
        if works { "works".into() } else { answer.head + &String::from_utf8_lossy(&answer.output.stderr) }
    };
    assert_eq!(said(&old).await, "works");
    let ends = |year: i32| u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).unwrap();
    let told = async || site.counter("evernear_edge_certificate_expiry_timestamp_seconds").await;
    assert_eq!(told().await, ends(4_000));
    fs::write(certificate(&https), "no certificate").unwrap();
    until("it is seen", async || site.counter("evernear_edge_certificate_faults_total").await > 0).await;
    assert_eq!(said(&old).await, "works", "a broken file changes nothing");
    certify_until(&https, 4_001);
    until("the renewed certificate", || async { said(certificate(&https)).await == "works" }).await;
    until("its end is told", async || told().await == ends(4_001)).await;
    assert!(said(&old).await.contains("certificate"));

    // What is no TLS is closed, and costs nobody else anything.
    let mut noise = TcpStream::connect(site.edge.https.unwrap()).await.unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = noise.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"HTTP"));
    assert_eq!(said(certificate(&https)).await, "works");
    site.stop().await;
}

#[test]
fn a_check_wants_a_certificate_that_names_the_objects_of_the_zone() {
    let dir = tempfile::tempdir().unwrap();
    let https = files(dir.path(), true);
    let doors = "[dns]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"";
    let place = "[place]\ncountry = \"BE\"\nregion = \"eu\"\nzone = \"z\"\nlatitude = 50.0\nlongitude = 4.0";
    let seeds = "[[seeds]]\nname = \"o1\"\naddress = \"127.0.0.1:7401\"";
    let text = format!("name = \"e1\"\nzone = \"{ZONE}\"\n{doors}\n{place}\n{seeds}\n");
    let config = edge::Config { https: Some(https.clone()), ..edge::Config::from_toml(&text).unwrap() };
    for (names, is_good) in [
        (vec![ZONE.to_owned(), format!("*.{ZONE}")], true),
        (vec![format!("*.{ZONE}")], true),
        (vec![ZONE.to_owned()], false),
        (vec![format!("one.{ZONE}")], false),
        (vec![format!("*.www.{ZONE}"), "*.example".to_owned()], false),
    ] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.clone()).unwrap();
        close(https.key.as_ref().unwrap(), &key.serialize_pem());
        fs::write(certificate(&https), params.self_signed(&key).unwrap().pem()).unwrap();
        let checked = edge::Edge::check_names(&config);
        assert_eq!(checked.is_ok(), is_good, "{names:?}");
        if let Err(error) = checked {
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(&format!("order one for {ZONE} and *.{ZONE}")), "{cause}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_before_a_port_opens() {
    let dir = tempfile::tempdir().unwrap();
    let https = files(dir.path(), true);
    certify(&https);
    let other = files(&dir.path().join("other"), true);
    fs::create_dir(dir.path().join("other")).unwrap();
    certify(&other);
    let refused = async |https: HttpsConfig| {
        let error = Site::try_with(move |config| config.https = Some(https), vec![]).await.err().unwrap();
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    };
    let mixed = HttpsConfig { key: other.key, ..https.clone() };
    let absent = HttpsConfig { certificate: Some(dir.path().join("absent.pem")), ..https };
    for (https, says) in [(mixed, "no certificate with its key"), (absent, "absent.pem")] {
        let error = refused(https).await;
        assert!(error.contains("[https]") && error.contains(says), "{error}");
    }
}
