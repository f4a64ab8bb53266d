//! The API as its callers see it, over real connections, in front of a twin with eight origins in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod attack;
mod cars;
mod client;
mod console;
mod files;
mod judged;
mod lasting;
mod nft;
mod owner;
mod pins;
mod service;
mod shares;
mod tls;
mod tus;
