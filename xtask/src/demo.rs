//! The chore `demo`: a small network on this machine, from nothing to a file read at its own DNS name.
//!
//! Place in the flow: the first command of the README. The crate `cluster` does the work.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and the demo's judges need, builds, then becomes `cluster demo ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Judges])?;
    // This builds `evernear` too, which the demo's last lines call. `tidy` checks that `./x test` compiles none of this
    // again.
    command::run(&mut command::build(&["build", "--package", "cluster", "--package", "cli", "--bins"])?)?;
    let mut demo = command::program(command::target_folder().join("debug/cluster"), &["demo"]);
    // Relative paths of files start at the user's current folder, not at the repository's root.
    demo.args(arguments).current_dir(std::env::current_dir().unwrap_or_else(|_| command::root()));
    Err(command::become_program(&mut demo))
}
