//! Power cuts and kills. A store's work is recorded call by call, and from the record states are drawn in which a disk
//! may be found after the power went at any moment; and it is killed by SIGKILL as it enters the n-th call that writes.
//! The store opens after each, and holds what it said it holds.
//!
//! More than a normal run looks at: `EVERNEAR_CRASH_STATES=100000 EVERNEAR_CALL_KILLS=1000 cargo test -p origin
//! crash_states -- --nocapture`.

mod disk;
mod trace;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
    time::{Instant, SystemTime},
};

use fastrand::Rng;
use format::{Lease, NodeName, Record};
use origin::store::{RealDisk, Store, StoreError};
use tempfile::TempDir;

use self::trace::Op;
use testing::Sample;

use crate::store::{assert_whole, upload};

const SEED: &str = "EVERNEAR_TEST_POWER_SEED";
const IN: &str = "EVERNEAR_TEST_POWER_IN";
const NOTES: &str = "EVERNEAR_TEST_POWER_NOTES";
/// States in a normal run; `EVERNEAR_CRASH_STATES` sets another number.
const STATES: usize = 2000;
/// Kills in a normal run; `EVERNEAR_CALL_KILLS` sets another number.
const KILLS: u64 = 40;
/// States drawn from one record.
const STATES_OF_A_RECORD: usize = 500;
/// Calls of the store in one record.
const STEPS: usize = 40;
/// Room for five small shards.
const PACK: u32 = 5 * 18_000;

/// Objects: the first in files, the others in packs.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    (0..5).map(|seed| Sample::new(seed, if seed == 0 { (1 << 20) + 300_000 } else { 17_000 })).collect()
});

/// What the store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Shard { sample: usize, column: usize },
    Record { sample: usize },
}

/// What is known of a thing: by the notes of the process before it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    /// What was acknowledged last: the version that is here, 0 after a removal. A shard has one version.
    held: u64,
    /// What was being done when the process died.
    begun: Option<u64>,
}

impl Thing {
    fn parse(words: &[&str]) -> Self {
        let number = |at: usize| words[at].parse().unwrap();
        match words[0] {
            "shard" => Self::Shard { sample: number(1), column: number(2) },
            _ => Self::Record { sample: number(1) },
        }
    }
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shard { sample, column } => write!(f, "shard {sample} {column}"),
            Self::Record { sample } => write!(f, "record {sample} -"),
        }
    }
}

fn open(root: &Path) -> Arc<Store> {
    Arc::new(Store::open_with(root, Arc::new(RealDisk), PACK).unwrap())
}

/// The version of an erasure is told as so much more.
const ERASED: u64 = 1000;

fn record(sample: usize, version: u64) -> Record {
    let sample = &SAMPLES[sample];
    let lease = if version > ERASED { sample.erasure(version - ERASED) } else { sample.lease(version) };
    sample.record(&lease, &"n".parse::<NodeName>().unwrap())
}

mod role {
    use super::*;

    /// Does the work that is recorded; does nothing when run by itself.
    #[test]
    #[ignore = "a role, not a test: the tests beside it start it"]
    fn child() {
        let [Ok(seed), Ok(root), Ok(notes)] = [SEED, IN, NOTES].map(std::env::var) else { return };
        let mut rng = Rng::with_seed(seed.parse().unwrap());
        let root = Path::new(&root);
        let mut notes = File::options().append(true).create(true).open(notes).unwrap();
        let mut say = |what: &str| notes.write_all(format!("{what}\n").as_bytes()).unwrap();
        let mut store = open(root);
        let mut versions = [0; 4];
        say("opened");
        for _ in 0..STEPS {
            let sample = if rng.u8(..6) == 0 { 0 } else { rng.usize(1..SAMPLES.len()) };
            let (column, id) = (rng.usize(..SAMPLES[sample].columns.len()), SAMPLES[sample].id());
            let shard = Thing::Shard { sample, column };
            match rng.u8(..12) {
                0..5 => {
                    say(&format!("begun {shard} 1"));
                    upload(&store, &SAMPLES[sample], column).unwrap();
                    say(&format!("done {shard} 1"));
                }
                5..7 => {
                    say(&format!("begun {shard} 0"));
                    assert!(store.remove_shard(&id, column, SystemTime::now()).unwrap());
                    say(&format!("done {shard} 0"));
                }
                // Nothing follows an erasure.
                7..9 => {
                    let sample = rng.usize(..versions.len());
                    if versions[sample] > ERASED {
                        continue;
                    }
                    let ends = versions[sample] > 0 && rng.bool();
                    versions[sample] += 1 + if ends { ERASED } else { 0 };
                    let (thing, version) = (Thing::Record { sample }, versions[sample]);
                    say(&format!("begun {thing} {version}"));
                    store.put_record(&record(sample, version), 1).unwrap();
                    say(&format!("done {thing} {version}"));
                }
                9 => {
                    store.compact().unwrap();
                    store.put_feed_position(rng.u64(..)).unwrap();
                }
                _ => {
                    drop(store);
                    store = open(root);
                }
            }
        }
    }
}

/// Where a child works, and what it is told to.
struct Child {
    _dir: TempDir,
    root: PathBuf,
    notes: PathBuf,
    command: Command,
}

impl Child {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, notes) = (dir.path().join("store"), dir.path().join("notes"));
        std::fs::create_dir(&root).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crash_states::role::child", "--ignored", "--test-threads=1"]);
        command.env(SEED, seed.to_string()).env(IN, &root).env(NOTES, &notes);
        Self { _dir: dir, root, notes, command }
    }
}

/// Returns what notes say of each thing.
fn known<'n>(notes: impl IntoIterator<Item = &'n str>) -> BTreeMap<Thing, Known> {
    let mut known: BTreeMap<Thing, Known> = BTreeMap::new();
    for line in notes {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, thing @ .., version] = &words[..] else { continue };
        if thing.is_empty() {
            continue;
        }
        let (of, version) = (known.entry(Thing::parse(thing)).or_default(), version.parse().unwrap());
        match *kind {
            "begun" => of.begun = Some(version),
            _ => *of = Known { held: version, begun: None },
        }
    }
    known
}

/// Opens the store and asks it for everything.
fn assert_holds(root: &Path, known: &BTreeMap<Thing, Known>) {
    let store = open(root);
    for (thing, Known { held, begun }) in known {
        let found = match *thing {
            Thing::Shard { sample, column } => {
                let is_here = store.has_shard(&SAMPLES[sample].id(), column).unwrap();
                if is_here {
                    assert_whole(&store, &SAMPLES[sample], column);
                }
                u64::from(is_here)
            }
            Thing::Record { sample } => {
                let locator = SAMPLES[sample].sealed.locator;
                let read = store.record(&locator);
                // Half written over: it is no copy any more, and the next one that comes is written in its place.
                if let (Err(StoreError::Damaged { .. }), Some(begun @ ERASED..)) = (&read, *begun) {
                    store.put_record(&record(sample, begun), 1).unwrap();
                    assert!(store.record(&locator).unwrap().unwrap().lease.erased);
                    continue;
                }
                let erased = |lease: &Lease| if lease.erased { ERASED } else { 0 };
                read.unwrap().map_or(0, |record| record.lease.version + erased(&record.lease))
            }
        };
        assert!(found == *held || Some(found) == *begun, "{thing}: {found} is here, of {held} then {begun:?}");
    }
    // Whatever was found, the work goes on.
    let sample = &SAMPLES[1];
    upload(&store, sample, 0).unwrap();
    assert_whole(&store, sample, 0);
    store.compact().unwrap();
    assert_whole(&store, sample, 0);
}

#[test]
fn after_a_power_cut_at_any_moment_all_that_was_acknowledged_is_there() {
    let states = std::env::var("EVERNEAR_CRASH_STATES").map_or(STATES, |number| number.parse().unwrap());
    let started = Instant::now();
    let mut looked = 0;
    for seed in 0.. {
        let child = Child::new(seed);
        let ops = trace::record(&child.command, &child.root, &child.notes);
        // Before its first word the process has promised nothing, not even a folder.
        let opened = ops.iter().position(|op| matches!(op, Op::Said(_))).unwrap();
        assert!(ops.len() - opened > 2 * STEPS, "the record has what was done");
        for number in 0..STATES_OF_A_RECORD {
            if looked == states {
                println!("{looked} states of {} records in {:.1} s", seed + 1, started.elapsed().as_secs_f64());
                return;
            }
            let mut rng = Rng::with_seed(seed * 1_000_000 + number as u64);
            let cut = rng.usize(opened..=ops.len());
            // In memory: what is looked at is the states, not this machine's disk.
            let root = tempfile::tempdir_in("/dev/shm").unwrap();
            disk::lay_out(&ops, cut, &mut rng, root.path());
            let said =
                ops[..cut].iter().filter_map(|op| if let Op::Said(line) = op { Some(line.as_str()) } else { None });
            let known = known(said);
            let outcome = std::panic::catch_unwind(|| assert_holds(root.path(), &known));
            if let Err(cause) = outcome {
                let kept = root.keep();
                println!(
                    "seed {seed}, state {number}, cut at {cut} of {}: the disk is in {}",
                    ops.len(),
                    kept.display()
                );
                for op in ops[..cut].iter().rev().take(30).rev() {
                    println!("  {}", brief(op));
                }
                std::panic::resume_unwind(cause);
            }
            looked += 1;
        }
    }
}

#[test]
fn killed_at_any_call_the_store_keeps_what_it_acknowledged() {
    let kills = std::env::var("EVERNEAR_CALL_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    let started = Instant::now();
    let mut ended_well = 0;
    let mut killed = BTreeMap::new();
    for number in 0..kills {
        let mut rng = Rng::with_seed(number);
        let child = Child::new(number % 50);
        let call = *rng.choice(&trace::WRITING_CALLS).unwrap();
        let nth = rng.u32(1..100);
        if trace::kill_at(&child.command, call, nth) {
            *killed.entry(call).or_insert(0u64) += 1;
        } else {
            ended_well += 1;
        }
        let notes = std::fs::read_to_string(&child.notes).unwrap_or_default();
        let outcome = std::panic::catch_unwind(|| assert_holds(&child.root, &known(notes.lines())));
        if let Err(cause) = outcome {
            println!("kill {number}: at {call} {nth}, after\n{notes}");
            std::panic::resume_unwind(cause);
        }
    }
    println!("{killed:?} killed, {ended_well} came to their end, in {:.1} s", started.elapsed().as_secs_f64());
    assert!(killed.values().sum::<u64>() > kills / 3, "most die");
}

/// An operation without its bytes.
fn brief(op: &Op) -> String {
    match op {
        Op::Write { inode, at, bytes } => format!("write {inode:?} at {at}: {} bytes", bytes.len()),
        other => format!("{other:?}"),
    }
}
