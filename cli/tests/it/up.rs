//! `evernear up`: real processes, an owner in a second terminal, viewers with curl.

mod catalog;
mod disks;
mod join;
mod postgres;
mod public;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use serde_json::Value;
use testing::{free_port, noise};

use crate::program::Home;

/// A start compiles a policy and makes certificates; a machine that runs other tests takes its time.
const READY: Duration = Duration::from_secs(60);
/// Stopping drains what is under way.
const STOPPED: Duration = Duration::from_secs(20);
/// What was lost is made again.
const HEALED: Duration = Duration::from_secs(60);

/// Lines of a log that are kept for a look.
const LINES_MAX: usize = 10_000;

/// A network that runs, killed at the end of its test.
struct Network {
    child: Child,
    account: Value,
    log: Receiver<String>,
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The doors of a home, on ports of its own.
fn doors() -> [String; 2] {
    [(); 2].map(|()| format!("127.0.0.1:{}", free_port()))
}

/// The command of a network; tests that need its twin name its port.
fn up(home: &Home, arguments: &[&str]) -> Command {
    let twin = if arguments.contains(&"--twin") { &[][..] } else { &["--twin", "off"] };
    home.command(&[&["up", "--json"], twin, arguments].concat())
}

impl Network {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::of(up(home, arguments))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (tell, log) = mpsc::sync_channel(LINES_MAX);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.try_send(line))));
        let (ready, said) = mpsc::sync_channel(1);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            ready.send(line).unwrap();
            // The end of the pipe, so that nobody writes into a closed one.
            let _ = out.read_to_string(&mut String::new());
        });
        let line = said.recv_timeout(READY).unwrap_or_default();
        let account = serde_json::from_str(&line);
        let said = || log.try_iter().collect::<Vec<_>>().join("\n");
        let account = account.unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", said()));
        Self { child, account, log }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Sends a signal, and returns how the process ended.
    fn stop(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        until("the network stops", STOPPED, || self.child.try_wait().unwrap())
    }

    /// Waits for a line of the log that has all of these words.
    fn says(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + HEALED;
        let mut seen = String::new();
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            seen += &(line + "\n");
        }
        panic!("it never says {words:?}:\n{seen}")
    }
}

/// Waits until something is there.
fn until<T>(what: &str, time: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {time:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Stores a file with no option but `--json`, as in a second terminal, and returns its label and URL.
fn put(home: &Home, file: &str) -> (String, String) {
    let done = home.run(&["put", file, "--json"]);
    assert_eq!(done.code, 0, "{file}: {} {}", done.text(), done.err);
    let stored: Value = serde_json::from_slice(&done.out).unwrap();
    (stored["label"].as_str().unwrap().to_owned(), stored["url"].as_str().unwrap().to_owned())
}

/// Makes a token for the twin.
fn token(home: &Home) -> String {
    let made = home.run(&["twin", "token", "new", "test"]);
    assert_eq!(made.code, 0, "{}", made.err);
    made.text().trim().to_owned()
}

/// Sends a file to the twin with curl, at so many bytes a second.
fn upload(home: &Home, twin: &str, token: &str, file: &str, rate: &str) -> Child {
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--limit-rate", rate, "--upload-file", file])
        .args(["--header", &format!("authorization: Bearer {token}"), &format!("http://{twin}/files/")])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the answer to an upload: what was stored.
fn stored(upload: Child) -> Value {
    let done = upload.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    assert_eq!(answer["ok"], true, "{answer} {}", String::from_utf8_lossy(&done.stderr));
    answer["value"].clone()
}

/// Fetches a URL with curl; the status and the body.
fn curl(url: &str) -> (String, Vec<u8>) {
    let body = tempfile::NamedTempFile::new().unwrap();
    let done = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--write-out", "%{http_code}", "--output"])
        .arg(body.path())
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (String::from_utf8(done.stdout).unwrap(), fs::read(body.path()).unwrap())
}

fn folders(home: &Home, names: &[&str]) -> Vec<PathBuf> {
    let folders: Vec<_> = names.iter().map(|name| home.path().join(name)).collect();
    folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    folders
}

/// Deletes a disk, whatever its origin writes meanwhile.
fn lose(disk: &Path) {
    until("the disk is deleted", HEALED, || match fs::remove_dir_all(disk) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => None,
        _ => Some(()),
    });
}

/// Kinds of files: one that lies inline, one of one stripe, one of many.
const SIZES: [(&str, usize); 3] = [("small.txt", 100), ("middle.bin", 300_000), ("large.bin", 9_000_000)];

/// Stores a file of each kind; returns its URL and its bytes.
fn store_all(home: &Home) -> Vec<(String, Vec<u8>)> {
    let store = |(name, bytes): &(&str, usize)| {
        let bytes = noise(*bytes);
        home.write(name, &bytes);
        (put(home, name).1, bytes)
    };
    SIZES.iter().map(store).collect()
}

fn assert_exact(stored: &[(String, Vec<u8>)]) {
    for (url, bytes) in stored {
        let (status, body) = curl(url);
        assert!(status == "200" && body == *bytes, "{url}: {status}, {} of {} bytes", body.len(), bytes.len());
    }
}

/// Waits until every shard of an object is where it should be.
fn heals(home: &Home, label: &str) {
    let look = || {
        let done = home.run(&["object", "health", label, "--json"]);
        let health: Value = serde_json::from_slice(&done.out).ok()?;
        let columns = health["columns"].as_array()?;
        columns.iter().all(|column| column["state"] == "healthy").then_some(())
    };
    until("all shards are healthy", HEALED, look);
}

#[test]
fn one_command_makes_a_network_and_the_same_goes_on_with_it() {
    let home = Home::new();
    let [http, dns] = doors();
    let network = Network::start(&home, &["--http", &http, "--dns", &dns]);
    let account = &network.account;
    assert_eq!((account["profile"].as_str(), account["disks_survived"].as_u64()), (Some("2+1"), Some(0)));
    assert_eq!((account["http"].as_str(), account["is_new"].as_bool()), (Some(http.as_str()), Some(true)));
    let stored = store_all(&home);
    assert_exact(&stored);
    let (label, _) = put(&home, "small.txt");
    // The name leads here by DNS as well.
    let (host, port) = dns.split_once(':').unwrap();
    let name = format!("{label}.localhost");
    let dig = Command::new("dig").args([&format!("@{host}"), "-p", port, &name, "A", "+short"]).output().unwrap();
    assert_eq!(String::from_utf8(dig.stdout).unwrap(), "127.0.0.1\n");
    let listed = home.run(&["ls"]);
    assert_eq!((listed.code, listed.text().lines().count()), (0, 5), "{}", listed.text());
    assert_eq!(home.run(&["get", &label, "-o", "-"]).out, stored[0].1);
    assert_eq!(home.run(&["rm", &label]).code, 0);
    for secret in ["owner.key", "unlock.key", "twin.toml", "network/up.toml", "network/keys/authority.key"] {
        let path = home.path().join(".evernear").join(secret);
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{secret} is private");
    }

    // A second one is refused, and says who is the first.
    let second = home.run(&["up"]);
    assert!(second.code == 1 && second.err.contains(&format!("process {}", network.child.id())), "{}", second.err);
    assert!(network.stop("-TERM").success());
    let away = home.run(&["put", "small.txt"]);
    assert_eq!(away.code, 4, "{}", away.err);

    let network = Network::start(&home, &[]);
    assert_eq!(
        (network.account["http"].as_str(), network.account["is_new"].as_bool()),
        (Some(http.as_str()), Some(false))
    );
    assert_exact(&stored);
    assert_exact(&store_all(&home));
    assert!(network.stop("-INT").success());
}

#[test]
fn the_twin_answers_beside_its_network_and_stores_as_fits_the_disks() {
    let home = Home::new();
    let ([http, dns], disks, twin) = (doors(), folders(&home, &["a", "b", "c"]), format!("127.0.0.1:{}", free_port()));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "--twin", &twin, "a", "b", "c"]);
    assert_eq!((&network.account["twin"], &network.account["twin_gone"]), (&Value::from(&*twin), &Value::Null));
    // The link signs one browser in.
    let link = network.account["console"].as_str().unwrap();
    let (page, key) = link.split_once("#key=").unwrap();
    assert_eq!(page, format!("http://{twin}/console/"));
    assert_eq!(curl(page).0, "200");
    let signed_in = |key: &str| {
        let body = format!("{{\"key\": \"{key}\"}}");
        let words = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--data", &body];
        let mut command = Command::new("curl");
        let fields = ["content-type: application/json", "x-evernear-console: 1"];
        command.args(words).args(fields.map(|field| ["--header", field]).concat()).stdin(Stdio::null());
        let done = command.arg(format!("http://{twin}/console/session")).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!((signed_in(key), signed_in(key)), ("200".into(), "401".into()), "once");
    let (token, bytes) = (token(&home), noise(300_000));
    home.write("middle.bin", &bytes);
    let first = stored(upload(&home, &twin, &token, "middle.bin", "1G"));
    assert_eq!(first["durable"]["of"], 3, "{first}");
    assert_exact(&[(first["url"].as_str().unwrap().to_owned(), bytes.clone())]);
    // What the owner stores by a command is in the same index.
    let (label, _) = put(&home, "middle.bin");
    assert!(home.run(&["ls"]).text().lines().count() >= 3);
    assert_eq!(home.run(&["rm", &label]).code, 0);

    // Of two disks that are left, an upload has a shard on each.
    lose(&disks[1]);
    network.says(&["a disk is left out", "disk2"]);
    until("the twin knows", HEALED, || {
        let done = upload(&home, &twin, &token, "middle.bin", "1G").wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&done.stdout).ok()?;
        (answer["value"]["durable"]["of"] == 2).then_some(())
    });
    assert!(network.stop("-TERM").success());
    // The address is remembered, as it is in scripts. The one of a twin that runs alone is another.
    let config = home.path().join(".evernear/twin.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "[api]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let mut again = home.command(&["up", "--json"]);
    again.env("EVERNEAR_LOG", "info");
    let network = Network::of(again);
    assert_eq!(network.account["twin"], Value::from(&*twin));
    network.says(&["127.0.0.1:1", "--twin"]);
    assert!(network.stop("-TERM").success());
}

#[test]
fn an_upload_to_the_twin_that_is_under_way_ends_before_its_network_does() {
    let home = Home::new();
    let ([http, dns], twin) = (doors(), format!("127.0.0.1:{}", free_port()));
    let doors = ["--http", &http, "--dns", &dns, "--twin", &twin];
    let network = Network::start(&home, &doors);
    let (token, bytes) = (token(&home), noise(9_000_000));
    home.write("large.bin", &bytes);
    let upload = upload(&home, &twin, &token, "large.bin", "4M");
    let staged = home.path().join(".evernear/network/disk1/evernear/o1/tmp");
    until("the upload is under way", READY, || fs::read_dir(&staged).ok()?.next().map(drop));
    assert!(network.stop("-TERM").success());
    let url = stored(upload)["url"].as_str().unwrap().to_owned();
    let _network = Network::start(&home, &doors);
    assert_exact(&[(url, bytes)]);
}

#[test]
fn an_owner_with_a_passphrase_has_the_network_without_the_twin_and_is_told_what_answers() {
    let home = Home::new();
    let ([http, dns], twin) = (doors(), format!("127.0.0.1:{}", free_port()));
    let doors = ["--http", &http, "--dns", &dns, "--twin", &twin];
    assert!(Network::start(&home, &doors).stop("-TERM").success());
    home.write("words", "correct horse battery staple\n");
    let locked = home.run(&["owner", "passwd", "--new-passphrase-file", "words"]);
    assert_eq!(locked.code, 0, "{}", locked.err);
    let network = Network::start(&home, &doors);
    let why = network.account["twin_gone"].as_str().unwrap();
    assert!(network.account["twin"].is_null() && why.contains("`evernear twin run`"), "{why}");
    assert!(network.stop("-TERM").success());
}

#[test]
fn a_first_start_that_is_killed_at_any_moment_is_gone_on_with() {
    let home = Home::new();
    let [http, dns] = doors();
    let doors = ["--http", &http, "--dns", &dns];
    // Kill when each of these is there: it is written while the start goes on.
    let state = home.path().join(".evernear");
    let marks = [
        "network/lock",
        "network/up.toml",
        "network/keys/authority.key",
        "network/keys/authority.pem",
        "network/keys/me.key",
        "unlock.key",
        "owner.key",
        "network/disk1/evernear/disk.toml",
        "network/keys/o2.key",
        "network/catalog.sqlite",
        "network/disk1/evernear/o1/lock",
        "network/disk1/evernear/o3/tmp",
        "network/edge",
        "twin.toml",
    ];
    for mark in marks {
        fs::remove_dir_all(&state).unwrap_or_default();
        let mut child = up(&home, &doors).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + READY;
        while !state.join(mark).exists() {
            assert!(Instant::now() < deadline, "{mark} is never made");
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let network = Network::start(&home, &doors);
        home.write("small.txt", mark);
        let (_, url) = put(&home, "small.txt");
        assert_eq!(curl(&url), ("200".to_owned(), mark.into()), "{mark}");
        drop(network);
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let home = Home::new();
    let [http, dns] = doors();
    let doors = ["--http", &http, "--dns", &dns];
    let mut network = Network::start(&home, &doors);
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        // Stores one file after the other until the network is gone.
        let killed = Instant::now() + Duration::from_millis(400 + 350 * round);
        std::thread::scope(|scope| {
            let storing = scope.spawn(|| {
                let mut stored = Vec::new();
                for number in 0.. {
                    let (name, bytes) = (format!("{round}-{number}.bin"), noise(40_000 * (number % 5 + 1)));
                    home.write(&name, &bytes);
                    let mut command = home.command(&["put", &name, "--json"]);
                    let mut child = command.spawn().unwrap();
                    let ended = until("a put ends or the network does", READY, || {
                        child
                            .try_wait()
                            .unwrap()
                            .or_else(|| (Instant::now() > killed + Duration::from_secs(1)).then(ExitStatus::default))
                    });
                    let _ = child.kill();
                    let out = child.wait_with_output().unwrap();
                    let document: Option<Value> = serde_json::from_slice(&out.stdout).ok();
                    match document.as_ref().and_then(|it| it["url"].as_str()) {
                        Some(url) if ended.success() => stored.push((url.to_owned(), bytes)),
                        _ => break,
                    }
                }
                stored
            });
            std::thread::park_timeout(killed.saturating_duration_since(Instant::now()));
            network.signal("-KILL");
            acknowledged.extend(storing.join().unwrap());
        });
        network = Network::start(&home, &doors);
        assert_exact(&acknowledged);
    }
    assert!(acknowledged.len() > 4, "{}", acknowledged.len());
}

#[test]
fn of_three_disks_one_is_deleted_while_it_runs_and_made_good() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    assert_eq!(
        (network.account["profile"].as_str(), network.account["disks_survived"].as_u64()),
        (Some("2+1"), Some(1))
    );
    let stored = store_all(&home);
    let (label, _) = put(&home, "large.bin");
    lose(&disks[1]);
    assert_exact(&stored);
    network.says(&["a disk is left out", "disk2"]);
    assert_exact(&stored);
    // New files find room on the two that are left.
    until("a file is stored", HEALED, || (home.run(&["put", "middle.bin"]).code == 0).then_some(()));

    fs::create_dir_all(&disks[1]).unwrap();
    network.says(&["a disk is there again", "disk2"]);
    heals(&home, &label);
    assert_exact(&stored);
    // Of three, another may be lost now.
    lose(&disks[0]);
    network.says(&["a disk is left out", "disk1"]);
    assert_exact(&stored);
}

#[test]
fn of_two_disks_one_alone_reads_and_is_made_good() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b"]);
    let account = &network.account;
    assert_eq!((account["profile"].as_str(), account["disks_survived"].as_u64()), (Some("1+1"), Some(1)));
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());
    lose(&disks[0]);
    let network = Network::start(&home, &[]);
    assert_eq!((&network.account["stores"], &network.account["disks"][1]["gone"]), (&Value::Bool(false), &Value::Null));
    assert_exact(&stored);
    fs::create_dir_all(&disks[0]).unwrap();
    network.says(&["a disk is there again", "disk1"]);
    let (label, _) = put(&home, "middle.bin");
    heals(&home, &label);
    let first = stored[2].0.split(['/', '.']).nth(2).unwrap();
    heals(&home, first);
    lose(&disks[1]);
    assert_exact(&stored);
}

#[test]
fn a_fourth_disk_and_one_that_is_missing_at_the_start() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c", "d"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let stored = store_all(&home);
    assert!(network.stop("-TERM").success());

    let network = Network::start(&home, &["d"]);
    assert_eq!(
        (network.account["profile"].as_str(), network.account["disks_survived"].as_u64()),
        (Some("2+2"), Some(2))
    );
    assert_exact(&stored);
    let four = store_all(&home);
    let stat = home.run(&["stat", &four[2].0, "--json"]);
    let stat: Value = serde_json::from_slice(&stat.out).unwrap();
    assert_eq!(stat["redundancy"], "2+2");
    assert!(network.stop("-TERM").success());

    // A disk that is gone is named, and the rest runs; twin.toml follows.
    let away = home.path().join("elsewhere");
    fs::rename(&disks[3], &away).unwrap();
    let network = Network::start(&home, &[]);
    let gone = &network.account["disks"][3];
    assert!(gone["gone"].as_str().unwrap().contains("not there"), "{gone}");
    assert_eq!(network.account["profile"], "2+1");
    assert_exact(&stored);
    assert_exact(&four);
    assert!(network.stop("-TERM").success());

    // It is known where it was moved to.
    let network = Network::start(&home, &["elsewhere"]);
    assert_eq!(
        (network.account["disks"].as_array().unwrap().len(), &network.account["disks"][3]["gone"]),
        (4, &Value::Null)
    );
    assert_exact(&four);
}

#[test]
fn what_twin_toml_could_not_be_told_is_told_again() {
    let home = Home::new();
    let ([http, dns], disks) = (doors(), folders(&home, &["a", "b", "c"]));
    let network = Network::start(&home, &["--http", &http, "--dns", &dns, "a", "b", "c"]);
    let (config, away) = (home.path().join(".evernear/twin.toml"), home.path().join("twin.toml"));
    fs::rename(&config, &away).unwrap();
    fs::create_dir(&config).unwrap();
    lose(&disks[1]);
    network.says(&["twin.toml is not told"]);
    fs::remove_dir(&config).unwrap();
    fs::rename(&away, &config).unwrap();
    until("it is told", HEALED, || fs::read_to_string(&config).ok()?.contains("\"1+1\"").then_some(()));
}

#[test]
fn a_port_that_is_taken_is_told_with_its_holder_and_what_to_do() {
    let home = Home::new();
    let [http, _] = doors();
    let other = std::net::TcpListener::bind(&http).unwrap();
    let refused = home.run(&["up", "--http", &http, "--dns", "off"]);
    let me = format!("process {}", std::process::id());
    assert!(refused.code == 1 && refused.err.contains(&me) && refused.err.contains("--http"), "{}", refused.err);
    drop(other);
    let network = Network::start(&home, &["--http", &http, "--dns", "off"]);
    assert_eq!(network.account["dns"], Value::Null);
    assert!(network.stop("-TERM").success());
    let _other = std::net::TcpListener::bind(&http).unwrap();
    let refused = home.run(&["up"]);
    assert!(refused.code == 1 && refused.err.contains(&me), "{}", refused.err);
}

#[test]
fn the_service_manager_is_told_once_it_is_ready() {
    let home = Home::new();
    let [http, _] = doors();
    let path = home.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(READY)).unwrap();
    let mut command = up(&home, &["--http", &http, "--dns", "off"]);
    let mut child = command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = [0; 100];
    let length = manager.recv(&mut said).unwrap();
    assert_eq!(std::str::from_utf8(&said[..length]).unwrap().trim(), "READY=1");
    home.write("small.txt", "hello");
    assert_eq!(curl(&put(&home, "small.txt").1).1, b"hello");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_cannot_be_a_network_says_why() {
    let home = Home::new();
    home.write("file", "");
    for (arguments, code, says) in [
        (&["up", "absent"][..], 1, "absent cannot be a disk"),
        (&["up", "file"], 1, "file cannot be a disk"),
        (&["up", "--http", "192.0.2.1:80"], 1, "--http"),
        (&["up", "--http", "127.0.0.5:0"], 1, "127.0.0.1:"),
        (&["up", "--dns", "on"], 2, "IP:PORT"),
    ] {
        let done = home.run(arguments);
        assert!(done.code == code && done.err.contains(says), "{arguments:?}: {} {}", done.code, done.err);
    }
    assert!(!home.path().join(".evernear/network/up.toml").exists(), "nothing was begun");
    fs::write(home.path().join(".evernear/twin.toml"), "").unwrap();
    let other = home.run(&["up"]);
    assert!(other.code == 1 && other.err.contains("another cluster"), "{}", other.err);
    assert!(Path::new(&home.path().join(".evernear")).exists());
}

#[test]
fn a_twin_that_could_not_start_answers_once_it_can() {
    let home = Home::new();
    let [http, dns] = doors();
    let doors = ["--http", &http, "--dns", &dns, "--twin", "127.0.0.1:0"];
    drop(Network::start(&home, &doors));
    // As another twin on the folder holds it.
    let held = fs::File::options().write(true).open(home.path().join(".evernear/api.lock")).unwrap();
    held.lock().unwrap();
    let network = Network::start(&home, &doors);
    network.says(&["the twin is left out", "another twin runs"]);
    drop(held);
    network.says(&["the twin answers now"]);
}

#[test]
fn a_twin_whose_file_is_damaged_says_which_and_answers_once_that_is_moved_away() {
    let home = Home::new();
    let [http, dns] = doors();
    let doors = ["--http", &http, "--dns", &dns, "--twin", "127.0.0.1:0"];
    assert!(Network::start(&home, &doors).stop("-TERM").success());
    let file = home.path().join(".evernear/api.sqlite");
    damage(&file);
    let network = Network::start(&home, &doors);
    let why = network.account["twin_gone"].as_str().unwrap();
    assert!(why.contains(file.to_str().unwrap()) && why.contains("make tokens again"), "{why}");
    fs::rename(&file, home.path().join("damaged")).unwrap();
    network.says(&["the twin answers now"]);
}

/// Writes noise over the beginning of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let end = bytes.len().min(12 << 10);
    bytes[..end].copy_from_slice(&noise(end));
    fs::write(file, bytes).unwrap();
}
