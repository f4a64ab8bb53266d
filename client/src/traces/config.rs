//! The table `[traces]` of a node's configuration, checked as it is read.

use http::Uri;
use serde::Deserialize;

/// One request of a hundred.
const RATIO: f64 = 0.01;
/// Some 2 MiB of spans.
const QUEUE_SPANS_MAX: usize = 2048;
/// The most that may wait: some 64 MiB.
const QUEUE_SPANS_BOUND: usize = 65_536;

/// Where traces go, and of how many requests there are any.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct TracesConfig {
    endpoint: Uri,
    ratio: f64,
    queue_spans_max: usize,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The collector's address for traces by OTLP over HTTP, for example `http://127.0.0.1:4318/v1/traces`.
    endpoint: String,
    /// The share of requests that are traced, from 0 to 1. Absent: 0.01.
    #[serde(default = "default_ratio")]
    ratio: f64,
    /// Spans that wait for the collector at most; more are lost and counted. Absent: 2,048.
    #[serde(default = "default_queue_spans_max")]
    queue_spans_max: usize,
}

/// Why the table cannot be used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error("`traces.endpoint` is no address like http://127.0.0.1:4318/v1/traces")]
    Endpoint,
    #[error("`traces.ratio` is {found}, but must be from 0 to 1")]
    Ratio { found: f64 },
    #[error("`traces.queue_spans_max` is {found}, but must be from 1 to {QUEUE_SPANS_BOUND}")]
    Queue { found: usize },
}

impl TracesConfig {
    /// Returns the collector's address.
    #[must_use]
    pub fn endpoint(&self) -> &Uri {
        &self.endpoint
    }

    pub(super) fn queue_spans_max(&self) -> usize {
        self.queue_spans_max
    }

    /// Returns below which of 2^63 equally likely draws a request is traced: none for 0, all for 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ratio was checked: 2^63 at most, and not below zero"
    )]
    pub(super) fn sampled(&self) -> u64 {
        (self.ratio * 2_f64.powi(63)) as u64
    }
}

impl TryFrom<Written> for TracesConfig {
    type Error = TableError;

    fn try_from(Written { endpoint, ratio, queue_spans_max }: Written) -> Result<Self, TableError> {
        let endpoint: Uri = endpoint.parse().map_err(|_| TableError::Endpoint)?;
        let is_http = matches!(endpoint.scheme_str(), Some("http" | "https"));
        // A password would stand in errors of the client.
        let has_host = endpoint.authority().is_some_and(|at| !at.host().is_empty() && !at.as_str().contains('@'));
        if !(is_http && has_host) {
            return Err(TableError::Endpoint);
        }
        if !(0.0..=1.0).contains(&ratio) {
            return Err(TableError::Ratio { found: ratio });
        }
        if !(1..=QUEUE_SPANS_BOUND).contains(&queue_spans_max) {
            return Err(TableError::Queue { found: queue_spans_max });
        }
        Ok(Self { endpoint, ratio, queue_spans_max })
    }
}

fn default_ratio() -> f64 {
    RATIO
}

fn default_queue_spans_max() -> usize {
    QUEUE_SPANS_MAX
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(more: Value) -> Result<TracesConfig, String> {
        let mut table = json!({ "endpoint": "http://127.0.0.1:4318/v1/traces" });
        let Value::Object(more) = more else { panic!("no table: {more}") };
        table.as_object_mut().unwrap().extend(more);
        serde_json::from_value(table).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_has_its_bounds() {
        let least = read(json!({})).unwrap();
        assert_eq!((least.ratio, least.queue_spans_max), (0.01, 2048));
        for good in [
            json!({ "ratio": 0 }),
            json!({ "ratio": 1 }),
            json!({ "queue_spans_max": 1 }),
            json!({ "queue_spans_max": 65_536 }),
            json!({ "endpoint": "https://collector.example/v1/traces" }),
        ] {
            assert!(read(good.clone()).is_ok(), "{good}");
        }
        for (bad, says) in [
            (json!({ "ratio": -0.001 }), "from 0 to 1"),
            (json!({ "ratio": 1.001 }), "from 0 to 1"),
            (json!({ "queue_spans_max": 0 }), "from 1 to 65536"),
            (json!({ "queue_spans_max": 65_537 }), "from 1 to 65536"),
            (json!({ "endpoint": "127.0.0.1:4318" }), "is no address"),
            (json!({ "endpoint": "grpc://127.0.0.1:4317" }), "is no address"),
            (json!({ "endpoint": "/v1/traces" }), "is no address"),
            (json!({ "endpoint": "http://me:secret@127.0.0.1/" }), "is no address"),
            (json!({ "endpiont": "http://127.0.0.1/" }), "unknown field"),
        ] {
            let refused = read(bad.clone()).unwrap_err();
            assert!(refused.contains(says) && !refused.contains("secret"), "{bad}: {refused}");
        }
    }

    #[test]
    fn the_ratio_is_the_share_of_draws() {
        let sampled = |ratio: f64| read(json!({ "ratio": ratio })).unwrap().sampled();
        assert_eq!((sampled(0.0), sampled(0.5), sampled(1.0)), (0, 1 << 62, 1 << 63));
        assert!(u64::MAX >> 1 < sampled(1.0), "1 takes every draw");
    }
}
