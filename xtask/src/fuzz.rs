//! The chore `fuzz`: runs every decoder of untrusted bytes under libFuzzer for a while, starting from the committed
//! corpus.
//!
//! Place in the flow: `fuzz/` is a separate Cargo workspace, because coverage is compiled into all of its dependencies.
//! The flags are those of cargo-fuzz without a sanitizer, which would need a nightly compiler: our code has no `unsafe`
//! to watch, and debug assertions find overflows. Keeps true: the committed corpus is only read; new inputs and crashes
//! stay in `target/fuzz`.

use std::path::Path;
use std::process::{Child, ExitStatus};

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];
/// Seconds for each target by default.
const SECONDS: u32 = 60;
/// Most seconds for one input. A target that needs more lacks a bound.
const INPUT_SECONDS: u32 = 10;
const MEMORY_MIB: u32 = 1024;

/// Builds and lints the targets, then runs those that are named, or all; as many at a time as there are cores.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let (seconds, named) = options(arguments)?;
    setup::install(&[Purpose::Build, Purpose::Lints])?;
    let known = targets()?;
    if let Some(other) = named.iter().find(|name| !known.contains(name)) {
        return Err(Fault::new(
            format!("there is no target `{other}`"),
            format!("the targets are {}", known.join(", ")),
        ));
    }
    let host = command::host()?;
    let mut build =
        command::cargo(&["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", &host]);
    build.arg("--target-dir").arg(command::target_folder().join("fuzz"));
    command::run(command::linted(&mut build)?.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")))?;
    if seconds == 0 {
        return Ok(());
    }
    let programs = command::target_folder().join("fuzz").join(host).join("release");
    let chosen: Vec<String> = if named.is_empty() { known } else { named };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for together in chosen.chunks(cores) {
        println!("fuzz: {} for {seconds} s", together.join(", "));
        let started: Vec<Result<Child, Fault>> =
            together.iter().map(|name| start(&programs.join(name), name, seconds)).collect();
        // Waits for all of them even if one fails, so that no process is left behind.
        let wait = |child: Result<Child, Fault>| {
            child?.wait().map_err(|error| Fault::new(format!("a target cannot be waited for: {error}"), "run it again"))
        };
        let ended: Vec<Result<ExitStatus, Fault>> = started.into_iter().map(wait).collect();
        for (name, ended) in together.iter().zip(ended) {
            let ended = ended?;
            if !ended.success() {
                let folder = command::target_folder().join("fuzz");
                return Err(Fault::new(
                    format!("the target {name} ended with {ended}"),
                    format!(
                        "read the last lines of {0}/{name}.log; an input that it did not survive lies in {0}/{name}-found",
                        folder.display()
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Starts a target, with its output in a file.
fn start(program: &Path, name: &str, seconds: u32) -> Result<Child, Fault> {
    let folder = command::target_folder().join("fuzz");
    let (grown, found) = (folder.join(format!("{name}-corpus")), folder.join(format!("{name}-found")));
    let failed = |error: std::io::Error| Fault::new(format!("{name} does not start: {error}"), "run `./x fuzz` again");
    std::fs::create_dir_all(&grown).and_then(|()| std::fs::create_dir_all(&found)).map_err(failed)?;
    let log = std::fs::File::create(folder.join(format!("{name}.log"))).map_err(failed)?;
    let mut target = command::program(program, &[]);
    target.arg(grown).arg(command::root().join("fuzz/corpus").join(name));
    target.arg(format!("-artifact_prefix={}/", found.display()));
    target.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={INPUT_SECONDS}"));
    target.arg(format!("-rss_limit_mb={MEMORY_MIB}")).stderr(log);
    target.spawn().map_err(failed)
}

/// Returns the names of all targets.
fn targets() -> Result<Vec<String>, Fault> {
    let folder = command::root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| Fault::new(format!("{}: {error}", folder.display()), "is this clone whole?"))?;
    let stems = entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = stems.collect();
    names.sort();
    Ok(names)
}

/// Reads `[--seconds N] [TARGET...]`.
fn options(arguments: &[String]) -> Result<(u32, Vec<String>), Fault> {
    let mut seconds = SECONDS;
    let mut named = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().and_then(|number| number.parse().ok());
            seconds =
                number.ok_or_else(|| Fault::new("--seconds wants a number", "as in `./x fuzz --seconds 60 label`"))?;
        } else if argument.starts_with('-') {
            return Err(Fault::new(
                format!("fuzz does not know `{argument}`"),
                "it knows --seconds N and names of targets",
            ));
        } else {
            named.push(argument.clone());
        }
    }
    Ok((seconds, named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_or_named_in_the_fault() {
        assert_eq!(options(&[]), Ok((SECONDS, vec![])));
        assert_eq!(options(&words("label --seconds 5 lease")), Ok((5, words("label lease"))));
        for wrong in ["--seconds", "--seconds x", "--second 5"] {
            assert!(options(&words(wrong)).unwrap_err().to_string().contains("--second"), "{wrong}");
        }
    }

    #[test]
    fn every_target_is_a_program_and_has_a_corpus() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        for name in targets().unwrap() {
            assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
            let corpus = command::root().join("fuzz/corpus").join(&name);
            assert!(std::fs::read_dir(corpus).is_ok_and(|mut files| files.next().is_some()), "{name}");
        }
    }
}
