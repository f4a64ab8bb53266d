//! An error with what it came of.

use std::error::Error;

/// Returns an error with all its causes in one line, for a field of the log: some formats of a log leave causes out.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
