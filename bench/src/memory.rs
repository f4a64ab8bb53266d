//! Peak memory of `evernear put` and of an edge that serves a large file.

use std::{fmt::Write as _, fs::File};

use anyhow::{Result, ensure};

use cluster::processes::{ProcessOptions, Processes, peak_kib, read_stored};

use crate::{machine, timed};

const CACHE_BYTES: u64 = 256 << 20;

/// Stores a sparse file of this many gigabytes, reads it through the edge, and returns the table.
pub(crate) fn run(gigabytes: u64) -> Result<String> {
    let processes = Processes::start(&ProcessOptions { cache_bytes: CACHE_BYTES, ..ProcessOptions::default() })?;
    let idle = peak_kib(processes.edge_pid())?;
    let length = gigabytes * 1_000_000_000;
    let file = processes.path("large.bin");
    File::create(&file)?.set_len(length)?;

    // Zeros would compress to almost nothing. Without compression every stripe is stored in full.
    let put = timed::run(&processes.command(processes.program(), &["put", &file, "--no-compress", "--json"]))?;
    // Argon2id takes 64 MiB to open the owner key with a passphrase, before the first byte is read.
    let key = processes.path("owner.key");
    processes.evernear(&["owner", "passwd", "--new-key-file", &key])?;
    let with_key = ["put", &file, "--no-compress", "--json", "--key-file", &key];
    let with_key = timed::run(&processes.command(processes.program(), &with_key))?;
    let stored = read_stored(&with_key.stdout)?;

    let get = timed::run(&timed::view(&processes, &stored))?;
    ensure!(get.stdout == length.to_string(), "the edge sent {} of {length} bytes", get.stdout);
    let edge_kib = peak_kib(processes.edge_pid())?;

    let mut table = format!(
        "{}\n\nA sparse file of {gigabytes} GB, profile 4+2, six origins, the edge's cache {} MiB.\n\n",
        machine::describe(),
        CACHE_BYTES >> 20
    );
    let rate = |seconds: f64| length.div_euclid(1_000_000) as f64 / seconds;
    writeln!(table, "| process | peak resident | time | MB/s |\n|---|---|---|---|")?;
    for (how, put) in [("a passphrase", put), ("a key file", with_key)] {
        let (peak, seconds) = (put.peak_kib >> 10, put.seconds);
        writeln!(table, "| evernear put with {how} | {peak} MiB | {seconds:.1} s | {:.0} |", rate(seconds))?;
    }
    writeln!(table, "| evernear edge run, before | {} MiB | | |", idle >> 10)?;
    let after = edge_kib >> 10;
    writeln!(table, "| evernear edge run, after | {after} MiB | {:.1} s | {:.0} |", get.seconds, rate(get.seconds))?;
    Ok(table)
}
