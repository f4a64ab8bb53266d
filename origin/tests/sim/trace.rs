//! What happened, one line for each event: two runs of one seed must agree in all of it.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard},
};

use tokio::time::Instant;

/// Lines of one run, and what in them must not have been.
pub(crate) struct Trace {
    began: Instant,
    lines: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
}

impl Trace {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), lines: Mutex::default(), violations: Mutex::default() }
    }

    /// Milliseconds of virtual time since the beginning.
    pub(crate) fn now_ms(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    pub(crate) fn note(&self, event: impl Display) {
        lock(&self.lines).push(format!("{:>7} {event}", self.now_ms()));
    }

    /// Notes that something that must always hold did not.
    pub(crate) fn violated(&self, what: impl Display) {
        self.note(format_args!("VIOLATED {what}"));
        lock(&self.violations).push(format!("at {} ms: {what}", self.now_ms()));
    }

    /// Ends the run: all lines, and what was violated.
    pub(crate) fn take(&self) -> (Vec<String>, Vec<String>) {
        (std::mem::take(&mut *lock(&self.lines)), std::mem::take(&mut *lock(&self.violations)))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
