//! Counts of HTTP answers. Thousands are counted in a second, so each thread has counts of its own, which are summed
//! when somebody asks: a core that writes what another core wrote last waits for its memory.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use client::thread_number;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
};

/// Threads that do not share counts; of more some do.
const SHEETS: usize = 32;
/// Upper bounds of the times to the first byte that are told apart, in seconds.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];

/// Labels of an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Labels {
    /// The status.
    status: u16,
    /// "hit", "disk", "miss" or "none".
    cache: &'static str,
}

/// All answers.
#[derive(Debug, Default)]
pub(crate) struct Answers([Sheet; SHEETS]);

/// The counts of one thread. They lie apart, so that no core takes the memory of one from another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Sheet(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answers: BTreeMap<Labels, u64>,
    body_bytes: u64,
    /// Answers by the time to their first byte.
    in_seconds: [u64; SECONDS.len()],
    seconds: f64,
}

impl Answers {
    /// Counts an answer.
    pub(crate) fn count(&self, status: u16, cache: &'static str, body_bytes: u64, first_byte: Duration) {
        let seconds = first_byte.as_secs_f64();
        let mut counts = self.0[thread_number() % SHEETS].counts();
        *counts.answers.entry(Labels { status, cache }).or_default() += 1;
        counts.body_bytes += body_bytes;
        counts.in_seconds[SECONDS.partition_point(|bound| *bound < seconds)] += 1;
        counts.seconds += seconds;
    }

    fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        for sheet in &self.0 {
            let counts = sheet.counts();
            for (labels, count) in &counts.answers {
                *sum.answers.entry(labels.clone()).or_default() += count;
            }
            sum.body_bytes += counts.body_bytes;
            sum.in_seconds.iter_mut().zip(counts.in_seconds).for_each(|(sum, count)| *sum += count);
            sum.seconds += counts.seconds;
        }
        sum
    }
}

impl Sheet {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Answers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { answers, body_bytes, in_seconds, seconds } = self.sum();
        let about = "HTTP answers by status and cache.";
        let mut family = encoder.encode_descriptor("http_answers", about, None, MetricType::Counter)?;
        for (labels, count) in &answers {
            ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
        }
        let bytes = encoder.encode_descriptor("http_body_bytes", "Bytes of bodies sent.", None, MetricType::Counter)?;
        ConstCounter::new(body_bytes).encode(bytes)?;
        let about = "From the request's header to the answer's.";
        let mut histogram = encoder.encode_descriptor("first_byte_seconds", about, None, MetricType::Histogram)?;
        let buckets: Vec<_> = SECONDS.into_iter().zip(in_seconds).collect();
        histogram.encode_histogram::<NoLabelSet>(seconds, in_seconds.iter().sum(), &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn what_each_thread_counts_adds_up() {
        let answers = Arc::new(Answers::default());
        thread::scope(|scope| {
            for number in 0..SHEETS as u64 + 3 {
                let answers = &answers;
                scope.spawn(move || {
                    answers.count(200, "hit", number, Duration::from_micros(500));
                    answers.count(304, "none", 0, Duration::from_millis(40));
                    answers.count(200, "miss", 1, Duration::from_secs(20));
                });
            }
        });
        let mut registry = Registry::with_prefix("x");
        registry.register_collector(Box::new(answers));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE x_http_answers counter",
            "x_http_answers_total{status=\"200\",cache=\"hit\"} 35",
            "x_http_answers_total{status=\"200\",cache=\"miss\"} 35",
            "x_http_answers_total{status=\"304\",cache=\"none\"} 35",
            "x_http_body_bytes_total 630",
            "# TYPE x_first_byte_seconds histogram",
            "x_first_byte_seconds_count 105",
            "x_first_byte_seconds_bucket{le=\"0.0005\"} 35",
            "x_first_byte_seconds_bucket{le=\"0.01\"} 35",
            "x_first_byte_seconds_bucket{le=\"0.05\"} 70",
            "x_first_byte_seconds_bucket{le=\"10.0\"} 70",
            "x_first_byte_seconds_bucket{le=\"+Inf\"} 105",
        ] {
            assert!(text.lines().any(|said| said == line), "{line} is not in {text}");
        }
    }
}
