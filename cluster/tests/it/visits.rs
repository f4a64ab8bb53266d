//! What people do in a browser: load a page again, save what a folder lists, play a film that lies in pieces.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use testing::noise;
use twin::{PolicySource, Tenure};

use crate::{
    driven::{Driven, Relay},
    load::until,
    made::Made,
};

/// A tenure under which scripts run.
async fn pages(made: &Made) -> Tenure {
    let source = PolicySource::parse("[[link]]\nuse = \"pages\"\n", made.folder.path()).unwrap();
    made.network.twin.publish(&"pages".parse().unwrap(), &source).await.unwrap();
    Tenure { policy: "pages".parse().unwrap(), ..made.network.tenure() }
}

/// Makes a folder of these files.
fn folder(made: &Made, name: &str, files: &[(&str, &[u8])]) -> std::path::PathBuf {
    let folder = made.folder.path().join(name);
    for (name, bytes) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    folder
}

const INDEX: &[u8] =
    br#"<!doctype html><title>site</title><link rel="stylesheet" href="look.css"><body><script src="app.js"></script>"#;
const APP: &[u8] = br#"const main = async () => {
  const worker = await navigator.serviceWorker.register("worker.js").then(() => "worker", () => "no worker");
  const data = await (await fetch("data/list.json")).json();
  document.body.textContent = `${worker}, ${data.join(" ")}`;
};
main().catch((error) => { document.body.textContent = `${error}`; });"#;

#[tokio::test(flavor = "multi_thread")]
async fn chromium_loads_a_site_again_and_no_worker_of_it_stands_between() {
    let made = Made::new().await;
    let files: &[(&str, &[u8])] = &[
        ("index.html", INDEX),
        ("app.js", APP),
        ("worker.js", b"self.addEventListener('fetch', (event) => event.respondWith(new Response('worker')));"),
        ("look.css", b"body { color: rgb(1, 2, 3) }"),
        ("data/list.json", b"[1, 2, 3]"),
    ];
    let site = made.put_as(&folder(&made, "site", files), pages(&made).await).await;
    let mut browser = Driven::start(made.network.edges[0].http, made.folder.path()).await;
    let url = made.network.url(&site.label, "");
    let shows = async |browser: &mut Driven, how: &str| {
        let seen = "[document.body.textContent, getComputedStyle(document.body).color, \
                    performance.getEntriesByType('navigation')[0].type]";
        let expected = json!(["no worker, 1 2 3", "rgb(1, 2, 3)", how]);
        for _ in 0..500 {
            if browser.ask(seen).await == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{how}: {}", browser.ask(seen).await);
    };
    browser.open(&url).await;
    shows(&mut browser, "navigate").await;
    for _ in 0..2 {
        browser.reload().await;
        shows(&mut browser, "reload").await;
    }
    browser.end().await;
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_saves_what_a_listing_or_a_page_leads_to() {
    let made = Made::new().await;
    let archive = noise(300_000);
    let index = br#"<!doctype html><title>page</title><a href="./last.zip">save</a>"#;
    let files: &[(&str, &[u8])] = &[
        ("data.zip", &archive),
        ("below/more.zip", &archive),
        ("page/index.html", index),
        ("page/last.zip", &archive),
    ];
    let files = folder(&made, "files", files);
    let stored = made.put(&files).await;
    let mut browser = Driven::start(made.network.edges[0].http, made.folder.path()).await;
    for (path, name) in [("", "data.zip"), ("below/", "more.zip"), ("page/", "last.zip")] {
        browser.open(&made.network.url(&stored.label, path)).await;
        browser.click(&format!("a[href=\"./{name}\"]")).await;
        // Blocked, it would be cancelled or never begin.
        let saved = browser.saved.join(name);
        until("the file is saved", async || fs::read(&saved).is_ok_and(|bytes| bytes == archive)).await;
    }
    browser.end().await;
    made.network.stop().await.unwrap();
}

/// Cuts a film into pieces of two seconds, with a list of them.
fn cut(film: &Path, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let pieces = ["-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"];
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(film).args(["-c", "copy"]).args(pieces).arg("index.m3u8");
    let output = ffmpeg.current_dir(folder).output().expect("ffmpeg is installed: `./x setup --test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Plays a film with two seeks, and tells where it stopped.
const PLAY: &str = r#"(async () => {
  const film = document.querySelector("video");
  const event = (name) => new Promise((done, failed) => {
    film.addEventListener(name, done, { once: true });
    film.addEventListener("error", () => failed(new Error(film.error.message)), { once: true });
  });
  if (film.error) throw new Error(film.error.message);
  if (film.readyState < 1) await event("loadedmetadata");
  const stops = [];
  for (const to of [7, 2.5]) {
    const seeked = event("seeked");
    film.currentTime = to;
    await seeked;
    stops.push(film.currentTime);
  }
  await film.play();
  while (film.currentTime < 3) await event("timeupdate");
  return [...stops, film.videoWidth, Math.round(film.duration)];
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn chromium_plays_a_film_that_lies_in_pieces_in_a_folder() {
    let made = Made::new().await;
    let pieces = made.folder.path().join("pieces");
    cut(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/clip.mp4"), &pieces);
    assert!(fs::read_dir(&pieces).unwrap().count() > 4, "it lies in pieces");
    let film = made.put(&pieces).await;
    // The page is another site's.
    let list = made.network.url(&film.label, "index.m3u8");
    let page = format!("<!doctype html><title>other</title><video muted preload=\"auto\" src=\"{list}\"></video>");
    let page = made.put_as(&made.file("page.html", page.as_bytes()), open_to_all(&made).await).await;
    let mut browser = Driven::start(made.network.edges[0].http, made.folder.path()).await;
    browser.open(&made.network.url(&page.label, "page.html")).await;
    assert_eq!(browser.ask(PLAY).await, json!([7, 2.5, 640, 10]));
    browser.end().await;
    made.network.stop().await.unwrap();
}

/// A tenure under which a page may load from everywhere.
async fn open_to_all(made: &Made) -> Tenure {
    let policy = "[[link]]\nuse = \"pages\"\ncsp = \"default-src * blob: 'unsafe-inline'\"\n";
    let source = PolicySource::parse(policy, made.folder.path()).unwrap();
    made.network.twin.publish(&"open".parse().unwrap(), &source).await.unwrap();
    Tenure { policy: "open".parse().unwrap(), ..made.network.tenure() }
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_asks_for_an_icon_once_and_gets_no_file_for_it() {
    let made = Made::new().await;
    let edge = made.network.edges[0].http;
    let relay = Relay::before(edge).await;
    let mut browser = Driven::start(relay.address, made.folder.path()).await;
    let tenure = pages(&made).await;
    let page = made.put_as(&made.file("a.html", b"<!doctype html><title>a</title><p>a"), tenure).await;
    let site = made.put(&folder(&made, "site", &[("a.txt", b"a"), ("b/b.txt", b"b")])).await;
    let own = made.put(&folder(&made, "own", &[("a.txt", b"a"), ("favicon.ico", b"an icon")])).await;
    let icon = made.put(&made.file("favicon.ico", b"an icon")).await;
    let picture = made.put(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/cat.jpg")).await;
    // It asks for none of a listing, which may load nothing.
    for (stored, name) in [(&page, "a.html"), (&picture, "cat.jpg")] {
        let host = stored.label.to_string();
        browser.open(&made.network.url(&stored.label, name)).await;
        until("the browser asks for an icon", async || relay.asked(&host, "/favicon.ico") > 0).await;
    }
    browser.open(&made.network.url(&page.label, "a.html")).await;
    browser.reload().await;
    browser.open(&made.network.url(&icon.label, "")).await;
    for stored in [&page, &site, &picture] {
        let host = stored.label.to_string();
        assert!(relay.asked(&host, "/favicon.ico") <= 1, "{host}");
        let (answer, body) = made.get(0, stored, "favicon.ico", &[]).await;
        assert!(answer.status == 404 && body.len() < 2_000, "{} bytes: {}", body.len(), answer.header);
        let control = answer.header.to_lowercase();
        assert!(control.contains("cache-control: public, max-age=300"), "{control}");
    }
    // One that was stored is had by its name.
    for stored in [&own, &icon] {
        let (answer, body) = made.get(0, stored, "favicon.ico", &[]).await;
        assert_eq!((answer.status, &body[..]), (200, &b"an icon"[..]), "{}", answer.header);
    }
    browser.end().await;
    made.network.stop().await.unwrap();
}
