//! The chore `test`: every test there is, then the demo as a check and a short torture, then one line that counts them.
//!
//! Place in the flow: the second command of the README, and the last step of `.ci/run`.
//! Keeps true: a test program that crashes before it counts its tests still counts as a failure.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and testing need, then runs all tests; with arguments, `cargo test ARGUMENTS` only.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Guests, Purpose::Judges, Purpose::Test])?;
    let mut tally = Tally::default();
    if arguments.is_empty() {
        // Programs and tests in one build, so that the demo runs what the tests ran: `cargo run -p cluster` would
        // compile half the tree again with the features of that one package.
        command::run(&mut command::cargo(&["build", "--workspace", "--bins", "--tests", "--examples"]))?;
        run_tests(&["--workspace"], &mut tally)?;
        check(&["demo", "--check"], &mut tally)?;
        check(&["torture", "--minutes", "0.3"], &mut tally)?;
    } else {
        run_tests(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &mut tally)?;
    }
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if tally.failed == 0 {
        Ok(())
    } else {
        Err(Fault::new(format!("{} tests failed", tally.failed), "look for `FAILED` and `panicked` above"))
    }
}

/// Runs unit, integration and documentation tests.
fn run_tests(arguments: &[&str], tally: &mut Tally) -> Result<(), Fault> {
    let failed_before = tally.failed;
    let mut tests = command::cargo(&["test", "--no-fail-fast"]);
    let ended_well = command::run_and_read(tests.args(arguments), |line| tally.read(line))?;
    if !ended_well && tally.failed == failed_before {
        tally.failed += 1;
    }
    Ok(())
}

/// Runs the cluster's program as assertions; it counts as one test.
fn check(arguments: &[&str], tally: &mut Tally) -> Result<(), Fault> {
    let program = command::target_folder().join("debug/cluster");
    let ended_well = command::run_and_read(&mut command::program(program, arguments), |_| ())?;
    if ended_well {
        tally.passed += 1;
    } else {
        tally.failed += 1;
    }
    Ok(())
}

/// How many tests ended how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Adds what a closing line of the test harness counts; other lines count nothing.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, word)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up_and_others_count_nothing() {
        let mut tally = Tally::default();
        tally.read("running 3 tests");
        tally.read("test names::reads ... ok");
        tally.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 2.5s");
        assert_eq!(tally, Tally { passed: 15, failed: 2, skipped: 1 });
    }
}
