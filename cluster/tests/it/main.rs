//! The whole road in one process: owner, origins, edges, real sockets, judged by curl and dig.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod changes;
mod faults;
mod made;
mod secrecy;
