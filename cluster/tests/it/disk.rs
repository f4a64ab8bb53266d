//! A disk that fails under a running origin, and a machine that has no file descriptors left. strace makes system calls
//! of the process fail (fault injection), and small file systems get full. Acknowledged objects read exactly
//! throughout, and everything heals.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cluster::{
    keeper::Keeper,
    processes::{ProcessOptions, Processes, Seat},
};
use fastrand::Rng;
use format::{NodeName, Profile};
use testing::{mount::Mount, postgres::Server};
use twin::TwinConfig;

use crate::load::{DEADLINE, Load, QUICK, count, start, store, until};

const SEED: u64 = 6;
const ORIGINS: u8 = 7;

/// System calls of a process that fail until this is dropped.
struct Injected {
    strace: Child,
    log: PathBuf,
}

impl Injected {
    fn new(pid: u32, calls: &str, error: &str, log: PathBuf) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-p", &pid.to_string(), "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:error={error}"), "-o"]).arg(&log);
        let strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let it = Self { strace: strace.expect("strace is installed: `./x setup --test`"), log };
        let start = Instant::now();
        while tracer(pid) != it.strace.id() {
            assert!(start.elapsed() < DEADLINE, "strace does not attach");
            thread::park_timeout(Duration::from_millis(10));
        }
        it
    }

    /// Returns the thread of each call that failed so far.
    fn threads(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let failed = log.lines().filter(|line| line.contains("(INJECTED)"));
        failed.filter_map(|line| line.split_whitespace().next().map(ToOwned::to_owned)).collect()
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // At SIGINT strace detaches and lets the process continue.
        let _ = Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status();
        let _ = self.strace.wait();
    }
}

fn tracer(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

/// A cluster whose catalog is a database server, so that its reads do not fail with those of an origin's disk.
struct Scene {
    processes: Processes,
    keeper: Arc<Keeper>,
    rng: Rng,
    _server: Server,
}

impl Scene {
    async fn new(name: &str, data_dirs: &[PathBuf]) -> Self {
        println!("seed {SEED}");
        let server = Server::start(name);
        let catalog = Some(server.url(&server.new_database()));
        let seat = |data_dir: &PathBuf| Seat { data_dir: Some(data_dir.clone()), ..Seat::default() };
        let seats = data_dirs.iter().map(seat).collect();
        let limits = QUICK.to_owned();
        let options = ProcessOptions { origins: ORIGINS, catalog, limits, seats, ..ProcessOptions::default() };
        let processes = start(options).await;
        let keeper = Arc::new(Keeper::open(&processes, Profile::SmallCluster).await.unwrap());
        let mut rng = Rng::with_seed(SEED);
        store(&keeper, &mut rng, 8).await;
        keeper.until_whole(DEADLINE).await.unwrap();
        Self { processes, keeper, rng, _server: server }
    }

    fn load(&mut self) -> Load {
        Load::start(&self.keeper, &mut self.rng)
    }

    fn inject(&mut self, victim: usize, calls: &str, error: &str) -> Injected {
        let log = self.processes.path(&format!("strace-{victim}")).into();
        Injected::new(self.processes.pid(victim).unwrap(), calls, error, log)
    }

    /// Ends the load. Checks that no read failed, that all objects are whole again and exact, and that every origin
    /// runs.
    async fn end(&mut self, load: Load) {
        let tally = load.end().await;
        assert_eq!(count(&tally.failed), 0, "other columns are read: {tally:?}");
        self.keeper.until_whole(DEADLINE).await.unwrap();
        self.keeper.all_exact().await.unwrap();
        for number in 0..usize::from(ORIGINS) {
            self.processes.pid(number).unwrap();
        }
    }

    /// Returns the free bytes that an origin announces.
    async fn free_bytes(&self, origin: usize) -> u64 {
        let config = TwinConfig::read(Path::new(&self.processes.path("state/twin.toml"))).unwrap();
        let operator = twin::Operator::connect(&config).await.unwrap();
        let name: NodeName = format!("o{origin}").parse().unwrap();
        operator.topology().node(&name).map_or(u64::MAX, |node| node.free_bytes)
    }

    async fn reads_fail_here(&mut self, victim: usize) {
        let load = self.load();
        let injected = self.inject(victim, "pread64", "EIO");
        load.more("reads beside a disk that cannot", |tally| &tally.reads, 20).await;
        let quarantine = self.processes.data_dir(victim).join("quarantine");
        until("the scrub's word", async || fs::read_dir(&quarantine).is_ok_and(|found| found.count() > 0)).await;
        assert!(!injected.threads().is_empty());
        drop(injected);
        self.end(load).await;
    }

    async fn syncs_fail_here(&mut self, victim: usize) {
        let load = self.load();
        let injected = self.inject(victim, "fsync,fdatasync", "EIO");
        let processes = &mut self.processes;
        until("the end of the process", async || processes.pid(victim).is_err()).await;
        let said = processes.pid(victim).unwrap_err().to_string();
        assert!(said.contains("fsync failed"), "{said}");
        // Another thread may also have been in a system call at that moment.
        let threads = injected.threads();
        let distinct: BTreeSet<_> = threads.iter().collect();
        assert!(!threads.is_empty());
        assert_eq!(distinct.len(), threads.len(), "nobody asks again after a failed fsync: {threads:?}");
        drop(injected);
        processes.kill_node(victim).unwrap();
        processes.start_node(victim).unwrap();
        load.more("uploads with the origin that is back", |tally| &tally.puts, 3).await;
        self.end(load).await;
    }

    async fn files_run_out_here(&mut self, victim: usize) {
        let load = self.load();
        let pid = self.processes.pid(victim).unwrap();
        let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let most = open() + 20;
        let limit = format!("--nofile={most}:");
        let limited = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
        assert!(limited.unwrap().success());
        let door = self.processes.address(victim);
        let idle: Vec<TcpStream> = (0..most).map_while(|_| TcpStream::connect(door).ok()).collect();
        until("a process whose files are all open", async || open() >= most - 1).await;
        load.more("reads meanwhile", |tally| &tally.reads, 20).await;
        load.more("uploads meanwhile", |tally| &tally.puts, 3).await;
        drop(idle);
        until("files again", async || open() < most - 5).await;
        // The limit stays in force: the node itself needs fewer files than it.
        load.more("uploads after it", |tally| &tally.puts, 3).await;
        self.end(load).await;
    }
}

/// Takes 40 s: a server, a cluster, a scrub of 8 s, and handshakes that stay unfinished for 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn reads_syncs_and_files_that_fail_are_made_good_elsewhere() {
    let mut scene = Scene::new("calls", &[]).await;
    scene.reads_fail_here(0).await;
    scene.syncs_fail_here(1).await;
    scene.files_run_out_here(2).await;
}

mod needs_root {
    use super::*;

    /// Takes 30 s: a server and a cluster, and nodes that must be reported as full.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn a_full_and_a_read_only_disk_take_nothing_and_give_all() {
        let folder = tempfile::tempdir().unwrap();
        let [image, frozen, full] = ["image", "frozen", "full"].map(|name| folder.path().join(name));
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfs.ext4 is installed: `./x setup --test`");
        let _frozen = Mount::new(&frozen, &["-o", "loop", image.to_str().unwrap()]);
        let _full = Mount::small(&full, 48);
        let mut scene = Scene::new("disks", &[frozen.join("o0"), full.join("o1")]).await;
        // After an error ext4 aborts its journal and becomes read-only. This does the same.
        let aborted = Command::new("mount").args(["-o", "remount,abort"]).arg(&frozen).status();
        assert!(aborted.unwrap().success());
        let filler = full.join("filler");
        // A tmpfs gives its last page before it reports that it is full.
        let _ = Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display())).output();
        until("two nodes without room", async || scene.free_bytes(0).await == 0 && scene.free_bytes(1).await == 0)
            .await;
        // With two other origins gone, the columns of these are needed.
        for number in [2, 3] {
            scene.processes.kill_node(number).unwrap();
        }
        for kept in &scene.keeper.kept()[..8] {
            assert!(scene.keeper.is_exact(kept).await.unwrap());
        }
        for number in [2, 3] {
            scene.processes.start_node(number).unwrap();
        }
        let load = scene.load();
        fs::remove_file(&filler).unwrap();
        until("room again", async || scene.free_bytes(1).await > 0).await;
        load.more("uploads with six nodes of seven", |tally| &tally.puts, 3).await;
        scene.end(load).await;
    }
}
