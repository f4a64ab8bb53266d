//! The chore `docs`: the API documentation of our crates, with every rustdoc warning an error.
//!
//! Place in the flow: before a release and whenever a link in a comment may have gone stale.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building needs, then runs `cargo doc`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build])?;
    let mut doc = command::cargo(&["doc", "--no-deps", "--workspace"]);
    command::run(doc.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}
