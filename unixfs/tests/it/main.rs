//! The promises of the crate, tested from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(unreachable_pub, reason = "a file is shared with other crates")]

mod corpus;
mod golden;
mod store;
mod trees;
mod walk;

/// What `testing` shares, without all that is under it.
#[path = "../../../testing/src/replay.rs"]
mod replay;
