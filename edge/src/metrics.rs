//! What an edge counts, as Prometheus text. Names never carry labels of objects.

mod answers;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use client::{LOG_LINES_LOST, SPANS_LOST, SPANS_SENT};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub(crate) use self::answers::Answers;

/// Labels of a DNS answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DnsLabels {
    /// The type asked for, "other" for the rare ones.
    pub(crate) kind: &'static str,
    /// The rcode.
    pub(crate) rcode: &'static str,
}

/// Labels of a strip that another edge asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StripLabels {
    /// "held", "pulled", "busy" or "missing".
    pub(crate) result: &'static str,
}

/// All counters of one edge.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) dns_answers: Family<DnsLabels, Counter>,
    pub(crate) dns_failed_open: Counter,
    pub(crate) dns_connections_refused: Counter,
    pub(crate) answers: Arc<Answers>,
    pub(crate) http_cut: Counter,
    pub(crate) http_connections: Gauge,
    pub(crate) http_connections_refused: Counter,
    pub(crate) http_connections_given_up: Counter,
    pub(crate) block_hits: Counter,
    pub(crate) block_misses: Counter,
    pub(crate) cache_bytes: Gauge<u64, AtomicU64>,
    pub(crate) disk_hits: Counter,
    pub(crate) disk_writes: Counter,
    pub(crate) disk_faults: Counter,
    pub(crate) fills: Counter,
    pub(crate) fills_recovered: Counter,
    pub(crate) fills_turned_away: Counter,
    pub(crate) fill_bytes: Counter,
    pub(crate) neighbour_bytes: Counter,
    pub(crate) strips_brought: Family<StripLabels, Counter>,
    pub(crate) fill_faults: Counter,
    pub(crate) prefetches: Counter,
    pub(crate) changes: Counter,
    pub(crate) purges: Counter,
    pub(crate) disk_sweeps: Counter,
    pub(crate) change_faults: Counter,
    pub(crate) policy_faults: Counter,
    pub(crate) denylist_faults: Counter,
    /// Seconds since 1970; 0 before the first.
    pub(crate) announced: Gauge<u64, AtomicU64>,
    pub(crate) certificate_faults: Counter,
    /// Seconds since 1970; 0 before the first.
    pub(crate) certificate_ends: Gauge<u64, AtomicU64>,
    /// Seconds since 1970; 0 where the edge has no certificate of its own.
    pub(crate) node_certificate_ends: Gauge<u64, AtomicU64>,
    log_lines_lost: Counter,
    spans_sent: Counter,
    spans_lost: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut it = Self {
            registry: Registry::with_prefix("evernear_edge"),
            dns_answers: Family::default(),
            dns_failed_open: Counter::default(),
            dns_connections_refused: Counter::default(),
            answers: Arc::default(),
            http_cut: Counter::default(),
            http_connections: Gauge::default(),
            http_connections_refused: Counter::default(),
            http_connections_given_up: Counter::default(),
            block_hits: Counter::default(),
            block_misses: Counter::default(),
            cache_bytes: Gauge::default(),
            disk_hits: Counter::default(),
            disk_writes: Counter::default(),
            disk_faults: Counter::default(),
            fills: Counter::default(),
            fills_recovered: Counter::default(),
            fills_turned_away: Counter::default(),
            fill_bytes: Counter::default(),
            neighbour_bytes: Counter::default(),
            strips_brought: Family::default(),
            fill_faults: Counter::default(),
            prefetches: Counter::default(),
            changes: Counter::default(),
            purges: Counter::default(),
            disk_sweeps: Counter::default(),
            change_faults: Counter::default(),
            policy_faults: Counter::default(),
            denylist_faults: Counter::default(),
            announced: Gauge::default(),
            certificate_faults: Counter::default(),
            certificate_ends: Gauge::default(),
            node_certificate_ends: Gauge::default(),
            log_lines_lost: Counter::default(),
            spans_sent: Counter::default(),
            spans_lost: Counter::default(),
        };
        let to = &mut it.registry;
        to.register("dns_answers", "DNS answers by type and rcode", it.dns_answers.clone());
        to.register("dns_failed_open", "DNS answers given without knowing the object", it.dns_failed_open.clone());
        to.register("dns_connections_refused", "DNS connections closed at a limit", it.dns_connections_refused.clone());
        to.register_collector(Box::new(Arc::clone(&it.answers)));
        to.register("http_cut", "Bodies cut because the rest could not be had", it.http_cut.clone());
        to.register("http_connections", "Open connections", it.http_connections.clone());
        to.register(
            "http_connections_given_up",
            "Connections that waited for a request and gave way at the limit of all",
            it.http_connections_given_up.clone(),
        );
        to.register("http_connections_refused", "Connections closed at a limit", it.http_connections_refused.clone());
        to.register("block_hits", "Blocks found in the cache", it.block_hits.clone());
        to.register("block_misses", "Blocks fetched", it.block_misses.clone());
        to.register("cache_bytes", "Bytes of blocks in the cache", it.cache_bytes.clone());
        to.register("disk_hits", "Strips found on the disk", it.disk_hits.clone());
        to.register("disk_writes", "Strips given to the disk", it.disk_writes.clone());
        to.register("disk_faults", "Strips on the disk that could not be read or were wrong", it.disk_faults.clone());
        to.register("fills", "Reads of a stripe, from the disk or from origins", it.fills.clone());
        to.register("fills_recovered", "Reads that needed the erasure code", it.fills_recovered.clone());
        to.register(
            "fills_turned_away",
            "Reads of a stripe for which there was no room in time",
            it.fills_turned_away.clone(),
        );
        to.register("fill_bytes", "Bytes read from origins for viewers of this edge", it.fill_bytes.clone());
        to.register(
            "neighbour_bytes",
            "Bytes that other edges of the region brought from origins",
            it.neighbour_bytes.clone(),
        );
        to.register(
            "strips_brought",
            "Strips brought for other edges of the region: held, pulled from an origin, or not for want of room or strip",
            it.strips_brought.clone(),
        );
        to.register("fill_faults", "Reads of a stripe that failed", it.fill_faults.clone());
        to.register("prefetches", "Reads of a stripe begun for the index at the end of a film", it.prefetches.clone());
        to.register("changes", "Changes applied from the feed", it.changes.clone());
        to.register("purges", "Purges applied from the feed", it.purges.clone());
        to.register("disk_sweeps", "Purged objects swept off the disk", it.disk_sweeps.clone());
        to.register("change_faults", "Failed asks for changes", it.change_faults.clone());
        to.register(
            "policy_faults",
            "Requests refused because the policy could not be had or gave no verdict",
            it.policy_faults.clone(),
        );
        to.register(
            "denylist_faults",
            "Changed denylists that could not be read; the ones before them stay",
            it.denylist_faults.clone(),
        );
        to.register(
            "announced_timestamp_seconds",
            "When an origin last took this edge's announcement",
            it.announced.clone(),
        );
        to.register(
            "certificate_faults",
            "Failed tries to share or renew the certificate of [https.acme], or to read that of [https] again",
            it.certificate_faults.clone(),
        );
        to.register(
            "node_certificate_expiry_timestamp_seconds",
            "When the certificate of this edge towards origins ends",
            it.node_certificate_ends.clone(),
        );
        to.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate that viewers see ends; 0 while there is none",
            it.certificate_ends.clone(),
        );
        to.register("log_lines_lost", "Lines of the log that it took too slowly", it.log_lines_lost.clone());
        to.register("spans_sent", "Spans of traces that the collector took", it.spans_sent.clone());
        to.register(
            "spans_lost",
            "Spans of traces lost because too many waited or the collector did not take them",
            it.spans_lost.clone(),
        );
        it
    }

    /// Writes all of it as Prometheus text.
    pub(crate) fn text(&self) -> String {
        for (counter, count) in
            [(&self.log_lines_lost, &LOG_LINES_LOST), (&self.spans_sent, &SPANS_SENT), (&self.spans_lost, &SPANS_LOST)]
        {
            counter.inner().store(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[test]
    fn counters_are_written() {
        let metrics = Metrics::new();
        metrics.dns_failed_open.inc();
        let text = metrics.text();
        assert!(text.contains("evernear_edge_dns_failed_open_total 1"), "{text}");
    }

    #[test]
    fn the_dashboard_asks_only_for_what_is_exported() {
        let metrics = Metrics::new();
        // A family without an answer writes no line.
        metrics.dns_answers.get_or_create(&DnsLabels { kind: "A", rcode: "NOERROR" }).inc();
        metrics.answers.count(200, "hit", 1, Duration::ZERO);
        let text = metrics.text();
        let exported: HashSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let dashboard = include_str!("../../deploy/grafana-edge.json");
        let words = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<&str> = words.filter(|word| word.starts_with("evernear_")).collect();
        assert!(!asked.is_empty());
        for name in asked {
            assert!(exported.contains(name), "{name} is not in {text}");
        }
    }
}
