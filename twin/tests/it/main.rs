//! The twin's promises, one file for each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod directory;
mod fetch;
mod index;
mod lease;
mod names;
mod owner;
mod policy;
mod put_again;
mod proof;
mod recover;
mod small_cluster;
mod store;
mod streamed;
mod telling;
mod testdata;
mod unfinished;
