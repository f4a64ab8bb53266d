//! `evernear`: one binary, subcommands only. Reads the command line, sets up telemetry, runs one command, says how it went.

mod commands;
mod fault;
mod handover;
mod log_lines;
mod moment;
mod open_files;
mod output;
mod owner_access;
mod placing;
mod policy_check;
mod private_file;
mod progress_bar;
mod telemetry;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use commands::{Command, Options};

/// What a blocked read of standard input may hold up the end of the program.
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
    let Arguments { options, command } = Arguments::parse();
    if matches!(command, Command::PolicyCompile) {
        return sandbox::guard::child_main();
    }
    // First of all: whoever makes a TLS config before this gets another provider, without ML-KEM.
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
