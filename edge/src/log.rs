//! What libraries of the doors may log. A label is a key, and they write whole questions and requests into their logs.

use tracing::{Level, Metadata};

/// Crates that see viewers' questions and requests.
const SEE_LABELS: [&str; 3] = ["hickory", "pingora", "h2"];

/// Returns whether an event may be logged, whatever the operator's filter says: of the crates that see labels, errors only.
///
/// Every program with an edge in it puts this before its own filter.
#[must_use]
pub fn may_log(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::ERROR || !SEE_LABELS.iter().any(|name| metadata.target().starts_with(name))
}
