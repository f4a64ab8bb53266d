//! The origin from outside: its files, its catalog, and its API over real TLS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "long tests tell what they saw")]

mod api;
mod backup;
mod bucket;
mod catalog;
mod config;
mod conformance;
mod copies;
mod corpus;
mod crash;
mod crash_states;
mod foreign;
mod moving;
mod packs;
mod rebuild;
mod repair;
mod retention;
mod s3;
mod scrub;
mod slow_link;
mod space;
mod store;
mod strangers;
mod testdata;
mod upkeep;
mod uploads;
mod world;
