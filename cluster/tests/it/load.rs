//! Load on a cluster of processes while a test does harm: writers and a reader in the background, and their results.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cluster::{
    keeper::Keeper,
    processes::{ProcessOptions, Processes},
};
use fastrand::Rng;
use tokio::task::JoinSet;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// No upload and no read takes longer, whatever is broken: what cannot be done must fail within this time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Short intervals: a node is down after 5 s of silence, and periodic tasks run every second or two.
pub(crate) const QUICK: &str = "announce_seconds = 1\ndown_seconds = 5\nscan_seconds = 2\nscrub_seconds = 8\nsweep_seconds = 2\n\
                                repairs_max = 2\nrepair_bytes_per_second = 0\nupload_idle_seconds = 20\n";

/// The results of the load.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) puts: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) wrong: AtomicU64,
    pub(crate) slowest_ms: AtomicU64,
}

/// Writers and a reader. They end when this is dropped.
pub(crate) struct Load {
    pub(crate) tally: Arc<Tally>,
    ends: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// Starts processes on a blocking thread.
pub(crate) async fn start(options: ProcessOptions) -> Processes {
    tokio::task::spawn_blocking(move || Processes::start(&options)).await.unwrap().unwrap()
}

/// Stores `count` objects, from small ones to some of a few stripes, one after the other.
pub(crate) async fn store(keeper: &Keeper, rng: &mut Rng, count: usize) {
    for number in 0..count {
        let length = if number % 2 == 0 { rng.usize(1 << 10..200 << 10) } else { rng.usize(1 << 20..3 << 20) };
        keeper.put(rng, length).await.unwrap();
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    testing::until_within(DEADLINE, what, holds).await;
}

/// Reads one counter of the load.
pub(crate) fn count(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Load {
    pub(crate) fn start(keeper: &Arc<Keeper>, rng: &mut Rng) -> Self {
        let mut load = Self { tally: Arc::default(), ends: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..2 {
            let (keeper, tally, ends, mut rng) = (keeper.clone(), load.tally.clone(), load.ends.clone(), rng.fork());
            load.tasks.spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    let (start, length) = (Instant::now(), rng.usize(1 << 10..1 << 20));
                    let done = keeper.put(&mut rng, length).await;
                    tally.took(start);
                    let counted = if done.is_ok() { &tally.puts } else { &tally.refused };
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (keeper, tally, ends, mut rng) = (keeper.clone(), load.tally.clone(), load.ends.clone(), rng.fork());
        load.tasks.spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                let kept = keeper.kept();
                let kept = rng.choice(&kept).expect("something is stored before the load begins");
                let start = Instant::now();
                match keeper.is_exact(kept).await {
                    Ok(true) => {}
                    Ok(false) => _ = tally.wrong.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        eprintln!("a read failed: {error:#}");
                        tally.failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tally.took(start);
                tally.reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        load
    }

    /// Waits until a counter has grown by `more`.
    pub(crate) async fn more(&self, what: &str, number: impl Fn(&Tally) -> &AtomicU64, more: u64) {
        let before = count(number(&self.tally));
        until(what, async || count(number(&self.tally)) >= before + more).await;
    }

    /// Ends the load. Panics when a read was not exact or something hung.
    pub(crate) async fn end(mut self) -> Arc<Tally> {
        self.ends.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let tally = self.tally.clone();
        eprintln!("{tally:?}");
        assert_eq!(count(&tally.wrong), 0, "{tally:?}");
        assert!(Duration::from_millis(count(&tally.slowest_ms)) < ANSWER_DEADLINE, "{tally:?}");
        tally
    }
}

impl Tally {
    fn took(&self, since: Instant) {
        let took = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.slowest_ms.fetch_max(took, Ordering::Relaxed);
    }
}
