//! `evernear twin run`, killed in the middle of a hundred uploads.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Child,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;
use testing::noise_of;

use crate::{program::Home, road::set_up};

const ROUNDS: u32 = 20;
/// Bytes of the uploads of a round: what comes in one request, and what comes by tus.
const PLAIN: [usize; 3] = [20_000, 300_000, 2_000_000];
const RESUMABLE: [usize; 2] = [100_000, 1_500_000];
const CHUNK_BYTES: usize = 250_000;
const SOON: Duration = Duration::from_secs(30);

/// A twin that runs, killed at its end.
struct Twin {
    child: Child,
    address: SocketAddr,
    token: String,
}

/// What was told of an upload.
#[derive(Default)]
struct Told {
    /// Names of what is stored.
    stored: BTreeSet<String>,
    /// Where resumable uploads are, and how far, by their names.
    resumable: BTreeMap<String, (String, usize)>,
}

struct Answer {
    status: u16,
    fields: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Drop for Twin {
    fn drop(&mut self) {
        // SIGKILL: it tells nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Twin {
    fn start(home: &Home, token: &str) -> Self {
        let mut command = home.command(&["twin", "run", "--listen", "127.0.0.1:0", "--json"]);
        command.env("EVERNEAR_PASSPHRASE_FILE", "words").stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let ready = serde_json::Deserializer::from_reader(child.stdout.take().unwrap()).into_iter::<Value>().next();
        let address = ready.expect("it starts").unwrap()["listen"].as_str().unwrap().parse().unwrap();
        Self { child, address, token: token.to_owned() }
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntus-resumable: 1.0.0\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n",
            self.token,
            body.len()
        );
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let end = all.windows(4).position(|it| it == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(Answer { status, fields, body: all[end + 4..].to_vec() })
    }

    /// Stores a file in one request.
    fn put(&self, name: &str, bytes: &[u8], told: &Mutex<Told>) -> io::Result<()> {
        let answer = self.ask("PUT", &format!("/files/{name}"), &[], bytes)?;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        told.lock().unwrap().stored.insert(name.to_owned());
        Ok(())
    }

    /// Begins a resumable upload, and goes on with it.
    fn begin(&self, name: &str, bytes: &[u8], told: &Mutex<Told>) -> io::Result<()> {
        let metadata = format!("filename {}", base64(name));
        let length = bytes.len().to_string();
        let created = self.ask("POST", "/tus", &[("upload-length", &length), ("upload-metadata", &metadata)], b"")?;
        assert_eq!(created.status, 201);
        let path = created.fields["location"].clone();
        told.lock().unwrap().resumable.insert(name.to_owned(), (path.clone(), 0));
        self.go_on(name, &path, 0, bytes, told)
    }

    /// Goes on with a resumable upload.
    fn go_on(&self, name: &str, path: &str, from: usize, bytes: &[u8], told: &Mutex<Told>) -> io::Result<()> {
        let mut at = from;
        while at < bytes.len() {
            let chunk = &bytes[at..bytes.len().min(at + CHUNK_BYTES)];
            let fields = [("upload-offset", &*at.to_string()), ("content-type", "application/offset+octet-stream")];
            let answer = self.ask("PATCH", path, &fields, chunk)?;
            assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
            at += chunk.len();
            let mut told = told.lock().unwrap();
            told.resumable.insert(name.to_owned(), (path.to_owned(), at));
            if at == bytes.len() {
                assert!(answer.fields.contains_key("x-evernear-label"));
                told.stored.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// Has all uploads of a round under way at once, until each ends, well or not.
    fn upload(&self, round: u32, told: &Mutex<Told>) {
        std::thread::scope(|scope| {
            for (number, size) in PLAIN.into_iter().chain(RESUMABLE).enumerate() {
                let name = format!("{round}-{number}-{size}");
                scope.spawn(move || {
                    let bytes = content(&name);
                    if number < PLAIN.len() { self.put(&name, &bytes, told) } else { self.begin(&name, &bytes, told) }
                });
            }
        });
    }
}

/// The content of a file, by its name: round, number and size.
fn content(name: &str) -> Vec<u8> {
    let numbers: Vec<u64> = name.split('-').map(|it| it.parse().unwrap()).collect();
    noise_of(numbers[0] * 100 + numbers[1], usize::try_from(numbers[2]).unwrap())
}

/// Base64 of ASCII (RFC 4648).
fn base64(text: &str) -> String {
    let digit = |at: u32| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[at as usize]);
    let group = |bytes: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)));
        let digits = (0..4).map(|at| if at > bytes.len() { '=' } else { digit(bits >> (18 - 6 * at) & 63) });
        digits.collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}

/// Waits for what is asked of a twin in the thread itself.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(testing::until(what, async || is_so()));
}

/// Takes a minute: the twin is killed twenty times, at moments spread over the time that five uploads at once take.
#[test]
fn a_hundred_uploads_that_are_killed_are_resumed_or_cleanly_absent() {
    let (home, _nodes) = set_up();
    let config = std::fs::read_to_string(home.path().join(".evernear/twin.toml")).unwrap();
    home.write(".evernear/twin.toml", config.replace("small-cluster", "2+1"));
    let token = home.good(&["twin", "token", "new", "laptop"])["token"].as_str().unwrap().to_owned();
    let told = Mutex::new(Told::default());
    let begun = Instant::now();
    let mut twin = Twin::start(&home, &token);
    let warm = Instant::now();
    twin.upload(0, &told);
    let takes = warm.elapsed();
    assert_eq!(told.lock().unwrap().stored.len(), PLAIN.len() + RESUMABLE.len(), "without a kill all are stored");
    let mut resumed = 0;
    for round in 1..=ROUNDS {
        std::thread::scope(|scope| {
            let uploading = scope.spawn(|| twin.upload(round, &told));
            #[expect(clippy::disallowed_methods, reason = "the moment of the kill is a time, and no condition")]
            std::thread::sleep(takes * round / ROUNDS);
            // SIGKILL: it tells nobody.
            let pid = rustix::process::Pid::from_child(&twin.child);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            uploading.join().unwrap();
        });
        twin = Twin::start(&home, &token);
        let open: Vec<_> = {
            let told = told.lock().unwrap();
            let open = told.resumable.iter().filter(|(name, _)| !told.stored.contains(*name));
            open.map(|(name, at)| (name.clone(), at.clone())).collect()
        };
        for (name, (path, offset)) in open {
            let head = twin.ask("HEAD", &path, &[], b"").unwrap();
            let at: usize = head.fields["upload-offset"].parse().unwrap();
            assert!(at >= offset, "{name}: {offset} bytes were told, {at} are there");
            let bytes = content(&name);
            twin.go_on(&name, &path, at, &bytes, &told).unwrap();
            // One that was whole already is stored by the twin itself.
            until("it is stored", || twin.ask("GET", &format!("{path}/file"), &[], b"").unwrap().status == 200);
            told.lock().unwrap().stored.insert(name);
            resumed += 1;
        }
    }
    let told = told.into_inner().unwrap();
    // What broke leaves no row and no object; in the spool stays what was begun without an answer, until it expires. A
    // sweep that finds a node busy comes again after a minute.
    let untold = (ROUNDS as usize + 1) * RESUMABLE.len() - told.resumable.len();
    let is_clean = async || {
        let store = api::Store::open(&home.path().join(".evernear")).await.unwrap();
        let open = store.open_batches().await.unwrap();
        store.close().await;
        open.is_empty() && std::fs::read_dir(home.path().join(".evernear/spool")).unwrap().count() <= untold
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let swept = testing::until_within(Duration::from_secs(90), "what broke is ended", is_clean);
    runtime.block_on(swept);
    let list = twin.ask("GET", "/files?limit=1000", &[], b"").unwrap();
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    let files: Vec<_> = list["value"].as_array().unwrap().iter().collect();
    let names: BTreeSet<String> = files.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), files.len(), "nothing is there twice");
    let missing: Vec<_> = told.stored.difference(&names).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    for file in &files {
        let got = home.run(&["get", file["label"].as_str().unwrap()]);
        assert!(got.code == 0 && got.out == content(file["name"].as_str().unwrap()), "{file}: {}", got.err);
    }
    let kept = home.good(&["ls"]);
    assert_eq!(kept.as_array().map(Vec::len), Some(files.len()), "{kept}");
    let all = (ROUNDS as usize + 1) * (PLAIN.len() + RESUMABLE.len());
    println!(
        "{} uploads, {ROUNDS} kills, {:?} for five: {} acknowledged and there, {resumed} of them resumed, {} there without \
         an answer, {} absent; {:?}",
        all,
        takes,
        told.stored.len(),
        files.len() - told.stored.len(),
        all - files.len(),
        begun.elapsed()
    );
}
