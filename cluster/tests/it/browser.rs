//! Programs that people use: Chromium shows a picture and plays a film from an edge, and runs no script of an upload;
//! ffprobe seeks in the film. A missing program fails the test: `./x setup --test` installs it.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use crate::{load::until, made::Made};

/// A browser starts in a second or two; a busy machine takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub(crate) fn sample(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

/// Returns whether a program is in `PATH`.
pub(crate) fn find(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(name).exists())
}

/// A running browser, with all its processes.
pub(crate) struct Browser(pub(crate) Child);

impl Browser {
    /// Ends all its processes. Then none writes into its folder any more, and the folder can be removed.
    pub(crate) async fn end(mut self) {
        let group = self.0.id().expect("nobody waited for it").to_string();
        let killed = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status().await;
        assert!(killed.unwrap().success());
        self.0.wait().await.unwrap();
        until("the end of the browser", async || !lives(&group)).await;
    }
}

/// Returns whether a process of a group runs. A zombie, which only waits for its parent, does not.
fn lives(group: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok()).any(|stat| {
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        fields.next() != Some("Z") && fields.nth(1) == Some(group)
    })
}

/// Starts the browser without a window (headless) on `url`. Names of the demo's zone resolve to `edge`. The browser
/// writes its files below `profile`.
pub(crate) fn browser(edge: SocketAddr, profile: &Path, more: &[&str], url: &str) -> Browser {
    fs::create_dir_all(profile).unwrap();
    let start = |name: &str| {
        let mut command = Command::new(name);
        command
            .process_group(0)
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, profile)))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--host-resolver-rules=MAP *.localhost {}", edge.ip()))
            .args(more)
            .arg(url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().ok()
    };
    Browser(NAMES.into_iter().find_map(start).expect("a browser is installed: `./x setup --test`"))
}

/// Returns the document (DOM) as the browser has it once all of it is loaded.
pub(crate) async fn dom(edge: SocketAddr, profile: &Path, more: &[&str], url: &str) -> String {
    let mut browser = browser(edge, profile, &[&["--dump-dom"], more].concat(), url);
    let mut document = String::new();
    let mut out = browser.0.stdout.take().expect("it is read");
    timeout(DEADLINE, out.read_to_string(&mut document)).await.unwrap().unwrap();
    browser.end().await;
    document
}

/// A page of another site that embeds a picture and a film, waits until both are loaded, and reports what it sees. Both
/// fit into the window, because browsers do not start a film that is not visible.
fn page(picture: &str, film: &str) -> String {
    format!(
        r#"<!doctype html><title>other site</title>
<img id="picture" width="300" src="{picture}"><video id="film" width="300" muted autoplay src="{film}"></video>
<script>
let told = false;
const tell = (text) => {{ if (!told) {{ told = true; fetch("/told", {{ method: "POST", body: text + "\n" }}); }} }};
const look = () => {{
  if (picture.complete && film.currentTime > 1) {{
    tell(`${{picture.naturalWidth}}x${{picture.naturalHeight}} ${{film.videoWidth}}x${{film.videoHeight}}`);
  }}
}};
film.addEventListener("timeupdate", look);
picture.addEventListener("load", look);
picture.addEventListener("error", () => tell("the picture does not load"));
film.addEventListener("error", () => tell("the film does not play: " + film.error.message));
</script>"#
    )
}

/// Serves one document to every request until the browser posts a line, and returns the line.
pub(crate) async fn serve_until_told(listener: &TcpListener, kind: &'static str, document: &str) -> String {
    let document: Arc<str> = document.into();
    // A browser also opens connections on which it sends nothing (preconnect), so each connection has its own task.
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                answers.spawn(answer(accepted.unwrap().0, kind, document.clone()));
            }
            Some(answered) = answers.join_next() => {
                if let Ok(Some(told)) = answered {
                    return told;
                }
            }
        }
    }
}

/// Answers one request; returns the body of a post.
async fn answer(stream: TcpStream, kind: &'static str, document: Arc<str>) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let (mut method, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? <= 2 {
            break;
        }
        if method.is_empty() {
            method = line.split(' ').next()?.to_owned();
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        document.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(document.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()?;
    (method == "POST").then(|| String::from_utf8_lossy(&body).trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_shows_the_picture_and_plays_the_film() {
    let made = Made::new().await;
    let picture = made.put(&sample("cat.jpg")).await;
    let film = made.put(&sample("clip.mp4")).await;
    let url = |stored: &twin::Stored, name| made.network.url(&stored.label, name);
    let page = page(&url(&picture, "cat.jpg"), &url(&film, "clip.mp4"));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = format!("http://{}/", listener.local_addr().unwrap());
    let profile = made.folder.path().join("browser");
    let browser = browser(made.network.edges[1].http, &profile, &[], &site);
    let told = timeout(DEADLINE, serve_until_told(&listener, "text/html", &page)).await;
    browser.end().await;
    assert_eq!(told.unwrap(), "1600x1067 640x360");
    made.network.stop().await.unwrap();
}

/// A page that seeks three times, forwards and backwards, in a film and in a sound, and reports the position of each.
fn seeking_page(film: &str, sound: &str) -> String {
    format!(
        r#"<!doctype html><title>other site</title>
<video id="film" width="300" muted preload="metadata" src="{film}"></video><audio id="sound" preload="metadata" src="{sound}"></audio>
<script>
const event = (media, name) => new Promise((done, failed) => {{
  media.addEventListener(name, done, {{ once: true }});
  media.addEventListener("error", () => failed(media.error.message), {{ once: true }});
}});
const seek = async (media) => {{
  if (media.readyState < 1) await event(media, "loadedmetadata");
  const stops = [];
  for (const to of [7, 2.5, 5]) {{
    const seeked = event(media, "seeked");
    media.currentTime = to;
    await seeked;
    stops.push(media.currentTime);
  }}
  await media.play();
  while (media.currentTime < 5.3) await event(media, "timeupdate");
  return stops.join(" ");
}};
const main = async () => `film ${{await seek(film)}} of ${{film.duration}}, sound ${{await seek(sound)}} of ${{sound.duration}}`;
main().catch(String).then((text) => fetch("/told", {{ method: "POST", body: text }}));
</script>"#
    )
}

/// Ten seconds of a tone, as WAV: 8,000 samples of 8 bits a second.
fn tone() -> Vec<u8> {
    const RATE: u32 = 8_000;
    let samples: Vec<u8> = (0..10 * RATE).map(|at| if at / 10 % 2 == 0 { 96 } else { 160 }).collect();
    let length = u32::try_from(samples.len()).unwrap();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + length).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(RATE.to_le_bytes());
    wav.extend(RATE.to_le_bytes());
    wav.extend(b"\x01\0\x08\0data");
    wav.extend(length.to_le_bytes());
    wav.extend(samples);
    wav
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_seeks_in_a_film_and_in_a_sound() {
    let made = Made::new().await;
    let film = made.put(&sample("clip.mp4")).await;
    let sound = made.put(&made.file("tone.wav", &tone())).await;
    let page = seeking_page(&made.network.url(&film.label, "clip.mp4"), &made.network.url(&sound.label, "tone.wav"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = format!("http://{}/", listener.local_addr().unwrap());
    let profile = made.folder.path().join("browser");
    let gestures = "--autoplay-policy=no-user-gesture-required";
    let browser = browser(made.network.edges[0].http, &profile, &[gestures], &site);
    let told = timeout(DEADLINE, serve_until_told(&listener, "text/html", &page)).await;
    browser.end().await;
    assert_eq!(told.unwrap(), "film 7 2.5 5 of 10, sound 7 2.5 5 of 10");
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_runs_no_script_of_an_upload() {
    let made = Made::new().await;
    let edge = made.network.edges[0].http;
    let profile = made.folder.path().join("browser");
    for (name, kind, document) in [
        (
            "page.html",
            "text/html",
            "<!doctype html><title>a</title><p id=mark>quiet</p><script>document.getElementById('mark').textContent = 'ran';</script>",
        ),
        (
            "drawing.svg",
            "image/svg+xml",
            "<svg xmlns='http://www.w3.org/2000/svg'><text id='mark'>quiet</text><script>document.getElementById('mark').textContent = 'ran';</script></svg>",
        ),
    ] {
        let stored = made.put(&made.file(name, document.as_bytes())).await;
        let shown = dom(edge, &profile, &[], &made.network.url(&stored.label, name)).await;
        assert!(shown.contains(">quiet<") && !shown.contains(">ran<"), "{name}: {shown}");

        // The control: served by any other server, the script in the same bytes runs.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = format!("http://{}/", listener.local_addr().unwrap());
        let elsewhere = tokio::select! {
            shown = dom(edge, &profile, &[], &site) => shown,
            told = serve_until_told(&listener, kind, document) => panic!("told {told}"),
        };
        assert!(elsewhere.contains(">ran<"), "{name}: {elsewhere}");
    }
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ffprobe_seeks_in_the_film() {
    let made = Made::new().await;
    let film = made.put(&sample("clip.mp4")).await;
    let edge = made.network.edges[2].http;
    // ffprobe resolves names by the system, which may not know names below localhost, so the name goes into the Host
    // header.
    let name = format!("{}.localhost", film.label);
    let mut command = Command::new("ffprobe");
    command
        .args(["-v", "error", "-headers", &format!("Host: {name}\r\n"), "-read_intervals", "3%+#1"])
        .args(["-show_entries", "stream=codec_type,width,height:packet=pts_time", "-of", "default=noprint_wrappers=1"])
        .arg(format!("http://{edge}/clip.mp4"));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(DEADLINE, output).await.unwrap().expect("ffprobe is installed: `./x setup --test`");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("width=640") && said.contains("height=360"), "{said}");
    assert!(said.lines().any(|line| line == "pts_time=2.000000"), "{said}");
    made.network.stop().await.unwrap();
}
