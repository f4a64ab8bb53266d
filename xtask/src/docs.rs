//! The chore `docs`: the API documentation of our libraries, with every rustdoc warning an error, and the examples in
//! it; or the reference of commands.
//!
//! Place in the flow: before a release and whenever a link in a comment may have gone stale; after a change of a
//! command's help.

use std::ffi::OsString;
use std::process::Command;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The variable by which this program knows that cargo runs it in place of rustdoc: the folder for the pages.
const PAGES: &str = "EVERNEAR_PAGES";
/// Options of rustdoc that come with `--test` alone, each with a value.
const OF_EXAMPLES: [&str; 2] = ["--test-run-directory", "--doctest-build-arg"];

/// Installs what building needs, then makes the pages and runs the examples; with `--cli` alone, writes docs/cli.md;
/// with anything else, `cargo doc` with that.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build])?;
    match arguments {
        [] => pages_and_examples(),
        [only] if only == "--cli" => {
            // The test that compares the page with the program writes it when this variable is set. `cluster` is named
            // too, so that cargo uses what was built for the tests.
            let mut test =
                command::cargo(&["test", "--package", "cluster", "--package", "cli", "--test", "it", "reference"]);
            command::run(test.env("EVERNEAR_WRITE_REFERENCE", "1"))
        }
        arguments => command::run(command::cargo(&["doc", "--no-deps", "--workspace"]).args(arguments)),
    }
}

/// Runs the examples by the libraries that the tests have, and has rustdoc make the pages by the same: `cargo doc`
/// would compile every dependency once more, for nothing else.
fn pages_and_examples() -> Result<(), Fault> {
    let me = std::env::current_exe().map_err(|error| Fault::new(format!("xtask: {error}"), "start it by ./x"))?;
    let mut examples = command::build(&["test", "--doc", "--workspace"])?;
    command::run(examples.env("RUSTDOC", me).env(PAGES, command::target_folder().join("doc")))
}

/// Returns what rustdoc is asked, where cargo runs this program in its place.
pub(crate) fn in_place_of_rustdoc() -> Option<Result<(), Fault>> {
    let pages = std::env::var_os(PAGES)?;
    let asked: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Its output is cargo's to read.
    let rustdoc = |arguments: &[OsString]| match Command::new("rustdoc").args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Fault::new(format!("rustdoc: {status}"), "mend what it names above")),
        Err(error) => Err(Fault::new(format!("rustdoc: {error}"), "rustup component add rust-docs")),
    };
    let made = match of_pages(&asked) {
        Some(options) => {
            rustdoc(&[options, ["-Dwarnings", "--out-dir"].map(OsString::from).into(), vec![pages]].concat())
        }
        None => Ok(()),
    };
    Some(made.and_then(|()| rustdoc(&asked)))
}

/// Returns the options that make a crate's pages, if these run its examples.
fn of_pages(asked: &[OsString]) -> Option<Vec<OsString>> {
    asked.iter().any(|option| option == "--test").then_some(())?;
    let (mut kept, mut rest) = (Vec::new(), asked.iter());
    while let Some(option) = rest.next() {
        let text = option.to_string_lossy();
        if OF_EXAMPLES.contains(&&*text) {
            rest.next();
        } else if text != "--test" && !OF_EXAMPLES.iter().any(|it| text.starts_with(&format!("{it}="))) {
            kept.push(option.clone());
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_made_by_the_options_of_the_examples() {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let asked =
            words("--crate-name a --test a/lib.rs --test-run-directory /a --extern b=c --test-run-directory=/a");
        assert_eq!(of_pages(&asked), Some(words("--crate-name a a/lib.rs --extern b=c")));
        assert_eq!(of_pages(&words("-vV")), None);
    }
}
