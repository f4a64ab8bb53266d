//! The demo's program: arguments, telemetry, run, exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use cluster::{DemoOptions, Interrupted, LossOptions, Signals, TortureOptions, demo, losses, torture};
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
    // The warnings of nodes are shown only on request, with RUST_LOG=warn.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    Registry::default().with(filter_fn(edge::may_log)).with(filter).with(lines).init();
    let command = Arguments::parse().command;
    let done = Signals::catch().and_then(|signals| match command {
        Command::Demo(options) => demo(&options, signals),
        Command::Torture(options) => signals.run(torture(&options)),
        Command::Losses(options) => signals.run(losses(&options)),
    });
    let Err(error) = done else { return ExitCode::SUCCESS };
    // If the terminal is gone, the error cannot be shown, and that is ignored.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    let interrupted = error.downcast_ref::<Interrupted>();
    interrupted.map_or(ExitCode::FAILURE, |interrupted| interrupted.signal.exit_code().into())
}
