//! The whole road in one process: owner, origins, edges, real sockets, judged by curl, dig, Chromium and ffprobe.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod browser;
mod changes;
mod faults;
mod made;
mod secrecy;
