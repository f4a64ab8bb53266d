//! The origin from outside: its files, its catalog, and its API over real TLS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "long tests tell what they saw")]

mod api;
mod backup;
mod bucket;
mod catalog;
mod config;
mod copies;
mod corpus;
mod crash;
mod crash_states;
#[path = "../../../client/tests/it/described.rs"]
mod described;
mod foreign;
mod mount;
mod packs;
#[allow(dead_code, reason = "the cluster's tests use more of it")]
mod postgres;
mod rebuild;
mod repair;
mod retention;
mod s3;
mod sample;
mod scrub;
mod space;
mod store;
mod strangers;
mod world;
