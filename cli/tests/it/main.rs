//! The program as a person or a script uses it: help, exit codes, JSON, and one end-to-end test with real nodes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod cluster;
mod denylist;
mod deploy;
mod help;
mod killed;
mod links;
mod owner;
mod pages;
mod policy;
mod profiles;
mod program;
mod reference;
mod resume;
mod road;
mod tokens;
mod up;
