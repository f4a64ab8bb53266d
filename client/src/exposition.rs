//! The text formats of a node's metrics: OpenMetrics, as the library writes it, or the older Prometheus text format.
//!
//! In OpenMetrics, the samples of a counter end with `_total`, but its description has no such suffix. A reader of the
//! older format takes such a description for another metric, so the counter has no type and no help. Therefore each
//! reader gets the format that it asks for (content negotiation).

use std::{collections::HashSet, sync::atomic::AtomicU64};

/// Lines that this process's log has lost because it took them too slowly; part of every node's metrics.
pub static LOG_LINES_LOST: AtomicU64 = AtomicU64::new(0);

/// The content type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the older text.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics in the format that one reader accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Exposition {
    /// Formats an OpenMetrics text for a reader with this `Accept` header. A header that names OpenMetrics gets it. All
    /// others get the older text, which `curl` and browsers also show.
    #[must_use]
    pub fn of(openmetrics: String, accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            return Self { content_type: OPENMETRICS, body: openmetrics };
        }
        let counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
        let counters: HashSet<String> = openmetrics.lines().filter_map(counter).collect();
        Self { content_type: TEXT, body: openmetrics.lines().filter_map(|line| older(line, &counters)).collect() }
    }
}

/// Rewrites a line for the older text. A counter's description gets the name of its samples. Returns `None` for a line
/// that the older text does not have.
fn older(line: &str, counters: &HashSet<String>) -> Option<String> {
    let Some(comment) = line.strip_prefix("# ") else { return Some(format!("{line}\n")) };
    let (word, about) = comment.split_once(' ')?;
    let (name, says) = about.split_once(' ')?;
    match word {
        "HELP" | "TYPE" if counters.contains(name) => Some(format!("# {word} {name}_total {says}\n")),
        "HELP" | "TYPE" => Some(format!("{line}\n")),
        // `UNIT` and `EOF` lines.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "# HELP a_hits Blocks found.\n# TYPE a_hits counter\na_hits_total{kind=\"# TYPE\"} 3\n\
        # HELP a_bytes Bytes.\n# TYPE a_bytes gauge\n# UNIT a_bytes bytes\na_bytes 1\n# EOF\n";

    #[test]
    fn each_reader_gets_the_text_that_it_asks_for() {
        // The header that Prometheus 2 and 3 send.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text",
        ] {
            let got = Exposition::of(OPEN.to_owned(), Some(accept));
            assert_eq!(got, Exposition { content_type: OPENMETRICS, body: OPEN.to_owned() });
        }
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
            let got = Exposition::of(OPEN.to_owned(), accept);
            assert_eq!(got.content_type, TEXT);
            assert_eq!(
                got.body,
                "# HELP a_hits_total Blocks found.\n# TYPE a_hits_total counter\na_hits_total{kind=\"# TYPE\"} 3\n\
                 # HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 1\n"
            );
        }
    }
}
