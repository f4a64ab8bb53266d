//! Traces: what became of a sampled request, from an edge to the origins that it asked, told to a collector in
//! OpenTelemetry's protocol (OTLP over HTTP).
//!
//! Place in the flow: a node has one [`Traces`]. It begins a [`Span`] for a request that chance takes and runs the
//! request in the span's [`Scope`]. What runs there begins spans below it, and each call to a node carries the span's
//! place (W3C Trace Context), so that an origin's span joins.
//!
//! Keeps true: a request that is not traced costs one comparison; nobody waits for the collector, and what waits for it
//! has a bound; an attribute is a number, a word of ours or the name of a node, so that no label, key, path or address
//! can be one. Decision 31 has the reasons.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use format::{NodeName, wire::Role};
use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanKind, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};

mod call;
mod config;
mod export;
mod span;

pub use call::noun;
pub use config::TracesConfig;
use export::Export;
pub use export::{SPANS_LOST, SPANS_SENT, TracesError};
pub use span::{Said, Scope, Span};

/// The traces of one node.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    /// Draws below it are sampled, of 2^63.
    sampled: u64,
    /// Chance for requests that bring none: a keyed hash of their number.
    chance: RandomState,
    next: AtomicU64,
    export: Mutex<Option<Export>>,
}

impl Traces {
    /// Starts to tell the collector, on the current runtime. `service` is what kind of node this is. The collector need
    /// not be there.
    ///
    /// # Errors
    /// [`TracesError`] when the client of the collector cannot be made.
    pub fn start(config: &TracesConfig, service: &'static str, node: &NodeName) -> Result<Self, TracesError> {
        // Nothing is taken from the environment or the machine: the collector learns these words alone.
        let resource = Resource::builder_empty().with_service_name(service).with_attributes([
            KeyValue::new("service.instance.id", node.to_string()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        let resource = resource.build();
        let (queue, export) = Export::start(config, &resource)?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            // Chance decided before a span begins.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        Ok(Self {
            tracer: provider.tracer("evernear"),
            sampled: config.sampled(),
            chance: RandomState::new(),
            next: AtomicU64::new(0),
            export: Mutex::new(Some(export)),
        })
    }

    /// Begins the trace of a request, if a uniform draw of 64 bits takes it.
    #[must_use]
    pub fn begin(&self, name: &'static str, draw: u64) -> Span {
        if draw >> 1 < self.sampled {
            Span::below(&self.tracer, name, SpanKind::Server, &Context::new())
        } else {
            Span::NONE
        }
    }

    /// Begins the span of a call that a peer made: within the peer's trace, if a node brings one that is sampled; of an
    /// owner's by chance.
    #[must_use]
    pub fn answer(&self, name: &'static str, peer: Role, fields: &HeaderMap) -> Span {
        match call::parent(peer, fields) {
            Some(parent) => Span::below(&self.tracer, name, SpanKind::Server, &parent),
            None if peer != Role::Twin => Span::NONE,
            None => self.begin(name, self.chance.hash_one(self.next.fetch_add(1, Ordering::Relaxed))),
        }
    }

    /// Sends what waits, for 2 seconds at most, and ends.
    pub async fn end(&self) {
        let export = self.export.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(export) = export {
            export.end().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    /// A listener whose connections nobody serves, and traces that go to it.
    async fn silent(ratio: f64, queue_spans_max: usize) -> (TcpListener, Traces) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let table = json!({ "endpoint": endpoint, "ratio": ratio, "queue_spans_max": queue_spans_max });
        let config = serde_json::from_value(table).unwrap();
        (listener, Traces::start(&config, "evernear-edge", &"e1".parse().unwrap()).unwrap())
    }

    fn lost() -> u64 {
        SPANS_LOST.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_silent_collector_costs_spans_and_two_seconds_at_the_end() {
        let (_listener, traces) = silent(1.0, 4).await;
        // Nothing is awaited, so the task takes none of them.
        (0..4).for_each(|draw| drop(traces.begin("request", draw)));
        assert_eq!(lost(), 0);
        (0..6).for_each(|draw| drop(traces.begin("request", draw)));
        assert_eq!(lost(), 6);
        let began = Instant::now();
        traces.end().await;
        let took = began.elapsed();
        assert!((2..4).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test]
    async fn a_span_ends_when_it_is_dropped_though_its_place_is_still_held() {
        let (_listener, traces) = silent(1.0, 1).await;
        drop(traces.begin("request", 0));
        let span = traces.begin("request", 0);
        let place = span.scope();
        assert_eq!(lost(), 0);
        drop(span);
        assert_eq!(lost(), 1, "it ended, and there was no room");
        drop(place);
        assert_eq!(lost(), 1, "once");
    }

    #[tokio::test]
    async fn a_request_has_so_many_spans_and_what_is_more_is_counted() {
        let (_listener, traces) = silent(1.0, 999).await;
        for _ in 0..2 {
            let (span, before) = (traces.begin("request", 0), lost());
            let within = async { (0..300).filter(|_| Span::within("fill").is_traced()).count() };
            assert_eq!(span.scope().around(within).await, 255);
            assert_eq!(lost() - before, 45);
        }
    }

    #[tokio::test]
    async fn the_draw_decides_and_what_runs_in_no_trace_begins_none() {
        let (_listener, traces) = silent(0.5, 9).await;
        assert!(traces.begin("request", (1 << 63) - 1).is_traced());
        assert!(!traces.begin("request", 1 << 63).is_traced());
        assert!(!Span::within("fill").is_traced());
        let span = traces.begin("request", 0);
        let within = span.scope().around(async { Scope::current().around(async { Span::within("fill") }).await });
        assert!(within.await.is_traced());
        let outside = Span::NONE.scope().around(async { Span::within("fill") });
        assert!(!outside.await.is_traced());
        let taken_along = span.scope().around(async { Scope::current() }).await;
        let task = tokio::spawn(taken_along.around(async { Span::within("fill").is_traced() }));
        assert!(task.await.unwrap(), "a task that takes its place along is in the trace");
        let alone =
            span.scope().around(async { tokio::spawn(async { Span::within("fill").is_traced() }).await.unwrap() });
        assert!(!alone.await);
    }

    #[tokio::test]
    async fn a_node_goes_on_with_a_trace_where_chance_takes_nothing() {
        let (_none, of_none) = silent(0.0, 9).await;
        let (_all, of_all) = silent(1.0, 9).await;
        let mut fields = HeaderMap::new();
        let caller = of_all.begin("request", 0);
        caller.go_along(&mut fields);
        assert_eq!(fields.len(), 1, "{fields:?}");
        for (role, is_traced) in [(Role::Edge, true), (Role::Origin, true), (Role::Twin, false)] {
            assert_eq!(of_none.answer("shards", role, &fields).is_traced(), is_traced, "{role:?}");
            assert!(!of_none.answer("shards", role, &HeaderMap::new()).is_traced());
            // What a node does not trace nobody does; among owners' calls chance takes some.
            assert_eq!(of_all.answer("shards", role, &HeaderMap::new()).is_traced(), role == Role::Twin, "{role:?}");
        }
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_spans_and_keeps_no_end_waiting() {
        let (listener, traces) = silent(1.0, 4).await;
        drop(listener);
        drop(traces.begin("request", 0));
        let began = Instant::now();
        traces.end().await;
        assert!(began.elapsed() < Duration::from_secs(4));
        assert_eq!(SPANS_SENT.load(Ordering::Relaxed), 0);
    }
}
