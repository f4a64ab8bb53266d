//! The way of an answer out: written, measured and logged.

use std::{
    future::pending,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use client::{Said, Scope, Span};
use format::Locator;
use http::{HeaderValue, StatusCode, Version, header};
use tokio::time::sleep;

use super::{link::Holds, session::Session, wire::Left};
use crate::{
    answer::{
        begun::Begun,
        ready::Given,
        reply::{Piece, Reply, Ways, add_of_request, date_at},
        request::{Asked, Request},
    },
    error::Fault,
    metrics::Metrics,
    node::Node,
    store::{
        body::{Reading, Source},
        coded::Coded,
        hand::Hand,
        miss::Fills,
        objects::Opened,
    },
};

/// What the log says of answers.
const WHOLE: &str = "whole";
pub(super) const VIEWER_LEFT: &str = "viewer left";
const CUT: &str = "cut: the rest could not be had";
/// What stands for the status where the viewer left before there was one; nginx has the number in its log, too.
const CLOSED_EARLY: u16 = 499;
/// The end of a block that is no longer is copied, whoever else is served.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// A stream that waits for longer keeps none of its connection's window.
const ROOM_KEPT: Duration = Duration::from_millis(100);
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

impl Reply {
    /// Writes the answer and returns whether it was written whole. If not, the connection is of no more use: the viewer
    /// left, or the rest of the content could not be had, which cuts the connection, for a short body must never look
    /// like a whole one.
    pub(super) async fn send(
        self,
        (node, ways): (&Node, Ways),
        session: &mut Session<'_>,
        request: &Request,
        mut sent: Sent<'_>,
    ) -> bool {
        sent.of(self.status, self.source, self.locator);
        let written = match self.write((node, ways), session, request, &mut sent.bytes).await {
            Ok(()) => session.end().await.map_err(|Left| VIEWER_LEFT),
            broken => broken,
        };
        sent.end(written);
        if written.is_err() {
            session.cut().await;
        }
        written.is_ok()
    }

    /// Writes it, and counts the bytes of content that were. The error says why it ended early.
    async fn write(
        self,
        (node, ways): (&Node, Ways),
        session: &mut Session<'_>,
        request: &Request,
        bytes: &mut u64,
    ) -> Result<(), &'static str> {
        let (length, is_coded) = (self.length(), self.is_coded());
        let mut fields = self.fields;
        add_of_request(&mut fields, date_at(SystemTime::now()), request.id);
        ways.add_lasting(&mut fields, length, request);
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        //# A server MUST NOT send a response containing Transfer-Encoding unless the corresponding request indicates HTTP/1.1 (or
        //# later minor revisions).
        if is_coded && length.is_none() && request.version == Version::HTTP_11 && !request.is_head() {
            fields.insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        if self.close {
            session.close_after();
        }
        session.head(self.status, fields).await.map_err(|Left| VIEWER_LEFT)?;
        if request.is_head() {
            return Ok(());
        }
        let (pieces, mut begun) = (self.content.unwrap_or_default(), self.begun);
        let last = pieces.len();
        for (number, piece) in (1..).zip(pieces) {
            match piece {
                Piece::Blocks(body) => {
                    let left = body.length();
                    let flow = Flow::Range(Box::new(body.reading()), left);
                    write_flow(node, session, (flow, begun.as_mut()), number == last, bytes).await?;
                }
                Piece::Bytes(content) => {
                    write_bytes(session, content, (number == last, Holds::Nothing), bytes).await?;
                }
                Piece::Coded(coded) => {
                    write_flow(node, session, (Flow::Coded(coded), begun.as_mut()), true, bytes).await?;
                }
            }
        }
        Ok(())
    }
}

impl Given {
    /// Writes the content of an answer that was ready, whose head has been written, as [`Reply::send`] does. It `holds`
    /// what of the `hand` it has.
    pub(super) async fn send(self, session: &mut Session<'_>, (hand, holds): (&Hand, Holds), mut sent: Sent<'_>) {
        let (mut written, all) = (Ok(()), self.bytes());
        for block in &self.content {
            let mut rest = block.clone();
            while written.is_ok() && !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(session.piece_bytes()));
                let piece = piece_of(piece, &rest, hand.is_crowded());
                let is_last = sent.bytes + piece.len() as u64 == all;
                written = write_piece(session, piece, (is_last, holds), &mut sent.bytes).await;
            }
        }
        sent.end(written);
        if written.is_err() {
            session.cut().await;
        }
    }
}

/// What becomes of an answer. It is counted and logged once, when this is dropped, whoever is gone by then.
pub(super) struct Sent<'a> {
    metrics: &'a Metrics,
    asked: Asked<'a>,
    /// The end of the request's header.
    start: Instant,
    /// When the answer began.
    first_byte: Option<Duration>,
    status: u16,
    source: Source,
    locator: Option<Locator>,
    /// Of content, handed to the connection.
    pub(super) bytes: u64,
    outcome: &'static str,
    /// The whole of it in a trace, if there is one. What viewers bring (`traceparent`) is not looked at: whoever asks
    /// would decide what a collector is told, and how much.
    span: Span,
}

impl<'a> Sent<'a> {
    /// Begins with a viewer who left before there was an answer.
    pub(super) fn begin(node: &'a Node, asked: Asked<'a>, start: Instant) -> Self {
        let (metrics, status, source, outcome) = (&*node.metrics, CLOSED_EARLY, Source::Own, VIEWER_LEFT);
        let span = node.traces.as_ref().map_or(Span::NONE, |traces| traces.begin("request", asked.id.number()));
        Self { metrics, asked, start, first_byte: None, status, source, locator: None, bytes: 0, outcome, span }
    }

    /// Returns where in a trace the answer is made and written.
    pub(super) fn scope(&self) -> Scope {
        self.span.scope()
    }

    /// Says which answer it is; it begins now.
    pub(super) fn of(&mut self, status: StatusCode, source: Source, locator: Option<Locator>) {
        self.first_byte = Some(self.start.elapsed());
        (self.status, self.source, self.locator) = (status.as_u16(), source, locator);
    }

    /// Says which answer that was ready it is; it begins now.
    pub(super) fn of_given(&mut self, given: &Given) {
        self.of(given.status, given.source, Some(given.locator));
    }

    /// Says that it was written whole, or why not.
    pub(super) fn end(mut self, written: Result<(), &'static str>) {
        self.outcome = written.err().unwrap_or(WHOLE);
    }
}

impl Sent<'_> {
    /// Tells the trace what the log is told, but for the object and the viewer: the id finds the line in the log, which
    /// has both as far as it may.
    fn tell(&self, cache: &'static str, first_byte: Duration) {
        // A viewer may make methods up.
        let method = match self.asked.method {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "OPTIONS" => "OPTIONS",
            _ => "_OTHER",
        };
        let version = match self.asked.version {
            Version::HTTP_3 => "3",
            Version::HTTP_2 => "2",
            Version::HTTP_11 => "1.1",
            _ => "1.0",
        };
        for (key, value) in [
            ("http.request.method", Said::Word(method)),
            ("network.protocol.version", Said::Word(version)),
            ("http.response.status_code", Said::Number(self.status.into())),
            ("evernear.request", Said::Id(self.asked.id.number())),
            ("evernear.cache", Said::Word(cache)),
            ("evernear.bytes", Said::Number(self.bytes)),
            ("evernear.first_byte_us", Said::Number(u64::try_from(first_byte.as_micros()).unwrap_or(u64::MAX))),
            ("evernear.outcome", Said::Word(self.outcome)),
        ] {
            self.span.say(key, value);
        }
        if self.status >= 500 {
            self.span.fail("the edge or the nodes behind it");
        } else if self.outcome == CUT {
            self.span.fail(CUT);
        }
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let whole = self.start.elapsed();
        let first_byte = self.first_byte.unwrap_or(whole);
        let cache = match self.source {
            Source::Hit => "hit",
            Source::Disk => "disk",
            Source::Miss => "miss",
            Source::Own => "none",
        };
        self.metrics.answers.count(self.status, cache, self.bytes, first_byte);
        if self.span.is_traced() {
            self.tell(cache, first_byte);
        }
        tracing::info!(
            target: "access",
            request = %self.asked.id,
            viewer = %self.asked.viewer,
            version = ?self.asked.version,
            method = self.asked.method,
            locator = self.locator.map(|locator| locator.to_string()),
            status = self.status,
            cache,
            bytes = self.bytes,
            first_byte_ms = first_byte.as_millis(),
            ms = whole.as_millis(),
            outcome = self.outcome,
        );
    }
}

/// What comes of an object block by block.
enum Flow {
    /// A range of it, and the bytes that are left.
    Range(Box<Reading>, u64),
    /// All of it, compressed.
    Coded(Box<Coded>),
}

impl Flow {
    async fn next(&mut self, fills: &Arc<Fills>) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Range(reading, left) => {
                let block = reading.next(fills).await?;
                *left -= block.as_ref().map_or(0, |block| block.len() as u64);
                Ok(block)
            }
            Self::Coded(coded) => coded.next(fills).await,
        }
    }

    /// Whether other answers of the same connection have much in hand, too.
    fn is_crowded(&self) -> bool {
        match self {
            Self::Range(reading, _) => reading.is_crowded(),
            Self::Coded(coded) => coded.is_crowded(),
        }
    }

    /// Lets go of so many bytes that were given last, where they can be read again.
    fn put_back(&mut self, fills: &Fills, bytes: usize) -> bool {
        match self {
            Self::Range(reading, left) => {
                let is_back = reading.put_back(fills, bytes);
                *left += if is_back { bytes as u64 } else { 0 };
                is_back
            }
            Self::Coded(_) => false,
        }
    }

    /// Goes on for an object as it was opened since.
    fn go_on_for(&mut self, opened: &Arc<Opened>) {
        match self {
            Self::Range(reading, _) => reading.go_on_for(opened),
            Self::Coded(coded) => coded.go_on_for(opened),
        }
    }

    /// Whether the last was given.
    fn is_over(&self) -> bool {
        match self {
            Self::Range(_, left) => *left == 0,
            Self::Coded(coded) => coded.is_over(),
        }
    }
}

/// Writes what comes of an object, for as long as it may be served; `ends` when nothing comes after it.
async fn write_flow(
    node: &Node,
    session: &mut Session<'_>,
    (mut flow, mut begun): (Flow, Option<&mut Begun>),
    ends: bool,
    bytes: &mut u64,
) -> Result<(), &'static str> {
    let mut holds_room = false;
    loop {
        let next = async {
            if let Some(begun) = begun.as_deref_mut() {
                if !begun.goes_on(node) {
                    begun.ask_anew(node).await?;
                }
                flow.go_on_for(begun.file());
            }
            flow.next(&node.fills).await
        };
        // What is here is for a viewer, too, that has closed its side once it had asked.
        let read = {
            let mut next = pin!(next);
            loop {
                let is_long = async {
                    match holds_room {
                        true => sleep(ROOM_KEPT).await,
                        false => pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    read = &mut next => break read,
                    () = session.gone() => return Err(VIEWER_LEFT),
                    // It may wait for the hand, until what others write is taken, who may wait for this window.
                    () = is_long => session.leave_room(),
                }
                holds_room = false;
            }
        };
        holds_room = false;
        let mut rest = match read {
            Ok(Some(block)) => block,
            Ok(None) => return Ok(()),
            Err(_) => {
                node.metrics.http_cut.inc();
                return Err(CUT);
            }
        };
        while !rest.is_empty() {
            let is_crowded = flow.is_crowded();
            let bytes_left = rest.len();
            let room = if is_crowded { session.room(bytes_left) } else { session.piece_bytes() };
            if room == 0 && flow.put_back(&node.fills, bytes_left) {
                // Others have the room in hand while its viewer has none for it.
                drop(rest);
                session.has_room(bytes_left).await.map_err(|Left| VIEWER_LEFT)?;
                holds_room = true;
                break;
            }
            let room = if room == 0 { session.piece_bytes() } else { room };
            let piece = rest.split_to(rest.len().min(room));
            let piece = piece_of(piece, &rest, is_crowded);
            let is_last = rest.is_empty() && flow.is_over();
            write_bytes(session, piece, (ends && is_last, Holds::Room), bytes).await?;
        }
    }
}

/// Returns a piece of a block as it is written, and `rest` of it after that. In the buffer of its connection it would
/// keep all of the block in memory, which counts no more once its last piece is there: where others have much in hand
/// each is copied, else the last one if it is small, for that costs little.
fn piece_of(piece: Bytes, rest: &Bytes, is_crowded: bool) -> Bytes {
    let is_small_end = rest.is_empty() && piece.len() <= COPIED_BYTES_MAX;
    if is_crowded || is_small_end { Bytes::copy_from_slice(&piece) } else { piece }
}

async fn write_bytes(
    session: &mut Session<'_>,
    mut rest: Bytes,
    (ends, holds): (bool, Holds),
    bytes: &mut u64,
) -> Result<(), &'static str> {
    loop {
        let piece = rest.split_to(rest.len().min(session.piece_bytes()));
        write_piece(session, piece, (ends && rest.is_empty(), holds), bytes).await?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Writes a piece that the session takes at a time, and counts what the connection took of it.
async fn write_piece(
    session: &mut Session<'_>,
    piece: Bytes,
    (ends, holds): (bool, Holds),
    bytes: &mut u64,
) -> Result<(), &'static str> {
    let all = piece.len() as u64;
    let written = session.body(piece, ends, holds).await;
    *bytes += if written.is_ok() { all } else { session.went().min(all) };
    written.map_err(|Left| VIEWER_LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_keeps_its_block_in_memory_where_others_have_much_in_hand() {
        let block = Bytes::from(vec![7; 4 * COPIED_BYTES_MAX]);
        let is_of_block = |bytes: usize, is_crowded| {
            let mut rest = block.clone();
            let piece = rest.split_to(bytes);
            let written = piece_of(piece.clone(), &rest, is_crowded);
            assert_eq!(written, piece);
            block.as_ptr_range().contains(&written.as_ptr())
        };
        let all = block.len();
        assert!([1, COPIED_BYTES_MAX, all - 1, all].iter().all(|bytes| !is_of_block(*bytes, true)));
        assert!([1, COPIED_BYTES_MAX, all - 1, all].iter().all(|bytes| is_of_block(*bytes, false)));
        let small = block.slice(..COPIED_BYTES_MAX);
        assert!(piece_of(small.clone(), &Bytes::new(), false).as_ptr() != small.as_ptr(), "a small end is copied");
    }
}
