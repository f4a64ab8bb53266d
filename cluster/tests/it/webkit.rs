//! `WebKit`, the engine of Safari: shows a picture and seeks in a film, driven over the `WebDriver` protocol
//! (<https://www.w3.org/TR/webdriver2/>) on a screen that nobody sees.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    browser::{Browser, DEADLINE, sample, serve_until_told},
    load::until,
    made::Made,
};

/// Waits until picture and film are there, seeks three times, and tells what it saw.
fn page(picture: &str, film: &str) -> String {
    format!(
        r#"<!doctype html><title>other site</title>
<img id="picture" width="300" src="{picture}"><video id="film" width="300" muted preload="auto" src="{film}"></video>
<script>
const event = (of, name) => new Promise((done, failed) => {{
  of.addEventListener(name, done, {{ once: true }});
  of.addEventListener("error", () => failed(new Error(`${{of.id}} ${{of.error ? of.error.message : ""}}`)), {{ once: true }});
}});
const main = async () => {{
  if (!picture.complete) await event(picture, "load");
  if (film.readyState < 1) await event(film, "loadedmetadata");
  const stops = [];
  for (const to of [7, 2.5, 5]) {{
    const seeked = event(film, "seeked");
    film.currentTime = to;
    await seeked;
    stops.push(film.currentTime);
  }}
  await film.play();
  while (film.currentTime < 5.3) await event(film, "timeupdate");
  return `${{picture.naturalWidth}}x${{picture.naturalHeight}} ${{film.videoWidth}}x${{film.videoHeight}} ${{stops.join(" ")}}`;
}};
main().catch(String).then((text) => fetch("/told", {{ method: "POST", body: text }}));
</script>"#
    )
}

fn quiet(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.process_group(0).envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, home)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// A screen, and its name.
async fn screen(home: &Path) -> (Child, String) {
    let mut screen = quiet("Xvfb", home);
    screen.args(["-displayfd", "1", "-nolisten", "tcp"]).stdout(Stdio::piped());
    let mut screen = screen.spawn().expect("Xvfb is installed: `./x setup --test`");
    let mut number = String::new();
    let mut out = BufReader::new(screen.stdout.take().unwrap());
    timeout(DEADLINE, out.read_line(&mut number)).await.unwrap().unwrap();
    (screen, format!(":{}", number.trim()))
}

#[tokio::test(flavor = "multi_thread")]
async fn webkit_shows_the_picture_and_seeks_in_the_film() {
    let made = Made::new().await;
    let picture = made.put(&sample("cat.jpg")).await;
    let film = made.put(&sample("clip.mp4")).await;
    // It takes all names below localhost for this machine itself, where the first edge is.
    assert_eq!(made.network.edges[0].http.ip().to_string(), "127.0.0.1");
    let page = page(&made.network.url(&picture.label, "cat.jpg"), &made.network.url(&film.label, "clip.mp4"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = format!("http://{}/", listener.local_addr().unwrap());

    let home = made.folder.path().join("webkit");
    std::fs::create_dir(&home).unwrap();
    let (screen, display) = screen(&home).await;
    let port = testing::free_port();
    let mut driver = quiet("WebKitWebDriver", &home);
    let driver = driver.arg(format!("--port={port}")).env("DISPLAY", display).spawn();
    let driver = driver.expect("WebKitWebDriver is installed: `./x setup --test`");
    let client = Client::builder().timeout(DEADLINE).build().unwrap();
    let tell = async |path: &str, what: Value| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let said = client.post(url).body(what.to_string()).send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&said).unwrap()["value"].clone()
    };
    let status = format!("http://127.0.0.1:{port}/status");
    until("WebKitWebDriver", async || client.get(&status).send().await.is_ok()).await;
    let session = tell("/session", json!({ "capabilities": {} })).await;
    let name = session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")).to_owned();
    let begun = Instant::now();
    let open = format!("/session/{name}/url");
    let opened = tell(&open, json!({ "url": site }));
    let told = async { tokio::join!(opened, serve_until_told(&listener, "text/html", &page)).1 };
    let told = timeout(DEADLINE, told).await;
    println!("{:?}", begun.elapsed());
    let _ =
        timeout(Duration::from_secs(5), client.delete(format!("http://127.0.0.1:{port}/session/{name}")).send()).await;
    Browser(driver).end().await;
    Browser(screen).end().await;
    assert_eq!(told.unwrap(), "1600x1067 640x360 7 2.5 5");
    made.network.stop().await.unwrap();
}
