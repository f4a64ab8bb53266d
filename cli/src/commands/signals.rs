//! The signals that a node obeys: SIGINT (Ctrl-C), SIGTERM as service managers send it, and SIGHUP. A command that
//! leaves something behind is ended by them too.

use anyhow::Context;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::fault::Interrupted;

/// What a signal asks for.
pub(crate) enum Signal {
    /// Shut down gracefully.
    Stop,
    /// Reload: take a new configuration or a new program into use.
    Reload,
}

/// The signals from now on. A signal between two calls of `next` is not lost.
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hang_up: Stream,
}

/// Does some work unless a signal comes first: then the work is dropped, which tidies up after itself.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut signals = Signals::new()?;
    let number = async {
        tokio::select! {
            _ = signals.interrupt.recv() => SignalKind::interrupt(),
            _ = signals.terminate.recv() => SignalKind::terminate(),
            _ = signals.hang_up.recv() => SignalKind::hangup(),
        }
    };
    tokio::select! {
        done = work => done,
        signal = number => Err(Interrupted { signal: signal.as_raw_value() }.into()),
    }
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

    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}
