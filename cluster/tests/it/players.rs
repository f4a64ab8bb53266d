//! A long film with its index at the end, as cameras write it, through an edge in its own process: download managers
//! with many connections, and players that jump to the end and back. Read amplification stays low: the edge pulls
//! hardly more from origins than was asked for.
//!
//! `EVERNEAR_FILM_MIB=1024 cargo test -p cluster players` takes a film of that many MiB in place of 96.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use cluster::processes::{ProcessOptions, Processes, StoredFile};

use crate::load::start;

/// The only edge, behind all origins.
const EDGE: usize = 6;
const MIB: u64 = 1 << 20;
/// Bytes pulled from origins for each byte asked for.
const PULLED_MAX: f64 = 1.2;
/// How many bytes an edge reads ahead for one viewer.
const AHEAD_BYTES: u64 = 8 * MIB;

struct Scene {
    processes: Processes,
    film: String,
    stored: StoredFile,
    bytes: u64,
    admin: String,
}

impl Scene {
    async fn new() -> Self {
        let processes = start(ProcessOptions::default()).await;
        let mib = env::var("EVERNEAR_FILM_MIB").map_or(96, |text| text.parse().expect("a number of MiB"));
        let film = processes.path("film.mp4");
        shoot(&processes.path("scene.mp4"), &film, mib);
        let bytes = fs::metadata(&film).unwrap().len();
        let stored = processes.put(&film).unwrap();
        let admin = format!("127.0.0.1:{}", testing::free_port());
        let zone = "zone = \"localhost\"\n";
        processes.change_config(EDGE, zone, &format!("{zone}admin = \"{admin}\"\n")).unwrap();
        Self { processes, film, stored, bytes, admin }
    }

    /// Restarts the edge, with an empty cache.
    fn forget(&mut self) {
        self.processes.kill_node(EDGE).unwrap();
        self.processes.start_node(EDGE).unwrap();
    }

    /// Returns the film's URL by IP address and its Host header, for programs that do not resolve names below
    /// localhost.
    fn address(&self) -> (String, String) {
        let (_, path) = self.stored.url.split_once(&self.stored.authority).unwrap();
        (format!("http://{}{path}", self.processes.address(EDGE)), format!("Host: {}", self.stored.authority))
    }

    /// Returns the bytes that the edge has pulled from origins, and sent, since it started.
    async fn pulled_and_sent(&self) -> (u64, u64) {
        let text = reqwest::get(format!("http://{}/metrics", self.admin)).await.unwrap().text().await.unwrap();
        let counter = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap().parse().unwrap()
        };
        (counter("evernear_edge_fill_bytes_total"), counter("evernear_edge_http_body_bytes_total"))
    }

    /// Lets a program fetch the film from a cold edge, and checks the result.
    async fn fetch(&mut self, program: &str, arguments: &[&str]) {
        self.forget();
        let (url, host) = self.address();
        let out = self.processes.path("fetched");
        let _ = fs::remove_file(&out);
        let arguments: Vec<String> =
            arguments.iter().map(|it| it.replace("HOST", &host).replace("OUT", &out)).collect();
        run(Command::new(program).args(&arguments).arg(&url));
        assert!(is_same(Path::new(&self.film), Path::new(&out)), "{program} has the film exactly");
        let (pulled, _) = self.pulled_and_sent().await;
        println!("{program}: {} bytes, {pulled} pulled ({:.3})", self.bytes, pulled as f64 / self.bytes as f64);
        assert!(pulled as f64 <= self.bytes as f64 * PULLED_MAX, "{program}: {pulled} bytes pulled");
    }

    /// Lets a program play parts of the film from a cold edge. After each jump it asks for the whole rest and
    /// disconnects when it has enough. So each jump may cost the read-ahead in addition to what was sent.
    async fn play(&mut self, program: &str, jumps: u64, arguments: &[&str]) {
        self.forget();
        let (url, host) = self.address();
        let arguments: Vec<String> =
            arguments.iter().map(|it| it.replace("HOST", &host).replace("URL", &url)).collect();
        let said = run(Command::new(program).args(&arguments));
        let (pulled, sent) = self.pulled_and_sent().await;
        println!("{program}: {pulled} bytes pulled for {sent} sent of {}; {}", self.bytes, said.trim());
        let worth = sent as f64 * PULLED_MAX + (jumps * AHEAD_BYTES) as f64;
        assert!(pulled as f64 <= worth, "{program}: {pulled} bytes pulled for {sent} sent and {jumps} jumps");
    }
}

/// Makes a film of `mib` MiB with its index at the end, by repeating one scene.
fn shoot(scene: &str, film: &str, mib: u64) {
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=8,noise=alls=3:allf=t"];
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=8"];
    let coded = ["-c:v", "mpeg4", "-q:v", "8", "-g", "25", "-c:a", "aac", scene];
    run(Command::new("ffmpeg").args(["-v", "error", "-y"]).args(picture).args(sound).args(coded));
    let times = (mib * MIB / fs::metadata(scene).unwrap().len()).to_string();
    run(Command::new("ffmpeg").args(["-v", "error", "-y", "-stream_loop", &times, "-i", scene, "-c", "copy", film]));
    let bytes = fs::read(film).unwrap();
    let find = |name: &[u8]| bytes.windows(4).position(|window| window == name);
    assert!(bytes.len() as u64 >= mib * MIB && find(b"mdat") < find(b"moov"), "the index is at the end");
}

fn is_same(one: &Path, other: &Path) -> bool {
    Command::new("cmp").args([one, other]).status().unwrap().success()
}

/// Runs a program, which must succeed, and returns its output.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; `./x setup` installs it"));
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_film_is_fetched_and_played_for_little_more_than_is_asked() {
    let mut scene = Scene::new().await;
    let ranges = ["-q", "--header=HOST", "-x16", "-s16", "-k1M", "--file-allocation=none", "-d/", "-oOUT"];
    scene.fetch("aria2c", &ranges).await;
    scene.fetch("wget", &["-q", "--header=HOST", "-O", "OUT"]).await;
    scene.fetch("curl", &["-sS", "-H", "HOST", "-o", "OUT"]).await;

    let length = ["-v", "error", "-headers", "HOST\r\n", "-show_entries", "format=duration", "-of", "csv=p=0", "URL"];
    scene.play("ffprobe", 2, &length).await;
    let frames =
        ["-v", "error", "-headers", "HOST\r\n", "-ss", "30", "-i", "URL", "-frames:v", "50", "-f", "null", "-"];
    scene.play("ffmpeg", 3, &frames).await;
    let middle = ["--no-config", "--vo=null", "--ao=null", "--http-header-fields=HOST", "--start=50%", "--frames=50"];
    scene.play("mpv", 3, &[&middle[..], &["--really-quiet", "URL"]].concat()).await;
}
