//! An answer on its way out: status, fields, content; written, measured and logged.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use format::Locator;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

use super::{
    headers, page,
    ready::{Given, Lasting, Ready},
    request::{Asked, Request, RequestId},
};
use crate::{
    door::{HttpDoor, session::Session},
    error::Fault,
    metrics::Metrics,
    store::body::Body,
};

/// Largest piece handed to the connection at a time: small enough for HTTP/2 streams to take turns.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// What the log says of answers.
pub(crate) const WHOLE: &str = "whole";
pub(crate) const VIEWER_LEFT: &str = "viewer left";
const HTTPS_PORT: u16 = 443;
/// For a year: a name whose clear text is sent to TLS stays there.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
const X_REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");

/// What is sent after the header.
pub(crate) enum Content {
    /// Nothing, and no length is told (204, 304).
    None,
    /// A text of ours or a small object.
    Bytes(Bytes),
    /// A range of an object, block by block.
    Blocks(Body),
    /// Several ranges.
    Parts(Parts),
}

/// Several ranges of one object, as `multipart/byteranges` (RFC 9110 section 14.6).
pub(crate) struct Parts {
    /// The boundary with the fields of each part, and its bytes.
    pub(crate) parts: Vec<(Bytes, Content)>,
    /// The last boundary.
    pub(crate) end: Bytes,
}

impl Content {
    /// Returns the bytes on the wire; none where no length is told.
    fn length(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Blocks(body) => Some(body.length()),
            Self::Parts(Parts { parts, end }) => {
                let part = |(head, content): &(Bytes, Self)| head.len() as u64 + content.length().unwrap_or(0);
                Some(parts.iter().map(part).sum::<u64>() + end.len() as u64)
            }
        }
    }
}

/// Where the content came from, the farthest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// All of it was held in memory.
    Hit,
    /// Some of it was on the disk.
    Disk,
    /// Some of it had to be read from origins.
    Miss,
    /// There was none to read.
    Own,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Content,
    pub(crate) source: Source,
    pub(crate) locator: Option<Locator>,
    pub(crate) close: bool,
    /// The same answer as it may be given again.
    pub(crate) ready: Option<Box<Ready>>,
}

/// Makes the answer to a fault: a small page, or JSON for those who ask for it.
pub(crate) fn refusal(request: &Request, fault: &Fault) -> Reply {
    let style = request.style();
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::own_page(&mut fields);
    headers::set(&mut fields, header::CONTENT_TYPE, style.mime());
    let seconds = fault.time_to_live().as_secs();
    let lifetime = if seconds == 0 { "no-store".to_owned() } else { format!("public, max-age={seconds}") };
    headers::set(&mut fields, header::CACHE_CONTROL, lifetime);
    // The page hangs on Accept.
    headers::set(&mut fields, header::VARY, "accept");
    if let Some(retry) = fault.retry_after() {
        headers::set(&mut fields, header::RETRY_AFTER, retry.as_secs().to_string());
    }
    match fault {
        Fault::Method => headers::set(&mut fields, header::ALLOW, "GET, HEAD, OPTIONS"),
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.17
        //# A server that generates a 416 response to a byte-range request SHOULD generate a Content-Range header field
        //# specifying the current length of the selected representation.
        Fault::Range { length } => headers::set(&mut fields, header::CONTENT_RANGE, format!("bytes */{length}")),
        _ => {}
    }
    let text = page::refusal(style, fault, &request.id.to_string());
    Reply {
        status: fault.status(),
        fields,
        content: Content::Bytes(text.into()),
        source: Source::Own,
        locator: None,
        close: fault.closes(),
        ready: None,
    }
}

impl Reply {
    /// Whether it is all of an object, held here.
    pub(crate) fn is_whole_hit(&self) -> bool {
        self.status == StatusCode::OK && self.source == Source::Hit
    }

    /// Writes the answer and returns whether it was written whole. If not, the connection is of no more use: the viewer
    /// left, or the rest of the content could not be had, which cuts the connection, for a short body must never look
    /// like a whole one.
    pub(crate) async fn send(
        self,
        door: &Arc<HttpDoor>,
        session: &mut Session<'_>,
        request: Request,
        start: Instant,
    ) -> bool {
        let (status, source, locator) = (self.status, self.source, self.locator);
        let first_byte = start.elapsed();
        let written = match self.write(door, session, &request).await {
            Ok(bytes) => session.end().await.map(|()| bytes).map_err(|_| Broken { bytes, why: VIEWER_LEFT }),
            broken => broken,
        };
        let (bytes, outcome) = match &written {
            Ok(bytes) => (*bytes, WHOLE),
            Err(Broken { bytes, why }) => (*bytes, *why),
        };
        let sent = Sent { status, source, locator, bytes, outcome, first_byte, whole: start.elapsed() };
        sent.record(&door.node.metrics, &request.asked());
        if written.is_err() {
            session.cut().await;
        }
        written.is_ok()
    }

    async fn write(self, door: &HttpDoor, session: &mut Session<'_>, request: &Request) -> Result<u64, Broken> {
        let mut fields = self.fields;
        add_of_request(&mut fields, request.id);
        door.add_lasting(&mut fields, self.content.length(), request);
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
            Content::Blocks(body) => body.send(door, session, true).await,
            Content::Parts(Parts { parts, end }) => {
                let mut sent = 0;
                let after = |sent| move |broken: Broken| Broken { bytes: sent + broken.bytes, ..broken };
                for (head, content) in parts {
                    sent += write_bytes(session, head, false).await.map_err(after(sent))?;
                    let part = match content {
                        Content::Blocks(body) => body.send(door, session, false).await,
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
    /// Writes an answer that was ready, as [`Reply::send`] does.
    pub(crate) async fn send(
        self,
        door: &HttpDoor,
        session: &mut Session<'_>,
        asked: &Asked<'_>,
        start: Instant,
    ) -> bool {
        let mut fields = HeaderMap::clone(&self.lasting.fields);
        add_of_request(&mut fields, asked.id);
        let first_byte = start.elapsed();
        let (mut bytes, all) = (0, self.bytes());
        let mut written = session.head(self.status, fields).await;
        for block in &self.content {
            let mut rest = block.clone();
            while written.is_ok() && !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                bytes += piece.len() as u64;
                written = session.body(piece, bytes == all).await;
            }
        }
        let outcome = if written.is_ok() { WHOLE } else { VIEWER_LEFT };
        Sent::of_given(&self, bytes, outcome, first_byte, start).record(&door.node.metrics, asked);
        if written.is_err() {
            session.cut().await;
        }
        written.is_ok()
    }
}

/// What became of an answer.
pub(crate) struct Sent {
    pub(crate) status: StatusCode,
    pub(crate) source: Source,
    pub(crate) locator: Option<Locator>,
    pub(crate) bytes: u64,
    pub(crate) outcome: &'static str,
    /// From the end of the request's header to the answer's beginning, and to its end.
    pub(crate) first_byte: Duration,
    pub(crate) whole: Duration,
}

impl Sent {
    /// Returns what became of an answer that was ready.
    pub(crate) fn of_given(
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
    pub(crate) fn record(self, metrics: &Metrics, asked: &Asked<'_>) {
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

impl HttpDoor {
    /// Returns the head of an answer but for the fields of each request.
    pub(crate) fn lasting(&self, request: &Request, reply: &Reply) -> Lasting {
        let mut fields = reply.fields.clone();
        self.add_lasting(&mut fields, reply.content.length(), request);
        Lasting::of(reply.status, fields)
    }

    /// Adds what every answer to requests of this kind has.
    fn add_lasting(&self, fields: &mut HeaderMap, length: Option<u64>, request: &Request) {
        if let Some(length) = length {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        //= https://www.rfc-editor.org/rfc/rfc6797#section-7.2
        //# An HSTS Host MUST NOT include the STS header field in HTTP responses conveyed over non-secure transport.
        if request.is_secure && self.ways.redirect == Some(HTTPS_PORT) {
            // On another port a browser would come back to this one over TLS, where clear text is spoken.
            fields.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        //= https://www.rfc-editor.org/rfc/rfc9114#section-3.1.1
        //# An HTTP origin can advertise the availability of an equivalent HTTP/3 endpoint via the Alt-Svc HTTP response header
        //# field
        if let Some(port) = self.ways.http3.filter(|_| request.is_secure && request.version != Version::HTTP_3) {
            headers::set(fields, header::ALT_SVC, format!("h3=\":{port}\"; ma=86400"));
        }
    }
}

/// Adds what is another in each answer. No entry in a viewer's table of fields (RFC 7541 section 7.1.3) is given up for
/// what never comes again.
pub(crate) fn add_of_request(fields: &mut HeaderMap, id: RequestId) {
    //= https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1
    //# An origin server with a clock MUST generate a Date header field in all 2xx (Successful), 3xx (Redirection), and 4xx
    //# (Client Error) responses
    let date = httpdate::fmt_http_date(SystemTime::now());
    for (name, text) in [(header::DATE, date), (X_REQUEST_ID, id.to_string())] {
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            fields.insert(name, value);
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
pub(crate) struct Broken {
    pub(crate) bytes: u64,
    pub(crate) why: &'static str,
}
