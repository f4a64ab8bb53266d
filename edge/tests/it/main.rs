//! One edge over nodes in memory, asked by other people's tools: `dig`, `curl`, and raw sockets where those are too
//! polite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod acme;
mod amplification;
mod certificates;
mod coding;
mod cut;
mod denylist;
mod disk;
mod dns;
mod ends;
mod fields;
mod film;
mod flood;
mod follow;
mod forged;
#[path = "../../../sandbox/tests/it/guest.rs"]
mod guest;
mod handover;
mod http;
mod http2;
mod http3;
mod https;
mod links;
mod log;
mod logs;
mod metrics;
mod names;
mod neighbour;
mod policy;
mod policy_faults;
mod programs;
mod purge;
mod ready;
mod redbot;
mod shares;
mod site;
mod slow;
mod smuggling;
mod stopped;
mod under_way;
mod vast;
mod verdicts;
