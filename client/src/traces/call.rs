//! A call between nodes as a part of a trace: what it is named, and how its place goes along (W3C Trace Context).

use format::{NodeName, wire::Role};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanKind, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::{Said, Span};

const TRACEPARENT_KEY: &str = "traceparent";
const TRACEPARENT: HeaderName = HeaderName::from_static(TRACEPARENT_KEY);

/// What the paths of the node API begin with.
const NOUNS: [&str; 13] = [
    "uploads", "shards", "records", "leases", "policies", "blobs", "notes", "purges", "nodes", "refused", "changes",
    "tickets", "repairs",
];

/// Returns what a call is about, by its path: a word of ours, whatever the path holds.
#[must_use]
pub fn noun(path: &str) -> &'static str {
    let word = path.split(['/', '?']).nth(2).unwrap_or("");
    NOUNS.into_iter().find(|noun| *noun == word).unwrap_or("other")
}

impl Span {
    /// Begins the span of a call to a node, below the one in whose scope this runs.
    pub(crate) fn of_call(node: &NodeName, path: &str) -> Self {
        // Paths are looked at for the few that are traced.
        let is_traced = Context::map_current(TraceContextExt::has_active_span);
        let span = if is_traced { Self::within_as(noun(path), SpanKind::Client) } else { Self::NONE };
        span.say("evernear.node", Said::Node(node));
        span
    }

    /// Sends its place along with a call.
    pub(crate) fn go_along(&self, fields: &mut HeaderMap) {
        if let Some(context) = self.context() {
            TraceContextPropagator::new().inject_context(context, &mut Fields(fields));
        }
    }
}

/// Returns the place that a call comes from, if it is in a trace that is sampled. Only nodes are believed: an owner
/// decides neither how much an origin tells its collector nor under which ids.
pub(super) fn parent(peer: Role, fields: &HeaderMap) -> Option<Context> {
    // Nothing is read of the calls that bring none, which are nearly all.
    if peer == Role::Twin || !fields.contains_key(TRACEPARENT) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Brought(fields));
    let is_sampled = context.span().span_context().is_sampled();
    is_sampled.then_some(context)
}

/// The fields of a call that goes out: of the standard's two only the one that is not free text.
struct Fields<'f>(&'f mut HeaderMap);

impl Injector for Fields<'_> {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT_KEY
            && let Ok(value) = HeaderValue::try_from(value)
        {
            self.0.insert(TRACEPARENT, value);
        }
    }
}

/// The same of a call that came in.
struct Brought<'f>(&'f HeaderMap);

impl Extractor for Brought<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key == TRACEPARENT_KEY { self.0.get(TRACEPARENT)?.to_str().ok() } else { None }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT_KEY]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn brought(role: Role, traceparent: &str) -> bool {
        let mut fields = HeaderMap::new();
        fields.insert(TRACEPARENT, traceparent.parse().unwrap());
        fields.insert("tracestate", "vendor=LABEL".parse().unwrap());
        let Some(context) = parent(role, &fields) else { return false };
        assert_eq!(context.span().span_context().trace_state().header(), "", "free text of others goes no further");
        context.span().span_context().trace_id().to_string() == TRACE
    }

    #[test]
    fn a_sampled_trace_goes_on_and_only_from_a_node() {
        let sampled = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert!(brought(Role::Edge, &sampled) && brought(Role::Origin, &sampled));
        assert!(!brought(Role::Twin, &sampled));
        for other in ["", "00", "00-0-0-01", &format!("00-{TRACE}-b7ad6b7169203331-00"), &format!("{sampled}-x")] {
            assert!(!brought(Role::Edge, other), "{other}");
        }
    }

    #[test]
    fn a_call_is_named_by_a_word_of_ours() {
        assert_eq!(noun("/v1/shards/0123/4?first=1&count=2"), "shards");
        assert_eq!((noun("/v1/nodes"), noun("/v1/changes?since=1")), ("nodes", "changes"));
        for other in ["", "/", "/metrics", "/v1", "/v1/", "/v1/LABEL", "/v1/shardsLABEL"] {
            assert_eq!(noun(other), "other", "{other}");
        }
    }
}
