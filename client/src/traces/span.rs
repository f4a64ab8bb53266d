//! A span: a part of a traced request, from its beginning to its end. Most requests have none, and then all of this
//! does nothing.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use format::NodeName;
use futures::future::Either;
use opentelemetry::{
    Context, KeyValue, StringValue, Value,
    context::{FutureExt, WithContext},
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;

use super::SPANS_LOST;

/// Spans of one request at one node, some 256 KiB. A film, or a folder as an archive, has thousands of fills.
const SPANS_MAX: usize = 256;

/// How many spans of a request were begun.
#[derive(Default)]
struct Begun(AtomicUsize);

/// A part of a traced request, or nothing. It ends when it is dropped.
pub struct Span(Option<Context>);

/// A place in a trace, or nothing: what runs there begins spans below it. It does not keep its span from ending.
#[derive(Clone)]
pub struct Scope(Option<Context>);

/// What an attribute may say. There is no free text, which could hold a label or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'s> {
    /// A number.
    Number(u64),
    /// A word that stands in this program.
    Word(&'static str),
    /// A node of the cluster.
    Node(&'s NodeName),
    /// Hexadecimal digits of an id that stands in logs.
    Id(u64),
}

impl Span {
    /// A span of nothing.
    pub const NONE: Self = Self(None);

    pub(super) fn below(tracer: &SdkTracer, name: &'static str, kind: SpanKind, parent: &Context) -> Self {
        let begun = parent.get::<Arc<Begun>>().cloned().unwrap_or_default();
        if begun.0.fetch_add(1, Ordering::Relaxed) >= SPANS_MAX {
            SPANS_LOST.fetch_add(1, Ordering::Relaxed);
            return Self::NONE;
        }
        let span = tracer.build_with_context(tracer.span_builder(name).with_kind(kind), parent);
        // Several nodes may run in one process, each with its own traces.
        Self(Some(parent.with_value(tracer.clone()).with_value(begun).with_span(span)))
    }

    /// Begins a span below the one in whose scope this runs; none where there is none.
    #[must_use]
    pub fn within(name: &'static str) -> Self {
        Self::within_as(name, SpanKind::Internal)
    }

    pub(super) fn within_as(name: &'static str, kind: SpanKind) -> Self {
        Context::map_current(|here| here.get().map_or(Self::NONE, |tracer| Self::below(tracer, name, kind, here)))
    }

    /// Whether anything is recorded.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.0.is_some()
    }

    /// Says something of what the span is about. Each key is said once.
    pub fn say(&self, key: &'static str, value: Said<'_>) {
        let Some(context) = &self.0 else { return };
        let value = match value {
            Said::Number(number) => Value::I64(i64::try_from(number).unwrap_or(i64::MAX)),
            Said::Word(word) => Value::String(StringValue::from(word)),
            Said::Node(node) => Value::String(StringValue::from(node.to_string())),
            Said::Id(id) => Value::String(StringValue::from(format!("{id:016x}"))),
        };
        context.span().set_attribute(KeyValue::new(key, value));
    }

    /// Says that what the span is about failed.
    pub fn fail(&self, why: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why));
        }
    }

    /// Returns the place of this span.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope(self.0.clone())
    }

    pub(super) fn context(&self) -> Option<&Context> {
        self.0.as_ref()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

impl Scope {
    /// Returns the place where this runs, to be taken into a task.
    #[must_use]
    pub fn current() -> Self {
        Self(Context::map_current(|here| here.has_active_span().then(|| here.clone())))
    }

    /// Has a future run at this place.
    pub fn around<F: Future>(self, future: F) -> Either<F, WithContext<Pin<Box<F>>>> {
        match self.0 {
            None => Either::Left(future),
            // In a box, so that the many that are not traced are no larger for it.
            Some(context) => Either::Right(Box::pin(future).with_context(context)),
        }
    }
}
