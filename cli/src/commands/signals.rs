//! What a node is told by signals: Ctrl-C, SIGTERM as service managers send it, SIGHUP.

use anyhow::Context;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What to do.
pub(crate) enum Signal {
    /// End in order.
    Stop,
    /// Take up a new configuration, or a new program.
    Reload,
}

/// Signals from now on; none is lost between two looks.
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hang_up: Stream,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let stream = |kind, name| signal(kind).with_context(|| format!("{name} cannot be awaited"));
        Ok(Self {
            interrupt: stream(SignalKind::interrupt(), "SIGINT")?,
            terminate: stream(SignalKind::terminate(), "SIGTERM")?,
            hang_up: stream(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}
