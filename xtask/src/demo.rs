//! The chore `demo`: a small network on this machine, from nothing to a file read at its own DNS name.
//!
//! Place in the flow: the first command of the README; the work is done by the crate `cluster`.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and the demo's judges need, builds, then becomes `cluster demo ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Judges])?;
    // With `evernear`, which the demo's last lines call. `tidy` proves that `./x test` compiles none of this again.
    command::run(&mut command::cargo(&["build", "--package", "cluster", "--package", "cli", "--bins"]))?;
    let mut demo = command::program(command::target_folder().join("debug/cluster"), &["demo"]);
    // The files given are named from where the person stands, not from the repository's root.
    demo.args(arguments).current_dir(std::env::current_dir().unwrap_or_else(|_| command::root()));
    Err(command::become_program(&mut demo))
}
