//! The chore `bench`: measurements beside their peers, in release mode; results go to `bench/results`.
//!
//! Place in the flow: the crate `bench` does the work. This only installs the peers (nginx, ...) and builds.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and measuring need, then becomes `bench ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Judges, Purpose::Bench])?;
    let mut bench = command::cargo(&["run", "--release", "--package", "bench", "--"]);
    Err(command::become_program(bench.args(arguments)))
}
