//! The chore `up`: a network on this machine that lasts, from nothing to a file at its own DNS name.
//!
//! Place in the flow: the first command of the README. The program `evernear` does the work.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building needs, builds, then becomes `evernear up ARGUMENTS`. With `--release` in front the build is
/// the optimised one, which takes longer once and then serves large files fast.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build])?;
    let (profile, arguments) = match arguments.split_first() {
        Some((first, rest)) if first == "--release" => ("release", rest),
        _ => ("debug", arguments),
    };
    // The packages of the demo, so that cargo chooses the same features and compiles nothing twice.
    let mut build = vec!["build", "--package", "cluster", "--package", "cli", "--bins"];
    if profile == "release" {
        build.push("--release");
    }
    command::run(&mut command::build(&build)?)?;
    let mut up = command::program(command::target_folder().join(profile).join("evernear"), &["up"]);
    // Relative paths of disks start at the user's current folder, not at the repository's root.
    up.args(arguments).current_dir(std::env::current_dir().unwrap_or_else(|_| command::root()));
    Err(command::become_program(&mut up))
}
