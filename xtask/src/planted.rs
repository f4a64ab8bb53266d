//! The chore `planted`: mutation testing by hand: plants each of the bugs in `client/src/planted.rs` in turn, and the
//! test named for it must find it.
//!
//! Place in the flow: a test of the tests of `client` and `origin`. The table in bench/results/planted.md has its
//! results.
//! Keeps true: a bug is found only when its test fails with the expected words. A crash, a test that cannot be set up
//! and any other failure do not count. The same tests pass when nothing is planted.

use std::path::Path;
use std::process::Stdio;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The tests, and the features that plant the bugs. With `cluster`, cargo chooses the same features of dependencies as
/// for `./x test`, so it compiles only our own crates again.
const TESTS: [&str; 7] = [
    "test",
    "--package=client",
    "--package=origin",
    "--package=cluster",
    "--features=client/planted,origin/planted",
    "--lib",
    "--test=it",
];

/// A bug, the test that must find it, and what the test says then.
struct Hunt {
    bug: &'static str,
    test: &'static str,
    finding: &'static str,
}

const fn hunt(bug: &'static str, test: &'static str, finding: &'static str) -> Hunt {
    Hunt { bug, test, finding }
}

/// Every bug. Paths and numbers of states differ from run to run, so no finding contains them.
const HUNTS: [Hunt; 12] = [
    hunt("StripCheck", "reads::a_flipped_bit_is_noticed_and_read_around", "`Err` value: Decode(Seal {"),
    hunt(
        "Quorum",
        "scatter::tests::acknowledges_at_the_quorum_and_gives_up_below_it",
        "assertion failed: !scatter.may_acknowledge()",
    ),
    hunt("ZoneCap", "placement::tests::caps_that_cross_are_kept_together", "`Ok` value: Placement {"),
    hunt("RootCheck", "conformance::a_commit_takes_the_shard_of_its_manifest_or_nothing", "not refused: Ok(())"),
    hunt("FileSync", POWER_CUT, "`Err` value: Damaged {"),
    hunt("FolderSync", POWER_CUT, "is here, of"),
    hunt("TornEnd", POWER_CUT, "`Err` value: Damaged {"),
    hunt(
        "Tombstone",
        "packs::whatever_is_put_removed_and_compacted_the_packs_hold_exactly_what_they_should",
        "left: true\n right: false",
    ),
    hunt(
        "Collection",
        "store::removing_one_shard_keeps_the_other_columns_of_the_object",
        "assertion failed: !store.remove_shard(&object, 0, now",
    ),
    hunt(
        "LeaseVersion",
        "catalog::rule::tests::only_a_higher_version_of_the_same_owner_follows",
        "left: Ok(Renew)\n right: Err(Older { held: 5, asked: 4 })",
    ),
    hunt(
        "Erasure",
        "catalog::rule::tests::the_erased_stay_dead_and_the_promised_stay",
        "left: Ok(Renew)\n right: Err(Erased)",
    ),
    hunt(
        "Scrub",
        "bucket::an_origin_lives_through_an_outage_damage_and_the_loss_of_its_folder",
        "left: (0, 0)\n right: (0, 1)",
    ),
];
const POWER_CUT: &str = "crash_states::after_a_power_cut_at_any_moment_all_that_was_acknowledged_is_there";

/// Builds the tests with the bugs in them, runs the named tests without any bug, then each test with its bug.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    if let Some(other) = arguments.iter().find(|name| HUNTS.iter().all(|hunt| hunt.bug != name.as_str())) {
        let bugs: Vec<&str> = HUNTS.iter().map(|hunt| hunt.bug).collect();
        return Err(Fault::new(format!("there is no bug `{other}`"), format!("the bugs are {}", bugs.join(", "))));
    }
    setup::install(&[Purpose::Build, Purpose::Test])?;
    command::run(command::build(&TESTS)?.arg("--no-run"))?;
    let chosen: Vec<&Hunt> =
        HUNTS.iter().filter(|hunt| arguments.is_empty() || arguments.iter().any(|name| name == hunt.bug)).collect();
    let mut tests: Vec<&str> = chosen.iter().map(|hunt| hunt.test).collect();
    tests.sort_unstable();
    tests.dedup();
    let said = told("None", &tests)?;
    if let Some(test) = tests.iter().find(|test| verdict(&said, test) != Verdict::Passed) {
        println!("{said}");
        return Err(Fault::new(format!("{test} does not pass though nothing is planted"), "mend it first"));
    }
    let mut missed = Vec::new();
    for Hunt { bug, test, finding } in chosen.iter().copied() {
        let said = told(bug, &[test])?;
        let verdict = verdict(&said, test);
        match &verdict {
            Verdict::Failed(words) if words.contains(finding) => {
                println!("{bug:<14}found by {test}");
                remove_kept(words);
            }
            _ => {
                println!("{said}\n{bug:<14}NOT FOUND by {test}, which should say `{finding}`");
                missed.push(*bug);
            }
        }
    }
    println!("{} of {} found", chosen.len() - missed.len(), chosen.len());
    if missed.is_empty() {
        return Ok(());
    }
    Err(Fault::new(
        format!("not found: {}", missed.join(", ")),
        "read above what the test did in place of finding it; mend the test, or its line in xtask/src/planted.rs",
    ))
}

/// Runs tests with a bug, and returns their output.
fn told(bug: &str, tests: &[&str]) -> Result<String, Fault> {
    let mut run = command::build(&TESTS)?;
    run.args(["--no-fail-fast", "--", "--exact"]).args(tests);
    run.env("EVERNEAR_PLANTED", bug).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    // Cargo starts the test programs through this program, because a bug may make a test wait for ever.
    let runner = format!("CARGO_TARGET_{}_RUNNER", command::host()?.to_uppercase().replace('-', "_"));
    run.env(runner, "timeout --kill-after=10 300");
    let output = run.output().map_err(|error| {
        Fault::new(format!("cargo does not start: {error}"), "check that cargo is installed and in PATH")
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// Removes the disk image in memory that the power cut test keeps after a failure; this failure was expected.
fn remove_kept(words: &str) {
    for kept in words.lines().filter_map(|line| line.split_once(": the disk is in /dev/shm/")) {
        if std::fs::remove_dir_all(Path::new("/dev/shm").join(kept.1)).is_err() {
            println!("planted: /dev/shm/{} may be removed", kept.1);
        }
    }
}

/// The result of a test.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// It failed, with these words.
    Failed(String),
    /// The test program reported neither: it crashed, ran out of its five minutes, or has no such test.
    Nothing,
}

/// Reads the result of a test from the output of the test programs.
fn verdict(said: &str, test: &str) -> Verdict {
    if said.lines().any(|line| line == format!("test {test} ... ok")) {
        return Verdict::Passed;
    }
    // A test program prints this section at its end, which a crash never reaches.
    let Some((_, words)) = said.split_once(&format!("---- {test} stdout ----\n")) else {
        return Verdict::Nothing;
    };
    let end = ["\n---- ", "\nfailures:\n"].iter().filter_map(|mark| words.find(mark)).min().unwrap_or(words.len());
    Verdict::Failed(words[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_of_the_source_is_hunted() {
        let source = include_str!("../../client/src/planted.rs");
        let bugs = source.lines().filter_map(|line| line.strip_prefix("        Self::")?.strip_suffix(','));
        assert_eq!(bugs.collect::<Vec<_>>(), HUNTS.map(|hunt| hunt.bug));
        assert!(HUNTS.iter().all(|hunt| hunt.finding.len() > 10), "words that only this finding has");
    }

    #[test]
    fn a_crash_is_no_finding() {
        let test = "reads::a";
        let found = "test reads::a ... FAILED\n\nfailures:\n\n---- reads::a stdout ----\n\nthread 'reads::a' (7) panicked at \
                     it/reads.rs:4:2:\nassertion failed: whole\n\n\nfailures:\n    reads::a\n";
        let Verdict::Failed(words) = verdict(found, test) else { panic!("it failed") };
        assert!(words.contains("assertion failed: whole") && !words.contains("failures:"), "{words}");
        assert_eq!(verdict("test reads::a ... ok\n", test), Verdict::Passed);
        for nothing in [
            "",
            "test reads::ab ... ok\n",
            "test reads::a ... error: test failed, to rerun pass `--test it`\n(signal: 6, SIGABRT: process abort signal)",
            "---- reads::ab stdout ----\nassertion failed: whole\n",
        ] {
            assert_eq!(verdict(nothing, test), Verdict::Nothing, "{nothing}");
        }
    }
}
