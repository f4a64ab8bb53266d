//! The chore `fuzz`: runs every decoder of untrusted bytes under libFuzzer for a while, starting from the committed
//! corpus.
//!
//! Place in the flow: by hand, for minutes or hours, with coverage in all that the targets are made of; and in
//! `.ci/run`, for seconds, with coverage in our crates (`--ours`), because dependencies are compiled already for the
//! tests there, and compiling them again with coverage takes many times as long as the seconds of all targets.
//! The flags are those of cargo-fuzz without a sanitizer, which would need a nightly compiler: our code has no `unsafe`
//! to watch, and debug assertions find overflows.
//! Keeps true: the committed corpus is only read; new inputs and crashes stay in `target/fuzz`. A target that fails
//! does not keep the others from running.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

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

/// What has coverage compiled into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coverage {
    /// Our crates and all their dependencies.
    All,
    /// Our crates.
    Ours,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    coverage: Coverage,
    /// For each target.
    seconds: u32,
    /// Targets; none means all.
    named: Vec<String>,
}

/// Builds and lints the targets, then runs those that are named, or all; as many at a time as there are cores. With 0
/// seconds they replay the corpus and try no new inputs.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let Options { coverage, seconds, named } = options(arguments)?;
    setup::install(&[Purpose::Build, Purpose::Lints])?;
    let known = targets()?;
    if let Some(other) = named.iter().find(|name| !known.contains(name)) {
        return Err(Fault::new(
            format!("there is no target `{other}`"),
            format!("the targets are {}", known.join(", ")),
        ));
    }
    let (mut build, programs) = build(coverage, &known)?;
    command::run(&mut build)?;
    let chosen: Vec<String> = if named.is_empty() { known } else { named };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
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
            let log = String::from_utf8_lossy(&std::fs::read(log(name)).unwrap_or_default()).into_owned();
            println!("fuzz: {name}: {}", result(&log));
            // What libFuzzer says of code that counts where it runs. Without, it guesses blindly.
            let is_guided = log.contains("INFO: Loaded ");
            if !is_guided {
                println!("fuzz: {name} has no coverage");
            }
            if !ended.success() {
                println!("fuzz: {name} ended with {ended}");
            }
            if !ended.success() || !is_guided {
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Fault::new(
        format!("{} of {} targets failed: {}", failed.len(), chosen.len(), failed.join(", ")),
        format!(
            "read {0}/NAME.log; the input is in {0}/NAME-found: mend, and commit it as fuzz/corpus/NAME/WHAT-IT-IS.seed",
            folder().display()
        ),
    ))
}

/// Returns the command that builds the targets, and the folder in which they are then.
fn build(coverage: Coverage, targets: &[String]) -> Result<(Command, PathBuf), Fault> {
    let mut build = command::cargo(&["build", "--locked", "--features", "fuzz/libfuzzer", "--package", "fuzz"]);
    for target in targets {
        build.args(["--bin", target]);
    }
    command::linted(&mut build)?;
    let programs = match coverage {
        Coverage::All => {
            let host = command::host()?;
            build.args(["--target", &host, "--target-dir"]).arg(folder());
            build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
            folder().join(host).join("debug")
        }
        Coverage::Ours => {
            // With the packages of the demo, cargo chooses the features of dependencies for which they are compiled.
            build.args(["--package", "cluster", "--package", "cli"]);
            build.env("RUSTC_WORKSPACE_WRAPPER", command::root().join("fuzz/rustc.sh"));
            build.env("EVERNEAR_FUZZ_LINTER", command::linter()?).env("EVERNEAR_FUZZ_FLAGS", FLAGS.join(" "));
            command::target_folder().join("debug")
        }
    };
    Ok((build, programs))
}

/// Starts a target, with its output in a file.
fn start(program: &Path, name: &str, seconds: u32) -> Result<Child, Fault> {
    let (grown, found) = (folder().join(format!("{name}-corpus")), folder().join(format!("{name}-found")));
    let failed = |error: std::io::Error| Fault::new(format!("{name} does not start: {error}"), "run `./x fuzz` again");
    std::fs::create_dir_all(&grown).and_then(|()| std::fs::create_dir_all(&found)).map_err(failed)?;
    let log = std::fs::File::create(log(name)).map_err(failed)?;
    let mut target = command::program(program, &[]);
    target.arg(grown).arg(command::root().join("fuzz/corpus").join(name));
    target.arg(format!("-artifact_prefix={}/", found.display()));
    // To libFuzzer 0 seconds mean no limit.
    target.arg(if seconds == 0 { "-runs=0".to_owned() } else { format!("-max_total_time={seconds}") });
    target.arg(format!("-timeout={INPUT_SECONDS}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    target.stdin(Stdio::null()).stderr(log);
    target.spawn().map_err(failed)
}

/// Returns the line of a target's log that tells most: where it panicked and why, or else its last progress or error.
fn result(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    if let Some(panic) = lines.iter().position(|line| line.contains("panicked at ")) {
        return lines[panic..].iter().take(2).copied().collect::<Vec<_>>().join(" ");
    }
    // For example `#1203 DONE cov: 812 ft: 918`; the lists of words after it begin with more than one `#`.
    let is_progress =
        |line: &str| line.strip_prefix('#').is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    let found = lines.iter().rfind(|line| is_progress(line) || line.contains("ERROR: "));
    found.map_or_else(|| "its log is empty".to_owned(), |line| (*line).to_owned())
}

fn log(name: &str) -> PathBuf {
    folder().join(format!("{name}.log"))
}

/// Returns the folder of the build with coverage in all, the logs, new inputs and crashes.
fn folder() -> PathBuf {
    command::target_folder().join("fuzz")
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

/// Reads `[--ours] [--seconds N] [TARGET...]`.
fn options(arguments: &[String]) -> Result<Options, Fault> {
    let mut options = Options { coverage: Coverage::All, seconds: SECONDS, named: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().and_then(|number| number.parse().ok());
            options.seconds =
                number.ok_or_else(|| Fault::new("--seconds wants a number", "as in `./x fuzz --seconds 60 label`"))?;
        } else if argument == "--ours" {
            options.coverage = Coverage::Ours;
        } else if argument.starts_with('-') {
            return Err(Fault::new(
                format!("fuzz does not know `{argument}`"),
                "it knows --seconds N (0: only the corpus), --ours and names of targets",
            ));
        } else {
            options.named.push(argument.clone());
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_or_named_in_the_fault() {
        let of = |coverage, seconds, named: &str| Ok(Options { coverage, seconds, named: words(named) });
        assert_eq!(options(&[]), of(Coverage::All, SECONDS, ""));
        assert_eq!(options(&words("label --seconds 5 lease")), of(Coverage::All, 5, "label lease"));
        assert_eq!(options(&words("--ours --seconds 5")), of(Coverage::Ours, 5, ""));
        for wrong in ["--seconds", "--seconds x", "--second 5"] {
            assert!(options(&words(wrong)).unwrap_err().to_string().contains("--second"), "{wrong}");
        }
    }

    #[test]
    fn the_result_is_the_panic_or_the_last_progress() {
        let ran = "#2\tINITED cov: 5\n#90\tDONE   cov: 7 ft: 8\n###### Recommended dictionary. ######\nDone 90 runs\n";
        assert_eq!(result(ran), "#90\tDONE   cov: 7 ft: 8");
        let panicked =
            format!("{ran}thread '<unnamed>' panicked at src/a.rs:1:2:\nodd\n==7== ERROR: libFuzzer: deadly signal");
        assert_eq!(result(&panicked), "thread '<unnamed>' panicked at src/a.rs:1:2: odd");
        assert_eq!(result(&format!("{ran}==7== ERROR: libFuzzer: timeout")), "==7== ERROR: libFuzzer: timeout");
        assert_eq!(result(""), "its log is empty");
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
