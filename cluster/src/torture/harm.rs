//! The harm of a torture: kills, flipped bits, deleted folders.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::time::sleep;
use walkdir::WalkDir;

use super::{FLOOD_LIMITS, HEAL_DEADLINE, LIMITS, ORIGINS, Scene};
use crate::processes::Processes;

/// How many nodes are hurt in one round: the parity of every tier of the profile.
const VICTIMS: usize = 2;
/// System calls that change a disk.
const CALLS: [&str; 7] = ["write", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate"];
/// How long to wait for the system call at which a node is killed.
const CALL_DEADLINE: Duration = Duration::from_secs(1);

/// Until the time is over, kills nodes, and once in each round hurts disks. All must heal before the next round.
pub(super) async fn rounds(
    scene: &Scene,
    processes: &mut Processes,
    rng: &mut Rng,
    time: Duration,
    flips: u64,
) -> Result<()> {
    let start = Instant::now();
    let mut round = 0u32;
    while start.elapsed() < time {
        let victims = victims(rng);
        for _ in 0..3 {
            sleep(Duration::from_millis(rng.u64(50..1500))).await;
            let count = rng.usize(1..=VICTIMS);
            kill(scene, processes, &victims[..count], rng)?;
        }
        say(&format!("{:>5.0} s  round {}: healing", start.elapsed().as_secs_f64(), round + 1));
        let changes = scene.changes.write().await;
        scene.heal(HEAL_DEADLINE).await?;
        if round.is_multiple_of(2) {
            for number in victims {
                scene.tally.flips.add(flip(&processes.data_dir(number), rng, flips)?);
            }
        } else {
            for number in victims {
                processes.kill_node(number)?;
                fs::remove_dir_all(processes.data_dir(number))?;
                scene.tally.wipes.add(1);
                scene.tally.restart_max.raise(processes.start_node(number)?);
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        scene.harmed_at.store(now, Ordering::Relaxed);
        drop(changes);
        round += 1;
    }
    Ok(())
}

/// Kills processes at random moments until the time is over.
pub(super) async fn flood(scene: &Scene, processes: &mut Processes, rng: &mut Rng, time: Duration) -> Result<()> {
    {
        let _changes = scene.changes.write().await;
        scene.heal(HEAL_DEADLINE).await?;
        // From here on no disk is hurt.
        scene.harmed_at.store(0, Ordering::Relaxed);
        for number in 0..usize::from(ORIGINS) {
            processes.change_config(number, LIMITS, FLOOD_LIMITS)?;
            processes.kill_node(number)?;
            scene.tally.kills.add(1);
            scene.tally.restart_max.raise(processes.start_node(number)?);
        }
    }
    let start = Instant::now();
    let mut said = start;
    while start.elapsed() < time {
        sleep(Duration::from_millis(rng.u64(50..3500))).await;
        let (victims, count) = (victims(rng), rng.usize(1..=VICTIMS));
        kill(scene, processes, &victims[..count], rng)?;
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            let (kills, objects) = (scene.tally.kills.count(), scene.keeper.count());
            say(&format!("{:>5.0} s  flood: {kills} kills, {objects} objects", start.elapsed().as_secs_f64()));
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "progress for the person in front of it")]
fn say(what: &str) {
    println!("{what}");
}

fn victims(rng: &mut Rng) -> [usize; VICTIMS] {
    let first = rng.usize(..usize::from(ORIGINS));
    [first, (first + rng.usize(1..usize::from(ORIGINS))) % usize::from(ORIGINS)]
}

/// Kills nodes and starts them again. Half of them are killed at once, the others when they enter some system call.
fn kill(scene: &Scene, processes: &mut Processes, killed: &[usize], rng: &mut Rng) -> Result<()> {
    for number in killed {
        if rng.bool() && kill_at_call(processes, *number, rng)? {
            scene.tally.kills_at_calls.add(1);
        }
        processes.kill_node(*number)?;
        scene.tally.kills.add(1);
    }
    for number in killed {
        scene.tally.restart_max.raise(processes.start_node(*number)?);
    }
    Ok(())
}

/// Kills a node when it enters some system call that changes its disk for the n-th time. Returns false when that did
/// not happen in time.
fn kill_at_call(processes: &mut Processes, number: usize, rng: &mut Rng) -> Result<bool> {
    let pid = processes.pid(number)?.to_string();
    let call = rng.choice(CALLS).unwrap_or_default();
    let inject = format!("inject={call}:signal=SIGKILL:when={}", rng.u8(1..20));
    let mut strace = Command::new("strace")
        .args(["--quiet=all", "--follow-forks", "--output=/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
        .args(["--attach", &pid])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("strace does not start; `./x setup` installs it")?;
    let begun = Instant::now();
    let mut died = false;
    while !died && begun.elapsed() < CALL_DEADLINE {
        thread::park_timeout(Duration::from_millis(5));
        died = processes.pid(number).is_err();
    }
    strace.kill()?;
    strace.wait()?;
    Ok(died)
}

/// Flips bits in a node's shards, packs and records. A longer file gets more of them, in proportion to its length.
fn flip(folder: &Path, rng: &mut Rng, count: u64) -> Result<u64> {
    let kinds = ["shards", "packs", "records"].map(|kind| folder.join(kind));
    let found = kinds.iter().flat_map(WalkDir::new).filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    let files: Vec<(PathBuf, u64)> =
        found.filter_map(|entry| Some((entry.path().to_owned(), entry.metadata().ok()?.len()))).collect();
    let bytes: u64 = files.iter().map(|(_, length)| length).sum();
    let mut places: Vec<u64> = (0..count).filter(|_| bytes > 0).map(|_| rng.u64(..bytes)).collect();
    places.sort_unstable();
    let (mut flipped, mut before, mut places) = (0, 0, places.into_iter().peekable());
    for (path, length) in files {
        let end = before + length;
        // Uploads rename files and sweeps remove them. A file that is gone is skipped.
        let file = File::options().read(true).write(true).open(path);
        while let Some(place) = places.next_if(|place| *place < end) {
            let Ok(file) = &file else { continue };
            let mut byte = [0];
            if file.read_exact_at(&mut byte, place - before).is_ok() {
                byte[0] ^= 1 << rng.u8(..8);
                file.write_all_at(&byte, place - before)?;
                flipped += 1;
            }
        }
        before = end;
    }
    Ok(flipped)
}
