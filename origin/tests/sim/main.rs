//! A cluster in virtual time: 24 origins in eight zones, six edges and two twins, and everything that can go wrong with
//! them, drawn from one seed.
//!
//! Real: the client (uploader, placement, reader, gather, pace, repair, and the transport down to its HTTP messages),
//! the format, and the origins whole: their HTTP service, stores on a disk in memory, the catalog on SQLite, the change
//! feed, leases, repair with its scan, queue, tickets and removal of what is surplus. Made up: the network with TCP and
//! TLS, the clock, and chance. Not here: the edge's doors and cache, `PostgreSQL`, and a disk that loses what was not
//! synced (`tests/it/crash.rs` has that). What a node draws by itself, the names of upload sessions and of packs,
//! decides nothing.
//!
//! A seed is run again alone, and its trace shown, by the command that a failure prints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod catalog;
mod check;
mod faults;
mod liars;
mod network;
mod object;
mod trace;
mod work;
mod world;

use std::{
    env,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use crate::{
    liars::Cost,
    trace::lock,
    work::{Shelf, edge, twin},
    world::World,
};

/// Seeds of a run, when the environment does not say: a minute of two cores. More are a long lane.
const SEEDS: u64 = 20;
/// Seeds that run twice, and seeds with liars.
const TWICE: u64 = 2;
const LIAR_SEEDS: u64 = 8;
/// Of a hundred reads beside liars the slowest takes so many times as long as without them, at most. In virtual time.
const SLOWER_MAX: f64 = 2.0;
/// Each liar gets to say so many wrong things to each reader.
const WRONG_MAX: u32 = 10;
const ROUNDS: usize = 3;
const TWINS: usize = 2;
const EDGES: usize = 6;

/// What came of one seed.
struct Outcome {
    lines: Vec<String>,
    violations: Vec<String>,
    reads: usize,
    failures: usize,
    virtual_seconds: usize,
}

/// A folder in memory where there is one: what is simulated does not wait for a disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn run<T>(seed: u64, simulate: impl AsyncFnOnce(u64, &Path) -> T) -> T {
    let dir = folder();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, dir.path()))
}

async fn simulate(seed: u64, dir: &Path) -> Outcome {
    let world = World::start(seed, dir).await;
    let shelf = Arc::new(Shelf::default());
    let mut tasks = JoinSet::new();
    (0..TWINS).for_each(|number| drop(tasks.spawn(twin(world.clone(), shelf.clone(), number))));
    (0..EDGES).for_each(|number| drop(tasks.spawn(edge(world.clone(), shelf.clone(), number))));
    sleep(Duration::from_secs(15)).await;
    for _ in 0..ROUNDS {
        faults::round(&world, &shelf).await;
    }
    tasks.shutdown().await;
    // What was sent last reaches all copies by the feed.
    sleep(Duration::from_secs(5)).await;
    let objects = shelf.objects();
    check::heals(&world, &objects).await;
    check::finally(&world, &objects).await;
    let virtual_seconds = usize::try_from(world.trace.now_ms() / 1000).unwrap();
    world.end().await;
    let (lines, violations) = world.trace.take();
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    Outcome { lines, violations, reads: count(&shelf.reads), failures: count(&shelf.failures), virtual_seconds }
}

/// Runs seeds on all cores, and returns what `each` made of them, in order.
fn over_seeds<T: Send>(seeds: Range<u64>, each: impl Fn(u64) -> T + Sync) -> Vec<(u64, T)> {
    let (next, done) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let made = each(seed);
            lock(&done).push((seed, made));
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        (0..workers).for_each(|_| drop(scope.spawn(work)));
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(seed, _)| *seed);
    done
}

/// The seeds that the environment asks for: one, or so many from a first one on.
fn seeds(absent: u64) -> Range<u64> {
    let first = number("SIM_SEED").or(number("SIM_FIRST")).unwrap_or(0);
    let count = number("SIM_SEED").map(|_| 1).or(number("SIM_SEEDS")).unwrap_or(absent);
    first..first + count
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn alone(seed: u64, test: &str) -> String {
    format!("seed {seed}; alone: SIM_SEED={seed} cargo test -p origin --test sim {test} -- --nocapture")
}

#[test]
fn every_seed_keeps_what_must_hold() {
    let seeds = seeds(SEEDS);
    let began = Instant::now();
    let show = number("SIM_SEED").is_some();
    let outcomes = over_seeds(seeds, |seed| {
        let outcome = run(seed, simulate);
        if show {
            outcome.lines.iter().for_each(|line| println!("{line}"));
        }
        if !outcome.violations.is_empty() {
            let after = began.elapsed().as_secs_f64();
            println!("after {after:.1} s {}\n  {}", alone(seed, "every_seed"), outcome.violations.join("\n  "));
        }
        Outcome { lines: Vec::new(), ..outcome }
    });
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(|(_, outcome)| of(outcome)).sum::<usize>();
    println!(
        "{} seeds in {:.1} s: {} s of virtual time, {} reads, {} of them refused",
        outcomes.len(),
        began.elapsed().as_secs_f64(),
        sum(|outcome| outcome.virtual_seconds),
        sum(|outcome| outcome.reads),
        sum(|outcome| outcome.failures)
    );
    let broken: Vec<u64> = outcomes.iter().filter(|(_, it)| !it.violations.is_empty()).map(|(seed, _)| *seed).collect();
    assert!(broken.is_empty(), "what must hold did not with seeds {broken:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for (seed, (one, other)) in over_seeds(seeds(TWICE), |seed| (run(seed, simulate), run(seed, simulate))) {
        let differs = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!("{}, line {at}:\n  {}\n  {}", alone(seed, "same_seed"), one.lines[at], other.lines[at]);
        }
        assert_eq!(one.lines.len(), other.lines.len(), "seed {seed}: one run goes on after the other");
    }
}

#[test]
fn liars_change_no_byte_and_are_asked_last() {
    let began = Instant::now();
    let costs = over_seeds(seeds(LIAR_SEEDS), |seed| run(seed, liars::measure));
    let mut worst = 0.0_f64;
    for (seed, cost) in &costs {
        let Cost { honest, beside_liars, wrong_max, liars, violations } = cost;
        let factor = beside_liars.as_secs_f64() / honest.as_secs_f64();
        worst = worst.max(factor);
        let what = format!("{}: {honest:?} became {beside_liars:?} beside {liars:?}", alone(*seed, "liars"));
        println!("{what}, {wrong_max} wrong");
        assert!(violations.is_empty(), "{what}\n  {}", violations.join("\n  "));
        assert!(*wrong_max <= WRONG_MAX, "{what}: {wrong_max} wrong answers to one reader");
        assert!(factor <= SLOWER_MAX, "{what}: {factor:.2} times as long");
    }
    println!(
        "{} seeds in {:.1} s: reads took {worst:.2} times as long at worst",
        costs.len(),
        began.elapsed().as_secs_f64()
    );
}
