//! What the origin counts, in the OpenMetrics text format. No label ever holds an object, a locator or an address.

use std::sync::atomic::{AtomicU64, Ordering};

use client::{LOG_LINES_LOST, SPANS_LOST, SPANS_SENT};
use format::wire::Survey;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::catalog::RepairQueue;

/// A request by what it asked and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answered {
    /// The route's pattern.
    pub(crate) route: String,
    /// HTTP method.
    pub(crate) method: &'static str,
    /// HTTP status.
    pub(crate) status: u16,
}

/// What did not verify.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Failed {
    /// `shard`, `record`, `lease`, `policy`, `blob`.
    pub(crate) what: &'static str,
}

/// Objects of one margin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Margin {
    /// Columns that may still be lost; below zero the object cannot be read.
    margin: i64,
}

/// A gauge of bytes, positions or times, none of which is below zero.
type ByteGauge = Gauge<u64, AtomicU64>;

/// The counters of one origin.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<Answered, Counter>,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) verify_failures: Family<Failed, Counter>,
    pub(crate) handshake_failures: Counter,
    pub(crate) connections: Gauge,
    pub(crate) uploads: Gauge,
    pub(crate) shards: ByteGauge,
    pub(crate) shard_bytes: ByteGauge,
    pub(crate) disk_free_bytes: ByteGauge,
    pub(crate) feed_position: ByteGauge,
    pub(crate) scans: Counter,
    pub(crate) repaired_shards: Counter,
    pub(crate) repairs_failed: Counter,
    pub(crate) repair_read_bytes: Counter,
    pub(crate) repair_written_bytes: Counter,
    objects: Family<Margin, ByteGauge>,
    stored_bytes: ByteGauge,
    repair_backlog_bytes: ByteGauge,
    balancing: ByteGauge,
    given_up: ByteGauge,
    pub(crate) scrubbed_bytes: Counter,
    pub(crate) scrub_mended: Counter,
    pub(crate) scrub_quarantined: Counter,
    pub(crate) scrubbed_since: ByteGauge,
    /// Seconds since 1970.
    pub(crate) certificate_ends: ByteGauge,
    log_lines_lost: Counter,
    spans_sent: Counter,
    spans_lost: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("evernear_origin"),
            requests: Family::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            verify_failures: Family::default(),
            handshake_failures: Counter::default(),
            connections: Gauge::default(),
            uploads: Gauge::default(),
            shards: Gauge::default(),
            shard_bytes: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            feed_position: Gauge::default(),
            scans: Counter::default(),
            repaired_shards: Counter::default(),
            repairs_failed: Counter::default(),
            repair_read_bytes: Counter::default(),
            repair_written_bytes: Counter::default(),
            objects: Family::default(),
            stored_bytes: Gauge::default(),
            repair_backlog_bytes: Gauge::default(),
            balancing: Gauge::default(),
            given_up: Gauge::default(),
            scrubbed_bytes: Counter::default(),
            scrub_mended: Counter::default(),
            scrub_quarantined: Counter::default(),
            scrubbed_since: Gauge::default(),
            certificate_ends: Gauge::default(),
            log_lines_lost: Counter::default(),
            spans_sent: Counter::default(),
            spans_lost: Counter::default(),
        };
        let to = &mut metrics.registry;
        to.register("requests", "Requests answered", metrics.requests.clone());
        to.register("received_bytes", "Bytes of request bodies", metrics.bytes_in.clone());
        to.register("sent_bytes", "Bytes of shard reads", metrics.bytes_out.clone());
        to.register(
            "verify_failures",
            "What peers sent or the disk held and did not verify",
            metrics.verify_failures.clone(),
        );
        to.register(
            "handshake_failures",
            "Connections that did not get through TLS",
            metrics.handshake_failures.clone(),
        );
        to.register(
            "node_certificate_expiry_timestamp_seconds",
            "When the certificate of this node ends",
            metrics.certificate_ends.clone(),
        );
        to.register("connections", "Connections open", metrics.connections.clone());
        to.register("uploads", "Upload sessions open", metrics.uploads.clone());
        to.register("shards", "Shards held", metrics.shards.clone());
        to.register("shard_bytes", "Bytes of the shards held", metrics.shard_bytes.clone());
        to.register("disk_free_bytes", "Bytes that shards may still take", metrics.disk_free_bytes.clone());
        to.register("feed_position", "Last change applied to the own disk", metrics.feed_position.clone());
        to.register("scans", "Walks over all objects that this node finished", metrics.scans.clone());
        to.register("repaired_shards", "Shards this node made again or moved", metrics.repaired_shards.clone());
        to.register("repairs_failed", "Repairs that this node tried in vain", metrics.repairs_failed.clone());
        to.register("repair_read_bytes", "Bytes of strips read for repair", metrics.repair_read_bytes.clone());
        to.register("repair_written_bytes", "Bytes of strips made or moved", metrics.repair_written_bytes.clone());
        to.register(
            "objects",
            "Objects by how many columns each may still lose, by the last whole walk; none at origins that do not walk",
            metrics.objects.clone(),
        );
        to.register(
            "stored_bytes",
            "Bytes of all columns that can be read, by the last whole walk; 0 at origins that do not walk",
            metrics.stored_bytes.clone(),
        );
        to.register(
            "repair_backlog_bytes",
            "Bytes of shards that wait to be made or moved, or are; 0 at origins that do not walk",
            metrics.repair_backlog_bytes.clone(),
        );
        to.register(
            "balancing",
            "Objects of the backlog that move only so that nodes are filled alike; 0 at origins that do not walk",
            metrics.balancing.clone(),
        );
        to.register(
            "repairs_given_up",
            "Objects whose repair was given up, at the node that walks; `evernear repair status` says why",
            metrics.given_up.clone(),
        );
        to.register("scrubbed_bytes", "Bytes of shards hashed again", metrics.scrubbed_bytes.clone());
        to.register("scrub_mended", "Damaged shards whose sidecars were written anew", metrics.scrub_mended.clone());
        to.register("scrub_quarantined", "Damaged shards taken out of service", metrics.scrub_quarantined.clone());
        to.register(
            "scrubbed_since_timestamp_seconds",
            "Every shard was hashed after this time; 0 before the first whole pass",
            metrics.scrubbed_since.clone(),
        );
        to.register("log_lines_lost", "Lines of the log that it took too slowly", metrics.log_lines_lost.clone());
        to.register("spans_sent", "Spans of traces that the collector took", metrics.spans_sent.clone());
        to.register(
            "spans_lost",
            "Spans of traces lost because too many waited or the collector did not take them",
            metrics.spans_lost.clone(),
        );
        metrics
    }

    pub(crate) fn failed(&self, what: &'static str) {
        self.verify_failures.get_or_create(&Failed { what }).inc();
    }

    /// Shows what a whole walk over all objects counted.
    pub(crate) fn survey(&self, survey: &Survey) {
        self.objects.clear();
        for (margin, objects) in &survey.objects {
            self.objects.get_or_create(&Margin { margin: i64::from(*margin) }).set(*objects);
        }
        self.stored_bytes.set(survey.stored_bytes);
    }

    /// Shows how much repair there is to do.
    pub(crate) fn backlog(&self, queue: &RepairQueue) {
        self.repair_backlog_bytes.set(queue.waiting_bytes.saturating_add(queue.running_bytes));
        self.balancing.set(queue.balancing);
        self.given_up.set(queue.dead);
    }

    /// Shows nothing of the cluster's objects any more: another origin walks and counts.
    pub(crate) fn forget_scan(&self) {
        self.objects.clear();
        self.stored_bytes.set(0);
        self.backlog(&RepairQueue::default());
    }

    pub(crate) fn text(&self) -> String {
        for (counter, count) in
            [(&self.log_lines_lost, &LOG_LINES_LOST), (&self.spans_sent, &SPANS_SENT), (&self.spans_lost, &SPANS_LOST)]
        {
            counter.inner().store(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_dashboard_asks_only_for_what_is_exported() {
        let metrics = Metrics::new();
        // A family without a member writes no line.
        metrics.requests.get_or_create(&Answered { route: "/health".to_owned(), method: "GET", status: 200 }).inc();
        metrics.failed("shard");
        metrics.objects.get_or_create(&Margin { margin: 2 }).set(1);
        let text = metrics.text();
        let exported: HashSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let dashboard = include_str!("../../deploy/grafana-origin.json");
        let words = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<&str> = words.filter(|word| word.starts_with("evernear_")).collect();
        assert!(!asked.is_empty());
        for name in asked {
            assert!(exported.contains(name), "{name} is not in {text}");
        }
    }
}
