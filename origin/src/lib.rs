//! The origin node: stores shards, serves them with proofs, files records, and keeps the catalog.
//!
//! ```text
//! accept (TCP, mutual TLS, HTTP/2) -> api (routes, roles, refusals) -> upload -> store (files of this node)
//!                                                                   -> catalog (SQLite file of this machine, or PostgreSQL)
//! copies (follows the change feed)    upkeep (announces, sweeps)    feed (who waits for changes)
//! admin (health and metrics in clear)
//! scrub (hashes again)    repair (makes again what is lost)    reconcile (disk against catalog, at boot)
//! ```
//!
//! An origin sees ciphertext and hashes, never a key. It takes a shard only when every strip hashes into its row, and
//! the rows into the root that the object's public manifest names, and acknowledges it only when file, name and catalog
//! row are durable.

pub mod catalog;
pub mod config;
pub mod fuzz;
pub mod rebuild;
mod refusals;
pub mod store;

mod accept;
mod admin;
mod api;
mod clock;
mod codec;
mod copies;
mod feed;
mod intake;
mod leases;
mod metrics;
mod node;
mod peer;
mod reconcile;
mod repair;
mod retention;
mod run;
mod scrub;
mod upkeep;
mod upload;

pub use codec::CodecFault;
pub use config::Config;
pub use run::{Checked, Origin, Running, ScrubError, StartError, StrangeCatalog, Surroundings};
pub use scrub::Scrubbed;
