//! The chore `torture`: kills real processes under load, flips bits on their disks and wipes them, and reads everything
//! back at the end.
//!
//! Place in the flow: the long lane beside `test`, which runs a short one. The crate `cluster` does the work.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building needs, builds the programs, then becomes `cluster torture ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build])?;
    command::run(&mut command::cargo(&["build", "--workspace", "--bins"]))?;
    let mut torture = command::program(command::target_folder().join("debug/cluster"), &["torture"]);
    Err(command::become_program(torture.args(arguments)))
}
