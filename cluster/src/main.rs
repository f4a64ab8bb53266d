//! The demo's program: arguments, telemetry, run, exit code.
#![expect(clippy::print_stderr, reason = "a program's last word goes to its user")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cluster::{DemoOptions, demo};
use tracing_subscriber::EnvFilter;

/// A whole small Evernear network on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stores files and shows how they are read: from the nearest edge, with origins down, with bits flipped.
    Demo(DemoOptions),
}

fn main() -> ExitCode {
    // What nodes warn of is part of the show only when asked for: RUST_LOG=warn.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Command::Demo(options) = Arguments::parse().command;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(demo(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
