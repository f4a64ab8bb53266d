//! What tests of several crates share: nodes in memory, faults on the way to them, what every node promises, objects,
//! leases and nodes made up, servers and mounts, and waits that end.
//!
//! Place in the flow: above `client`, below every test. No crate that ships has it among its dependencies (`./x tidy`
//! looks). The unit tests of `format` and `client` cannot use it: those crates would be there twice, with types of
//! their own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

pub mod conformance;
pub mod mount;
pub mod postgres;
pub mod siege;

mod described;
mod encoded;
mod equivocal;
mod faulty;
mod heard;
mod intercept;
mod lease;
mod memory;
mod mutation;
mod node;
mod noise;
mod origin_config;
mod pebble;
mod port;
mod replay;
mod sample;
mod until;
mod uplink;

pub use described::counters;
pub use encoded::{Encoded, attributes};
pub use equivocal::equivocal;
pub use faulty::{Fault, Faults, FaultyTransport};
pub use heard::Heard;
pub use intercept::{Call, Intercept, Intercepted};
pub use lease::lease;
pub use memory::MemoryTransport;
pub use mutation::{Mutator, mutations};
pub use node::{node, place};
pub use noise::{noise, noise_of};
pub use origin_config::origin_config;
pub use pebble::Pebble;
pub use port::free_port;
pub use replay::replay;
pub use sample::{Sample, read};
pub use until::{until, until_within};
pub use uplink::{Uplink, UplinkOptions};
