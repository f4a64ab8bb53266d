//! The chore `bench`: measurements beside their peers, in release mode; results go to `bench/results`.
//!
//! Place in the flow: the crate `bench` does the work. This only installs the peers (nginx, ...) and builds, `evernear`
//! included, which the crate starts.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and measuring need, builds, then becomes `bench ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let mut purposes = vec![Purpose::Build, Purpose::Judges, Purpose::Bench];
    // Its peer takes many minutes to build, which the other measurements do without.
    if arguments.first().is_some_and(|name| name == "stores" || name == "ingest") {
        purposes.push(Purpose::Stores);
    }
    setup::install(&purposes)?;
    command::run(&mut command::cargo(&["build", "--release", "--package", "bench", "--package", "cli", "--bins"]))?;
    let mut bench = command::program(command::target_folder().join("release/bench"), &[]);
    Err(command::become_program(bench.args(arguments).env("PATH", setup::path_with_tools())))
}
