//! Node certificates that expire and are renewed: what continues, what is refused and why, and what restores it. Clocks
//! are set by libfaketime, as in [`clocks`](crate::clocks).

use std::{fs, path::PathBuf, process::Command};

use cluster::{
    curl,
    processes::{ProcessOptions, Processes, StoredFile},
};
use testing::noise;

use crate::{
    clocks::{DAY, library, seat, set},
    load::{start, until},
};

const ORIGINS: usize = 6;
const EDGE: usize = ORIGINS;
/// Certificates of nodes are issued for two years.
const TWO_YEARS: i64 = 2 * 365 * DAY;

/// A cluster whose nodes share one clock, and the objects stored in it.
struct Scene {
    processes: Processes,
    clock: PathBuf,
    stored: Vec<(StoredFile, Vec<u8>)>,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(objects: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = folder.path().join("clock");
        set(&clock, 0);
        let seats = vec![seat(&clock); ORIGINS + 1];
        let processes = start(ProcessOptions { seats, ..ProcessOptions::default() }).await;
        let mut it = Self { processes, clock, stored: Vec::new(), _folder: folder };
        for number in 0..objects {
            // The bytes of each object differ.
            let bytes = [&noise(2 << 20)[..], &[number.try_into().unwrap(); 9]].concat();
            fs::write(it.processes.path("film"), &bytes).unwrap();
            it.stored.push((it.processes.put(&it.processes.path("film")).unwrap(), bytes));
        }
        it
    }

    /// Returns the status of an object at the edge. Panics when the served bytes are not exact.
    async fn status(&self, number: usize) -> u16 {
        let (stored, bytes) = &self.stored[number];
        let body = PathBuf::from(self.processes.path("body"));
        let answer = curl(self.processes.http, &stored.url, &body, &[]).await.unwrap();
        assert!(answer.status != 200 || fs::read(&body).unwrap() == *bytes, "{}", answer.header);
        answer.status
    }

    /// Issues certificates for all nodes and the owner again, at the clock's time, into a new folder.
    fn issue_again(&self) {
        let [old, new] = ["keys", "renewed"].map(|name| self.processes.path(name));
        fs::create_dir(&new).unwrap();
        for file in ["authority.pem", "authority.key"] {
            fs::copy(format!("{old}/{file}"), format!("{new}/{file}")).unwrap();
        }
        let nodes = (0..ORIGINS).map(|number| (format!("o{number}"), "origin"));
        for (name, role) in nodes.chain([("e0".to_owned(), "edge"), ("me".to_owned(), "twin")]) {
            self.at_the_clock(&["cluster", "issue", &new, &name, "--role", role]).unwrap();
        }
        let twin = self.processes.path("state/twin.toml");
        fs::write(&twin, fs::read_to_string(&twin).unwrap().replace("/keys/me.", "/renewed/me.")).unwrap();
    }

    /// Puts the new certificate into a node's configuration, and restarts the node.
    fn renew(&mut self, number: usize) {
        let name = if number == EDGE { "e0".to_owned() } else { format!("o{number}") };
        for end in ["pem", "key"] {
            let part = |folder: &str| format!("/{folder}/{name}.{end}");
            self.processes.change_config(number, &part("keys"), &part("renewed")).unwrap();
        }
        self.start_again(number);
    }

    /// Puts the new certificate in the place of the node's old one. The node goes on.
    fn renew_in_place(&self, number: usize) {
        let name = if number == EDGE { "e0".to_owned() } else { format!("o{number}") };
        // A key that does not go with the certificate yet is not taken up.
        for end in ["key", "pem"] {
            let [old, new] = ["keys", "renewed"].map(|folder| self.processes.path(&format!("{folder}/{name}.{end}")));
            fs::rename(new, old).unwrap();
        }
    }

    fn start_again(&mut self, number: usize) {
        self.processes.kill_node(number).unwrap();
        self.processes.start_node(number).unwrap();
    }

    /// Runs the owner's program with the nodes' clock. The error is its standard error.
    fn at_the_clock(&self, words: &[&str]) -> Result<String, String> {
        let mut command: Command = self.processes.command(self.processes.program(), words);
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let output = command.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }
}

/// Takes 30 s: eight nodes start twice and wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_end_cut_nothing_that_is_open_refuse_what_is_new_and_renewed_ones_bring_it_back() {
    let mut scene = Scene::new(6).await;
    // All nodes are asked once, so all connections of the edge are open.
    for number in 0..4 {
        assert_eq!(scene.status(number).await, 200);
    }
    // One day before they expire everything works, for new connections too.
    set(&scene.clock, TWO_YEARS - DAY);
    scene.start_again(0);
    scene.at_the_clock(&["ls"]).unwrap();
    assert_eq!(scene.at_the_clock(&["node", "ls"]).map(|_| ()), Ok(()));

    set(&scene.clock, TWO_YEARS + DAY);
    assert_eq!(scene.status(4).await, 200, "what is connected goes on");
    // With an expired certificate no new connection is made and no node starts. All errors say why.
    let refused = scene.at_the_clock(&["node", "ls"]).unwrap_err();
    assert!(refused.contains("the certificate ended at"), "{refused}");
    scene.processes.kill_node(EDGE).unwrap();
    let refused = format!("{:#}", scene.processes.start_node(EDGE).unwrap_err());
    assert!(refused.contains("the certificate ended at"), "{refused}");

    scene.issue_again();
    // The owner has a new certificate, but refuses the nodes, whose certificates are still the expired ones.
    let refused = scene.at_the_clock(&["node", "ls"]).unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    for number in 0..=EDGE {
        scene.renew(number);
    }
    for number in 0..6 {
        until("the object is read again", async || scene.status(number).await == 200).await;
    }
    fs::write(scene.processes.path("new"), "stored after the renewal").unwrap();
    let new = scene.processes.path("new");
    scene.at_the_clock(&["put", &new]).unwrap();
}

/// The renewal as it should be: a rolling restart, while the old certificates are still valid.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_take_up_renewed_certificates_one_after_the_other_are_read_throughout() {
    let mut scene = Scene::new(ORIGINS + 1).await;
    set(&scene.clock, TWO_YEARS - 30 * DAY);
    scene.issue_again();
    for number in 0..=EDGE {
        scene.renew(number);
        // Any four of six shards are enough, so reads succeed while one node restarts. The edge has none of these
        // objects in its cache.
        assert_eq!(scene.status(number).await, 200, "after node {number}");
    }
    // The old certificates expire without any effect.
    set(&scene.clock, TWO_YEARS + DAY);
    (0..=EDGE).for_each(|number| scene.start_again(number));
    for number in 0..=ORIGINS {
        until("the object is read", async || scene.status(number).await == 200).await;
    }
    scene.at_the_clock(&["node", "ls"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn running_nodes_take_up_renewed_certificates_from_their_files() {
    let mut scene = Scene::new(2).await;
    set(&scene.clock, TWO_YEARS - 30 * DAY);
    scene.issue_again();
    (0..=EDGE).for_each(|number| scene.renew_in_place(number));
    // The old ones end while all nodes run.
    set(&scene.clock, TWO_YEARS + DAY);
    // The owner connects to each origin anew, and sees the certificate that it shows now.
    fs::write(scene.processes.path("new"), noise(2 << 20)).unwrap();
    let new = scene.processes.path("new");
    until("an upload to all origins", async || {
        scene.at_the_clock(&["put", &new]).is_ok_and(|said| said.contains("6 of 6 shards durable"))
    })
    .await;
    // The edge connects anew to an origin that was restarted, and cannot do without it.
    scene.start_again(0);
    for away in [ORIGINS - 2, ORIGINS - 1] {
        scene.processes.kill_node(away).unwrap();
    }
    until("the object is read", async || scene.status(1).await == 200).await;
}
