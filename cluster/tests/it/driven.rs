//! A browser that is driven: Chromium does what it is told over the `DevTools` protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>), on two pipes.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        unix::pipe::{OpenOptions, Receiver, Sender},
    },
    process::Command,
    task::JoinSet,
    time::timeout,
};

use crate::browser::{Browser, DEADLINE, NAMES, find};

/// A browser with one page.
pub(crate) struct Driven {
    browser: Browser,
    to: Sender,
    from: BufReader<Receiver>,
    number: u64,
    session: Option<String>,
    /// Events that came while an answer was waited for.
    events: Vec<Value>,
    pub(crate) saved: PathBuf,
}

impl Driven {
    /// Starts a browser for which `edge` is all names below localhost; what it saves comes into its own folder.
    pub(crate) async fn start(edge: SocketAddr, folder: &Path) -> Self {
        let profile = folder.join("driven");
        let saved = profile.join("saved");
        fs::create_dir_all(&saved).unwrap();
        let (to, from) = (profile.join("to"), profile.join("from"));
        let made = Command::new("mkfifo").args([&to, &from]).status().await.unwrap();
        assert!(made.success());
        let mut command = Command::new("sh");
        command
            .process_group(0)
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, &profile)))
            .args(["-c", r#"exec "$@" 3<"$0/to" 4>"$0/from""#])
            .arg(&profile)
            .arg(NAMES.into_iter().find(|name| find(name)).expect("a browser is installed: `./x setup --test`"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"])
            .args(["--remote-debugging-pipe", "--autoplay-policy=no-user-gesture-required"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--host-resolver-rules=MAP *.localhost {edge}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let browser = Browser(child.unwrap());
        // Both ends at a time: opening one waits for the other.
        let read_write = |path: &Path| OpenOptions::new().read_write(true).open_sender(path).unwrap();
        let to = read_write(&to);
        let from = OpenOptions::new().read_write(true).open_receiver(&from).unwrap();
        let mut it =
            Self { browser, to, from: BufReader::new(from), number: 0, session: None, events: Vec::new(), saved };
        let page = it.tell("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attached = json!({ "targetId": page["targetId"], "flatten": true });
        let session = it.tell("Target.attachToTarget", attached).await["sessionId"].as_str().unwrap().to_owned();
        let saves = json!({ "behavior": "allow", "downloadPath": it.saved, "eventsEnabled": true });
        it.tell("Browser.setDownloadBehavior", saves).await;
        it.session = Some(session);
        it.tell("Page.enable", json!({})).await;
        it
    }

    /// Tells the browser something and returns what it answers.
    pub(crate) async fn tell(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut told = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            told["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{told}\0").as_bytes()).await.unwrap();
        loop {
            let said = self.hear().await;
            if said["id"] == json!(self.number) {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.events.push(said);
        }
    }

    async fn hear(&mut self) -> Value {
        let mut said = Vec::new();
        let read = timeout(DEADLINE, self.from.read_until(0, &mut said)).await.expect("the browser says nothing");
        assert!(read.unwrap() > 0, "the browser ended");
        serde_json::from_slice(said.strip_suffix(b"\0").unwrap()).unwrap()
    }

    /// Waits for an event that `is_it`.
    pub(crate) async fn event(&mut self, method: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let said = match self.events.is_empty() {
                true => self.hear().await,
                false => self.events.remove(0),
            };
            if said["method"] == method && is_it(&said["params"]) {
                return said["params"].clone();
            }
        }
    }

    /// Opens an address and waits until all of the page is there.
    pub(crate) async fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.tell("Page.navigate", json!({ "url": url })).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        self.event("Page.loadEventFired", |_| true).await;
    }

    /// Loads the page again, as F5 does.
    pub(crate) async fn reload(&mut self) {
        self.events.clear();
        self.tell("Page.reload", json!({})).await;
        self.event("Page.loadEventFired", |_| true).await;
    }

    /// Returns what a script in the page gives, also where the page itself may run none.
    pub(crate) async fn ask(&mut self, script: &str) -> Value {
        let asked = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let said = self.tell("Runtime.evaluate", asked).await;
        assert!(said["exceptionDetails"].is_null(), "{script}: {said}");
        said["result"]["value"].clone()
    }

    /// Clicks where an element is, as a hand does.
    pub(crate) async fn click(&mut self, selector: &str) {
        let place = format!(
            "(() => {{ const it = document.querySelector('{selector}').getBoundingClientRect(); \
             return [it.x + it.width / 2, it.y + it.height / 2]; }})()"
        );
        let place = self.ask(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.tell("Input.dispatchMouseEvent", event).await;
        }
    }

    pub(crate) async fn end(self) {
        self.browser.end().await;
    }
}

/// What a browser sent on its way to an edge.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
    _relays: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn before(edge: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = Arc::clone(&sent);
        let mut relays = JoinSet::new();
        relays.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (from, _) = listener.accept().await.unwrap();
                let to = TcpStream::connect(edge).await.unwrap();
                let all = Arc::clone(&all);
                connections.spawn(async move {
                    let ((mut from, mut back), (mut answers, mut to)) = (from.into_split(), to.into_split());
                    let back = async { tokio::io::copy(&mut answers, &mut back).await };
                    let there = async {
                        let mut piece = vec![0; 16 * 1024];
                        while let Ok(read @ 1..) = from.read(&mut piece).await {
                            all.lock().unwrap().extend_from_slice(&piece[..read]);
                            if to.write_all(&piece[..read]).await.is_err() {
                                break;
                            }
                        }
                    };
                    let _ = tokio::join!(back, there);
                });
            }
        });
        Self { address, sent, _relays: relays }
    }

    /// Returns how often a path of a host was asked for.
    pub(crate) fn asked(&self, host: &str, path: &str) -> usize {
        let sent = String::from_utf8_lossy(&self.sent.lock().unwrap()).into_owned();
        let heads = sent.split("\r\n\r\n").filter(|head| head.contains(host));
        heads.filter(|head| head.trim_start().starts_with(&format!("GET {path} "))).count()
    }
}
