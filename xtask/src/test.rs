//! The chore `test`: runs every test, then the demo as a check and a short torture, then prints one line that counts
//! them.
//!
//! Place in the flow: the second command of the README, and of `.ci/run`. nextest runs each test in its own process
//! with a time limit; `.config/nextest.toml` says how many at a time.
//! Keeps true: a run that fails, or that counts no test, is a failure, whatever was counted before. The file
//! `test-tally` in the target folder has the line with the counts. It exists only after a run that reached its end.

use std::fmt;
use std::path::Path;
use std::process::Stdio;

use crate::command;
use crate::fault::Fault;
use crate::setup;

/// Installs what building and testing need, then runs all tests; with arguments, `cargo nextest run ARGUMENTS` only.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let file = command::target_folder().join("test-tally");
    // The counts of an earlier run must not pass for those of this one.
    if file.exists() {
        std::fs::remove_file(&file).map_err(|error| not_written(&file, &error))?;
    }
    setup::install(&setup::TESTING)?;
    let mut tally = Tally::default();
    // This also builds the programs, which tests of other crates start.
    command::run(&mut command::build(&["build", "--workspace", "--bins", "--tests", "--examples"])?)?;
    if arguments.is_empty() {
        nextest(&["--workspace", "--run-ignored", "all", "-E", &of_this_machine()], &mut tally)?;
        check(&["demo", "--check"], &mut tally)?;
        check(&["torture", "--minutes", "0.3"], &mut tally)?;
    } else {
        nextest(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &mut tally)?;
    }
    println!("\n{tally}");
    std::fs::write(&file, format!("{tally}\n")).map_err(|error| not_written(&file, &error))?;
    if tally.failed == 0 {
        Ok(())
    } else {
        Err(Fault::new(format!("{} tests failed", tally.failed), "look for `FAIL`, `TIMEOUT` and `panicked` above"))
    }
}

fn not_written(file: &Path, error: &std::io::Error) -> Fault {
    Fault::new(format!("{}: {error}", file.display()), "may this user write there?")
}

/// Returns the filter of the tests that this machine can run. It prints what it leaves out, and that counts as skipped.
/// The names of modules decide: a `role` is a process that another test starts, a `long_lane` takes an hour.
fn of_this_machine() -> String {
    let mut filter = "not test(long_lane) and not test(role::)".to_owned();
    let mut without = |tests: &str, lack: &str| {
        println!("test: {lack}, so tests named *{tests}* are skipped");
        filter.push_str(&format!(" and not test({tests})"));
    };
    // Root in a container often may not make namespaces.
    let rooms = command::program("unshare", &["--net", "--mount", "true"]).stderr(Stdio::null()).status();
    if !rooms.is_ok_and(|status| status.success()) {
        without("needs_root", "this user cannot make network namespaces and mounts");
    }
    if command::find(&["chromium", "chromium-browser", "google-chrome"]).is_none() {
        without("chromium_", "no Chromium is here");
    }
    if command::find(&["WebKitWebDriver"]).is_none() || command::find(&["Xvfb"]).is_none() {
        without("webkit_", "no WebKitWebDriver is here, or no Xvfb");
    }
    if !setup::has_redbot() {
        without("redbot_", "no redbot is here");
    }
    if !setup::has_npm() {
        without("npm_", "no packages of npm are here");
    }
    if command::find(&["schemathesis"]).is_none() {
        without("schemathesis_", "no schemathesis is here (`pip install schemathesis`)");
    }
    filter
}

/// Runs unit and integration tests.
fn nextest(arguments: &[&str], tally: &mut Tally) -> Result<(), Fault> {
    let before = *tally;
    let mut tests = command::build(&["nextest", "run", "--color", "never"])?;
    tests.args(arguments).env("PATH", setup::path_with_tools());
    let ended_well = command::run_and_read(&mut tests, |line| tally.read(line))?;
    if *tally == before || (!ended_well && tally.failed == before.failed) {
        tally.failed += 1;
    }
    Ok(())
}

/// Runs the cluster's program as assertions, for ten minutes at most; it counts as one test.
fn check(arguments: &[&str], tally: &mut Tally) -> Result<(), Fault> {
    let mut limited = command::program("timeout", &["--kill-after=10", "600"]);
    limited.arg(command::target_folder().join("debug/cluster")).args(arguments);
    let ended_well = command::run_and_read(&mut limited, |_| ())?;
    if ended_well {
        tally.passed += 1;
    } else {
        tally.failed += 1;
    }
    Ok(())
}

/// How many tests passed, failed or were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    /// Adds what nextest's closing line counts; other lines count nothing. A test that ran out of its time has failed.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.trim_start().strip_prefix("Summary [").and_then(|rest| rest.split_once(" run: "))
        else {
            return;
        };
        for part in counts.split(", ") {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" | "timed" | "exec" => self.failed += number,
                "skipped" => self.skipped += number,
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
        tally.read("        PASS [   0.004s] (12/24) format names::reads");
        tally.read("     Summary [ 231.513s] 24 tests run: 21 passed (2 slow), 2 failed, 1 timed out, 3 skipped");
        tally.read("     Summary [   0.010s] 1/4 tests run: 1 passed, 0 skipped");
        assert_eq!(tally, Tally { passed: 22, failed: 3, skipped: 3 });
        // `.ci/run` ends with this line.
        assert_eq!(tally.to_string(), "22 passed, 3 failed, 3 skipped");
    }
}
