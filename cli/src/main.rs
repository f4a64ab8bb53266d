//! `evernear`: one binary, subcommands only. Reads the command line, sets up telemetry, runs one command, and reports
//! its result.

mod command_line;
mod commands;
mod consent;
mod country;
mod failures;
mod fault;
mod handover;
mod heap;
mod held_room;
mod lease_times;
mod log_lines;
mod moment;
mod new_file;
mod open_files;
mod output;
mod owner_access;
mod plain_lines;
mod policy_check;
mod progress_bar;
mod targets;
mod telemetry;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use commands::{Command, Options};

/// How long a blocked read of standard input may delay the program's exit.
const GRACE: Duration = Duration::from_millis(200);

/// Evernear stores a file once; everybody reads it from the nearest edge, at a DNS name that only this file has.
#[derive(Parser)]
#[command(name = "evernear", version, after_help = fault::EXIT_CODES, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == policy_check::COMPILE) {
        return sandbox::guard::child_main();
    }
    heap::keep_blocks();
    let Arguments { options, command } = match command_line::parse(&words) {
        Ok(arguments) => arguments,
        Err(error) => return fault::report_usage(&error, &words),
    };
    // This comes first: a TLS configuration made before it would use another provider, without ML-KEM.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    installed.expect("nothing installed a provider before the first line of main");
    let logs = telemetry::start(&command, &options);
    if command.is_node() {
        open_files::raise_limit();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fault::report(&anyhow::Error::new(error).context("the runtime does not start"), &options),
    };
    let done = runtime.block_on(Box::pin(command.run(&options)));
    runtime.shutdown_timeout(GRACE);
    drop(logs);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fault::report(&error, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Looks at every command that people see, with the words that call it.
    fn walk(command: &clap::Command, words: &str, look: &mut impl FnMut(&clap::Command, &str)) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let words = format!("{words} {}", command.get_name());
            look(command, &words);
            walk(command, &words, look);
        }
    }

    /// The examples of a command's help: lines of a shell, each with a remark behind two spaces.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let Some((_, examples)) = help.split_once("Examples:\n") else { return Vec::new() };
        let lines = examples.lines().take_while(|line| !line.is_empty());
        lines.map(|line| line.trim_start().split("  ").next().unwrap_or_default().to_owned()).collect()
    }

    /// The words that a shell would give to this program.
    fn words_of(example: &str) -> Vec<String> {
        let owner = format::OwnerSecret::from_bytes([1; 32]).keys().id().to_string();
        let call = example.split(" | ").flat_map(|part| part.split(" && ")).find(|part| part.starts_with("evernear "));
        let call = call.unwrap_or_else(|| panic!("`{example}` does not call this program"));
        let words = call.split(' ').take_while(|word| !word.starts_with('>'));
        words.map(|word| if word == "OWNER" { owner.clone() } else { word.trim_matches('\'').to_owned() }).collect()
    }

    #[test]
    fn every_command_and_every_argument_says_what_it_is_for() {
        let all = Arguments::command();
        all.clone().debug_assert();
        let mut commands = 0;
        walk(&all, "evernear", &mut |command, words| {
            commands += 1;
            assert!(command.get_about().is_some(), "{words}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{words} {}", argument.get_id());
            }
        });
        assert!(commands > 20, "{commands}");
    }

    #[test]
    fn every_command_that_takes_arguments_shows_examples_and_takes_them() {
        walk(&Arguments::command(), "evernear", &mut |command, words| {
            let examples = examples(command);
            let needs_some = !command.has_subcommands() && command.get_arguments().next().is_some();
            assert!(!needs_some || !examples.is_empty(), "`{words}` has no examples");
            for example in examples {
                assert!(example.contains(&format!("{words} ")) || example.ends_with(words), "`{words}`: {example}");
                let parsed = Arguments::try_parse_from(words_of(&example));
                assert!(parsed.is_ok(), "{example}: {}", parsed.err().unwrap());
            }
        });
    }
}
