//! The torture: real processes under load while they are killed, their disks bitten and their folders deleted. At its end every
//! acknowledged object must read back exactly, with all its redundancy.
//!
//! One seed draws everything that is not the machine's own timing: sizes, victims, moments, bits. Of the shards of one object
//! never more than m are hurt before all is healed again: more cannot be survived by any code with that parity. Uploads pause
//! for the moment of the harm, because one that was acknowledged at its quorum has less than m to lose until it is healed.
#![expect(clippy::print_stdout, reason = "a torture talks to the person in front of it")]

use std::{
    fs,
    io::Cursor,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use fastrand::Rng;
use format::{Capability, OwnerSecret, Profile, wire::ColumnState};
use futures::{StreamExt, stream};
use tokio::{sync::RwLock, task::JoinSet, time::sleep};
use twin::{Index, Operator, PutOptions, Tenure, Twin, TwinConfig};
use walkdir::WalkDir;

use crate::processes::{ProcessOptions, Processes};

/// Origins of the tortured cluster: six hold each large object, three are spare.
const ORIGINS: u8 = 9;
/// Nodes hurt at a time: the parity of every tier of the profile.
const VICTIMS: usize = 2;
/// Quick clocks, so that healing begins while the person still watches.
const LIMITS: &str = "announce_seconds = 1\ndown_seconds = 5\nscan_seconds = 2\nscrub_seconds = 10\nrepairs_max = 2\n\
                      repair_bytes_per_second = 0\nsweep_seconds = 2\nupload_idle_seconds = 20\n";
/// Everything is whole again within this after the last harm.
const HEAL_DEADLINE: Duration = Duration::from_secs(180);
/// A killed origin listens again within this.
const RESTART_MAX: Duration = Duration::from_secs(2);
/// Objects whose health is asked for at a time.
const ASKED_AT_ONCE: usize = 16;

/// What the torture is asked to do.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  cargo xtask torture --minutes 1\n  cargo xtask torture --minutes 60 --seed 7")]
pub struct TortureOptions {
    /// How long harm is done; healing and the last look come after it.
    #[arg(long, default_value_t = 1.0)]
    pub minutes: f64,
    /// Draws everything; the same seed hurts the same way, as far as the machine's timing allows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// An acknowledged object.
#[derive(Clone)]
struct Kept {
    capability: Capability,
    hash: blake3::Hash,
    length: u64,
}

/// What was done and seen.
#[derive(Default)]
struct Tally {
    puts: AtomicU64,
    refused_puts: AtomicU64,
    put_bytes: AtomicU64,
    reads: AtomicU64,
    failed_reads: AtomicU64,
    wrong_reads: AtomicU64,
    kills: AtomicU64,
    flips: AtomicU64,
    wipes: AtomicU64,
    restart_max: Mutex<Duration>,
    heal_max: Mutex<Duration>,
}

/// What the writers, the readers and the harm share.
struct Scene {
    twin: Twin,
    operator: Operator,
    kept: Mutex<Vec<Kept>>,
    tally: Tally,
    /// When bits were flipped last, in seconds since 1970: the catalog does not know of them before a whole scrub.
    flipped_at: AtomicU64,
    /// Held shared by every upload, alone by harm that lasts.
    uploads: RwLock<()>,
    ends: AtomicBool,
}

/// Tortures a cluster and prints what came of it.
///
/// # Errors
/// When an acknowledged object is lost or wrong, redundancy does not come back, or a restart takes too long.
pub async fn torture(options: &TortureOptions) -> Result<()> {
    ensure!(options.minutes.is_finite() && options.minutes > 0.0, "--minutes must be above zero");
    let processes = ProcessOptions { origins: ORIGINS, limits: LIMITS.to_owned(), ..ProcessOptions::default() };
    let mut processes = tokio::task::spawn_blocking(move || Processes::start(&processes)).await??;
    println!("seed {}: {ORIGINS} origins, profile small-cluster, {} minutes", options.seed, options.minutes);
    let scene = Arc::new(Scene::open(&processes).await?);
    let mut load = JoinSet::new();
    let mut rng = Rng::with_seed(options.seed);
    for _ in 0..2 {
        load.spawn(write(scene.clone(), rng.fork()));
    }
    load.spawn(read(scene.clone(), rng.fork()));

    let harm = harm(&scene, &mut processes, &mut rng, Duration::from_secs_f64(options.minutes * 60.0)).await;
    scene.ends.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended?;
    }
    harm?;
    scene.judge().await
}

impl Scene {
    async fn open(processes: &Processes) -> Result<Self> {
        let config = TwinConfig::read(Path::new(&processes.path("state/twin.toml")))?;
        let network = Arc::new(twin::Network::connect(&config).await?);
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).context("the system gives no random bytes")?;
        let secret = OwnerSecret::from_bytes(secret);
        let index = Index::open(processes.path("torture-index"), &secret)?;
        Ok(Self {
            twin: Twin::new(&secret, index, network),
            operator: Operator::connect(&config).await?,
            kept: Mutex::default(),
            tally: Tally::default(),
            flipped_at: AtomicU64::new(0),
            uploads: RwLock::new(()),
            ends: AtomicBool::new(false),
        })
    }

    fn kept(&self) -> Vec<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads an object whole and says whether it is exact; an error when it cannot be read.
    async fn is_exact(&self, kept: &Kept) -> Result<bool> {
        let network = self.twin.network();
        let found = network.find(&kept.capability, &[]).await?;
        let (bytes, _) = network.read(&found, 0..kept.length, Vec::new(), Path::new("memory")).await?;
        Ok(blake3::hash(&bytes) == kept.hash)
    }

    /// Whether every column of every object lies well, by all that the last harm did.
    async fn is_whole(&self) -> bool {
        let flipped_at = self.flipped_at.load(Ordering::Relaxed);
        let status = self.operator.repairs().await;
        if !status.is_ok_and(|status| flipped_at == 0 || status.scrubbed_since > flipped_at) {
            return false;
        }
        let kept = self.kept();
        let asked = stream::iter(&kept).map(async |kept| {
            let health = self.operator.health(&kept.capability.locator()).await;
            health.is_ok_and(|health| {
                health.columns.iter().all(|it| matches!(it.state, ColumnState::Healthy | ColumnState::Empty))
            })
        });
        asked.buffer_unordered(ASKED_AT_ONCE).all(async |whole| whole).await
    }

    /// Waits until all is whole.
    async fn heal(&self) -> Result<()> {
        let start = Instant::now();
        while !self.is_whole().await {
            if start.elapsed() > HEAL_DEADLINE {
                bail!("redundancy did not come back within {HEAL_DEADLINE:?}; {}", self.what_is_missing().await);
            }
            sleep(Duration::from_millis(500)).await;
        }
        raise(&self.tally.heal_max, start.elapsed());
        Ok(())
    }

    async fn what_is_missing(&self) -> String {
        for kept in self.kept() {
            match self.operator.health(&kept.capability.locator()).await {
                Ok(health) if health.columns.iter().any(|it| it.state == ColumnState::Lost) => {
                    return format!("one of them: {health:?}");
                }
                Err(error) => return format!("health of {} is unknown: {error}", kept.capability.locator()),
                Ok(_) => {}
            }
        }
        "no object says what is missing".to_owned()
    }

    /// Reads everything once more and prints the table.
    async fn judge(&self) -> Result<()> {
        self.heal().await?;
        let kept = self.kept();
        let looked = stream::iter(&kept).map(async |kept| self.is_exact(kept).await).buffer_unordered(ASKED_AT_ONCE);
        let looked: Vec<Result<bool>> = looked.collect().await;
        let lost = looked.iter().filter(|exact| exact.is_err()).count();
        let wrong = looked.iter().filter(|exact| matches!(exact, Ok(false))).count();
        let repaired = self.operator.repairs().await?.repaired_bytes;
        let tally = &self.tally;
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let longest = |time: &Mutex<Duration>| *time.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = [
            ("objects acknowledged", count(&tally.puts).to_string()),
            ("bytes acknowledged", count(&tally.put_bytes).to_string()),
            ("uploads that failed and said so", count(&tally.refused_puts).to_string()),
            ("reads under harm", count(&tally.reads).to_string()),
            ("  that failed and said so", count(&tally.failed_reads).to_string()),
            ("  that were wrong", count(&tally.wrong_reads).to_string()),
            ("processes killed (SIGKILL)", count(&tally.kills).to_string()),
            ("longest restart", format!("{:.2} s", longest(&tally.restart_max).as_secs_f64())),
            ("bits flipped on disks", count(&tally.flips).to_string()),
            ("data folders deleted", count(&tally.wipes).to_string()),
            ("longest healing", format!("{:.1} s", longest(&tally.heal_max).as_secs_f64())),
            ("bytes made again since the last restarts", repaired.to_string()),
            ("objects lost", lost.to_string()),
            ("objects wrong", wrong.to_string()),
        ];
        for (name, value) in rows {
            println!("{name:<44}{value:>14}");
        }
        ensure!(lost == 0 && wrong == 0 && count(&tally.wrong_reads) == 0, "acknowledged objects are lost or wrong");
        ensure!(count(&tally.puts) > 0, "nothing was acknowledged, so nothing was shown");
        let slowest = longest(&tally.restart_max);
        ensure!(slowest < RESTART_MAX, "a restart took {slowest:?}, {RESTART_MAX:?} are allowed");
        Ok(())
    }
}

/// Stores objects of all tiers until the end.
async fn write(scene: Arc<Scene>, mut rng: Rng) {
    let progress: Arc<dyn twin::Progress> = Arc::new(());
    let tenure = Tenure { profile: Profile::SmallCluster, ..Tenure::default() };
    let options = PutOptions { tenure, name: Some("torture".to_owned()), ..PutOptions::default() };
    while !scene.ends.load(Ordering::Relaxed) {
        let length = match rng.u8(..100) {
            0..20 => rng.usize(1..16 << 10),
            20..90 => rng.usize(16 << 10..256 << 10),
            _ => rng.usize(256 << 10..3 << 20),
        };
        let mut bytes = vec![0; length];
        rng.fill(&mut bytes);
        let (hash, length) = (blake3::hash(&bytes), length as u64);
        let _upload = scene.uploads.read().await;
        match scene.twin.put_stream(Box::new(Cursor::new(bytes)), &options, &progress).await {
            Ok(stored) => {
                scene.tally.puts.fetch_add(1, Ordering::Relaxed);
                scene.tally.put_bytes.fetch_add(length, Ordering::Relaxed);
                let kept = Kept { capability: stored.label.capability().clone(), hash, length };
                scene.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
            }
            Err(error) => {
                tracing::info!(error = &error as &dyn std::error::Error, "an upload failed");
                scene.tally.refused_puts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Reads what was acknowledged until the end.
async fn read(scene: Arc<Scene>, mut rng: Rng) {
    while !scene.ends.load(Ordering::Relaxed) {
        let kept = scene.kept();
        let Some(kept) = rng.choice(&kept) else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        scene.tally.reads.fetch_add(1, Ordering::Relaxed);
        match scene.is_exact(kept).await {
            Ok(true) => {}
            Ok(false) => {
                scene.tally.wrong_reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::info!(%error, "a read failed");
                scene.tally.failed_reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Does harm until the time is over: kills all the time, and in rounds something that must heal before the next.
async fn harm(scene: &Scene, processes: &mut Processes, rng: &mut Rng, time: Duration) -> Result<()> {
    let start = Instant::now();
    let mut round = 0u32;
    while start.elapsed() < time {
        let mut numbers: Vec<usize> = (0..usize::from(ORIGINS)).collect();
        rng.shuffle(&mut numbers);
        let victims = &numbers[..VICTIMS];
        for _ in 0..3 {
            sleep(Duration::from_millis(rng.u64(50..1500))).await;
            let killed = &victims[..rng.usize(1..=VICTIMS)];
            for number in killed {
                processes.kill_node(*number)?;
                scene.tally.kills.fetch_add(1, Ordering::Relaxed);
            }
            for number in killed {
                raise(&scene.tally.restart_max, processes.start_node(*number)?);
            }
        }
        println!("{:>5.0} s  round {}: healing", start.elapsed().as_secs_f64(), round + 1);
        let uploads = scene.uploads.write().await;
        scene.heal().await?;
        match round % 2 {
            0 => {
                for number in victims {
                    let flipped = flip(&processes.data_dir(*number), rng, 40)?;
                    scene.tally.flips.fetch_add(flipped, Ordering::Relaxed);
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                scene.flipped_at.store(now, Ordering::Relaxed);
            }
            _ => {
                for number in victims {
                    processes.kill_node(*number)?;
                    fs::remove_dir_all(processes.data_dir(*number))?;
                    scene.tally.wipes.fetch_add(1, Ordering::Relaxed);
                    raise(&scene.tally.restart_max, processes.start_node(*number)?);
                }
            }
        }
        drop(uploads);
        round += 1;
    }
    Ok(())
}

/// Flips bits in files of a node's disk, wherever they are but in those that only this process of the node reads.
fn flip(folder: &Path, rng: &mut Rng, count: u64) -> Result<u64> {
    let kinds = ["shards", "packs", "records"].map(|kind| folder.join(kind));
    let files: Vec<PathBuf> = kinds
        .iter()
        .flat_map(WalkDir::new)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect();
    let mut flipped = 0;
    for _ in 0..count {
        let Some(path) = rng.choice(&files) else { break };
        // Uploads rename files and sweeps remove them: what is gone is not bitten.
        let Ok(file) = fs::File::options().read(true).write(true).open(path) else { continue };
        let length = file.metadata()?.len();
        if length == 0 {
            continue;
        }
        let at = rng.u64(..length);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << rng.u8(..8);
        file.write_all_at(&byte, at)?;
        flipped += 1;
    }
    Ok(flipped)
}

fn raise(longest: &Mutex<Duration>, time: Duration) {
    let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
    *longest = time.max(*longest);
}
