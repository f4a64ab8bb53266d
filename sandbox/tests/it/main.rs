//! The sandbox from outside: ready-made policies, hostile ones, and remembered decisions.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod admission;
mod chain;
mod config;
mod corpus;
mod guard;
mod guest;
mod keys;
mod limits;
mod memory;
mod prebuilt;
mod world;
