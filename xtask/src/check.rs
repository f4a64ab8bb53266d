//! The chore `check`: checks the sources before they are merged, beside the tests: formatting, repository rules, lints,
//! dependencies.
//!
//! Place in the flow: before a commit, and in `.ci/run` after the tests. Keeps true: dependencies that the tests
//! compiled are not compiled again here, only our own crates; and not these where the tests' build was linted
//! (`command::build`), as in CI: a warning is an error there, so what was compiled has none.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};
use crate::{audit, tidy};

/// A separate workspace beside the root's.
const POLICIES: [&str; 2] = ["--manifest-path", "policies/Cargo.toml"];

/// Runs all checks, the quick ones first; the first that fails ends the run.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    if let Some(argument) = arguments.first() {
        return Err(Fault::new(format!("check does not know `{argument}`"), "run `./x check` without arguments"));
    }
    setup::install(&[Purpose::Build, Purpose::Guests, Purpose::Lints, Purpose::Audits])?;
    command::run(&mut command::cargo(&["fmt", "--all", "--check"]))?;
    command::run(command::cargo(&["fmt", "--all", "--check"]).args(POLICIES))?;
    tidy::run(&[])?;
    let mut deny = command::cargo(&["deny", "check", "bans", "licenses", "sources"]);
    command::run(deny.env("PATH", setup::path_with_tools()))?;
    audit::run(&[])?;
    clippy()
}

/// Lints every target of the workspace, policies, and the reader for wasm32; the chore `fuzz` lints its own.
fn clippy() -> Result<(), Fault> {
    command::run(command::linted(&mut command::cargo(&["build", "--workspace", "--all-targets", "--keep-going"]))?)?;
    // Built, as the chore `policies` wants its dependencies.
    let componentize = ["--package", "componentize"];
    let guests = ["--workspace", "--exclude", "componentize", "--target", "wasm32-unknown-unknown", "--", "-Dwarnings"];
    command::run(command::linted(command::cargo(&["build"]).args(POLICIES).args(componentize))?)?;
    command::run(command::cargo(&["clippy"]).args(POLICIES).args(guests))?;
    // The reader where no C is compiled: `format/src/engine.rs`.
    let portable = ["clippy", "--package", "format", "--lib", "--no-default-features", "--features", "portable"];
    command::run(command::cargo(&portable).args(["--target", "wasm32-unknown-unknown", "--", "-Dwarnings"]))
}
