//! Logs go to standard error, so that standard output has only the command's answer.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    commands::{Command, Options},
    log_lines::{Ending, LogLines},
    plain_lines::PlainLines,
};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Json,
    Coloured,
    Plain,
}

/// Starts logging: from level warn for commands, from level info for nodes, but for a node on a terminal that talks to
/// whoever started it. `EVERNEAR_LOG` overrides this in the syntax
/// of `tracing`. The returned value writes the last lines of a node's log when it is dropped.
pub(crate) fn start(command: &Command, options: &Options) -> Option<Ending> {
    let talks = command.talks() && io::stderr().is_terminal();
    let level = match command.is_node() {
        // Whoever waits for a certificate hears that it came.
        true if talks => "warn,edge::control::acme=info",
        true => "info",
        false => "warn",
    };
    let look = match options.json {
        true => Look::Json,
        false if io::stderr().is_terminal() => Look::Coloured,
        false => Look::Plain,
    };
    let wanted = std::env::var("EVERNEAR_LOG").unwrap_or_else(|_| level.to_owned());
    // If the thread cannot be started, each line is written at once.
    match command.is_node().then(|| LogLines::start(io::stderr())) {
        Some(Ok((lines, ending))) => {
            subscriber(&wanted, level, look, lines).init();
            Some(ending)
        }
        Some(Err(_)) | None => {
            subscriber(&wanted, level, look, io::stderr).init();
            None
        }
    }
}

fn subscriber(
    wanted: &str,
    level: &str,
    look: Look,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(look == Look::Coloured);
    let lines = match look {
        Look::Json => lines.json().boxed(),
        Look::Coloured => lines.boxed(),
        Look::Plain => lines.event_format(PlainLines).boxed(),
    };
    Registry::default().with(filter_fn(edge::may_log)).with(filter).with(lines)
}

#[cfg(test)]
mod tests {
    use testing::Heard;

    use super::*;

    #[test]
    fn no_directive_makes_the_doors_libraries_log_labels() {
        for wanted in
            ["trace", "hickory_server::server=trace,h2=debug", "[{}]=trace", "off,hickory_server=info", "no=such"]
        {
            for look in [Look::Json, Look::Plain] {
                let heard = Heard::default();
                let writer = heard.clone();
                let logs = subscriber(wanted, "trace", look, move || writer.clone());
                tracing::subscriber::with_default(logs, || {
                    tracing::info!(target: "hickory_server::server", "query:LABEL.evernear.example");
                    tracing::warn!(target: "hickory_proto::op", "LABEL");
                    tracing::debug!(target: "h2::codec::framed_read", "LABEL");
                    tracing::trace!(target: "pingora_core::protocols", "LABEL");
                    tracing::trace!(target: "quinn_proto::connection", remote = "LABEL", "migration initiated");
                    tracing::info_span!(target: "hickory_net", "span", name = "LABEL").in_scope(|| {
                        tracing::error!("ours in a span");
                        tracing::error!(target: "hickory_server::server", "theirs");
                    });
                });
                let heard = heard.text();
                assert!(!heard.contains("LABEL"), "{wanted}: {heard}");
                let errors = !wanted.starts_with("off") && wanted != "no=such";
                assert!(!errors || heard.contains("theirs"), "{wanted}: {heard}");
            }
        }
    }
}
