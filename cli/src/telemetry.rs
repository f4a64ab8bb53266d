//! Logs: to standard error, so that standard output stays what the command was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::commands::{Command, Options};

/// A viewer's DNS question holds a label, and a label is a key: hickory logs whole questions at `info`.
const ALWAYS: &str = "hickory_server=warn,hickory_net=warn,hickory_proto=warn,pingora_core=error";

/// Starts logging: warnings for commands, more for nodes; `EVERNEAR_LOG` says otherwise in the syntax of `tracing`.
pub(crate) fn start(command: &Command, options: &Options) {
    let level = if command.is_node() { "info" } else { "warn" };
    let wanted = std::env::var("EVERNEAR_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(format!("{wanted},{ALWAYS}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{ALWAYS}")));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if options.json {
        logs.json().init();
    } else {
        logs.with_ansi(io::stderr().is_terminal()).init();
    }
}
