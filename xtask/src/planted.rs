//! The chore `planted`: mutation testing by hand: plants each of the bugs in `client/src/planted.rs` in turn, and some
//! test must find it.
//!
//! Place in the flow: a test of the tests of `client` and `origin`. The table that it prints is in
//! bench/results/planted.md. Keeps true: the same tests pass when nothing is planted.

use std::process::Stdio;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The tests that must find the bugs, and the features that plant them.
const TESTS: [&str; 7] = [
    "test",
    "--package=client",
    "--package=origin",
    "--features=client/planted,origin/planted",
    "--lib",
    "--tests",
    "-q",
];

/// Builds the tests with the bugs in them, runs them without any, then with one after another.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    if let Some(other) = arguments.iter().find(|name| !bugs().contains(&name.as_str())) {
        return Err(Fault::new(format!("there is no bug `{other}`"), format!("the bugs are {}", bugs().join(", "))));
    }
    setup::install(&[Purpose::Build, Purpose::Test])?;
    command::run(command::cargo(&TESTS).arg("--no-run"))?;
    let chosen: Vec<&str> =
        bugs().into_iter().filter(|bug| arguments.is_empty() || arguments.iter().any(|it| it == bug)).collect();
    if let Some((test, said)) = failing("None")? {
        println!("{said}");
        return Err(Fault::new(format!("{test} fails though nothing is planted"), "mend it first"));
    }
    let mut missed = Vec::new();
    for bug in &chosen {
        let found = failing(bug)?.map(|(test, _)| test);
        println!("{bug:<14}{}", found.as_deref().unwrap_or("NOT FOUND"));
        if found.is_none() {
            missed.push(*bug);
        }
    }
    println!("{} of {} found", chosen.len() - missed.len(), chosen.len());
    if missed.is_empty() && !chosen.is_empty() {
        Ok(())
    } else {
        Err(Fault::new(format!("no test finds {missed:?}"), "write the test that would"))
    }
}

/// Returns the names of the bugs, read from the source.
fn bugs() -> Vec<&'static str> {
    let source = include_str!("../../client/src/planted.rs");
    source.lines().filter_map(|line| line.strip_prefix("        Self::")?.strip_suffix(',')).collect()
}

/// Runs the tests with a bug, up to the first test program that fails. Returns the first test that failed, and the
/// output.
fn failing(bug: &str) -> Result<Option<(String, String)>, Fault> {
    let mut tests = command::cargo(&TESTS);
    tests.env("EVERNEAR_PLANTED", bug).env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stderr(Stdio::null());
    let output = tests.output().map_err(|error| {
        Fault::new(format!("cargo does not start: {error}"), "check that cargo is installed and in PATH")
    })?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of_summary = text.lines().skip_while(|line| *line != "failures:").filter_map(|line| line.strip_prefix("    "));
    // The tests' own output is there as well, with the same indentation.
    let is_path = |name: &&str| name.contains("::") && name.chars().all(|c| c.is_alphanumeric() || "_:".contains(c));
    let named = of_summary.filter(is_path).map(ToOwned::to_owned).next();
    Ok(Some((named.unwrap_or_else(|| "a test program that crashes".to_owned()), text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_lists_twelve() {
        let bugs = bugs();
        assert_eq!((bugs.len(), bugs[0], bugs[11]), (12, "StripCheck", "Scrub"));
    }
}
