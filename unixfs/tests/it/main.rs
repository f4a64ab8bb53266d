//! The promises of the crate, tested from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod golden;
