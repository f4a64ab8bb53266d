//! End to end in one process: owner, origins, edges and real sockets, judged by curl, dig, Chromium, `WebKit` and
//! ffprobe. And the same with many processes, while the machine under them fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests of machines tell what they saw")]

mod abuse;
mod browser;
mod catalog;
mod certificates;
mod changes;
mod clocks;
mod demo;
mod disk;
mod docs;
mod driven;
mod faults;
mod handover;
mod links;
mod load;
mod logs;
mod losses;
mod made;
mod operator;
mod pages;
mod partition;
mod players;
mod refused;
mod region;
mod restore;
mod samples;
mod secrecy;
mod tier;
mod traces;
mod visits;
mod webkit;
mod wires;
