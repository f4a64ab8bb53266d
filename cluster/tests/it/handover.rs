//! Graceful restart: an edge's process makes way for a successor with a new configuration or a new program, under the
//! load of h2load and with a service manager.

use std::{
    fs,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cluster::{
    curl,
    processes::{ProcessOptions, Processes, Seat, StoredFile},
};
use reqwest::{Client, StatusCode, Url, Version};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::load::{start, until};

/// The only edge, behind all origins.
const EDGE: usize = 6;

const CONTENT: &[u8] = &[7; 20_000];

/// The edge's processes: the first one and its successors.
struct Line {
    processes: Processes,
    manager: UnixDatagram,
    _folder: TempDir,
    now: u32,
}

impl Line {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let launch = vec!["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display())];
        let mut seats = vec![Seat::default(); EDGE];
        seats.push(Seat { launch, ..Seat::default() });
        let mut processes = start(ProcessOptions { seats, ..ProcessOptions::default() }).await;
        let now = processes.pid(EDGE).unwrap();
        let it = Self { processes, manager, _folder: folder, now };
        assert_eq!(it.told(), "READY=1\n");
        it
    }

    /// Returns the next notification to the service manager.
    fn told(&self) -> String {
        let mut word = [0; 512];
        let length = self.manager.recv(&mut word).unwrap();
        String::from_utf8(word[..length].to_vec()).unwrap()
    }

    /// Writes another name into the configuration, with a certificate of that name.
    fn rename(&self, from: &str, to: &str) {
        self.processes.evernear(&["cluster", "issue", &self.processes.path("keys"), to, "--role", "edge"]).unwrap();
        for (from, to) in [
            (format!("name = \"{from}\""), format!("name = \"{to}\"")),
            (format!("/{from}.pem"), format!("/{to}.pem")),
            (format!("/{from}.key"), format!("/{to}.key")),
        ] {
            self.processes.change_config(EDGE, &from, &to).unwrap();
        }
    }

    /// Sends SIGHUP to the edge, so that it makes way for a successor.
    fn hang_up(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.now.to_string()]).status().unwrap().success());
    }

    /// Makes the edge start a successor, and waits until the edge has ended.
    async fn succeed(&mut self) {
        self.hang_up();
        let told = self.told();
        let successor = told.trim().strip_prefix("MAINPID=").unwrap().parse().unwrap();
        assert_ne!(successor, self.now);
        let before = std::mem::replace(&mut self.now, successor);
        until("the predecessor ends", async || has_ended(before)).await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.processes.path("e0.log")).unwrap()
    }

    async fn cache_status(&self, stored: &StoredFile) -> String {
        let body = PathBuf::from(self.processes.path("body"));
        let answer = curl(self.processes.address(EDGE), &stored.url, &body, &[]).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.header);
        answer.header.lines().find_map(|line| line.strip_prefix("cache-status: ")).unwrap().to_owned()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The first process is a child of the test; its successors are not, so they are killed here.
        let _ = Command::new("kill").args(["-KILL", &self.now.to_string()]).stderr(Stdio::null()).status();
    }
}

/// A load over HTTP/2. h2load cannot be used, because it counts streams as failed that it had queued, and so never
/// sent, when GOAWAY came.
struct Streams {
    is_over: Arc<AtomicBool>,
    exact: Arc<AtomicU64>,
    viewers: JoinSet<()>,
}

impl Streams {
    /// Starts eight viewers, each of which sends one request after the other until the end.
    fn start(edge: SocketAddr, stored: &StoredFile) -> Self {
        let url: Url = stored.url.parse().unwrap();
        let client = Client::builder().http2_prior_knowledge().resolve(url.host_str().unwrap(), edge).build().unwrap();
        let (is_over, exact) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let viewer = |_| {
            let (client, url, is_over, exact) = (client.clone(), url.clone(), Arc::clone(&is_over), Arc::clone(&exact));
            async move {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.get(url.clone()).send().await.unwrap();
                    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
                    assert_eq!(answer.bytes().await.unwrap(), CONTENT);
                    exact.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let viewers = (0..8).map(viewer).collect();
        Self { is_over, exact, viewers }
    }

    /// Returns how many requests got an exact answer so far.
    fn exact(&self) -> u64 {
        self.exact.load(Ordering::Relaxed)
    }

    /// Ends the load. Panics when a request got no answer.
    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.viewers.join_all().await;
    }
}

/// Returns whether a process is gone or a zombie, which only waits for its parent.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_one_process_follows_another() {
    let mut line = Line::start().await;
    let file = line.processes.path("a.bin");
    fs::write(&file, CONTENT).unwrap();
    let stored = line.processes.put(&file).unwrap();
    let load = Command::new("h2load")
        .args(["--h1", "-c", "8", "-t", "1", "-D", "12"])
        .args([&format!("--connect-to={}", line.processes.address(EDGE)), &stored.url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let streams = Streams::start(line.processes.address(EDGE), &stored);
    for turn in 0..3 {
        let before = streams.exact();
        until("the load goes on", async || streams.exact() > before + 100).await;
        line.rename(&format!("e{turn}"), &format!("e{}", turn + 1));
        line.succeed().await;
        let status = line.cache_status(&stored).await;
        assert!(status.starts_with(&format!("\"e{}\"; ", turn + 1)), "the new configuration counts: {status}");
    }
    let said = String::from_utf8(load.wait_with_output().unwrap().stdout).unwrap();
    let requests = said.lines().find(|line| line.starts_with("requests: ")).unwrap();
    println!("{requests}");
    assert!(requests.contains(" 0 failed, 0 errored, 0 timeout") && !requests.contains(" 0 succeeded"), "{said}");
    println!("over HTTP/2: {} requests", streams.exact());
    streams.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_does_not_start_leaves_everything_as_it_is() {
    let mut line = Line::start().await;
    let file = line.processes.path("a.bin");
    fs::write(&file, CONTENT).unwrap();
    let stored = line.processes.put(&file).unwrap();
    line.processes.change_config(EDGE, "zone = \"localhost\"", "zone = \"..\"").unwrap();
    line.hang_up();
    until("it says so", async || line.log().contains("there is no successor")).await;
    assert!(line.log().contains("goes on as it is"), "{}", line.log());
    assert_eq!(line.processes.pid(EDGE).unwrap(), line.now);
    assert!(line.cache_status(&stored).await.starts_with("\"e0\"; "));

    line.processes.change_config(EDGE, "zone = \"..\"", "zone = \"localhost\"").unwrap();
    line.succeed().await;
    assert!(line.cache_status(&stored).await.starts_with("\"e0\"; "));
    // The successor can be stopped like any edge, and the next one starts without a predecessor.
    assert!(Command::new("kill").args(["-TERM", &line.now.to_string()]).status().unwrap().success());
    until("it ends", async || has_ended(line.now)).await;
    line.processes.start_node(EDGE).unwrap();
    line.now = line.processes.pid(EDGE).unwrap();
    assert!(line.cache_status(&stored).await.starts_with("\"e0\"; "));
}
