//! The signals that end a program: Ctrl-C, SIGTERM, SIGHUP. The first asks it to end its network and to remove its
//! folder; Ctrl-C or SIGTERM after that ends it at once.
//!
//! A separate thread waits for them, so that the second one works whatever the program is busy with.

use std::{fmt, future::Future, process, thread};

use anyhow::{Context, Result};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal as Stream, SignalKind, signal},
    sync::watch,
};

/// A signal that ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal is gone.
    HangUp,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: what `kill` and service managers send.
    Terminate,
}

/// The program was told to end before it had done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ended by {signal} before it was done")]
pub struct Interrupted {
    /// What told it.
    pub signal: Signal,
}

/// The first signal since [`Self::catch`], if one has come.
#[derive(Debug, Clone)]
pub struct Signals(watch::Receiver<Option<Signal>>);

impl Signal {
    /// Returns the exit code of a program that a signal ended, as shells report it: 128 plus the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HangUp => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

impl Signals {
    /// Starts catching signals.
    ///
    /// # Errors
    /// When the system does not let signals be caught, or cannot start a thread.
    pub fn catch() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build().context("signals cannot be awaited")?;
        let streams = runtime.block_on(async { Streams::new() })?;
        let (first, told) = watch::channel(None);
        let watcher = thread::Builder::new().name("signals".to_owned());
        watcher.spawn(move || runtime.block_on(streams.watch(&first))).context("signals cannot be awaited")?;
        Ok(Self(told))
    }

    /// Waits for the first signal. Cancel safe.
    pub async fn first(&mut self) -> Signal {
        match self.0.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            // The sender is dropped only when the program ends.
            _ => std::future::pending().await,
        }
    }

    /// Runs some work unless a signal comes first. Then the work is dropped.
    ///
    /// # Errors
    /// [`Interrupted`], or why the work failed.
    pub async fn unless_told<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            signal = self.first() => Err(Interrupted { signal }.into()),
        }
    }

    /// Runs some work on its own runtime unless a signal comes first. Returns when all of the work has ended.
    ///
    /// # Errors
    /// [`Interrupted`], or why the work failed.
    pub fn run<T>(mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = Runtime::new().context("the runtime does not start")?;
        runtime.block_on(self.unless_told(work))
    }
}

/// The streams of the three signals.
struct Streams {
    hang_up: Stream,
    interrupt: Stream,
    terminate: Stream,
}

impl Streams {
    /// Starts catching. Must be called within a runtime.
    fn new() -> Result<Self> {
        let stream = |kind, name| signal(kind).with_context(|| format!("{name} cannot be awaited"));
        Ok(Self {
            hang_up: stream(SignalKind::hangup(), Signal::HangUp)?,
            interrupt: stream(SignalKind::interrupt(), Signal::Interrupt)?,
            terminate: stream(SignalKind::terminate(), Signal::Terminate)?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hang_up.recv() => Signal::HangUp,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }

    /// Reports the first signal, and ends the program at the next SIGINT or SIGTERM. A later SIGHUP is ignored, because
    /// a terminal that closes sends two: one from its shell and one from the kernel.
    async fn watch(mut self, first: &watch::Sender<Option<Signal>>) {
        first.send_replace(Some(self.next().await));
        loop {
            match self.next().await {
                Signal::HangUp => {}
                signal => process::exit(i32::from(signal.exit_code())),
            }
        }
    }
}
