//! The edge node: answers DNS and HTTP for viewers and holds nothing durable.
//!
//! ```text
//! DNS question -> dns::question (label checked) -> objects -> policies (weights) -> steer -> nearest allowed edges
//! HTTP request -> http::request (framing) -> objects -> http::tree (path) -> decide (the owner's verdict)
//!              -> http::conditions, http::range -> cache | miss (origins, once for all) -> http::body
//! follow: change feed, announcements, node list
//! acme: the zone's certificate, shared by its edges through the origins
//! ```
//!
//! Keeps true: bytes come from [`client::Reader`] alone, which verified them; nobody is served while the owner's policy
//! cannot be asked; a body is whole or its connection is cut. Logs: the target `access` has one event for each HTTP
//! answer, with locators and cut addresses. hickory-server logs whole questions at `info`, and a label is a key:
//! whoever sets up telemetry puts [`may_log`] before its own filter.

pub mod config;
mod connections;
pub mod error;
pub mod places;
pub mod versions;
mod zone;

mod acme;
mod admin;
mod ask;
mod cache;
mod clock;
mod decide;
mod denylist;
mod disk;
mod dns;
mod edge;
mod follow;
mod gazetteer;
mod http;
mod index;
mod library;
mod log;
mod metrics;
mod miss;
mod names;
mod node;
mod objects;
mod policies;
mod purge;
mod records;
mod register;
mod secret;
mod sockets;
mod steer;
mod token;
mod watch;

pub use ask::{content_kind, policy_place};
pub use config::{Config, ConfigError};
pub use denylist::{Denylist, DenylistError, RuleError, denylist_rule, fuzz as fuzz_denylist};
pub use disk::DiskError;
pub use edge::{Checked, Edge, Parts, Running, StartError};
pub use error::Fault;
pub use http::{CertificateError, PairError, fuzz_request_head};
pub use library::{LoadedPolicy, PolicyError, PolicyLibrary};
pub use log::may_log;
pub use secret::{SecretError, link_key};
pub use sockets::Sockets;
pub use token::{LinkKey, Terms, fuzz as fuzz_link_token};
