//! Scatter and gather together: objects on nodes in memory that are down, late, lying or gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod answers;
mod cluster;
mod contents;
mod mutations;
mod names;
mod neighbours;
mod reads;
mod repair;
mod shelf;
mod slow_link;
mod uploads;
