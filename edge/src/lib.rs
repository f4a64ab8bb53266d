//! The edge node: answers DNS and HTTP for viewers and holds nothing durable.
//!
//! ```text
//! DNS question -> dns (label checked) -> store::objects -> policy (weights) -> dns::steer -> nearest allowed edges
//! HTTP request -> door -> answer (framing, path) -> store::objects -> policy (the owner's verdict)
//!              -> answer (conditions, range) -> store::cache | store::miss (origins, once for all) -> door
//! control: change feed, announcements, node list, purges, the zone's certificate
//! ```
//!
//! Rooms, and who may use whom: ARCHITECTURE.md. What the rooms share, `node` has.
//!
//! Keeps true: bytes come from [`client::Reader`] alone, which verified them; nobody is served while the owner's policy
//! cannot be asked; a body is whole or its connection is cut. Logs: the target `access` has one event for each HTTP
//! answer, with locators and cut addresses. hickory-server logs whole questions at `info`, and a label is a key:
//! whoever sets up telemetry puts [`may_log`] before its own filter.

mod answer;
mod clock;
pub mod config;
mod control;
mod dns;
mod door;
mod edge;
pub mod error;
mod listen;
mod log;
mod metrics;
mod net;
mod node;
mod peers;
mod policy;
mod secret;
mod store;
mod zone;

pub use answer::agreement::fuzz as fuzz_request_head;
pub use config::{CertificateFiles, Config, ConfigError};
pub use door::Terminator;
pub use edge::{Checked, Edge, Parts, Running, StartError};
pub use error::Fault;
pub use listen::{
    certificate::{Certificate, CertificateError, Looked, PairError},
    sockets::Sockets,
};
pub use log::may_log;
pub use policy::{
    ask::{content_kind, policy_place},
    denylist::{Denylist, DenylistError, RuleError, denylist_rule, fuzz as fuzz_denylist},
    library::{LoadedPolicy, PolicyError, PolicyLibrary},
    places,
    token::{Terms, fuzz as fuzz_link_token},
};
pub use secret::{LinkKey, SecretError, link_key};
pub use store::{disk::DiskError, film::fuzz as fuzz_film_index};
pub use zone::{Zone, ZoneError};
