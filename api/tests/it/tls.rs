//! The twin over TLS, as curl sees it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output, time::Duration};

use api::{Api, StartError};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use testing::noise;
use tokio_util::sync::CancellationToken;

use crate::service::{Service, config, no_compiler};

const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a certificate for `localhost` and its key.
fn certify(folder: &Path) {
    certify_for(folder, &["localhost"]);
}

fn certify_for(folder: &Path, names: &[&str]) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = folder.join("twin.key");
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.join("twin.pem"), cert.pem()).unwrap();
}

async fn curl(trusting: &Path, arguments: &[&str]) -> Output {
    let curl = tokio::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--cacert"])
        .arg(trusting)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(PATIENCE, curl).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_with_a_certificate_speaks_tls_and_takes_up_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let (certificate, key) = (folder.path().join("twin.pem"), folder.path().join("twin.key"));
    let first = folder.path().join("first.pem");
    fs::copy(&certificate, &first).unwrap();
    let mut service = Service::with(|api| {
        (api.certificate, api.key) = (Some(certificate.clone()), Some(key.clone()));
    })
    .await;
    let root = format!("https://localhost:{}", service.address.port());
    assert_eq!(service.running().url, root);
    assert!(service.running().link().await.unwrap().expose().starts_with(&format!("{root}/console/#key=")));

    let (path, bytes) = (folder.path().join("film.mp4"), noise(5 << 20));
    fs::write(&path, &bytes).unwrap();
    let token = format!("authorization: Bearer {}", service.token);
    let stored = curl(&first, &["-H", &token, "-T", path.to_str().unwrap(), &format!("{root}/files/")]).await;
    let stored: serde_json::Value = serde_json::from_slice(&stored.stdout).unwrap();
    assert_eq!(service.read(stored["value"]["label"].as_str().unwrap(), &[]).await.unwrap(), bytes);

    let version = format!("{root}/version");
    let clear = curl(&first, &[&version.replace("https", "http")]).await;
    assert!(!clear.status.success() && clear.stdout.is_empty(), "{clear:?}");
    let old = curl(&first, &["--tls-max", "1.2", &version]).await;
    assert!(!old.status.success(), "{old:?}");

    certify(folder.path());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !curl(&certificate, &[&version]).await.status.success() {
        assert!(tokio::time::Instant::now() < deadline, "the next certificate is not taken up");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_the_host_that_the_operator_named_where_the_certificate_is_for_it() {
    let folder = tempfile::tempdir().unwrap();
    certify_for(folder.path(), &["*.zone.example", "edge.example", "twin.example", "also.example"]);
    for (hosts, leads) in [
        (&[][..], "edge.example"),
        (&["twin.example"], "twin.example"),
        (&["elsewhere.example", "also.example", "twin.example"], "also.example"),
        (&["me.zone.example"], "me.zone.example"),
        (&["deep.me.zone.example"], "edge.example"),
    ] {
        let mut service = Service::with(|api| {
            let file = |name: &str| Some(folder.path().join(name));
            (api.certificate, api.key) = (file("twin.pem"), file("twin.key"));
            api.hosts = hosts.iter().map(ToString::to_string).collect();
        })
        .await;
        let root = format!("https://{leads}:{}", service.address.port());
        assert_eq!(service.running().url, root);
        assert!(service.running().link().await.unwrap().expose().starts_with(&format!("{root}/console/#key=")));
        service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_none_is_named_at_the_start() {
    let mut service = Service::start().await;
    service.stop().await;
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let mut config = config();
    let file = |name: &str| Some(folder.path().join(name));
    for (certificate, key, says) in
        [("no.pem", "twin.key", "no.pem cannot be read"), ("twin.key", "twin.key", "no certificate with its key")]
    {
        (config.api.certificate, config.api.key) = (file(certificate), file(key));
        let stop = CancellationToken::new();
        let started = Api::start(&config, &service.state, service.twin.clone(), no_compiler(), stop).await;
        let Err(StartError::Certificate(error)) = started else { panic!("{says}") };
        assert!(error.to_string().contains(says), "{error}");
    }
}
