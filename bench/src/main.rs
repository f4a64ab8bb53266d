//! End-to-end measurements, side by side with peers on the same machine in the same run.
//!
//! `./x bench hits`, `flat`, `memory`, `many`, `stores` and `ingest` print what goes into `bench/results/`. They run
//! the real programs as separate processes. The codec and the sandbox have criterion benches beside their code.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measurement prints its result")]

mod durability;
mod flat;
mod garage;
mod hits;
mod ingest;
mod known;
mod load;
mod machine;
mod many;
mod memory;
mod peers;
mod stores;
mod timed;

use std::{num::ParseIntError, process::ExitCode, str::FromStr};

use anyhow::{Context, Result};

const USAGE: &str =
    "usage: bench hits [PART] | bench flat [NAMES CONNECTIONS REQUESTS] | bench memory [GIGABYTES] |
       bench many [FILES] | bench stores [MEBIBYTES] [FILES] | bench ingest [MEBIBYTES] [FILES] |
       bench durability [KEY=NUMBER...]

  hits        CPU microseconds per cached request of an edge, beside nginx, h2o, Varnish and Caddy, interleaved, median of 5;
              only the cases with PART in their name
  flat        whether that hangs on how many names an edge knows and how many are connected, and what these, and the
              largest records, take in memory; up to 1,000,000 names and 10,000 connections, by 50,000 requests each, unless said otherwise
  memory      peak memory of put and of an edge that serves a large file, 5 GB unless said otherwise
  many        files a second of put, get and rm of a folder of small files, 1,000 unless said otherwise
  stores      storing a file of 512 MiB and 1,000 small ones, unless said otherwise, and reading the large one, beside
              Garage, interleaved, median of 5; takes 40 times the large file of room below TMPDIR
  ingest      storing a file of 512 MiB and 1,000 small objects, unless said otherwise, over HTTP at a twin, beside the
              command line and Garage, interleaved, median of 5; as much room
  durability  a model: how likely an object is lost in a year; afr, bad (shares a year), scrub (days), repair (hours)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["hits"] => hits::run(""),
        ["hits", part] => hits::run(part),
        ["flat"] => flat::run(1_000_000, 10_000, 50_000),
        ["flat", names, connections, requests] => {
            number(names).and_then(|names| flat::run(names, number(connections)?, number(requests)?))
        }
        [known::ROLE, folder] => known::run(folder).map(|()| String::new()),
        ["memory"] => memory::run(5),
        ["memory", gigabytes] => number(gigabytes).and_then(memory::run),
        ["many"] => many::run(1000),
        ["many", files] => number(files).and_then(many::run),
        ["stores"] => stores::run(512, 1000),
        ["stores", mebibytes] => number(mebibytes).and_then(|it| stores::run(it, 1000)),
        ["stores", mebibytes, files] => number(mebibytes).and_then(|it| stores::run(it, number(files)?)),
        ["ingest"] => ingest::run(512, 1000),
        ["ingest", mebibytes, files] => number(mebibytes).and_then(|it| ingest::run(it, number(files)?)),
        ["durability", ref words @ ..] => durability::Assumptions::read(words).and_then(durability::run),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads an argument.
fn number<T: FromStr<Err = ParseIntError>>(word: &str) -> Result<T> {
    word.parse().with_context(|| format!("`{word}` is not a whole number"))
}
