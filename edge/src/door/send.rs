//! The way of an answer out: written, measured and logged.

use std::time::{Duration, Instant};

use bytes::Bytes;
use format::Locator;
use http::StatusCode;

use super::session::Session;
use crate::{
    answer::{
        ready::Given,
        reply::{Content, Parts, Reply, Ways, add_of_request},
        request::{Asked, Request},
    },
    metrics::Metrics,
    node::Node,
    store::body::{Body, Source},
};

/// What the log says of answers.
pub(super) const WHOLE: &str = "whole";
pub(super) const VIEWER_LEFT: &str = "viewer left";

impl Reply {
    /// Writes the answer and returns whether it was written whole. If not, the connection is of no more use: the viewer
    /// left, or the rest of the content could not be had, which cuts the connection, for a short body must never look
    /// like a whole one.
    pub(super) async fn send(
        self,
        (node, ways): (&Node, Ways),
        session: &mut Session<'_>,
        request: Request,
        start: Instant,
    ) -> bool {
        let (status, source, locator) = (self.status, self.source, self.locator);
        let first_byte = start.elapsed();
        let written = match self.write((node, ways), session, &request).await {
            Ok(bytes) => session.end().await.map(|()| bytes).map_err(|_| Broken { bytes, why: VIEWER_LEFT }),
            broken => broken,
        };
        let (bytes, outcome) = match &written {
            Ok(bytes) => (*bytes, WHOLE),
            Err(Broken { bytes, why }) => (*bytes, *why),
        };
        let sent = Sent { status, source, locator, bytes, outcome, first_byte, whole: start.elapsed() };
        sent.record(&node.metrics, &request.asked());
        if written.is_err() {
            session.cut().await;
        }
        written.is_ok()
    }

    async fn write(
        self,
        (node, ways): (&Node, Ways),
        session: &mut Session<'_>,
        request: &Request,
    ) -> Result<u64, Broken> {
        let mut fields = self.fields;
        add_of_request(&mut fields, request.id);
        ways.add_lasting(&mut fields, self.content.length(), request);
        if self.close {
            session.close_after();
        }
        session.head(self.status, fields).await.map_err(|_| Broken { bytes: 0, why: VIEWER_LEFT })?;
        if request.is_head() {
            return Ok(0);
        }
        match self.content {
            Content::None => Ok(0),
            Content::Bytes(bytes) => write_bytes(session, bytes, true).await,
            Content::Blocks(body) => write_range(node, session, body, true).await,
            Content::Parts(Parts { parts, end }) => {
                let mut sent = 0;
                let after = |sent| move |broken: Broken| Broken { bytes: sent + broken.bytes, ..broken };
                for (head, content) in parts {
                    sent += write_bytes(session, head, false).await.map_err(after(sent))?;
                    let part = match content {
                        Content::Blocks(body) => write_range(node, session, body, false).await,
                        Content::Bytes(bytes) => write_bytes(session, bytes, false).await,
                        Content::None | Content::Parts(_) => Ok(0),
                    };
                    sent += part.map_err(after(sent))?;
                }
                Ok(sent + write_bytes(session, end, true).await.map_err(after(sent))?)
            }
        }
    }
}

impl Given {
    /// Writes the content of an answer that was ready, whose head has been written, as [`Reply::send`] does.
    pub(super) async fn send(self, node: &Node, session: &mut Session<'_>, asked: &Asked<'_>, start: Instant) {
        let first_byte = start.elapsed();
        let (mut bytes, all) = (0, self.bytes());
        let mut written = Ok(());
        for block in &self.content {
            let mut rest = block.clone();
            while written.is_ok() && !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(session.piece_bytes()));
                bytes += piece.len() as u64;
                written = session.body(piece, bytes == all).await;
            }
        }
        let outcome = if written.is_ok() { WHOLE } else { VIEWER_LEFT };
        Sent::of_given(&self, bytes, outcome, first_byte, start).record(&node.metrics, asked);
        if written.is_err() {
            session.cut().await;
        }
    }
}

/// What became of an answer.
pub(super) struct Sent {
    pub(super) status: StatusCode,
    pub(super) source: Source,
    pub(super) locator: Option<Locator>,
    pub(super) bytes: u64,
    pub(super) outcome: &'static str,
    /// From the end of the request's header to the answer's beginning, and to its end.
    pub(super) first_byte: Duration,
    pub(super) whole: Duration,
}

impl Sent {
    /// Returns what became of an answer that was ready.
    pub(super) fn of_given(
        given: &Given,
        bytes: u64,
        outcome: &'static str,
        first_byte: Duration,
        start: Instant,
    ) -> Self {
        let (status, locator) = (given.status, Some(given.locator));
        let source = if status == StatusCode::NOT_MODIFIED { Source::Own } else { Source::Hit };
        Self { status, source, locator, bytes, outcome, first_byte, whole: start.elapsed() }
    }

    /// Counts and logs it.
    pub(super) fn record(self, metrics: &Metrics, asked: &Asked<'_>) {
        let cache = match self.source {
            Source::Hit => "hit",
            Source::Disk => "disk",
            Source::Miss => "miss",
            Source::Own => "none",
        };
        metrics.answers.count(self.status.as_u16(), cache, self.bytes, self.first_byte);
        tracing::info!(
            target: "access",
            request = %asked.id,
            viewer = %asked.viewer,
            version = ?asked.version,
            method = asked.method,
            locator = self.locator.map(|locator| locator.to_string()),
            status = self.status.as_u16(),
            cache,
            bytes = self.bytes,
            first_byte_ms = self.first_byte.as_millis(),
            ms = self.whole.as_millis(),
            outcome = self.outcome,
        );
    }
}

/// Writes a range of an object; `ends` when nothing comes after it.
async fn write_range(node: &Node, session: &mut Session<'_>, body: Body, ends: bool) -> Result<u64, Broken> {
    let (length, mut reading) = (body.length(), body.reading());
    let mut sent = 0;
    loop {
        let mut rest = match reading.next(&node.fills).await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(sent),
            Err(_) => {
                node.metrics.http_cut.inc();
                return Err(Broken { bytes: sent, why: "cut: the rest could not be had" });
            }
        };
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(session.piece_bytes()));
            sent += piece.len() as u64;
            let written = session.body(piece, ends && sent == length).await;
            written.map_err(|_| Broken { bytes: sent, why: VIEWER_LEFT })?;
        }
    }
}

async fn write_bytes(session: &mut Session<'_>, bytes: Bytes, ends: bool) -> Result<u64, Broken> {
    let length = bytes.len() as u64;
    let written = session.body(bytes, ends).await;
    written.map_err(|_| Broken { bytes: 0, why: VIEWER_LEFT })?;
    Ok(length)
}

/// An answer that ended early.
pub(super) struct Broken {
    pub(super) bytes: u64,
    pub(super) why: &'static str,
}
