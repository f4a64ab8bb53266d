//! How the words of a command line become a command, and how a fault in them looks with `--json`.

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches, error::ErrorKind};

use crate::Arguments;

/// A fault of the command line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageFault {
    /// What is wrong, in one line.
    pub(crate) error: String,
    /// What was most likely meant, or how the command is called.
    pub(crate) advice: String,
}

/// Reads the words, of which the first is the program.
pub(crate) fn parse(words: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut all = Arguments::command();
    all.build();
    let mut all = with_plain_usage(all);
    let matches = all.try_get_matches_from_mut(words)?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut all))
}

/// Fixes the usage lines. clap would write what was given into them, as if it were required, and takes what the
/// environment gives for given.
fn with_plain_usage(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    command.override_usage(usage).mut_subcommands(with_plain_usage)
}

/// Returns whether an error is to be one JSON document.
pub(crate) fn wants_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// Takes apart what clap says; none where it is an answer: help or the version.
pub(crate) fn usage_fault(error: &clap::Error) -> Option<UsageFault> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return None;
    }
    let said = error.render().to_string();
    let line = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = said.split("\n\n").map(line);
    let first = parts.next().unwrap_or_default();
    let advice = parts.find_map(|part| part.strip_prefix("tip: ").or(part.strip_prefix("Usage: ")).map(str::to_owned));
    let advice = advice.unwrap_or_else(|| "--help".to_owned());
    Some(UsageFault { error: first.strip_prefix("error: ").unwrap_or(&first).to_owned(), advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_fault_is_taken_apart_and_help_is_none() {
        let fault = |line: &str| usage_fault(&parse(&words(line)).err().unwrap());
        let is = |error: &str, advice: &str| Some(UsageFault { error: error.to_owned(), advice: advice.to_owned() });
        assert_eq!(
            fault("evernear put"),
            is("the following required arguments were not provided: <PATH>...", "evernear put [OPTIONS] <PATH>...")
        );
        assert_eq!(
            fault("evernear put x --profil 2+1"),
            is("unexpected argument '--profil' found", "a similar argument exists: '--profile'")
        );
        assert_eq!(
            fault("evernear --json"),
            is(
                "'evernear' requires a subcommand but one was not provided [subcommands: up, join, owner, put, get, stat, ls, index, rm, purge, renew, name, \
                 policy, sign, cluster, catalog, origin, edge, twin, object, node, repair, profiles, completions, help]",
                "evernear [OPTIONS] <COMMAND>"
            )
        );
        assert!(fault("evernear get x --range 5-4").unwrap().error.starts_with("invalid value '5-4' for '--range"));
        assert_eq!((fault("evernear put --help"), fault("evernear --version")), (None, None));
    }

    #[test]
    fn json_is_wanted_by_the_option_alone() {
        assert!(wants_json(&words("evernear put --json")));
        assert!(!wants_json(&words("evernear put -- --json")) && !wants_json(&words("evernear put --jsonx")));
    }
}
