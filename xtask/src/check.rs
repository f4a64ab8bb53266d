//! The chore `check`: what must hold of the text before it lands, beside the tests: form, shape, lints, dependencies.
//!
//! Place in the flow: before a commit, and in `.ci/run` after the tests.
//! Keeps true: clippy reads our crates as cargo builds them, so that what they depend on is compiled for the tests and for
//! clippy once.

use std::path::Path;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};
use crate::{audit, tidy};

/// Workspaces of their own beside the root's.
const BESIDE: [&str; 2] = ["policies/Cargo.toml", "fuzz/Cargo.toml"];

/// Runs all checks, the quick ones first; the first that fails ends the run.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    if let Some(argument) = arguments.first() {
        return Err(Fault::new(format!("check does not know `{argument}`"), "run `./x check` without arguments"));
    }
    setup::install(&[Purpose::Build, Purpose::Tools])?;
    command::run(&mut command::cargo(&["fmt", "--all", "--check"]))?;
    for manifest in BESIDE {
        command::run(&mut command::cargo(&["fmt", "--all", "--check", "--manifest-path", manifest]))?;
    }
    tidy::run(&[])?;
    let mut deny = command::cargo(&["deny", "check", "bans", "licenses", "sources"]);
    command::run(deny.env("PATH", setup::path_with_tools()))?;
    audit::run(&[])?;
    clippy()
}

/// Lints every target of the workspace; a warning is an error.
fn clippy() -> Result<(), Fault> {
    let sysroot = command::output(&mut command::program("rustc", &["--print", "sysroot"]))?;
    let mut build = command::cargo(&["build", "--workspace", "--all-targets"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", Path::new(sysroot.trim()).join("bin/clippy-driver"));
    command::run(build.env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__"))
}
