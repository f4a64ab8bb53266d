//! The demo's program: arguments, telemetry, run, exit code.
#![expect(clippy::print_stderr, reason = "a program's last word goes to its user")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cluster::{DemoOptions, LossOptions, TortureOptions, demo, losses, torture};
use tracing_subscriber::{EnvFilter, Registry, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

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
    /// Kills processes, flips bits and deletes folders under load; nothing acknowledged may be lost.
    Torture(TortureOptions),
    /// Loses folders, nodes and a zone one after the other; prints what repair read and wrote, and in what time.
    Losses(LossOptions),
}

fn main() -> ExitCode {
    // What nodes warn of is part of the show only when asked for: RUST_LOG=warn.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Registry::default().with(filter_fn(edge::may_log)).with(filter).with(lines).init();
    let command = Arguments::parse().command;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match command {
            Command::Demo(options) => demo(&options).await,
            Command::Torture(options) => torture(&options).await,
            Command::Losses(options) => losses(&options).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
