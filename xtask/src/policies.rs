//! The chore `policies`: guests in Rust become the components committed under `policies/prebuilt`.
//!
//! Place in the flow: `policies/` is a Cargo workspace of its own (target wasm32, other profile); its program
//! `componentize` does the work.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building guests needs, then runs `componentize ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Guests])?;
    let manifest = ["run", "--quiet", "--manifest-path", "policies/Cargo.toml", "--package", "componentize", "--"];
    command::run(command::cargo(&manifest).args(arguments))
}
