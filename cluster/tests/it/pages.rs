//! Pages whose scripts an owner allows (policy `pages`) in Chromium: their scripts run, each object is its own web
//! origin, and they arrive over HTTP/3.

use std::{fs, path::PathBuf, process::Command};

use cluster::{curl, processes::ProcessOptions};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use twin::{PolicySource, Stored, Tenure};

use crate::{
    browser::{DEADLINE, browser, dom, serve_until_told},
    load::start,
    made::Made,
};

/// Two pages in turn: `a` stores something of every kind of browser storage, `b` looks for it, `a` looks again, and the
/// end page gets the result.
const PAGE: &str = r#"<!doctype html><title>ROLE</title><script>
const role = "ROLE";
const state = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const go = (url) => { location.href = `${url}#${encodeURIComponent(JSON.stringify(state))}`; };
const see = async () => ({
  storage: localStorage.getItem("secret"),
  cookie: document.cookie,
  caches: await caches.keys(),
  databases: (await indexedDB.databases()).map((database) => database.name),
});
const main = async () => {
  if (role === "b") {
    state.b = await see();
    return go(state.to_a);
  }
  if (state.b) {
    state.a = await see();
    return go(state.to_end);
  }
  localStorage.setItem("secret", "of a");
  document.cookie = "secret=a";
  document.cookie = "wide=a; domain=localhost";
  await (await caches.open("of a")).put("/x", new Response("a"));
  await new Promise((done, failed) => Object.assign(indexedDB.open("of a"), { onsuccess: done, onerror: failed }));
  state.worker = await navigator.serviceWorker.register("/worker.js").then(() => "registered", () => "refused");
  go(state.to_b);
};
main().catch((error) => { state.error = `${error}`; go(state.to_end); });
</script>"#;

/// The page at the end.
const END: &str = r#"<!doctype html><title>end</title><script>
fetch("/told", { method: "POST", body: decodeURIComponent(location.hash.slice(1)) });
</script>"#;

async fn put_page(made: &Made, role: &str) -> Stored {
    let source = PolicySource::parse("[[link]]\nuse = \"pages\"\n", made.folder.path()).unwrap();
    made.network.twin.publish(&"pages".parse().unwrap(), &source).await.unwrap();
    let tenure = Tenure { policy: "pages".parse().unwrap(), ..made.network.tenure() };
    let file = made.file(&format!("{role}.html"), PAGE.replace("ROLE", role).as_bytes());
    made.put_as(&file, tenure).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_sees_nothing_of_what_another_left() {
    let made = Made::new().await;
    let (a, b) = (put_page(&made, "a").await, put_page(&made, "b").await);
    let (to_a, to_b) = (made.network.url(&a.label, "a.html"), made.network.url(&b.label, "b.html"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to_end = format!("http://{}/", listener.local_addr().unwrap());
    let state = json!({ "to_a": to_a, "to_b": to_b, "to_end": to_end }).to_string();
    // Every byte is percent-encoded, as encodeURIComponent would.
    let encoded: String = state.bytes().map(|byte| format!("%{byte:02X}")).collect();

    let profile = made.folder.path().join("browser");
    let browser = browser(made.network.edges[0].http, &profile, &[], &format!("{to_a}#{encoded}"));
    let told = timeout(DEADLINE, serve_until_told(&listener, "text/html", END)).await;
    browser.end().await;
    let told: Value = serde_json::from_str(&told.unwrap()).unwrap();
    let nothing = json!({ "storage": null, "cookie": "", "caches": [], "databases": [] });
    let its_own = json!({ "storage": "of a", "cookie": "secret=a", "caches": ["of a"], "databases": ["of a"] });
    assert_eq!((&told["a"], &told["b"], &told["worker"]), (&its_own, &nothing, &json!("refused")), "{told}");
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_reads_a_page_over_http_3_and_curl_trusts_the_certificate_of_the_recipe() {
    const EDGE: usize = 6;
    let mut processes = start(ProcessOptions::default()).await;
    let (key, certificate) = (processes.path("zone.key"), processes.path("zone.pem"));
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    // The recipe of docs/operate/tls.md.
    let curve = "ec_paramgen_curve:P-256";
    let names = "subjectAltName=DNS:cdn.localhost,DNS:*.cdn.localhost";
    let request =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "30", "-subj", "/CN=cdn.localhost"];
    openssl(&[&request[..], &["-addext", names, "-keyout", &key, "-out", &certificate]].concat());
    let public = openssl(&["pkey", "-in", &key, "-pubout", "-outform", "DER"]);
    fs::write(processes.path("public.der"), public).unwrap();
    let pin = BASE64.encode(&openssl(&["dgst", "-sha256", "-binary", &processes.path("public.der")]));

    let port = testing::free_port();
    let ip = processes.address(EDGE).ip();
    let https = format!(
        "[https]\nlisten = \"{ip}:{port}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\nredirect = false\n[cache]\n"
    );
    processes.kill_node(EDGE).unwrap();
    processes.change_config(EDGE, "[cache]\n", &https).unwrap();
    processes.change_config(EDGE, "zone = \"localhost\"", "zone = \"cdn.localhost\"").unwrap();
    processes.start_node(EDGE).unwrap();
    let (policy, page) = (processes.path("pages.toml"), processes.path("page.html"));
    fs::write(&policy, "[[link]]\nuse = \"pages\"\n").unwrap();
    let script = "document.body.textContent = 'by ' + performance.getEntriesByType('navigation')[0].nextHopProtocol;";
    fs::write(&page, format!("<!doctype html><body><script>{script}</script>")).unwrap();
    processes.evernear(&["policy", "publish", "pages", &policy]).unwrap();
    let stored = processes.evernear(&["put", &page, "--policy", "pages", "--json"]).unwrap();
    let stored = cluster::processes::read_stored(&stored).unwrap();
    let host = format!("{}.cdn.localhost", stored.authority.split('.').next().unwrap());
    let url = format!("https://{host}:{port}/page.html");

    // A client that trusts the certificate accepts it for this name; a client that does not trust it refuses.
    let (at, body) = (processes.address(EDGE), PathBuf::from(processes.path("body")));
    let answer = curl(at, &url, &body, &["--cacert", &certificate]).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.header);
    assert_eq!(fs::read(&body).unwrap(), fs::read(&page).unwrap());
    assert_eq!(curl(at, &url, &body, &[]).await.unwrap().status, 0);

    let read = async |more: &[&str]| {
        let pin = format!("--ignore-certificate-errors-spki-list={pin}");
        // Each navigation has its own profile, or it would be answered from the browser's own cache.
        let profile = tempfile::tempdir().unwrap();
        dom(at, profile.path(), &[&[pin.as_str()], more].concat(), &url).await
    };
    let forced = format!("--origin-to-force-quic-on={host}:{port}");
    let over_quic = read(&[&forced]).await;
    assert!(over_quic.contains("by h3"), "{over_quic}");
    let over_tcp = read(&["--disable-quic"]).await;
    assert!(over_tcp.contains("by h2"), "{over_tcp}");
}
