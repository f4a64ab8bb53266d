//! The way of spans to the collector: a queue with a bound, and one task that sends batches. What ends a span never
//! waits; what does not fit, or is not taken, is lost and counted.
//!
//! The SDK's own batch processor has a thread for itself and does not tell what it dropped, so it is not used.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter as _, SpanProcessor},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::TracesConfig;

/// Spans of this process that collectors took; part of every node's metrics.
pub static SPANS_SENT: AtomicU64 = AtomicU64::new(0);
/// Spans of this process that were lost, because the queue was full or the collector did not take them.
pub static SPANS_LOST: AtomicU64 = AtomicU64::new(0);

/// Spans sent together.
const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the collector may take for a try, and for how long tries of a batch are begun: 20 s in all at most. Spans
/// wait in the queue meanwhile.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// How long a node's end waits for what is left to be sent.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// Why a node cannot tell a collector; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The client cannot be made: the system has no root certificates to trust an `https` collector by, for example.
    #[error("the client of the collector cannot be made")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made: a variable `OTEL_EXPORTER_OTLP_..` of the environment is wrong, for example.
    #[error("the exporter of traces cannot be made")]
    Exporter(#[from] ExporterBuildError),
}

/// Takes spans as they end.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            SPANS_LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        // [`Export::end`] does it, without blocking.
        Ok(())
    }
}

/// The task that sends.
#[derive(Debug)]
pub(super) struct Export {
    task: JoinHandle<()>,
    ending: oneshot::Sender<()>,
}

impl Export {
    /// Starts to send on the current runtime, for as long as this or the queue lives.
    pub(super) fn start(config: &TracesConfig, resource: &Resource) -> Result<(Queue, Self), TracesError> {
        let mut client = reqwest::Client::builder().timeout(SEND_DEADLINE).no_proxy();
        if config.endpoint().scheme_str() == Some("http") {
            // In clear no root certificates are needed, and the machine may have none.
            client = client.tls_certs_only([]);
        }
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.redirect(reqwest::redirect::Policy::none()).build()?)
            .with_endpoint(config.endpoint().to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(SEND_DEADLINE)
            .build()?;
        exporter.set_resource(resource);
        let (queue, spans) = mpsc::channel(config.queue_spans_max());
        let (ending, is_ending) = oneshot::channel();
        Ok((Queue(queue), Self { task: tokio::spawn(run(exporter, spans, is_ending)), ending }))
    }

    /// Sends what waits, within the deadline.
    pub(super) async fn end(mut self) {
        let _ = self.ending.send(());
        if timeout(END_DEADLINE, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("spans were left behind at the end: the collector did not take them in time");
        }
    }
}

async fn run(exporter: SpanExporter, mut spans: mpsc::Receiver<SpanData>, mut ending: oneshot::Receiver<()>) {
    let (mut batch, mut ends, mut fails) = (Vec::new(), false, false);
    loop {
        tokio::select! {
            _ = &mut ending, if !ends => {
                ends = true;
                spans.close();
                continue;
            }
            () = gather(&mut spans, &mut batch) => {}
        }
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        match exporter.export(std::mem::take(&mut batch)).await {
            Ok(()) => {
                SPANS_SENT.fetch_add(count, Ordering::Relaxed);
                fails = false;
            }
            Err(error) => {
                SPANS_LOST.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(%error, "the collector takes no spans; they are lost and counted until it does");
                }
            }
        }
    }
}

/// Fills a batch; it is empty when no span can come any more. Cancel safe.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    if batch.is_empty() && spans.recv_many(batch, BATCH_SPANS_MAX).await == 0 {
        return;
    }
    let more = async {
        while batch.len() < BATCH_SPANS_MAX && spans.recv_many(batch, BATCH_SPANS_MAX - batch.len()).await > 0 {}
    };
    // Fewer go when no more came.
    let _ = timeout(PATIENCE, more).await;
}
