//! Losses: a running cluster loses folders, nodes and a zone, one after the other. After each loss, all redundancy must
//! come back while every read is exact. Repair may read hardly more than the minimum: k columns of each object, once
//! for all columns that the object lost.
#![expect(clippy::print_stdout, reason = "it talks to the person in front of it")]

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Write as _},
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use fastrand::Rng;
use format::{NodeName, Profile, wire::ObjectHealth};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use crate::{
    keeper::{Keeper, is_whole},
    processes::{ProcessOptions, Processes, cpu_seconds},
};

const ORIGINS: u8 = 12;
const ZONE_ORIGINS: u8 = 2;
const PROFILE: &str = "4+2";
/// The k of the profile.
const DATA: usize = 4;
/// Short intervals. A node is down after 8 s of silence. A node whose silence began within two announcements of
/// another's is taken as down together with it.
const LIMITS: &str = "announce_seconds = 1\ndown_seconds = 8\nscan_seconds = 2\nrepairs_max = 2\n\
                      repair_bytes_per_second = 0\nsweep_seconds = 2\n";
const DEADLINE: Duration = Duration::from_secs(300);
/// Read amplification: bytes read by repair, divided by the minimum. It is above 1 only when a node is lost while an
/// object that it shares with another is already under repair, or when a read is retried. Below 1, something was not
/// counted.
const READ_FACTOR: RangeInclusive<f64> = 0.999..=1.1;
/// Bytes that are written once and synced, to measure the throughput of the disk.
const PROBE_BYTES: usize = 256 << 20;

/// What is stored before the first loss.
#[derive(Debug, Clone, Args)]
pub struct LossOptions {
    /// How many objects; each has from half of `--bytes` to one and a half times as many.
    #[arg(long, default_value_t = 200)]
    pub objects: usize,
    /// Mean size of an object, in bytes.
    #[arg(long, default_value_t = 4 << 20)]
    pub bytes: usize,
    /// Seed of the sizes, bytes and victims.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The folder is deleted under the running process.
    Folder,
    /// The process is killed, and comes back with an empty disk.
    Wiped,
    /// The processes are killed. They come back with their disks once redundancy is complete without them.
    Killed,
}

/// What repair did, summed over all nodes.
#[derive(Debug, Clone, Copy)]
struct Spent {
    read: u64,
    written: u64,
}

/// What a loss destroys, computed from the catalog before it.
struct Toll {
    objects: usize,
    columns: usize,
    /// Bytes of the lost columns.
    lost_bytes: u64,
    /// Bytes of the k smallest remaining columns of each object that lost any: the least that repair must read.
    least_read_bytes: u64,
}

/// The cluster, and a reader who reads until the end.
struct Scene {
    keeper: Keeper,
    processes: Processes,
    reads: AtomicU64,
    again: AtomicU64,
    ends: AtomicBool,
}

/// Causes one loss after the other and prints what each cost.
///
/// # Errors
/// When a read fails or is wrong, redundancy does not come back, or repair reads much more than it must.
pub async fn losses(options: &LossOptions) -> Result<()> {
    let started = ProcessOptions {
        origins: ORIGINS,
        zone_origins: ZONE_ORIGINS,
        profile: PROFILE.to_owned(),
        limits: LIMITS.to_owned(),
        ..ProcessOptions::default()
    };
    let processes = tokio::task::spawn_blocking(move || Processes::start(&started)).await??;
    println!(
        "seed {}: {ORIGINS} origins in zones of {ZONE_ORIGINS}, profile {PROFILE}, {} objects of about {} bytes",
        options.seed, options.objects, options.bytes
    );
    println!("disk: {:.0} MB/s written and synced", probe(Path::new(&processes.path("probe")))?);
    let keeper = Keeper::open(&processes, PROFILE.parse::<Profile>()?).await?;
    let mut scene =
        Scene { keeper, processes, reads: AtomicU64::new(0), again: AtomicU64::new(0), ends: AtomicBool::new(false) };
    let mut rng = Rng::with_seed(options.seed);
    let puts = (0..options.objects).map(|_| (rng.usize(options.bytes / 2..=options.bytes * 3 / 2), rng.fork()));
    let puts: Vec<_> = puts.collect();
    stream::iter(puts)
        .map(|(length, mut rng)| {
            let keeper = &scene.keeper;
            async move { keeper.put(&mut rng, length).await }
        })
        .buffer_unordered(2)
        .try_collect::<Vec<_>>()
        .await?;
    println!(
        "| lost | objects | columns | s until whole | s of them repairing | read MB | least MB | factor | written MB | MB/s | CPU s |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut order: Vec<usize> = (0..usize::from(ORIGINS)).collect();
    rng.shuffle(&mut order);
    let zone = order[4] / usize::from(ZONE_ORIGINS) * usize::from(ZONE_ORIGINS);
    for (name, loss, victims) in [
        ("a folder under a running node", Loss::Folder, vec![order[0]]),
        ("a node that comes back empty", Loss::Wiped, vec![order[1]]),
        ("2 nodes at once", Loss::Killed, order[2..4].to_vec()),
        ("a zone of 2 nodes", Loss::Killed, (zone..zone + usize::from(ZONE_ORIGINS)).collect()),
    ] {
        scene.lose(name, loss, &victims).await?;
    }
    let [reads, again] = [&scene.reads, &scene.again].map(|number| number.load(Ordering::Relaxed));
    println!("{reads} reads meanwhile, all exact, {again} of them at the second try");
    scene.keeper.all_exact().await
}

/// Removes a folder under a node that may still write into it: what comes while it goes is removed as well.
fn remove_folder(folder: &Path) -> Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && tries < 100 => tries += 1,
            done => return Ok(done?),
        }
    }
}

impl Scene {
    async fn lose(&mut self, name: &str, loss: Loss, victims: &[usize]) -> Result<()> {
        let names: BTreeSet<NodeName> =
            victims.iter().map(|number| format!("o{number}").parse()).collect::<Result<_, _>>()?;
        let before = self.settled().await?;
        let toll = Toll::of(&before, &names);
        ensure!(toll.columns > 0, "{name}: nothing lies there, so nothing is shown; store more");
        if loss != Loss::Folder {
            victims.iter().try_for_each(|number| self.processes.kill_node(*number))?;
        }
        let (start, spent) = (Instant::now(), self.spent().await?);
        if loss != Loss::Killed {
            victims.iter().try_for_each(|number| remove_folder(&self.processes.data_dir(*number)))?;
        }
        if loss == Loss::Wiped {
            for number in victims {
                self.processes.start_node(*number)?;
            }
        }
        let pids: Vec<u32> = (0..usize::from(ORIGINS)).filter_map(|number| self.processes.pid(number).ok()).collect();
        let cpu = cpu_seconds(&pids)?;
        self.ends.store(false, Ordering::Relaxed);
        let (reader, healed) = tokio::join!(self.read(), async {
            let healed = self.healed(spent, toll.lost_bytes).await;
            self.ends.store(true, Ordering::Relaxed);
            healed
        });
        reader.with_context(|| format!("{name}: a read"))?;
        let began = healed.with_context(|| format!("{name}: redundancy"))?;
        let (whole, repairing) = (start.elapsed().as_secs_f64(), began.elapsed().as_secs_f64());
        let now = self.spent().await?;
        let (read, written) = (now.read - spent.read, now.written - spent.written);
        let factor = ratio(read, toll.least_read_bytes);
        println!(
            "| {name} | {} | {} | {whole:.1} | {repairing:.1} | {:.1} | {:.1} | {factor:.3} | {:.1} | {:.1} | {:.1} |",
            toll.objects,
            toll.columns,
            ratio(read, 1_000_000),
            ratio(toll.least_read_bytes, 1_000_000),
            ratio(written, 1_000_000),
            ratio(written, 1_000_000) / repairing,
            cpu_seconds(&pids)? - cpu,
        );
        ensure!(
            READ_FACTOR.contains(&factor),
            "{name}: repair read {factor:.3} of the least, {READ_FACTOR:?} is allowed"
        );
        if loss != Loss::Wiped {
            for number in victims {
                self.processes.kill_node(*number)?;
                self.processes.start_node(*number)?;
            }
        }
        Ok(())
    }

    /// Waits until every column is healthy and on at most one node. Returns the health of all objects.
    async fn settled(&self) -> Result<Vec<ObjectHealth>> {
        let start = Instant::now();
        loop {
            self.keeper.until_whole(DEADLINE.saturating_sub(start.elapsed())).await?;
            let healths = self.keeper.healths().await?;
            let is_single = |health: &ObjectHealth| health.columns.iter().all(|column| column.nodes.len() <= 1);
            if healths.iter().all(is_single) {
                return Ok(healths);
            }
            ensure!(start.elapsed() < DEADLINE, "what is surplus was not removed within {DEADLINE:?}");
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until repair has written as many bytes as were lost, and every object is whole. Returns when repair began.
    async fn healed(&self, before: Spent, lost_bytes: u64) -> Result<Instant> {
        let (start, mut began) = (Instant::now(), None);
        loop {
            let spent = self.spent().await?;
            if spent.written > before.written {
                began.get_or_insert_with(Instant::now);
            }
            if spent.written - before.written >= lost_bytes && self.keeper.healths().await?.iter().all(is_whole) {
                return Ok(began.unwrap_or(start));
            }
            ensure!(start.elapsed() < DEADLINE, "not whole after {DEADLINE:?}, {lost_bytes} bytes lost, {spent:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn spent(&self) -> Result<Spent> {
        let status = self.keeper.operator.repairs().await?.status;
        Ok(Spent { read: status.repair_read_bytes, written: status.repaired_bytes })
    }

    /// Reads one object after the other until the end; each must be exact. A read that fails is retried once, as a
    /// viewer would, because a node may have died during it.
    async fn read(&self) -> Result<()> {
        let kept = self.keeper.kept();
        for kept in kept.iter().cycle() {
            if self.ends.load(Ordering::Relaxed) {
                break;
            }
            let is_exact = match self.keeper.is_exact(kept).await {
                Err(error) => {
                    tracing::warn!(%error, "a read failed and is tried again");
                    self.again.fetch_add(1, Ordering::Relaxed);
                    self.keeper.is_exact(kept).await?
                }
                Ok(is_exact) => is_exact,
            };
            ensure!(is_exact, "{} is wrong", kept.label.capability().locator());
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Toll {
    fn of(healths: &[ObjectHealth], victims: &BTreeSet<NodeName>) -> Self {
        let mut toll = Self { objects: 0, columns: 0, lost_bytes: 0, least_read_bytes: 0 };
        for health in healths {
            let (lost, mut left): (Vec<_>, Vec<_>) = health
                .columns
                .iter()
                .partition(|column| !column.nodes.is_empty() && column.nodes.iter().all(|node| victims.contains(node)));
            if lost.is_empty() {
                continue;
            }
            left.sort_by_key(|column| column.bytes);
            toll.objects += 1;
            toll.columns += lost.len();
            toll.lost_bytes += lost.iter().map(|column| column.bytes).sum::<u64>();
            toll.least_read_bytes += left.iter().take(DATA).map(|column| column.bytes).sum::<u64>();
        }
        toll
    }
}

/// Returns the write throughput of the disk under a file, in MB/s.
fn probe(path: &Path) -> Result<f64> {
    let bytes = vec![7; 1 << 20];
    let start = Instant::now();
    let mut file = fs::File::create(path)?;
    for _ in 0..PROBE_BYTES / bytes.len() {
        file.write_all(&bytes)?;
    }
    file.sync_all()?;
    let taken = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(ratio(PROBE_BYTES as u64, 1_000_000) / taken)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to.max(1) as f64
}
