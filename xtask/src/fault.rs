//! Why a chore stopped, and what the user does next.
//!
//! Place in the flow: the error of every chore; `main` prints it. Keeps true: every fault names a next step.

use std::fmt;

/// A chore that could not go on: what is wrong, and the next step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    what: String,
    next: String,
}

impl Fault {
    /// Makes a fault from what is wrong and the next step, both without a full stop.
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n  next: {}", self.what, self.next)
    }
}
