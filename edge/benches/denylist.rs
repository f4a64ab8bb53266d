//! What a denylist of 10^6 rules costs: to read, in memory, and for each request, beside the hash alone that every
//! look-up needs. Prints a table.
//!
//! `cargo bench -p edge --bench denylist`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints its result and fails by panicking")]

use std::{fmt::Write as _, fs, hint::black_box, time::Instant};

use aws_lc_rs::digest::{SHA256, digest};
use edge::{Denylist, denylist_rule};
use format::Locator;

const RULES: u32 = 1_000_000;
const ROUNDS: usize = 9;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.deny");
    let rules = (0..RULES).fold(String::new(), |mut text, number| {
        writeln!(text, "{}", denylist_rule(&locator(number))).unwrap();
        text
    });
    fs::write(&path, rules).unwrap();
    let before = resident_bytes();
    let start = Instant::now();
    let denylist = Denylist::read(&[path]).unwrap();
    let took = start.elapsed();
    let grown = resident_bytes() - before;
    println!("{RULES} rules read in {:.2} s, {:.0} MB resident\n", took.as_secs_f64(), grown / 1e6);

    // Scattered, so that the processor's caches hold as little of it as in service.
    let asked = |from: u32| {
        (0..RULES).map(move |number| locator(from + number.wrapping_mul(2_654_435_761) % RULES)).collect::<Vec<_>>()
    };
    let (held, others) = (asked(0), asked(RULES));
    assert!(
        held.iter().all(|locator| denylist.denies(locator)) && !others.iter().any(|locator| denylist.denies(locator))
    );
    println!("| look-up | ns | hash alone, ns | look-up : hash |\n|---|---|---|---|");
    for (name, asked) in [("denied", &held), ("not denied", &others)] {
        let rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| {
                let lookup = nanoseconds(asked, |locator| denylist.denies(locator));
                let hash =
                    nanoseconds(asked, |locator| digest(&SHA256, format!("{locator}/").as_bytes()).as_ref()[0] > 0);
                (lookup, hash)
            })
            .collect();
        let (lookup, hash) = (median(rounds.iter().map(|round| round.0)), median(rounds.iter().map(|round| round.1)));
        println!("| {name} | {lookup:.0} | {hash:.0} | {:.2} |", lookup / hash);
    }
}

fn locator(number: u32) -> Locator {
    format!("{number:064x}").parse().unwrap()
}

/// Nanoseconds for each locator.
fn nanoseconds(asked: &[Locator], ask: impl Fn(&Locator) -> bool) -> f64 {
    let start = Instant::now();
    for locator in asked {
        black_box(ask(black_box(locator)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(RULES)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What of this process is in memory (proc(5), `VmRSS`).
fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
