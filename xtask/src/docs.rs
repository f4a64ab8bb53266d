//! The chore `docs`: the API documentation of our crates, with every rustdoc warning an error; or the reference of
//! commands.
//!
//! Place in the flow: before a release and whenever a link in a comment may have gone stale; after a change of a
//! command's help.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building needs, then runs `cargo doc`; with `--cli` alone, writes docs/cli.md.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build])?;
    if let [only] = arguments
        && only == "--cli"
    {
        // The test that compares the page with the program writes it when this variable is set. `cluster` is named too,
        // so that cargo uses what was built for the tests.
        let mut test =
            command::cargo(&["test", "--package", "cluster", "--package", "cli", "--test", "it", "reference"]);
        return command::run(test.env("EVERNEAR_WRITE_REFERENCE", "1"));
    }
    let mut doc = command::cargo(&["doc", "--no-deps", "--workspace"]);
    command::run(doc.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}
