//! Logs at level `trace`: no log of any program holds a label, a key, a token, a passphrase or a viewer's address,
//! whoever asks for what, and whatever fails.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use cluster::{
    curl,
    processes::{ProcessOptions, Processes, Seat, read_stored},
};
use data_encoding::{BASE64, HEXLOWER};

use crate::load::{start, until};

const EDGE: usize = 6;
const TRACE: &str = "EVERNEAR_LOG=trace";
/// Addresses of viewers. Only their network may be logged.
const VIEWERS: [&str; 2] = ["127.20.30.41", "127.20.30.42"];
/// A full address in an EDNS client subnet.
const SUBNET: &str = "198.51.100.77";
const ZONE_SECRET: &str = "5ec2e7d1a40b9c3f5ec2e7d1a40b9c3f5ec2e7d1a40b9c3f5ec2e7d1a40b9c3f";

/// A cluster at `trace`, and what its owner's commands logged.
struct Loud {
    processes: Processes,
    said: Vec<u8>,
    https: u16,
}

impl Loud {
    async fn start() -> Self {
        let launch = vec!["env".to_owned(), TRACE.to_owned()];
        let seats = vec![Seat { launch, ..Seat::default() }; EDGE + 1];
        let mut processes = start(ProcessOptions { seats, ..ProcessOptions::default() }).await;
        let https = testing::free_port();
        let path = |name: &str| processes.path(name);
        fs::write(path("zone.secret"), ZONE_SECRET).unwrap();
        fs::set_permissions(path("zone.secret"), Permissions::from_mode(0o600)).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:*.localhost"])
            .args(["-keyout", &path("zone.key"), "-out", &path("zone.pem")])
            .output()
            .unwrap();
        assert!(made.status.success());
        let more = format!(
            "[https]\nlisten = \"127.0.0.1:{https}\"\ncertificate = {:?}\nkey = {:?}\nsecret = {:?}\nredirect = false\n\
             [links]\nsecret = {:?}\n[cache]\n",
            path("zone.pem"),
            path("zone.key"),
            path("zone.secret"),
            path("zone.secret"),
        );
        processes.kill_node(EDGE).unwrap();
        processes.change_config(EDGE, "[cache]\n", &more).unwrap();
        processes.start_node(EDGE).unwrap();
        Self { processes, said: Vec::new(), https }
    }

    /// Runs the owner's program and keeps its standard error.
    fn run(&mut self, words: &[&str]) -> Output {
        let command = self.processes.command(self.processes.program(), words).env("EVERNEAR_LOG", "trace").output();
        let output = command.unwrap();
        self.said.extend_from_slice(&output.stderr);
        output
    }

    fn good(&mut self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks the edge from a viewer's address. Returns the status, or zero when there is none.
    async fn ask(&self, url: &str, more: &[&str]) -> u16 {
        let body = PathBuf::from(self.processes.path("body"));
        let all = [&["--interface", VIEWERS[0], "-k"], more].concat();
        curl(self.processes.http, url, &body, &all).await.unwrap().status
    }

    fn dig(&self, more: &[&str]) {
        let config = fs::read_to_string(self.processes.path("e0.toml")).unwrap();
        let port = config.split("[dns]\nlisten = \"127.0.0.1:").nth(1).unwrap().split('"').next().unwrap();
        let asked = ["@127.0.0.1", "-p", port, "-b", VIEWERS[1], "+tries=1", "+time=5"];
        let output = Command::new("dig").args(asked).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Returns all logs of all programs.
    fn logs(&self) -> Vec<(String, Vec<u8>)> {
        let nodes = (0..6).map(|number| format!("o{number}")).chain(["e0".to_owned()]);
        let read = |name: String| (name.clone(), fs::read(self.processes.path(&format!("{name}.log"))).unwrap());
        nodes.map(read).chain([("the owner's commands".to_owned(), self.said.clone())]).collect()
    }
}

/// Texts that must not be in any log, each with a name.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 8, "{name} is too short to look for: {text}");
        self.0.push((name.to_owned(), text.to_owned()));
    }

    /// Adds a label, its halves, and its capability in the usual encodings of bytes.
    fn label(&mut self, name: &str, label: &str) {
        for (part, text) in [("label", label), ("half a label", &label[..30]), ("half a label", &label[30..])] {
            self.add(&format!("{name}: {part}"), text);
        }
        let label: format::Label = label.parse().unwrap();
        let bytes = *label.capability().expose();
        self.bytes(name, &bytes);
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.add(&format!("{name}: hex"), &HEXLOWER.encode(bytes));
        self.add(&format!("{name}: Base64"), BASE64.encode(bytes).trim_end_matches('='));
        self.add(&format!("{name}: numbers"), format!("{:?}", &bytes[..8]).trim_matches(['[', ']']));
    }

    /// Adds the key of a PEM file, line by line.
    fn pem(&mut self, processes: &Processes, name: &str) {
        let text = fs::read_to_string(processes.path(name)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16);
        lines.for_each(|line| self.add(name, line));
    }

    fn found_in(&self, log: &[u8]) -> Vec<String> {
        let log = String::from_utf8_lossy(log).to_lowercase();
        let found = self.0.iter().filter_map(|(name, text)| {
            let at = log.find(&text.to_lowercase())?;
            let (from, to) = (log.floor_char_boundary(at.saturating_sub(300)), log.ceil_char_boundary(at + 100));
            Some(format!("{name}: ..{}..", &log[from..to]))
        });
        found.collect()
    }
}

/// Takes 30 s: eight processes log at level `trace`.
#[tokio::test(flavor = "multi_thread")]
async fn logs_at_trace_tell_no_secret() {
    let mut loud = Loud::start().await;
    let mut secrets = Secrets::default();
    let path = |loud: &Loud, name: &str| loud.processes.path(name);
    secrets.add("passphrase", fs::read_to_string(path(&loud, "passphrase")).unwrap().trim());
    secrets.add("secret of the zone", ZONE_SECRET);
    secrets.bytes("secret of the zone", &HEXLOWER.decode(ZONE_SECRET.as_bytes()).unwrap());
    for key in ["zone.key", "keys/authority.key", "keys/o0.key", "keys/e0.key", "keys/me.key"] {
        secrets.pem(&loud.processes, key);
    }
    for address in VIEWERS.into_iter().chain([SUBNET]) {
        secrets.add("address of a viewer", address);
    }

    // An owner stores under a policy that asks for signed links, and otherwise.
    let (signed, site, page) = (path(&loud, "signed.toml"), path(&loud, "site"), path(&loud, "page.html"));
    fs::write(&signed, "[[link]]\nuse = \"signed\"\n").unwrap();
    loud.good(&["policy", "publish", "signed", &signed]);
    fs::create_dir_all(format!("{site}/deep")).unwrap();
    fs::write(format!("{site}/deep/a.bin"), vec![7; 400_000]).unwrap();
    fs::write(&page, "<h1>a page of nobody else</h1>").unwrap();
    let film = path(&loud, "film.bin");
    fs::write(&film, testing::noise(900_000)).unwrap();
    let mut stored = Vec::new();
    for words in [vec!["put", &page], vec!["put", &site], vec!["put", &film, "--policy", "signed", "--tag", "films"]] {
        let json = loud.good(&[&words[..], &["--json"]].concat());
        let url = read_stored(&json).unwrap().url;
        let label = url.split("//").nth(1).unwrap().split('.').next().unwrap().to_owned();
        secrets.label(words[1], &label);
        stored.push((label, url));
    }
    let owner = serde_json::from_str::<serde_json::Value>(&loud.good(&["owner", "show", "--json"])).unwrap();
    let owner = owner["owner"].as_str().unwrap().to_owned();
    let link_key = path(&loud, "link.key");
    loud.good(&["edge", "link-key", &owner, "--secret", &path(&loud, "zone.secret"), "--output", &link_key]);
    secrets.add("link key", fs::read_to_string(&link_key).unwrap().trim());
    let link = loud.good(&["sign", &stored[2].1, "--key", &link_key, "--until", "+1h"]);
    let link = link.trim().to_owned();
    let token = link.split("token=").nth(1).unwrap().to_owned();
    secrets.add("token", &token);
    secrets.add("half a token", &token[token.len() / 2..]);

    // Viewers ask well and badly, over DNS, HTTP and TLS.
    let secure = |url: &str| {
        let (host, rest) = url.split_once("//").unwrap().1.split_once(':').unwrap();
        format!("https://{host}:{}/{}", loud.https, rest.split_once('/').unwrap().1)
    };
    for (label, url) in &stored {
        for url in [url.clone(), secure(url)] {
            for more in [&[][..], &["--http1.1", "-r", "0-99"], &["-X", "POST", "-d", "x"], &["-I"]] {
                loud.ask(&url, more).await;
            }
            loud.ask(&format!("{url}/%zz"), &["-H", &format!("referer: {url}")]).await;
            loud.ask(&url, &["-H", &format!("cookie: secret={label}"), "-H", "range: bytes=9-1"]).await;
        }
        let name = format!("{label}.localhost");
        for more in [&["A"][..], &["HTTPS"], &["TXT", "+tcp"], &["ANY", "+bufsize=512"], &["A", "+cookie", "+nsid"]] {
            loud.dig(&[&[name.as_str()], more].concat());
        }
        loud.dig(&[&name, "A", &format!("+subnet={SUBNET}/32")]);
        loud.dig(&[&format!("deeper.{name}"), "A"]);
    }
    assert_eq!(loud.ask(&link, &[]).await, 200);
    assert_eq!(loud.ask(&secure(&link), &["--http2"]).await, 200);
    assert_eq!(loud.ask(&format!("{link}x"), &[]).await, 403);
    assert_eq!(loud.ask(&stored[2].1, &[]).await, 403);
    // A label with one wrong letter still reveals nearly the whole label.
    let misspelt = stored[0].1.replacen(&stored[0].0[..1], if stored[0].0.starts_with('a') { "b" } else { "a" }, 1);
    loud.ask(&misspelt, &[]).await;

    // Nodes fail during a read, and while the owner's commands run.
    for number in [0, 1, 2] {
        loud.processes.kill_node(number).unwrap();
    }
    loud.good(&["purge", "--tag", "films"]);
    loud.ask(&link, &[]).await;
    let (label, _) = stored[2].clone();
    loud.run(&["get", &label, "--output", &path(&loud, "got")]);
    loud.run(&["put", &page, "--name", "again.html"]);
    for number in [0, 1, 2] {
        loud.processes.start_node(number).unwrap();
    }
    for words in [
        vec!["get", &label, "--output", &path(&loud, "whole")],
        vec!["stat", &label],
        vec!["ls"],
        vec!["renew", &label, "--expires", "+30d", "--yes"],
        vec!["object", "health", &label],
        vec!["repair", "status"],
        vec!["node", "ls"],
        vec!["purge", &label],
        vec!["rm", &label],
    ] {
        loud.run(&words);
    }
    until("the erasure", async || loud.ask(&link, &[]).await == 410).await;
    // A node buffers its log lines for a moment (100 ms).
    let access = |loud: &Loud| String::from_utf8_lossy(&loud.logs()[EDGE].1).contains("status=410");
    until("the edge's last lines", async || access(&loud)).await;

    let mut bytes = 0;
    for (name, log) in loud.logs() {
        let found = secrets.found_in(&log);
        assert!(found.is_empty(), "the log of {name} holds {found:#?}");
        assert!(log.windows(5).any(|word| word == b"TRACE" || word == b"DEBUG"), "the log of {name} is loud");
        bytes += log.len();
    }
    println!("{bytes} bytes of logs hold none of {} texts", secrets.0.len());
    // The control: the search finds a text that may be logged.
    let network = "127.20.30.0";
    let mut known = Secrets::default();
    known.add("network of a viewer", network);
    assert_eq!(known.found_in(&loud.logs()[EDGE].1).len(), 1);
}
