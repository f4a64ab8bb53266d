//! The twin's promises, one file for each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod directory;
mod ending;
mod fetch;
mod index;
mod lease;
mod names;
mod owner;
mod policy;
mod proof;
mod put_again;
mod recover;
mod small_cluster;
mod store;
mod streamed;
mod telling;
mod testdata;
mod unfinished;
