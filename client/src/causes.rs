//! An error with what it came of.

use std::error::Error;

/// Returns an error with all its causes in one line, for a field of the log: some formats of a log leave causes out.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let (mut said, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        said += &format!(": {cause}");
        next = cause.source();
    }
    said
}
