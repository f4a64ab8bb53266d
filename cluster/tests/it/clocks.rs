//! Clocks that jump by a day, forwards and back, under running processes. libfaketime reads the offset from a file that
//! the test changes. The monotonic clock continues, as on a real machine.

use std::{fs, path::Path, sync::Arc, time::Duration};

use cluster::{
    keeper::Keeper,
    processes::{ProcessOptions, Processes, Seat},
};
use fastrand::Rng;
use format::{Profile, Retention};
use testing::postgres::Server;

use crate::load::{DEADLINE, QUICK, start, store, until};

const SEED: u64 = 4;
const ORIGINS: u8 = 7;
pub(crate) const DAY: i64 = 86_400;
/// Nothing is destroyed for one hour after its erasure, or after a clock was set.
const LIMITS: &str = "erase_grace_seconds = 3600\n";

/// Returns the path of libfaketime, which fakes the time of a process.
pub(crate) fn library() -> String {
    let found = fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let found = found.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is installed: `./x setup --test`").to_str().unwrap().to_owned()
}

/// Returns a seat whose clock is read from a file.
pub(crate) fn seat(file: &Path) -> Seat {
    let launch = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        // The file is read at every call for the time, so that all processes see the clock jump at once.
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    Seat { launch: launch.to_vec(), ..Seat::default() }
}

pub(crate) fn set(file: &Path, seconds: i64) {
    // The file is replaced atomically, because a process may read it at any time.
    let new = file.with_extension("new");
    fs::write(&new, format!("{seconds:+}\n")).unwrap();
    fs::rename(&new, file).unwrap();
}

/// Waits 9 s, longer than it takes until a silent node counts as down and every periodic task has run. The claim is
/// that nothing happens, so there is no condition to wait for.
async fn while_clocks_count() {
    tokio::time::sleep(Duration::from_secs(9)).await;
}

/// A cluster with objects, one of which expires in an hour. Repair has nothing to do.
struct Scene {
    processes: Processes,
    keeper: Arc<Keeper>,
    repaired: u64,
}

impl Scene {
    async fn new(catalog: Option<String>, seats: Vec<Seat>) -> Self {
        println!("seed {SEED}");
        let limits = format!("{QUICK}{LIMITS}");
        let options = ProcessOptions { origins: ORIGINS, limits, catalog, seats, ..ProcessOptions::default() };
        let processes = start(options).await;
        let keeper = Arc::new(Keeper::open(&processes, Profile::SmallCluster).await.unwrap());
        let mut rng = Rng::with_seed(SEED);
        store(&keeper, &mut rng, 6).await;
        let soon = Retention { keep_until: 0, expires: now() + 3600 };
        keeper.put_until(&mut rng, 300_000, soon).await.unwrap();
        keeper.until_whole(DEADLINE).await.unwrap();
        Self { processes, keeper, repaired: 0 }
    }

    /// Checks that no node was declared down and that nothing was repaired, expired or lost.
    async fn is_calm(&self) {
        let status = self.keeper.operator.repairs().await.unwrap().status;
        assert_eq!((status.repaired_bytes, status.waiting, status.running, status.dead), (self.repaired, 0, 0, 0));
        self.keeper.until_whole(Duration::ZERO).await.unwrap();
        self.keeper.all_exact().await.unwrap();
    }

    /// Checks that the death of a node is noticed and its shards are rebuilt, whatever the clocks say.
    async fn a_death_is_noticed(&mut self, number: usize) {
        self.processes.kill_node(number).unwrap();
        let name = format!("o{number}");
        until("the repair of a dead node", async || {
            let healths = self.keeper.healths().await.unwrap_or_default();
            let columns: Vec<_> = healths.iter().flat_map(|health| &health.columns).collect();
            let is_moved =
                |nodes: &[format::NodeName]| nodes.is_empty() || nodes.iter().any(|node| node.as_str() != name);
            !columns.is_empty() && columns.iter().all(|column| is_moved(&column.nodes))
        })
        .await;
        self.keeper.all_exact().await.unwrap();
        self.processes.start_node(number).unwrap();
        self.keeper.until_whole(DEADLINE).await.unwrap();
        self.repaired = self.keeper.operator.repairs().await.unwrap().status.repaired_bytes;
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Takes 90 s: periodic tasks need some seconds after each of four jumps.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_down_and_nothing_ends_when_all_clocks_jump() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    set(&clock, 0);
    let mut scene = Scene::new(None, vec![seat(&clock); usize::from(ORIGINS) + 1]).await;
    for (jump, victim) in [(DAY, 1), (-DAY, 2)] {
        set(&clock, jump);
        while_clocks_count().await;
        scene.is_calm().await;
        scene.a_death_is_noticed(victim).await;
    }
    set(&clock, 0);
    while_clocks_count().await;
    scene.is_calm().await;
}

/// Takes 60 s: the catalog's server has the right time, one origin and the edge have a wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_clock_is_its_owners_matter() {
    let folder = tempfile::tempdir().unwrap();
    let clock = |number: u8| folder.path().join(format!("clock{number}"));
    (0..=ORIGINS).for_each(|number| set(&clock(number), 0));
    let server = Server::start("clocks");
    let catalog = server.url(&server.new_database());
    let seats = (0..=ORIGINS).map(|number| seat(&clock(number))).collect();
    let mut scene = Scene::new(Some(catalog), seats).await;
    let kept = scene.keeper.kept();
    for jump in [DAY, -DAY] {
        for number in [0, ORIGINS] {
            set(&clock(number), jump);
        }
        while_clocks_count().await;
        scene.is_calm().await;
        // They also start with the wrong time, although other nodes see another age of the certificates.
        for number in [0, usize::from(ORIGINS)] {
            scene.processes.kill_node(number).unwrap();
            scene.processes.start_node(number).unwrap();
        }
        let (door, body) = (scene.processes.http, std::path::PathBuf::from(scene.processes.path("body")));
        for kept in &kept[..2] {
            let url = format!("http://{}.localhost:{}/", kept.label, door.port());
            let answer = cluster::curl(door, &url, &body, &[]).await.unwrap();
            assert!(answer.status == 200 && blake3::hash(&fs::read(&body).unwrap()) == kept.hash, "{}", answer.header);
        }
    }
    for number in [0, ORIGINS] {
        set(&clock(number), 0);
    }
    scene.a_death_is_noticed(0).await;
}
