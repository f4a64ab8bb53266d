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
    registry::{Metric, Registry},
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
    pub(crate) dns_look_ups_turned_away: Counter,
    pub(crate) dns_weighings_turned_away: Counter,
    pub(crate) dns_connections_refused: Counter,
    pub(crate) answers: Arc<Answers>,
    pub(crate) accept_faults: Counter,
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
        let (mut registry, answers) = (Registry::with_prefix("evernear_edge"), Arc::<Answers>::default());
        registry.register_collector(Box::new(Arc::clone(&answers)));
        let to = &mut registry;
        Self {
            dns_answers: register(to, "dns_answers", "DNS answers by type and rcode"),
            dns_failed_open: register(to, "dns_failed_open", "DNS answers given without knowing the object"),
            dns_look_ups_turned_away: register(
                to,
                "dns_look_ups_turned_away",
                "Look-ups not begun for DNS, because too many were under way for all or for the asker's network",
            ),
            dns_weighings_turned_away: register(
                to,
                "dns_weighings_turned_away",
                "DNS answers without the owner's policy, because too many waited for all owners' or for this one's",
            ),
            dns_connections_refused: register(to, "dns_connections_refused", "DNS connections closed at a limit"),
            accept_faults: register(
                to,
                "accept_faults",
                "Times that the system gave a door no connection, for want of descriptors or memory",
            ),
            http_cut: register(to, "http_cut", "Bodies cut because the rest could not be had"),
            http_connections: register(to, "http_connections", "Open connections"),
            http_connections_given_up: register(
                to,
                "http_connections_given_up",
                "Connections that waited for a request and gave way at the limit of all",
            ),
            http_connections_refused: register(to, "http_connections_refused", "Connections closed at a limit"),
            block_hits: register(to, "block_hits", "Blocks found in the cache"),
            block_misses: register(to, "block_misses", "Blocks fetched"),
            cache_bytes: register(to, "cache_bytes", "Bytes of blocks in the cache"),
            disk_hits: register(to, "disk_hits", "Strips found on the disk"),
            disk_writes: register(to, "disk_writes", "Strips given to the disk"),
            disk_faults: register(to, "disk_faults", "Strips on the disk that could not be read or were wrong"),
            fills: register(to, "fills", "Reads of a stripe, from the disk or from origins"),
            fills_recovered: register(to, "fills_recovered", "Reads that needed the erasure code"),
            fills_turned_away: register(
                to,
                "fills_turned_away",
                "Reads of a stripe for which there was no room in time",
            ),
            fill_bytes: register(to, "fill_bytes", "Bytes read from origins for viewers of this edge"),
            neighbour_bytes: register(
                to,
                "neighbour_bytes",
                "Bytes that other edges of the region brought from origins",
            ),
            strips_brought: register(
                to,
                "strips_brought",
                "Strips brought for other edges of the region: held, pulled from an origin, or not for want of room or strip",
            ),
            fill_faults: register(to, "fill_faults", "Reads of a stripe that failed"),
            prefetches: register(to, "prefetches", "Reads of a stripe begun for the index at the end of a film"),
            changes: register(to, "changes", "Changes applied from the feed"),
            purges: register(to, "purges", "Purges applied from the feed"),
            disk_sweeps: register(to, "disk_sweeps", "Purged objects swept off the disk"),
            change_faults: register(to, "change_faults", "Failed asks for changes"),
            policy_faults: register(
                to,
                "policy_faults",
                "Requests refused because the policy could not be had or gave no verdict",
            ),
            denylist_faults: register(
                to,
                "denylist_faults",
                "Changed denylists that could not be read; the ones before them stay",
            ),
            announced: register(to, "announced_timestamp_seconds", "When an origin last took this edge's announcement"),
            certificate_faults: register(
                to,
                "certificate_faults",
                "Failed tries to share or renew the certificate of [https.acme], or to read that of [https] again",
            ),
            node_certificate_ends: register(
                to,
                "node_certificate_expiry_timestamp_seconds",
                "When the certificate of this edge towards origins ends",
            ),
            certificate_ends: register(
                to,
                "certificate_expiry_timestamp_seconds",
                "When the certificate that viewers see ends; 0 while there is none",
            ),
            log_lines_lost: register(to, "log_lines_lost", "Lines of the log that it took too slowly"),
            spans_sent: register(to, "spans_sent", "Spans of traces that the collector took"),
            spans_lost: register(
                to,
                "spans_lost",
                "Spans of traces lost because too many waited or the collector did not take them",
            ),
            answers,
            registry,
        }
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

/// Makes what counts under a name.
fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &'static str, help: &'static str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
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
