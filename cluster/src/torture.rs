//! The torture: real processes under load are killed, bits on their disks are flipped, and their folders are deleted.
//! At the end every acknowledged object must read back exactly, with all its redundancy, and every removed one must be
//! gone.
//!
//! It has two acts. In the first there are few objects, and harm comes in rounds: two nodes get flipped bits all over
//! their disks, or lose their whole folders, and everything must be healed before the next round. In the second there
//! are many writers, and processes are killed all the time. Nothing has to heal in between, because a killed process
//! loses nothing durable.
//!
//! One seed draws everything that is not the machine's own timing: sizes, victims, moments, bits. No more than m shards
//! of one object are hurt before all is healed again: no code with that parity survives more. Uploads pause at the
//! moment of harm, because an object that was acknowledged at its write quorum can lose fewer than m shards until it is
//! healed.
#![expect(clippy::print_stdout, reason = "a torture talks to the person in front of it")]

mod harm;
mod load;
mod tally;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use fastrand::Rng;
use format::Profile;
use tokio::{
    sync::{RwLock, watch},
    task::JoinSet,
    time::sleep,
};

use self::tally::Tally;
use crate::{
    keeper::Keeper,
    processes::{ProcessOptions, Processes},
};

/// Origins of the tortured cluster: six hold each large object, three are spare.
const ORIGINS: u8 = 9;
/// Short intervals of the first act, so that healing begins while the user still watches.
const LIMITS: &str = "announce_seconds = 1\ndown_seconds = 5\nscan_seconds = 2\nscrub_seconds = 10\nrepairs_max = 2\n\
                      repair_bytes_per_second = 0\nsweep_seconds = 2\nerase_grace_seconds = 2\nupload_idle_seconds = 20\n";
/// Longer intervals of the second act: a walk over all objects every few seconds leaves no time to store 10^5 of them
/// (bench/results/torture.md).
const FLOOD_LIMITS: &str = "announce_seconds = 1\ndown_seconds = 15\nscan_seconds = 60\nscrub_seconds = 86400\nrepairs_max = 2\n\
                            repair_bytes_per_second = 0\nsweep_seconds = 60\nerase_grace_seconds = 2\nupload_idle_seconds = 20\n";
/// How long healing may take after a round of harm.
const HEAL_DEADLINE: Duration = Duration::from_secs(240);
/// How long the last healing may take: there may be 10^5 objects by then, and each is asked for.
const LAST_DEADLINE: Duration = Duration::from_secs(1800);
/// How long a killed origin may take until it listens again.
const RESTART_MAX: Duration = Duration::from_secs(2);
/// How many writers work in the first act, and in the second.
const WRITERS: [usize; 2] = [2, 32];
const READERS: usize = 2;

/// Options of the torture.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  ./x torture --minutes 1\n  ./x torture --minutes 45 --seed 7")]
pub struct TortureOptions {
    /// Minutes of harm, a quarter of them in the first act; healing and the last check come after it.
    #[arg(long, default_value_t = 1.0)]
    pub minutes: f64,
    /// Seed of everything random; the same seed does the same harm, as far as the machine's timing allows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bits flipped on the disk of each victim in a round.
    #[arg(long, default_value_t = 2000)]
    pub flips: u64,
}

/// The act that is played now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Few objects, harm in rounds.
    Rounds,
    /// Many objects, kills all the time.
    Flood,
    End,
}

/// The state that the writers, the readers and the harm share.
struct Scene {
    keeper: Keeper,
    tally: Tally,
    act: watch::Sender<Act>,
    /// When disks were last hurt, in seconds since 1970. The catalog does not know of it before a complete scrub.
    harmed_at: AtomicU64,
    /// Every upload and removal holds this lock shared. Harm to disks holds it exclusively.
    changes: RwLock<()>,
}

/// Tortures a cluster and prints the result.
///
/// # Errors
/// When an acknowledged object is lost or wrong, redundancy does not come back, or a restart takes too long.
pub async fn torture(options: &TortureOptions) -> Result<()> {
    ensure!(options.minutes.is_finite() && options.minutes > 0.0, "--minutes must be above zero");
    let quarter = Duration::from_secs_f64(options.minutes * 15.0);
    let processes = ProcessOptions { origins: ORIGINS, limits: LIMITS.to_owned(), ..ProcessOptions::default() };
    let mut processes = tokio::task::spawn_blocking(move || Processes::start(&processes)).await??;
    println!("seed {}: {ORIGINS} origins, profile small-cluster, {} minutes", options.seed, options.minutes);
    let scene = Arc::new(Scene {
        keeper: Keeper::open(&processes, Profile::SmallCluster).await?,
        tally: Tally::default(),
        act: watch::Sender::new(Act::Rounds),
        harmed_at: AtomicU64::new(0),
        changes: RwLock::new(()),
    });
    let mut load = JoinSet::new();
    let mut rng = Rng::with_seed(options.seed);
    for number in 0..WRITERS[1] {
        load.spawn(load::write(scene.clone(), number, rng.fork()));
    }
    for _ in 0..READERS {
        load.spawn(load::read(scene.clone(), rng.fork()));
    }
    let mut harmed = harm::rounds(&scene, &mut processes, &mut rng, quarter, options.flips).await;
    if harmed.is_ok() {
        scene.act.send_replace(Act::Flood);
        harmed = harm::flood(&scene, &mut processes, &mut rng, 3 * quarter).await;
    }
    scene.act.send_replace(Act::End);
    while let Some(ended) = load.join_next().await {
        ended?;
    }
    let judged = match harmed {
        Ok(()) => scene.judge().await,
        failed => failed,
    };
    judged.with_context(|| format!("logs and disks are in {}", processes.keep().display()))
}

impl Scene {
    fn is(&self, act: Act) -> bool {
        *self.act.borrow() == act
    }

    /// Waits until all objects are whole, and the last harm to disks was scrubbed.
    async fn heal(&self, deadline: Duration) -> Result<()> {
        let start = Instant::now();
        let harmed_at = self.harmed_at.load(Ordering::Relaxed);
        let is_scrubbed =
            async || self.keeper.operator.repairs().await.is_ok_and(|now| now.status.scrubbed_since > harmed_at);
        while harmed_at > 0 && !is_scrubbed().await {
            ensure!(start.elapsed() < deadline, "no whole scrub within {deadline:?} of the harm");
            sleep(Duration::from_millis(500)).await;
        }
        self.keeper.until_whole(deadline.saturating_sub(start.elapsed())).await?;
        self.tally.heal_max.raise(start.elapsed());
        Ok(())
    }

    /// Reads everything once more and prints the table.
    async fn judge(&self) -> Result<()> {
        self.heal(LAST_DEADLINE).await?;
        let looked = self.keeper.look().await;
        let made_bytes = self.keeper.operator.repairs().await?.status.repaired_bytes;
        self.tally.print(&looked, made_bytes);
        let wrong_reads = self.tally.wrong_reads.count();
        ensure!(looked.is_well() && wrong_reads == 0, "{wrong_reads} reads were wrong; at the end {looked:?}");
        ensure!(looked.exact > 0, "nothing was acknowledged, so nothing was shown");
        let slowest = self.tally.restart_max.get();
        ensure!(slowest < RESTART_MAX, "a restart took {slowest:?}, {RESTART_MAX:?} are allowed");
        Ok(())
    }
}
