//! `evernear put`, killed and given again.

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use testing::{Uplink, UplinkOptions, free_port, noise};

use crate::{
    program::Home,
    road::{Node, run_origin},
};

/// An owner behind an uplink, and three origins.
struct Network {
    home: Home,
    uplink: Uplink,
    nodes: Vec<Node>,
}

impl Network {
    /// Makes it. Called on the runtime that the uplink runs on.
    fn start(options: UplinkOptions) -> Self {
        let (home, mut uplink) = (Home::new(), Uplink::new(options));
        home.write("words", "correct horse battery\n");
        home.good(&["cluster", "init", "keys"]);
        let (mut nodes, mut seed) = (Vec::new(), None);
        for name in ["o1", "o2", "o3"] {
            home.good(&["cluster", "issue", "keys", name, "--role", "origin"]);
            let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let advertise = uplink.to(listen);
            seed = seed.or(Some(advertise));
            home.write(&format!("{name}.toml"), config(&home, name, listen, advertise));
            nodes.push(run_origin(&home, name));
        }
        home.good(&["cluster", "issue", "keys", "me", "--role", "twin"]);
        home.good(&["owner", "new"]);
        let twin = format!(
            "profile = \"2+1\"\nidentity = {{ authority = \"../keys/authority.pem\", certificate = \"../keys/me.pem\", key = \"../keys/me.key\" }}\n\
             node = [{{ name = \"o1\", address = \"{}\" }}]\n",
            seed.unwrap()
        );
        home.write(".evernear/twin.toml", twin);
        Self { home, uplink, nodes }
    }

    /// Begins to store files.
    fn put(&self, files: &[&str]) -> Child {
        let mut command = self.home.command(&[&["put", "--json"], files].concat());
        command.env("EVERNEAR_PASSPHRASE_FILE", "words").stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Waits until so many bytes went up in all.
    fn until(&self, put: &mut Child, sent_bytes: u64) {
        let began = Instant::now();
        while self.uplink.sent_bytes() < sent_bytes {
            assert!(began.elapsed() < Duration::from_secs(60), "only {} bytes went up", self.uplink.sent_bytes());
            assert!(put.try_wait().unwrap().is_none(), "it ended before it was to");
            std::thread::yield_now();
        }
    }

    /// Begins to store files, and kills the program once so many bytes went up in all.
    fn put_until(&self, files: &[&str], sent_bytes: u64) {
        let mut child = self.put(files);
        self.until(&mut child, sent_bytes);
        // SIGKILL: it tells nobody.
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn config(home: &Home, name: &str, listen: SocketAddr, advertise: SocketAddr) -> String {
    let folder = home.path().display();
    format!(
        "name = \"{name}\"\nlisten = \"{listen}\"\nadvertise = \"{advertise}\"\ndata_dir = \"{folder}/{name}\"\n\
         catalog = \"sqlite://{folder}/catalog.db\"\n\
         place = {{ country = \"BE\", region = \"eu\", zone = \"{name}\", latitude = 50.0, longitude = 4.0 }}\n\
         tls = {{ authority = \"{folder}/keys/authority.pem\", certificate = \"{folder}/keys/{name}.pem\", key = \"{folder}/keys/{name}.key\" }}\n"
    )
}

/// Takes some ten seconds: the loss of what was on its way at five kills is small only beside a file that is not.
#[test]
fn a_put_that_is_killed_five_times_sends_little_more_than_once() {
    const BYTES: usize = 64 << 20;
    const SHARDS: u64 = BYTES as u64 / 2 * 3;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _on = runtime.enter();
    let network = Network::start(UplinkOptions { bytes_per_second: 30_000_000, lost_percent: 0 });
    let bytes = noise(BYTES);
    network.home.write("film", &bytes);
    for time in 1..=5 {
        network.put_until(&["film"], SHARDS / 6 * time);
    }
    let put = network.home.good(&["put", "film", "--resume"]);
    let sent = network.uplink.sent_bytes();
    println!("{sent} bytes sent for shards of {SHARDS}");
    assert!(sent < SHARDS / 100 * 105, "{sent} bytes for shards of {SHARDS}");
    let told = |key: &str| put[key].as_u64();
    assert_eq!((told("durable_shards"), told("shards"), told("zones_survived")), (Some(3), Some(3), Some(1)));
    let got = network.home.run(&["get", put["label"].as_str().unwrap()]);
    assert!(got.code == 0 && got.out == bytes, "{}", got.err);

    // There is nothing to resume any more, and the answer says so.
    let (code, absent) = network.home.json(&["put", "film", "--resume"]);
    let text = absent["causes"].as_array().unwrap().iter().map(Value::to_string).collect::<String>();
    assert!(code == 2 && text.contains("no unfinished upload of"), "{absent}");
}

#[test]
fn a_put_that_was_killed_is_listed_and_ended() {
    const BYTES: usize = 8 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _on = runtime.enter();
    let network = Network::start(UplinkOptions { bytes_per_second: 8_000_000, lost_percent: 0 });
    network.home.write("film", noise(BYTES));
    network.put_until(&["film"], BYTES as u64 / 2);
    let uploads = || network.home.good(&["ls", "--unfinished"])["uploads"].as_array().unwrap().clone();
    let [upload] = &uploads()[..] else { panic!("one upload") };
    assert!(upload["path"].as_str().unwrap().ends_with("/film"), "{upload}");
    let text = network.home.run(&["ls", "--unfinished", "--passphrase-file", "words"]);
    assert!(text.text().contains("the same put goes on with"), "{}", text.text());
    // What cannot be ended stops nothing, whichever is the first.
    let stuck = ["00", "ff"].map(|byte| byte.repeat(16));
    let path = |name: &String| network.home.path().join(".evernear/unfinished").join(name);
    stuck.iter().for_each(|name| std::fs::create_dir(path(name)).unwrap());
    let (code, ended) = network.home.json(&["rm", "--unfinished"]);
    assert_eq!((code, &ended["uploads_ended"]), (1, &1.into()), "{ended}");
    let failed: Vec<_> = ended["failed"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(failed, stuck, "{ended}");
    assert_eq!(uploads().len(), 2);
    let told = network.home.run(&["rm", "--unfinished", "--passphrase-file", "words"]);
    assert!(told.code == 1 && told.err.contains(&stuck[1]), "{}", told.err);
    stuck.iter().for_each(|name| std::fs::remove_dir(path(name)).unwrap());
    assert_eq!(uploads().len(), 0);
    assert_eq!(network.home.json(&["put", "film", "--resume"]).0, 2, "nothing to go on with");
}

#[test]
fn a_put_of_several_files_that_was_killed_tells_what_it_stored_and_stores_none_of_it_twice() {
    const BYTES: usize = 24 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _on = runtime.enter();
    let network = Network::start(UplinkOptions { bytes_per_second: 8_000_000, lost_percent: 0 });
    network.home.write("a", "first");
    network.home.write("b", "second");
    network.home.write("film", noise(BYTES));
    let files = ["a", "b", "film"];
    network.put_until(&files, BYTES as u64);
    let labels = |answer: &Value| -> Vec<String> {
        answer.as_array().unwrap().iter().map(|it| it["label"].as_str().unwrap().to_owned()).collect()
    };
    let before = labels(&network.home.good(&["ls"]));
    assert_eq!(before.len(), 2);
    let put = network.home.good(&[&["put"], &files[..], &["./a"]].concat());
    let told = labels(&put["stored"]);
    assert!(told.len() == 3 && before.iter().all(|label| told.contains(label)), "{before:?} {told:?}");
    assert_eq!(labels(&network.home.good(&["ls"])).len(), 3);
    assert_eq!(network.home.good(&["ls", "--unfinished"])["uploads"].as_array().unwrap().len(), 0);
}

/// Of 2+1 all three origins must have their shard, so none may lose what it has at its restart.
#[test]
fn a_put_goes_on_while_its_origins_are_killed_and_started_again() {
    const BYTES: usize = 24 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _on = runtime.enter();
    let mut network = Network::start(UplinkOptions { bytes_per_second: 8_000_000, lost_percent: 0 });
    let bytes = noise(BYTES);
    network.home.write("film", &bytes);
    let mut put = network.put(&["film"]);
    for (number, name) in ["o1", "o2", "o3"].into_iter().enumerate() {
        network.until(&mut put, (BYTES / 4 * (number + 1)) as u64);
        // A dropped node was killed by SIGKILL.
        drop(network.nodes.remove(0));
        network.nodes.push(run_origin(&network.home, name));
    }
    let done = put.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), told["durable_shards"].as_u64()), (Some(0), Some(3)), "{told}");
    let got = network.home.run(&["get", told["label"].as_str().unwrap()]);
    assert!(got.code == 0 && got.out == bytes, "{}", got.err);
}
