//! The script `.ci/run`, with a stand-in for `./x`: what its table and its closing line say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `.ci/run` in a clone where `./x` does as `body` says and an earlier run has left its tally.
fn run(name: &str, body: &str) -> Output {
    let clone = std::env::temp_dir().join(format!("evernear-ci-{}-{name}", std::process::id()));
    fs::create_dir_all(clone.join(".ci")).unwrap();
    fs::create_dir_all(clone.join("target")).unwrap();
    fs::write(clone.join("target/test-tally"), "900 passed, 0 failed, 0 skipped\n").unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::copy(repository.join(".ci/run"), clone.join(".ci/run")).unwrap();
    fs::write(clone.join("x"), format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(clone.join("x"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(clone.join(".ci/run")).env_remove("CARGO_TARGET_DIR").output().unwrap();
    fs::remove_dir_all(&clone).unwrap();
    output
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_closing_line_is_what_the_tests_counted() {
    let output = run("counts", "[ \"$1\" != test ] || echo '7 passed, 0 failed, 2 skipped' >target/test-tally");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("\n7 passed, 0 failed, 2 skipped\n"), "{said}");
    for step in ["demo", "test", "check", "policies", "docs", "package", "planted", "fuzz"] {
        assert!(said.lines().any(|line| line.ends_with(&format!(" s  {step}"))), "{step}: {said}");
    }
}

#[test]
fn tests_that_fail_end_the_run_and_are_counted() {
    let body = "[ \"$1\" != test ] || { echo '7 passed, 1 failed, 2 skipped' >target/test-tally; exit 1; }";
    let output = run("fails", body);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("failed in: test\n7 passed, 1 failed, 2 skipped\n"), "{said}");
    assert!(!said.contains("== check"), "{said}");
}

#[test]
fn neither_an_earlier_runs_tally_nor_a_line_of_a_test_counts_for_tests_that_do_not_end() {
    let output = run("dies", "[ \"$1\" != test ] || { echo '6 passed, 0 failed, 0 skipped'; exit 1; }");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("failed in: test\nno test ran to its end\n"), "{said}");
}
