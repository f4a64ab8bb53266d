//! An answer as it is made: status, fields, content. Doors write it.

use std::time::SystemTime;

use bytes::Bytes;
use format::Locator;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

use super::{
    begun::Begun,
    headers,
    page::{self, Style},
    ready::{CONTENT_BYTES_MAX, Lasting, Ready},
    request::{Request, RequestId},
};
use crate::{
    error::Fault,
    store::{
        body::{Body, Source},
        coded::Coded,
    },
};

const HTTPS_PORT: u16 = 443;
/// For a year: a name whose clear text is sent to TLS stays there.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// How who may not have an object can show that it may: by a link that its owner signed.
const BY_LINK: &str = "Signed-Link";
const X_REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");

/// A piece of content, as it is sent.
pub(crate) enum Piece {
    /// A text of ours or a small object.
    Bytes(Bytes),
    /// A range of an object, block by block.
    Blocks(Body),
    /// All of an object, compressed.
    Coded(Box<Coded>),
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    /// One after another; none where no length is told (204, 304).
    pub(crate) content: Option<Vec<Piece>>,
    pub(crate) source: Source,
    pub(crate) locator: Option<Locator>,
    pub(crate) close: bool,
    /// What it goes by while it is sent, where that is asked again.
    pub(crate) begun: Option<Begun>,
    /// The same answer as it may be given again.
    pub(crate) ready: Option<Box<Ready>>,
}

/// Makes the answer to a fault.
pub(crate) fn refusal(request: &Request, fault: &Fault) -> Reply {
    let (fields, page) = refused(request.style(), fault, request.id);
    let content = Some(vec![Piece::Bytes(page)]);
    Reply { close: fault.closes(), ..Reply::of(fault.status(), fields, content, Source::Own) }
}

/// Makes what tells of a fault: a small page, or JSON for those who ask for it, and its fields.
pub(crate) fn refused(style: Style, fault: &Fault, id: RequestId) -> (HeaderMap, Bytes) {
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::of_own_page(&mut fields);
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
        //= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
        //# The server generating a 401 response MUST send a WWW-Authenticate header field (Section 11.6.1) containing at
        //# least one challenge applicable to the target resource.
        Fault::Denied { status: 401 } => headers::set(&mut fields, header::WWW_AUTHENTICATE, BY_LINK),
        _ => {}
    }
    (fields, page::refusal(style, fault, &id.to_string()).into())
}

impl Reply {
    pub(super) fn of(status: StatusCode, fields: HeaderMap, content: Option<Vec<Piece>>, source: Source) -> Self {
        Self { status, fields, content, source, locator: None, close: false, begun: None, ready: None }
    }

    /// Answers with a text of ours, which may be empty.
    pub(super) fn own(status: StatusCode, fields: HeaderMap, text: impl Into<Bytes>) -> Self {
        Self::of(status, fields, Some(vec![Piece::Bytes(text.into())]), Source::Own)
    }

    /// Returns the bytes of content; none where no length is told, or is known yet.
    pub(crate) fn length(&self) -> Option<u64> {
        let bytes = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => Some(bytes.len() as u64),
            Piece::Blocks(body) => Some(body.length()),
            Piece::Coded(coded) => coded.length(),
        };
        self.content.as_ref()?.iter().map(bytes).sum()
    }

    /// Whether it is all of an object, compressed.
    pub(crate) fn is_coded(&self) -> bool {
        matches!(self.content.as_deref(), Some([Piece::Coded(_)]))
    }

    /// Whether it is all of an object, held here, and short enough to be kept ready.
    pub(crate) fn is_short_hit(&self) -> bool {
        let is_short = |length| length <= CONTENT_BYTES_MAX;
        self.status == StatusCode::OK && self.source == Source::Hit && self.length().is_some_and(is_short)
    }
}

/// The fields that tell viewers of other ways: in all answers to one kind of connection, or in none.
pub(super) const OF_WAYS: [header::HeaderName; 2] = [header::STRICT_TRANSPORT_SECURITY, header::ALT_SVC];

/// Which other ways viewers are told of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ways {
    /// The port of HTTPS, when connections in clear are only sent there.
    pub(crate) redirect: Option<u16>,
    /// The port of HTTP/3.
    pub(crate) http3: Option<u16>,
}

impl Ways {
    /// Returns the head of an answer but for what is another in each.
    pub(crate) fn lasting(self, request: &Request, reply: &Reply) -> Lasting {
        let mut fields = reply.fields.clone();
        self.add_lasting(&mut fields, reply.length(), request);
        Lasting::of(reply.status, fields)
    }

    /// Adds what every answer to requests of this kind has.
    pub(crate) fn add_lasting(self, fields: &mut HeaderMap, length: Option<u64>, request: &Request) {
        if let Some(length) = length {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        //= https://www.rfc-editor.org/rfc/rfc6797#section-7.2
        //# An HSTS Host MUST NOT include the STS header field in HTTP responses conveyed over non-secure transport.
        if request.is_secure && self.redirect == Some(HTTPS_PORT) {
            // On another port a browser would come back to this one over TLS, where clear text is spoken.
            fields.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        //= https://www.rfc-editor.org/rfc/rfc9114#section-3.1.1
        //# An HTTP origin can advertise the availability of an equivalent HTTP/3 endpoint via the Alt-Svc HTTP response header
        //# field
        if let Some(port) = self.http3.filter(|_| request.is_secure && request.version != Version::HTTP_3) {
            headers::set(fields, header::ALT_SVC, format!("h3=\":{port}\"; ma=86400"));
        }
    }
}

/// Returns the field Date at a moment.
//= https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1
//# An origin server with a clock MUST generate a Date header field in all 2xx (Successful), 3xx (Redirection), and 4xx
//# (Client Error) responses
pub(crate) fn date_at(now: SystemTime) -> HeaderValue {
    let text = httpdate::fmt_http_date(now);
    HeaderValue::try_from(text).expect("a date has letters, digits, spaces, a comma and colons")
}

/// Adds what is another in each answer. No entry in a viewer's table of fields (RFC 7541 section 7.1.3) is given up for
/// what never comes again.
pub(crate) fn add_of_request(fields: &mut HeaderMap, date: HeaderValue, id: RequestId) {
    let id = HeaderValue::from_bytes(&id.digits()).expect("digits are text");
    for (name, mut value) in [(header::DATE, date), (X_REQUEST_ID, id)] {
        value.set_sensitive(true);
        fields.insert(name, value);
    }
}
