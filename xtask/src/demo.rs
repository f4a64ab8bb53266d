//! The chore `demo`: a small network on this machine, from nothing to a file read at its own DNS name.
//!
//! Place in the flow: the first command of the README; the work is done by the crate `cluster`.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and the demo's judges need, then becomes `cluster demo ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Judges])?;
    let manifest = command::root().join("Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let mut demo = command::cargo(&["run", "--manifest-path", &manifest, "--package", "cluster", "--", "demo"]);
    // The files given are named from where the person stands, not from the repository's root.
    demo.args(arguments).current_dir(std::env::current_dir().unwrap_or_else(|_| command::root()));
    Err(command::become_program(&mut demo))
}
