//! Storing and reading back, beside Garage: the same bytes, in the same run, one side after the other on one machine.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cluster::processes::{ProcessOptions, Processes, cpu_seconds, read_stored};
use testing::noise_of;

use crate::{
    garage::{Fsync, Garage},
    hits::median,
    machine,
    timed::{self, Timed},
};

const ROUNDS: usize = 5;
const ORIGINS: u8 = 6;
const FILE_BYTES: usize = 10_000;
/// Requests in flight while the small files are stored.
const CLIENTS: u32 = 16;
/// Servers rest when each uses at most 2 % of a core for a second, on average. Idle ones use about 1 %.
const REST: (f64, Duration) = (0.02, Duration::from_secs(1));
const REST_DEADLINE: Duration = Duration::from_secs(120);

/// Stores a file of so many MiB and so many small files, reads the large one back, and returns the table.
pub(crate) fn run(mebibytes: usize, files: usize) -> Result<String> {
    let ours = Evernear::start()?;
    let garage = |name: &str, fsync| Garage::start(ours.processes.path(name).into(), fsync);
    let (plain, synced) = (garage("garage", Fsync::Off)?, garage("garage-fsync", Fsync::On)?);
    let sides: [&dyn Side; 3] = [&ours, &plain, &synced];

    // The first request compiles a policy and opens connections.
    let (folder, warm) =
        (PathBuf::from(ours.processes.path("bytes")), Bytes { round: ROUNDS, large: 1 << 20, files: 16 });
    warm.measure(&sides, &folder)?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push(Bytes { round, large: mebibytes << 20, files }.measure(&sides, &folder)?);
        eprintln!("round {} of {ROUNDS} is done", round + 1);
    }

    let mut table = format!(
        "{}\n\nA file of {mebibytes} MiB; {files} files of {FILE_BYTES} bytes; median of {ROUNDS} interleaved rounds.\n\n\
         | | Evernear | Garage | Garage, fsync | Evernear / Garage | Evernear / Garage, fsync |\n|---|---|---|---|---|---|\n",
        machine::describe()
    );
    for (name, decimals, value) in ROWS {
        let of = |side: usize| median(rounds.iter().map(|round| value(&round[side])).collect());
        let (ours, plain, synced) = (of(0), of(1), of(2));
        let (by_plain, by_synced) = (ours / plain, ours / synced);
        writeln!(
            table,
            "| {name} | {ours:.decimals$} | {plain:.decimals$} | {synced:.decimals$} | {by_plain:.2} | {by_synced:.2} |"
        )?;
    }
    Ok(table)
}

/// Name, decimals, and how it follows from a round.
type Row = (&'static str, usize, fn(&Round) -> f64);

const ROWS: [Row; 12] = [
    ("store: MB/s", 0, |round| 1e3 * round.gigabytes / round.put.client.seconds),
    ("store: CPU of the servers, s/GB", 2, |round| round.put.servers / round.gigabytes),
    ("store: CPU of the client, s/GB", 2, |round| round.put.client.cpu_seconds / round.gigabytes),
    ("store: CPU of all, s/GB", 2, |round| (round.put.servers + round.put.client.cpu_seconds) / round.gigabytes),
    ("store: bytes on disk for each byte", 2, |round| round.disk_gigabytes / round.gigabytes),
    ("store: peak memory of the client, MiB", 0, |round| round.put.client.peak_kib as f64 / 1024.0),
    ("read: MB/s", 0, |round| 1e3 * round.gigabytes / round.get.client.seconds),
    ("read: CPU of the servers, s/GB", 2, |round| round.get.servers / round.gigabytes),
    ("read: CPU of the client, s/GB", 2, |round| round.get.client.cpu_seconds / round.gigabytes),
    ("small files: s", 2, |round| round.many.client.seconds),
    ("small files: CPU of the servers, s", 2, |round| round.many.servers),
    ("small files: CPU of the client, s", 2, |round| round.many.client.cpu_seconds),
];

/// What one side took for a round.
struct Round {
    gigabytes: f64,
    disk_gigabytes: f64,
    put: Cost,
    get: Cost,
    many: Cost,
}

pub(crate) struct Cost {
    pub(crate) client: Timed,
    /// CPU time of all servers, until they rest.
    pub(crate) servers: f64,
}

/// What is stored in a round. No two rounds have a block in common, or Garage would store it once.
pub(crate) struct Bytes {
    pub(crate) round: usize,
    pub(crate) large: usize,
    pub(crate) files: usize,
}

impl Bytes {
    /// Lets each side have them.
    fn measure(&self, sides: &[&dyn Side], folder: &Path) -> Result<Vec<Round>> {
        let large = self.write(folder)?;
        let rounds = sides.iter().map(|side| self.measure_side(*side, folder, &large)).collect();
        fs::remove_dir_all(folder)?;
        rounds
    }

    /// Writes the large file, whose path it returns, and the small ones into a folder `small`.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder.join("small"))?;
        let noise = |file: usize, bytes| noise_of((self.round << 32 | file) as u64, bytes);
        let large = folder.join(format!("large-{}", self.round));
        fs::write(&large, noise(0, self.large))?;
        for file in 1..=self.files {
            let name = format!("small/{}-{file}", self.round);
            fs::write(folder.join(name), noise(file, FILE_BYTES))?;
        }
        Ok(large)
    }

    fn measure_side(&self, side: &dyn Side, folder: &Path, large: &Path) -> Result<Round> {
        let before = disk_bytes(&side.folders())?;
        let put = cost(side, &side.put(large)?)?;
        sync()?;
        let disk_gigabytes = (disk_bytes(&side.folders())? - before) / 1e9;
        let get = cost(side, &side.get(large, &put.client.stdout)?)?;
        ensure!(get.client.stdout == self.large.to_string(), "{} bytes of {} came back", get.client.stdout, self.large);
        let many = cost(side, &side.put_folder(&folder.join("small"), CLIENTS)?)?;
        Ok(Round { gigabytes: self.large as f64 / 1e9, disk_gigabytes, put, get, many })
    }
}

/// A store, and how its client is called.
pub(crate) trait Side {
    fn servers(&self) -> Vec<u32>;
    /// Files and folders in which the servers keep what they are given.
    fn folders(&self) -> Vec<PathBuf>;
    fn put(&self, file: &Path) -> Result<Command>;
    /// Returns what reads a file back and prints its length; `put` is what storing it printed.
    fn get(&self, file: &Path, put: &str) -> Result<Command>;
    /// Where each file is a request, so many are in flight.
    fn put_folder(&self, folder: &Path, clients: u32) -> Result<Command>;
}

pub(crate) struct Evernear {
    pub(crate) processes: Processes,
    servers: Vec<u32>,
    /// What unlocks the owner key, as the file with its access key does for Garage's client.
    pub(crate) key: String,
}

impl Evernear {
    pub(crate) fn start() -> Result<Self> {
        let mut processes = Processes::start(&ProcessOptions { origins: ORIGINS, ..ProcessOptions::default() })?;
        // The edge comes after the origins.
        let servers = (0..=ORIGINS).map(|node| processes.pid(node.into())).collect::<Result<_>>()?;
        let key = processes.path("unlock.key");
        processes.evernear(&["owner", "passwd", "--new-key-file", &key])?;
        Ok(Self { processes, servers, key })
    }
}

impl Side for Evernear {
    fn servers(&self) -> Vec<u32> {
        self.servers.clone()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let catalog = ["catalog.sqlite", "catalog.sqlite-wal"].map(|name| self.processes.path(name).into());
        (0..ORIGINS).map(|origin| self.processes.data_dir(origin.into())).chain(catalog).collect()
    }

    fn put(&self, path: &Path) -> Result<Command> {
        let path = path.to_str().context("the folder of this run has a name in UTF-8")?;
        Ok(self.processes.command(self.processes.program(), &["put", path, "--json", "--key-file", &self.key]))
    }

    fn get(&self, _file: &Path, put: &str) -> Result<Command> {
        Ok(timed::view(&self.processes, &read_stored(put)?))
    }

    fn put_folder(&self, folder: &Path, _clients: u32) -> Result<Command> {
        self.put(folder)
    }
}

/// Returns what the run of a client costs, servers included.
pub(crate) fn cost(side: &dyn Side, client: &Command) -> Result<Cost> {
    // What is still to be written is of the run before.
    sync()?;
    let servers = side.servers();
    let before = cpu_seconds(&servers)?;
    let client = timed::run(client)?;
    rest(&servers)?;
    Ok(Cost { client, servers: cpu_seconds(&servers)? - before })
}

/// Waits until the servers rest: they may go on after their answer, with the last copy or with what they put off.
fn rest(servers: &[u32]) -> Result<()> {
    let (each, time) = REST;
    let deadline = Instant::now() + REST_DEADLINE;
    loop {
        let before = cpu_seconds(servers)?;
        thread::park_timeout(time);
        if cpu_seconds(servers)? - before <= each * servers.len() as f64 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the servers are busy for {} s after the answer", REST_DEADLINE.as_secs());
    }
}

/// Writes all that is only in memory to the disk.
fn sync() -> Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    Ok(())
}

/// Returns what files and folders take of the disk, holes left out.
fn disk_bytes(paths: &[PathBuf]) -> Result<f64> {
    let output = Command::new("du").args(["--summarize", "--total", "--block-size=1"]).args(paths).output()?;
    let text = String::from_utf8(output.stdout)?;
    let total = text.lines().last().and_then(|line| line.strip_suffix("\ttotal"));
    Ok(total.with_context(|| format!("du said {text:?}"))?.parse()?)
}
