//! What libraries of the doors may log. A label is a key, and they write whole questions and requests into their logs,
//! and the address of a viewer who moves.

use tracing::{Level, Metadata};

/// Crates that see viewers' questions, requests and addresses.
const SEE_VIEWERS: [&str; 4] = ["hickory", "pingora", "h2", "quinn"];

/// Returns whether an event may be logged, whatever the operator's filter says: of the crates that see viewers, errors
/// only.
///
/// Every program with an edge in it puts this before its own filter.
#[must_use]
pub fn may_log(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::ERROR || !SEE_VIEWERS.iter().any(|name| metadata.target().starts_with(name))
}
