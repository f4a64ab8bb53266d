//! Many small files of one owner: how fast a folder of them is stored, fetched and erased, and what that costs the
//! nodes.

use std::{fmt::Write as _, fs, time::Instant};

use anyhow::{Context, Result, ensure};
use cluster::processes::{ProcessOptions, Processes, cpu_seconds};

use crate::machine;

const ORIGINS: u8 = 6;
const FILE_BYTES: usize = 10_000;

/// Stores a folder of so many files, fetches it, erases it, and returns the table.
pub(crate) fn run(files: usize) -> Result<String> {
    let mut processes = Processes::start(&ProcessOptions { origins: ORIGINS, ..ProcessOptions::default() })?;
    let (many, back) = (processes.path("many"), processes.path("back"));
    fs::create_dir(&many)?;
    for file in 0..files {
        fs::write(format!("{many}/f{file}"), content(file))?;
    }
    let pids: Vec<u32> = (0..ORIGINS).map(|origin| processes.pid(origin.into())).collect::<Result<_>>()?;
    let mut table = format!(
        "{}\n\nA folder of {files} files of {FILE_BYTES} bytes, profile small-cluster, six origins.\n\n",
        machine::describe()
    );
    writeln!(table, "| command | time | files a second | CPU of the origins for each |\n|---|---|---|---|")?;
    let mut measure = |arguments: &[&str]| -> Result<String> {
        let (before, start) = (cpu_seconds(&pids)?, Instant::now());
        let said = processes.evernear(arguments)?;
        let (seconds, used) = (start.elapsed().as_secs_f64(), cpu_seconds(&pids)? - before);
        let (rate, each) = (files as f64 / seconds, used * 1e3 / files as f64);
        writeln!(table, "| evernear {} | {seconds:.1} s | {rate:.0} | {each:.1} ms |", arguments[0])?;
        Ok(said)
    };
    let stored: serde_json::Value = serde_json::from_str(&measure(&["put", &many, "--json"])?)?;
    let label = stored["label"].as_str().context("put --json tells the label")?;
    measure(&["get", label, "-o", &back])?;
    for file in 0..files {
        ensure!(fs::read(format!("{back}/f{file}"))? == content(file), "f{file} came back otherwise");
    }
    measure(&["rm", label])?;
    Ok(table)
}

/// Bytes that do not compress, other ones for each file.
fn content(file: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_BYTES + 8);
    let mut state = file as u64;
    while bytes.len() < FILE_BYTES {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(FILE_BYTES);
    bytes
}
