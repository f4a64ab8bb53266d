//! The promises of the format, tested from outside: golden vectors, losses, flipped bits, hostile bytes, a second
//! engine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod contents;
mod copies;
mod corpus;
mod engines;
mod flips;
mod golden;
mod hostile;
mod losses;
mod made;
mod rebuild;
mod streaming;
mod vectors;
