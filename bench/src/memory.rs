//! Peak memory of `evernear put` and of an edge that serves a large file.

use std::{
    fmt::Write as _,
    fs::File,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use cluster::processes::{ProcessOptions, Processes, peak_kib, read_stored};

use crate::machine;

const CACHE_BYTES: u64 = 256 << 20;

/// Stores a sparse file of this many gigabytes, reads it through the edge, and returns the table.
pub(crate) fn run(gigabytes: u64) -> Result<String> {
    let processes = Processes::start(&ProcessOptions { cache_bytes: CACHE_BYTES, ..ProcessOptions::default() })?;
    let idle = peak_kib(processes.edge_pid())?;
    let length = gigabytes * 1_000_000_000;
    let file = processes.path("large.bin");
    File::create(&file)?.set_len(length)?;

    let report = processes.path("time");
    let start = Instant::now();
    let program = processes.program().to_string_lossy().into_owned();
    // Zeros would compress to almost nothing. Without compression every stripe is stored in full.
    let put = ["-v", "-o", &report, &program, "put", &file, "--no-compress", "--json"];
    let output =
        processes.command("/usr/bin/time".as_ref(), &put).output().context("/usr/bin/time is in Debian's time")?;
    ensure!(output.status.success(), "put failed: {}", String::from_utf8_lossy(&output.stderr));
    let put_seconds = start.elapsed().as_secs_f64();
    let stored = read_stored(&String::from_utf8(output.stdout)?)?;
    let put_kib = maximum_resident(&std::fs::read_to_string(&report)?)?;

    let start = Instant::now();
    let resolve = format!("{}:{}", stored.authority, processes.http.ip());
    let curl = Command::new("curl")
        .args(["-s", "-f", "--resolve", &resolve, "-o", "/dev/null", "-w", "%{size_download}", &stored.url])
        .stdin(Stdio::null())
        .output()?;
    let got: u64 = String::from_utf8(curl.stdout)?.parse()?;
    ensure!(got == length, "the edge sent {got} of {length} bytes");
    let get_seconds = start.elapsed().as_secs_f64();
    let edge_kib = peak_kib(processes.edge_pid())?;

    let mut table = format!(
        "{}\n\nA sparse file of {gigabytes} GB, profile 4+2, six origins, the edge's cache {} MiB.\n\n",
        machine::describe(),
        CACHE_BYTES >> 20
    );
    let rate = |seconds: f64| length.div_euclid(1_000_000) as f64 / seconds;
    writeln!(table, "| process | peak resident | time | MB/s |\n|---|---|---|---|")?;
    writeln!(table, "| evernear put | {} MiB | {put_seconds:.1} s | {:.0} |", put_kib >> 10, rate(put_seconds))?;
    writeln!(table, "| evernear edge run, before | {} MiB | | |", idle >> 10)?;
    writeln!(
        table,
        "| evernear edge run, after | {} MiB | {get_seconds:.1} s | {:.0} |",
        edge_kib >> 10,
        rate(get_seconds)
    )?;
    Ok(table)
}

fn maximum_resident(report: &str) -> Result<u64> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix("Maximum resident set size (kbytes): "));
    Ok(line.context("time -v tells the maximum resident set size")?.parse()?)
}
