//! The torture: real processes under load while they are killed, their disks bitten and their folders deleted. At its
//! end every acknowledged object must read back exactly, with all its redundancy, and every removed one must be gone.
//!
//! It has two acts. In the first the objects are few, and harm comes in rounds: two nodes lose bits all over their
//! disks, or their whole folders, and all must be healed before the next round. In the second there are many writers,
//! and processes die all the time; nothing has to heal in between, because a process that is killed loses nothing.
//!
//! One seed draws everything that is not the machine's own timing: sizes, victims, moments, bits. Of the shards of one
//! object never more than m are hurt before all is healed again: more cannot be survived by any code with that parity.
//! Uploads pause for the moment of the harm, because one that was acknowledged at its quorum has less than m to lose
//! until it is healed.
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
/// Quick clocks of the first act, so that healing begins while the person still watches.
const LIMITS: &str = "announce_seconds = 1\ndown_seconds = 5\nscan_seconds = 2\nscrub_seconds = 10\nrepairs_max = 2\n\
                      repair_bytes_per_second = 0\nsweep_seconds = 2\nerase_grace_seconds = 2\nupload_idle_seconds = 20\n";
/// Slower ones of the second: what walks over all objects every few seconds leaves no time to store 10^5 of them
/// (bench/results/torture.md).
const FLOOD_LIMITS: &str = "announce_seconds = 1\ndown_seconds = 15\nscan_seconds = 60\nscrub_seconds = 86400\nrepairs_max = 2\n\
                            repair_bytes_per_second = 0\nsweep_seconds = 60\nerase_grace_seconds = 2\nupload_idle_seconds = 20\n";
/// Everything is whole again within this after a round of harm.
const HEAL_DEADLINE: Duration = Duration::from_secs(240);
/// The last look waits longer: there may be 10^5 objects by then, of which each is asked for.
const LAST_DEADLINE: Duration = Duration::from_secs(1800);
/// A killed origin listens again within this.
const RESTART_MAX: Duration = Duration::from_secs(2);
/// Writers at work: in the first act, and in the second.
const WRITERS: [usize; 2] = [2, 32];
const READERS: usize = 2;

/// What the torture is asked to do.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  ./x torture --minutes 1\n  ./x torture --minutes 45 --seed 7")]
pub struct TortureOptions {
    /// How long harm is done, a quarter of it in the first act; healing and the last look come after it.
    #[arg(long, default_value_t = 1.0)]
    pub minutes: f64,
    /// Draws everything; the same seed hurts the same way, as far as the machine's timing allows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bits flipped on the disk of each victim in a round.
    #[arg(long, default_value_t = 2000)]
    pub flips: u64,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Few objects, harm in rounds.
    Rounds,
    /// Many objects, kills all the time.
    Flood,
    End,
}

/// What the writers, the readers and the harm share.
struct Scene {
    keeper: Keeper,
    tally: Tally,
    act: watch::Sender<Act>,
    /// When disks were hurt last, in seconds since 1970: the catalog does not know of it before a whole scrub.
    harmed_at: AtomicU64,
    /// Held shared by every upload and removal, alone by harm that lasts.
    changes: RwLock<()>,
}

/// Tortures a cluster and prints what came of it.
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

    /// Waits until all is whole, by all that the last harm did.
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
